"""What this machine has and lacks, and which runs are whole: a fact and, where it is not fine, what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lockstep import backends, data, store
from lockstep.errors import LockstepError, without
from lockstep.files import locks
from lockstep.language import joined, later, n_later
from lockstep.machine import cores, description
from lockstep.training import checkpoints


def check(runs_folder: Path) -> dict[str, Any]:
    """Everything the doctor knows, as JSON types: backends, machine, datasets, clashes."""
    return {
        "backends": [_backend(name) for name in backends.BACKENDS],
        "machine": {**description.machine(), "threads": cores.default_threads(), **_disk(runs_folder)},
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
    folder = record.folder
    problems: list[str] = []
    usable: list[str] = []
    notes: list[str] = []
    status, n_files = None, 1
    try:
        status = record.status.get("status")
        if status not in ("running", "finished", "failed"):
            problems.append(later('status.json: it says "{status}"', status=status))
    except LockstepError as error:
        problems.append(_sentence(error, folder))
    is_at_work = locks.is_held(folder)
    listed = (folder / "manifest.json").exists()
    if listed or status == "finished":
        files = store.check_files(folder)
        n_files += len(files)
        problems += [joined((name, wrong), ": ") for name, wrong in files.items() if wrong is not None]
        usable += [", ".join(name for name, wrong in files.items() if wrong is None) or later("none of its files")]
    points = 0
    for place in checkpoints.find(folder):
        if status != "finished" and not (place / "manifest.json").exists():
            notes.append(later("{name} is half written: the one before is used", name=place.name))
            continue
        try:
            manifest = store.read_checkpoint_manifest(place)
            for name in manifest["files"]:
                store.read_checkpoint_file(place, Path(name).stem, manifest)
            n_files += len(manifest["files"]) + 1
            if status != "finished":
                point = checkpoints.read(place, store.read_spec(folder))
                epoch = point.progress.epoch
                usable.append(later("{name}: it can go on after epoch {epoch}", name=place.name, epoch=epoch))
            else:
                usable.append(place.name)
            points += 1
        except (LockstepError, OSError, ValueError) as error:
            if not is_at_work:  # a run at work may have removed it, or not yet finished writing it
                problems.append(_sentence(error, folder))
    if status == "finished" and not points:
        problems.append(later("no checkpoint with its weights can be used"))
    if changed := store.other_line_ends(folder):
        notes.append(
            later("git or an editor has changed line ends, and nothing else: {names}", names=", ".join(changed))
        )
    if not is_at_work and (strays := [path.name for path in folder.glob("**/.*.part")]):
        notes.append(
            n_later(
                "{n} file is half written: it goes when the run goes on",
                "{n} files are half written: they go when the run goes on",
                len(strays),
            )
        )
    state = "whole" if status == "finished" else "unfinished"
    state = "being worked on" if is_at_work else "damaged" if problems else state
    return {
        "run": str(folder), "status": status, "state": state, "problems": problems, "usable": usable, "notes": notes,
        "files": n_files,
    }  # fmt: skip


def _sentence(error: Exception, folder: Path) -> str:
    """The error as a sentence that names the file within its run's folder."""
    if not isinstance(error, LockstepError):
        return str(error)
    where = error.problems[0].where.removeprefix(f"{folder}{os.sep}")
    return joined((where, without(error.problems[0].message, store.UNUSABLE)), ": ")


# ------------------------------------------------------------------------------- known clashes, a sentence where found


def _two_tensorflows() -> str | None:
    if {"tensorflow", "tensorflow-cpu"} <= backends.versions("tensorflow").keys():
        return later("tensorflow and tensorflow-cpu are both installed and overwrite each other's files: uninstall one")
    return None


def _jax_without_its_jaxlib() -> str | None:
    found = backends.versions("jax")
    if "jax" in found and found.get("jaxlib", "").split(".")[:2] != found["jax"].split(".")[:2]:
        versions = {"jax": found["jax"], "jaxlib": found.get("jaxlib", "none")}
        return later("jax {jax} stands beside jaxlib {jaxlib}: install both in one version", **versions)
    return None


def _other_keras() -> str | None:
    asked = os.environ.get("KERAS_BACKEND", "tensorflow")
    said = later("KERAS_BACKEND is {name}; workers set it to tensorflow", name=asked)
    return said if asked != "tensorflow" else None


def _devices_from_outside() -> str | None:
    found = [f"{name}={os.environ[name]}" for name in DEVICES if os.environ.get(name)]
    said = later("{names} in the environment: workers pass it by, a study says its device", names=", ".join(found))
    return said if found else None


DEVICES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")  # by which JAX would be told where to compute


def _threads_from_outside() -> str | None:
    found = [f"{name}={os.environ[name]}" for name in cores.THREAD_VARIABLES if name in os.environ]
    said = later("{names} in the environment; workers set these themselves (--threads)", names=", ".join(found))
    return said if found else None


def _one_core() -> str | None:
    return (
        later("this process may use one processor only: times will not compare with those of two")
        if len(cores.usable_cores()) == 1
        else None
    )


CLASHES = (
    _two_tensorflows,
    _jax_without_its_jaxlib,
    _other_keras,
    _devices_from_outside,
    _threads_from_outside,
    _one_core,
)
