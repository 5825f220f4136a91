"""In which order one array holds the numbers of another: other axes, turned round, rolled, rows changed about.

Two arrays whose sorted values agree may hold them anywhere. Where all examples of a batch agree on where, that is an
order, and an order that goes axis by axis can be said in a few words.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep.language import later
from lockstep.proof.pair.alignment import MOST_AXES

MOST_TOLD = 12  # entries of an axis that are written down one by one


@dataclasses.dataclass(frozen=True)
class Permutation:
    """Where each entry of the first array lies in the second: the axes' order, then an order along each axis."""

    axes: tuple[int, ...]  # the second array's axes, in the order of the first's
    along: tuple[tuple[int, ...], ...]  # of each axis of the first: the second's index for every one of its own

    @property
    def is_turned(self) -> bool:
        """Whether axes stand in another order."""
        return self.axes != tuple(range(len(self.axes)))

    @property
    def moved(self) -> dict[int, tuple[int, ...]]:
        """The axes of the first array along which entries stand in another order."""
        return {axis: order for axis, order in enumerate(self.along) if order != tuple(range(len(order)))}

    def words(self) -> Any:
        """As a person says it."""
        axes = " ".join(map(str, self.axes))
        parts: list[Any] = [later("its axes in the order {axes}", axes=axes)] if self.is_turned else []
        parts += [_along(axis, order) for axis, order in self.moved.items()]
        found = parts[0] if parts else later("as it is")
        for part in parts[1:]:
            found = later("{one}, {other}", one=found, other=part)
        return found


def _along(axis: int, order: Sequence[int]) -> Any:
    n = len(order)
    if tuple(order) == tuple(reversed(range(n))):
        return later("axis {axis} reversed", axis=axis)
    steps = {(there - here) % n for here, there in enumerate(order)}
    if len(steps) == 1:
        return later("axis {axis} rolled by {n}", axis=axis, n=min(steps))
    told = " ".join(map(str, order[:MOST_TOLD])) + (" …" if n > MOST_TOLD else "")
    return later("axis {axis} in the order {order}", axis=axis, order=told)


def of_examples(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray | None:
    """For every entry of an example of a, its place among those of b's, alike in all examples; None where it is none.

    An entry is known by what it is in all examples together: one number of each, drawn at random, tells them apart
    (a relu's zeros stand elsewhere in each example).
    """
    if a.ndim < 1 or b.ndim < 1 or a.size != b.size or len(a) != len(b) or not len(a):
        return None
    one, two = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return None
    weights = np.random.default_rng(0).uniform(0.5, 1.5, len(a))
    order = np.empty(one.shape[1], dtype=np.int64)
    order[np.argsort(weights @ one, kind="stable")] = np.argsort(weights @ two, kind="stable")
    return order if bool((np.abs(one - two[:, order]) <= tolerance).all()) else None


def of_arrays(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """For every entry of a, its place in b, where both hold the same numbers; None where they do not."""
    return of_examples(a.reshape(1, -1), b.reshape(1, -1), 0.0)


def described(order: np.ndarray, a: Sequence[int], b: Sequence[int]) -> Permutation | None:
    """An order as one that goes axis by axis, of arrays of these shapes; None where it is none."""
    if len(a) != len(b) or len(a) > MOST_AXES or math.prod(a) != len(order) or sorted(a) != sorted(b):
        return None
    places = [place.reshape(tuple(a)) for place in np.unravel_index(order, tuple(b))]
    for axes in itertools.permutations(range(len(a))):
        if tuple(b[axis] for axis in axes) != tuple(a):
            continue
        along = [_of_axis(places[there], axis) for axis, there in enumerate(axes)]
        if all(each is not None for each in along):
            return Permutation(axes, tuple(each for each in along if each is not None))
    return None


def _of_axis(places: np.ndarray, axis: int) -> tuple[int, ...] | None:
    """The index along one axis, where it follows from the place along another alone."""
    lines = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)
    return tuple(int(line[0]) for line in lines) if bool((lines == lines[:, :1]).all()) else None
