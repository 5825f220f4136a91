"""Starting weights: pinned, drawn from the distributions that their names promise, the same in both precisions."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from lockstep import spec
from lockstep.backends import weights
from lockstep.spec import Conv2D, Dense, Flatten, Network, ReLU
from support.digests import digest

LAB = Network((Conv2D(20, 5), ReLU(), Flatten(), Dense(500), ReLU(), Dense(10)))
SHAPE = (28, 28, 1)


def all_in_one(found: dict[str, np.ndarray]) -> str:
    return " ".join(f"{name}:{digest(value)}" for name, value in found.items())


GOLDEN = {
    (1, "he_normal"): "80d648219df8a56f",
    (1, "glorot_uniform"): "0ad1b4fe2996fb95",
    (1, "torch_default"): "e8f2b060d285d823",
    (2, "he_normal"): "29702d03c00969fd",
    (2, "glorot_uniform"): "925904ba691834ea",
    (2, "torch_default"): "f24a9046997693f7",
}


def drawn(kind: str, seed: int = 7, format: int = spec.FORMAT) -> dict[str, np.ndarray]:
    layers = ["conv2d 5 [3, 2]", "flatten", f"dense 13 bias_initializer={kind}", "batch_norm", "dense 3"]
    return weights.initial_weights(Network(layers, kind), (7, 11, 2), seed, format=format)


@pytest.mark.parametrize(("format", "kind"), GOLDEN)
def test_starting_weights_are_the_same_on_every_machine_and_for_ever(format, kind):
    found = drawn(kind, format=format)
    assert digest(np.frombuffer(all_in_one(found).encode(), np.uint8)) == GOLDEN[format, kind]


@pytest.mark.parametrize(("format", "kind"), GOLDEN)
def test_other_weights_are_told_from_the_pinned_ones(format, kind):
    found = drawn(kind, format=format)
    next(iter(found.values())).flat[3] += 1e-7
    assert digest(np.frombuffer(all_in_one(found).encode(), np.uint8)) != GOLDEN[format, kind]


def test_names_shapes_and_types_are_canonical():
    found = drawn("he_normal")
    assert {name: value.shape for name, value in found.items()} == {
        "0_conv2d/kernel": (3, 2, 2, 5), "0_conv2d/bias": (5,), "2_dense/kernel": (250, 13), "2_dense/bias": (13,),
        "3_batch_norm/scale": (13,), "3_batch_norm/shift": (13,), "4_dense/kernel": (13, 3), "4_dense/bias": (3,),
    }  # fmt: skip
    assert {value.dtype for value in found.values()} == {np.dtype("float32")}
    assert (found["3_batch_norm/scale"] == 1).all()
    assert not any(found[name].any() for name in ("3_batch_norm/shift", "0_conv2d/bias", "4_dense/bias"))


def test_a_float64_run_starts_from_exactly_the_float32_numbers():
    single, double = (weights.initial_weights(LAB, SHAPE, 3, dtype) for dtype in ("float32", "float64"))
    assert list(single) == list(double)
    for name, value in single.items():
        assert double[name].dtype == np.float64
        np.testing.assert_array_equal(value.astype(np.float64), double[name], strict=True)


def test_a_layers_weights_do_not_depend_on_the_layers_around_it():
    """Only its number, its seed and its own shape count, so a change elsewhere leaves it as it is."""
    first = weights.initial_weights(Network(["flatten", "dense 11", "dense 5"]), SHAPE, 1)
    other = weights.initial_weights(Network(["flatten", "dense 11 bias=false", "dense 5", "relu"]), SHAPE, 1)
    np.testing.assert_array_equal(first["1_dense/kernel"], other["1_dense/kernel"])
    np.testing.assert_array_equal(first["2_dense/kernel"], other["2_dense/kernel"])
    assert not np.array_equal(first["1_dense/kernel"], weights.initial_weights(LAB, SHAPE, 2)["3_dense/kernel"][:784])


WITH_AND_WITHOUT = {
    "dropout": "dropout 0.5", "dropout of rate 0": "dropout 0", "batch normalisation": "batch_norm",
    "another activation": "tanh",
}  # fmt: skip


@pytest.mark.parametrize("what", WITH_AND_WITHOUT)
def test_what_draws_nothing_changes_no_starting_weights(what):
    """With dropout and without, same seed: the same start, so that the difference is dropout's."""
    layers = ["conv2d 3 5", "flatten", "dense 11", "relu", "dense 5 bias_initializer='uniform 1.0'"]
    more = [*layers[:1], WITH_AND_WITHOUT[what], *layers[1:3], WITH_AND_WITHOUT[what], *layers[3:]]

    def values(chosen: list[str], format: int) -> list[np.ndarray]:
        found = weights.initial_weights(Network(chosen), (9, 8, 1), 3, format=format)
        return [value for name, value in found.items() if "batch_norm" not in name]

    for one, other in zip(values(layers, 2), values(more, 2), strict=True):
        np.testing.assert_array_equal(one, other)
    apart = [not np.array_equal(*pair) for pair in zip(values(layers, 1), values(more, 1), strict=True)]
    assert apart == [False, False, True, False, True, True], "in format 1 the later layers start elsewhere"


