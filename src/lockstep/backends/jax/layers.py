"""Layers as pure functions: (facts, input, parameters of all layers, Pass) → output.

XLA on the CPU only optimises convolutions outside of loops (jax#12868), so a convolution is written as shifted slices
and one matrix product, over feature maps with the batch as their last axis: then every slice is made of long runs, and
the product's result is the next feature map as it stands. On a GPU that is as exact as a product is: cuDNN would also
convolve by transforms, whose error in every number is in proportion to the largest of all; and in float64, where XLA
lets cuDNN add μ times the momentum to a kernel's gradient, that μ is a float32 (JAX 0.11.2).

New running statistics are left in `Pass.updated`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from lockstep.backends.plan import Plan, pool_counts, window_padding
from lockstep.spec import Add, BatchNorm, Concat, Conv2D, Dense, Flatten, LayerFacts, LayerNorm, MaxPool2D


class Pass:
    """What a forward pass knows beside parameters; made anew while each function is traced."""

    def __init__(self, plan: Plan, training: bool, statistics: Any, masks: Any) -> None:
        self.training, self.statistics, self.masks = training, statistics, masks
        self.bits = plan.fraction_bits
        self.updated = dict(statistics)


def dense(row: LayerFacts[Dense], x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """x · kernel + bias."""
    y = _product(_factor(x, on) @ _factor(w[f"{row.name}/kernel"], on), on)
    return y + w[f"{row.name}/bias"] if row.layer.bias else y


def conv2d(row: LayerFacts[Conv2D], x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """Every window as a column, then one matrix product: see the head of this file."""
    kernel = _factor(w[f"{row.name}/kernel"], on)
    filters = kernel.reshape(-1, kernel.shape[-1])
    y = _product(filters.T @ _unfold(row, _padded(row, _factor(x, on), 0.0)).reshape(len(filters), -1), on)
    if row.layer.bias:
        y = y + w[f"{row.name}/bias"][:, None]
    return _turn(y.reshape(-1, *row.output_shape[:2], len(x)))


def max_pool2d(row: LayerFacts[MaxPool2D], x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """The largest value of each window; JAX's own gradient is the `shared` one."""
    tiles = _tiles(row, x, -jnp.inf)
    return _turn(_first_max(tiles) if row.layer.ties == "first" else tiles.max((2, 4)))


@jax.custom_vjp
def _first_max(x: jax.Array) -> jax.Array:
    """The maximum of each tile; the first of several equals gets the gradient."""
    return x.max((2, 4))


def _first_max_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _first_max(x)
    return y, (x, y)


def _first_max_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    x, y, dy = saved[0], *(jnp.expand_dims(value, (2, 4)) for value in (saved[1], dy))
    place = jnp.arange(x.shape[2] * x.shape[4]).reshape(x.shape[2], 1, x.shape[4], 1)
    first = jnp.where(x < y, place.size, place).min((2, 4), keepdims=True)  # an argmax would not be vectorised
    return (jnp.where(place == first, dy, 0),)


_first_max.defvjp(_first_max_forward, _first_max_backward)


