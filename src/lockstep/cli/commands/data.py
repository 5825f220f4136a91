"""`lockstep data`: datasets that are there, fetched, checked, and one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli.options import AsJson, Offline
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.data import Facts
    from lockstep.errors import LockstepError

DatasetName = Annotated[str, typer.Argument(help="A dataset's name; see: lockstep data list.", metavar="NAME")]


def list_all(as_json: AsJson = False) -> None:
    """List every dataset and whether it is on this machine."""
    from lockstep import data
    from lockstep.screen.datasets import table_of_all

    found = {name: _described(name) for name in data.available()}
    if as_json:
        return print_json({"datasets": [_facts(name, facts) for name, facts in found.items()]})
    return console().print(table_of_all(found))


def _described(name: str) -> Facts | LockstepError:
    """What is known of a dataset; one that is damaged must not hide the others."""
    from lockstep import data
    from lockstep.errors import LockstepError

    try:
        return data.describe(name)
    except LockstepError as error:
        return error


def _facts(name: str, facts: Facts | LockstepError) -> dict[str, Any]:
    if isinstance(facts, Exception):
        return {"name": name, "state": str(facts)}
    return dataclasses.asdict(facts) | {"n_classes": facts.n_classes}


def fetch(name: DatasetName, offline: Offline = False) -> None:
    """Download a dataset to the user's cache, unless it is on this machine."""
    from lockstep import data
    from lockstep.screen.downloads import Download

    with Download(console(stderr=True)) as download:
        folder = data.fetch(name, offline=offline, progress=download.tell)
    tell(f"{name}: {folder}")


def verify(
    names: Annotated[list[str], typer.Argument(help="Datasets (default: all here).", metavar="[NAME…]")] = [],  # noqa: B006
) -> None:  # fmt: skip
    """Check the SHA-256 of every file of a dataset."""
    from lockstep import data
    from lockstep.errors import LockstepError
    from lockstep.screen.datasets import table_of_files

    rows = [row for name in names or data.available() for row in _files(name, is_asked_for=bool(names))]
    console().print(table_of_files(rows))
    if wrong := [row for row in rows if row[2] != "right"]:
        message = later("{wrong} of {all} files are not what they should be", wrong=len(wrong), all=len(rows))
        raise LockstepError("LS-303", message, hint=later("delete the file and fetch it again"))


def _files(name: str, is_asked_for: bool) -> list[tuple[str, ...]]:
    """(dataset, file, state, expected, found) of each file; where it was not asked for, whatever of it is here."""
    from lockstep import data
    from lockstep.errors import LockstepError

    try:
        rows = [(name, Path(row.file).name, *row[1:]) for row in data.verify(name)]
    except LockstepError as error:
        if is_asked_for:
            raise
        return [(name, error.problems[0].where, later("wrong"), "", error.problems[0].message)]
    return [row for row in rows if is_asked_for or row[2] != "missing"]  # what was never fetched is no problem


def import_folder(
    folder: Annotated[Path, typer.Argument(help="Images by class, IDX files, an npz or a CSV.", metavar="FOLDER")],
    name: Annotated[str, typer.Argument(help="What to call it.", metavar="NAME")],
    size: Annotated[
        str | None,
        typer.Option(help="Bring all pictures to this height and width: 28x20, or 28 for both.", metavar="SIZE"),
    ] = None,
    keep_proportions: Annotated[
        bool, typer.Option("--keep-proportions", help="Fit pictures into the size, instead of stretching them.")
    ] = False,
) -> None:
    """Make a dataset of your own from images by class, IDX files, an npz or a CSV of pixels."""
    from lockstep import data
    from lockstep.screen.datasets import tell_of_import

    path = data.import_folder(folder, name, size=size, keep_proportions=keep_proportions)
    tell_of_import(name, data.describe(name), data.load(name, offline=True), path)


def path() -> None:
    """Say in which folders datasets are looked for, in order."""
    from lockstep import data
    from lockstep.screen.datasets import table_of_folders

    console().print(table_of_folders(data.path()))
