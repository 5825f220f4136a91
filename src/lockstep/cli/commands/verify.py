"""`lockstep verify`: does what was handed in fit?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import print_json


def verify(
    folders: Annotated[
        list[Path],
        typer.Argument(help="Submissions: folders, or zips of them, that hold runs and a report.", metavar="FOLDER…"),
    ],
    images: Annotated[
        int | None,
        typer.Option(min=1, help="Test images that go through each network again (default: all).", metavar="N"),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Train the first epoch of every run again: minutes.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="One CSV table on stdout.")] = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Compute what was handed in again: first losses, metrics, predictions, the report; a line per submission."""
    from lockstep.check import submissions

    _check(folders, as_csv, as_json)
    found = submissions.verify_all(folders, images, deep)
    rows = list(found if as_csv or as_json else _told(found))
    if as_json:
        print_json({"submissions": rows})
    elif as_csv:
        typer.echo(submissions.as_csv(rows), nl=False)
    elif any(row["finished"] for row in rows):
        typer.echo(submissions.closing(rows), err=True)
    raise typer.Exit(submissions.exit_code(rows))


def _check(folders: Sequence[Path], as_csv: bool, as_json: bool) -> None:
    """Refuse what cannot be answered."""
    from lockstep import store
    from lockstep.errors import LockstepError

    if not any(folder.exists() for folder in folders):  # one of many that is missing has a line of its own
        store.must_be_there(folders)
    if as_csv and as_json:
        raise LockstepError("LS-200", later("--csv and --json are two answers"), hint=later("ask for one of them"))


def _told(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, each printed as soon as it is there."""
    from lockstep.check import submissions

    for row in rows:
        typer.echo(submissions.as_line(row))
        yield row
