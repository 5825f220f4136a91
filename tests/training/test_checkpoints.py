"""Checkpoints: what comes back is what was saved, what is damaged is not believed, and what is not ours is refused."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest

from lockstep import LockstepError, store
from lockstep.files import intake
from lockstep.machine.clocks import Clocks
from lockstep.training import checkpoints
from support import forks

SPEC = 'name = "lab"\nseeds = [3]\n[recipe]\nepochs = 7\nbatch_size = 31\n'
ENVIRONMENT = {
    "lockstep": "0.1.0", "git_revision": None, "python": "3.11.7", "versions": {"numpy": "2.1.0"}, "platform": "Linux",
    "cpu": "one of them", "arithmetic": "some", "device": "cpu",
    "threads": {"asked": 2, "obtained": 2, "pools": [{"num_threads": 1}]},
    "load": [0.5], "dataset": {"name": "digits", "hashes": {"images": "ab", "labels": "cd"}},
}  # fmt: skip


class Model:
    """Weights and slots that say of which epoch they are."""

    def __init__(self, epoch=0):
        self.epoch, self.restored = epoch, None

    def weights(self):
        return {"1_dense/kernel": np.full((7, 5), 1 / (self.epoch + 3), np.float32)}

    def state(self):
        return {"1_dense/kernel/first_moment": np.full((7, 5), self.epoch, np.float64), "step": np.array(11)}

    def restore(self, weights, state):
        self.restored = (weights, state)

    def wait(self):
        pass


def after(epochs, best=None) -> checkpoints.Progress:
    """Progress after so many epochs of three steps."""
    history = [
        {"event": "epoch", "epoch": epoch + 1, "train_loss": 1 / (epoch + 3), "train_seconds": 0.5}
        for epoch in range(epochs)
    ]
    progress = checkpoints.Progress(history, np.arange(9.0 * epochs).reshape(3 * epochs, 3).T / 7)
    progress.seconds = {"train": 0.1 + epochs, "total": 9.0}
    if best is not None:
        progress.best_epoch, progress.best = best, -1 / 3
        progress.kept = (Model(best).weights(), Model(best).state())
    return progress


def saved(folder, epochs, best=None, spec=SPEC):
    return checkpoints.save(folder, spec, ENVIRONMENT, after(epochs, best), *both(epochs))


def both(epoch):
    return Model(epoch).weights(), Model(epoch).state()


def same(found, wanted) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def refused(function, code, *words) -> str:
    with pytest.raises(LockstepError) as raised:
        function()
    assert raised.value.code == code, raised.value
    for word in words:
        assert word in str(raised.value)
    return str(raised.value)


def names(folder) -> list[str]:
    return sorted((path.name for path in folder.glob("checkpoint-*")), key=lambda name: int(name[11:]))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path


def keeper(run, **environment) -> checkpoints.Keeper:
    return checkpoints.Keeper(run, {**ENVIRONMENT, **environment})


def take_epochs(keeper, until, best=lambda epoch: None, tell=True) -> None:
    """What a worker does, from where the keeper is."""
    model, clocks = Model(), Clocks()
    keeper.resume(model, clocks)
    for epoch in range(keeper.progress.epoch + 1, until + 1):
        model.epoch = epoch
        then = after(epoch, best(epoch))
        for name in ("history", "steps", "best_epoch", "best", "kept"):
            setattr(keeper.progress, name, getattr(then, name))
        keeper.save(model, clocks)
        if tell:
            store.append_event(keeper.folder / "events.jsonl", then.history[-1])


# ---------------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("best", [None, 2, 5], ids=["no best", "an earlier best", "the best"])
def test_a_run_comes_back_bit_for_bit(best, run):
    point = checkpoints.read(saved(run, 5, best), SPEC)
    wanted = after(5, best)
    same(point.weights, both(5)[0])
    same(point.state, both(5)[1])
    assert point.progress.history == wanted.history
    np.testing.assert_array_equal(point.progress.steps, wanted.steps, strict=True)
    assert (point.progress.best_epoch, point.progress.best) == (wanted.best_epoch, wanted.best)
    assert point.progress.seconds == wanted.seconds
    assert point.progress.epoch == 5
    if best is None:
        assert point.progress.kept is None
    else:
        for found, kept in zip(point.progress.kept, both(best), strict=True):
            same(found, kept)
    assert point.environment["data"] == ENVIRONMENT["dataset"]["hashes"]


def test_the_best_weights_are_not_written_twice(run):
    assert not list(saved(run, 5, 5).glob("best-*"))
    assert len(list(saved(run, 6, 5).glob("best-*.safetensors"))) == 2


def test_a_number_that_is_none_is_no_obstacle(run):
    progress = after(2)
    progress.history[1]["train_loss"] = math.nan
    progress.steps[0, 4] = math.nan
    point = checkpoints.read(checkpoints.save(run, SPEC, ENVIRONMENT, progress, *both(2)), SPEC)
    assert point.progress.history[1]["train_loss"] is None
    assert point.progress.best == -math.inf
    np.testing.assert_array_equal(point.progress.steps, progress.steps, strict=True)


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_and_the_one_before(run, monkeypatch):
    saved(run, 2)
    write = store.write_bytes

    def fail(path, content, sync_name=True):
        if path.name == "state.safetensors":
            raise LockstepError("LS-502", "the disk is full", where=str(path))
        write(path, content, sync_name)

    with monkeypatch.context() as disk:
        disk.setattr("lockstep.store.checkpoint.write_bytes", fail)
        refused(lambda: saved(run, 3), "LS-502", "checkpoint-3")
    assert names(run) == ["checkpoint-2"]
    assert checkpoints.newest(run, SPEC).progress.epoch == 2


# ---------------------------------------------------------------------------------------------- what is not believed


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGE = {
    "weights": lambda place: flip(place / "weights.safetensors"),
    "state": lambda place: flip(place / "state.safetensors"),
    "steps": lambda place: flip(place / "steps.safetensors"),
    "best": lambda place: flip(place / "best-weights.safetensors"),
    "a space in the manifest": lambda place: flip(place / "manifest.json", 1),
    "the manifest's last byte": lambda place: flip(place / "manifest.json"),
    "a number in the manifest": lambda place: (place / "manifest.json").write_bytes(
        (place / "manifest.json").read_bytes().replace(b'"best_epoch": 2', b'"best_epoch": 3')
    ),
    "longer weights": lambda place: (place / "weights.safetensors").open("ab").write(b"\0"),
    "no steps": lambda place: (place / "steps.safetensors").unlink(),
    "no manifest": lambda place: (place / "manifest.json").unlink(),
    "another epoch's name": lambda place: place.rename(place.with_name("checkpoint-6")),
    "a file in its place": lambda place: (
        [path.unlink() for path in place.iterdir()], place.rmdir(), place.write_bytes(b"x")
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:unclosed file")
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_damaged_is_skipped_and_said_aloud(damage, run):
    saved(run, 4, 2)
    place = saved(run, 5, 2)
    DAMAGE[damage](place)
    told = []
    assert checkpoints.newest(run, SPEC, told.append).progress.epoch == 4
    assert len(told) == 1
    assert told[0].startswith(("checkpoint-5 is not used: ", "checkpoint-6 is not used: "))
    assert "cannot be used" not in told[0], "once is enough"
    assert place.exists() or damage == "another epoch's name"


@pytest.mark.parametrize("damage", ["weights", "state", "steps", "best"])
def test_without_hashes_damage_would_be_believed(damage, run, monkeypatch):
    """The check above can fail."""
    monkeypatch.setattr(intake, "checked", forks.unchecked)
    DAMAGE[damage](saved(run, 5, 2))
    assert checkpoints.newest(run, SPEC).progress.epoch == 5


def test_nothing_that_can_be_used_is_none(run):
    told = []
    assert checkpoints.newest(run, SPEC, told.append) is None
    assert told == []
    flip(saved(run, 1) / "weights.safetensors")
    assert checkpoints.newest(run, SPEC, told.append) is None
    assert told == [f"checkpoint-1 is not used: checkpoint-1/weights.safetensors: {intake.CHANGED}"]


def test_the_tenth_is_newer_than_the_ninth(run):
    for epoch in (9, 10, 2):
        saved(run, epoch)
    assert checkpoints.newest(run, SPEC).progress.epoch == 10


def test_a_file_of_another_size_is_not_read(run):
    place = saved(run, 1)
    with open(place / "weights.safetensors", "r+b") as file:
        file.truncate(2**40)  # a hole: it takes no room on the disk
    refused(lambda: checkpoints.read(place, SPEC), "LS-505", "1,099,511,627,776 bytes")


def test_weights_alone_are_to_read_and_not_to_go_on_from(run):
    place = store.write_checkpoint(run, 3, *both(3))
    refused(lambda: checkpoints.read(place, SPEC), "LS-505", "weights alone")


FORGED = {
    "no spec": {"spec": None},
    "no history": {"history": None},
    "a row too few": {"history": []},
    "history of another kind": {"history": 3},
    "no steps": {"files": {}},
    "another environment": {"environment": 3},
    "best of nothing": {"best": "x", "keeps_best": True, "best_epoch": 1},
    "files of another kind": {"files": {"weights.safetensors": 3}},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_manifest_that_was_made_up_is_an_error_and_no_crash(forged, run):
    path = saved(run, 2) / "manifest.json"
    manifest = {**json.loads(path.read_text()), **FORGED[forged]}
    store.write_json(path, {**manifest, "seal": store.seal(manifest)})
    with pytest.raises(LockstepError, match="LS-50"):
        checkpoints.read(path.parent, SPEC)


# -------------------------------------------------------------------------------------------------- whose run it is


def test_another_spec_is_refused_and_what_differs_is_said(run):
    saved(run, 2)
    now = SPEC.replace("epochs = 7", "epochs = 9")
    said = refused(lambda: checkpoints.newest(run, now), "LS-506", "recipe.epochs: 7 → 9", "run the study anew")
    assert "batch_size" not in said


def test_another_runs_checkpoint_is_passed_over_where_there_is_one_of_this_run(run):
    saved(run, 2)
    saved(run, 3, spec=SPEC.replace("[3]", "[4]"))
    told = []
    assert checkpoints.newest(run, SPEC, told.append).progress.epoch == 2
    assert "seeds: 4 → 3" in told[0]


@pytest.mark.parametrize(
    ("before", "now", "wanted"),
    [
        ("recipe.epochs = 3", "recipe.epochs = 5", ["recipe.epochs: 3 → 5"]),
        ("a = 1\nb = 2", "b = 2", ["a: 1 → nothing"]),
        ('name = "a"\nquestion = "b"', 'name = "c"', []),
        ('n.x = ["a", "b"]', 'n.x = ["a", "c", "d"]', ["n.x[1]: b → c", "n.x[2]: nothing → d"]),
        ("a = [1]", "a = [2]", ["a: 1 → 2"]),
        ('[[l]]\nk = "a"\n[[l]]\nk = "b"', '[[l]]\nk = "a"\n[[l]]\nk = "c"', ["l[1].k: b → c"]),
        ("a = 1", "a = ", []),
    ],
)
def test_differences_are_told_key_by_key(before, now, wanted):
    assert checkpoints.differences(before, now) == wanted


def test_a_long_value_is_told_in_short():
    (said,) = checkpoints.differences(f'a = "{"x" * 500}"', "a = 1")
    assert said.endswith("x… → 1")
    assert len(said) < 80


# ------------------------------------------------------------------------------------------------------ in a worker


def test_the_last_two_and_the_best_stay(run):
    take_epochs(keeper(run), 6, best=lambda epoch: min(epoch, 2))
    assert names(run) == ["checkpoint-2", "checkpoint-5", "checkpoint-6"]
    take_epochs(keeper(run), 7, best=lambda epoch: 7)
    assert names(run) == ["checkpoint-6", "checkpoint-7"]


def test_a_run_goes_on_where_it_was(run):
    take_epochs(keeper(run), 3, best=lambda epoch: 1)
    again, model, clocks = keeper(run), Model(), Clocks()
    assert again.progress.epoch == 3
    again.resume(model, clocks)
    same(model.restored[0], both(3)[0])
    same(model.restored[1], both(3)[1])
    assert again.progress.parts == 2
    assert clocks.seconds["checkpoint"] > 0
    assert again.changes() == []
    assert again.announce() == {
        "event": "resumed", "epoch": 3, "part": 2, "lost": [], "warnings": [], "changed": []
    }  # fmt: skip


def test_the_clocks_of_all_parts_add_up(run):
    first, clocks = keeper(run), Clocks()
    clocks.seconds["train"] = 2.5
    first.progress.history = after(1).history
    first.progress.steps = after(1).steps
    first.save(Model(1), clocks)
    second, later = keeper(run), Clocks()
    later.seconds["train"] = 1.0
    second.resume(Model(), later)
    assert later.seconds["train"] == 3.5
    assert later.total() >= first.progress.seconds["total"] > 0


def test_a_run_that_begins_has_nothing_to_announce(run):
    first, model = keeper(run), Model()
    first.resume(model, Clocks())
    assert first.announce() is None
    assert model.restored is None
    assert first.described() is first.environment


def test_what_is_lost_is_said_and_taken_out_of_the_events(run):
    take_epochs(keeper(run), 4)
    store.append_event(run / "events.jsonl", {"event": "phase", "phase": "train"})
    with open(run / "events.jsonl", "a") as file:
        file.write('{"event": "epo')
    flip(run / "checkpoint-4" / "weights.safetensors")
    again = keeper(run)
    told = again.announce()
    assert (told["epoch"], told["lost"]) == (3, [4])
    assert "checkpoint-4 is not used" in told["warnings"][0]
    events = store.read_events(run / "events.jsonl")
    assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3]
    assert {"event": "phase", "phase": "train"} in events
    assert (run / "checkpoint-4").exists(), "until that epoch is saved again, whoever wants to can look at it"
    take_epochs(again, 4)
    assert checkpoints.newest(run, SPEC).progress.epoch == 4


def test_half_written_files_go_when_a_run_goes_on(run):
    take_epochs(keeper(run), 2)
    strays = [run / ".events.jsonl.1.part", run / "checkpoint-2" / ".manifest.json.77.part"]
    for path in strays:
        path.write_bytes(b"half")
    (run / "checkpoint-3").mkdir()
    (run / "checkpoint-3" / "weights.safetensors").write_bytes(b"half")
    again = keeper(run)
    assert not any(path.exists() for path in strays)
    assert again.progress.epoch == 2
    take_epochs(again, 4)
    assert names(run) == ["checkpoint-3", "checkpoint-4"]
    (run / "checkpoint-3" / "manifest.json").unlink()
    (run / "checkpoint-4-onnx").mkdir()
    for said, stay in ((5, ["3", "4"]), (None, ["3", "4"]), ("4", ["3", "4"]), (4, ["4"]), (4, ["4"])):
        store.write_json(run / "metrics.json", {"weights_of_epoch": said})
        checkpoints.leave_last(run)
        found = sorted(path.name for path in run.glob("checkpoint-*"))
        assert found == [*(f"checkpoint-{epoch}" for epoch in stay), "checkpoint-4-onnx"], said


def test_a_link_in_place_of_a_checkpoint_is_left_with_what_it_leads_to(run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    saved(run, 1).rename(elsewhere)
    (run / "checkpoint-1").symlink_to(elsewhere)
    before = sorted(path.name for path in elsewhere.iterdir())
    checkpoints.remove(run / "checkpoint-1")
    assert sorted(path.name for path in elsewhere.iterdir()) == before


CHANGES = {
    "threads": ({"asked": 1, "obtained": 1, "pools": []}, ["threads.asked: 2 → 1", "threads.obtained: 2 → 1"]),
    "versions": ({"numpy": "2.2.0"}, ["versions.numpy: 2.1.0 → 2.2.0"]),
    "lockstep": ("0.2.0", ["lockstep: 0.1.0 → 0.2.0"]),
    "python": ("3.12.1", ["python: 3.11.7 → 3.12.1"]),
    "cpu": ("another", ["cpu: one of them → another"]),
    "arithmetic": ("others", ["arithmetic: some → others"]),
    "device": ("cuda", ["device: cpu → cuda"]),
}


@pytest.mark.parametrize("key", CHANGES)
def test_what_may_change_the_last_bits_is_said_and_written_down(key, run):
    first = keeper(run)
    store.write_json(run / "environment.json", first.described())
    take_epochs(first, 1)
    value, wanted = CHANGES[key]
    again = keeper(run, **{key: value})
    assert again.announce()["changed"] == wanted
    described = again.described()
    assert described[key] == ENVIRONMENT[key], "what it was begun with"
    assert described["resumed"][0]["changed"] == wanted
    assert described["resumed"][0][key] == value
    assert described["resumed"][0]["after_epoch"] == 1


@pytest.mark.parametrize("change", [{"load": [9.0]}, {"threads": {"asked": 2, "obtained": 2, "pools": []}}], ids=str)
def test_what_changes_no_bits_is_not_said(change, run):
    take_epochs(keeper(run), 1)
    assert keeper(run, **change).changes() == []


def test_other_data_are_refused(run):
    take_epochs(keeper(run), 1)
    other = {"name": "digits", "hashes": {"images": "ab", "labels": "other"}}
    said = refused(lambda: keeper(run, dataset=other), "LS-506", "digits", "no longer what the run was begun with")
    assert ": labels" in said
    assert "images" not in said
    assert keeper(run).progress.epoch == 1, "and nothing is lost"


def test_a_run_ends_with_its_best_epochs_checkpoint_whole_or_anew(run):
    last = keeper(run)
    take_epochs(last, 5, best=lambda epoch: min(epoch, 2))
    before = {path.name: path.read_bytes() for path in (run / "checkpoint-2").glob("*.safetensors")}
    assert last.finish(2, Model(2)) == run / "checkpoint-2"
    flip(run / "checkpoint-2" / "state.safetensors")
    assert last.finish(2, Model(2)) == run / "checkpoint-2"
    found = {path.name: path.read_bytes() for path in (run / "checkpoint-2").glob("*.safetensors")}
    assert found == before
    assert checkpoints.read(run / "checkpoint-2", SPEC).progress.epoch == 2


def test_a_whole_checkpoint_that_cannot_be_read_for_a_moment_is_not_given_up(run, monkeypatch):
    last = keeper(run)
    take_epochs(last, 2)
    before = {path.name: path.read_bytes() for path in (run / "checkpoint-2").iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no")))
        patch.setattr(store, "write_checkpoint", lambda *_: pytest.fail("it was given up"))
        assert last.finish(2, Model(2)) == run / "checkpoint-2"
    assert {path.name: path.read_bytes() for path in (run / "checkpoint-2").iterdir()} == before


def test_a_checkpoint_that_is_removed_half_way_is_none(run, monkeypatch):
    saved(run, 1)
    monkeypatch.setattr("shutil.rmtree", lambda path: None)  # killed here
    checkpoints.remove(run / "checkpoint-1")
    assert (run / "checkpoint-1" / "weights.safetensors").exists()
    assert checkpoints.newest(run, SPEC) is None
