"""A study, done: every run of it that was not done before, in a place, one job after the other.

A run that fails is recorded as failed with its reason, and the others go on. A finished run of the same content is not
repeated on the same data, versions, processor and threads, and no run folder is ever written over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.files import disk, locks
from lockstep.machine import contention
from lockstep.spec import Run, Study
from lockstep.spec.toml import resolved_toml
from lockstep.study import check, crews, identity, places
from lockstep.study.places import local
from lockstep.training import checkpoints

Tell = Callable[[Run, dict[str, Any]], None]  # a run's progress: {"event": "start" | "phase" | "epoch" | "end" …}


def run_study(
    study: Study,
    runs_folder: Path,
    tell: Tell = lambda run, event: None,
    threads: int | None = None,
    again: bool = False,
    is_together: bool = False,
    place: places.Place | None = None,
    is_filmed: bool = False,
) -> store.Records:
    """Do every run of the study, one at a time; the records in the study's order, failed ones among them.

    `tell` hears of the progress; `threads` is for every backend alike, by default those of two that are free when the
    first run begins; `again` repeats finished runs; `is_together` trains those together, in one process, that gain from
    it (see `crews.crews`); `place` is where they are done, this machine unless it says otherwise; `is_filmed` keeps
    what is learned after each epoch, in half precision (see `store.film`).
    Raises LockstepError for a study that cannot be and for a folder that cannot be written; a run that fails is a
    record, not an exception.
    """
    study, wanted = check.checked(study), contention.Threads(threads)
    folder, runs = runs_folder / study.name, study.runs()
    records: dict[int, store.Record] = {}
    for crew in crews.crews(runs, wanted.asked) if is_together else [[index] for index in range(len(runs))]:
        found = _do([runs[index] for index in crew], study, folder, tell, wanted, again, place, is_filmed)
        records |= dict(zip(crew, found, strict=True))
    return store.Records(records[index] for index in range(len(runs)))


def _do(
    crew: Sequence[Run], study: Study, folder: Path, tell: Tell, threads: contention.Threads, again: bool,
    place: places.Place | None, is_filmed: bool,
) -> list[store.Record]:  # fmt: skip
    """The records of a run, or of some that are trained together."""
    records: dict[int, store.Record] = {}
    store.make_study_folder(folder)
    disk.remove_strays(folder)
    with contextlib.ExitStack() as locked:
        begun: dict[int, Begun] = {}
        for index, run in enumerate(crew):
            found = begin(run, study, folder, threads, again, is_filmed)
            if isinstance(found, store.Record):
                records[index] = found
                tell(run, {"event": "end", "record": found, "reused": True})
            else:
                begun[index] = found
                locked.enter_context(found.lock)
        if begun:
            records |= dict(zip(begun, go_on(list(begun.values()), tell, threads, place), strict=True))
    return [records[index] for index in range(len(crew))]


def not_done(study: Study, runs_folder: Path) -> list[Run]:
    """The runs of a study that no folder says to have finished, by its name and status alone."""
    folder = runs_folder / study.name
    waiting = []
    for run in study.runs():
        name = identity.run_id(run, resolved_toml(identity.one_run_study(study, run)))
        records = map(store.Record, folder.glob(f"{name}*"))
        if not any(_is_over(record) for record in records):
            waiting.append(run)
    return waiting


def _is_over(record: store.Record) -> bool:
    with contextlib.suppress(LockstepError):
        return record.is_finished
    return False


class Begun(NamedTuple):
    """A run, its folder and the folder's lock, which is held."""

    run: Run
    folder: Path
    lock: locks.Lock


def begin(
    run: Run, study: Study, folder: Path, threads: contention.Threads, again: bool, is_filmed: bool = False
) -> store.Record | Begun:
    """A finished run of the same content, or a folder below the study's in which this one is begun or goes on."""
    text = resolved_toml(identity.one_run_study(study, run))
    name = identity.run_id(run, text)
    with locks.briefly(folder):
        if not again and (done := identity.finished(folder, name, run, threads)):
            locks.clear(done.folder)  # a process that was killed after its last word
            checkpoints.leave_last(done.folder)
            return done
        own = None if again else identity.unfinished(folder, name, run, threads)
        own = own or store.claim(folder, name)
        begun = Begun(run, own, locks.take(own))
    with contextlib.suppress(LockstepError):
        if (done := store.Record(own)).is_finished:  # by another process, in between
            begun.lock.__exit__()
            return done
    try:
        if not (own / "spec.toml").exists():
            store.write_bytes(own / "spec.toml", text.encode())
        if is_filmed:
            store.begin_film(own)
    except BaseException:
        begun.lock.__exit__()
        raise
    return begun


def go_on(
    begun: Sequence[Begun], tell: Tell, threads: contention.Threads, place: places.Place | None = None
) -> list[store.Record]:
    """Do a run, or some together, from where they were left; a failure is a record too."""
    threads = threads.again(_threads_before(begun[0].folder))
    runs, folders, held = zip(*begun, strict=True)
    run_of = dict(zip(map(places.run_id, folders), runs, strict=True))
    for run, folder in zip(runs, folders, strict=True):
        store.write_status(folder, "running", threads=threads.asked)
        tell(run, {"event": "start", "folder": str(folder), "asked": threads.asked, "threads": threads.taken})
    task = places.TRAINING if len(runs) == 1 else places.TOGETHER
    job = places.Job(runs, folders, threads.taken, task, held)
    records = (place or local.HERE).do(job, lambda event: tell(run_of[event["run"]], event))
    for run, record in zip(runs, records, strict=True):
        tell(run, {"event": "end", "record": record, "reused": False})
    return records


def _threads_before(folder: Path) -> dict[str, Any] | None:
    """The threads of a run that has begun in a folder."""
    with contextlib.suppress(LockstepError, KeyError, TypeError):
        return dict(store.Record(folder).environment["threads"])
    return None
