"""Runs that are trained together end with the bits of those that are trained alone, each in its own folder."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep import EarlyStopping, Recipe, Study, data, report, store
from lockstep import study as studies
from lockstep.backends import numpy as backend
from lockstep.backends.numpy import stack
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.machine import contention
from lockstep.spec import Network
from lockstep.study import crews, resumption, runs
from lockstep.study.places import local
from lockstep.training import checkpoints, crew
from support import forks

SHAPE, N, BATCH = (6, 5, 2), 43, 8  # the last batch is a short one
LAYERS = ["flatten", "dense 17", "relu", "dense 11", "relu", "dense 4"]


def model_of(seed: int, layers=LAYERS, dtype="float32", threads=2, **recipe) -> backend.Model:
    """A model with images of its own."""
    network, generator = Network(list(layers)), np.random.default_rng(seed)
    mean, scale = np.array([20.0 + seed, 90.0]), np.array([1 / 255, 1 / 99])
    wanted = Recipe(**{"optimizer": "adam 0.01", "batch_size": BATCH, "epochs": 3, **recipe})
    plan = Plan(network, SHAPE, wanted, seed, mean, scale, -(-N // BATCH), dtype, threads=threads)
    model = backend.build(plan, initial_weights(network, SHAPE, seed, dtype))
    model.place(generator.integers(0, 256, (N, *SHAPE), dtype=np.uint8), generator.integers(0, 4, N))
    return model


def orders(n: int, epoch: int) -> list[np.ndarray]:
    return [np.random.default_rng([member, epoch]).permutation(N) for member in range(n)]


def differing(alone: list[backend.Model], crewed: list[backend.Model]) -> Iterator[str]:
    """Every array, epoch by epoch, that has other bits in a model that is trained with others."""
    pack = stack.Together(crewed)
    for epoch in range(2):
        wanted = [model.train_epoch(order) for model, order in zip(alone, orders(len(alone), epoch), strict=True)]
        found = pack.train_epoch(orders(len(alone), epoch))
        for index, (one, other) in enumerate(zip(wanted, found, strict=True)):
            if one.tobytes() != other.tobytes():
                yield f"results of {index}"
    for index, models in enumerate(zip(alone, crewed, strict=True)):
        arrays = [{**model.weights(), **model.state()} for model in models]
        for name, value in arrays[0].items():
            if value.tobytes() != arrays[1][name].tobytes():
                yield f"{name} of {index}"


@pytest.mark.parametrize(
    "what",
    [
        {"optimizer": "sgd 0.1"}, {"optimizer": "momentum 0.05 0.9"}, {"optimizer": "nesterov 0.05 0.9"},
        {"optimizer": "adamw 0.01"}, {"optimizer": "rmsprop 0.001"}, {"dtype": "float64"}, {"threads": 1},
        {"l2": 0.01, "clip_norm": 0.5}, {"clip_norm": 0.1, "clip_scope": "tensor"}, {"label_smoothing": 0.1},
        {"loss": "mean_squared_error"}, {"loss_reduction": "sum"}, {"schedule": "cosine"},
        {"layers": ["dropout 0.2", "tanh", "flatten", "dense 9", "dense 4"]},
        {"layers": ["flatten chw", "dense 9", "dropout 0.3", "tanh", "dense 4"]},
        {"layers": ["flatten", "dense 9 false", "sigmoid", "dense 7", "gelu", "dense 4"]},
        {"layers": ["flatten", "dense 9", "elu", "dense 7", "leaky_relu 0.1", "dense 6", "softplus", "dense 4"]},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("n", [2, 7])
def test_each_model_takes_the_steps_that_it_takes_alone_to_the_last_bit(n, what):
    alone, crewed = ([model_of(seed, **what) for seed in range(n)] for _ in range(2))
    assert list(differing(alone, crewed)) == []


@pytest.mark.parametrize("key", ["optimizer", "l2", "clip_norm"])
def test_models_may_differ_in_what_is_done_with_their_gradients(key):
    values: dict[str, list] = {
        "optimizer": ["adam 0.01", "adam 0.001", "sgd 0.1"],
        "l2": [0, 0.1, 0.01],
        "clip_norm": [None, 1, 0.01],
    }
    alone, crewed = ([model_of(3, **{key: value}) for value in values[key]] for _ in range(2))
    assert list(differing(alone, crewed)) == []
    assert alone[0].weights()["1_dense/kernel"].tobytes() != alone[1].weights()["1_dense/kernel"].tobytes()


@pytest.mark.parametrize("fault", ["another's mask", "another's order", "a sum over all"])
def test_a_number_that_meets_another_models_is_seen(fault, monkeypatch):
    """The two tests above can fail."""
    layers = ["flatten", "dense 9", "dropout 0.3", "relu", "dense 4"]
    alone, crewed = ([model_of(seed, layers) for seed in range(3)] for _ in range(2))
    if fault == "another's mask":
        gathered_pass = stack.Stack.begin_pass

        def with_the_firsts(self, n):
            on = gathered_pass(self, n)
            on.masks = {name: np.stack([mask[0]] * len(mask)) for name, mask in on.masks.items()}
            return on

        monkeypatch.setattr(stack.Stack, "begin_pass", with_the_firsts)
    elif fault == "another's order":
        gathered = stack.Stack.gathered
        monkeypatch.setattr(stack.Stack, "gathered", lambda self, indices: gathered(self, [indices[0]] * len(indices)))
    else:
        dense = stack.LAYERS["dense"]

        def mixed(row, x, on):
            y, backward = dense(row, x, on)
            y += 1e-6 * y.mean(0)
            return y, backward

        monkeypatch.setitem(stack.LAYERS, "dense", mixed)
    assert list(differing(alone, crewed))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"layers": ["conv2d 2 3", "flatten", "dense 4"]}, "conv2d"),
        ({"layers": ["flatten", "dense 9", "batch_norm", "dense 4"]}, "batch_norm"),
        ({"layers": ["flatten", "dense 4000", "relu", "dense 1200", "dense 4"]}, "threads busy"),
        ({"products": "tf32"}, "fast forms"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_together_says_why(what, words):
    with pytest.raises(ValueError, match=words):
        stack.Together([model_of(seed, **what) for seed in range(2)])


# ---------------------------------------------------------------------------------------------------------- of a study

MLP = {"mlp": ["flatten", "dense 16", "relu", "dropout 0.2", "dense 10"]}
RECIPE = Recipe("adam 0.01", epochs=3, batch_size=32, validation=0.2)


def study(networks=MLP, backends="numpy", recipe=RECIPE, **fields) -> Study:
    fields = {"seeds": (0, 1, 2), "grid": {"recipe.optimizer.learning_rate": [0.03, 0.001]}, **fields}
    return Study(networks, "digits", backends, recipe=recipe, train_size=200, **{"name": "lab", **fields})


def done(folder, is_together, wanted=None, tell=lambda run, event: None):
    records = studies.run_study(wanted or study(), folder, tell, 2, is_together=is_together)
    assert all(record.is_finished for record in records), [record.status for record in records]
    return records


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        Recipe("adam 0.03", epochs=9, batch_size=32, validation=0.2, early_stopping=EarlyStopping(patience=1)),
    ],
    ids=["to the end", "early stopping"],
)
def test_a_studys_runs_are_those_of_runs_alone(recipe, tmp_path, monkeypatch):
    heard = []
    crewed = done(tmp_path / "together", True, study(recipe=recipe), lambda run, event: heard.append((run.seed, event)))
    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    alone = done(tmp_path / "alone", False, study(recipe=recipe))
    assert [forks.bits(record.folder) for record in crewed] == [forks.bits(record.folder) for record in alone]
    assert [record.folder.name for record in crewed] == [record.folder.name for record in alone]
    assert [record.timing["together"] for record in crewed] == [6] * 6
    assert [record.timing["together"] for record in alone] == [1] * 6
    if recipe.early_stopping:
        assert len({record.metrics["epochs"] for record in crewed}) > 1, "nobody left before the others"
    epochs = [(seed, event["epoch"]) for seed, event in heard if event["event"] == "epoch"]
    assert epochs[:6] == [(seed, 1) for seed in (0, 1, 2) * 2], "the epochs of all are taken together"
    again = done(tmp_path / "together", False, study(recipe=recipe))
    assert [record.folder for record in again] == [record.folder for record in crewed], "they are not repeated"
    page = report.write_report(crewed, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "runs were trained together with others in one process" in page
    page = report.write_report(alone, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "trained together with others" not in page


def test_what_was_ended_on_the_way_goes_on_together_or_alone_to_the_same_bits(tmp_path, monkeypatch):
    def ended(run, event):
        if event["event"] == "epoch" and (run.seed, event["epoch"]) == (1, 2):
            raise KeyboardInterrupt

    whole = [forks.bits(record.folder) for record in done(tmp_path / "whole", True)]
    for name in ("together", "alone"):
        with pytest.raises(KeyboardInterrupt):
            done(tmp_path / name, True, tell=ended)
        assert {record.status["reason"] for record in store.find_runs([tmp_path / name])} == {store.INTERRUPTED}
    assert [forks.bits(record.folder) for record in done(tmp_path / "together", True)] == whole
    monkeypatch.setattr(local, "HERE", forks.InThisProcess())
    waiting, left, problems = resumption.unfinished([tmp_path / "alone"])
    records, held = resumption.resume(waiting)
    assert (left, problems, held) == ([], [], [])
    assert sorted(map(str, (forks.bits(record.folder) for record in records))) == sorted(map(str, whole))
    assert {record.timing["together"] for record in records} == {6}, "a part of their times is a share"


def begun(folder, n=3) -> list:
    """Folders of runs that have a spec and a status, as a worker finds them."""
    wanted, places = study(grid={}, seeds=tuple(range(n))), []
    store.make_folder(folder)
    for run in wanted.runs():
        found = runs.begin(run, wanted, folder, contention.Threads(2), again=False)
        store.write_status(found.folder, "running", threads=2)
        places.append(found.folder)
        found.lock.__exit__()
    return places


def reporter(places):
    return lambda index: lambda event: store.append_event(places[index] / "events.jsonl", event)


@pytest.mark.parametrize("when", ["before its first epoch", "after its first epoch"])
def test_a_run_that_fails_leaves_the_others_to_go_on(when, tmp_path, monkeypatch):
    places = begun(tmp_path)
    if when == "before its first epoch":
        (places[1] / "spec.toml").write_text("nonsense = ", encoding="utf-8")
    else:
        save = checkpoints.Keeper.save

        def failing(self, model, clocks):
            if self.folder == places[1]:
                raise OSError("the disk is full")
            save(self, model, clocks)

        monkeypatch.setattr(checkpoints.Keeper, "save", failing)
    assert crew.train(places, 2, reporter(places)) == 1
    assert [store.read_status(place)["status"] for place in places] == ["finished", "failed", "finished"]
    assert ("disk is full" in store.read_status(places[1])["reason"]) == (when == "after its first epoch")
    assert [store.Record(place).metrics["epochs"] for place in places[::2]] == [3, 3]


def test_what_fails_in_an_epoch_of_all_fails_all_of_them(tmp_path, monkeypatch):
    places = begun(tmp_path)
    monkeypatch.setattr(stack.Together, "train_epoch", lambda self, orders: 1 / 0)
    assert crew.train(places, 2, reporter(places)) == 3
    assert {store.read_status(place)["code"] for place in places} == {"LS-403"}


def test_a_worker_that_dies_takes_no_run_for_done(tmp_path, monkeypatch):
    def killed(run, event):
        if event["event"] == "epoch" and (run.seed, event["epoch"]) == (1, 2):
            subprocess.run(["pkill", "-9", "-f", f"lockstep.training.crew.*{tmp_path}"], check=True)

    records = studies.run_study(study(grid={}), tmp_path, killed, 2, is_together=True)
    assert {record.status["code"] for record in records} <= {"LS-402", "LS-503"}
    assert all(checked.is_finished for checked in done(tmp_path, True, study(grid={})))
    assert not list(tmp_path.glob("lab/*/lock"))


def test_who_is_trained_together_and_who_is_not():
    networks = {**MLP, "cnn": ["conv2d 2 3", "flatten", "dense 10"]}
    runs = study(networks, ["numpy", "torch"], seeds=(0, 1), dtype=("float32", "float64")).runs()
    found = crews.crews(runs, 2)
    assert sorted(index for one in found for index in one) == list(range(len(runs)))
    for one in found:
        kinds = {(runs[index].network_name, runs[index].backend, runs[index].dtype) for index in one}
        assert len(kinds) == 1
        assert len(one) == (4 if next(iter(kinds))[:2] == ("mlp", "numpy") else 1)
    assert crews.alone(runs, 2) == [
        "mlp in torch: trained by itself, 8 of 8: only NumPy trains runs together",
        "cnn in numpy: trained by itself, 8 of 8: it has conv2d, and only dense layers gain from it",
        "cnn in torch: trained by itself, 8 of 8: only NumPy trains runs together",
    ]
    sizes = study(
        networks={"mlp": ["flatten", "dense 64", "relu", "dense 10"]}, grid={"recipe.batch_size": [32, 16384]}
    )
    assert crews.alone(sizes.runs(), 2) == [
        "mlp in numpy: trained by itself, 3 of 6: it is large enough to keep all threads busy by itself"
    ]
    assert crews.alone(study(seeds=(0,), grid={}).runs(), 2) == [
        "mlp in numpy: trained by itself, 1 of 1: there is no other of its kind"
    ]
    assert [len(one) for one in crews.crews(study(seeds=tuple(range(40)), grid={}).runs(), 2)] == [32, 8]
    assert crews.crews(runs, 1) == crews.crews(runs, 2), "processes are what it saves on one thread"
    assert crews.alone(sizes.runs(), 1) == crews.alone(sizes.runs(), 2)
    batches = study(grid={"recipe.batch_size": [16, 32]}).runs()
    assert {len(one) for one in crews.crews(batches, 2)} == {3}, "other batches are other arrays"


def test_runs_with_images_of_their_own_are_as_many_as_memory_is_meant_for(monkeypatch):
    facts = data.describe("digits")
    monkeypatch.setattr(crews, "IMAGE_BYTES", 3 * facts.n_train * math.prod(facts.image_shape) + 1)
    runs = study(seeds=tuple(range(8)), grid={}).runs()
    assert [len(one) for one in crews.crews(runs, 2)] == [3, 3, 2]
    shared = Study(MLP, "digits", "numpy", recipe=Recipe(), seeds=tuple(range(8))).runs()
    assert [len(one) for one in crews.crews(shared, 2)] == [8], "they share the images"


def test_two_settings_that_come_to_one_recipe_are_one_run(tmp_path):
    wanted = study(grid={"recipe.optimizer": ["adam 0.001", "adam"]})
    records = done(tmp_path, True, wanted)
    assert [record.folder for record in records[:3]] == [record.folder for record in records[3:]]


def test_times_that_were_a_share_once_are_nobodys_own(tmp_path, monkeypatch):
    """Begun alone, gone on with together, finished alone."""

    def after(seed, epoch):
        def tell(run, event):
            if event["event"] == "epoch" and (run.seed, event["epoch"]) == (seed, epoch):
                raise KeyboardInterrupt

        return tell

    recipe = Recipe("adam 0.01", epochs=40, batch_size=32)
    for seeds, is_together, tell in (((0,), False, after(0, 1)), ((0, 1), True, after(0, 9))):
        with pytest.raises(KeyboardInterrupt):
            done(tmp_path, is_together, study(recipe=recipe, grid={}, seeds=seeds), tell)
    log = next(tmp_path.glob("lab/*seed1*/worker.log"))
    log.write_text("what an earlier process said\n", encoding="utf-8")
    (record,) = [one for one in store.find_runs([tmp_path]) if one.seed == 0]
    waiting, _left, _problems = resumption.unfinished([record.folder])
    (finished,), _held = resumption.resume(waiting)
    assert finished.is_finished
    assert finished.timing["parts"] == 3
    assert finished.timing["together"] == 2
    row = finished.summary({})
    assert (row["together"], row["seconds"], row["peak_memory_bytes"]) == (2, None, None)
    done(tmp_path, True, study(recipe=recipe, grid={}, seeds=(1, 2)))
    assert log.read_text(encoding="utf-8").startswith("what an earlier process said\n")


def test_a_run_is_paced_by_its_own_epochs_and_not_by_its_neighbours(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(local.time, "monotonic", lambda: now[0])
    pace = local.Pace()
    for epoch in (1, 2):
        now[0] += 10
        for run in range(3):
            now[0] += 0.05
            pace.hear({"event": "epoch", "epoch": epoch, "run": f"seed{run}"})
    assert pace.patience() == 0.0, "the next epoch cannot be over within the grace"
    pace.hear({"event": "phase", "run": "seed0"})
    assert pace.patience() == local.GRACE_SECONDS


def test_the_command_line_says_who_is_trained_alone(tmp_path):
    toml = 'dataset = "digits"\nbackends = "numpy"\nseeds = 2\ntrain_size = 100\n[recipe]\nepochs = 1\n[networks]\n'
    toml += 'mlp = ["flatten", "dense 10"]\ncnn = ["conv2d 2 3", "flatten", "dense 10"]\n'
    (tmp_path / "two.toml").write_text(toml.replace("seeds = 2", "seeds = [0, 1]"), encoding="utf-8")
    command = [sys.executable, "-m", "lockstep", "run", "two.toml", "--together", "--json"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert "cnn in numpy: trained by itself, 2 of 2: it has conv2d" in finished.stderr
    assert "mlp in numpy" not in finished.stderr
    assert "[2/4] mlp · numpy · digits · seed 1: epoch 1/1" in finished.stderr
    rows = json.loads(finished.stdout)["runs"]
    assert [(row["network"], row["seed"], row["together"]) for row in rows] == [
        ("mlp", 0, 2), ("mlp", 1, 2), ("cnn", 0, 1), ("cnn", 1, 1),
    ]  # fmt: skip
    assert [row["status"] for row in json.loads(finished.stdout)["runs"]] == ["finished"] * 4
