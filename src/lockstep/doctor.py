"""What this machine has and lacks, and which runs are whole: a fact and, where it is not fine, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lockstep import backends, checkpoints, data, locks, store, timing
from lockstep.errors import LockstepError


def check(runs_folder: Path) -> dict[str, Any]:
    """Everything the doctor knows, as JSON types: backends, machine, datasets, clashes."""
    return {
        "backends": [_backend(name) for name in backends.BACKENDS],
        "machine": {**timing.machine(), "threads": timing.default_threads(), **_disk(runs_folder)},
        "datasets": [_dataset(name) for name in data.available()],
        "clashes": [clash for rule in CLASHES if (clash := rule())],
    }


def _backend(name: str) -> dict[str, Any]:
    missing = backends.why_missing(name)
    remedy = f"pip install 'lockstep-nn[{backends.BACKENDS[name][3]}]'" if missing else None
    return {"name": name, "versions": backends.versions(name), "missing": missing, "remedy": remedy}


def _disk(folder: Path) -> dict[str, Any]:
    place = folder.absolute()
    while not os.path.exists(place):
        place = place.parent
    writable = os.path.isdir(place) and os.access(place, os.W_OK)
    return {
        "runs_folder": str(folder),
        "runs_folder_is_writable": writable,
        "disk_free_bytes": shutil.disk_usage(place).free,
    }


def _dataset(name: str) -> dict[str, Any]:
    try:
        facts = data.describe(name)
    except LockstepError as error:
        return {"name": name, "state": str(error), "n_train": None, "n_test": None}
    return {"name": name, "state": facts.state, "n_train": facts.n_train, "n_test": facts.n_test}


# -------------------------------------------------------------------------------------------------- are the runs whole?


def check_runs(paths: Iterable[Path]) -> dict[str, Any]:
    """Every hash of every run at or below the folders: {"runs": rows, "files": how many were checked}.

    A row: "run" (its folder), "status", "state" ("whole", "unfinished", "being worked on" or "damaged"), "problems",
    "usable" and "notes", a sentence each. Changes nothing. Raises LockstepError (LS-505) where there is no run.
    """
    rows = [_run(record) for record in store.find_runs(paths)]
    return {"runs": rows, "files": sum(row.pop("files") for row in rows)}


def _run(record: store.Record) -> dict[str, Any]:
    folder, problems, usable, notes = record.folder, [], [], []
    status, n_files = None, 1
    try:
        status = record.status.get("status")
        if status not in ("running", "finished", "failed"):
            problems.append(f'status.json: it says "{status}"')
    except LockstepError as error:
        problems.append(_sentence(error, folder))
    is_at_work = locks.is_held(folder)
    listed = (folder / "manifest.json").exists()
    if listed or status == "finished":
        files = store.check_files(folder)
        n_files += len(files)
        problems += [f"{name}: {wrong}" for name, wrong in files.items() if wrong is not None]
        usable += [", ".join(name for name, wrong in files.items() if wrong is None) or "none of its files"]
    points = 0
    for place in checkpoints.find(folder):
        if status != "finished" and not (place / "manifest.json").exists():
            notes.append(f"{place.name} is half written: the one before is used")
            continue
        try:
            manifest = store.read_checkpoint_manifest(place)
            for name in manifest["files"]:
                store.read_checkpoint_file(place, Path(name).stem, manifest)
            n_files += len(manifest["files"]) + 1
            if status != "finished":
                point = checkpoints.read(place, store.read_spec(folder))
                usable.append(f"{place.name}: it can go on after epoch {point.progress.epoch}")
            else:
                usable.append(place.name)
            points += 1
        except (LockstepError, OSError, ValueError) as error:
            if not is_at_work:  # else it may be gone, or on its way
                problems.append(_sentence(error, folder))
    if status == "finished" and not points:
        problems.append("no checkpoint with its weights can be used")
    if not is_at_work and (strays := [path.name for path in folder.glob("**/.*.part")]):
        many = len(strays) > 1
        what = f"{len(strays)} files are half written: they go" if many else "1 file is half written: it goes"
        notes.append(f"{what} when the run goes on")
    state = "whole" if status == "finished" else "unfinished"
    state = "being worked on" if is_at_work else "damaged" if problems else state
    return {
        "run": str(folder), "status": status, "state": state, "problems": problems, "usable": usable, "notes": notes,
        "files": n_files,
    }  # fmt: skip


def _sentence(error: Exception, folder: Path) -> str:
    """What is wrong, with the file as it is called in its run's folder."""
    if not isinstance(error, LockstepError):
        return str(error)
    where = error.problems[0].where.removeprefix(f"{folder}{os.sep}")
    return f"{where}: {error.problems[0].message.removeprefix('cannot be used: ')}"


# ------------------------------------------------------------------------------- known clashes, a sentence where found


def _two_tensorflows() -> str | None:
    if {"tensorflow", "tensorflow-cpu"} <= backends.versions("tensorflow").keys():
        return "tensorflow and tensorflow-cpu are both installed and overwrite each other's files: uninstall one"
    return None


def _jax_without_its_jaxlib() -> str | None:
    found = backends.versions("jax")
    if "jax" in found and found.get("jaxlib", "").split(".")[:2] != found["jax"].split(".")[:2]:
        return f"jax {found['jax']} stands beside jaxlib {found.get('jaxlib', 'none')}: install both in one version"
    return None


def _other_keras() -> str | None:
    asked = os.environ.get("KERAS_BACKEND", "tensorflow")
    return f"KERAS_BACKEND is {asked}; workers set it to tensorflow" if asked != "tensorflow" else None


def _threads_from_outside() -> str | None:
    found = [f"{name}={os.environ[name]}" for name in timing.THREAD_VARIABLES if name in os.environ]
    return f"{', '.join(found)} in the environment; workers set these themselves (--threads)" if found else None


def _one_core() -> str | None:
    return (
        "this process may use one processor only: times will not compare with those of two"
        if len(timing.usable_cores()) == 1
        else None
    )


CLASHES = (_two_tensorflows, _jax_without_its_jaxlib, _other_keras, _threads_from_outside, _one_core)
