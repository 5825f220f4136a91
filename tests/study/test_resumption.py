"""Runs that go on: to the same bits as if nothing had happened, or with a word on why not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from lockstep import EarlyStopping, LockstepError, Recipe, Record, Study, backends, data, store
from lockstep import study as studies
from lockstep.cli import app
from lockstep.files import locks
from lockstep.machine import cores  # fmt: skip
from lockstep.screen.runs import lines_of_resumption
from lockstep.study import resumption
from lockstep.study.places import local
from lockstep.training import checkpoints
from support import forks
from support.needs import need

MLP = {"mlp": ["flatten", "dense 17", "relu", "dropout 0.3", "dense 10"]}
RECIPE = Recipe("adam 0.01", epochs=4, batch_size=64)


def study(recipe=RECIPE, networks=MLP, **fields) -> Study:
    return Study(networks, "digits", "numpy", recipe=recipe, train_size=200, **{"name": "lab", **fields})


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Workers in this process: the same code, without the seconds that a process costs."""

    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    monkeypatch.setattr(cores, "usable_cores", lambda: [0, 1])


def silent(run, event):
    """Nobody listens."""


def ended_after(epoch):
    """Listens, and ends everything after this epoch, as Ctrl-C does."""

    def tell(run, event):
        if event["event"] == "epoch" and event["epoch"] == epoch:
            raise KeyboardInterrupt

    return tell


def interrupted(folder, epoch=2, wanted=None, threads=1) -> Record:
    """A run that was ended after so many epochs."""
    with pytest.raises(KeyboardInterrupt):
        studies.run_study(wanted or study(), folder, ended_after(epoch), threads)
    record = store.find_runs([folder])[-1]
    assert record.status["reason"] == "interrupted"
    return record


def resumed(folder, threads=None, tell=silent):
    """(records, problems, what was left) of `lockstep resume`."""
    waiting, left, problems = resumption.unfinished([folder], threads)
    records, held = resumption.resume(waiting, tell)
    return records, problems + held, left


def event_of(record) -> dict:
    return [event for event in store.read_events(record.folder / "events.jsonl") if event["event"] == "resumed"][-1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bits of the run that was never interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "HERE", forks.InThisProcess())
        (record,) = studies.run_study(study(), tmp_path_factory.mktemp("whole"), threads=1)
    assert record.is_finished, record.status
    return forks.bits(record.folder)


# -------------------------------------------------------------------------------------------------------- to the end


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_a_run_that_was_interrupted_ends_with_the_same_bits(epoch, whole, tmp_path):
    interrupted(tmp_path, epoch)
    records, problems, left = resumed(tmp_path)
    assert (problems, left) == ([], [])
    (record,) = records
    assert forks.bits(record.folder) == whole
    assert event_of(record)["epoch"] == epoch
    assert [path.name for path in tmp_path.glob("lab/*/checkpoint-*")] == ["checkpoint-4"]
    assert not (record.folder / "lock").exists()


@pytest.mark.parametrize("plant", ["slots forgotten", "another epoch's order"])
def test_what_is_forgotten_shows_in_the_bits(plant, whole, tmp_path, monkeypatch):
    """The check above can fail."""
    interrupted(tmp_path, 2)
    if plant == "slots forgotten":
        monkeypatch.setattr(checkpoints.Keeper, "resume", forks.forgetful(checkpoints.Keeper.resume))
    else:
        order = data.epoch_order
        monkeypatch.setattr(data, "epoch_order", lambda n, recipe, seed, epoch: order(n, recipe, seed, abs(epoch - 2)))
    (record,), *_ = resumed(tmp_path)
    assert record.is_finished
    assert forks.bits(record.folder) != whole


def test_a_run_that_failed_after_an_epoch_goes_on_too(whole, tmp_path):
    def fail(run, event):
        if event["event"] == "epoch" and event["epoch"] == 3:
            raise LockstepError("LS-502", "the disk is full")

    (failed,) = studies.run_study(study(), tmp_path, fail, 1)
    assert (failed.status["status"], failed.status["code"]) == ("failed", "LS-502")
    (record,), *_ = resumed(tmp_path)
    assert forks.bits(record.folder) == whole


