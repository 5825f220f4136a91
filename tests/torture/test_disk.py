"""A disk that fails at its i-th open, write, fsync or rename: what was saved stays, and the fault is told."""

from __future__ import annotations

import random
import re

import pytest

from lockstep import backends
from lockstep.training import checkpoints
from support import failing_disk, forks
from support.needs import need_backend

PROGRESS = re.compile(r"\[1/1\]|  epoch |report:|how long it takes|expected: |[┏┃┡│└]")


@pytest.fixture(scope="module")
def stable(request):
    need_backend(request.param)
    with forks.stable(request.param) as found:
        yield found


def pytest_generate_tests(metafunc):
    """Every backend where there is time for it; the twins are of NumPy alone."""
    if "stable" in metafunc.fixturenames:
        is_twin = metafunc.function is not test_a_disk_that_fails_loses_nothing_that_was_saved
        asked = list(backends.BACKENDS) if metafunc.config.option.torture and not is_twin else ["numpy"]
        metafunc.parametrize("stable", asked, indirect=True, scope="module")


@pytest.fixture(scope="module")
def whole(stable, tmp_path_factory):
    """(the bits, the number of operations) of the run on a sound disk."""
    folder = tmp_path_factory.mktemp("whole")
    forks.write_study(folder, stable.backend, "mlp")
    done = stable.run(folder, *forks.RUN, disk={"number": 0, "kind": "EIO", "for_good": False})
    assert done.code == 0, done.said
    return forks.fingerprint(folder), done.operations


def epochs_told(done) -> int:
    """How many epochs a run has said to be done."""
    return max(map(int, re.findall(r"^  epoch (\d+)/", done.said, re.MULTILINE)), default=0)


def epochs_saved(folder) -> int:
    """How many epochs of it can be used."""
    for spec in folder.glob("runs/lab/*/spec.toml"):
        point = checkpoints.newest(spec.parent, spec.read_text())
        return point.progress.epoch if point else 0
    return 0


def assert_survived(stable, folder, wanted, disk, plant="") -> bool:
    """Run on this disk, then go on with a sound one. False where the fault did not come to pass."""
    forks.write_study(folder, stable.backend, "mlp")
    done = stable.run(folder, *forks.RUN, disk=disk, plant=plant)
    if done.operations < disk["number"]:
        return False
    complaint = [line for line in done.said.splitlines() if line.strip() and not PROGRESS.match(line)]
    assert len(complaint) <= 5, done.said
    assert "Traceback" not in done.said
    assert "our fault" not in done.said
    if done.code == 0:  # the fault hit something that the run does not need
        assert forks.fingerprint(folder) == wanted, "success was told of what is not there"
    elif disk["kind"] != "CUT":
        assert complaint, "it failed without a word"
        assert 2 <= done.code <= 5, done.said
    assert epochs_saved(folder) >= epochs_told(done), "an epoch that was told is lost"
    done = forks.go_on(stable, folder, plant=plant)
    assert done.code == 0, done.said
    assert forks.fingerprint(folder) == wanted
    assert forks.strays(folder) == []
    return True


def battery(stable, tmp_path, wanted, disks, plant="") -> tuple[int, list[str]]:
    """(how many faults came to pass, what went wrong, a sentence each)."""
    misses, n = [], 0
    for number, disk in enumerate(disks):
        try:
            n += assert_survived(stable, tmp_path / str(number), wanted, disk, plant)
        except AssertionError as error:
            n += 1
            misses.append(f"{disk}: {error}")
    return n, misses


def disks(kinds, operations):
    """Every operation that may fail, and some more than there were, each way."""
    ways = [(kind, for_good) for kind in kinds for for_good in ((False,) if kind == "CUT" else (False, True))]
    numbers = range(1, operations + 6)
    return [{"number": i, "kind": kind, "for_good": for_good} for i in numbers for kind, for_good in ways]


@pytest.mark.parametrize("kinds", [("ENOSPC", "EIO", "EACCES"), ("CUT",)], ids=["faults", "power cuts"])
def test_a_disk_that_fails_loses_nothing_that_was_saved(kinds, stable, whole, cases, tally, tmp_path):
    wanted, operations = whole
    every = disks(kinds, operations)
    chosen = random.Random(7).sample(every, cases(8, len(every)))
    n, misses = battery(stable, tmp_path, wanted, chosen)
    what = "the i-th open, write, fsync or rename fails" if len(kinds) > 1 else "the power is cut at the i-th of them"
    tally(f"{what}: {stable.backend}", n, len(misses))
    assert not misses
    assert n


# What each mechanism is for: without it some fault of this kind is survived no longer. The first files are written
# before the tenth operation, the first checkpoint is not flushed at about the seventieth.
TWINS = {"no rename": ("ENOSPC", 5), "no fsync": ("CUT", 60)}


@pytest.mark.parametrize("plant", TWINS)
def test_without_its_mechanism_a_fault_is_seen(plant, stable, whole, tmp_path):
    """The battery above can fail."""
    wanted, operations = whole
    kind, first = TWINS[plant]
    for disk in [disk for disk in disks((kind,), operations) if not disk["for_good"]][first : first + 60]:
        _, misses = battery(stable, tmp_path / str(disk["number"]) / str(disk["for_good"]), wanted, [disk], plant)
        if misses:
            return
    pytest.fail(f"{plant}: nothing was seen")


def test_the_disk_fails_where_it_is_told_to(tmp_path, monkeypatch):
    import builtins
    import io
    import os

    for module, name in [(builtins, "open"), (io, "open")] + [(os, x) for x in ("open", "write", "fsync", "mkdir")]:
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(os, "replace", os.replace)
    monkeypatch.setattr(os, "rename", os.rename)
    disk = failing_disk.Disk(tmp_path, 2, "ENOSPC", False)
    disk.install()
    with open(tmp_path / "a", "wb") as file, pytest.raises(OSError, match="No space"):
        file.write(b"12345678")
    assert (tmp_path / "a").read_bytes() == b"1234", "half of it is there"
    assert disk.operations == 3
