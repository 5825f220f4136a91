"""What the NumPy backend trains with is what its plain functions say: every form beside the function it stands for."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.backends import numpy as backend
from lockstep.backends.numpy import speed
from lockstep.backends.numpy.layers import flatten
from lockstep.backends.weights import initial_weights
from lockstep.errors import LockstepError
from lockstep.spec import Network
from support import backend_cases as table

TOLERANCE = 1e-12  # relative to the largest value, in float64: sums are taken in another order


def on(row, n, generator):
    """A pass with this layer's parameters, and an empty place for its gradients."""
    shapes = {f"{row.name}/{what}": shape for what, shape in row.parameter_shapes.items()}
    return backend.Pass(
        training=True,
        parameters={name: generator.normal(size=shape) for name, shape in shapes.items()},
        gradients={name: np.full(shape, np.nan) for name, shape in shapes.items()},
        statistics={f"{row.name}/running_{what}": np.ones(row.input_shape[-1]) for what in ("mean", "variance")},
        masks={row.name: generator.integers(0, 2, (n, *row.input_shape)) * 1.25}, n=n, total=lambda value: value,
        leads=True, space=speed.Space("float64"),
    )  # fmt: skip


def both(layer, shape, n=3, seed=0, levels=3, is_training=True):
    """(output, gradient of the input, gradients of the parameters) of the plain layer, and of the form for training.

    Inputs have few different values, so that ties happen. The form has run on other numbers in the same space before.
    """
    generator = np.random.default_rng(seed)
    row = Network(["flatten", layer] if layer.startswith("dense") else [layer]).facts(shape)[-1]
    x = generator.integers(0, levels, (n, *row.input_shape)).astype(float)
    dy = generator.normal(size=(n, *row.output_shape))
    plain = backend.LAYERS[row.layer.kind]
    form = speed.LAYERS.get(row.layer.kind)
    if form is None or getattr(row.layer, "ties", "first") != "first":
        form = speed.turned(plain)
    found, pass_, running = [], on(row, n, generator), on(row, n, generator).statistics
    pass_.training = is_training
    as_it_is = (lambda a: a,) * 2
    turned = speed.batch_last, speed.batch_first
    for one, (turn, back), enters in ((plain, as_it_is, x), (form, turned, 5 - x), (form, turned, x)):
        pass_.statistics = {name: value.copy() for name, value in running.items()}
        y, backward = one(row, np.ascontiguousarray(turn(enters)), pass_)
        y = back(y).copy()
        dx = backward(np.ascontiguousarray(turn(dy if enters is x else -dy)), True)
        if enters is x:
            arrays = pass_.gradients | pass_.statistics
            found.append({"y": y, "dx": back(dx).copy(), **{name: value.copy() for name, value in arrays.items()}})
    return found


def assert_same(found):
    expected, *others = found
    for other in others:
        for name, value in expected.items():
            assert other[name].shape == value.shape, name
            assert np.abs(other[name] - value).max() <= TOLERANCE * max(np.abs(value).max(), 1.0), name


KERNELS = st.tuples(st.integers(1, 3), st.integers(1, 3)).map(list)
SHAPES = st.tuples(st.integers(3, 9), st.integers(3, 9), st.integers(1, 9))
PADDINGS = st.sampled_from(["valid", "same", "same_lower"])


@st.composite
def layers(draw):
    kernel, stride = draw(KERNELS), draw(KERNELS)
    padding = draw(PADDINGS)
    return draw(
        st.sampled_from([
            f"conv2d {draw(st.integers(1, 5))} {kernel} {stride} {padding} bias={str(draw(st.booleans())).lower()}",
            f"max_pool2d {kernel} {stride} {padding}", f"max_pool2d {kernel} {stride} {padding} ties=shared",
            f"avg_pool2d {kernel} {stride} {padding}", "flatten", "flatten chw", "global_avg_pool",
            f"depthwise {kernel} {stride} {padding} bias={str(draw(st.booleans())).lower()}", "dropout 0.2", "relu",
            "batch_norm",
        ])
    )  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(layers(), SHAPES, st.integers(1, 4), st.integers(0, 999), st.booleans())
def test_every_form_is_its_layer(layer, shape, n, seed, is_training):
    with contextlib.suppress(LockstepError):  # a window larger than the image
        Network([layer]).facts(shape)
        assert_same(both(layer, shape, n, seed, is_training=is_training))


@pytest.mark.parametrize("layer", ["conv2d 7 3 2 same", "conv2d 7 [3, 1]", "conv2d 2 1 2 valid", "dense 4"])
def test_wide_kernels_and_flat_inputs(layer):
    assert_same(both(layer, (7, 8, 20)))


