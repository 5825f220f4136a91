"""The stopwatch adds up, threads are what was asked for, and the machine is described as it is."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time

import pytest

from lockstep import LockstepError, study
from lockstep.machine import cores, description, memory, sources
from lockstep.machine.clocks import Clocks
from lockstep.spec.toml import parse_study
from lockstep.study.places import local
from support import forks
from support.needs import need_backend

# -------------------------------------------------------------------------------------------------------------- clocks


class FakeTime:
    """A clock that only moves when it is told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def pass_by(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return FakeTime(monkeypatch)


def test_what_is_measured_again_adds_up(clock):
    clocks = Clocks()
    for name, seconds in (("train", 2.0), ("evaluate", 0.5), ("train", 3.0)):
        with clocks.measure(name):
            clock.pass_by(seconds)
        clock.pass_by(10.0)
    assert clocks.seconds == {"train": 5.0, "evaluate": 0.5}
    assert clocks.total() == 35.5


def test_a_block_that_raises_is_measured_too(clock):
    clocks = Clocks()

    def fail():
        with clocks.measure("train"):
            clock.pass_by(4.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert clocks.seconds == {"train": 4.0}


def test_real_seconds_are_seconds():
    clocks = Clocks()
    with clocks.measure("sleep"):
        time.sleep(0.05)
    assert 0.05 <= clocks.seconds["sleep"] <= clocks.total() < 5


# ------------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("backend", ["torch", "tensorflow", "jax"])
def test_every_framework_is_told_the_same_number_of_threads(backend, threads):
    found = cores.thread_environment(backend, threads)
    assert found == dict.fromkeys(cores.THREAD_VARIABLES, str(threads))


def test_numpys_products_get_one_thread_each_because_the_backend_has_its_own():
    found = cores.thread_environment("numpy", 2)
    assert set(found) == set(cores.THREAD_VARIABLES)
    assert {found[name] for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")} == {"1"}


POOLS = """
import json, os, numpy as np
np.ones((50, 50)) @ np.ones((50, 50))
from lockstep.machine import cores, memory
print(json.dumps([cores.obtained_threads(int(os.environ["ASKED"])), cores.usable_cores()]))
"""


def seen_by_a_child(threads: int, **environment: str) -> list:
    environment = {**os.environ, **cores.thread_environment("torch", threads), **environment, "ASKED": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", POOLS], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    return json.loads(done.stdout)


def assert_threads(asked: int, **environment: str) -> None:
    obtained, mine = seen_by_a_child(asked, **environment)
    assert obtained["asked"] == asked
    assert obtained["obtained"] == min(asked, len(mine))
    blas = [pool["num_threads"] for pool in obtained["pools"] if pool["user_api"] == "blas"]
    assert blas, "NumPy's library was not seen"
    assert blas == [asked] * len(blas), f"asked for {asked}, the pools have {blas}"


def test_what_was_obtained_is_reported():
    for threads in range(1, min(2, len(cores.usable_cores())) + 1):
        assert_threads(threads)


def test_a_thread_too_few_is_seen():
    if len(cores.usable_cores()) < 2:
        pytest.skip("this process may use one processor only")
    with pytest.raises(AssertionError, match=r"asked for 2, the pools have \[1"):
        assert_threads(2, OPENBLAS_NUM_THREADS="1")


def test_what_chooses_a_librarys_instructions_is_noted():
    """In a process that has not imported NumPy yet, as in one that has."""
    code = "from lockstep.machine import description; print(description.arithmetic())"
    said = []
    for head, variables in (("", {}), ("import numpy; ", {}), ("", {"OPENBLAS_CORETYPE": "Nehalem"})):
        words = [sys.executable, "-c", head + code]
        environment = {**os.environ, **variables}
        done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=True)
        said.append(done.stdout.strip())
    assert said[0] == said[1]
    assert "openblas" in said[0]
    assert "OPENBLAS_CORETYPE=Nehalem" in said[2]
    assert said[2] != said[0]


CHOSEN = """
import numpy as np, torch
from lockstep import backends
from lockstep.backends.plan import Plan
from lockstep.spec import Network, Recipe
from lockstep.backends.weights import initial_weights
for batch_size in (32, 512):
    network = Network(["flatten", "dense 100", "relu", "dense 10"])
    plan = Plan(network, (28, 28, 1), Recipe(batch_size=batch_size), 0, np.zeros(1), np.ones(1), 5, threads=2)
    backends.load("torch").build(plan, initial_weights(network, (28, 28, 1), 0, "float32"))
    print(torch.get_num_threads())
"""


def test_pytorch_takes_one_thread_where_products_are_small():
    need_backend("torch")
    done = subprocess.run([sys.executable, "-c", CHOSEN], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["1", "2"]


def test_a_process_started_inside_may_use_so_many_processors_and_afterwards_all_again():
    before = cores.usable_cores()
    for threads in range(1, len(before) + 1):
        with cores.limited_to(threads):
            assert cores.usable_cores() == before[:threads]
            assert seen_by_a_child(1)[1] == before[:threads]
        assert cores.usable_cores() == before


def test_the_processors_come_back_after_an_error():
    before = cores.usable_cores()
    with pytest.raises(ZeroDivisionError), cores.limited_to(1):
        raise ZeroDivisionError
    assert cores.usable_cores() == before


def test_more_threads_than_processors_change_nothing():
    before = cores.usable_cores()
    with cores.limited_to(len(before) + 5):
        assert cores.usable_cores() == before


def test_the_default_is_two_or_what_there_is(monkeypatch):
    assert cores.checked_threads(None) == cores.default_threads() == min(2, len(cores.usable_cores()))
    monkeypatch.setattr(cores, "usable_cores", lambda: list(range(16)))
    assert cores.checked_threads(None) == 2
    assert cores.checked_threads(16) == 16
    monkeypatch.setattr(cores, "usable_cores", lambda: [3])
    assert cores.checked_threads(None) == 1


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(LockstepError, match="processors") as raised:
        cores.checked_threads(threads)
    assert raised.value.code == "LS-205"
    assert raised.value.problems[0].where == "--threads"


# -------------------------------------------------------------------------------------------------------------- memory

ALLOCATE = """
from lockstep.machine import cores, memory
before = memory.peak_memory_bytes()
held = bytearray({n})
held[::4096] = b"x" * len(held[::4096])
del held
print(memory.peak_memory_bytes() - before)
"""


def growth_after(n_bytes: int) -> int:
    command = [sys.executable, "-c", ALLOCATE.format(n=n_bytes)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_peak_memory_grows_by_what_was_held_and_does_not_shrink():
    size = 80_000_000
    assert size * 0.9 < growth_after(size) < size * 1.2
    assert growth_after(4096) < size * 0.1


def test_peak_memory_is_that_of_this_program_not_of_the_one_before_it():
    """A large parent that forks and executes must not show in the child: VmHWM, not getrusage."""
    held = bytearray(200_000_000)
    held[::4096] = b"x" * len(held[::4096])
    code = "from lockstep.machine import memory; print(memory.peak_memory_bytes())"
    found = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert 1_000_000 < found < 150_000_000
    assert memory.peak_memory_bytes() > len(held)


# ------------------------------------------------------------------------------------------------------- the machine


def test_the_machine_is_described():
    found = description.machine()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["memory_bytes"] > 100_000_000
    assert len(found["load"]) == 3
    assert found["cpu"]
    assert "Linux" in found["platform"] or sys.platform != "linux"
    json.dumps(found)


def test_the_revision_of_somebody_elses_repository_says_nothing_of_lockstep(monkeypatch, tmp_path):
    """Lockstep is installed in an environment that lies inside a student's own repository."""

    def git(*words):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    installed = tmp_path / "site-packages" / "timing.py"
    installed.parent.mkdir()
    installed.touch()
    monkeypatch.setattr(sources, "__file__", str(installed))
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "--message", "theirs")
    assert sources.git_revision() is None
    git("add", "--force", "site-packages")
    git("commit", "--quiet", "--message", "ours")
    assert sources.git_revision() == git("rev-parse", "HEAD")


def test_the_git_revision_is_the_checkouts_or_nothing(monkeypatch, tmp_path):
    wanted = subprocess.run(
        ["git", "-C", os.path.dirname(sources.__file__), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    assert sources.git_revision() == (wanted.stdout.strip() or None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sources.git_revision() is None


def number_of(code, **more):
    """What a process prints whose allocator nobody has told anything else."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", code]
    return int(subprocess.run(command, env=usual | more, check=True, capture_output=True, text=True).stdout)


FREED = """
import resource
from lockstep.machine import cores, memory
{first}
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return [bytearray(b"x") * (6 * 2**20) for _ in range(3)]
step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_a_step_frees_is_there_for_the_next():
    """And its twin: without, it goes back to the system, and every page is a fault."""

    def faults(first, **more):
        return number_of(FREED.format(first=first), **more)

    pages = 20 * 18 * 2**20 // os.sysconf("SC_PAGE_SIZE")
    assert faults("memory.keep_freed_memory()") < pages / 10
    assert faults("") > pages / 3
    assert faults("memory.keep_freed_memory()", MALLOC_MMAP_THRESHOLD_="65536") > pages / 3, "the user's word counts"
    assert faults("memory.keep_freed_memory()", GLIBC_TUNABLES="glibc.malloc.mmap_threshold=65536") > pages / 3


PEAK = """
from lockstep.machine import cores, memory
{first}
held = [bytearray(b"x") * 2**24 for _ in range(6)]
last = bytearray(b"x") * 2**20  # the heap's end is not free
del held
memory.forget_peak_memory()
print(memory.peak_memory_bytes())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_memory_that_is_kept_and_free_is_nobodys_peak():
    """And its twin: unless it goes back, it is counted."""

    def peak(first):
        return number_of(PEAK.format(first=first))

    usual, kept = peak(""), peak("memory.keep_freed_memory()")
    assert kept < usual + 2**24
    broken = "memory.keep_freed_memory(); memory.c_function = lambda name: lambda *_: 0"
    assert peak(broken) > usual + 5 * 2**24


def test_a_library_without_such_functions_is_left_alone(monkeypatch):
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    memory.keep_freed_memory()
    memory.forget_peak_memory()
    refused = []
    monkeypatch.setattr(memory, "c_function", lambda name: lambda *about: refused.append(about) or 0)
    memory.keep_freed_memory()
    assert refused == [memory.M_MMAP_THRESHOLD], "the others alone would fix it at its smallest"


def test_a_training_keeps_what_it_frees(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: kept.append(True))
    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    small = parse_study('dataset = "digits"\nbackends = ["numpy"]\ntrain_size = 100\n[recipe]\nepochs = 1\n'
                        '[networks]\nn = ["flatten", "dense 10"]', "small", [], name="small")  # fmt: skip
    (record,) = study.run_study(small, tmp_path, lambda run, event: None, 1)
    assert record.is_finished
    assert kept == [True]
