"""Gradients beside central differences: right ones pass with every layer and recipe, a planted one is named."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import lockstep
from lockstep import LockstepError, Network, Recipe, backends, check_gradients, cli, store
from lockstep.backends import numpy as reference
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.proof.derivatives import check, verdict
from lockstep.proof.gradients import why
from lockstep.spec import Run
from lockstep.spec.records import changed
from lockstep.store.documents.gradients import FILE, Derivatives, Parameter

SHAPE = (7, 5, 2)
CNN = [
    "conv2d 3 3 padding=same", "relu", "max_pool2d", "batch_norm", "conv2d 4 2", "gelu", "avg_pool2d 2 1 padding=same",
    "dropout 0.2", "flatten", "dense 6", "tanh", "dense 5",
]  # fmt: skip
MLP = [
    "flatten", "dense 6 bias=false", "elu", "batch_norm", "leaky_relu", "dense 4", "softplus", "sigmoid", "layer_norm",
    "dense 5",
]  # fmt: skip


def model_of(layers, seed=3, dtype="float64", **recipe):
    """A model of the NumPy backend, its run, and sixteen images with labels."""
    made = Recipe(**{"batch_size": 16} | recipe)
    run = Run("lab", "a", Network(layers), made, "none", "numpy", seed, dtype, "cpu")
    plan = Plan(run.network, SHAPE, made, seed, np.zeros(2), np.full(2, 1 / 255), 4, dtype)
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (16, *SHAPE), dtype=np.uint8)
    model = reference.build(plan, initial_weights(run.network, SHAPE, seed, dtype))
    return model, images, generator.integers(0, 5, 16), run


RECIPES = [
    {}, {"l2": 0.1}, {"label_smoothing": 0.1}, {"loss": "mean_squared_error"}, {"loss_reduction": "sum", "l2": 0.3},
    {"loss": "cross_entropy_softmax_twice"}, {"clip_norm": 0.001}, {"mistakes": "training_in_inference_mode"},
    {"mistakes": "decay_on_all", "l2": 0.2},
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
@pytest.mark.parametrize("layers", [CNN, MLP], ids=["cnn", "mlp"])
def test_gradients_are_slopes_with_every_layer_and_recipe(layers, recipe):
    model, images, labels, run = model_of(layers, **recipe)
    rows = check(model, images, labels, run)
    assert verdict(rows) == "EQUAL", [row for row in rows if row.is_wrong]
    assert [row.parameter for row in rows] == list(model.weights())
    assert all(row.gradients >= 2 for row in rows)
    assert all(row.seen < 1e-3 for row in rows if row.seen)


class Planted:
    """A model whose gradient of one parameter is wrong."""

    def __init__(self, model, name, fault):
        self.model, self.name, self.fault = model, name, fault

    def __getattr__(self, name):
        return getattr(self.model, name)

    def gradients(self, images, labels):
        loss, found, *rest = self.model.gradients(images, labels)
        return loss, found | {self.name: self.fault(found[self.name])}, *rest


FAULTS = {
    "wrong by 0.05 %": lambda g: g * 1.0005,
    "the other sign": lambda g: -g,
    "of the sum": lambda g: g * 16,
    "zero": np.zeros_like,
    "not a number": lambda g: g * np.nan,
    "without its last row": lambda g: np.concatenate([g[:-1], 0 * g[-1:]]),
}


@pytest.mark.parametrize("name", ["0_conv2d/kernel", "0_conv2d/bias", "3_batch_norm/scale", "9_dense/kernel"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_gradient_is_named(fault, name):
    model, images, labels, run = model_of(CNN)
    rows = check(Planted(model, name, FAULTS[fault]), images, labels, run)
    if fault == "without its last row" and name.endswith("kernel"):  # places are drawn: not every one is looked at
        assert verdict(rows) in ("EQUAL", "DIVERGED")
        return
    assert verdict(rows) == "DIVERGED"
    assert [row.parameter for row in rows if row.is_wrong] == [name]


def test_a_gradient_that_is_no_number_is_told_after_it_was_written(tmp_path):
    """JSON has no NaN: what is read back is None there, and neither right nor a reason to fail."""
    model, *given = model_of(MLP)
    rows = check(Planted(model, "1_dense/kernel", lambda gradient: gradient * np.nan), *given)
    store.write_json(tmp_path / "rows.json", Derivatives(rows=tuple(rows)).document())
    read = Derivatives.read(tmp_path / "rows.json").rows
    assert read == tuple(rows)
    assert verdict(read) == "DIVERGED"
    assert re.search(r"the gradient of 1_dense/kernel at \[\d+, \d+\] is nan, but the loss has the slope", why(read))


def test_a_decay_that_is_left_out_of_the_gradient_is_seen():
    model, images, labels, run = model_of(MLP, l2=0.1)
    kernel = "1_dense/kernel"
    plain = Planted(model, kernel, lambda gradient: gradient)
    rows = check(plain, images, labels, changed(run, recipe=Recipe(l2=0.0)))
    assert kernel in [row.parameter for row in rows if row.is_wrong]


def test_places_at_kinks_are_left_out_and_what_was_nowhere_seen_is_said():
    """A loss that is a zigzag finer than the step has a kink everywhere."""
    model, images, labels, run = model_of(MLP)
    whole = model.gradients

    def jagged(images, labels):
        loss, *rest = whole(images, labels)
        return loss + 1e-3 * abs(np.sin(1e5 * model.weights()["9_dense/bias"].sum())), *rest

    model.gradients = jagged
    rows = check(model, images, labels, run)
    assert {row.parameter for row in rows if row.left_out} >= {"9_dense/bias"}
    assert verdict([Parameter(parameter="a", gradients=0, left_out=5)]) == verdict([]) == "INCONCLUSIVE"


def test_the_model_is_left_where_it_was_moved_to_and_draws_are_the_same():
    (model, *given), (again, *_given) = model_of(MLP), model_of(MLP)
    rows = check(model, *given)
    assert check(again, *given) == rows
    other = check(model_of(MLP)[0], *given, seed=9)
    assert [row.at for row in other] != [row.at for row in rows]


# -------------------------------------------------------------------------------------------------------- the command

STUDY = """
dataset = "digits"
backends = ["numpy", "jax"]
train_size = 40
recipe.products = "tf32"
[networks]
a = ["flatten", "dense 6", "relu", "dense 10"]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr("lockstep.cli.interruption.end_on_signals", lambda: None)
    monkeypatch.setattr(backends, "why_missing", lambda name: None if name == "numpy" else f"{name} not installed")
    (tmp_path / "lab.toml").write_text(STUDY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prove(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["prove", *words, "--gradients"])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_the_command_says_what_was_seen_and_what_was_not(place, capsys):
    code, said, _ = prove(capsys, "lab.toml")
    assert code == 4, "a framework that is missing is not proven"
    assert "EQUAL" in said
    assert "INCONCLUSIVE" in said
    code, said, _ = prove(capsys, "lab.toml", "--backends", "numpy", "--json")
    assert code == 0
    document = json.loads(said)
    assert json.loads((place / "runs" / "lab" / FILE).read_text()) == document
    (row,) = document["networks"][0]["backends"]
    assert (row["verdict"], len(row["parameters"])) == ("EQUAL", 4)
    assert lockstep.store.NO_RUNS[0] == "traces"
    with pytest.raises(LockstepError, match="no run folder here"):
        lockstep.find_runs(place / "runs")


def test_a_gradient_that_is_wrong_ends_with_one(place, capsys, monkeypatch):
    (place / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'lockstep.proof.derivatives' in sys.orig_argv:\n"
        "    from lockstep.backends import numpy\n"
        "    right = numpy.Model.gradients\n"
        "    def wrong(self, images, labels):\n"
        "        loss, found, *rest = right(self, images, labels)\n"
        "        return loss, found | {'1_dense/kernel': 1.001 * found['1_dense/kernel']}, *rest\n"
        "    numpy.Model.gradients = wrong\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(place))
    code, said, err = prove(capsys, "lab.toml", "--backends", "numpy")
    assert code == 1
    assert "DIVERGED" in said
    assert "the gradient of 1_dense/kernel at" in err
    monkeypatch.delenv("PYTHONPATH")
    document = check_gradients(lockstep.load_study("lab.toml", [], ["numpy"]), progress=False)
    assert document["verdict"] == "EQUAL"


@pytest.mark.parametrize("words", [["--steps", "4"], ["--dtype", "float32"], ["--plant", "l2_left_out@numpy"]])
def test_what_does_not_go_with_it_is_refused(place, words, capsys):
    code, _, err = prove(capsys, "lab.toml", *words)
    assert code == 2
    assert err.startswith("LS-200")
