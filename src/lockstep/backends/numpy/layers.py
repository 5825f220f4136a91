"""The NumPy backend: the reference, the judge and the textbook.

It imports NumPy only, so what stands here is all there is: each layer is one function whose forward pass returns its
own backward pass. What the way back needs stays in that closure; nothing is stored on a layer. Training takes the forms
of `backends.numpy_fast` for the layers on which it spends its time: the same sums in another order.

Both cores work in every phase: a batch is cut into slices, one per thread, each slice goes through the whole network,
and each thread updates its part of the parameters. Two look across the slices: batch normalisation, through
`Pass.total`, and the gradients of large dense kernels (`Model._left`). NumPy's matrix products run single-threaded then
(the worker sets this), because two levels of threads would fight.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lockstep.backends.numpy import fast
from lockstep.backends.plan import PREDICT_BATCH, Arrays, Plan, batches, pool_counts, window_padding
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts, Recipe

Backward = Callable[[np.ndarray, bool], np.ndarray | None]  # (dL/dy, is dL/dx wanted?) → dL/dx
Layer = tuple[np.ndarray, Backward]
Layers = list[tuple[LayerFacts, Callable[[LayerFacts, np.ndarray, "Pass"], Layer]]]
INFER_BATCH = 64  # images in one inference call of a thread: few enough for the cache


@dataclass
class Pass:
    """One slice of a batch on its way through the network. `total` sums an array over all slices of the batch."""

    training: bool
    parameters: Arrays
    gradients: Arrays
    statistics: Arrays
    masks: Arrays
    n: int  # examples in the whole batch
    total: Callable[[np.ndarray], np.ndarray]
    leads: bool  # the one slice that updates the running statistics
    factor: Callable[[np.ndarray], np.ndarray] = lambda value: value  # what a factor of a product is rounded to
    space: fast.Space | None = None  # where the fast forms keep their arrays
    left: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # see `Model._left`

    def keep_running(self, row: LayerFacts, mean: np.ndarray, variance: np.ndarray, n: int) -> None:
        """Move a batch normalisation's running statistics towards those of a batch of `n` values a channel."""
        if self.leads:
            seen = variance if row.layer.running_variance == "biased" else variance * (n / max(n - 1, 1))
            for what, batch in (("mean", mean), ("variance", seen)):
                running = self.statistics[f"{row.name}/running_{what}"]
                running += row.layer.momentum * (batch - running)


# ----------------------------------------------------------------------------------------------------------- layers


