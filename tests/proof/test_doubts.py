"""The judge is judged: by independent formulas, by a rehearsal of the loop, and by all others at once."""

from __future__ import annotations

import dataclasses
import types

import numpy as np
import pytest

from lockstep import data, randomness
from lockstep.backends import numpy as reference
from lockstep.backends import weights
from lockstep.backends.numpy import layers, optimizers, stack
from lockstep.backends.plan import Plan
from lockstep.proof import audit, rehearsal, verdicts
from lockstep.proof.cases import Case, cases
from lockstep.spec import JOINS, Network, Recipe, Study
from lockstep.spec.records import changed
from lockstep.store.documents.proof import Divergence
from lockstep.training import checkpoints, early_stopping, inputs, loop, metrics
from support import plants as table

EVERYTHING = [
    "conv2d 4 3 2 same", "batch_norm", "elu", "max_pool2d 3 2 same", "conv2d 5 2 padding=valid", "leaky_relu",
    "avg_pool2d 2 1 same", "gelu", "flatten", "dense 12", "tanh", "dropout 0.3", "dense 9", "sigmoid", "dense 8",
    "softplus", "dense 7", "layer_norm", "relu", "dense 10",
]  # fmt: skip


def a_case(layers=EVERYTHING, train_size=101, **recipe) -> Case:
    options = {"optimizer": "adam 0.01", "epochs": 3, "batch_size": 17, "schedule": "cosine", "l2": 0.01} | recipe
    asked = Study(
        networks={"net": Network(layers)}, dataset=("digits",), backends=("numpy",), recipe=Recipe(**options),
        train_size=train_size, name="doubted",
    )  # fmt: skip
    (case,) = cases(asked, 10)
    return case


def doubted(case: Case) -> list[tuple[str, str]]:
    judge = case.judge
    found = audit.doubts(judge.plan, judge.start, *case.examples.train, 10)
    return [(doubt.stage, doubt.where) for doubt in [*found, *rehearsal.doubts(case.canonical, case.examples)]]


def stages(case: Case) -> set[str]:
    return {stage for stage, _where in doubted(case)}


# -------------------------------------------------------------------------------------------------- nobody is accused


@pytest.mark.parametrize("name", table.CASES)
def test_nothing_is_doubted_where_nothing_is_wrong(name):
    assert doubted(table.proof_case(name)) == []


RECIPES = [
    {"optimizer": "sgd 0.1", "schedule": "step 1 0.3", "loss": "mean_squared_error"},
    {"optimizer": "momentum 0.1 0.8 velocity", "schedule": "one_cycle", "clip_norm": 0.5},
    {"optimizer": "nesterov 0.1", "clip_norm": 0.1, "clip_scope": "tensor", "label_smoothing": 0.1},
    {"optimizer": "adamw 0.01 0.1", "augmentation": {"shift": 1, "flip": True}},
    {"optimizer": "rmsprop 0.001 0.8 1e-7 inside", "validation": 0.2, "scaling": "standard"},
    {"optimizer": "adam 0.001 epsilon=1e-7 epsilon_mode=hat", "validation": 0.2,
     "early_stopping": {"patience": 3, "monitor": "validation_accuracy"}},
    {"optimizer": "rmsprop", "mistakes": ["rate_late", "decay_on_all", "last_batch_unweighted"]},
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe["optimizer"].split()[0])
def test_nothing_is_doubted_of_any_optimizer_schedule_and_option(recipe):
    assert doubted(a_case(**recipe)) == []


