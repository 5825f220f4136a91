"""Runs that did not come to their end: which there are, how they go on, and what has changed since earlier ones."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from lockstep import store
from lockstep.errors import LockstepError, Problem, without
from lockstep.files import disk, locks
from lockstep.language import joined, later, n_later
from lockstep.machine import cores
from lockstep.machine.contention import Threads
from lockstep.spec import Run, Study
from lockstep.spec.toml import resolved_toml
from lockstep.store.documents.figures import FILE
from lockstep.study import check, identity, runs
from lockstep.training import checkpoints


@dataclasses.dataclass(frozen=True)
class Unfinished:
    """A run that can go on, with the threads that it was begun with."""

    record: store.Record
    study: Study
    run: Run
    threads: Threads


def unfinished(paths: Iterable[Path], threads: int | None = None) -> tuple[list[Unfinished], list[str], list[Problem]]:
    """Every run at or below the folders that is not finished and can go on.

    Beside them a sentence for each that need not, and a problem (LS-505) for each that is too damaged to.
    `threads`: how many to go on with; by default as many as before. Raises LockstepError: LS-505 where no run is,
    LS-205 for threads that this machine does not have.
    """
    found: list[Unfinished] = []
    left: list[str] = []
    problems: list[Problem] = []
    for record in store.find_runs(paths):
        try:
            if record.is_finished:
                locks.clear(record.folder)  # a process that was killed after its last word
                checkpoints.leave_last(record.folder)
                continue
        except LockstepError as error:
            if store.holds_results(record.folder):
                problems.append(_of_finished(record.folder, error))
                continue
            if not checkpoints.find(record.folder):  # else those say how far it came
                problems += error.problems
                continue
        try:
            asked = store.read_asked(record.folder)
        except LockstepError as error:
            problems += error.problems
            continue
        (run,) = asked.runs()
        if store.holds_results(record.folder) and not checkpoints.can_be_gone_on_from(record.folder):
            problems.append(_of_finished(record.folder))
            continue
        if done := _finished_since(record, run):
            left.append(later("{run}: the same run was finished since, in {other}", run=record.folder, other=done.name))
            continue
        of_run = Threads(threads_for(record, threads), is_exact=threads is not None)
        found.append(Unfinished(record, asked, run, of_run))
    return found, left, problems


def _of_finished(folder: Path, error: LockstepError | None = None) -> Problem:
    """Why a folder with the results of a run is left as it is: nothing of it can be gone on from, or it had ended."""
    message = later("a run came to its end here, and no checkpoint can be used")
    if error:
        why = without(error.problems[0].message, store.UNUSABLE)
        message = later("a run came to its end here, and its status.json cannot be used: {why}", why=why)
    hint = later(
        "what it left stays as it is; to do the run again: lockstep run {path} --again", path=folder / "spec.toml"
    )
    return Problem("LS-505", message, str(folder), hint)


def unreported(paths: Iterable[Path]) -> list[Path]:
    """Study folders with a finished run and no report since: a command was ended before it had written it.

    What it left half written goes. Raises LockstepError (LS-505) where no run is.
    """
    found = []
    finished = [record.folder for record in store.find_runs(paths) if _is_finished(record)]
    for folder in sorted({place.parent for place in finished}):
        disk.remove_strays(folder)
        last = max(_written(place / "status.json") for place in finished if place.parent == folder)
        written, figures = _written(folder / "report.html"), folder / "report-figures"
        if figures.exists():  # they are written after their page
            disk.remove_strays(figures)
            written = min(written, _written(figures / FILE))
        if written < last:
            found.append(folder)
    return found


def _written(path: Path) -> float:
    """When a file was last written; before all others where it is not there."""
    try:
        return path.stat().st_mtime
    except OSError:
        return -math.inf


def _is_finished(record: store.Record) -> bool:
    try:
        return record.is_finished
    except LockstepError:
        return False


def _finished_since(record: store.Record, run: Run) -> Path | None:
    """A finished run of the same content beside this one."""
    with contextlib.suppress(LockstepError):
        name = identity.run_id(run, store.read_spec(record.folder))
        for place in sorted(record.folder.parent.glob(f"{name}*"), key=store.natural):
            with contextlib.suppress(LockstepError):
                if store.Record(place).is_finished:
                    return place
    return None


def threads_for(record: store.Record, asked: int | None = None) -> int:
    """How many threads a run goes on with: those asked for, else as many as before, as far as they are here."""
    if asked is not None:
        return cores.checked_threads(asked)
    # A run that failed before it described its environment was asked for some number of threads all the same.
    for said in (lambda: record.environment["threads"]["asked"], lambda: record.status["threads"]):
        with contextlib.suppress(LockstepError, KeyError, TypeError, ValueError, OverflowError):
            return max(min(int(said()), len(cores.usable_cores())), 1)
    return cores.default_threads()


def with_data(
    waiting: Iterable[Unfinished], offline: bool, tell: Callable[[str, int, int], None] = lambda *_: None
) -> tuple[list[Unfinished], list[Problem]]:  # fmt: skip
    """Those whose data are on this machine or can be downloaded, and why the others cannot go on; as `fetch_data`."""
    ready: list[Unfinished] = []
    problems: list[Problem] = []
    for one in waiting:
        try:
            check.fetch_data(one.study, offline, tell)
            ready.append(one)
        except LockstepError as missing:
            problems += missing.problems
    return ready, problems


def resume(
    waiting: Iterable[Unfinished], tell: runs.Tell = lambda run, event: None
) -> tuple[list[store.Record], list[Problem]]:
    """Let runs go on, one at a time: their records, and what another process is at work on (LS-504).

    A run that fails again is a record, not an exception.
    """
    records: list[store.Record] = []
    problems: list[Problem] = []
    for one in waiting:
        place = one.record.folder
        try:
            lock = locks.take(place)
        except LockstepError as error:
            problems += error.problems
            continue
        with lock:
            disk.remove_strays(place.parent)
            now = store.Record(place)
            if _is_finished(now):  # by another process, in between
                records.append(now)
                tell(one.run, {"event": "end", "record": now, "reused": True})
                continue
            records += runs.go_on([runs.Begun(one.run, place, lock)], tell, one.threads)
    return records, problems


# -------------------------------------------------------------------------------------------------- what has changed


def news(wanted: Study, runs_folder: Path, threads: int | None = None) -> list[str]:
    """What is no longer as in the study's earlier runs, so that they are not taken for these: a sentence each.

    A run of the same content is looked at for what its bits depend on (versions, threads, data); one of which there is
    none is compared with the nearest earlier run that the study no longer asks for.
    """
    folder, asked_for = runs_folder / wanted.name, Threads(threads)
    there: dict[Path, str] = {}
    for path in sorted(folder.glob("*/spec.toml")):
        with contextlib.suppress(LockstepError):  # what cannot be read is compared with nothing
            there[path.parent] = store.read_spec(path.parent)
    if not there:
        return []
    asked = {}
    for run in wanted.runs():
        text = resolved_toml(identity.one_run_study(wanted, run))
        asked[identity.run_id(run, text)] = (run, text)
    ids = {place: place.name if place.name in asked else place.name.rpartition("-")[0] for place in there}
    earlier = {place: text for place, text in there.items() if ids[place] not in asked}
    is_new = len(earlier) == len(there)
    counts: Counter[str] = Counter()
    for name, (run, text) in asked.items():
        same = [place for place in there if ids[place] == name]
        counts.update(_since(same, run, asked_for) if same else _nearest(text, run, earlier, is_new))
    return [joined((sentence, " (", n_later("{n} run", "{n} runs", n), ")"), "") for sentence, n in counts.items()]


def _since(places: list[Path], run: Run, threads: Threads) -> list[str]:
    """What has changed since the newest of these runs of the same content, unless one is still as it would be today."""
    found: list[list[str]] = []
    for place in places:
        with contextlib.suppress(LockstepError, KeyError, TypeError, AttributeError):
            found.append(identity.changes_since(store.Record(place), run, threads))
    return [] if not found or [] in found else found[-1]


def _nearest(text: str, run: Run, earlier: dict[Path, str], is_new: bool) -> list[str]:
    """What differs from the earlier run that is most like this one; with any other only where all are new."""
    found = []
    for place, before in earlier.items():
        differing = checkpoints.differences(before, text)
        alike = place.name.startswith(f"{run.network_name}-") and f"-{run.backend}-seed{run.seed}-" in place.name
        if differing and (alike or is_new):
            found.append((not alike, len(differing), differing))
    return min(found)[2] if found else []
