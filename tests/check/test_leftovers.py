"""What is of no more use is moved aside and can be moved back; a finished run that is whole and newest never moves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import lockstep
from lockstep import LockstepError, Recipe, Study, clean_runs, cli, store
from lockstep.files import locks
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml
from lockstep.study import load_study, one_run_study, run_id

STUDY = Study(
    networks={"a": ["flatten", "dense 10"]}, backends="numpy", recipe=Recipe(epochs=1), train_size=60, name="lab",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One finished run."""
    (record,) = lockstep.run_study(STUDY, tmp_path_factory.mktemp("leftovers"), threads=1)
    return record.folder


@pytest.fixture
def runs(finished, tmp_path):
    """The newest of its content, an older one, one that is damaged, one that was interrupted, one that failed."""
    folder = tmp_path / "runs" / "lab"
    shutil.copytree(finished, folder / finished.name)
    shutil.copytree(finished, folder / f"{finished.name}-2")
    shutil.copytree(finished, folder / f"{finished.name}-10")
    (folder / f"{finished.name}-10" / "metrics.json").write_text("{}")
    for seed, status in ((1, "running"), (2, "failed")):
        run = changed(STUDY, seeds=(seed,)).runs()[0]
        text = resolved_toml(one_run_study(STUDY, run))
        place = folder / run_id(run, text)
        place.mkdir()
        (place / "spec.toml").write_text(text)
        store.write_status(place, status, *(("LS-403", "it died") if status == "failed" else ()))
    return folder.parent


def everything(folder: Path) -> dict[str, bytes]:
    """Path below the folder → content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def clean(capsys, *words: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["clean", *map(str, words)])
    said = capsys.readouterr()
    assert int(ended.value.code or 0) == code, said
    return said.out + said.err


def test_what_would_move_is_told_and_nothing_moves(runs, finished, capsys):
    before = everything(runs)
    document = clean_runs(runs, is_dry=True)
    name = finished.name
    whys = {Path(row["run"]).name: row["why"] for row in document["runs"]}
    assert {key: value for key, value in whys.items() if key.startswith(name)} == {
        name: "superseded", f"{name}-10": "damaged",
    }  # fmt: skip
    assert sorted(whys.values()) == ["damaged", "superseded", "unfinished", "unfinished"]
    assert document["kept"] == 1
    assert document["bytes"] == sum(row["bytes"] for row in document["runs"]) > 1000
    assert all(row["to"] is None for row in document["runs"])
    said = clean(capsys, runs)
    assert "4 runs would be moved" in said
    assert "--yes" in said
    assert json.loads(clean(capsys, runs, "--dry-run", "--json")) == {"format": 1, **document}
    assert everything(runs) == before


def test_it_moves_and_can_be_moved_back(runs, finished, capsys):
    before = everything(runs)
    said = clean(capsys, runs, "--yes")
    assert "4 runs moved" in said
    assert f"lockstep report {runs / 'lab'}" in said
    assert [record.folder.name for record in lockstep.find_runs(runs)] == [f"{finished.name}-2"]
    after = {name.replace("aside/", ""): content for name, content in everything(runs).items()}
    assert after == before, "no file is gone, and none is another"
    with pytest.raises(LockstepError, match="no run folder here"):
        lockstep.find_runs(runs / "lab" / "aside")
    assert clean_runs(runs) == {"runs": [], "kept": 1, "bytes": 0, "is_dry": False}


def test_a_second_of_the_same_name_goes_beside_the_first(runs, finished):
    clean_runs(runs)
    shutil.copytree(finished, runs / "lab" / finished.name)
    (row,) = clean_runs(runs)["runs"]
    assert row["to"] == str(runs / "lab" / "aside" / f"{finished.name}-2")


def test_what_somebody_works_on_stays(runs):
    held = next(path for path in (runs / "lab").glob("a-*-seed1-*"))
    with locks.take(held):
        rows = clean_runs(runs)["runs"]
    assert str(held) not in {row["run"] for row in rows}
    assert held.is_dir()


def test_one_that_is_taken_up_in_between_stays(runs, monkeypatch):
    def taken(folder):
        raise LockstepError("LS-504", "somebody works on this run")

    monkeypatch.setattr(locks, "take", taken)
    before = everything(runs)
    assert [row["to"] for row in clean_runs(runs)["runs"]] == [None] * 4
    assert everything(runs) == before


def test_a_finished_run_that_is_whole_never_moves(runs, finished, monkeypatch):
    """Also where it is the only one; the twin calls it damaged."""
    only = runs / "lab" / f"{finished.name}-2"
    clean_runs(runs)
    assert clean_runs(only)["runs"] == []
    assert only.is_dir()
    (only / "predictions.npz").write_bytes(b"")
    assert [row["why"] for row in clean_runs(only)["runs"]] == ["damaged"]
    assert not only.exists()


def test_wrong_words_are_told(runs, tmp_path, capsys):
    assert "LS-200" in clean(capsys, runs, "--yes", "--dry-run", code=2)
    assert "LS-200" in clean(capsys, tmp_path / "none", code=2)
    (tmp_path / "empty").mkdir()
    assert "LS-505" in clean(capsys, tmp_path / "empty", code=5)


def test_an_unfinished_run_that_is_moved_back_goes_on(runs, finished, capsys):
    clean_runs(runs)
    (place,) = (runs / "lab" / "aside").glob("a-*-seed1-*")
    shutil.move(place, runs / "lab")
    assert load_study(runs / "lab" / place.name / "spec.toml").seeds == (1,)
    records = lockstep.run_study(changed(STUDY, seeds=(1,)), runs, threads=1)
    assert [(record.folder.name, record.is_finished) for record in records] == [(place.name, True)]
