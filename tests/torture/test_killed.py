"""kill -9 at a uniformly random moment, then `lockstep resume`: the bits are those of the run that nobody killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import pytest

from lockstep import backends
from support import forks
from support.needs import need_backend


@pytest.fixture(scope="module", params=list(backends.BACKENDS))
def stable(request):
    need_backend(request.param)
    with forks.stable(request.param) as found:
        yield found


@pytest.fixture(scope="module")
def numpy_stable():
    with forks.stable("numpy") as found:
        yield found


_references = {}


def reference(stable, network, tmp_path):
    """(the bits, the seconds) of the run that nobody kills."""
    if (stable.backend, network) not in _references:
        folder = tmp_path / f"whole-{network}"
        forks.write_study(folder, stable.backend, network)
        started = time.monotonic()
        done = stable.run(folder, *forks.RUN)
        assert done.code == 0, done.said
        _references[stable.backend, network] = forks.fingerprint(folder), time.monotonic() - started
    return _references[stable.backend, network]


def assert_same_end(stable, folder, wanted, plant="") -> None:
    """It goes on, comes to its end and leaves nothing behind."""
    done = forks.go_on(stable, folder, plant=plant)
    assert done.code == 0, done.said
    assert "Traceback" not in done.said
    assert forks.fingerprint(folder) == wanted
    assert forks.strays(folder) == []


def killed(stable, folder, network, seconds, chance, times=1) -> None:
    """A run of a new folder that is killed so many times."""
    forks.write_study(folder, stable.backend, network)
    started = stable.start(folder, *forks.RUN)
    for time_ in range(times):
        if time_:
            begun = list(folder.glob("runs/lab/*/status.json"))
            started = stable.start(folder, *(forks.RESUME if begun else forks.RUN))
        forks.kill_at_random(started, seconds, chance)


def battery(stable, tmp_path, n, times) -> list[str]:
    """What went wrong in n runs, a sentence each."""
    misses = []
    for number in range(n):
        network = ("mlp", "cnn")[number % 2]
        wanted, seconds = reference(stable, network, tmp_path)
        folder = tmp_path / f"{network}-{number}"
        try:
            killed(stable, folder, network, seconds, random.Random(number), times)
            assert_same_end(stable, folder, wanted)
        except AssertionError as error:
            misses.append(f"{folder}: {error}")
    return misses


def test_a_run_that_is_killed_ends_with_the_same_bits(stable, cases, tally, tmp_path):
    n = cases(2 if stable.backend in ("numpy", "torch") else 1, 100)  # of those that compile for long, an MLP
    misses = battery(stable, tmp_path, n, 1)
    tally(f"kill -9 at a random moment, then resume: {stable.backend}, MLP and CNN by turns", n, len(misses))
    assert not misses


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bits(numpy_stable, cases, tally, tmp_path):
    """Ten times while it is resumed; in a sample three times."""
    n = cases(1, 10)
    misses = battery(numpy_stable, tmp_path, n, cases(4, 11))
    tally("killed again while resuming, ten times in one run: numpy", n, len(misses))
    assert not misses


def test_a_fork_computes_what_a_process_does(stable, tmp_path):
    """What is forked here is what users start."""
    wanted, _ = reference(stable, "mlp", tmp_path)
    forks.write_study(tmp_path / "real", stable.backend, "mlp")
    command = [sys.executable, "-m", "lockstep", *forks.RUN]
    subprocess.run(command, cwd=tmp_path / "real", check=True, capture_output=True, timeout=300)
    assert forks.fingerprint(tmp_path / "real") == wanted


@pytest.mark.parametrize("plant", ["slots forgotten"])
def test_a_resume_that_forgets_something_is_seen(plant, numpy_stable, tmp_path):
    """The batteries above can fail."""
    wanted, _ = reference(numpy_stable, "mlp", tmp_path)
    folder = tmp_path / "planted"
    forks.write_study(folder, "numpy", "mlp")
    started = numpy_stable.start(folder, *forks.RUN)
    until = time.monotonic() + 120
    while "epoch 2/" not in started.said and time.monotonic() < until:
        time.sleep(0.001)
    started.kill("all")
    assert started.wait() == -9
    with pytest.raises(AssertionError):
        assert_same_end(numpy_stable, folder, wanted, plant)
