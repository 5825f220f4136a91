"""Layers, each one function whose forward pass returns its own backward pass: (facts, input, Pass) → (y, backward).

What the way back needs stays in that closure; nothing is stored on a layer. Gradients of parameters go into the `Pass`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lockstep.backends.numpy.speed import Space
from lockstep.backends.plan import Arrays, pool_counts, window_padding
from lockstep.spec import (
    ELU,
    GELU,
    Add,
    BatchNorm,
    Concat,
    Conv2D,
    Flatten,
    LayerFacts,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
)

Backward = Callable[[np.ndarray, bool], Any]  # (dL/dy, is dL/dx wanted?) → dL/dx, or one for each input, or None
Layer = tuple[np.ndarray, Backward]


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
    space: Space | None = None  # where the fast forms keep their arrays
    left: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # see `Model.kernels_left`

    def keep_running(self, row: LayerFacts, mean: np.ndarray, variance: np.ndarray, n: int) -> None:
        """Move a batch normalisation's running statistics towards those of a batch of `n` values a channel."""
        if self.leads:
            seen = variance if row.layer.running_variance == "biased" else variance * (n / max(n - 1, 1))
            for what, batch in (("mean", mean), ("variance", seen)):
                running = self.statistics[f"{row.name}/running_{what}"]
                running += row.layer.momentum * (batch - running)


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


def conv2d(row: LayerFacts[Conv2D], x: np.ndarray, on: Pass) -> Layer:
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


def max_pool2d(row: LayerFacts[MaxPool2D], x: np.ndarray, on: Pass) -> Layer:
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


def flatten(row: LayerFacts[Flatten], x: np.ndarray, on: Pass) -> Layer:
    """(batch, height, width, channels) → (batch, height · width · channels), or with the channels first."""
    there, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if row.layer.order == "chw" and x.ndim == 4 else (range(x.ndim),) * 2
    turned = x.transpose(*there)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        return dy.reshape(turned.shape).transpose(*back)

    return turned.reshape(len(x), -1), backward


def batch_norm(row: LayerFacts[BatchNorm], x: np.ndarray, on: Pass) -> Layer:
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


def layer_norm(row: LayerFacts[LayerNorm], x: np.ndarray, on: Pass) -> Layer:
    """y = scale·x̂ + shift with x̂ = (x − mean)/√(variance + ε) of the pixel's channels, or of the whole example.

    dx = (g − mean g − x̂·mean(g·x̂))/√(variance + ε) with g = scale·dy (Ba et al. 2016).
    """
    scale, shift = on.parameters[f"{row.name}/scale"], on.parameters[f"{row.name}/shift"]
    axes = -1 if row.layer.over == "channels" else tuple(range(1, x.ndim))
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    inverse = 1.0 / np.sqrt(variance + row.layer.epsilon)
    normal = centred * inverse

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dy = dy.reshape(x.shape)
        examples = tuple(range(x.ndim - 1))
        dy.sum(axis=examples, out=on.gradients[f"{row.name}/shift"])
        (dy * normal).sum(axis=examples, out=on.gradients[f"{row.name}/scale"])
        if not wants_dx:
            return None
        g = dy * scale
        along = (g * normal).mean(axis=axes, keepdims=True)
        return np.asarray(inverse * (g - g.mean(axis=axes, keepdims=True) - normal * along))

    return scale * normal + shift, backward


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


def leaky_relu(row: LayerFacts[LeakyReLU], x: np.ndarray, on: Pass) -> Layer:
    """y = x where x > 0, slope·x elsewhere."""
    factor = np.where(x > 0, x.dtype.type(1), x.dtype.type(row.layer.slope))
    return x * factor, lambda dy, wants_dx: dy * factor


def elu(row: LayerFacts[ELU], x: np.ndarray, on: Pass) -> Layer:
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


def gelu(row: LayerFacts[GELU], x: np.ndarray, on: Pass) -> Layer:
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


# ------------------------------------------------------------------------------------ joins, which take in several


def add(row: LayerFacts[Add], taken: Sequence[np.ndarray], on: Pass) -> Layer:
    """y = a·x₁ + b·(x₂ + …);  dx₁ = a·dy, every other dx = b·dy; where x₁ is rectified, dx₁ only where x₁ > 0."""
    layer, (x, *others) = row.layer, taken
    x = np.maximum(x, 0) if layer.rectified else x
    rest = others[0]
    for other in others[1:]:
        rest = rest + other
    y = _times(x, layer.first) + _times(rest, layer.others)

    def backward(dy: np.ndarray, wants_dx: bool) -> tuple[np.ndarray, ...]:
        dx = _times(dy, layer.first)
        return (dx * (x > 0) if layer.rectified else dx), *(_times(dy, layer.others),) * len(others)

    return y, backward


def _times(x: np.ndarray, factor: float) -> np.ndarray:
    return x if factor == 1 else x * x.dtype.type(factor)


def concat(row: LayerFacts[Concat], taken: Sequence[np.ndarray], on: Pass, channels: int = -1) -> Layer:
    """One behind the other along the channels; each gets its part of dy. `channels` is the axis on which they lie."""
    axis = {"channels": channels, "height": 1, "width": 2}[row.layer.axis]
    order = list(range(len(taken)))[:: -1 if row.layer.order == "reversed" else 1]
    laid = np.concatenate([taken[place] for place in order], axis=axis)
    y = laid.reshape(len(laid), *row.output_shape) if row.layer.axis != "channels" else laid
    ends = np.cumsum([taken[place].shape[axis] for place in order])[:-1]

    def backward(dy: np.ndarray, wants_dx: bool) -> tuple[np.ndarray, ...]:
        parts = np.split(dy.reshape(laid.shape), ends, axis=axis)
        return tuple(parts[order.index(place)] for place in range(len(taken)))

    return y, backward


LAYERS: dict[str, Callable[[LayerFacts, Any, Pass], Layer]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": global_avg_pool,
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": dropout,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "gelu": gelu,
    "add": add,
    "concat": concat,
}


# ---------------------------------------------------------------------------------------------------------- windows


def pad(x: np.ndarray, padding: Any, value: float) -> np.ndarray:
    """Images (n, height, width, channels) with a border of `value`; see `plan.window_padding`."""
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


# --------------------------------------------------------------------------------------------------------- products


def rounding(bits: int | None) -> Callable[[np.ndarray], np.ndarray]:
    """What the factors of a product go through, to keep so many fraction bits, or all of them."""
    return (lambda value: rounded(value, bits)) if bits else (lambda value: value)


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 numbers with only so many fraction bits (of 23), to nearest, ties to even; in the dtype they came in."""
    dropped = 23 - bits
    words = np.ascontiguousarray(x, np.float32).view(np.uint32)
    odd = (words >> np.uint32(dropped)) & np.uint32(1)
    words = (words + np.uint32((1 << (dropped - 1)) - 1) + odd) >> np.uint32(dropped) << np.uint32(dropped)
    return words.view(np.float32).astype(x.dtype, copy=False)


# ------------------------------------------------------------------------------------------------ special functions


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
