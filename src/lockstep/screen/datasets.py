"""What a person sees of datasets: which there are, which of their files are right, what an import did on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from lockstep import data, language
from lockstep.data import contents, folders, sizes
from lockstep.errors import LockstepError
from lockstep.language import later, say
from lockstep.screen.output import tell
from lockstep.screen.tables import plain_table

HINTS: dict[str, str] = {  # what an import did that somebody may not have wanted → what to do about it
    folders.ELSEWHERE: later("move them into the folder of their class"),
    contents.BLANK: later("look at one in a viewer"),
    sizes.LOST: later("choose a larger size where details matter: --size 64x64"),
}


def table_of_all(found: Mapping[str, data.Facts | LockstepError]) -> Table:
    """Every dataset, damaged ones with what is wrong."""
    columns = (later("dataset"), later("image"), later("classes"), later("training"), later("test"), later("state"))
    return plain_table(later("Datasets"), columns, [_cells(name, facts) for name, facts in found.items()])


def _cells(name: str, facts: data.Facts | LockstepError) -> tuple[object, ...]:
    if isinstance(facts, LockstepError):
        return (name, *["–"] * 4, facts.problems[0].message)
    shape = " × ".join(map(str, facts.image_shape))
    return name, shape, facts.n_classes, facts.n_train, facts.n_test, facts.state


def table_of_files(rows: Iterable[Sequence[object]]) -> Table:
    """What was found of files: (dataset, file, state, expected, found)."""
    return plain_table(
        later("Files"), (later("dataset"), later("file"), later("state"), later("expected"), later("found")), rows
    )


def table_of_folders(places: Iterable[data.Place]) -> Table:
    """Where datasets are looked for."""
    rows = [(place.folder, place.purpose, later("yes") if place.exists else later("no")) for place in places]
    return plain_table(
        later("Folders, in the order of looking"), (later("folder"), later("purpose"), later("exists")), rows
    )


def tell_of_import(name: str, facts: data.Facts, loaded: data.Data, path: object) -> None:
    """What became of a folder that was imported, and what was resized, recoloured or split on the way."""
    counts: dict[str, object] = {"n_train": facts.n_train, "n_test": facts.n_test, "n_classes": facts.n_classes}
    counts |= {"name": name, "path": path}
    tell(later("{name}: {n_train} training and {n_test} test images in {n_classes} classes, {path}", **counts))
    for note in loaded.notes:
        _tell_note(note)
    if n := loaded.n_test_in_training():
        leak = {"n": n, "all": len(loaded.test_images)}
        tell(later("warning: {n:,} of {all:,} test images are also training images, pixel by pixel", **leak), err=True)


def _tell_note(note: str) -> None:
    if hint := HINTS.get(note.forms[0] if isinstance(note, language.Text) else ""):
        tell(later("warning: {note}; {hint}", note=note, hint=hint), err=True)
    else:
        tell(f"  {say(note)}")
