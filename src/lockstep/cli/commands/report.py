"""`lockstep report`: the report of run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.options import AsJson, RunFolders
from lockstep.language import later
from lockstep.screen.output import print_json, tell


def report(
    folders: RunFolders,
    out: Annotated[
        Path | None, typer.Option(help="The page to write (default: report.html in the first folder).", metavar="FILE")
    ] = None,
    image: Annotated[
        int, typer.Option(min=0, max=15, help="The test image, from 0, whose feature maps are drawn.", metavar="N")
    ] = 0,
    reach: Annotated[
        list[float],
        typer.Option(
            "--reach", help="Time to a test accuracy of so many per cent (again for more).", metavar="PERCENT"
        ),
    ] = [],  # noqa: B006
    figures: Annotated[bool, typer.Option(help="Write every figure as SVG and PNG beside the page too.")] = True,
    as_json: AsJson = False,
) -> None:
    """Write the report of run folders again, and what was compared in numbers; needs no framework."""
    from lockstep import store
    from lockstep.report import gather, levels_of, write

    records = store.find_runs(folders)
    page = gather(records, image, levels_of(reach))
    written = write(page, out or folders[0] / "report.html", with_figures=figures)
    for sentence in store.damages(records):
        tell(later("warning: {what}", what=sentence), err=True)
    if as_json:
        print_json(page["document"])
    else:
        tell(" ".join(page["brief"]))
    tell(later("report: {path}", path=written), err=as_json)