def test_a_run_that_was_ended_before_its_first_epoch_begins_anew(whole, tmp_path):
    def at_once(run, event):
        if event["event"] == "phase":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        studies.run_study(study(), tmp_path, at_once, 1)
    (record,), *_ = resumed(tmp_path)
    assert forks.bits(record.folder) == whole
    assert lines_of_resumption(event_of(record), 4) == ["begins anew: no epoch of it was saved"]


def test_a_damaged_checkpoint_costs_an_epoch_and_is_said(whole, tmp_path):
    record = interrupted(tmp_path, 3)
    (record.folder / "checkpoint-3" / "state.safetensors").write_bytes(b"rubbish")
    (record,), *_ = resumed(tmp_path)
    assert forks.bits(record.folder) == whole
    said = lines_of_resumption(event_of(record), 4)
    assert said[0].startswith("checkpoint-3 is not used: checkpoint-3/state.safetensors: it has 7 bytes")
    assert said[1] == "goes on after epoch 2 of 4; lost: epoch 3"


def test_early_stopping_goes_on_with_the_best_that_it_had(tmp_path):
    recipe = Recipe("adam 0.1", 40, 32, validation=0.2, early_stopping=EarlyStopping(patience=2))
    (wanted,) = studies.run_study(study(recipe), tmp_path / "whole", threads=1)
    best = wanted.metrics["best_epoch"]
    assert wanted.metrics["stopped_early"]
    for epoch in (best, best + 1, best + 2):
        interrupted(tmp_path / str(epoch), epoch, study(recipe))
        (record,), *_ = resumed(tmp_path / str(epoch))
        assert forks.bits(record.folder) == forks.bits(wanted.folder)


def test_a_run_in_parts_says_so(tmp_path):
    begun = interrupted(tmp_path, 2)
    first = json.loads((begun.folder / "checkpoint-2" / "manifest.json").read_text())["seconds"]
    (record,), *_ = resumed(tmp_path)
    assert record.timing["parts"] == 2
    assert record.timing["seconds"]["total"] > first["total"]
    assert len(record.timing["epochs"]) == 4
    (part,) = record.environment["resumed"]
    assert part["after_epoch"] == 2
    assert part["changed"] == []


# --------------------------------------------------------------------------------------------- the same command again


def test_the_same_study_again_goes_on_in_the_same_folder(whole, tmp_path):
    begun = interrupted(tmp_path, 2)
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    assert record.folder == begun.folder
    assert forks.bits(record.folder) == whole
    told = []
    (again,) = studies.run_study(study(), tmp_path, lambda run, event: told.append(event), 1)
    assert again.folder == begun.folder
    assert [(event["event"], event["reused"]) for event in told] == [("end", True)]


@pytest.mark.parametrize("left", [[], ["spec.toml"], ["lock", ".spec.toml.7.part"]], ids=str)
def test_a_folder_in_which_nothing_was_begun_is_taken(left, tmp_path):
    begun = interrupted(tmp_path / "a", 1)
    blank = tmp_path / "b" / "lab" / begun.folder.name
    blank.mkdir(parents=True)
    for name in left:
        (blank / name).write_bytes((begun.folder / "spec.toml").read_bytes() if name == "spec.toml" else b"")
    (record,) = studies.run_study(study(), tmp_path / "b", threads=1)
    assert record.folder == blank
    assert record.is_finished
    assert not list(blank.glob(".*"))


def test_a_folder_with_something_else_in_it_is_not_taken(tmp_path):
    begun = interrupted(tmp_path / "a", 1)
    other = tmp_path / "b" / "lab" / begun.folder.name
    other.mkdir(parents=True)
    (other / "notes.txt").write_text("mine")
    (record,) = studies.run_study(study(), tmp_path / "b", threads=1)
    assert record.folder.name == f"{other.name}-2"
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_with_other_threads_a_study_begins_anew_and_says_why(tmp_path):
    begun = interrupted(tmp_path, 2)
    assert resumption.news(study(), tmp_path, 2) == ["threads: 1 → 2 (1 run)"]
    (record,) = studies.run_study(study(), tmp_path, threads=2)
    assert record.folder.name == f"{begun.folder.name}-2"
    assert not Record(begun.folder).is_finished
    records, problems, left = resumed(tmp_path)
    assert (records, problems) == ([], [])
    assert left == [f"{begun.folder}: the same run was finished since, in {record.folder.name}"]


# ------------------------------------------------------------------------------------------ what is no longer as it was


