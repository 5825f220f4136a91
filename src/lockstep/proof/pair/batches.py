"""What goes in: a batch that the first model takes, and the same as the second one takes it."""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.records import Model
from lockstep.language import later
from lockstep.proof.pair import client
from lockstep.proof.pair.client import Side

N_EXAMPLES = 9
SIZES = (28, 32, 64, 96, 224)  # of images, tried where nothing says how large they are


def first_batch(
    side: Side, model: Model, batch: Sequence[np.ndarray] | None, shape: Sequence[int] | None, seed: int
) -> list[np.ndarray]:
    """The arrays that are put into the first model; drawn where nobody gives any."""
    if batch is not None:
        return [_as_numbers(value) for value in batch]
    numbers = np.random.default_rng(seed)
    tried: list[str] = []
    first: LockstepError | None = None
    for size, is_whole in _shapes(model, shape):
        drawn = numbers.integers(0, 9, (N_EXAMPLES, *size)) if is_whole else numbers.normal(size=(N_EXAMPLES, *size))
        value = drawn if is_whole else drawn.astype(np.float32).astype(np.float64)
        try:
            side.trace([value])
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            tried.append(str(size))
            first = first or error
            continue
        return [value]
    if first is not None and shape is not None:
        raise first
    hint = later("say the shape of one example: --input 3,32,32, or give a batch: --batch x.npz")
    message = later("it takes none of the inputs that were tried: {shapes}", shapes=", ".join(tried))
    if not tried:
        message = later("nothing says what inputs it takes")
    raise LockstepError("LS-205", message, where=str(side.asked), hint=hint)


def _as_numbers(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float64) if np.issubdtype(array.dtype, np.floating) else array


def _shapes(model: Model, shape: Sequence[int] | None) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Shapes of one example to be tried, and whether it holds whole numbers."""
    if shape is not None:
        yield tuple(shape), False
        yield tuple(shape), True
        return
    if model.input_shape is not None:
        sizes = [[size] if size else [*SIZES] for size in model.input_shape]
        found = [
            tuple(each)
            for each in itertools.product(*sizes)
            if len(set(each[:2])) < 2 or len(sizes) < 3 or all(model.input_shape)
        ]
        yield from ((each, False) for each in found[:8])
        yield from ((each, True) for each in found[:8])
    for layer in model.layers:
        arguments = layer.arguments
        for key in ("in_features", "input_size", "in_channels", "num_embeddings"):
            n = arguments.get(key)
            if not isinstance(n, int):
                continue
            if key == "num_embeddings":
                yield (7,), True
            elif key == "in_channels":
                n_axes = next((axes for axes in (1, 2, 3) if f"{axes}d" in layer.name), 2)
                yield from (((n, *[size] * n_axes), False) for size in (SIZES if n_axes < 3 else (16, 32)) if size != n)
            else:
                yield (n,), False
                yield (7 if n != 7 else 5, n), False


def as_taken(
    side: Side, model: Model, batch: list[np.ndarray], asked: tuple[client.Named, client.Named], first: Model
) -> list[np.ndarray]:
    """The first model's batch as the second one takes it: channels first or last, whichever it accepts.

    A model may take both, since its parameters are made for what it is given first: then as many of them as can be are
    to be as large as the first model's. Where that says nothing either, three axes are a sequence's, and none is moved.
    """
    is_last = [one.framework in ("keras", "jax") for one in asked]
    turned = [with_channels(value, to_last=is_last[1]) for value in batch]
    ways = [turned, batch] if is_last[0] != is_last[1] else [batch, [with_channels(x, to_last=True) for x in batch]]
    if is_last[0] != is_last[1] and any(map(is_either_way, batch, turned)):
        shape = batch[0].shape[1:]
        message = later("with inputs of {shape} nothing tells channels first from channels last", shape=str(shape))
        hint = later("give inputs whose axes differ in size: --input 3,20,24, or such a batch")
        raise LockstepError("LS-205", message, where=str(side.asked), hint=hint)
    if batch[0].ndim == 3 and not any("1d" in layer.name.lower() for layer in first.layers):
        ways = [batch, *(way for way in ways if way is not batch)]
    if all(value.ndim < 3 for value in batch):
        ways = ways[:1]
    wanted = collections.Counter(math.prod(unit.shape) for unit in first.units)
    errors: list[LockstepError] = []
    taken: list[tuple[int, list[np.ndarray]]] = []
    for way in ways:
        if model.input_shape is not None and not _fits(way[0].shape[1:], model.input_shape):
            continue
        if errors or taken:
            side.load("float64")
        try:
            side.trace(way)
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            errors.append(error)
            continue
        sizes = collections.Counter(math.prod(unit.shape) for unit in side.description().units)
        taken.append((sum((wanted & sizes).values()), way))
        if wanted == sizes:
            break
    if taken:
        best = max(taken, key=lambda each: each[0])
        if best is not taken[-1] or (errors and way is not best[1]):
            side.load("float64")
        return best[1]
    if errors:
        raise errors[0]
    shapes = ", ".join(str(way[0].shape[1:]) for way in ways)
    message = later("it wants inputs of {wanted}, and not {shapes}", wanted=model.input_shape, shapes=shapes)
    raise LockstepError("LS-206", message, where=str(side.asked), hint=later("say the shape: --input 3,32,32"))


def is_either_way(value: np.ndarray, moved: np.ndarray) -> bool:
    """Whether nothing in the shape of a batch says in which layout it is."""
    return value.shape == moved.shape and not np.array_equal(value, moved, equal_nan=value.dtype.kind == "f")


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(w is None or s == w for s, w in zip(shape, wanted, strict=True))


def with_channels(value: np.ndarray, to_last: bool) -> np.ndarray:
    if value.ndim < 3:
        return value
    return np.ascontiguousarray(np.moveaxis(value, 1, -1) if to_last else np.moveaxis(value, -1, 1))
