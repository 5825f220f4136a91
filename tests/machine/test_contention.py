"""Beside other work a run takes the threads that are free, says so, and keeps their number; who names one gets it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lockstep import Recipe, Study, store
from lockstep import study as studies
from lockstep.machine import contention, cores
from lockstep.machine.contention import Threads
from lockstep.screen import runs
from lockstep.study import resumption
from lockstep.study.places import local
from support import busy_machine, forks

CNN = ["conv2d 2 3", "relu", "flatten", "dense 10"]


def study(**fields) -> Study:
    recipe = Recipe("adam 0.01", epochs=2, batch_size=32)
    return Study({"net": CNN}, "digits", "numpy", recipe=recipe, seeds=0, train_size=96, name="lab", **fields)


@pytest.fixture
def free(monkeypatch):
    """`free(n)`: so many threads are free from here on; the list of how many were asked for."""
    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])
    asked: list[int] = []

    def set_free(n: int) -> list[int]:
        monkeypatch.setattr(contention, "free_threads", lambda most: asked.append(most) or min(n, most))
        return asked

    return set_free


def taken(record: store.Record) -> tuple[int, int]:
    threads = record.environment["threads"]
    return threads["asked"], threads["obtained"]


# ------------------------------------------------------------------------------------------------------ what is free


@pytest.mark.parametrize(
    ("given", "most", "found"),
    [
        ([1.95], 2, 2),
        ([0.7, 0.66, 0.7], 2, 1),
        ([1.4, 1.3, 1.2], 2, 1),
        ([0.9, 1.9], 2, 2),  # a moment's work of somebody else
        ([0.1, 0.1, 0.1], 2, 1),
        ([2.3, 2.4, 2.3], 4, 3),
        ([], 1, 1),
    ],
)
def test_as_many_threads_are_free_as_are_given_a_processor(given, most, found, monkeypatch):
    tries = iter(given)
    monkeypatch.setattr(contention, "processors_given", lambda n: next(tries))
    assert contention.free_threads(most) == found
    assert list(tries) == [], "it looks no longer than it must"


def test_beside_as_many_busy_processes_as_processors_twice_not_all_are_free():
    n = len(cores.usable_cores())
    with busy_machine.beside(2 * n):
        assert contention.free_threads(max(n, 2)) < max(n, 2)


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_how_threads_wait_is_the_users_to_say(name, monkeypatch):
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(variable, raising=False)
    (run,) = study().runs()
    assert local.environment(run, 2)["GOMP_SPINCOUNT"] == contention.SPINS
    monkeypatch.setenv(name, "7")
    assert local.environment(run, 2)[name] == "7"
    assert contention.waiting() == {}


# ----------------------------------------------------------------------------------------------------- what is taken


def test_what_was_asked_for_and_what_was_obtained_are_recorded(free, tmp_path):
    asked, told = free(1), []
    wanted = study()
    (record,) = studies.run_study(wanted, tmp_path, lambda run, event: told.append(event))
    assert (asked, taken(record)) == ([2], (2, 1))
    assert record.status["threads"] == 2
    assert (told[0]["asked"], told[0]["threads"]) == (2, 1)


def test_all_runs_of_a_command_take_the_same_number(free, tmp_path):
    asked = free(1)
    records = studies.run_study(study(grid={"recipe.epochs": [1, 2]}), tmp_path)
    assert (asked, [taken(record) for record in records]) == ([2], [(2, 1), (2, 1)])


def test_who_names_a_number_gets_it(free, tmp_path):
    asked = free(1)
    (record,) = studies.run_study(study(), tmp_path, threads=2)
    assert (asked, taken(record)) == ([], (2, 2))


def test_a_finished_run_is_not_repeated_because_more_are_free_now_but_where_a_number_is_named(free, tmp_path):
    free(1)
    (first,) = studies.run_study(study(), tmp_path)
    asked = free(2)
    asked.clear()
    (second,) = studies.run_study(study(), tmp_path)
    assert (second.folder, asked) == (first.folder, []), "nobody looked: there was nothing to do"
    assert resumption.news(study(), tmp_path, 2) == ["threads: 1 → 2 (1 run)"]
    (third,) = studies.run_study(study(), tmp_path, threads=2)
    assert (third.folder != first.folder, taken(third)) == (True, (2, 2))


@pytest.mark.parametrize("by", ["run", "resume"])
def test_a_run_that_goes_on_takes_the_number_it_began_with(by, free, tmp_path):
    def ended(run, event):
        if event["event"] == "epoch":
            raise KeyboardInterrupt

    free(1)
    (whole,) = studies.run_study(study(), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        studies.run_study(study(), tmp_path / "part", ended)
    free(2)
    if by == "run":
        (record,) = studies.run_study(study(), tmp_path / "part")
    else:
        waiting, *_ = resumption.unfinished([tmp_path / "part"])
        ((record,), _) = resumption.resume(waiting)
    assert record.is_finished
    assert taken(record) == (2, 1)
    assert forks.bits(record.folder) == forks.bits(whole.folder)
    assert [part["changed"] for part in record.environment["resumed"]] == [[]]


def test_with_another_number_its_bits_would_be_others(free, tmp_path):
    """The test above can fail: a network that is large enough to be shared out."""
    layers = ["conv2d 16 5", "relu", "flatten", "dense 10"]
    large = Study({"net": layers}, "digits", "numpy", recipe=Recipe("adam 0.01", epochs=1), seeds=0, train_size=128)
    (one,) = studies.run_study(large, tmp_path / "one", threads=1)
    (two,) = studies.run_study(large, tmp_path / "two", threads=2)
    assert forks.bits(one.folder) != forks.bits(two.folder)


def test_the_command_says_once_that_fewer_were_free():
    said = io.StringIO()
    watcher = runs.Watcher(2, Console(file=said, width=140))
    for run in study(grid={"recipe.epochs": [1, 2]}).runs():
        watcher.tell(run, {"event": "start", "folder": "x", "asked": 2, "threads": 1})
    line = "this machine is busy: of 2 threads 1 is free, and taken (--threads 2 takes all)"
    assert said.getvalue().count(line) == 1


def test_nothing_is_said_where_all_were_free():
    said = io.StringIO()
    watcher = runs.Watcher(1, Console(file=said, width=140))
    watcher.tell(study().runs()[0], {"event": "start", "folder": "x", "asked": 2, "threads": 2})
    assert "busy" not in said.getvalue()


def test_threads_of_before_are_believed_only_as_far_as_they_make_sense(monkeypatch):
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])
    for before, found in [
        ({"asked": 2, "obtained": 1}, 1), ({"asked": 2, "obtained": 9}, 2), ({"asked": 2, "obtained": -1}, 1),
        ({"asked": 4, "obtained": 1}, 2), ({"asked": 2, "obtained": "x"}, 2), ({"asked": 2}, 2), (None, 2),
    ]:  # fmt: skip
        assert Threads(None, taken=2).again(before).taken == found, before
        assert Threads(2).again(before).taken == 2, "a number that is named"