def test_other_threads_warn_and_the_run_is_not_taken_for_the_same(tmp_path):
    interrupted(tmp_path, 2)
    (record,), problems, _ = resumed(tmp_path, threads=2)
    assert record.is_finished
    assert not problems
    said = lines_of_resumption(event_of(record), 4)
    assert said[1] == "warning: no longer as before, so the last bits may differ: threads.asked: 1 → 2"
    (again,) = studies.run_study(study(), tmp_path, threads=1)
    assert again.folder != record.folder, "its last bits may differ: it is done once more"


def test_threads_stay_as_they_were_unless_asked_for(tmp_path):
    begun = interrupted(tmp_path, 2)
    assert resumption.threads_for(begun) == 1
    assert resumption.threads_for(begun, 2) == 2
    with pytest.raises(LockstepError, match="LS-205"):
        resumption.threads_for(begun, 3)
    (record,), *_ = resumed(tmp_path)
    assert event_of(record)["changed"] == []


def test_a_run_that_failed_before_it_told_its_environment_goes_on_with_its_threads(whole, tmp_path):
    begun = interrupted(tmp_path, 1)
    (begun.folder / "environment.json").unlink()
    for place in checkpoints.find(begun.folder):
        checkpoints.remove(place)
    (begun.folder / "events.jsonl").unlink()
    assert cores.default_threads() == 2, "so that it matters"
    assert resumption.threads_for(Record(begun.folder)) == 1
    (record,), *_ = resumed(tmp_path)
    assert record.environment["threads"]["asked"] == 1
    assert forks.bits(record.folder) == whole


def test_a_folder_whose_status_is_half_written_is_taken_up(whole, tmp_path):
    """The power went while the first status was on its way: nothing was begun, and nothing is left behind."""
    begun = interrupted(tmp_path, 1)
    for path in begun.folder.iterdir():
        if path.is_dir():
            checkpoints.remove(path)
        elif path.name != "spec.toml":
            path.unlink()
    (begun.folder / f".status.json.{2**22 + 1}.part").write_text("{")
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    assert record.folder == begun.folder
    assert forks.bits(record.folder) == whole
    assert not list(tmp_path.rglob("*.part"))


def test_a_finished_study_whose_report_never_came_to_be_is_named(tmp_path):
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    folder = record.folder.parent
    half = folder / f".report.html.{2**22 + 1}.part"  # more than the largest number of a process
    half.write_text("<")
    assert resumption.unreported([tmp_path]) == [folder]
    assert not half.exists()
    (folder / "report.html").write_text("whole")
    assert resumption.unreported([tmp_path]) == []


def test_a_study_with_nothing_finished_lacks_no_report(tmp_path):
    interrupted(tmp_path, 1)
    assert resumption.unreported([tmp_path]) == []


def test_another_version_warns(tmp_path, monkeypatch):
    interrupted(tmp_path, 2)
    monkeypatch.setattr(backends, "versions", lambda name: {"numpy": "99.0"})
    (record,), *_ = resumed(tmp_path)
    assert record.is_finished
    assert event_of(record)["changed"] == [f"versions.numpy: {np.__version__} → 99.0"]


def test_a_changed_spec_is_refused_until_it_is_put_back(whole, tmp_path):
    begun = interrupted(tmp_path, 2)
    spec = begun.folder / "spec.toml"
    text = spec.read_text()
    assert "batch_size = 64" in text
    spec.write_text(text.replace("batch_size = 64", "batch_size = 32"))
    (record,), *_ = resumed(tmp_path)
    assert (record.status["status"], record.status["code"]) == ("failed", "LS-506")
    for words in ("another spec.toml", "recipe.batch_size: 64 → 32", "put the file back as it was"):
        assert words in record.status["reason"]
    assert checkpoints.newest(begun.folder, text).progress.epoch == 2
    spec.write_text(text)
    (record,), *_ = resumed(tmp_path)
    assert forks.bits(record.folder) == whole


@pytest.mark.parametrize("damage", ["none was saved", "all are damaged"])
def test_without_a_checkpoint_a_changed_spec_is_refused_too(damage, whole, tmp_path):
    begun = interrupted(tmp_path, 2)
    for place in checkpoints.find(begun.folder):
        shutil.rmtree(place) if damage == "none was saved" else (place / "weights.safetensors").write_bytes(b"")
    spec = begun.folder / "spec.toml"
    text = spec.read_text()
    spec.write_text(text.replace("epochs = 4", "epochs = 1"))
    (record,), *_ = resumed(tmp_path)
    assert (record.status["status"], record.status["code"]) == ("failed", "LS-506")
    assert ("no longer what it was begun with" if damage == "none was saved" else "4 → 1") in record.status["reason"]
    spec.write_text(text)
    (record,), *_ = resumed(tmp_path)
    assert forks.bits(record.folder) == whole


