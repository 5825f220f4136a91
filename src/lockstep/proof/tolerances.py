"""How far a correct computation of each stage may be from the exact one: the proof's tolerances, derived.

The judge knows the exact answer (NumPy in float64) and what a computation in the trace's dtype can be expected to miss
it by. For each number of an array,

    tolerance = FACTOR · eps · size · max(1, c, ½·√terms)

    size    what its rounding errors scale with: the sum of the absolute values of what is added up, so that a sum that
            cancels is judged by its terms and not by what is left (Higham 2002, §3.1). The tables below.
    terms   how many numbers are added up. Rounding errors of a sum behave like a random walk (Higham & Mary 2019); its
            length is √n for the worst order of summation, and frameworks differ in that order.
    c       what NumPy in float32 was off here, in units of eps · size: measured each time, on the same numbers. It
            rises where a stage is worse conditioned than its size says.
    FACTOR  8: a framework's exp or blocked product may be a few times less exact than NumPy's.
    eps     half the spacing of the dtype's numbers at 1: 2⁻²⁴ or 2⁻⁵³.

A plain sum, such as a bias's gradient, may add up equal numbers (an average pool sends the same to every pixel); then
all roundings point one way, and nothing less than n · eps · size holds (Higham 2002, eq. 4.4).

A kink is no rounding error: where a relu's input is closer to 0 than its own tolerance, either slope is right, and the
gradient may differ by all of it. Such places are marked fragile, and only those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lockstep.backends import numpy as reference
from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.numpy import layers
from lockstep.backends.numpy.losses import softmax
from lockstep.backends.plan import Arrays, Taken, window_padding
from lockstep.spec import JOINS, LayerFacts

FACTOR = 8.0
TINY = {"float32": 1e-35, "float64": 1e-290}  # below this some frameworks flush to zero


def eps(dtype: str) -> float:
    """Half the spacing at 1."""
    return float(np.finfo(dtype).eps) / 2


def of(dtype: str, size: Any, terms: int = 1, measured: float = 1.0, is_sum: bool = False) -> np.ndarray:
    """See the head of this file; `measured` is c, `is_sum` a plain sum."""
    random = FACTOR * max(1.0, measured, 0.5 * math.sqrt(terms))
    return np.asarray(eps(dtype) * size * (max(random, terms) if is_sum else random) + TINY[dtype])


def of_factors(bits: int | None) -> float:
    """eps of what the factors of a product are rounded to, which keep so many fraction bits."""
    return 2.0 ** -(bits + 1) if bits else 0.0


PLAIN_SUMS = ("bias", "shift")  # parameters whose gradient is the sum of what is sent back


def measured(single: Any, exact: Any, size: Any) -> float:
    """c: the worst error of NumPy-float32 in units of eps · size."""
    unit = eps("float32") * np.asarray(size, np.float64) + TINY["float32"]
    off = np.abs(np.asarray(single, np.float64) - exact) / unit
    return float(np.max(off, initial=0.0, where=np.isfinite(off)))


# ------------------------------------------------------------------------------------------------ one layer, by itself
# Linear layers are their own measure: run on absolute values, they give the sum of the absolute values of all terms.

NORMS = ("batch_norm", "layer_norm")
LINEAR = ("conv2d", "dense", "avg_pool2d", "global_avg_pool", "flatten", "dropout", "add", "concat")

# kind → (x, y, record) → size of the output. Those that go through two functions of a library, such as an exponential
# and a logarithm of it, count twice: each of the two may be a few times less exact than NumPy's.
FORWARD: dict[str, Callable[[np.ndarray, np.ndarray, Any], np.ndarray]] = {
    "relu": lambda x, y, layer: np.abs(y),
    "leaky_relu": lambda x, y, layer: np.abs(y),
    "elu": lambda x, y, layer: np.abs(y) + layer.alpha * (x < 0),  # may be worked out as eˣ − 1
    "tanh": lambda x, y, layer: 2 * np.abs(y),
    "sigmoid": lambda x, y, layer: np.ones_like(y),  # may be worked out as ½ + ½·tanh(x/2)
    "softplus": lambda x, y, layer: 2 * np.abs(y),
    "gelu": lambda x, y, layer: 2 * np.abs(x),  # Φ(x) is a difference of two numbers near 1
}
# kind → (x, dy, record) → size of what is sent back, beside |dx|: slopes are differences of numbers up to 1.
BACKWARD: dict[str, Callable[[np.ndarray, np.ndarray, Any], Any]] = {
    "relu": lambda x, dy, layer: 0.0,
    "leaky_relu": lambda x, dy, layer: 0.0,
    "elu": lambda x, dy, layer: 2 * np.abs(dy) * layer.alpha * (x < 0),
    "tanh": lambda x, dy, layer: 2 * np.abs(dy),
    "sigmoid": lambda x, dy, layer: np.abs(dy),
    "softplus": lambda x, dy, layer: np.abs(dy),
    "gelu": lambda x, dy, layer: 2 * np.abs(dy) * (1 + np.abs(x)),
}
# kind → record → by how much the slope jumps at 0.
JUMPS: dict[str, Callable[[Any], float]] = {
    "relu": lambda layer: 1.0,
    "leaky_relu": lambda layer: abs(1 - layer.slope),
    "elu": lambda layer: abs(1 - layer.alpha),
}


def absolute(
    row: LayerFacts, x: Taken, on: reference.Pass, power: int = 1, dtype: str = "float32"
) -> tuple[layers.Layer, Arrays]:  # fmt: skip
    """A linear layer run on absolute values, and where its parameters' sizes will stand after its backward pass.

    In float32, which is exact enough for a size, or in float64 for numbers that would be 0 in it. With `power` 2 it is
    run on squares: what goes through it then is the variance of independent errors.
    """

    def size(value: np.ndarray) -> np.ndarray:
        return np.asarray(np.abs(value) ** power, dtype)

    parameters = {name: size(value) for name, value in on.parameters.items() if name.startswith(f"{row.name}/")}
    sizes = {name: np.zeros_like(value) for name, value in parameters.items()}
    masks = {name: size(value) for name, value in on.masks.items() if name == row.name}
    twin = reference.Pass(on.training, parameters, sizes, {}, masks, on.n, on.total, False)
    taken = tuple(map(size, x)) if isinstance(x, tuple) else size(x)
    return reference.LAYERS[row.layer.kind](row, taken, twin), sizes


def terms(row: LayerFacts, n: int) -> tuple[int, int, int]:
    """How many terms one number of (output, what is sent back, a parameter's gradient) adds up, for `n` examples."""
    layer = row.layer
    if layer.kind == "dense":
        return row.input_shape[0], layer.units, n
    if layer.kind == "conv2d":
        window = math.prod(layer.kernel)
        return window * row.input_shape[2], window * layer.filters, n * math.prod(row.output_shape[:2])
    if layer.kind in NORMS:
        sizes = (n, *row.input_shape)
        of_one = math.prod(sizes[axis] for axis in norm_axes(layer, len(sizes)))
        return of_one, of_one, math.prod(sizes[:-1])
    if layer.kind == "global_avg_pool":
        return math.prod(row.input_shape[:2]), 1, 1
    if layer.kind == "add":
        return len(row.inputs), 1, 1
    if window_of := layer.window():
        return math.prod(window_of[0]), math.prod(window_of[0]), 1
    return 1, 1, 1


def norm_axes(layer: Any, ndim: int) -> tuple[int, ...]:
    """The axes of what a layer of NORMS takes in, batch first, over which its mean and variance go."""
    if layer.kind == "batch_norm":
        return tuple(range(ndim - 1))
    return (ndim - 1,) if layer.over == "channels" else tuple(range(1, ndim))


def norm_sizes(
    row: LayerFacts, x: np.ndarray, on: reference.Pass
) -> tuple[np.ndarray, Callable[[np.ndarray], tuple[np.ndarray, Arrays]]]:
    """(size of y, dy → (size of dx, sizes of the parameters' gradients)) of a layer of NORMS.

    x̂ = (x − mean)/√(variance + ε) is off by about (|x| + mean |x|)/√(variance + ε): large where x varies little.
    """
    axes, examples = norm_axes(row.layer, x.ndim), tuple(range(x.ndim - 1))
    scale, shift = (np.abs(on.parameters[f"{row.name}/{name}"]) for name in ("scale", "shift"))
    is_given = row.layer.has_state and not on.training
    if is_given:
        mean, variance = (on.statistics[f"{row.name}/running_{what}"] for what in ("mean", "variance"))
    else:
        mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + row.layer.epsilon)
    spread = np.abs(x) + (np.abs(mean) if is_given else np.abs(x).mean(axes, keepdims=True))
    normal, off = np.abs(x - mean) * inverse, spread * inverse
    # Of the variance, and with it of everything divided by its root.
    condition = 1 + (off * normal).mean(axes, keepdims=True)
    y = scale * (off + normal * condition) + shift

    def backward(dy: np.ndarray) -> tuple[np.ndarray, Arrays]:
        dy = np.abs(dy)
        g, both = scale * dy, normal * condition + off
        if not is_given:
            g = (g + g.mean(axes, keepdims=True) + both * (g * both).mean(axes, keepdims=True)) * condition
        sizes = {f"{row.name}/scale": (dy * both).sum(examples), f"{row.name}/shift": dy.sum(examples)}
        return inverse * g, sizes

    return y, backward


