"""Runs in trackers: every number is there, a second export changes nothing, a number that is another is found."""

from __future__ import annotations

import json
import runpy
import sqlite3
import sys
from pathlib import Path

import pytest

from lockstep import LockstepError, cli, store
from lockstep.exchange import trackers
from support import EARLIER
from support.needs import need

RUNS = EARLIER / "finished"


def typed(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return ended.value.code


@pytest.fixture
def program(monkeypatch):
    """The functions of a tracker's program, in this process."""

    def of(name):
        monkeypatch.syspath_prepend(str(trackers.PROGRAMS))
        return runpy.run_path(str(trackers.PROGRAMS / f"to_{name}.py"))

    yield of
    sys.modules.pop("runs", None)


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_tensorboard_holds_every_number_and_is_written_once(tmp_path, capsys, program):
    need(trackers.importlib.util.find_spec("tensorboardX") is not None, "tensorboardX")
    place = tmp_path / "events"
    assert typed("export", RUNS, "--to", "tensorboard", "--out", place, "--json") == 0
    done = json.loads(capsys.readouterr().out)
    records = [record for record in store.find_runs(RUNS) if record.is_finished]
    assert sorted(done["written"]) == sorted(record.folder.name for record in records)
    before = content(place)
    assert typed("export", RUNS, "--to", "tensorboard", "--out", place, "--json") == 0
    assert json.loads(capsys.readouterr().out)["written"] == []
    assert content(place) == before
    # … and a number that is another is not taken for the run's.
    row = trackers.row(records[0])
    (folder,) = place.glob(f"*/{row['name']}")
    names = program("tensorboard")
    names["check"](folder, row)
    row["series"]["train/loss"][0] += 1e-3
    with pytest.raises(SystemExit, match="train/loss: read back as"):
        names["check"](folder, row)
    tags = {value.tag for event in names["events"](folder) for value in event.summary.value}
    assert {"test_images", "test/accuracy", "_hparams_/experiment", "_hparams_/session_start_info"} <= tags


def test_mlflow_holds_every_number_and_is_written_once(tmp_path):
    need(trackers.importlib.util.find_spec("mlflow") is not None, "mlflow-skinny")
    file = tmp_path / "mlflow.db"
    records = store.find_runs(RUNS)
    first = trackers.export(records, "mlflow", file)
    again = trackers.export(records, "mlflow", file)
    assert first.written == again.unchanged
    assert not first.unchanged
    assert not again.written
    with sqlite3.connect(file) as base:
        values = base.execute(
            "select m.value from metrics m join tags t on m.run_uuid = t.run_uuid "
            "where t.key = 'lockstep.run' and t.value = ? and m.key = 'train/loss' order by step",
            (first.written[0],),
        ).fetchall()
        parameters = dict(base.execute("select key, value from params").fetchall())
    base.close()
    record = next(record for record in records if record.folder.name == first.written[0])
    assert [value for (value,) in values] == [epoch["train_loss"] for epoch in record.history]
    assert parameters["recipe.optimizer.kind"] == record.recipe["optimizer"]["kind"]


OTHERS = """
RUNS = []
def init(project, name, config, **options): RUNS.append([project, name, config, options, []])
def log(numbers, step): RUNS[-1][4].append((step, numbers))
def finish(): pass
def Image(image, caption): return image.shape, caption
"""


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_one_adapter_writes_both_others_each_run_once(name, tmp_path, monkeypatch, program):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / f"{name}.py").write_text(OTHERS, encoding="utf-8")
    for variable in ("WANDB_MODE", "WANDB_DIR", "WANDB_SILENT", "WANDB_DISABLE_GIT", "TRACKIO_DIR"):
        monkeypatch.setenv(variable, "")
    records = [record for record in store.find_runs(RUNS) if record.is_finished]
    (tmp_path / "runs.json").write_text(json.dumps([trackers.row(record) for record in records]), encoding="utf-8")
    images = {str(n): trackers.images(record) for n, record in enumerate(records)}
    trackers.np.savez(tmp_path / "images.npz", **images)
    main = program("wandb")["main"]
    try:
        for n in range(2):
            main(tmp_path, tmp_path / "kept", name)
            told = json.loads((tmp_path / "done.json").read_text(encoding="utf-8"))
            assert len(told["unchanged" if n else "written"]) == len(records)
        rows = sys.modules[name].RUNS
    finally:
        sys.modules.pop(name, None)
    assert [row[1] for row in rows] == [record.folder.name for record in records]
    steps, numbers = zip(*rows[0][4], strict=True)
    assert numbers[0]["train/loss"] == records[0].history[0]["train_loss"]
    assert steps[0] == 1
    assert rows[0][3].get("mode") == ("offline" if name == "wandb" else None)


def test_what_cannot_be_done_is_said(tmp_path, monkeypatch):
    records = store.find_runs(RUNS)
    with pytest.raises(LockstepError, match='did you mean "mlflow"'):
        trackers.export(records, "mlfow", tmp_path)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LockstepError, match="wandb not installed") as raised:
        trackers.tracker("wandb")
    assert raised.value.code == "LS-401"
    monkeypatch.undo()
    monkeypatch.setattr(trackers, "tracker", lambda name: trackers.TRACKERS[name])
    with pytest.raises(LockstepError, match="none of these runs is finished"):
        trackers.export(store.find_runs(EARLIER / "interrupted"), "mlflow", tmp_path)
    assert not list(Path(tmp_path).iterdir())