def test_a_finished_run_whose_spec_was_changed_is_not_taken_for_what_was_asked(tmp_path):
    (begun,) = studies.run_study(study(), tmp_path, threads=1)
    (begun.folder / "spec.toml").write_text(
        begun.folder.joinpath("spec.toml").read_text().replace("epochs = 4", "epochs = 1")
    )
    store.write_manifest(begun.folder)
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    assert record.folder != begun.folder


def test_changed_data_are_refused(tmp_path):
    path = tmp_path / "mine.npz"
    generator = np.random.default_rng(0)
    arrays = {
        "train_images": generator.integers(0, 256, (200, 8, 8), dtype=np.uint8),
        "train_labels": np.arange(200) % 10,
    }
    arrays |= {"test_images": arrays["train_images"][:50], "test_labels": arrays["train_labels"][:50]}
    np.savez(path, **arrays)
    wanted = Study(MLP, str(path), "numpy", recipe=RECIPE, name="lab")
    interrupted(tmp_path / "runs", 2, wanted)
    arrays["train_images"] = 255 - arrays["train_images"]
    np.savez(path, **arrays)
    (record,), *_ = resumed(tmp_path / "runs")
    assert (record.status["status"], record.status["code"]) == ("failed", "LS-506")
    assert "no longer what the run was begun with" in record.status["reason"]
    assert "train_images" in record.status["reason"]
    assert not (record.folder / "metrics.json").exists()


def test_a_changed_study_says_what_changed(tmp_path):
    assert resumption.news(study(), tmp_path, 1) == [], "nothing was run before"
    studies.run_study(study(seeds=(0, 1)), tmp_path, threads=1)
    assert resumption.news(study(seeds=(0, 1)), tmp_path, 1) == []
    other = Recipe("adam 0.02", epochs=4, batch_size=32)
    assert resumption.news(study(other, seeds=(0, 1)), tmp_path, 1) == [
        "recipe.batch_size: 64 → 32 (2 runs)",
        "recipe.optimizer.learning_rate: 0.01 → 0.02 (2 runs)",
    ]
    assert resumption.news(study(seeds=(0, 1, 2)), tmp_path, 1) == [], "one more is no change of those that are there"
    assert resumption.news(study(question="why?"), tmp_path, 1) == [], "a question is no content"


# ---------------------------------------------------------------------------------------------------- which runs wait


def test_finished_runs_wait_for_nothing(tmp_path):
    studies.run_study(study(), tmp_path, threads=1)
    assert resumed(tmp_path) == ([], [], [])


@pytest.mark.parametrize("start", [resumed, lambda folder: studies.run_study(study(), folder, threads=1)])
def test_the_lock_of_a_process_that_was_killed_after_its_last_word_is_gone_after_the_next_start(start, tmp_path):
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    (record.folder / locks.NAME).write_text("{}")
    start(tmp_path)
    assert store.find_runs([tmp_path])[0].folder == record.folder
    assert not (record.folder / locks.NAME).exists()


def test_a_folder_without_runs_is_told(tmp_path):
    with pytest.raises(LockstepError, match=r"LS-505 .*no run folder here"):
        resumption.unfinished([tmp_path])


@pytest.mark.parametrize("damage", ["{rubbish", None])
@pytest.mark.parametrize(
    "start", [resumed, lambda folder: (studies.run_study(study(), folder, threads=1), [])], ids=["resume", "run"]
)
def test_a_run_without_a_status_goes_on_from_its_checkpoint(start, damage, whole, tmp_path):
    status = interrupted(tmp_path, 2).folder / "status.json"
    status.unlink() if damage is None else status.write_text(damage)
    (record,), problems, *_ = start(tmp_path)
    assert not problems
    assert record.folder == status.parent
    assert event_of(record)["epoch"] == 2
    assert forks.bits(record.folder) == whole


