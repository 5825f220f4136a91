"""The NumPy backend against central differences in float64, before anything is compared with it."""

from __future__ import annotations

import ast
import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.backends import numpy as backend
from lockstep.backends.numpy import layers, speed
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.spec import Recipe
from support import backend_cases as table

STEP = 1e-6  # of a central difference: small enough to step over no kink of relu or max-pooling here
TOLERANCE = 2e-7  # relative to the largest gradient


def objective(model, images, labels):
    """What training minimises: the mean (or summed) loss plus ½·λ·‖w‖² over what is decayed."""
    recipe, rows = model.plan.recipe, model.plan.rows
    logits = model.activations(images, training=True)[rows[-1].name]
    losses, _ = model.losses(logits, model.targets(labels), model.observer(len(images), True))
    decayed = [model.parameters[name] for name in model.plan.decayed]
    loss = losses.mean() if recipe.loss_reduction == "mean" else losses.sum()
    return loss + 0.5 * recipe.l2 * sum(np.square(value).sum() for value in decayed)


def assert_gradients_are_slopes(case):
    """Every parameter's gradient equals the slope of the objective along it."""
    plan = table.plan_of(case, threads=1)
    with table.shared_out():
        model = backend.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    images, labels = (array[: table.BATCH] for array in table.images_of(case))
    _, gradients, _, _ = model.gradients(images, labels)
    generator = np.random.default_rng(0)
    for name, value in model.parameters.items():
        places = generator.choice(value.size, min(value.size, 40), replace=False)
        slopes = []
        for place in places:
            index = np.unravel_index(place, value.shape)
            kept = value[index]
            ends = []
            for shift in (STEP, -STEP):
                value[index] = kept + shift
                ends.append(objective(model, images, labels))
            value[index] = kept
            slopes.append((ends[0] - ends[1]) / (2 * STEP))
        found = gradients[name].ravel()[places]
        worst = np.abs(found - slopes).max()
        assert worst <= TOLERANCE * max(np.abs(slopes).max(), 1e-2), f"{name}: off by {worst:.2e}"


GRADIENT_CASES = [name for name in table.CASES if name.startswith("layer-")] + [
    "recipe-sgd_mean_squared_error", "recipe-label_smoothing", "recipe-label_smoothing_mean_squared_error", "recipe-l2",
    "scaled", "option-conv2d_same_lower", "option-max_pool2d_same_lower", "option-avg_pool2d_same_lower",
    "option-avg_pool2d_count_padding", "option-flatten_chw", "option-gelu_tanh", "option-clipped",
    "option-clipped_and_cut", "option-softmax_twice", "option-sum", "option-sum_mean_squared_error",
    "option-training_in_inference_mode", "option-targets_broadcast", "option-decay_on_all",
]  # fmt: skip


@pytest.mark.parametrize("name", GRADIENT_CASES)
def test_gradients_match_central_differences(name):
    assert_gradients_are_slopes(table.CASES[name])


@pytest.mark.parametrize(
    "kind", ["conv2d", "max_pool2d", "avg_pool2d", "batch_norm", "gelu", "softplus", "silu", "tanh", "dense"]
)
def test_a_derivative_wrong_by_a_twentieth_of_a_percent_is_caught(kind, monkeypatch):
    right = backend.LAYERS[kind]

    def wrong(row, x, on):
        y, backward = right(row, x, on)
        return y, lambda dy, wants_dx: backward(dy * 1.0005, wants_dx)

    monkeypatch.setitem(backend.LAYERS, kind, wrong)
    with pytest.raises(AssertionError, match="off by"):
        assert_gradients_are_slopes(table.CASES[f"layer-{kind}"])


@pytest.mark.parametrize("kind", table.spec.LAYERS)
def test_what_a_layer_sends_back_matches_central_differences(kind):
    """dL/dx of the layer alone, for L = Σ y·r with random r."""
    case = table.CASES[f"layer-{kind}"]
    plan = table.plan_of(case, threads=1)
    with table.shared_out():
        model = backend.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    row = next(row for row in plan.rows if row.layer.kind == kind)
    generator = np.random.default_rng(1)
    x = generator.normal(size=(3, *row.input_shape))
    on = model.observer(3, training=True)
    y, back = backend.LAYERS[kind](row, x, on)
    r = generator.normal(size=y.shape)
    dx = back(r.copy(), True)
    for place in generator.choice(x.size, min(x.size, 60), replace=False):
        index = np.unravel_index(place, x.shape)
        kept, ends = x[index], []
        for shift in (STEP, -STEP):
            x[index] = kept + shift
            ends.append((backend.LAYERS[kind](row, x, on)[0] * r).sum())
        x[index] = kept
        assert abs(dx[index] - (ends[0] - ends[1]) / (2 * STEP)) < 1e-6, index


