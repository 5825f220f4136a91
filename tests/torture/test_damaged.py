"""Damage to the newest checkpoint, bit by bit: always detected, said aloud, and the one before is used."""

from __future__ import annotations

import random
import shutil

import pytest

from lockstep import LockstepError
from lockstep import study as studies
from lockstep.files import intake
from lockstep.machine import cores
from lockstep.study.places import local
from lockstep.training import checkpoints
from support import forks


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """The folders of two runs that were ended after their third epoch, by their seeds."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "HERE", forks.InThisProcess())
        patch.setattr(cores, "usable_cores", lambda: [0, 1])
        for seed in (0, 1):
            folder = tmp_path_factory.mktemp(f"seed{seed}")
            forks.write_study(folder, "numpy", "cnn")

            def end(run, event):
                if event["event"] == "epoch" and event["epoch"] == 3:
                    raise KeyboardInterrupt

            wanted = studies.load_study(folder / "lab.toml", [f"seeds={seed}"])
            with pytest.raises(KeyboardInterrupt):
                studies.run_study(wanted, folder / "runs", end, 1)
            found[seed] = forks.run_folder(folder)
    return found


def assert_noticed(place, what) -> None:
    """checkpoint-3 is passed over with a word, for checkpoint-2, as it was."""
    told = []
    point = checkpoints.newest(place, (place / "spec.toml").read_text(), told.append)
    assert point, what
    assert point.progress.epoch == 2, what
    assert len(told) == 1, what
    assert told[0].startswith("checkpoint-3 is not used: "), what


def files(place):
    return sorted((place / "checkpoint-3").iterdir())


def damages(place, other, chance):
    """(what, the file, its new content or None) of every damage: 64 cuts and 256 flips a file, gone, another's."""
    for path in files(place):
        content = path.read_bytes()
        for size in sorted(chance.sample(range(len(content)), min(64, len(content)))):
            yield f"{path.name} cut at {size}", path, content[:size]
        for bit in chance.sample(range(8 * len(content)), 256):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"{path.name} with bit {bit} flipped", path, bytes(flipped)
        yield f"{path.name} missing", path, None
        theirs = (other / "checkpoint-3" / path.name).read_bytes()
        if theirs != content:
            yield f"{path.name} of another run", path, theirs


def battery(place, chosen) -> list[str]:
    misses = []
    for what, path, content in chosen:
        before = path.read_bytes()
        path.unlink() if content is None else path.write_bytes(content)
        try:
            assert_noticed(place, what)
        except (AssertionError, LockstepError) as error:
            misses.append(f"{what}: {error}")
        path.write_bytes(before)
    return misses


@pytest.fixture
def place(left, tmp_path):
    return shutil.copytree(left[0], tmp_path / left[0].name)


def test_any_damage_to_the_newest_checkpoint_is_noticed(place, left, cases, tally):
    every = list(damages(place, left[1], random.Random(3)))
    assert {path.name for _, path, _ in every} >= {"weights.safetensors", "state.safetensors", "manifest.json"}
    chosen = random.Random(4).sample(every, cases(20, len(every)))
    misses = battery(place, chosen)
    tally(
        "newest checkpoint cut, a bit flipped, a file missing or another run's: numpy",
        len(chosen),
        len(misses),
    )
    assert not misses


def test_without_hashes_damage_is_not_noticed(place, left, monkeypatch):
    """The battery above can fail."""
    monkeypatch.setattr(intake, "checked", forks.unchecked)
    flips = [row for row in damages(place, left[1], random.Random(3)) if "weights" in row[0] and "flipped" in row[0]]
    assert battery(place, flips[:40])


def test_a_whole_checkpoint_of_another_run_is_noticed(place, left):
    shutil.rmtree(place / "checkpoint-3")
    shutil.copytree(left[1] / "checkpoint-3", place / "checkpoint-3")
    assert_noticed(place, "another run's")


def test_a_run_whose_newest_checkpoint_is_damaged_ends_with_the_same_bits(place, tmp_path, monkeypatch):
    from lockstep.study import resumption

    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    ends = []
    for damage in (False, True):
        runs = tmp_path / str(damage) / place.name
        shutil.copytree(place, runs)
        if damage:
            (runs / "checkpoint-3" / "weights.safetensors").write_bytes(b"")
        waiting, *_ = resumption.unfinished([runs])
        (record,), problems = resumption.resume(waiting)
        assert record.is_finished, record.status
        assert not problems
        ends.append(forks.bits(record.folder))
    assert ends[0] == ends[1]
