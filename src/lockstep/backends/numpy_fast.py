"""The layers of `backends.numpy` as they are trained: the same sums, in a layout and an order that cost less time.

NumPy's products are as fast as anybody's. What costs time are the passes over memory around them, so there are fewer:

- Images lie rows first, (height, n, width, channels). Then all windows that begin in one row of the images lie side by
  side, and a convolution copies the rows of its windows out, not whole windows: five times less for a kernel of 5 × 5.
  Each row of the kernel is one product with a view of that copy, and the products are added up.
- Max-pooling looks along the rows of its windows first and then across them, where there is less left to look at.
- Large arrays come from a `Space` and are used again in every step: fresh memory costs a page fault every 4 KB.

What each of them means is said by the function of the same name in `backends.numpy`; the tests hold them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lockstep.backends.base import window_padding
from lockstep.spec import LayerFacts

Backward = Callable[[np.ndarray, bool], np.ndarray | None]
Layer = tuple[np.ndarray, Backward]
Form = Callable[[LayerFacts, np.ndarray, Any], Layer]


class Space:
    """Arrays by name and shape, the same ones every time: whoever asks again writes over what is there."""

    def __init__(self, dtype: Any) -> None:
        self.dtype, self.arrays = np.dtype(dtype), dict[Any, np.ndarray]()

    def __call__(self, name: str, shape: tuple[int, ...], fill: float | None = None, dtype: Any = None) -> np.ndarray:
        """An array; with `fill` it held this value everywhere before somebody wrote into it."""
        found = self.arrays.get((name, shape))
        if found is None:
            found = np.empty(shape, dtype or self.dtype)
            if fill is not None:
                found.fill(fill)
            self.arrays[name, shape] = found
        return found


def rows_first(x: np.ndarray) -> np.ndarray:
    """(n, height, width, channels) ↔ (height, n, width, channels)."""
    return x.transpose(1, 0, 2, 3) if x.ndim == 4 else x


def turned(layer: Form) -> Form:
    """A layer of `backends.numpy` for images that lie rows first."""

    def turned_layer(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
        y, backward = layer(row, rows_first(x), on)

        def turned_backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
            dx = backward(rows_first(dy), wants_dx)
            return dx if dx is None else np.ascontiguousarray(rows_first(dx))

        return np.ascontiguousarray(rows_first(y)), turned_backward

    return turned_layer


# ------------------------------------------------------------------------------------------------------------- layers


def dense(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """y = x·w + b;  dx = dy·wᵀ, dw = xᵀ·dy, db = Σ dy."""
    w, b = on.parameters[f"{row.name}/kernel"], on.parameters.get(f"{row.name}/bias")
    y = np.matmul(x, w, out=on.space(f"{row.name} y", (len(x), w.shape[1])))
    if b is not None:
        y += b

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if b is not None:
            dy.sum(axis=0, out=on.gradients[f"{row.name}/bias"])
        np.matmul(x.T, dy, out=on.gradients[f"{row.name}/kernel"])
        return np.matmul(dy, w.T, out=on.space(f"{row.name} dx", x.shape)) if wants_dx else None

    return y, backward


def relu(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """y = max(x, 0);  dx = dy where x > 0."""
    y = np.maximum(x, 0, out=on.space(f"{row.name} y", x.shape))

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        passes = np.greater(y, 0, out=on.space(f"{row.name} passes", y.shape, dtype=bool))
        return np.multiply(dy, passes, out=on.space(f"{row.name} dx", y.shape))

    return y, backward


def flatten(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """(height, n, width, channels) → (n, height · width · channels), or with the channels first."""
    there, back = ((1, 3, 0, 2), (2, 0, 3, 1)) if row.layer.order == "chw" else ((1, 0, 2, 3), (1, 0, 2, 3))
    y = on.space(f"{row.name} y", tuple(x.shape[axis] for axis in there))
    y[...] = x.transpose(there)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dx = on.space(f"{row.name} dx", x.shape)
        dx[...] = dy.reshape(y.shape).transpose(back)
        return dx

    return y.reshape(x.shape[1], -1), backward


def conv2d(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """One product per row of the kernel with the rows of all windows; with few channels, one with whole windows."""
    padded = pad(row, x, 0.0, on.space)
    unfold = _whole_windows if row.layer.window()[0][1] * x.shape[3] < 16 else _rows_of_windows
    return unfold(row, padded, on)


def _rows_of_windows(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """A convolution of padded images by rows of windows: y = Σᵢ strips[i:]·w[i]."""
    w, b = on.parameters[f"{row.name}/kernel"], on.parameters.get(f"{row.name}/bias")
    (high, wide), (down, across) = row.layer.window()
    height, n, width, channels = x.shape
    rows, columns, filters = row.output_shape
    length, output_shape = wide * channels, (rows, n, columns, filters)
    strips = on.space(f"{row.name} strips", (height, n, columns, length))
    pixel = channels * x.itemsize  # strides of axes of length 1 are undefined in NumPy: they are worked out here
    line = width * pixel
    strips[...] = as_strided(x, strips.shape, (n * line, line, across * pixel, x.itemsize))

    def beginning_at(i: int, of: np.ndarray) -> np.ndarray:
        """What the i-th row of the kernel meets, for every row of the output."""
        return of[i : i + (rows - 1) * down + 1 : down]

    y = on.space(f"{row.name} y", output_shape)
    part = on.space(f"{row.name} part", output_shape)
    for i in range(high):
        products = beginning_at(i, strips).reshape(-1, length)
        np.matmul(products, w[i].reshape(length, filters), out=(part if i else y).reshape(-1, filters))
        if i:
            y += part
    _add_bias(y, b)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dy = dy.reshape(-1, filters)
        if b is not None:
            np.matmul(on.space(f"{row.name} ones", (len(dy),), 1.0), dy, out=on.gradients[f"{row.name}/bias"])
        for i in range(high):
            dw = on.gradients[f"{row.name}/kernel"][i].reshape(length, filters)
            np.matmul(beginning_at(i, strips).reshape(-1, length).T, dy, out=dw)
        if not wants_dx:
            return None
        dstrips = on.space(f"{row.name} dstrips", strips.shape)
        share = on.space(f"{row.name} share", (rows, n, columns, length))
        dstrips.fill(0)
        for i in range(high):
            np.matmul(dy, w[i].reshape(length, filters).T, out=share.reshape(-1, length))
            met = beginning_at(i, dstrips)
            met += share
        dx = on.space(f"{row.name} dx", x.shape)
        dx.fill(0)
        for j in range(wide):
            place = dx[:, :, j : j + (columns - 1) * across + 1 : across]
            place += dstrips[..., j * channels : (j + 1) * channels]
        return unpad(row, dx)

    return y, backward


def _whole_windows(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """A convolution of padded images with few channels: windows are copied along the images, one place at a time."""
    w, b = on.parameters[f"{row.name}/kernel"], on.parameters.get(f"{row.name}/bias")
    (high, wide), _ = row.layer.window()
    rows, columns, filters = row.output_shape
    n, channels = x.shape[1], x.shape[3]
    flat = w.reshape(-1, filters)
    # A row of the output at a time, whose windows stay in the cache: (rows, place in a window, n · columns).
    windows = on.space(f"{row.name} windows", (rows, len(flat), n * columns))
    by_place = windows.reshape(rows, high, wide, channels, n, columns)
    for (i, j), place in places(row):
        by_place[:, i, j] = x[place].transpose(0, 3, 1, 2)
    y = on.space(f"{row.name} y", (rows, n, columns, filters))
    np.matmul(windows.transpose(0, 2, 1), flat, out=y.reshape(rows, -1, filters))
    _add_bias(y, b)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dy = dy.reshape(-1, filters)
        if b is not None:
            np.matmul(on.space(f"{row.name} ones", (len(dy),), 1.0), dy, out=on.gradients[f"{row.name}/bias"])
        dy = dy.reshape(rows, -1, filters)
        np.matmul(windows, dy).sum(axis=0, out=on.gradients[f"{row.name}/kernel"].reshape(flat.shape))
        if not wants_dx:
            return None
        np.matmul(flat, dy.transpose(0, 2, 1), out=windows)  # which have done their service
        dx = on.space(f"{row.name} dx", x.shape)
        dx.fill(0)
        for (i, j), place in places(row):
            dx[place] += by_place[:, i, j].transpose(0, 2, 3, 1)
        return unpad(row, dx)

    return y, backward


def _add_bias(y: np.ndarray, b: np.ndarray | None) -> None:
    """y += b, along whole rows of the images, as NumPy's inner loop over a few channels is a slow one."""
    if b is not None:
        by_line = y.reshape(y.shape[0] * y.shape[1], -1)
        by_line += np.tile(b, y.shape[2])