def test_seeds_layers_and_parameters_have_numbers_of_their_own():
    network = Network(["flatten", *["dense 31 initializer='uniform 1.0' bias_initializer='uniform 1.0'"] * 3])
    values = [
        value
        for seed in (0, 1)
        for name, value in weights.initial_weights(network, (31, 1, 1), seed).items()
        if name.endswith(("kernel", "bias"))
    ]
    everything = np.concatenate([value.ravel() for value in values])
    assert len(np.unique(everything)) > 0.999 * len(everything), "float32 collisions aside, no number occurs twice"
    repeated = np.concatenate([everything, values[0].ravel()])
    assert len(np.unique(repeated)) < 0.9 * len(repeated), "a repeated kernel would be seen"


# --------------------------------------------------------------------------------------------------- the distributions
# What the literature says, written down a second time: kind → (family, spread as a function of fan_in and fan_out).

BY_THE_BOOK = {
    "he_normal": ("norm", lambda i, o: math.sqrt(2 / i)),
    "he_uniform": ("uniform", lambda i, o: math.sqrt(6 / i)),
    "glorot_normal": ("norm", lambda i, o: math.sqrt(2 / (i + o))),
    "glorot_uniform": ("uniform", lambda i, o: math.sqrt(6 / (i + o))),
    "lecun_normal": ("norm", lambda i, o: math.sqrt(1 / i)),
    "lecun_uniform": ("uniform", lambda i, o: math.sqrt(3 / i)),
    "normal": ("norm", lambda i, o: 0.05),
    "uniform": ("uniform", lambda i, o: 0.05),
    "torch_default": ("uniform", lambda i, o: 1 / math.sqrt(i)),
    "flax_default": ("truncnorm", lambda i, o: math.sqrt(1 / i) / stats.truncnorm.std(-2, 2)),
}


def test_every_initializer_has_a_distribution_and_a_test():
    assert set(spec.INITIALIZERS) == set(weights.DISTRIBUTIONS) == {*BY_THE_BOOK, "zeros"}


def p_value(values: np.ndarray, family: str, spread: float) -> float:
    """How well values fit the distribution: Kolmogorov and Smirnov's test."""
    place = {"norm": (0, spread), "uniform": (-spread, 2 * spread), "truncnorm": (-2, 2, 0, spread)}[family]
    return float(stats.kstest(values.ravel(), family, args=place).pvalue)


@pytest.mark.parametrize("kind", BY_THE_BOOK)
@pytest.mark.parametrize(
    ("layers", "shape", "fan_in", "fan_out"),
    [
        (["flatten", "dense 89"], (17, 11, 1), 187, 89),
        (["conv2d 37 [5, 3]"], (13, 11, 17), 5 * 3 * 17, 5 * 3 * 37),
    ],
    ids=["dense", "conv2d"],
)
def test_kernels_have_the_distribution_of_their_name(kind, layers, shape, fan_in, fan_out):
    (kernel,) = (
        value for name, value in weights.initial_weights(Network(layers, kind), shape, 5).items() if "kernel" in name
    )
    family, spread = BY_THE_BOOK[kind]
    size = spread(fan_in, fan_out)
    assert p_value(kernel, family, size) > 0.001
    assert p_value(kernel * 1.08, family, size) < 0.001, "a spread wrong by 8 % would be seen"
    if family == "uniform":
        assert np.abs(kernel).max() <= np.float32(size)
        assert np.abs(kernel).max() > 0.999 * size
    elif family == "norm":
        assert np.abs(kernel).max() > 3 * size, "not truncated"
    else:
        assert np.abs(kernel).max() <= np.float32(2 * size)
        assert kernel.std() == pytest.approx(math.sqrt(1 / fan_in), rel=0.02)


def test_a_bias_is_drawn_with_the_fans_of_its_kernel():
    network = Network(["flatten", "dense 4001 bias_initializer=torch_default"])
    bias = weights.initial_weights(network, (9, 7, 1), 5)["1_dense/bias"]
    assert p_value(bias, "uniform", 1 / math.sqrt(63)) > 0.001
    assert p_value(bias, "uniform", 1 / math.sqrt(4001)) < 0.001


def test_a_layers_own_initializer_comes_before_the_networks():
    network = Network(["flatten", "dense 11 initializer=zeros", "dense 13"], "uniform 0.25")
    found = weights.initial_weights(network, (5, 7, 1), 1)
    assert not found["1_dense/kernel"].any()
    assert 0.2 < np.abs(found["2_dense/kernel"]).max() <= 0.25


def test_the_given_size_is_used():
    for text, deviation in (("normal 0.3", 0.3), ("uniform 0.3", 0.3 / math.sqrt(3))):
        kernel = weights.initial_weights(Network(["flatten", "dense 97"], text), (11, 13, 1), 1)["1_dense/kernel"]
        assert kernel.std() == pytest.approx(deviation, rel=0.03)


def test_a_record_cannot_be_changed_after_it_was_checked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LAB.layers[0].filters = 3
