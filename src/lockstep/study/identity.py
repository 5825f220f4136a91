"""Which run is which: its name, whether it was done before, whether it can go on, and what has changed since."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from platform import python_version
from typing import Any

from lockstep import backends, data, store
from lockstep.errors import LockstepError
from lockstep.files import locks
from lockstep.language import later
from lockstep.machine import contention, description, sources
from lockstep.spec import Run, Study
from lockstep.spec.records import changed
from lockstep.training import checkpoints
from lockstep.version import version


def one_run_study(study: Study, run: Run) -> Study:
    """The study that consists of this run alone: what spec.toml holds."""
    return changed(
        study, networks={run.network_name: run.network}, dataset=(run.dataset,), backends=(run.backend,),
        seeds=(run.seed,), dtype=(run.dtype,), recipe=run.recipe, grid={}, recipe_for={}, format=run.format,
    )  # fmt: skip


def run_id(run: Run, text: str) -> str:
    """A name to read and a hash of everything that the run is."""
    dataset = re.sub(r"[^A-Za-z0-9]+", "-", Path(run.dataset).stem)[:24].strip("-")
    parts = [run.network_name, dataset, run.backend, f"seed{run.seed}"] + [run.dtype] * (run.dtype != "float32")
    return "-".join([*parts, store.spec_hash(text)])


def finished(folder: Path, name: str, run: Run, threads: contention.Threads) -> store.Record | None:
    """The newest run of this content that is whole and would come out the same today, if there is one."""
    for place in sorted(folder.glob(f"{name}*"), key=store.natural, reverse=True):
        record = store.Record(place)
        with contextlib.suppress(LockstepError, KeyError, TypeError, AttributeError):  # damaged: it is done anew
            if not record.is_finished or not record.spec or not record.metrics["test"] or not record.timing["seconds"]:
                continue
            if run_id(run, store.read_spec(place)) != name:
                continue
            store.check_manifest(place)
            if not changes_since(record, run, threads):
                return record
    return None


def unfinished(folder: Path, name: str, run: Run, threads: contention.Threads) -> Path | None:
    """The newest run of this content that was ended on its way and can go on as if nothing had happened.

    One that failed by itself before its first epoch was saved cannot: what it left tells why. Raises LockstepError
    (LS-504) where another process works on such a run.
    """
    for place in sorted(folder.glob(f"{name}*"), key=store.natural, reverse=True):
        if locks.is_held(place):
            locks.take(place).__exit__()  # raises, or it was given back just now
        if _is_blank(place, name):
            return place
        with contextlib.suppress(LockstepError, OSError, KeyError, TypeError, AttributeError):
            record = store.Record(place)
            if run_id(run, store.read_spec(place)) != name:
                continue
            if store.holds_results(place) and not checkpoints.can_be_gone_on_from(place):
                continue  # it would begin anew over them
            has_begun = (place / "environment.json").exists()
            if was_interrupted(record) and not (has_begun and changes_since(record, run, threads)):
                return place
    return None


BLANK = {"spec.toml", locks.NAME}


def _is_blank(place: Path, name: str) -> bool:
    """Whether a run of this name got a folder and was ended before it could say that it begins."""
    if not re.fullmatch(rf"{re.escape(name)}(-\d+)?", place.name) or not place.is_dir():
        return False
    half_written = (".spec.toml.", ".status.json.")
    return all(path.name in BLANK or path.name.startswith(half_written) for path in place.iterdir())


WANT = ("LS-501", "LS-502", "LS-503")  # of a folder, of room, of memory: the run itself is not to blame


def was_interrupted(record: store.Record) -> bool:
    """Whether a run was ended from outside, want of room included, or came to grief with some of it saved."""
    has_begun = bool(checkpoints.find(record.folder))
    try:
        status, code = record.status.get("status"), str(record.status.get("code"))
    except LockstepError:  # a status that cannot be read says nothing; checkpoints do, but for a run that had ended
        return has_begun and not store.holds_results(record.folder)
    outside = record.status.get("reason") == store.INTERRUPTED or code in WANT
    return status == "running" or (status == "failed" and (outside or has_begun))


def changes_since(record: store.Record, run: Run, threads: contention.Threads) -> list[str]:
    """What has changed since a run was begun, so that it might come out with other bits today: "python: 3.11 → 3.12".

    Raises LockstepError (LS-3…, LS-505) and KeyError where the data or the record cannot be read.
    """
    before = record.environment
    now: dict[str, Any] = {"lockstep": version(), "versions": backends.versions(run.backend)}
    machine = description.machine()
    now |= {"cpu": machine["cpu"], "arithmetic": machine["arithmetic"]}
    now |= {"git_revision": sources.git_revision(), "python": python_version()}
    found = [f"{key}: {before[key]} → {value}" for key, value in now.items() if before[key] != value]
    # How many were free is chance; who asks for a number gets it.
    which = "obtained" if threads.is_exact and before["threads"]["asked"] == threads.asked else "asked"
    if before["threads"][which] != threads.asked:
        found.append(later("threads: {before} → {now}", before=before["threads"][which], now=threads.asked))
    if before["dataset"]["hashes"] != data.load(run.dataset, offline=True).hashes:
        found.append(later("the data of {dataset}", dataset=run.dataset))
    found += [
        later("went on with {change}", change=change)
        for part in before.get("resumed", ())
        for change in part["changed"]
    ]
    return found
