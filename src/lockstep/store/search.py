"""The runs below a folder: found, put in order, looked through for damage."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lockstep import arguments
from lockstep.errors import LockstepError
from lockstep.language import joined, later
from lockstep.store.folder import ASIDE, TRACES, UNEXPLAINED, natural, read_json
from lockstep.store.manifest import check_files
from lockstep.store.record import Record, Records

RUNS_BELOW = 2  # folders between one that is named and its runs: runs/<study>/<run>


def find_runs(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], depth: int = RUNS_BELOW
) -> Records:  # fmt: skip
    """Every run at or at most `depth` folders below the given ones: study by study, in the order they were begun in.

    So a report made later has the order of the study too. A run that has lost its status.json is found by its
    environment.json. Raises LockstepError: LS-505 where there is no run, LS-200 where there is no such folder.
    """
    paths = arguments.paths(paths, "paths")
    must_be_there(paths)
    found = {
        folder
        for path in paths
        for folder in folders_below(path, depth)
        if is_run(folder) and folder.parent.name not in NO_RUNS
    }
    if not found:
        where = ", ".join(map(str, paths))
        raise LockstepError(
            "LS-505", later("no run folder here"), where=where, hint=later("name a folder below runs/ that holds runs")
        )
    return Records(Record(folder) for folder in sorted(found, key=_order))


def _order(folder: Path) -> tuple[Any, ...]:
    """A sort key: the study's folder, then when the run was begun; of one whose status is lost its path decides."""
    times = ("", "")
    with contextlib.suppress(LockstepError, OSError, ValueError):
        status = read_json(folder / "status.json")
        times = str(status.get("started", "")), str(status.get("finished", ""))
    return natural(folder.parent), *times, natural(folder)


def given(records: Any) -> list[Record]:
    """The runs that somebody gave, several or one; raises LockstepError (LS-204) for what is none."""
    if isinstance(records, Record):
        return [records]
    hint = later("run_study and find_runs give them")
    found = arguments.several(records, "records", later("a list of runs"))
    return [arguments.instance(one, Record, "records", hint) for one in found]


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return any((folder / name).exists() for name in ("status.json", "environment.json"))


NO_RUNS = (TRACES, UNEXPLAINED, ASIDE, "__MACOSX")  # folders that hold none; the last is what macOS adds to a zip


def folders_below(path: Path, depth: int) -> Iterator[Path]:
    """A folder and those at most `depth` below it, none within a run's; links are followed, no folder comes twice."""
    seen: set[tuple[int, int]] = set()
    waiting = [(path, depth)]
    while waiting:
        folder, left = waiting.pop()
        with contextlib.suppress(OSError):
            known = folder.stat()
            if not folder.is_dir() or (known.st_dev, known.st_ino) in seen:
                continue
            seen.add((known.st_dev, known.st_ino))
            yield folder
            if left and not is_run(folder):
                below = sorted(place for place in folder.iterdir() if place.name not in NO_RUNS)
                waiting += [(place, left - 1) for place in reversed(below) if place.is_dir()]


def damages(records: Iterable[Record]) -> list[str]:
    """A sentence for each file of a finished run that is not as it was written, and for each run without a status."""
    found: list[str] = []
    for record in records:
        try:
            files_of = check_files(record.folder) if record.is_finished else {}
        except LockstepError as error:
            found.append(joined((error.problems[0].where, error.problems[0].message), ": "))
            continue
        wrong = {name: what for name, what in files_of.items() if what is not None}
        found += [joined((f"{record.folder}/{name}", what), ": ") for name, what in wrong.items()]
    return found


def must_be_there(folders: Iterable[Path]) -> None:
    """Raise LockstepError (LS-200) where one is not."""
    if missing := [folder for folder in folders if not folder.exists()]:
        hint = later("look for a typing error; lockstep run says where it puts its runs")
        raise LockstepError("LS-200", later("there is no such folder"), where=", ".join(map(str, missing)), hint=hint)
