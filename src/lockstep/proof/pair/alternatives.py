"""What a call could have been made with instead: from its own signature, its partner's arguments and common values.

Breadth comes from what a function offers. Only what is no argument of any function stands in lists here: which side of
an image has the odd zero, the order in which an image is flattened, and the usual functions of one number.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lockstep.exchange.models.records import Call, Change

# What frameworks call the same thing.
MEANINGS = {
    "epsilon": ("eps", "epsilon", "variance_epsilon"),
    "momentum": ("momentum",),
    "slope": ("negative_slope", "alpha", "slope"),
    "exact": ("approximate",),
    "padding": ("padding",),
    "stride": ("stride", "strides", "window_strides"),
    "dilation": ("dilation", "dilation_rate", "kernel_dilation"),
    "groups": ("groups", "feature_group_count"),
    "axis": ("axis", "dim", "axes"),
    "corners": ("align_corners",),
    "antialias": ("antialias",),
    "method": ("mode", "method", "interpolation"),
    "causal": ("is_causal", "use_causal_mask"),
    "scale": ("scale",),
    "training": ("training", "use_running_stats", "use_running_average"),
    "activation": ("activation", "activation_fn"),
    "gates": ("recurrent_activation", "gate_fn"),
    "batch first": ("batch_first", "time_major"),
    "reset": ("reset_after",),
    "backwards": ("go_backwards", "reverse"),
    "ceiling": ("ceil_mode",),
    "counted": ("count_include_pad",),
    "beta": ("beta",),
    "threshold": ("threshold",),
    "max norm": ("max_norm",),
}
MEANING = {name: meaning for meaning, names in MEANINGS.items() for name in names}

COMMON: dict[str, tuple[Any, ...]] = {
    "epsilon": (1e-5, 1e-3, 1e-6, 1e-7, 1e-8, 1e-12),
    "momentum": (0.1, 0.9, 0.99, 0.01, 0.001, 0.999, 0.05, 0.95),
    "slope": (0.01, 0.2, 0.3, 0.1, 0.25, 1.0),
    "exact": ("none", "tanh", True, False),
    "method": ("nearest", "bilinear", "bicubic", "linear", "area", "nearest-exact", "lanczos3", "lanczos5"),
    "padding": ("same", "valid", "SAME", "VALID"),
    "gates": ("sigmoid", "hard_sigmoid"),
    "activation": (
        "linear", "relu", "tanh", "sigmoid", "gelu", "silu", "elu", "selu", "softplus", "softmax", "leaky_relu",
        "relu6",
    ),
    "axis": (-1, 1, 0, 2, -2, -3, 3),
    "dilation": (1, 2),
}  # fmt: skip
NEVER = {"dtype", "name", "inplace", "out", "device", "training", "trainable", "seed", "layout", "requires_grad",
         "kernel_initializer", "bias_initializer", "gamma_initializer", "beta_initializer", "data_format",
         "kernel_regularizer", "bias_regularizer", "embed_dim_to_check", "num_heads", "has_biases", "num_layers",
         "units", "filters", "in_features", "out_features", "num_features", "features", "generator"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A change and what it is of, for words and for the remedy."""

    change: Change
    meaning: str  # of MEANINGS, or "pads", "flatten", "function", or the argument's own name
    argument: str
    before: Any
    after: Any


def of_arguments(call: Call, signature: Mapping[str, Any], partners: Sequence[Call]) -> Iterator[Alternative]:
    """One argument at a time: first those in which the partners differ, with their values, then common ones."""
    asked: list[tuple[int, Alternative]] = []
    seen: set[tuple[str, str]] = set()
    for name, before in signature.items():
        if name in NEVER:
            continue
        meaning = MEANING.get(name, name)
        for rank, value in _values(before, meaning, partners):
            if (value == before and type(value) is type(before)) or (name, repr(value)) in seen:
                continue
            seen.add((name, repr(value)))
            change = Change(call=call.index, arguments={name: value})
            asked.append((rank, Alternative(change, meaning, name, before, value)))
    asked.sort(key=lambda each: each[0])
    return (alternative for _rank, alternative in asked)


def _values(before: Any, meaning: str, partners: Sequence[Call]) -> Iterator[tuple[int, Any]]:
    """(rank, value): what the partner has under this meaning, what it has elsewhere, what is common, what is near."""
    kind = type(before)
    for partner in partners:
        for name, value in partner.arguments.items():
            if MEANING.get(name, name) == meaning:
                yield 0, _like(value, before)
    for value in COMMON.get(meaning, ()):
        if before is None or isinstance(value, kind) or (kind is float and isinstance(value, int)) or kind is str:
            yield 1, value
    if isinstance(before, bool):
        yield 0, not before
        return
    if isinstance(before, float):
        for partner in partners:
            yield from ((2, value) for value in partner.arguments.values() if isinstance(value, float))
        if 0 < before < 1:
            yield 2, 1 - before
        yield from ((3, before * factor) for factor in (2.0, 0.5))
    elif isinstance(before, int):
        yield from ((3, before + step) for step in (1, -1) if before + step >= 0)
    elif isinstance(before, list) and before and all(isinstance(item, int) for item in before):
        yield from ((3, [item + step for item in before]) for step in (1, -1) if min(before) + step >= 0)


