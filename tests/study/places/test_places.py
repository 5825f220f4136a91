"""Places where runs are done: another one than this machine needs no change of a study."""

from __future__ import annotations

import json

import pytest

from lockstep import LockstepError, Recipe, Study, store
from lockstep.machine import cores
from lockstep.study import places, run_study
from lockstep.study.places import local
from support import forks

STUDY = Study(
    {"net": ("flatten", "dense 10")}, "digits", "numpy", recipe=Recipe("sgd 0.1", epochs=2), seeds=(0, 1),
    train_size=64, name="lab",
)  # fmt: skip


class Elsewhere:
    """A place that gets jobs and sends events as another machine would: as text."""

    def __init__(self, also=None):
        self.jobs, self.also, self.here = [], also, forks.InThisProcess()

    def do(self, job, tell=lambda event: None):
        self.jobs.append(job)

        def sent(event):
            tell(json.loads(json.dumps({**event, **(self.also or {})})))

        return self.here.do(job, sent)


def test_a_study_is_done_in_the_place_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])
    monkeypatch.setattr(local, "HERE", None)
    elsewhere, heard = Elsewhere(), []
    records = run_study(STUDY, tmp_path, lambda run, event: heard.append((run.seed, event)), 1, place=elsewhere)
    assert [record.is_finished for record in records] == [True, True]
    assert [job.folders for job in elsewhere.jobs] == [(record.folder,) for record in records]
    assert [(seed, event["epoch"]) for seed, event in heard if event["event"] == "epoch"] == [
        (0, 1), (0, 2), (1, 1), (1, 2),
    ]  # fmt: skip
    names = {event["run"] for _seed, event in heard if event["event"] == "epoch"}
    assert names == {record.folder.name for record in records}, "events name the run"


def test_an_event_that_holds_an_object_would_not_arrive(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])
    with pytest.raises(TypeError, match="not JSON serializable"):
        run_study(STUDY, tmp_path, threads=1, place=Elsewhere({"record": object()}))


def test_a_run_that_fails_elsewhere_is_a_record_like_any(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])
    error = LockstepError("LS-402", "the node is gone")
    records = run_study(STUDY, tmp_path, threads=1, place=forks.Failing(error))
    assert [(record.status["status"], record.status["code"]) for record in records] == [("failed", "LS-402")] * 2


@pytest.mark.parametrize(
    ("printed", "events"),
    [
        ('print(\'{"event": "epoch", "run": "lab-0", "epoch": 1}\')', [1]),
        ('print(\'{"event": "epoch", "run": "another", "epoch": 1}\')', []),
        ('print("a library says hello"); print("[1]"); print("{}")', []),
    ],
)
def test_this_machine_passes_on_what_its_worker_tells_of_the_jobs_runs(printed, events, tmp_path, worker_says):
    (run, _other), heard = STUDY.runs(), []
    folder = tmp_path / "lab-0"
    folder.mkdir()
    store.write_status(folder, "running")
    begun = worker_says(printed)
    (record,) = local.Local().do(places.Job([run], [folder], 1, places.Task("a.module", (7,))), heard.append)
    assert [event["epoch"] for event in heard] == events
    assert begun[0][0][3:] == ["a.module", str(folder), "1", "7"]
    assert record.status["code"] == "LS-402", "it ended without a word of how"
