"""Damaged files of every format that comes from outside: one LockstepError, at most 2 s and 256 MB, whatever it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support import TESTS, damage


def result_of(name: str, cases: int, folder: Path) -> dict:
    """What the battery of a format found, in a process of its own: a decoder in C may bring that down."""
    command = [sys.executable, "-m", "support.damage", name, str(cases), str(folder)]
    environment = {**os.environ, "LOCKSTEP_DATA": "", "XDG_DATA_HOME": str(folder / "home")}
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=300 + cases, check=False
    )
    if done.returncode:
        last = (folder / "number").read_text() if (folder / "number").exists() else "none"
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit code {done.returncode}"
        pytest.fail(f"the process ended with {ended} at case {last}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", damage.FORMATS)
def test_damaged_input_is_one_clear_error_in_little_time_and_memory(name, cases, tally, tmp_path):
    """Every case is drawn from its number, so that a longer battery begins with the same ones."""
    n = cases(100 if name == "run_folders" else 200, 20_000)  # of which each is read in many ways
    found = result_of(name, n, tmp_path)
    tally(f"malformed input: {name.replace('_', ' ')}", n, len(found["failures"]))
    assert not found["failures"], f"{len(found['failures'])} of {n}: {json.dumps(found['failures'][:3], indent=1)}"
    assert sum(found["outcomes"].values()) == n
    assert found["outcomes"].get("read", 0) < 0.9 * n, "the damage is too slight to test anything"
    if n >= damage.N_RAW:
        assert found["raw_failures"] > 10, "a reader without any check would pass too"
    worst = f"{found['worst']['seconds']:.3f} s, {found['worst']['bytes'] / 1e6:.1f} MB"
    print(f"\n{name}: {n} cases, {found['outcomes']}, at worst {worst}")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (lambda: {}["files"], "KeyError"),
        (lambda: bytearray(300 * 2**20), "bytes of memory"),
        (lambda: sum(i for i in range(10**8)), "seconds of the processor"),
    ],
    ids=["another error", "memory", "time"],
)
def test_a_reader_that_breaks_a_bound_is_told(fault, words, tmp_path, monkeypatch):
    monkeypatch.setattr(damage, "SECONDS", 0.5)
    monkeypatch.setattr(damage, "set_ceiling", lambda: None)
    target = damage.Target(lambda draw: None, lambda number: number == 3 and fault(), lambda: None)
    monkeypatch.setitem(damage.FORMATS, "planted", lambda folder: target)
    found = damage.battery("planted", 5, tmp_path)
    assert [(row["case"], words in row["said"]) for row in found["failures"]] == [(3, True)], found


def test_a_case_is_the_same_every_time(tmp_path):
    """A number that is told can be looked at."""
    contents = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        target = damage.npz(tmp_path / place)
        target.damage(damage.Draw("npz 7"))
        contents.append((tmp_path / place / "own.npz").read_bytes())
    assert contents[0] == contents[1]