def _like(value: Any, before: Any) -> Any:
    """A partner's value as this call takes it: a pair where it has pairs."""
    if isinstance(before, list) and isinstance(value, int) and not isinstance(value, bool):
        return [value] * len(before)
    return value


# ------------------------------------------------------------------------------------------------- which side is padded


def of_padding(call: Call, shape: Sequence[int], kernel: Sequence[int]) -> Iterator[Alternative]:
    """Every way to pad a window's axes: `shape` of the image, without channels, and of the window."""
    stride = _each(call.arguments, "stride", len(shape), 1)
    dilation = _each(call.arguments, "dilation", len(shape), 1)
    ways: list[tuple[str, list[tuple[int, int]]]] = []
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    totals = [
        max(window + step * (math.ceil(size / step) - 1) - size, 0)
        for size, window, step in zip(shape, reach, stride, strict=True)
    ]
    ways.append(("same, the odd zero behind", [(total // 2, total - total // 2) for total in totals]))
    ways.append(("same, the odd zero before", [(total - total // 2, total // 2) for total in totals]))
    ways.append(("none", [(0, 0) for _size in shape]))
    for amount in range(1, max(reach) + 1):
        ways.append((f"{amount} on every side", [(amount, amount)] * len(shape)))
        ways.append((f"{amount} behind", [(0, amount)] * len(shape)))
        ways.append((f"{amount} before", [(amount, 0)] * len(shape)))
    for words, pads in ways:
        change = Change(call=call.index, pads=tuple(pads))
        yield Alternative(change, "pads", "padding", call.arguments.get("padding"), words)


def _each(arguments: Mapping[str, Any], meaning: str, n: int, default: int) -> list[int]:
    for name in MEANINGS[meaning]:
        value = arguments.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return [value] * n
        if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
            return [*value, *[value[-1]] * n][:n]
    return [default] * n


# ----------------------------------------------------------------------------------------------------- flattened orders


def of_flattening(call: Call, image: Sequence[int]) -> Iterator[Alternative]:
    """The input of a dense layer with its image flattened in another order of axes."""
    numbers = np.arange(math.prod(image)).reshape(image)
    for axes in itertools.permutations(range(len(image))):
        order = tuple(int(number) for number in numbers.transpose(axes).ravel())
        if order == tuple(range(len(order))):
            continue
        for way, given in (("", order), ("back", tuple(int(number) for number in np.argsort(order)))):
            change = Change(call=call.index, order=given)
            yield Alternative(change, "flatten", "order", list(range(len(image))), [*axes, *([way] if way else [])])


# ------------------------------------------------------------------------------------------ functions of single numbers


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return np.asarray(erf(x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))), np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x))))


def _softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


def _leaky(slope: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: np.where(x > 0, x, slope * x)


SELU, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    **{f"leaky relu with slope {slope:g}": _leaky(slope) for slope in (0.01, 0.1, 0.2, 0.25, 0.3)},
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU * np.expm1(np.minimum(x, 0))),
    "GELU, exact": lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    "GELU by tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "GELU by sigmoid": lambda x: x * _sigmoid(1.702 * x),
    "SiLU": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hard sigmoid, x/6 + 1/2": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard sigmoid, x/5 + 1/2": lambda x: np.clip(x / 5 + 0.5, 0, 1),
    "hard swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "hard tanh": lambda x: np.clip(x, -1, 1),
    "exponential": lambda x: np.exp(np.minimum(x, 700)),
    **{f"softmax over axis {axis}": partial(_softmax, axis=axis) for axis in (-1, 0, 1, 2)},
    "log softmax": lambda x: np.log(np.maximum(_softmax(x, -1), 1e-300)),
}  # fmt: skip


def applied(x: np.ndarray, target: np.ndarray, room: float) -> list[str]:
    """The functions that make the one of the other, in whatever order the values stand."""
    if x.size != target.size:
        return []
    found, wanted = [], np.sort(target.ravel())
    for name, function in FUNCTIONS.items():
        with np.errstate(all="ignore"):
            try:
                value = np.sort(np.asarray(function(x)).ravel())
            except (ValueError, IndexError):
                continue
            if value.shape == wanted.shape and bool((np.abs(value - wanted) <= room).all()):
                found.append(name)
    return found
