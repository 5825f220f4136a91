"""What several test files share: backends in processes of their own, datasets that may not be missing in CI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from lockstep import backends, timing

TESTS = Path(__file__).parent
IN_CI = os.environ.get("CI", "").lower() == "true"
# In CI the examples are the same every time: a change is not to be failed by a find that has nothing to do with it.
settings.register_profile("ci", derandomize=True)
if IN_CI:
    settings.load_profile("ci")


def need(present: bool, what: str) -> None:
    """Skip where something is missing; in CI that is a failure."""
    if not present:
        if IN_CI:
            pytest.fail(f"{what} is missing, and in CI nothing may be missing")
        pytest.skip(f"{what} is missing")


def need_backend(name: str) -> None:
    need(backends.why_missing(name) is None, f"the framework of backend {name}")


@pytest.fixture(scope="session")
def mnist() -> None:
    """Real MNIST is on this machine."""
    from lockstep import data

    need(data.describe("mnist").state != "not on this machine", "MNIST (LOCKSTEP_DATA)")


@pytest.fixture(scope="session")
def conformance(tmp_path_factory):
    """backend → case → what it computed, {"stage|name": array}, or its traceback.

    Each backend is one process; all are started at the first question, because compiling takes one core for minutes.
    """
    folder = tmp_path_factory.mktemp("conformance")
    workers: dict[str, subprocess.Popen[bytes]] = {}
    results: dict[str, dict[str, dict[str, np.ndarray] | str]] = {}

    def of(backend: str) -> dict[str, dict[str, np.ndarray] | str]:
        need_backend(backend)
        if not workers:
            workers.update({name: _start(name, folder / name) for name in backends.BACKENDS})
        if backend not in results:
            assert workers[backend].wait(timeout=900) == 0, (folder / backend / "log").read_text()[-4000:]
            results[backend] = _read(folder / backend)
        return results[backend]

    yield of
    for worker in workers.values():
        worker.kill()
        worker.wait()


def _start(backend: str, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    environment = {**os.environ, **timing.thread_environment(backend, 2), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(folder / "log", "wb") as log:
        command = [sys.executable, "-m", "conformance", backend, str(folder)]
        return subprocess.Popen(command, cwd=TESTS, env=environment, stdout=log, stderr=log)


def _read(folder: Path) -> dict[str, dict[str, np.ndarray] | str]:
    found: dict[str, dict[str, np.ndarray] | str] = dict(json.loads((folder / "errors.json").read_text()))
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            found[path.stem] = {name: arrays[name] for name in arrays.files}
    return found