def statistics_sizes(row: LayerFacts, x: np.ndarray, on: reference.Pass, dtype: str) -> Arrays:
    """Sizes of a batch normalisation's new running statistics; those of before stand in `on`.

    The variance is the mean of (x − mean)², and the mean is rounded too: by up to n roundings where all x are equal
    and round one way. Where x is constant the first order of that, 2·(x − mean)·δ, is 0, and δ² is all that there is;
    `dtype` is whose roundings these are.
    """
    axes = norm_axes(row.layer, x.ndim)
    m, running, n = row.layer.momentum, on.statistics, math.prod(x.shape[:-1])
    mean, size = x.mean(axes), np.abs(x).mean(axes)
    is_constant = np.abs(x - mean).max(axes) <= 2**-40 * np.abs(x).max(axes)
    worst, usual = (of(dtype, size, n, is_sum=is_sum) for is_sum in (True, False))
    of_mean = np.square(np.where(is_constant, worst, usual)) / eps(dtype)
    batch = 2 * ((np.abs(x) + size) * np.abs(x - mean)).mean(axes) + of_mean
    return {
        f"{row.name}/running_mean": np.abs(running[f"{row.name}/running_mean"]) + m * size,
        f"{row.name}/running_variance": np.abs(running[f"{row.name}/running_variance"]) + m * batch * n / max(n - 1, 1),
    }


