"""Fixtures of several test files: backends in processes of their own, datasets that may not be missing in CI."""

from __future__ import annotations

import atexit
import inspect
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from threadpoolctl import threadpool_limits

from lockstep import backends
from lockstep.machine import cores, processes
from lockstep.proof.traces import Trace

pytest.register_assert_rewrite("support")  # so that an assertion of a helper's shows its values too
from support import LONGEST, ROOT, TESTS, documents, reliability  # noqa: E402
from support.needs import IN_CI, need, need_backend  # noqa: E402

if os.environ.get("LOCKSTEP_DATA"):  # some tests work in a folder of their own
    os.environ["LOCKSTEP_DATA"] = os.path.abspath(os.environ["LOCKSTEP_DATA"])
# Tests run side by side, and a thread of PyTorch's that waits by spinning takes the core that another test needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
threadpool_limits(1)  # … and so does one of OpenBLAS; what the tests multiply is small, and one thread has it sooner.
# Tests that are about something else train without the proof that comes with it; those about it ask for it.
os.environ.setdefault("LOCKSTEP_PROOF", "0")
# Most of what JAX does in tests is to compile, often the same program: it is kept for the processes that follow.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers of pytest-xdist find what their parent has set
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="lockstep-tests-")
    os.environ |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
# In CI the examples are the same every time: a change is not to be failed by a find that has nothing to do with it.
settings.register_profile("ci", derandomize=True)
if IN_CI:
    settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # once for all workers of pytest-xdist
        runpy.run_path(str(ROOT / "setup.py"))["compile_catalogs"]()


@pytest.fixture(scope="session", autouse=True)
def _documents_fit_their_schemas() -> Iterator[None]:
    """Whatever document the product writes in this process is held against its schema before; tests may damage one."""
    from lockstep import store

    write = store.write_json

    def checked(path: Path, value: Any) -> None:
        if inspect.currentframe().f_back.f_globals["__name__"].partition(".")[0] == "lockstep":
            documents.assert_valid(path, value)
        write(path, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "write_json", checked)
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="run the batteries at full length, not a small sample")
    parser.addoption("--at-most", type=int, help="with --torture: no more than so many cases of each battery")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    names = [f"test_{name}" for name in LONGEST]
    items.sort(key=lambda item: names.index(item.path.stem) if item.path.stem in names else len(names))


@pytest.fixture(scope="session")
def torture(request: pytest.FixtureRequest) -> bool:
    """Whether the batteries of `tests/torture` run at full length (make torture), or as a small sample."""
    return bool(request.config.getoption("--torture"))


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest, torture: bool) -> Callable[[int, int], int]:
    """`cases(sample, whole)`: how many cases of a battery to take."""
    most = request.config.getoption("--at-most")
    return lambda sample, whole: min(whole, most or whole) if torture else sample


@pytest.fixture(scope="session")
def tally(request: pytest.FixtureRequest, torture: bool) -> Callable[[str, int, int], None]:
    """`tally(battery, cases, misses)`: write what a battery at full length came to into docs/reliability.md."""
    is_whole = torture and not request.config.getoption("--at-most")
    return reliability.note if is_whole else lambda battery, n, misses: None


@pytest.fixture(scope="session")
def mnist() -> None:
    """Real MNIST is on this machine."""
    from lockstep import data

    need(data.describe("mnist").state != "not on this machine", "MNIST (LOCKSTEP_DATA)")


@pytest.fixture(scope="session")
def conformance(tmp_path_factory):
    """backend → case → what it computed, {"stage|name": array}, or its traceback."""
    yield from _answers("backend_cases", tmp_path_factory, _read_arrays)


@pytest.fixture(scope="session")
def planted_traces(tmp_path_factory):
    """backend → name → the trace that `support.plants` left, or its traceback."""
    yield from _answers("plants", tmp_path_factory, _read_traces)


def _answers(module: str, tmp_path_factory, read: Callable[[Path], dict[str, Any]]) -> Iterator[Callable[[str], Any]]:
    """Ask every backend in a process of its own, `python -m support.<module> BACKEND FOLDER`, and give one's answer.

    All are started at the first question, because compiling takes one core for minutes.
    """
    folder = tmp_path_factory.mktemp(module)
    workers: dict[str, subprocess.Popen[bytes]] = {}
    results: dict[str, dict[str, Any]] = {}

    def of(backend: str) -> dict[str, Any]:
        need_backend(backend)
        if not workers:
            workers.update({name: _start(module, name, folder / name) for name in backends.BACKENDS})
        if backend not in results:
            assert workers[backend].wait(timeout=1800) == 0, (folder / backend / "log").read_text()[-4000:]
            results[backend] = read(folder / backend)
        return results[backend]

    yield of
    for worker in workers.values():
        worker.kill()
        worker.wait()


# Many of JAX's programs of one module are the same program: the second time it is read back instead of compiled.
JAX_CACHE = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


# What is planted is for the judge, who does not mind how fast JAX computes it; LLVM's optimising is half of the work.
PLANTED = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


def _start(module: str, backend: str, folder: Path) -> subprocess.Popen[bytes]:
    folder.mkdir()
    environment = {**os.environ, **cores.thread_environment(backend, 2), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= JAX_CACHE | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    environment |= PLANTED if module == "plants" else {}
    with open(folder / "log", "wb") as log:
        command = [sys.executable, "-m", f"support.{module}", backend, str(folder)]
        return subprocess.Popen(command, cwd=TESTS, env=environment, stdout=log, stderr=log)


def _read_arrays(folder: Path) -> dict[str, Any]:
    found = _errors(folder)
    for path in folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            found[path.stem] = {name: arrays[name] for name in arrays.files}
    return found


def _read_traces(folder: Path) -> dict[str, Any]:
    return {path.parent.name: Trace(path.parent) for path in folder.glob("*/manifest.json")} | _errors(folder)


def _errors(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "errors.json").read_text()))


@pytest.fixture
def worker_says(monkeypatch):
    """`worker_says(code)`: from here on every worker runs this instead; the command and variables of each asked for."""
    begun: list[tuple[list[str], dict[str, str]]] = []
    start = processes.start

    def set_code(code: str) -> list[tuple[list[str], dict[str, str]]]:
        def instead(command: list[str], threads: int, **options: Any) -> Any:
            begun.append((command, options["env"]))
            return start([sys.executable, "-c", code], threads, **options)

        monkeypatch.setattr(processes, "start", instead)
        return begun

    return set_code
