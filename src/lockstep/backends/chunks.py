"""An epoch cut into steps, and what a compiled loop is given for many of them at once.

Whether a backend takes its steps one by one (NumPy, PyTorch) or many in one compiled call (TensorFlow, JAX), the
batches, the numbers of each update and the masks are the same, and are worked out here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.backends.plan import Arrays, Numbers, Plan

MASK_BYTES = 2**25  # of dropout masks in one chunk of steps
PREDICT_BATCH = 500  # images in one inference call: large enough to be fast, small enough for unfolded convolutions


def prediction_batches(images: Any) -> Iterator[Any]:
    """The images, an array or a tensor, in parts of one inference call each."""
    for start in range(0, len(images), PREDICT_BATCH):
        yield images[start : start + PREDICT_BATCH]


def batches(order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(full batches (steps, batch_size), the short last one (possibly empty)) of one epoch's order."""
    full = len(order) // batch_size * batch_size
    return order[:full].reshape(-1, batch_size), order[full:]


@dataclass(frozen=True)
class Chunk:
    """Some consecutive steps of one epoch, for a backend that takes them all in one compiled call.

    `indices` (steps, batch) int32; `numbers` those of each update, (steps,); `masks` layer name → (steps, batch, …).
    """

    indices: np.ndarray
    numbers: Numbers
    masks: Arrays


def _chunk(plan: Plan, indices: np.ndarray, taken: int) -> Chunk:
    """The chunk of these batches, (steps, batch), after so many updates."""
    steps = range(taken, taken + len(indices))
    masks = [plan.masks(step, indices.shape[1]) for step in steps]
    numbers = Numbers(*map(np.array, zip(*(plan.numbers(step) for step in steps), strict=True)))
    stacked = {name: np.stack([mask[name] for mask in masks]) for name in masks[0]}
    return Chunk(indices.astype(np.int32), numbers, stacked)


def chunks(plan: Plan, order: np.ndarray, taken: int) -> Iterator[Chunk]:
    """An epoch's steps in as few chunks as the masks' memory allows; the short last batch is a chunk of its own."""
    for part in batches(order, plan.recipe.batch_size):
        if not len(part):
            continue
        part = np.atleast_2d(part)
        size = chunk_steps(plan, part.shape[1], len(part))
        for start in range(0, len(part), size):
            yield _chunk(plan, part[start : start + size], taken)
            taken += len(part[start : start + size])


def single_step(plan: Plan, n: int, taken: int) -> Chunk:
    """The chunk of one step on `n` images, all of those that are placed."""
    return _chunk(plan, np.arange(n)[None], taken)


def chunk_steps(plan: Plan, batch: int, steps: int) -> int:
    """How many steps of this batch size one chunk holds at most: all of them where nothing is dropped."""
    values = sum(math.prod(row.output_shape) for _, row in plan.dropouts)
    return max(min(steps, MASK_BYTES // (values * batch * np.dtype(plan.dtype).itemsize or 1)), 1)


def most_steps(plan: Plan, chunk: Chunk, n_images: int) -> int:
    """The most steps that any chunk of an epoch of so many images has, of those with this one's batch size.

    A compiler that makes a program for given shapes makes one for all of them, where each is filled up to as many.
    """
    n, batch = chunk.indices.shape
    most = max(n_images // batch, 1) if batch == plan.recipe.batch_size else 1
    return max(chunk_steps(plan, batch, most), n)


def filled_up(value: np.ndarray, room: int) -> np.ndarray:
    """(steps, …) → (steps + room, …), with zeros for the steps that are not taken."""
    return np.pad(value, ((0, room), *[(0, 0)] * (value.ndim - 1))) if room else value
