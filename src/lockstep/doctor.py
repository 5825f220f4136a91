"""What this machine has and lacks, for `lockstep doctor`: a fact and, where it is not fine, what to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from lockstep import backends, data, timing
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
