"""What a call could have been made with instead: from its own signature, its partner's arguments and common values.

Breadth comes from what a function offers. Only what is no argument of any function stands in lists here: which side of
an image has the odd zero, the order in which an image is flattened, and the usual functions of one number.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from lockstep.exchange.models.records import Call, Change, Layer, Model
from lockstep.language import Text, joined, later
from lockstep.proof.pair import permutations

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
    "merge": ("merge_mode",),
    "mask": ("mask", "mask_zero"),
}
MEANING = {name: meaning for meaning, names in MEANINGS.items() for name in names}
# Arguments that say a meaning's contrary.
INVERTED = {"use_running_average", "use_running_stats", "deterministic"}
WINDOWS = {"conv", "pool", *(f"{word}_pool{n}" for word in ("max", "avg") for n in ("", "1d", "2d", "3d"))}

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
    "corners": (True, False),
    "antialias": (True, False),
    "scale": (1.0,),
    "merge": ("concat", "sum", "mul", "ave"),
}  # fmt: skip
NEVER = {"dtype", "name", "inplace", "out", "device", "training", "trainable", "seed", "layout", "requires_grad",
         "kernel_initializer", "bias_initializer", "gamma_initializer", "beta_initializer", "data_format",
         "kernel_regularizer", "bias_regularizer", "embed_dim_to_check", "num_heads", "has_biases", "num_layers",
         "units", "filters", "in_features", "out_features", "num_features", "features", "generator",
         "computed_in", "return_indices"}  # fmt: skip
# Arguments of PyTorch's constructors that a layer asks as it works, and no call of its shows.
OF_CONSTRUCTORS = {"norm_first", "padding_mode", "bidirectional", "batch_first", "activation", "add_zero_attn"}
# Arguments that are a mode elsewhere, and a meaning of these.
OF_KIND = {"training": ("batch_norm",)}


@dataclasses.dataclass(frozen=True)
class Alternative:
    """A change and what it is of, for words and for the remedy."""

    change: Change
    meaning: str  # of MEANINGS, or "pads", "flatten", "function", or the argument's own name
    argument: str
    before: Any
    after: Any
    rank: int = 0  # 0: what the partner has; 1: what is common; 2 and 3: what is near

    def parts(self) -> list[Alternative]:
        """What a person would call one difference each."""
        if self.meaning != "pads and counted":
            return [self]
        counted = dataclasses.replace(self, meaning="counted", argument="count_include_pad", before=False, after=True)
        return [dataclasses.replace(self, meaning="pads"), counted]


def of_constructors(a: Model, b: Model, calls: Sequence[Call]) -> Iterator[tuple[Layer, str, Any]]:
    """(layer of the second model around a place, argument, value): what the first one's has, and what is not so."""
    for layer in b.layers:
        if not any(call.path == layer.path or call.path.startswith(f"{layer.path}.") for call in calls):
            continue
        alike = [other for other in a.layers if other.name == layer.name]
        for name, before in layer.arguments.items():
            if name in NEVER or name not in OF_CONSTRUCTORS:
                continue
            values = [other.arguments[name] for other in alike if name in other.arguments]
            for value in dict.fromkeys([*values, *([not before] if isinstance(before, bool) else [])]):
                if value != before:
                    yield layer, name, value


def is_same_meaning(one: str, other: str) -> bool:
    """Whether two meanings are of one thing: zeros at a border are an argument here and put there by hand there."""
    return one == other or {one, other} <= {"pads", "padding", "pads and counted"}


def of_arguments(call: Call, signature: Mapping[str, Any], partners: Sequence[Call]) -> Iterator[Alternative]:
    """One argument at a time: first those in which the partners differ, with their values, then common ones."""
    asked: list[tuple[int, Alternative]] = []
    seen: set[tuple[str, str]] = set()
    for name, before in signature.items():
        if name in NEVER and call.kind not in OF_KIND.get(name, ()):
            continue
        meaning = MEANING.get(name, name)
        for rank, value in _values(name, before, meaning, partners):
            if (value == before and type(value) is type(before)) or (name, repr(value)) in seen:
                continue
            seen.add((name, repr(value)))
            change = Change(call=call.index, arguments={name: value})
            asked.append((rank, Alternative(change, meaning, name, before, value, rank)))
    asked.sort(key=lambda each: each[0])
    return (alternative for _rank, alternative in asked)