STARTS = [*("he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "lecun_uniform"),
          *("normal 0.1", "uniform 0.1", "torch_default", "flax_default")]  # fmt: skip


@pytest.mark.parametrize("start", STARTS)
def test_nothing_is_doubted_of_any_starting_weights(start):
    case = a_case(["flatten", f"dense 40 initializer='{start}'", "relu", f"dense 10 initializer='{start}'"])
    assert doubted(case) == []


# ------------------------------------------------------------------------------------------- faults, one at a time


def with_wrong_slope(row, x, on):
    y, _ = layers.tanh(row, x, on)
    return y, lambda dy, wants_dx: dy * (1 - y)


def with_last_maximum(row, x, on):
    y, _ = layers.max_pool2d(row, x, on)
    turned = np.ascontiguousarray(x[:, ::-1, ::-1])
    _, back = layers.max_pool2d(row, turned, on)
    return y, lambda dy, wants_dx: np.asarray(back(dy[:, ::-1, ::-1], True))[:, ::-1, ::-1]


def with_larger_slope(row, x, on):
    y, back = layers.layer_norm(row, x, on)
    return y, lambda dy, wants_dx: np.asarray(back(dy, True)) * 1.001


def ahead(o, now, w, g, s, *slots):
    optimizers.adam(o, now._replace(t=now.t + 1), w, g, s, *slots)


def always_the_first_mask(plan, step, n):
    return PLAIN_MASKS(plan, 0, n)


def of_two(logits, labels):
    return float((logits.argsort(axis=1)[:, -2:] == labels[:, None]).any(axis=1).mean())


def of_the_first_epoch(n, recipe, seed, epoch):
    return randomness.permutation(n, seed, "order", 0)


PLAIN_MASKS = Plan.masks
FAULTS = {
    "slope of tanh": (lambda m: m.setitem(reference.LAYERS, "tanh", with_wrong_slope), ("backward", "10_tanh")),
    "slope of layer normalisation": (
        lambda m: m.setitem(reference.LAYERS, "layer_norm", with_larger_slope), ("backward", "17_layer_norm")
    ),
    "smoothing": (
        lambda m: m.setattr(reference.Model, "targets", lambda model, labels: np.eye(10)[labels] * 1.01),
        ("loss", "targets"),
    ),
    "Adam's counter": (
        lambda m: m.setitem(reference.OPTIMIZERS, "adam", (("first_moment", "second_moment"), ahead)),
        ("updated weights", "0_conv2d/kernel"),
    ),
    "L2 of the first kernel": (
        lambda m: m.setattr(Plan, "decayed", property(lambda plan: frozenset({"9_dense/kernel"}))),
        ("gradients", "0_conv2d/kernel"),
    ),
    "rates one step ahead": (
        lambda m: m.setattr(Plan, "learning_rate", lambda plan, step, right=Plan.learning_rate: right(plan, step + 1)),
        ("updated weights", "learning rate"),
    ),
    "one mask for all": (
        lambda m: m.setattr(Plan, "masks", always_the_first_mask),
        ("forward", "11_dropout, a mask that came before"),
    ),
    "variance starts at 0": (
        lambda m: m.setattr(
            Plan, "initial_statistics",
            lambda plan, right=Plan.initial_statistics: {name: 0 * value for name, value in right(plan).items()},
        ),
        ("starting weights", "1_batch_norm/running_variance"),
    ),
    "He's variance": (
        lambda m: m.setitem(
            weights.DISTRIBUTIONS, "he_normal", (randomness.normal, lambda given, fan_in, fan_out: fan_in**-0.5)
        ),
        ("starting weights", "9_dense/kernel"),
    ),
    "the first images instead of each class's share": (
        lambda m: m.setattr(data, "part_of", lambda indices, labels, n, format: indices[:n]),
        ("data", "training images"),
    ),
    "one order for all epochs": (
        lambda m: m.setattr(data, "epoch_order", of_the_first_epoch),
        ("data", "orders of two epochs"),
    ),
    "the warm-up's labels stay": (
        lambda m: m.setattr(rehearsal.Notes, "place", lambda notes, images, labels: (
            notes.placed.append((images.copy(), notes.placed[0][1] if notes.placed else labels.copy())))),
        ("data", "labels after the warm-up"),
    ),
    "a mean of means": (
        lambda m: m.setattr(loop, "mean_of_steps", lambda losses, sizes, recipe: float(losses.mean())),
        ("reported loss", "epoch 1"),
    ),
    "early stopping keeps the last": (
        lambda m: m.setattr(early_stopping.Stopping, "restore", lambda stopping: None),
        ("early stopping", "updates at the end"),
    ),
    "accuracy of two": (
        lambda m: m.setattr(metrics, "accuracy", of_two),
        ("reported loss", "accuracy of predictions"),
    ),
    "a resumed run has no slots": (
        lambda m: m.setattr(
            checkpoints, "read",
            lambda place, spec, right=checkpoints.read: dataclasses.replace(
                found := right(place, spec), state={name: 0 * value for name, value in found.state.items()}),
        ),
        ("resuming", "0_conv2d/kernel/first_moment"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_judge_the_plan_or_the_loop_is_doubted_at_its_place(name, monkeypatch):
    case = a_case(validation=0.2)  # drawn and split before anything is wrong
    plant, place = FAULTS[name]
    plant(monkeypatch)
    found = doubted(dataclasses.replace(case, examples=inputs.Examples(case.examples.data, case.canonical)))
    assert place in found, found[:5]


TWO_DROPOUTS = ["flatten", "dense 60", "dropout 0.2", "relu", "dense 40", "dropout 0.4", "dense 10"]


def masks_by_the_first_layer(plan, step, n, right=Plan.masks):
    return right(plan, step, n) | {
        "2_dropout": np.where(randomness.dropout_mask((n, 60), 0.2, plan.seed, step, 5), 1.25, 0.0)
    }


def masks_by_the_first_image(plan, step, n, right=Plan.masks):
    return {name: np.repeat(mask[:1], len(mask), axis=0) for name, mask in right(plan, step, n).items()}


@pytest.mark.parametrize(
    ("masks", "where"),
    [
        (masks_by_the_first_layer, "5_dropout and 2_dropout, masks of the same random numbers"),
        (masks_by_the_first_image, "5_dropout, images of a batch, masks of the same random numbers"),
    ],
)
def test_masks_are_drawn_for_each_layer_and_image(masks, where, monkeypatch):
    case = a_case(TWO_DROPOUTS)
    assert doubted(case) == []
    monkeypatch.setattr(Plan, "masks", masks)
    assert ("forward", where) in doubted(case)


def test_ties_go_to_the_first_maximum(monkeypatch):
    case = table.proof_case("ties")
    monkeypatch.setitem(reference.LAYERS, "max_pool2d", with_last_maximum)
    assert ("backward", "2_max_pool2d") in doubted(case)


def test_runs_trained_together_at_one_rate_are_doubted(monkeypatch):
    case = a_case(["flatten", "dense 12", "relu", "dense 10"])
    assert "trained together" not in stages(case)
    monkeypatch.setattr(stack.Stack, "train_step", at_the_first_rate)
    assert "trained together" in stages(case)


def at_the_first_rate(stack, indices, right=stack.Stack.train_step):
    for model in stack.models[1:]:
        model.plan = dataclasses.replace(model.plan, recipe=stack.models[0].plan.recipe)
    return right(stack, indices)


# ----------------------------------------------------------------------------------------------- in the proof's words


def row(backend, divergences=()):
    run = types.SimpleNamespace(backend=backend)
    return verdicts.Judgement(run, backend, divergences=list(divergences), verdict="EQUAL")


def place(found, tolerance=1e-9, where="3_tanh", stage="backward"):
    return Divergence(
        network="net", backend="torch", stage=stage, where=where, step=0, index=(1, 2), found=found, tolerance=tolerance
    )


def test_whom_all_others_contradict_alike_is_suspected():
    case = a_case(["flatten", "dense 10"])
    alike = [row("torch", [place(0.5)]), row("jax", [place(0.5 + 1e-10)])]
    found = verdicts.suspicion(case, [row("numpy"), *alike], 10)
    assert (found.stage, found.where, found.step) == ("backward", "3_tanh", 0)
    for others in (
        alike[:1],
        [*alike, row("tensorflow")],
        [row("torch", [place(0.5)]), row("jax", [place(0.7)])],
        [row("torch", [place(0.5)]), row("jax", [place(0.5, where="5_tanh")])],
    ):
        assert verdicts.suspicion(case, [row("numpy"), *others], 10) is None


def test_a_judge_that_is_wrong_accuses_nobody_else(monkeypatch):
    case = a_case(["flatten", "dense 10", "tanh", "dense 10"])
    monkeypatch.setitem(reference.LAYERS, "tanh", with_wrong_slope)
    monkeypatch.setattr(verdicts, "divergence_of", lambda trace, case, rows, named: place(0, where=rows[0].where))
    rows = [row("numpy"), row("torch", [place(0.5)])]
    found = verdicts.suspicion(case, rows, 10)
    assert (found.stage, found.where) == ("backward", "2_tanh")
    assert [(one.verdict, len(one.divergences)) for one in rows] == [("DIVERGED", 1), ("INCONCLUSIVE", 0)]
    assert "independent formula" in rows[1].reason


def test_what_numpy_has_wrong_in_runs_trained_together_is_its_own(monkeypatch):
    case = a_case(["flatten", "dense 12", "relu", "dense 10"])
    monkeypatch.setattr(stack.Stack, "train_step", at_the_first_rate)
    monkeypatch.setattr(verdicts, "divergence_of", lambda trace, case, rows, named: place(0, stage=rows[0].stage))
    rows = [row("numpy"), row("torch")]
    assert verdicts.suspicion(case, rows, 10) is None
    assert [one.verdict for one in rows] == ["DIVERGED", "EQUAL"]
    assert [one.stage for one in rows[0].divergences] == ["trained together"]
    rows = [row("numpy", [place(0.5)])]
    verdicts.suspicion(case, rows, 10)
    assert rows[0].divergences == [place(0.5)]


def test_the_case_of_these_tests_has_every_layer():
    assert {layer.split()[0] for layer in EVERYTHING} | {"global_avg_pool"} | {*JOINS} == set(reference.LAYERS)
    assert changed(a_case().canonical, backend="numpy").backend == "numpy"