def test_the_first_of_several_maxima_gets_the_gradient():
    plan = table.plan_of(table.CASES["layer-max_pool2d"])
    row = next(row for row in plan.rows if row.layer.kind == "max_pool2d")
    y, back = backend.LAYERS["max_pool2d"](row, np.ones((1, *row.input_shape)), None)
    dx = back(np.ones_like(y), True)
    assert dx[0, 0, 0, 0] == 1
    assert dx.sum() == y.size
    assert dx[0, 0, 1:3, 0].sum() == dx[0, 1, 0:3, 0].sum() == 0


def test_shared_maxima_share_the_gradient():
    (row,) = (r for r in table.plan_of(table.CASES["option-max_pool2d_shared_black"]).rows if r.name == "1_max_pool2d")
    y, back = backend.LAYERS["max_pool2d"](row, np.ones((1, *row.input_shape)), None)
    dx = back(np.ones_like(y), True)
    assert (dx[0, :10, :12] == 0.25).all()
    assert dx.sum() == y.size


@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 10]))
def test_rounded_factors_are_the_nearest_of_so_few_bits(word, bits):
    (x,) = np.array([word], np.uint32).view(np.float32)
    if not np.isfinite(x) or abs(x) > 1e38:
        return
    (y,) = layers.rounded(np.array([x]), bits)
    assert not int(np.array([y]).view(np.uint32)[0]) & ((1 << (23 - bits)) - 1)
    spacing = 2.0 ** (max(np.frexp(float(x))[1], -125) - 1 - bits)
    assert abs(float(y) - float(x)) <= spacing / 2


@given(st.floats(-30, 30))
def test_erf_is_the_error_function(x):
    assert abs(float(layers.erf(np.array([x]))[0]) - math.erf(x)) <= 3e-16


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([
        ("layer-everything", {}),
        ("layer-everything", {"optimizer": "adamw 0.001 0.3"}),
        ("layer-everything", {"l2": 0.1, "clip_norm": 0.5}),
        ("recipe-adam_cross_entropy", {}),
        ("layer-batch_norm", {}),
    ]),
    st.integers(2, 5),
)  # fmt: skip
def test_the_number_of_threads_changes_only_rounding(what, threads):
    name, options = what
    case = dataclasses.replace(table.CASES[name], recipe=dataclasses.replace(table.CASES[name].recipe, **options))
    one, many = (table.compute("numpy", case, threads=n) for n in (1, threads))
    for key, value in one.items():
        assert np.abs(many[key] - value).max(initial=0) <= 1e-9 * max(np.abs(value).max(initial=0), 1e-3), key


@pytest.mark.parametrize(
    ("layers", "as_trained", "slices"),
    [
        (["flatten", "dense 100", "relu", "dense 10"], True, 1),
        (["flatten", "dense 100", "relu", "dense 10"], False, 3),
        (["flatten", "dense 800", "relu", "dense 800", "relu", "dense 10"], True, 3),
        (["conv2d 2 3", "flatten", "dense 10"], True, 1),
        (["conv2d 2 3", "flatten", "dense 10"], False, 3),
        (["conv2d 96 5 1 same", "conv2d 8 5", "flatten", "dense 10"], True, 3),
    ],
)
def test_a_few_small_products_are_not_shared_out_between_threads_but_by_the_judge(layers, as_trained, slices):
    network, shape = table.net(*layers), (8, 8, 1)
    plan = Plan(network, shape, Recipe(batch_size=64), 0, np.zeros(1), np.ones(1), 5, threads=3)
    model = backend.build(plan, initial_weights(network, shape, 0, "float32"), as_trained)
    assert model.n_slices == slices == len(model.slices)


def test_a_fault_in_one_slice_ends_the_step_instead_of_hanging_it(monkeypatch):
    case = table.CASES["layer-batch_norm"]
    plan = table.plan_of(case, threads=2)
    right = speed.LAYERS["conv2d"]

    def faulty(row, x, on):
        if not on.leads:
            raise FloatingPointError("planted")
        return right(row, x, on)

    monkeypatch.setitem(speed.LAYERS, "conv2d", faulty)
    with table.shared_out():
        model = backend.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    images, labels = table.images_of(case)
    with pytest.raises((FloatingPointError, RuntimeError)):
        model.step(images, labels)


def imported(path: Path) -> set[str]:
    """The top-level modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_numpy_backend_imports_numpy_only():
    for path in Path(backend.__file__).parent.glob("*.py"):
        assert imported(path) - set(sys.stdlib_module_names) <= {"numpy", "lockstep"}, path


def test_float32_stays_float32():
    case = table.CASES["float32"]
    for name, value in table.compute("numpy", case).items():
        if not name.startswith(("steps|", "loss|")) and not name.endswith(("|step", "|loss")):
            assert value.dtype == np.float32, name


def test_plan_is_what_was_asked():
    plan = table.plan_of(table.CASES["layer-relu"])
    assert isinstance(plan, Plan)
    assert [row.layer.kind for row in plan.fast_rows][:3] == ["conv2d", "max_pool2d", "relu"]
    assert [row.layer.kind for row in plan.rows][:3] == ["conv2d", "relu", "max_pool2d"]