def max_pool2d(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """The largest value of each row of a window, then of these the largest; in row-major order, the first gets dy."""
    padded = pad(row, x, -np.inf, on.space)
    (high, wide), (down, across) = row.layer.window()
    rows, columns, channels = row.output_shape
    height, n = padded.shape[:2]
    by_row = on.space(f"{row.name} by row", (height, n, columns, channels))
    y = on.space(f"{row.name} y", (rows, n, columns, channels))

    def along(of: np.ndarray) -> list[np.ndarray]:
        return [of[:, :, j : j + (columns - 1) * across + 1 : across] for j in range(wide)]

    def across_rows(of: np.ndarray) -> list[np.ndarray]:
        return [of[i : i + (rows - 1) * down + 1 : down] for i in range(high)]

    _largest(along(padded), by_row)
    _largest(across_rows(by_row), y)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if not wants_dx:
            return None
        dby_row = on.space(f"{row.name} dby row", by_row.shape, 0.0)
        dx = on.space(f"{row.name} dx", padded.shape, 0.0)
        _share(dy, y, across_rows(by_row), across_rows(dby_row), on.space, dby_row if down < high else None)
        _share(dby_row, by_row, along(padded), along(dx), on.space, dx if across < wide else None)
        return unpad(row, dx)

    return y, backward


def _largest(candidates: list[np.ndarray], y: np.ndarray) -> None:
    if len(candidates) == 1:
        y[...] = candidates[0]
        return
    np.maximum(candidates[0], candidates[1], out=y)
    for other in candidates[2:]:
        np.maximum(y, other, out=y)


def _share(
    dy: np.ndarray, y: np.ndarray, candidates: list[np.ndarray], shares: list[np.ndarray], space: Space,
    overlapping: np.ndarray | None,
) -> None:  # fmt: skip
    """Give each dy to the first candidate that is y; the last takes what no earlier one took, as one of them is y.

    The shares are views of one array, `overlapping` if they do. What no window covers was 0 and stays it.
    """
    hit, rest = space("hit", dy.shape, dtype=bool), space("rest", dy.shape)
    if overlapping is not None:
        overlapping.fill(0)
    left = dy
    for index, (candidate, share) in enumerate(zip(candidates[:-1], shares, strict=False)):
        given = share if overlapping is None else space("given", dy.shape)
        np.multiply(left, np.equal(candidate, y, out=hit), out=given)
        if overlapping is not None:
            share += given
        is_last_but_one = index == len(candidates) - 2
        left = np.subtract(left, given, out=shares[-1] if is_last_but_one and overlapping is None else rest)
    if overlapping is not None:
        shares[-1][...] += left
    elif len(candidates) == 1:
        shares[0][...] = dy


# The layers for which it matters in which order the axes of an image lie.
TURNED = frozenset({"conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool", "flatten", "dropout"})
# The layers that have a form of their own here; max-pooling's gives a tie to the first.
LAYERS: dict[str, Form] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "flatten": flatten,
    "dense": dense,
    "relu": relu,
}