def moved(x: np.ndarray, names: Iterable[str], drift: float) -> Arrays:
    """How far a batch's mean and variance move where x is off by `drift`.

    The mean by as much; the variance by twice that times x's mean distance from the mean, and, where x is constant and
    this is 0, still by the square of the drift.
    """
    axes = tuple(range(x.ndim - 1))
    n = math.prod(x.shape[:-1])
    spread = np.abs(x - x.mean(axis=axes)).mean(axis=axes)
    of_variance = (2 * spread * drift + drift**2) * n / max(n - 1, 1)
    return {name: of_variance if name.endswith("variance") else np.full_like(spread, drift) for name in names}


def fragile(row: LayerFacts, x: Any, y: np.ndarray, tolerance: Any, dy: np.ndarray) -> Any:
    """By how much dx may differ where x is known to `tolerance` only: at kinks, and between nearly equal maxima.

    What is exactly at a kink, or exactly equal, is not fragile: there the canonical meaning says who gets the gradient.
    Of a join `x` and `tolerance` are tuples, as is what is returned.
    """
    kind = row.layer.kind
    if kind in JOINS:
        kinks = getattr(row.layer, "rectified", False) & (np.abs(x[0]) <= tolerance[0]) & (x[0] != 0)
        return np.abs(dy) * row.layer.first * kinks if kinks.any() else 0.0, *(0.0,) * (len(x) - 1)
    if kind in JUMPS:
        return np.abs(dy) * JUMPS[kind](row.layer) * ((np.abs(x) <= tolerance) & (x != 0))
    if kind != "max_pool2d":
        return 0.0
    padding = window_padding(row)
    padded, of_each = (
        layers.pad(np.broadcast_to(np.asarray(value, np.float64), x.shape), padding, fill)
        for value, fill in ((x, -np.inf), (tolerance, 0.0))
    )
    close, near = np.zeros(y.shape, bool), []
    for place in layers.places(row):
        is_near = (padded[place] < y) & (padded[place] >= y - 2 * of_each[place])
        near.append((place, is_near | (padded[place] == y)))
        close |= is_near
    found = np.zeros_like(padded)
    for place, is_candidate in near:
        found[place] += np.abs(dy) * (is_candidate & close)
    return layers.unpad(found, padding)


# ---------------------------------------------------------------------------------------------------------- the losses


def loss_sizes(loss: str, logits: np.ndarray, targets: np.ndarray) -> tuple[float, np.ndarray]:
    """(size of the mean loss, size of each example's gradient by its logits, before the mean)."""
    z = np.abs(logits)
    if loss in ("mean_squared_error", ALL_PAIRS):
        t = targets.max(axis=0) if loss == ALL_PAIRS else targets
        return float(np.square(z + t).mean()), (z + t) * (2 / z.shape[1])
    if loss != "cross_entropy":  # log p of a cut probability, slopes of a softmax of a softmax
        p = softmax(logits)
        least = np.maximum((p * (targets > 0)).max(axis=1, keepdims=True), 1e-7)
        return float((z.max(axis=1) + 1 - np.log(least[:, 0])).mean()), (1 + z.max(axis=1, keepdims=True)) + 0 * z
    # e^(z − max) is off by |z − max| parts of itself, and it is added to 1.
    spread = logits.max(axis=1, keepdims=True) - logits
    p = softmax(logits)
    all_of_it = (p * spread).sum(axis=1, keepdims=True)
    return float((z.max(axis=1) + spread.max(axis=1) + 1).mean()), p * (2 + spread + all_of_it) + targets