def dense(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = x·w + b;  dx = dy·wᵀ, dw = xᵀ·dy, db = Σ dy."""
    w, b = on.factor(on.parameters[f"{row.name}/kernel"]), on.parameters.get(f"{row.name}/bias")
    x = on.factor(x)
    y = x @ w
    if b is not None:
        y += b

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if b is not None:
            dy.sum(axis=0, out=on.gradients[f"{row.name}/bias"])
        dy = on.factor(dy)
        np.matmul(x.T, dy, out=on.gradients[f"{row.name}/kernel"])
        return dy @ w.T if wants_dx else None

    return y, backward


def conv2d(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """A dense layer on every window: unfold the windows into rows, one matrix product, fold the gradient back."""
    w, b = on.factor(on.parameters[f"{row.name}/kernel"]), on.parameters.get(f"{row.name}/bias")
    flat = w.reshape(-1, row.layer.filters)
    padding = window_padding(row)
    padded = pad(on.factor(x), padding, 0.0)
    columns = _unfold(padded, row)
    y = columns @ flat
    if b is not None:
        y += b

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dy = dy.reshape(-1, row.layer.filters)
        if b is not None:
            np.matmul(np.ones(len(dy), dy.dtype), dy, out=on.gradients[f"{row.name}/bias"])
        dy = on.factor(dy)
        np.matmul(columns.T, dy, out=on.gradients[f"{row.name}/kernel"].reshape(flat.shape))
        return _fold(dy @ flat.T, padded.shape, padding, row) if wants_dx else None

    return y.reshape(len(x), *row.output_shape), backward


def max_pool2d(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = the largest value of each window; the first one in row-major order gets dy, or all of them a share."""
    padding = window_padding(row)
    padded = pad(x, padding, -np.inf)
    spots = list(places(row))
    y = padded[spots[0]].copy()
    for place in spots[1:]:
        np.maximum(y, padded[place], out=y)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if not wants_dx:
            return None
        dx = np.zeros_like(padded)
        if row.layer.ties == "shared":
            dy = dy / sum((padded[place] == y).astype(dy.dtype) for place in spots)
            for place in spots:
                dx[place] += dy * (padded[place] == y)
            return unpad(dx, padding)
        free = np.ones(y.shape, bool)
        for place in spots:
            hit = padded[place] == y
            hit &= free
            free ^= hit
            dx[place] += dy * hit
        return unpad(dx, padding)

    return y, backward


def avg_pool2d(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = the mean of the real pixels of each window; each of them gets dy / their number."""
    padding, counts = window_padding(row), pool_counts(row).astype(x.dtype)
    padded = pad(x, padding, 0.0)
    spots = list(places(row))
    y = padded[spots[0]].copy()
    for place in spots[1:]:
        y += padded[place]
    y /= counts

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if not wants_dx:
            return None
        dx, share = np.zeros_like(padded), dy / counts
        for place in spots:
            dx[place] += share
        return unpad(dx, padding)

    return y, backward


def global_avg_pool(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = the mean of each channel over the image; every pixel gets dy / number of pixels."""
    pixels = x.shape[1] * x.shape[2]

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        return np.broadcast_to((dy / pixels)[:, None, None, :], x.shape)

    return x.mean(axis=(1, 2)), backward


def flatten(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """(batch, height, width, channels) → (batch, height · width · channels), or with the channels first."""
    there, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if row.layer.order == "chw" and x.ndim == 4 else (range(x.ndim),) * 2
    turned = x.transpose(*there)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        return dy.reshape(turned.shape).transpose(*back)

    return turned.reshape(len(x), -1), backward


def batch_norm(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = scale·x̂ + shift with x̂ = (x − mean)/√(variance + ε) (Ioffe & Szegedy 2015; the backward pass is theirs).

    Training uses the batch's mean and biased variance; the running variance takes the unbiased one, n/(n−1) of it,
    unless told otherwise. With running statistics, mean and variance are constants: dx = scale·dy/√(variance + ε).
    """
    layer, shape = row.layer, x.shape
    scale, shift = on.parameters[f"{row.name}/scale"], on.parameters[f"{row.name}/shift"]
    x = x.reshape(-1, shape[-1])
    n = on.n * math.prod(row.input_shape[:-1])
    if on.training:
        mean = on.total(x.sum(axis=0)) / n
        centred = x - mean
        variance = on.total(np.square(centred).sum(axis=0)) / n
        on.keep_running(row, mean, variance, n)
    else:
        centred = x - on.statistics[f"{row.name}/running_mean"]
        variance = on.statistics[f"{row.name}/running_variance"]
    inverse = 1.0 / np.sqrt(variance + layer.epsilon)
    normal = centred * inverse

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dy = dy.reshape(normal.shape)
        dshift, dscale = dy.sum(axis=0), (dy * normal).sum(axis=0)
        on.gradients[f"{row.name}/shift"][...] = dshift
        on.gradients[f"{row.name}/scale"][...] = dscale
        if not on.training:
            return (scale * inverse * dy).reshape(shape)
        dshift, dscale = on.total(dshift), on.total(dscale)
        dx = scale * inverse * (dy - dshift / n - normal * (dscale / n))
        return dx.reshape(shape)

    return (scale * normal + shift).reshape(shape), backward


def dropout(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = mask · x, where the mask is 0 or 1/keep; without effect in inference."""
    mask = on.masks.get(row.name)
    if mask is None:
        return x, lambda dy, wants_dx: dy
    return x * mask, lambda dy, wants_dx: dy * mask


def relu(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = max(x, 0);  dx = dy where x > 0."""
    y = np.maximum(x, 0)
    return y, lambda dy, wants_dx: dy * (y > 0)


def leaky_relu(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = x where x > 0, slope·x elsewhere."""
    factor = np.where(x > 0, x.dtype.type(1), x.dtype.type(row.layer.slope))
    return x * factor, lambda dy, wants_dx: dy * factor


def elu(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = x where x > 0, α·(eˣ − 1) elsewhere, where the slope is y + α."""
    y = np.where(x > 0, x, row.layer.alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy, wants_dx: dy * np.where(x > 0, x.dtype.type(1), y + row.layer.alpha)


def tanh(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = tanh x;  dx = dy·(1 − y²)."""
    y = np.tanh(x)
    return y, lambda dy, wants_dx: dy * (1 - y * y)


def sigmoid(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = 1/(1 + e⁻ˣ);  dx = dy·y·(1 − y)."""
    y = _sigmoid(x)
    return y, lambda dy, wants_dx: dy * (y * (1 - y))


def softplus(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = log(1 + eˣ);  dx = dy·sigmoid(x)."""
    y = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return y, lambda dy, wants_dx: dy * _sigmoid(x)


def gelu(row: LayerFacts, x: np.ndarray, on: Pass) -> Layer:
    """y = x·Φ(x);  dx = dy·(Φ(x) + x·φ(x)), with Φ and φ of the standard normal distribution.

    The tanh formula has Φ(x) ≈ ½·(1 + tanh u), u = √(2/π)·(x + 0.044715·x³), and its own slope in φ's place.
    """
    if row.layer.form == "tanh":
        c = math.sqrt(2 / math.pi)
        u = np.tanh(c * (x + 0.044715 * x * x * x))
        half = 0.5 * (1 + u)
        slope = 0.5 * (1 - u * u) * c * (1 + 3 * 0.044715 * x * x)
        return x * half, lambda dy, wants_dx: dy * (half + x * slope)
    cumulative = 0.5 * (1 + erf(x / math.sqrt(2)))
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return x * cumulative, lambda dy, wants_dx: dy * (cumulative + x * density)


LAYERS: dict[str, Callable[[LayerFacts, np.ndarray, Pass], Layer]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": global_avg_pool,
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "dropout": dropout,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "gelu": gelu,
}


# ------------------------------------------------------------------------------------- windows and special functions


def pad(x: np.ndarray, padding: Any, value: float) -> np.ndarray:
    """Images (n, height, width, channels) with a border of `value`; see `base.window_padding`."""
    if not any(map(any, padding)):
        return x
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def unpad(x: np.ndarray, padding: Any) -> np.ndarray:
    """The way back of `pad`."""
    (top, bottom), (left, right) = padding
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right, :]


def places(row: LayerFacts) -> Any:
    """For each place of a window, in row-major order, the index of that pixel of all windows of a padded batch."""
    (high, wide), (down, across) = row.layer.window()
    rows, columns, _ = row.output_shape
    for i in range(high):
        for j in range(wide):
            yield np.s_[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * across + 1 : across, :]


def _unfold(x: np.ndarray, row: LayerFacts) -> np.ndarray:
    """Every window of x (n, height, width, channels) as a row: (n · windows, kernel height · width · channels)."""
    n, height, width, channels = x.shape
    (high, wide), (down, across) = row.layer.window()
    rows, columns, _ = row.output_shape
    if wide * channels < 16:  # short rows are slow to copy: copy along the image instead and hand out the transpose
        unfolded = np.empty((high, wide, channels, n, rows, columns), x.dtype)
        for (i, j), place in zip(np.ndindex(high, wide), places(row), strict=True):
            unfolded[i, j] = np.moveaxis(x[place], 3, 0)
        return unfolded.reshape(high * wide * channels, -1).T
    # A row of a window, (kernel width · channels) numbers, is contiguous. The strides are worked out here because NumPy
    # leaves those of axes of length 1 undefined.
    x = np.ascontiguousarray(x)
    pixel = channels * x.itemsize
    line = width * pixel
    view = as_strided(
        x, (n, rows, columns, high, wide * channels), (height * line, down * line, across * pixel, line, x.itemsize)
    )
    return view.reshape(n * rows * columns, -1)


def _fold(columns: np.ndarray, shape: tuple[int, ...], padding: Any, row: LayerFacts) -> np.ndarray:
    """Add every window's row back into the image that it came from: the transpose of `_unfold`, without the padding."""
    (high, wide), _ = row.layer.window()
    windows = columns.reshape(shape[0], *row.output_shape[:2], high * wide, shape[3])
    x = np.zeros(shape, columns.dtype)
    for k, place in enumerate(places(row)):
        x[place] += windows[:, :, :, k]
    return unpad(x, padding)


def _rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 numbers with only so many fraction bits (of 23), to nearest, ties to even; in the dtype they came in."""
    dropped = 23 - bits
    words = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (words >> np.uint32(dropped)) & np.uint32(1)
    words = (words + np.uint32((1 << (dropped - 1)) - 1) + odd) >> np.uint32(dropped) << np.uint32(dropped)
    return words.view(np.float32).astype(x.dtype, copy=False)


# What the factors of a product are rounded to: TF32 keeps 10 of float32's fraction bits, bfloat16 keeps 7.
FACTORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "full": lambda value: value,
    "tf32": lambda value: _rounded(value, 10),
    "bfloat16": lambda value: _rounded(value, 7),
}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x > 0, 1 / (1 + small), small / (1 + small))


def _erf_table() -> np.ndarray:
    """Taylor coefficients of erf around −6, −6 + 1/64 … 6: (769, 8); dᵏ⁺¹erf/dxᵏ⁺¹ = (−1)ᵏ·Hₖ(x)·2/√π·e^(−x²)."""
    points = np.arange(-384, 385) / 64
    slope = 2 / math.sqrt(math.pi) * np.exp(-points * points)
    table = [np.array([math.erf(point) for point in points])]
    hermite, before = np.ones_like(points), np.zeros_like(points)
    for k in range(7):
        table.append((-1) ** k * hermite * slope / math.factorial(k + 1))
        hermite, before = 2 * points * hermite - 2 * k * before, hermite
    return np.stack(table, axis=1)


_ERF = _erf_table()


def erf(x: np.ndarray) -> np.ndarray:
    """The error function to 2e-16, which NumPy lacks: Taylor's series of order 7 around the nearest 64th."""
    clipped = np.clip(x, -6, 6)  # |erf| is 1 to the last bit beyond
    nearest = np.rint(clipped * 64)
    h = clipped - nearest / 64
    coefficients = _ERF.astype(x.dtype)[np.nan_to_num(nearest).astype(np.int64) + 384]  # not a number stays one in h
    y = coefficients[..., 7]
    for k in range(6, -1, -1):
        y = y * h + coefficients[..., k]
    return np.asarray(y)


# ----------------------------------------------------------------------------------------------------------- losses
# (outputs (n, classes), targets (n, classes)) → (loss of each example, its gradient by the outputs)


def cross_entropy(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−Σ t·log softmax(z);  dz = softmax(z) − t, because Σ t = 1."""
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    return -(t * (z - np.log(total))).sum(axis=1), e / total - t


def mean_squared_error(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the classes of (z − t)²;  dz = 2·(z − t)/classes."""
    difference = z - t
    return np.square(difference).mean(axis=1), difference * (2 / z.shape[1])


def cross_entropy_clipped(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−Σ t·log clip(p), p = softmax(z);  dp = −t/p where p is not cut, dz = p·(dp − Σ p·dp)."""
    p = softmax(z)
    cut = np.clip(p, z.dtype.type(1e-7), 1 - z.dtype.type(1e-7))
    dp = np.where(cut == p, -t / cut, 0)
    return -(t * np.log(cut)).sum(axis=1), p * (dp - (p * dp).sum(axis=1, keepdims=True))


def cross_entropy_softmax_twice(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy of p = softmax(z) taken for logits;  dz = p·(dp − Σ p·dp)."""
    p = softmax(z)
    loss, dp = cross_entropy(p, t)
    return loss, p * (dp - (p * dp).sum(axis=1, keepdims=True))


def softmax(z: np.ndarray) -> np.ndarray:
    """Of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


LOSSES = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}


# ------------------------------------------------------------------------------------------------------- optimizers
# In place on flat buffers: (record, this update's `Numbers`, w, g, scratch, *slots).


@dataclass(frozen=True)
class Numbers:
    """What is decided for one update: learning rate, ε, what momentum is multiplied by, updates including this one."""

    rate: float
    epsilon: float
    buffer_factor: float
    t: int


def sgd(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray) -> None:
    """w ← w − lr·g."""
    w -= np.multiply(g, now.rate, out=s)


def momentum(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, b: np.ndarray) -> None:
    """b ← μ·b + g; w ← w − lr·b."""
    b *= o.momentum * now.buffer_factor
    b += g
    w -= np.multiply(b, now.rate, out=s)


def nesterov(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, b: np.ndarray) -> None:
    """b ← μ·b + g; w ← w − lr·(g + μ·b)."""
    b *= o.momentum * now.buffer_factor
    b += g
    np.multiply(b, o.momentum, out=s)
    s += g
    s *= now.rate
    w -= s


def adam(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, m: np.ndarray, v: np.ndarray) -> None:
    """m ← β₁·m + (1−β₁)·g; v ← β₂·v + (1−β₂)·g²; w ← w − lr·m̂/(√v̂ + ε), where x̂ₜ = x/(1−βᵗ)."""
    m *= o.beta1
    m += np.multiply(g, 1 - o.beta1, out=s)
    v *= o.beta2
    np.multiply(g, g, out=s)
    s *= 1 - o.beta2
    v += s
    np.sqrt(v, out=s)
    s *= 1 / math.sqrt(1 - o.beta2**now.t)
    s += now.epsilon
    np.divide(m, s, out=s)
    s *= now.rate / (1 - o.beta1**now.t)
    w -= s


def rmsprop(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, q: np.ndarray) -> None:
    """q ← ρ·q + (1−ρ)·g²; w ← w − lr·g/(√q + ε), or g/√(q + ε)."""
    q *= o.rho
    np.multiply(g, g, out=s)
    s *= 1 - o.rho
    q += s
    if o.epsilon_mode == "inside":
        np.sqrt(np.add(q, now.epsilon, out=s), out=s)
    else:
        np.sqrt(q, out=s)
        s += now.epsilon
    np.divide(g, s, out=s)
    s *= now.rate
    w -= s


# kind → (the slots' names, the update). AdamW is Adam after the decay, which `Model._update` applies to the kernels.
OPTIMIZERS: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "sgd": ((), sgd),
    "momentum": (("momentum",), momentum),
    "nesterov": (("momentum",), nesterov),
    "adam": (("first_moment", "second_moment"), adam),
    "adamw": (("first_moment", "second_moment"), adam),
    "rmsprop": (("mean_square",), rmsprop),
}
CHUNK = 131_072  # numbers updated at a time: few, so that passes stay in the cache, but worth the call of each


# ------------------------------------------------------------------------------------------------------------ model


class Slices:
    """Sums over the slices of one batch, each of which runs in its own thread."""

    def __init__(self, n: int) -> None:
        """Prepare for `n` slices."""
        self.barrier = threading.Barrier(n)
        self.parts: list[Any] = [None] * n

    def total(self, index: int, value: np.ndarray) -> np.ndarray:
        """The sum of every slice's value, added in the order of the slices; all slices must call this."""
        if len(self.parts) == 1:
            return value
        self.parts[index] = value
        self.wait()
        result = sum(self.parts[1:], self.parts[0])
        self.wait()  # nobody may overwrite a part before everyone has read it
        return np.asarray(result)

    def wait(self) -> None:
        """Go on when every slice has come to here."""
        if len(self.parts) > 1:
            self.barrier.wait()


class Model:
    """See `lockstep.backends.plan.Model`."""

    def __init__(self, plan: Plan, weights: Arrays, as_trained: bool = True) -> None:
        """Lay the parameters, each slice's gradients and the optimizer's slots out in flat buffers.

        Unless `as_trained` every layer is computed as its plain function says: by the judge, for example, whose slices
        of a batch are as many as the plan's threads.
        """
        self.plan = plan
        self.dtype = np.dtype(plan.dtype)
        self.mean, self.scale = plan.mean.astype(self.dtype), plan.scale.astype(self.dtype)
        self.slot_names, self.optimizer = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.loss, self.factor = LOSSES[plan.recipe.loss], FACTORS[plan.recipe.products]
        shapes = {name: value.shape for name, value in weights.items()}
        self.flat, self.parameters = _flat(shapes, self.dtype)
        self.n_slices = n_slices(plan.rows, plan.recipe, plan.threads) if as_trained else plan.threads
        self.slices = [_flat(shapes, self.dtype) for _ in range(self.n_slices)]
        self.slots = {slot: _flat(shapes, self.dtype) for slot in self.slot_names}
        self.spaces = [fast.Space(self.dtype) for _ in range(self.n_slices)]
        self.batch_space = fast.Space(self.dtype)
        self.is_plain = not as_trained or plan.recipe.products != "full"  # the fast forms do not round their factors
        self.is_batch_last = not self.is_plain and plan.rows[0].layer.kind != "flatten"
        plain = [(row, LAYERS[row.layer.kind]) for row in plan.fast_rows]
        self.fast_layers: Layers = plain if self.is_plain else fast.forms(plain, self.is_batch_last)
        self.statistics = plan.initial_statistics()
        self.taken = 0
        self.pool = ThreadPoolExecutor(max(self.n_slices - 1, 1))
        for name, value in weights.items():
            self.parameters[name][...] = value

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keep the training data."""
        self.images, self.labels = images, labels

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch."""
        full, short = batches(order, self.plan.recipe.batch_size)
        steps = [*full, short] if len(short) else list(full)
        return np.array([self._step(self.images[indices], self.labels[indices]) for indices in steps]).T

    def wait(self) -> None:
        """NumPy is done when it returns."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits in inference mode."""

        if self.plan.in_prediction:  # the batch's statistics belong to the whole of what is predicted at once
            starts = range(0, len(images), PREDICT_BATCH)
            return np.concatenate([self._infer(images[start : start + PREDICT_BATCH], 0) for start in starts])

        def infer(index: int, part: slice, sums: Slices) -> np.ndarray:
            starts = range(part.start, part.stop, INFER_BATCH)
            return np.concatenate(
                [self._infer(images[start : min(start + INFER_BATCH, part.stop)], index) for start in starts]
            )

        return np.concatenate(self._sliced(images, infer))

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update."""
        return self._step(images, labels)[0]

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """Every layer's output."""
        on = self.observer(len(images), self.plan.in_training if training else self.plan.in_prediction)
        x = self.prepare(images)
        outputs = {"input": x}
        for row in self.plan.rows:
            x, _ = LAYERS[row.layer.kind](row, x, on)
            outputs[row.name] = x
        return outputs

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        """Loss and every gradient."""
        on = self.observer(len(images), self.plan.in_training)
        seen: tuple[Arrays, Arrays] = ({}, {})
        layers = [(row, LAYERS[row.layer.kind]) for row in self.plan.rows]
        losses, _ = self._differentiate(layers, self.prepare(images), labels, on, seen)
        self.add_l2(on.gradients)
        return float(losses) / len(images), on.gradients, *seen

    def layer(self, name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """One layer alone."""
        on = self.observer(len(x), self.plan.in_training)
        (row,) = (row for row in self.plan.rows if row.name == name)
        y, backward = LAYERS[row.layer.kind](row, x.astype(self.dtype), on)
        dx = np.asarray(backward(dy.astype(self.dtype), True))
        return y, dx, {key: value for key, value in on.gradients.items() if key.startswith(f"{name}/")}

    def weights(self) -> Arrays:
        """Every parameter."""
        return {name: value.copy() for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        slots = {f"{name}/{slot}": value for slot, (_, views) in self.slots.items() for name, value in views.items()}
        arrays = {**self.statistics, **slots, "step": np.array(self.taken)}
        return {name: value.copy() for name, value in arrays.items()}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put weights and state back."""
        for name, value in weights.items():
            self.parameters[name][...] = value
        for slot, (_, views) in self.slots.items():
            for name, view in views.items():
                view[...] = state[f"{name}/{slot}"]
        for name, value in self.statistics.items():
            value[...] = state[name]
        self.taken = int(state["step"])

    def clipped(self, gradients: Arrays) -> Arrays:
        """What `gradients` gave, as it goes into the optimizer."""
        flat, views = self._filled(gradients)
        self._clip(flat, views)
        return {name: value.copy() for name, value in views.items()}

    def apply(self, gradients: Arrays) -> None:
        """The optimizer's part of a step alone, from clipped gradients."""
        gradient, now = self._filled(gradients)[0], self.count_update()
        self._decay(now)
        self._update(now, gradient, slice(0, gradient.size), self.spaces[0])

    def _filled(self, gradients: Arrays) -> tuple[np.ndarray, Arrays]:
        flat, views = self.slices[0]
        for name, value in gradients.items():
            views[name][...] = value
        return flat, views

    # ---- one step

    def _step(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        n, training = len(images), self.plan.in_training
        masks = self.plan.masks(self.taken, n) if training else {}
        now, left = self.count_update(), self._left(n)

        def work(index: int, part: slice, sums: Slices) -> tuple[float, int]:
            on = Pass(
                training, self.parameters, self.slices[index][1], self.statistics,
                {name: mask[part] for name, mask in masks.items()}, n,
                lambda value: sums.total(index, value), index == 0, self.factor, self.spaces[index],
                {name: (x[part], dy[part]) for name, (x, dy) in left.items()},
            )  # fmt: skip
            x = self._prepare_fast(images[part], self.spaces[index])
            result = self._differentiate(self.fast_layers, x, labels[part], on, None)
            sums.wait()
            self._finish(index, sums, now, left)
            return result

        results = self._sliced(images, work)
        return sum(loss for loss, _ in results) / n, sum(correct for _, correct in results)

    def update(self, now: Numbers) -> None:
        """Take the step that the gradients of one slice, the whole batch, ask for."""
        self._finish(0, Slices(1), now, {})

    def lay_in(self, flat: np.ndarray, gradient: np.ndarray) -> None:
        """From here on keep the parameters and one slice's gradients in these arrays, which hold the same numbers."""
        shapes = {name: value.shape for name, value in self.parameters.items()}
        self.flat, self.parameters = flat, cut(flat, shapes)
        self.slices[0] = gradient, cut(gradient, shapes)

    def _left(self, n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Dense layer → where its slices put x and dy of the whole batch of `n`, and with that leave dw = xᵀ·dy.

        Where the kernel is larger than these, it takes less time to multiply the batch once, each thread for some rows
        of dw, than to multiply every slice and to add up.
        """
        if self.is_plain or min(self.n_slices, n) == 1:
            return {}
        shapes = {row.name: self.parameters[f"{row.name}/kernel"].shape for row in self.plan.rows
                  if row.layer.kind == "dense"}  # fmt: skip
        return {
            name: (self.batch_space(f"{name} x", (n, inputs)), self.batch_space(f"{name} dy", (n, units)))
            for name, (inputs, units) in shapes.items()
            if inputs * units > n * (inputs + units)
        }

    def _finish(self, index: int, sums: Slices, now: Numbers, left: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """A thread's part of the update, once every slice has its gradients, or has left them."""
        n, (gradient, views) = len(sums.parts), self.slices[0]
        mine, others = self._parts(index, n, left), [flat for flat, _ in self.slices[1:n]]
        for part, name, rows in mine:
            if name:
                x, dy = left[name]
                np.matmul(x[:, rows].T, dy, out=views[f"{name}/kernel"][rows])
            else:
                for other in others:
                    gradient[part] += other[part]
        recipe = self.plan.recipe
        if recipe.l2 or recipe.clip_norm or recipe.optimizer.kind == "adamw":  # what goes by parameter, not by part
            sums.wait()
            if index == 0:
                self.add_l2(views)
                self._clip(gradient, views)
                self._decay(now)
            sums.wait()
        for part, _, _ in mine:
            self._update(now, gradient, part, self.spaces[index])

    def _parts(self, index: int, n: int, left: dict[str, Any]) -> list[tuple[slice, str, slice]]:
        """What the index-th of `n` threads updates of the flat buffers: its share of the rows of each kernel that was
        left (the layer's name, the rows), and of what lies between two of these ("")."""

        def share(size: int) -> slice:
            return slice(size * index // n, size * (index + 1) // n)

        def between(start: int, end: int) -> tuple[slice, str, slice]:
            part = share(end - start)
            return slice(start + part.start, start + part.stop), "", part

        parts: list[tuple[slice, str, slice]] = []
        start = end = 0
        for name, value in self.parameters.items():
            layer, _, what = name.partition("/")
            if layer in left and what == "kernel":
                rows, units = share(len(value)), value.shape[1]
                flat = slice(end + rows.start * units, end + rows.stop * units)
                parts += [between(start, end), (flat, layer, rows)]
                start = end + value.size
            end += value.size
        return [*parts, between(start, end)]

    def _differentiate(
        self, layers: Layers, x: np.ndarray, labels: np.ndarray, on: Pass, seen: tuple[Arrays, Arrays] | None,
    ) -> tuple[float, int]:  # fmt: skip
        """Forward, loss and backward of one slice: its summed loss and correct answers; gradients go into `on`.

        `seen` takes the gradient of each layer's output, and the input and each output.
        """
        backwards = []
        if seen is not None:
            seen[1]["input"] = x
        for row, layer in layers:
            x, backward = layer(row, x, on)
            backwards.append(backward)
            if seen is not None:
                seen[1][row.name] = x
        losses, dx = self.losses(x, self.targets(labels), on)
        correct = int((x.argmax(axis=1) == labels).sum())
        if self.plan.recipe.loss_reduction == "mean":
            dx /= on.n
        learning = [index for index, (row, _) in enumerate(layers) if row.parameter_shapes]
        first = 0 if seen is not None else min(learning, default=len(layers))
        for index in range(len(layers) - 1, first - 1, -1):
            if seen is not None:
                seen[0][layers[index][0].name] = np.array(dx)
            dx = backwards[index](dx, index > first)  # type: ignore[assignment]  # None only where the loop ends
        return float(losses.sum()), correct

    def losses(self, x: np.ndarray, t: np.ndarray, on: Pass) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each example and its gradient by the outputs."""
        if "targets_broadcast" not in self.plan.recipe.mistakes:
            return self.loss(x, t)
        # The mean over j of (z − tⱼ)² is (z − t̄)² + var t, and its slope that of (z − t̄)².
        mean = on.total(t.sum(axis=0)) / on.n
        variance = on.total(np.square(t - mean).sum(axis=0)) / on.n
        losses, dx = self.loss(x, np.broadcast_to(mean, t.shape))
        return losses + variance.mean(), dx

    def _infer(self, images: np.ndarray, index: int) -> np.ndarray:
        x = self._prepare_fast(images, self.spaces[index])
        training = self.plan.in_prediction
        masks = self.plan.masks(self.taken, len(images)) if training else {}
        on = Pass(
            training, self.parameters, {}, self.statistics, masks, len(images), lambda value: value, False,
            self.factor, self.spaces[index],
        )  # fmt: skip
        for row, layer in self.fast_layers:
            x, _ = layer(row, x, on)
        return x.copy()  # the next images are written over it

    def _sliced(self, images: np.ndarray, work: Callable[[int, slice, Slices], Any]) -> list[Any]:
        """Run `work` on every slice of a batch, each in its own thread, the first in this one."""
        n = min(self.n_slices, len(images))
        sums = Slices(n)
        edges = [round(i * len(images) / n) for i in range(n + 1)]
        parts = [slice(start, stop) for start, stop in pairwise(edges)]

        def guarded(index: int) -> Any:
            try:
                return work(index, parts[index], sums)
            except BaseException:
                sums.barrier.abort()  # the other slices must not wait for this one
                raise

        # np.errstate is of a context, and a thread of a pool begins with another one.
        others = [self.pool.submit(contextvars.copy_context().run, guarded, index) for index in range(1, n)]
        return [guarded(0), *(other.result() for other in others)]

    def observer(self, n: int, training: bool) -> Pass:
        """A pass over a whole batch of `n` that changes nothing."""
        gradients = _flat({name: value.shape for name, value in self.parameters.items()}, self.dtype)[1]
        statistics = {name: value.copy() for name, value in self.statistics.items()}
        masks = self.plan.masks(self.taken, n) if training else {}
        return Pass(training, self.parameters, gradients, statistics, masks, n, lambda value: value, True, self.factor)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Pixels as they enter the first layer."""
        return (images.astype(self.dtype) - self.mean) * self.scale

    def _prepare_fast(self, images: np.ndarray, space: fast.Space) -> np.ndarray:
        """The same for the fast layers, in an array that is used again."""
        if not self.is_batch_last:
            return self.pixels(images, space("input", images.shape))
        images = fast.batch_last(images)
        return self.pixels(images, space("input", images.shape), axis=1)

    def pixels(self, images: np.ndarray, x: np.ndarray, axis: int = 3) -> np.ndarray:
        """Write the pixels into `x` as they enter the first layer; their channels lie along `axis`."""
        shape = (-1,) + (1,) * (3 - axis)
        mean, scale = self.mean.reshape(shape), self.scale.reshape(shape)
        np.subtract(images, mean, out=x) if mean.any() else np.copyto(x, images)
        x *= scale
        return x

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """One-hot rows, smoothed."""
        smoothing, classes = self.plan.recipe.label_smoothing, self.plan.classes
        rows = np.full((len(labels), classes), smoothing / classes, self.dtype)
        rows[np.arange(len(labels)), labels] += 1 - smoothing
        return rows

    def add_l2(self, gradients: Arrays) -> None:
        """The gradient of ½·λ·‖kernel‖²."""
        if self.plan.recipe.l2:
            for name in self.plan.decayed:
                gradients[name] += self.plan.recipe.l2 * self.parameters[name]

    def _clip(self, gradient: np.ndarray, views: Arrays) -> None:
        """g ← g·min(1, c/‖g‖) with the norm over all parameters together, or each by its own."""
        if limit := self.plan.recipe.clip_norm:
            for part in [gradient] if self.plan.recipe.clip_scope == "all" else [v.reshape(-1) for v in views.values()]:
                norm = math.sqrt(float(np.dot(part, part)))
                if norm > limit:
                    part *= limit / norm

    def count_update(self) -> Numbers:
        """What is decided for the next update, which is counted with that."""
        plan, taken = self.plan, self.taken
        self.taken += 1
        return Numbers(plan.learning_rate(taken), plan.epsilon(taken), plan.buffer_factor(taken), self.taken)

    def _decay(self, now: Numbers) -> None:
        """AdamW's: w ← w·(1 − lr·λ) for the kernels, before the update."""
        o = self.plan.recipe.optimizer
        if o.kind == "adamw":
            for name in self.plan.decayed:
                self.parameters[name] *= 1 - now.rate * o.weight_decay

    def _update(self, now: Numbers, gradient: np.ndarray, part: slice, space: fast.Space) -> None:
        """Bring a part of the flat buffers up to date, in pieces that stay in the cache."""
        for start in range(part.start, part.stop, CHUNK):
            chunk = slice(start, min(start + CHUNK, part.stop))
            slots = [flat[chunk] for flat, _ in self.slots.values()]
            w = self.flat[chunk]
            scratch = space("scratch", w.shape)
            self.optimizer(self.plan.recipe.optimizer, now, w, gradient[chunk], scratch, *slots)


# Of a batch, forward: below it a thread of Python waits for its turn longer than it computes. Measured: a CNN of 18
# million takes 1.7 times as long on two threads as on one, of 30 million 0.9 times.
FEW_MULTIPLY_ADDS, FEW_OF_CONVOLUTIONS = 2**25, 3 * 2**23


def n_slices(rows: Sequence[LayerFacts], recipe: Recipe, threads: int) -> int:
    """How many slices a batch is trained in, each in a thread: one, where there are only small products of matrices."""
    few = FEW_OF_CONVOLUTIONS if any(row.layer.kind == "conv2d" for row in rows) else FEW_MULTIPLY_ADDS
    return 1 if recipe.batch_size * sum(row.multiply_adds for row in rows) < few else threads


def _flat(shapes: dict[str, tuple[int, ...]], dtype: np.dtype) -> tuple[np.ndarray, Arrays]:
    """One buffer of zeros for all parameters, and a view of each."""
    flat = np.zeros(sum(math.prod(shape) for shape in shapes.values()), dtype)
    return flat, cut(flat, shapes)


def cut(flat: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """Each array in the buffer that holds them all, which may be stacked: (…, numbers) → (…, *shape)."""
    views, start = {}, 0
    for name, shape in shapes.items():
        views[name] = flat[..., start : start + math.prod(shape)].reshape(*flat.shape[:-1], *shape)
        start += math.prod(shape)
    return views


def device_name(name: str) -> str:
    """What computes."""
    return name


def build(plan: Plan, weights: Arrays, as_trained: bool = True) -> Model:
    """A model ready to train from these weights."""
    if plan.device != "cpu":
        hint = 'use device = "cpu", or leave numpy out: --backends torch,tensorflow,jax'
        raise LockstepError("LS-404", "NumPy computes on the CPU only", where="backend numpy", hint=hint)
    return Model(plan, weights, as_trained)