def avg_pool2d(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """The mean of each window; `pool_counts` knows what that is at the borders."""
    return _turn(_tiles(row, x, 0.0).sum((2, 4)) / jnp.asarray(pool_counts(row), x.dtype))


def batch_norm(row: LayerFacts[BatchNorm], x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """Biased variance in the forward pass; which one goes into the running one is the layer's choice."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = on.statistics[f"{row.name}/running_mean"], on.statistics[f"{row.name}/running_variance"]
    if on.training:
        batch_mean, batch_variance = x.mean(axes), x.var(axes)
        n = x.size // x.shape[-1]
        m, factor = row.layer.momentum, n / max(n - 1, 1) if row.layer.running_variance == "unbiased" else 1.0
        on.updated[f"{row.name}/running_mean"] = mean + m * (batch_mean - mean)
        on.updated[f"{row.name}/running_variance"] = variance + m * (batch_variance * factor - variance)
        mean, variance = batch_mean, batch_variance
    inverse = w[f"{row.name}/scale"] / jnp.sqrt(variance + row.layer.epsilon)
    return (x - mean) * inverse + w[f"{row.name}/shift"]


def layer_norm(row: LayerFacts[LayerNorm], x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """By the mean and the biased variance of a pixel's channels, or of the whole example."""
    axes = -1 if row.layer.over == "channels" else tuple(range(1, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    variance = jnp.square(centred).mean(axes, keepdims=True)
    deviation = jnp.sqrt(row.layer.epsilon + variance)
    normal = centred / deviation
    return normal * w[f"{row.name}/scale"] + w[f"{row.name}/shift"]


def flatten(row: LayerFacts[Flatten], x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """(batch, height · width · channels), or the channels first; what is flat already stays as it is."""
    if row.layer.order == "chw" and x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    return x.reshape(len(x), -1)


def dropout(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """Multiply by a mask that was decided outside, where there is one."""
    return x * on.masks[row.name] if row.name in on.masks else x


def add(row: LayerFacts[Add], taken: tuple[jax.Array, ...], w: Any, on: Pass) -> jax.Array:
    """The sum, each scaled where the layer says so."""
    layer, (x, *others) = row.layer, taken
    rest = sum(others[1:], others[0])
    x, rest = (jax.nn.relu(x) if layer.rectified else x), rest * layer.others if layer.others != 1 else rest
    return (x * layer.first if layer.first != 1 else x) + rest


def concat(row: LayerFacts[Concat], taken: tuple[jax.Array, ...], w: Any, on: Pass) -> jax.Array:
    """Along the last axis, or along another and read as if along that one."""
    layer = row.layer
    axis = {"channels": -1, "height": 1, "width": 2}[layer.axis]
    y = jnp.concatenate(taken[::-1] if layer.order == "reversed" else taken, axis)
    return y if layer.axis == "channels" else y.reshape(len(y), *row.output_shape)


LAYERS: dict[str, Callable[[LayerFacts, Any, Any, Pass], jax.Array]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, x, w, on: x.mean(axis=(1, 2)),
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": dropout,
    "relu": lambda row, x, w, on: jax.nn.relu(x),
    # JAX's own has slope 1 at exactly 0, which a black patch of an image reaches.
    "leaky_relu": lambda row, x, w, on: jnp.where(x > 0, x, row.layer.slope * x),
    "elu": lambda row, x, w, on: jax.nn.elu(x, row.layer.alpha),
    "tanh": lambda row, x, w, on: jnp.tanh(x),
    "sigmoid": lambda row, x, w, on: jax.nn.sigmoid(x),
    "softplus": lambda row, x, w, on: jax.nn.softplus(x),
    "gelu": lambda row, x, w, on: jax.nn.gelu(x, approximate=row.layer.form == "tanh"),
    "add": add,
    "concat": concat,
}


# ---------------------------------------------------------------------------------------------------------- windows


def _turn(x: jax.Array) -> jax.Array:
    """(batch, rows, columns, channels) ↔ (channels, rows, columns, batch). Between two layers, XLA drops both turns."""
    return x.transpose(3, 1, 2, 0)


def _padded(row: LayerFacts, x: jax.Array, value: float) -> jax.Array:
    """The images a window slides over: (channels, height, width, batch)."""
    x, padding = _turn(x), window_padding(row)
    return jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value) if any(map(any, padding)) else x


def _unfold(row: LayerFacts, x: jax.Array) -> jax.Array:
    """For each place in a window and channel, that value of every window: (places · channels, rows, columns, batch).

    First along the width, then along the height: the way back adds wide + high slices up, not wide · high.
    """
    for axis in (2, 1):
        size, stride = (pair[axis - 1] for pair in row.layer.window())
        x = _slide(x, axis, size, stride, row.output_shape[axis - 1])
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _slide(x: jax.Array, axis: int, size: int, stride: int, n: int) -> jax.Array:
    """The `size` places of `n` windows along an axis, one below the other on the first axis."""
    return jnp.concatenate([x[place] for place in _places(axis, size, stride, n)])


def _slide_forward(x: jax.Array, *how: int) -> tuple[jax.Array, tuple[int, ...]]:
    return _slide(x, *how), x.shape


def _slide_backward(axis: int, size: int, stride: int, n: int, shape: tuple[int, ...], dy: jax.Array) -> Any:
    """Adds each slice up in place; JAX would pad each one to the full shape before adding."""
    dx = jnp.zeros(shape, dy.dtype)
    for place, part in zip(_places(axis, size, stride, n), jnp.split(dy, size), strict=True):
        dx = dx.at[place].add(part)
    return (dx,)


_slide.defvjp(_slide_forward, _slide_backward)


def _places(axis: int, size: int, stride: int, n: int) -> list[tuple[slice, ...]]:
    return [(slice(None),) * axis + (slice(i, i + (n - 1) * stride + 1, stride),) for i in range(size)]


def _tiles(row: LayerFacts, x: jax.Array, value: float) -> jax.Array:
    """Every window of a pooling layer: (channels, rows, high, columns, wide, batch)."""
    x = _padded(row, x, value)
    (high, wide), stride = row.layer.window()
    rows, columns, channels = row.output_shape
    if (high, wide) == stride:  # no pixel is in two windows
        x = x[:, : rows * high, : columns * wide]
        return x.reshape(channels, rows, high, columns, wide, -1)
    return _unfold(row, x).reshape(high, wide, channels, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)


# --------------------------------------------------------------------------------------------------------- products
# y = R(x)·R(w), dx = R(dy)·R(w)ᵀ, dw = R(x)ᵀ·R(dy), where R keeps explicit fraction bits.


def _factor(x: jax.Array, on: Pass) -> jax.Array:
    """R(x) with the gradient as it comes."""
    return _rounded(x, on.bits, 23) if on.bits else x


def _product(y: jax.Array, on: Pass) -> jax.Array:
    """y as it comes with the gradient R(dy)."""
    return _rounded(y, 23, on.bits) if on.bits else y


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _rounded(x: jax.Array, there: int, back: int) -> jax.Array:
    """A float32 to the nearest, ties to even, with so many fraction bits on each way; XLA must keep this operation.

    The derivative that JAX knows rounds the gradient as well. 23 bits are all that there are.
    """
    return jax.lax.reduce_precision(x, 8, there)


def _rounded_forward(x: jax.Array, there: int, back: int) -> tuple[jax.Array, None]:
    return jax.lax.reduce_precision(x, 8, there), None


def _rounded_backward(there: int, back: int, _: None, dy: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.reduce_precision(dy, 8, back),)


_rounded.defvjp(_rounded_forward, _rounded_backward)
