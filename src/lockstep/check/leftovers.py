"""Runs that are of no more use, for `lockstep clean`: they are moved aside, and nothing is deleted.

    unfinished   ended on its way or failed, and nobody works on it
    superseded   whole, but another run of the same content is whole too and newer
    damaged      a file is not as it was written

A run goes to `aside/` in its study's folder, where neither a report nor a proof nor `resume` looks for runs. Moved
back, it is as it was. A finished run that is whole and the newest of its content never moves.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lockstep import arguments, store
from lockstep.check import doctor
from lockstep.errors import LockstepError
from lockstep.files import disk, locks
from lockstep.language import joined, later

RUNS = "runs"


def clean_runs(
    folders: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = RUNS, is_dry: bool = False
) -> dict[str, Any]:
    """Move unfinished, superseded and damaged runs at or below the folders aside; with `is_dry` only say which.

    Returns the document of `lockstep clean --json`: {"runs": rows, "kept": how many stay, "bytes": of those that go,
    "is_dry"}. A row: "run", "why" (see above), "about" (a sentence), "bytes", "to" (None where it stays, because a
    process took it up in between). Raises LockstepError: LS-505 where there is no run, LS-501 where one cannot move.
    """
    found = doctor.check_runs(arguments.paths(folders, "folders"))["runs"]
    newest = _newest(found)
    rows = [row for one in found if (row := _row(one, newest))]
    for row in rows if not is_dry else ():
        row["to"] = _moved(Path(row["run"]))
    total = sum(row["bytes"] for row in rows)
    return {"runs": rows, "kept": len(found) - len(rows), "bytes": total, "is_dry": is_dry}


def _newest(found: Iterable[Mapping[str, Any]]) -> dict[tuple[Path, str], Path]:
    """Study's folder and content → the newest run of it that is whole."""
    places = sorted((Path(row["run"]) for row in found if row["state"] == "whole"), key=store.natural)
    return {_content(place): place for place in places}


def _content(run: Path) -> tuple[Path, str]:
    """The run's content, by which its folder is named, without the number; a renamed folder is a content of its own."""
    named = re.fullmatch(r"(.+-[0-9a-f]{8})-[0-9]+", run.name)
    return run.parent, named[1] if named else run.name


def _row(found: Mapping[str, Any], newest: Mapping[tuple[Path, str], Path]) -> dict[str, Any] | None:
    """The row of a run that is of no more use; None for a run that stays."""
    run, state = Path(found["run"]), found["state"]
    if state == "unfinished":
        usable = joined(found["usable"], "; ")
        why, about = state, usable or later("it has no epoch to go on from")
    elif state == "damaged":
        why, about = state, joined(found["problems"][:1], "")
    elif state == "whole" and (other := newest[_content(run)]) != run:
        why, about = "superseded", later("{name} is newer and whole", name=other.name)
    else:
        return None
    size = sum(path.lstat().st_size for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    return {"run": str(run), "why": why, "about": about, "bytes": size, "to": None}


def _moved(run: Path) -> str | None:
    """Move a run aside; returns its new place, or None where a process works on it now."""
    try:
        lock = locks.take(run)
    except LockstepError as error:
        if error.code == "LS-504":
            return None
        raise
    with lock:
        aside = run.parent / store.ASIDE
        store.make_folder(aside)
        place = _free(aside, run.name)
        with disk.writing(run, later("move it by hand, or let it be")):
            run.rename(place)
            disk.sync_folder(aside)
            disk.sync_folder(run.parent)
        (place / locks.NAME).unlink(missing_ok=True)
    return str(place)


def _free(folder: Path, name: str) -> Path:
    """A free place of this name in a folder, with a number where the name is taken."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(folder / one for one in names if not (folder / one).exists())