@pytest.mark.parametrize("code", ["LS-501", "LS-502", "LS-503"])
def test_a_run_that_wanted_room_is_begun_again_in_its_folder(code, whole, tmp_path):
    failing = forks.Failing(LockstepError(code, "there is none"))
    (first,) = studies.run_study(study(), tmp_path, threads=1, place=failing)
    assert first.status["code"] == code
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    assert record.folder == first.folder
    assert forks.bits(record.folder) == whole


def test_a_run_whose_data_are_gone_does_not_hold_the_others_up(tmp_path, monkeypatch):
    monkeypatch.delenv("LOCKSTEP_DATA", raising=False)
    path = tmp_path / "mine.npz"
    images, labels = np.zeros((200, 8, 8), np.uint8), np.arange(200) % 10
    np.savez(path, train_images=images, train_labels=labels, test_images=images[:50], test_labels=labels[:50])
    interrupted(tmp_path, 1, Study(MLP, str(path), "numpy", recipe=RECIPE, name="lab"))
    interrupted(tmp_path, 1, study(seeds=6))
    good, gone = sorted(store.find_runs([tmp_path]), key=lambda record: "mine" in record.folder.name)
    assert ("digits" in good.folder.name, "mine" in gone.folder.name) == (True, True)
    path.unlink()
    done = CliRunner().invoke(app, ["resume", str(tmp_path)])
    assert isinstance(done.exception, LockstepError)
    assert done.exception.code.startswith("LS-3")
    assert Record(good.folder).is_finished
    assert not Record(gone.folder).is_finished


def test_a_run_that_is_finished_in_between_is_taken_as_it_is(tmp_path, monkeypatch):
    begun = interrupted(tmp_path, 2)
    take = locks.take

    def later(folder):
        """The lock, after somebody else had it and came to the end."""
        monkeypatch.setattr(locks, "take", take)
        resumed(tmp_path)
        return take(folder)

    monkeypatch.setattr(locks, "take", later)
    told = []
    (record,) = studies.run_study(study(), tmp_path, lambda run, event: told.append(event), threads=1)
    assert record.folder == begun.folder
    assert [event["event"] for event in told] == ["end"]
    assert told[0]["reused"]


def test_a_report_of_before_the_last_run_is_written_again(tmp_path):
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    assert resumption.unreported([tmp_path]) == [record.folder.parent]
    page = record.folder.parent / "report.html"
    page.write_text("a page")
    assert resumption.unreported([tmp_path]) == []
    os.utime(page, (0, 0))
    assert resumption.unreported([tmp_path]) == [record.folder.parent]


def test_a_report_on_what_was_changed_afterwards_says_so(tmp_path):
    (record,) = studies.run_study(study(), tmp_path, threads=1)
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--no-figures"])
    assert (done.exit_code, "warning" in done.output) == (0, False), done.output
    with open(record.folder / "predictions.npz", "ab") as file:
        file.write(b"x")
    done = CliRunner().invoke(app, ["report", str(tmp_path), "--no-figures"])
    assert done.exit_code == 0
    assert f"warning: {record.folder}/predictions.npz: " in done.output


@pytest.mark.parametrize("name", ["status.json", "spec.toml"])
def test_a_run_that_is_too_damaged_is_named_and_the_others_go_on(name, tmp_path):
    bad = interrupted(tmp_path, 1, study(seeds=5))
    good = interrupted(tmp_path, 1, study(seeds=6))
    (bad.folder / name).write_text("{rubbish")
    if name == "status.json":
        shutil.rmtree(bad.folder / "checkpoint-1")
    records, problems, _ = resumed(tmp_path)
    assert [record.folder for record in records] == [good.folder]
    (problem,) = problems
    assert (problem.code, problem.where) == ("LS-505", str(bad.folder / name))
    assert (bad.folder / name).read_text() == "{rubbish"


def finished(folder) -> Record:
    """A run that came to its end."""
    (record,) = studies.run_study(study(), folder, silent, 1)
    assert record.is_finished
    return record


def rubbish(path):
    path.write_text("{rubbish")


def gone(path):
    path.unlink()


def edited(path):
    path.write_text(path.read_text().replace("finished", "running", 1))


