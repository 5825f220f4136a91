"""The layers of `layers` as they are trained: the same sums, in a layout and an order that cost less time.

NumPy's products are as fast as anybody's. What costs time are the passes over memory around them, so there are fewer,
and each goes along long runs of numbers:

- Images lie as (height, channels, width, n). Then a row of the output is one product of the kernel with the rows of
  the images under it, of which each is unfolded along its width alone: `wide` copies of a pixel, not high · wide. The
  unfolded rows that follow each other are one matrix as they stand, so nothing is added up afterwards.
- Max-pooling looks along the rows of its windows first and then across them, where there is less left to look at.
- Large arrays come from a `Space` and are used again in every step: fresh memory costs a page fault every 4 KB.

What each of them means is said by the function of the same name in `layers`; the tests hold them to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from lockstep.backends.plan import window_padding
from lockstep.spec import Add, BatchNorm, Concat, Conv2D, Flatten, LayerFacts, MaxPool2D

Backward = Callable[[np.ndarray, bool], Any]
Layer = tuple[np.ndarray, Backward]
Form = Callable[[LayerFacts, Any, Any], Layer]


class Space:
    """Arrays by name and shape, the same ones every time: whoever asks again writes over what is there.

    Batches of another size have arrays of their own, which stay.
    """

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


def batch_last(x: np.ndarray) -> np.ndarray:
    """(n, height, width, channels) → (height, channels, width, n)."""
    return x.transpose(1, 3, 2, 0) if x.ndim == 4 else x


def batch_first(x: np.ndarray) -> np.ndarray:
    """The way back of `batch_last`."""
    return x.transpose(3, 0, 2, 1) if x.ndim == 4 else x


def turned(layer: Form) -> Form:
    """A plain layer for images that lie batch last."""

    def turned_layer(row: LayerFacts, x: Any, on: Any) -> Layer:
        y, backward = layer(row, _each(batch_first, x), on)

        def turned_backward(dy: np.ndarray, wants_dx: bool) -> Any:
            dx = backward(_each(batch_first, dy), wants_dx)
            return dx if dx is None else _each(batch_last, dx)

        return np.ascontiguousarray(batch_last(y)), turned_backward

    return turned_layer


def _each(turn: Callable[[np.ndarray], np.ndarray], x: Any) -> Any:
    """An array, or each of several, turned and contiguous."""
    return tuple(_each(turn, one) for one in x) if isinstance(x, tuple) else np.ascontiguousarray(turn(x))


# ------------------------------------------------------------------------------------------------------------- layers


def dense(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """y = x·w + b;  dx = dy·wᵀ, dw = xᵀ·dy, db = Σ dy. A large dw is left to `Model.finish`, with x and dy."""
    w, b = on.parameters[f"{row.name}/kernel"], on.parameters.get(f"{row.name}/bias")
    y = np.matmul(x, w, out=on.space(f"{row.name} y", (len(x), w.shape[1])))
    if b is not None:
        y += b
    left = on.left.get(row.name)
    if left is not None:
        left[0][...] = x

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if b is not None:
            dy.sum(axis=0, out=on.gradients[f"{row.name}/bias"])
        if left is not None:
            left[1][...] = dy
        else:
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


def flatten(row: LayerFacts[Flatten], x: np.ndarray, on: Any) -> Layer:
    """(height, channels, width, n) → (n, height · width · channels), or with the channels first."""
    there, back = ((3, 1, 0, 2), (2, 1, 3, 0)) if row.layer.order == "chw" else ((3, 0, 2, 1), (1, 3, 2, 0))
    y = on.space(f"{row.name} y", tuple(x.shape[axis] for axis in there))
    y[...] = x.transpose(there)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dx = on.space(f"{row.name} dx", x.shape)
        dx[...] = dy.reshape(y.shape).transpose(back)
        return dx

    return y.reshape(len(y), -1), backward


def conv2d(row: LayerFacts[Conv2D], x: np.ndarray, on: Any) -> Layer:
    """For each row r of the output, y[r] = wᵀ·strips[r]: the unfolded rows of the images that the kernel covers there.

    On the way back dw = Σ strips[r]·dy[r]ᵀ, and a row of the images takes from all rows of the output that it is in.
    """
    w, b = on.parameters[f"{row.name}/kernel"], on.parameters.get(f"{row.name}/bias")
    (high, wide), (down, across) = row.layer.window()
    rows, columns, filters = row.output_shape
    x = pad(row, x, 0.0, on.space)
    height, channels, _, n = x.shape
    length, run = wide * channels, columns * n
    places = [np.s_[:, :, j : j + (columns - 1) * across + 1 : across] for j in range(wide)]
    strips = on.space(f"{row.name} strips", (height, wide, channels, columns, n))
    for j, place in enumerate(places):
        strips[:, j] = x[place]
    size = strips.itemsize  # strides of axes of length 1 are undefined in NumPy: they are worked out here
    covered = as_strided(strips, (rows, high * length, run), (down * length * run * size, run * size, size))
    flat = w.reshape(-1, filters)
    y = on.space(f"{row.name} y", (rows, filters, columns, n))
    np.matmul(flat.T, covered, out=y.reshape(rows, filters, run))
    if b is not None:
        y += b[:, None, None]

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dy = dy.reshape(rows, filters, run)
        if b is not None:
            dy.sum(axis=2).sum(axis=0, out=on.gradients[f"{row.name}/bias"])
        dw = on.gradients[f"{row.name}/kernel"].reshape(flat.shape)
        if rows * dw.size <= strips.size:
            np.matmul(covered, dy.transpose(0, 2, 1), out=on.space(f"{row.name} dw", (rows, *dw.shape))).sum(0, out=dw)
        else:  # a product of each row at once would take more memory than the images
            dw.fill(0)
            for r in range(rows):
                dw += np.matmul(covered[r], dy[r].T, out=on.space(f"{row.name} dw", dw.shape))
        if not wants_dx:
            return None
        dstrips = strips  # which have done their service: a way back is gone once
        for h, first, last in _covering(height, rows, high, down):
            if first == last:
                dstrips[h].fill(0)
                continue
            met = w[h - (last - 1) * down : h - first * down + 1 : down][::-1]  # the rows of the kernel that lie on h
            factors = met.reshape(last - first, length, filters).transpose(1, 0, 2).reshape(length, -1)
            np.matmul(factors, dy[first:last].reshape(-1, run), out=dstrips[h].reshape(length, run))
        dx = on.space(f"{row.name} dx", x.shape)
        dx.fill(0)
        for j, place in enumerate(places):
            dx[place] += dstrips[:, j]
        return unpad(row, dx)

    return y, backward


def _covering(height: int, rows: int, high: int, down: int) -> Iterator[tuple[int, int, int]]:
    """For each row h of the images (h, first, last): the rows first ≤ r < last of the output whose windows cover it."""
    for h in range(height):
        first, last = max(0, -(-(h - high + 1) // down)), min(rows, h // down + 1)
        yield h, min(first, last), last


def max_pool2d(row: LayerFacts[MaxPool2D], x: np.ndarray, on: Any) -> Layer:
    """The largest value of each row of a window, then of these the largest; in row-major order, the first gets dy."""
    padded = pad(row, x, -np.inf, on.space)
    (high, wide), (down, across) = row.layer.window()
    rows, columns, channels = row.output_shape
    height, n = padded.shape[0], padded.shape[3]
    by_row = on.space(f"{row.name} by row", (height, channels, columns, n))
    y = on.space(f"{row.name} y", (rows, channels, columns, n))

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


def batch_norm(row: LayerFacts[BatchNorm], x: np.ndarray, on: Any) -> Layer:
    """y = scale·x̂ + shift, x̂ = (x − mean)/√(variance + ε);  dx = scale·(dy − Σdy/n − x̂·Σ(dy·x̂)/n)/√(variance + ε)."""
    layer, rows, channels = row.layer, len(x), x.shape[1]
    scale, shift = on.parameters[f"{row.name}/scale"], on.parameters[f"{row.name}/shift"]
    n = on.n * rows * x.shape[2]
    by_channel = (rows, channels, -1)

    def total(of: np.ndarray) -> np.ndarray:
        return of.reshape(by_channel).sum(axis=2).sum(axis=0)

    def wide(of: np.ndarray) -> np.ndarray:
        return of[:, None, None]

    y, normal = (on.space(f"{row.name} {what}", x.shape) for what in ("y", "normal"))
    if on.training:
        mean = on.total(total(x)) / n
        np.subtract(x, wide(mean), out=normal)
        variance = on.total(total(np.square(normal, out=y))) / n
        on.keep_running(row, mean, variance, n)
    else:
        np.subtract(x, wide(on.statistics[f"{row.name}/running_mean"]), out=normal)
        variance = on.statistics[f"{row.name}/running_variance"]
    inverse = 1.0 / np.sqrt(variance + layer.epsilon)
    normal *= wide(inverse)
    np.multiply(normal, wide(scale), out=y)
    y += wide(shift)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        dx = on.space(f"{row.name} dx", x.shape)
        dshift, dscale = total(dy), total(np.multiply(dy, normal, out=dx))
        on.gradients[f"{row.name}/shift"][...] = dshift
        on.gradients[f"{row.name}/scale"][...] = dscale
        if not on.training:
            return np.multiply(dy, wide(scale * inverse), out=dx)
        dshift, dscale = on.total(dshift), on.total(dscale)
        np.multiply(normal, wide(dscale / -n), out=dx)
        dx += dy
        dx -= wide(dshift / n)
        dx *= wide(scale * inverse)
        return dx

    return y, backward


def dropout(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """y = mask · x, where the mask is 0 or 1/keep; without effect in inference."""
    mask = on.masks.get(row.name)
    if mask is None:
        return x, lambda dy, wants_dx: dy
    turned_mask = on.space(f"{row.name} mask", x.shape)
    turned_mask[...] = batch_last(mask)

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        return np.multiply(dy, turned_mask, out=on.space(f"{row.name} dx", x.shape))

    return np.multiply(x, turned_mask, out=on.space(f"{row.name} y", x.shape)), backward


def add(row: LayerFacts[Add], taken: tuple[np.ndarray, ...], on: Any) -> Layer:
    """y = x₁ + x₂ + …, and every dx is dy, which nobody writes into."""
    y = np.add(taken[0], taken[1], out=on.space(f"{row.name} y", taken[0].shape))
    for other in taken[2:]:
        y += other
    return y, lambda dy, wants_dx: (dy,) * len(taken)


def concat(row: LayerFacts[Concat], taken: tuple[np.ndarray, ...], on: Any) -> Layer:
    """One behind the other along the channels; each gets its part of dy."""
    taken = taken[::-1] if row.layer.order == "reversed" else taken
    ends = np.cumsum([x.shape[1] for x in taken])[:-1]
    shape = taken[0].shape
    y = on.space(f"{row.name} y", (shape[0], row.output_shape[2], *shape[2:]))
    np.concatenate(taken, axis=1, out=y)

    def backward(dy: np.ndarray, wants_dx: bool) -> tuple[np.ndarray, ...]:
        parts = [np.ascontiguousarray(part) for part in np.split(dy, ends, axis=1)]
        return tuple(parts[::-1] if row.layer.order == "reversed" else parts)

    return y, backward


# The layers for which it matters in which order the axes of an image lie.
TURNED = frozenset({
    "conv2d", "max_pool2d", "avg_pool2d", "global_avg_pool", "flatten", "batch_norm", "layer_norm", "dropout",
    "concat",
})  # fmt: skip
# The layers that have a form of their own here, and of some which records.
HAS_FORM: dict[str, Callable[[Any], bool]] = {
    "max_pool2d": lambda layer: layer.ties == "first",
    "add": lambda layer: layer == Add(),
    "concat": lambda layer: layer.axis == "channels",
}
LAYERS: dict[str, Form] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "flatten": flatten,
    "batch_norm": batch_norm,
    "dropout": dropout,
    "dense": dense,
    "relu": relu,
    "add": add,
    "concat": concat,
}


def forms(rows: Sequence[LayerFacts], plain: Mapping[str, Form], is_batch_last: bool) -> dict[str, Form]:
    """Each layer in the form in which it is trained; images lie batch last, or there are none but the flattened."""

    def form(row: LayerFacts, function: Form) -> Form:
        kind = row.layer.kind
        has_form = kind in LAYERS and HAS_FORM.get(kind, lambda layer: True)(row.layer)
        if kind not in TURNED or len(row.input_shape) == 1:
            return LAYERS[kind] if has_form and kind not in TURNED else function
        if not is_batch_last:
            return function
        return LAYERS[kind] if has_form else turned(function)

    return {row.name: form(row, plain[row.name]) for row in rows}


# ------------------------------------------------------------------------------------------------------------ windows


def pad(row: LayerFacts, x: np.ndarray, value: float, space: Space) -> np.ndarray:
    """Images, batch last, with a border of `value`."""
    (top, bottom), (left, right) = window_padding(row)
    if not (top or bottom or left or right):
        return x
    height, channels, width, n = x.shape
    padded = space(f"{row.name} padded", (height + top + bottom, channels, width + left + right, n), value)
    padded[top : top + height, :, left : left + width] = x
    return padded


def unpad(row: LayerFacts, x: np.ndarray) -> np.ndarray:
    """The way back of `pad`; a contiguous array."""
    (top, bottom), (left, right) = window_padding(row)
    return np.ascontiguousarray(x[top : x.shape[0] - bottom, :, left : x.shape[2] - right])