@pytest.mark.parametrize(
    ("layer", "name", "broken"),
    [
        ("conv2d 4 3 1 same", "_covering", lambda height, *rest: [(h, 0, 0) for h in range(height)]),
        ("batch_norm", "LAYERS", {"batch_norm": lambda row, x, on: speed.batch_norm(
            Network(["batch_norm epsilon=1e-4"]).facts(row.input_shape)[0], x, on)}),
        ("conv2d 4 [2, 3] bias=false", "unpad", lambda row, x: x + 1e-9),
        ("conv2d 4 3", "as_strided", lambda x, shape, strides: np.zeros(shape)),
        ("max_pool2d 3 2 same", "_largest", lambda candidates, y: np.minimum.reduce(candidates, out=y)),
        ("max_pool2d 2", "_share", lambda dy, y, c, shares, *rest: shares[-1].__setitem__(..., dy)),
        ("flatten chw", "LAYERS", {"flatten": lambda row, x, on: speed.turned(flatten)(
            Network(["flatten"]).facts(row.input_shape)[0], x, on)}),
    ],
)  # fmt: skip
def test_a_broken_form_is_seen(layer, name, broken, monkeypatch):
    """The comparison above can fail, for the forms of every layer and for ties."""
    shape = (6, 6, 7)
    assert_same(both(layer, shape))
    monkeypatch.setattr(speed, name, broken)
    with pytest.raises(AssertionError):
        assert_same(both(layer, shape))


def gradients(case, threads):
    """(plain, as trained): what goes into the optimizer in the first step of a case."""
    plan = table.plan_of(case, threads=threads)
    with table.shared_out():
        model = backend.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    images, labels = (array[: table.BATCH] for array in table.images_of(case))
    plain = model.clipped(model.gradients(images, labels)[1])
    model.update_part = lambda *rest: None
    for flat, _ in model.slices:
        flat.fill(np.nan)  # `clipped` has left the plain gradients there
    model.train_step(images, labels)
    return plain, model.slices[0][1]


FLOAT64 = [name for name, case in table.CASES.items() if table.plan_of(case).dtype == "float64"]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", FLOAT64)
def test_a_step_takes_the_plain_gradients(name, threads):
    plain, trained = gradients(table.CASES[name], threads)
    largest = max(np.abs(value).max() for value in plain.values())
    for parameter, value in plain.items():
        assert np.abs(trained[parameter] - value).max() <= TOLERANCE * max(largest, 1e-3), parameter


def test_most_cases_are_looked_at_and_a_slice_that_is_forgotten_is_seen(monkeypatch):
    assert len(FLOAT64) > 40
    monkeypatch.setattr(backend.Slices, "wait", lambda self: None)
    monkeypatch.setattr(backend.Model, "finish", lambda *rest: None)
    plain, trained = gradients(table.CASES["layer-relu"], 2)
    assert any(not np.abs(trained[name] - value).max() <= 1e-6 for name, value in plain.items())


def test_large_kernels_are_left_to_the_whole_batch_and_one_that_is_forgotten_is_seen(monkeypatch):
    case, parts = table.CASES["layer-dropout"], backend.Model.parts_of
    plan = table.plan_of(case, threads=2)
    with table.shared_out():
        model = backend.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    assert list(model.kernels_left(table.BATCH)) == ["3_dense"]
    assert model.kernels_left(1) == {}, "one image is one slice"
    monkeypatch.setattr(backend.Model, "parts_of", lambda *how: [(part, "", rows) for part, _, rows in parts(*how)])
    plain, trained = gradients(case, 2)
    np.testing.assert_allclose(trained["5_dense/kernel"], plain["5_dense/kernel"], atol=1e-12)
    assert np.isnan(trained["3_dense/kernel"]).all()


@pytest.mark.parametrize("n", [1, 2, 3, 8, 20])
def test_threads_share_the_buffers_out_and_each_number_is_updated_once(n):
    case = table.CASES["layer-everything"]
    plan = table.plan_of(case, threads=n)
    with table.shared_out():
        model = backend.build(plan, initial_weights(case.network, case.shape, plan.seed, plan.dtype))
    updated = np.zeros(model.flat.size, int)
    for left in ({}, {"12_dense": None, "15_dense": None}):
        updated.fill(0)
        for index in range(n):
            for part, _, _ in model.parts_of(index, n, left):
                updated[part] += 1
        assert (updated == 1).all()


def test_space_is_used_again_and_by_shape():
    space = speed.Space("float32")
    first = space("a", (2, 3), 7.0)
    assert (first == 7).all()
    first.fill(1)
    assert space("a", (2, 3), 7.0) is first
    assert space("a", (3, 2)) is not first
    assert space("b", (2, 3), dtype=bool).dtype == bool