def forms(plain: list[tuple[LayerFacts, Form]], is_rows_first: bool) -> list[tuple[LayerFacts, Form]]:
    """Each layer in the form in which it is trained; images lie rows first, or there are none but the flattened."""

    def form(row: LayerFacts, function: Form) -> Form:
        kind = row.layer.kind
        if kind not in TURNED or len(row.input_shape) == 1:
            return function if kind in TURNED else LAYERS.get(kind, function)
        if not is_rows_first:
            return function
        has_form = kind in LAYERS and (kind != "max_pool2d" or row.layer.ties == "first")
        return LAYERS[kind] if has_form else turned(function)

    return [(row, form(row, function)) for row, function in plain]


# ------------------------------------------------------------------------------------------------------------ windows


def pad(row: LayerFacts, x: np.ndarray, value: float, space: Space) -> np.ndarray:
    """Images, rows first, with a border of `value`."""
    (top, bottom), (left, right) = window_padding(row)
    if not (top or bottom or left or right):
        return x
    height, n, width, channels = x.shape
    padded = space(f"{row.name} padded", (height + top + bottom, n, width + left + right, channels), value)
    padded[top : top + height, :, left : left + width] = x
    return padded


def unpad(row: LayerFacts, x: np.ndarray) -> np.ndarray:
    """The way back of `pad`; a contiguous array."""
    (top, bottom), (left, right) = window_padding(row)
    return np.ascontiguousarray(x[top : x.shape[0] - bottom, :, left : x.shape[2] - right])


def places(row: LayerFacts) -> Iterator[tuple[tuple[int, int], Any]]:
    """For each place (i, j) of a window, the index of that pixel of all windows of padded images, rows first."""
    (high, wide), (down, across) = row.layer.window()
    rows, columns, _ = row.output_shape
    for i, j in np.ndindex(high, wide):
        yield (i, j), np.s_[i : i + (rows - 1) * down + 1 : down, :, j : j + (columns - 1) * across + 1 : across]