def line_ends(path):
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def contents(folder) -> dict:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["status.json", "manifest.json", "spec.toml", "checkpoint-4/manifest.json"])
@pytest.mark.parametrize("harm", [rubbish, gone, edited, line_ends])
def test_resume_never_begins_anew_where_a_run_came_to_its_end(name, harm, tmp_path):
    record = finished(tmp_path)
    harm(record.folder / name)
    before = contents(record.folder)
    records, problems, _ = resumed(tmp_path)
    assert records == []
    assert contents(record.folder) == before
    assert [problem.code for problem in problems] == (
        ["LS-505"] if name == "status.json" and harm is not line_ends else []
    )
    if problems:
        assert "a run came to its end here, and its status.json cannot be used" in problems[0].message


def test_resume_never_begins_anew_where_results_lie_and_no_checkpoint_can_be_used(tmp_path):
    record = finished(tmp_path)
    store.write_status(record.folder, "running", threads=1)
    rubbish(record.folder / "checkpoint-4" / "manifest.json")
    before = contents(record.folder)
    records, problems, _ = resumed(tmp_path)
    assert (records, contents(record.folder)) == ([], before)
    assert "a run came to its end here, and no checkpoint can be used" in problems[0].message
    (again,) = studies.run_study(study(), tmp_path, silent, 1)  # nor does `run`: it takes a folder of its own
    assert again.folder.name == f"{record.folder.name}-2"
    assert contents(record.folder) == before


@pytest.mark.parametrize("harm", [rubbish, gone])
def test_run_never_begins_anew_in_a_finished_folder_whose_status_is_lost(harm, tmp_path):
    record = finished(tmp_path)
    harm(record.folder / "status.json")
    before = contents(record.folder)
    (again,) = studies.run_study(study(), tmp_path, silent, 1)
    assert again.folder != record.folder
    assert contents(record.folder) == before


def test_a_run_whose_line_ends_were_changed_is_taken_as_it_is(tmp_path):
    record = finished(tmp_path)
    for path in record.folder.rglob("*"):
        if path.suffix in (".toml", ".json", ".jsonl"):
            line_ends(path)
    (again,) = studies.run_study(study(), tmp_path, silent, 1)
    assert again.folder == record.folder


def test_runs_tells_git_to_change_no_line_end(tmp_path):
    finished(tmp_path / "runs")
    assert "* -text" in (tmp_path / "runs" / ".gitattributes").read_text()
    assert not (tmp_path / "runs" / "lab" / ".gitattributes").exists()
    (tmp_path / "mine").mkdir()  # a folder of somebody's own, about which nothing is said but of what was made in it
    finished(tmp_path / "mine")
    assert not (tmp_path / "mine" / ".gitattributes").exists()
    assert "* -text" in (tmp_path / "mine" / "lab" / ".gitattributes").read_text()


def test_git_leaves_the_line_ends_of_runs_alone(tmp_path):
    need(shutil.which("git") is not None, "git")

    def told(*words):
        settings = ["-c", "core.autocrlf=true", "-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *settings, *words], check=True, capture_output=True)

    record = finished(tmp_path / "runs")
    (tmp_path / "other.json").write_text("{\n}\n")
    before = contents(record.folder)
    told("init")
    told("add", ".")
    told("commit", "-m", "runs")
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "other.json").unlink()
    told("checkout", "--", ".")
    assert contents(record.folder) == before
    assert b"\r\n" in (tmp_path / "other.json").read_bytes(), "git would have"


def test_a_run_that_another_process_works_on_is_left_to_it(tmp_path):
    taken = interrupted(tmp_path, 1, study(seeds=5))
    free = interrupted(tmp_path, 1, study(seeds=6))
    with locks.take(taken.folder):
        records, problems, _ = resumed(tmp_path)
        with pytest.raises(LockstepError, match=rf"LS-504 .*process {os.getpid()} .*works on this run"):
            studies.run_study(study(seeds=5), tmp_path, threads=1)
    assert [record.folder for record in records] == [free.folder]
    (problem,) = problems
    assert problem.code == "LS-504"
    assert str(os.getpid()) in problem.message


def test_a_run_that_another_process_finished_meanwhile_is_taken_as_it_is(tmp_path):
    interrupted(tmp_path, 2)
    waiting, *_ = resumption.unfinished([tmp_path])
    (record,), *_ = resumed(tmp_path)
    before = forks.bits(record.folder)
    written = (record.folder / "metrics.json").stat().st_mtime_ns
    time.sleep(0.01)
    (again,), problems = resumption.resume(waiting)
    assert not problems
    assert forks.bits(again.folder) == before
    assert (again.folder / "metrics.json").stat().st_mtime_ns == written
