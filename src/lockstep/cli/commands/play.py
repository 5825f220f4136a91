"""`lockstep play`: one offline page for each study, on which to draw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.cli.options import AsJson
from lockstep.language import later, n_later
from lockstep.screen.output import print_json, tell

if TYPE_CHECKING:
    from lockstep import store

Given = Annotated[
    list[Path], typer.Argument(help="Run folders, folders that hold them, or a study's file.", metavar="RUNS_OR_STUDY…")
]
Chosen = Annotated[
    list[str],
    typer.Option("--runs", help="Only these, with commas: names of run folders, or a part of them.", metavar="NAMES"),
]


def play(
    given: Given, runs: Chosen = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="The page to write (default: play.html in the study's folder).", metavar="FILE")
    ] = None,
    film: Annotated[bool, typer.Option(help="With the epochs of a run that kept them (run --film).")] = True,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Write one offline page on which to draw: every run answers, layer by layer; needs no framework."""
    from lockstep import play as playing

    found = _studies(given, [name.strip() for names in runs for name in names.split(",") if name.strip()], out)
    told = []
    for folder, records in found.items():
        page = playing.gather(records, film)
        written = playing.write(page, out or folder / playing.NAME)
        for one in page.left:
            tell(later("left out: {name}: {why}", name=one.name, why=one.why), err=True)
        told.append({"page": str(written), "runs": list(page.names), "left_out": [vars(one) for one in page.left]})
        n = n_later("{n} run to play with: {path}", "{n} runs to play with: {path}", len(page.names), path=written)
        tell(n, err=as_json)
    if as_json:
        print_json({"pages": told})


def _studies(given: list[Path], chosen: list[str], out: Path | None) -> dict[Path, list[store.Record]]:
    """The runs that are asked for by the folder of their study."""
    from lockstep import store
    from lockstep.errors import LockstepError

    records = store.find_runs([_folder(path) for path in given])
    if chosen:
        names = [record.folder.name for record in records]
        if unknown := [name for name in chosen if not any(name in one for one in names)]:
            message = later("no run folder here has {name} in its name", name=unknown[0])
            hint = later("there are: {names}", names=", ".join(names[:8]))
            raise LockstepError("LS-209", message, where="--runs", hint=hint)
    found: dict[Path, list[store.Record]] = {}
    for record in records:
        if not chosen or any(name in record.folder.name for name in chosen):
            found.setdefault(record.folder.parent, []).append(record)
    if out is not None and len(found) > 1:
        hint = later("name the runs of one study, or leave --out away")
        raise LockstepError(
            "LS-200", later("--out is one page, and here are runs of {n} studies", n=len(found)), hint=hint
        )
    return found


def _folder(path: Path) -> Path:
    """Where runs are looked for: the folder itself, or that of the study that a file describes, below runs/."""
    if path.suffix != ".toml" or path.is_dir():
        return path
    from lockstep.study import load_study

    return Path("runs") / load_study(path, [], [], []).name