def _values(argument: str, before: Any, meaning: str, partners: Sequence[Call]) -> Iterator[tuple[int, Any]]:
    """(rank, value): what the partner has under this meaning and elsewhere, what is common, what is near."""
    kind = type(before)
    for partner in partners:
        for name, value in partner.arguments.items():
            if MEANING.get(name, name) == meaning:
                yield 0, like(value, before, name, argument)
    for value in COMMON.get(meaning, ()):
        if before is None or isinstance(value, kind) or (kind is float and isinstance(value, int)) or kind is str:
            yield 1, value
    if isinstance(before, bool):
        yield 0, not before
        return
    if meaning == "training" and before is None:
        yield from ((0, value) for value in (True, False))
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


def like(value: Any, before: Any, theirs: str = "", own: str = "") -> Any:
    """A partner's value as this call takes it: a pair where it has pairs, the other way round where names say so."""
    if isinstance(value, bool) and (theirs in INVERTED) != (own in INVERTED):
        return not value
    if isinstance(before, list) and isinstance(value, int) and not isinstance(value, bool):
        return [value] * len(before)
    return value


# ------------------------------------------------------------------------------------------------- which side is padded


def of_padding(
    call: Call, shape: Sequence[int], kernel: Sequence[int], partners: Iterable[tuple[tuple[int, int], ...]] = ()
) -> Iterator[Alternative]:
    """Ways to pad a window's axes, the partners' first: `shape` of the image, without channels, and of the window.

    Zeros that are put there by hand are counted in an average, so a call that does not count its own is made with two
    alternatives at once, or with that alone where its own border is the same.
    """
    reach, totals = _reach(call, kernel), _totals(call, shape, kernel)
    ways: dict[tuple[tuple[int, int], ...], tuple[str, int]] = {}
    for pads in partners:
        if len(pads) == len(shape):
            ways.setdefault(pads, (_words(pads), 0))
    steps = range(1, max(reach) + 1)
    usual: list[tuple[str, list[tuple[int, int]]]] = [
        (later("same, the odd zero behind"), [(total // 2, total - total // 2) for total in totals]),
        (later("same, the odd zero before"), [(total - total // 2, total // 2) for total in totals]),
        *(
            (_words([pair] * len(shape)), [pair] * len(shape))
            for pair in ((0, 0), *(pair for n in steps for pair in ((n, n), (0, n), (n, 0))))
        ),
    ]  # fmt: skip
    for words, around in usual:
        ways.setdefault(tuple(around), (words, 1))
    own = own_pads(call, shape, kernel)
    is_counted = not call.kind.startswith("avg_pool") or bool(call.arguments.get("count_include_pad", False))
    before = call.arguments.get("padding")
    for pads, (words, rank) in ways.items():
        change = Change(call=call.index, pads=pads)
        if not is_counted and own is not None and any(map(any, pads)):
            if own == pads:
                yield Alternative(change, "counted", "count_include_pad", False, True, rank)
            else:
                yield Alternative(change, "pads and counted", "padding", before, words, rank)
        elif own != pads or call.kind.startswith("conv"):
            yield Alternative(change, "pads", "padding", before, words, rank)


def _words(pads: Sequence[tuple[int, int]]) -> Text:
    """The border as a person says it."""
    if len(set(pads)) > 1:
        return _each_axis(pads)
    before, behind = pads[0]
    if before == behind:
        return later("{n} on every side", n=before) if before else later("no border")
    if before and behind:
        return _each_axis(pads[:1])
    return later("{n} before", n=before) if before else later("{n} behind", n=behind)


def _each_axis(pads: Iterable[tuple[int, int]]) -> Text:
    told = [later("{before} before and {behind} behind", before=before, behind=behind) for before, behind in pads]
    return joined(told, " × ")


def _reach(call: Call, kernel: Sequence[int]) -> list[int]:
    """How far a window goes along each axis."""
    dilation = _each(call.arguments, "dilation", len(kernel), 1)
    return [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]


def _stride(call: Call, kernel: Sequence[int]) -> list[int]:
    """A pool's is its window where nothing says another."""
    is_pool = "pool" in call.kind
    found = _each(call.arguments, "stride", len(kernel), 0)
    return [step or (size if is_pool else 1) for step, size in zip(found, kernel, strict=True)]


def _totals(call: Call, shape: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """The zeros of "same" padding along each axis."""
    return [
        max(window + step * (math.ceil(size / step) - 1) - size, 0)
        for size, window, step in zip(shape, _reach(call, kernel), _stride(call, kernel), strict=True)
    ]


def own_pads(call: Call, shape: Sequence[int], kernel: Sequence[int]) -> tuple[tuple[int, int], ...] | None:
    """The zeros that a call's own argument puts before and behind its image; None where nobody knows."""
    given = call.arguments.get("padding")
    word = str(given).lower()
    if word == "same":
        return tuple((total // 2, total - total // 2) for total in _totals(call, shape, kernel))
    if word in ("valid", "none"):
        return ((0, 0),) * len(shape)
    if word == "causal":
        return tuple((reach - 1, 0) for reach in _reach(call, kernel))
    if isinstance(given, int):
        return ((given, given),) * len(shape)
    if isinstance(given, list) and len(given) in (1, len(shape)):
        pairs = [[each, each] if isinstance(each, int) else each for each in given] * (len(shape) // len(given))
        if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return tuple((int(before), int(behind)) for before, behind in pairs)
    return None


def of_cropping(
    call: Call, shape: Sequence[int], kernel: Sequence[int], sizes: Iterable[Sequence[int]]
) -> Iterator[Alternative]:
    """What a transposed convolution may cut off of all that it gives, to be as large as the other side's.

    Where its kernel is narrower than its stride, all is less than that: then zeros are put behind.
    """
    stride = _each(call.arguments, "stride", len(kernel), 1)
    whole = [(n - 1) * step + window for n, step, window in zip(shape, stride, _reach(call, kernel), strict=True)]
    seen = set()
    for size in sizes:
        if len(size) != len(whole):
            continue
        totals = [have - want for have, want in zip(whole, size, strict=True)]
        for n in range(max(0, *totals) + 1):
            before = [min(n, max(total, 0)) for total in totals]
            cut = tuple((-first, first - total) for first, total in zip(before, totals, strict=True))
            if cut in seen:
                continue
            seen.add(cut)
            words = _each_axis((-first, -last) for first, last in cut)
            yield Alternative(
                Change(call=call.index, pads=cut), "crop", "padding", call.arguments.get("padding"), words, 1
            )


def _each(arguments: Mapping[str, Any], meaning: str, n: int, default: int) -> list[int]:
    for name in MEANINGS[meaning]:
        value = arguments.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return [value] * n
        if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
            return [*value, *[value[-1]] * n][:n]
    return [default] * n


# --------------------------------------------------------------------------------------------------- orders of an input


def of_order(
    call: Call, order: np.ndarray, shape: Sequence[int], own: Sequence[int], partners: Sequence[int]
) -> Alternative:
    """The first tensor with its entries where the partner's has them: `order` of its flat entries, in each example.

    `shape` is that of the partner's tensor; `own` and `partners` are the images that were flattened into both.
    """
    change = Change(call=call.index, order=tuple(int(place) for place in order))
    if len(shape) == 1 and math.prod(own) == math.prod(partners) == len(order):
        told = permutations.described(order, partners, own)
        if told is not None and not told.moved:
            return Alternative(change, "flatten", "order", list(range(len(own))), list(told.axes))
    told = permutations.described(order, shape, shape)
    return Alternative(change, "order", "order", None, None if told is None else told.words())


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
LEAKY: dict[str, float] = {
    later("leaky relu with slope {slope}", slope=f"{slope:g}"): slope for slope in (0.01, 0.1, 0.2, 0.25, 0.3)
}
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    later("identity"): lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    **{name: _leaky(slope) for name, slope in LEAKY.items()},
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU * np.expm1(np.minimum(x, 0))),
    later("GELU, exact"): lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2))),
    later("GELU by tanh"): lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    later("GELU by sigmoid"): lambda x: x * _sigmoid(1.702 * x),
    "SiLU": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    later("hard sigmoid, x/6 + 1/2"): lambda x: np.clip(x / 6 + 0.5, 0, 1),
    later("hard sigmoid, x/5 + 1/2"): lambda x: np.clip(x / 5 + 0.5, 0, 1),
    later("hard swish"): lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    later("hard tanh"): lambda x: np.clip(x, -1, 1),
    later("exponential"): lambda x: np.exp(np.minimum(x, 700)),
    **{later("softmax over axis {axis}", axis=axis): partial(_softmax, axis=axis) for axis in (-1, 0, 1, 2)},
    "log softmax": lambda x: np.log(np.maximum(_softmax(x, -1), 1e-300)),
}  # fmt: skip


def applied(x: np.ndarray, target: np.ndarray, tolerance: float) -> list[str]:
    """The names of all functions that make the one of the other, in whatever order the values stand."""
    if x.size != target.size:
        return []
    found, wanted = [], np.sort(target.ravel())
    for name, function in FUNCTIONS.items():
        with np.errstate(all="ignore"):
            try:
                value = np.sort(np.asarray(function(x)).ravel())
            except (ValueError, IndexError):
                continue
            if value.shape == wanted.shape and bool((np.abs(value - wanted) <= tolerance).all()):
                found.append(name)
    return found
