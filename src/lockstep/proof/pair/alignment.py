"""Which tensor of one model is which of the other: by their values, whatever the order of their axes.

Sorted values of equal tensors stay equal under any order of axes, and sorting never makes a difference larger. The
tolerance comes from both sides' own float32: what float64 may be off is what float32 was off, times 2⁻²⁹, times 8.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from lockstep.exchange.models.records import Trace

ROOM = 8.0
FROM_FLOAT32 = 2.0**-29  # float64's rounding in units of float32's
LEAST = 2.0**-48  # of the largest value: where float32 happened to be exact
MOST_AXES = 6  # whose orders are all tried


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a trace as it is matched: its values in order of size, and what they may be off."""

    number: int
    value: np.ndarray
    ordered: np.ndarray
    room: float

    def within(self, share: float) -> Tensor:
        """The same, with room of at least a share of its largest value."""
        least = share * ROOM * float(np.abs(self.value[np.isfinite(self.value)]).max(initial=0.0)) if share else 0.0
        return dataclasses.replace(self, room=least) if least > self.room else self


def tensors(trace: Trace, beside: Trace | None) -> dict[int, Tensor]:
    """The real tensors of a trace in float64, and outputs of whole numbers; `beside` is the same pass in float32."""
    found = {}
    is_same_pass = beside is not None and [c.function for c in beside.calls] == [c.function for c in trace.calls]
    for number, value in trace.tensors.items():
        if number in trace.outputs and value.dtype.kind in "iub" and value.size:
            value = value.astype(np.float64)
            found[number] = Tensor(number, value, np.sort(value.ravel()), 0.0)
        if not np.issubdtype(trace.tensors[number].dtype, np.floating) or not value.size:
            continue
        finite = value[np.isfinite(value)]
        largest = float(np.abs(finite).max(initial=0.0))
        room = LEAST * largest
        other = beside.tensors.get(number) if is_same_pass and beside is not None else None
        if other is not None and other.shape == value.shape:
            with np.errstate(invalid="ignore"):
                off = np.abs(other.astype(np.float64) - value)
            room = max(room, ROOM * FROM_FLOAT32 * float(off[np.isfinite(off)].max(initial=0.0)))
        found[number] = Tensor(number, value, np.sort(value.ravel()), room)
    return found


def is_equal(a: np.ndarray, b: np.ndarray, room: float) -> bool:
    """Whether two arrays of one shape agree within `room`, with what is not finite at the same places."""
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= room
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return bool((close | same).all())


def off(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays' values in order of size; infinite where their numbers differ."""
    if a.size != b.size:
        return math.inf
    with np.errstate(invalid="ignore"):
        difference = np.abs(np.sort(a.ravel()) - np.sort(b.ravel()))
    return float(np.where(np.isnan(difference), math.inf, difference).max(initial=0.0))


def matches(a: Mapping[int, Tensor], b: Mapping[int, Tensor]) -> dict[int, list[int]]:
    """Tensor of the one → those of the other that hold the same values."""
    by_size: dict[int, list[Tensor]] = defaultdict(list)
    for tensor in b.values():
        by_size[tensor.value.size].append(tensor)
    found: dict[int, list[int]] = {}
    for tensor in a.values():
        same = [other.number for other in by_size[tensor.value.size] if _is_same(tensor, other)]
        if same:
            found[tensor.number] = same
    return found


def _is_same(a: Tensor, b: Tensor) -> bool:
    room = max(a.room, b.room)
    for place in (0, -1, a.ordered.size // 2):  # most pairs differ there
        if not is_equal(a.ordered[[place]], b.ordered[[place]], room):
            return False
    return is_equal(a.ordered, b.ordered, room)


def order(a: np.ndarray, b: np.ndarray, room: float) -> tuple[int, ...] | None:
    """The order of a's axes in which it is b, read row by row; None where the same values stand otherwise."""
    if a.size != b.size or a.ndim > MOST_AXES:
        return None
    for axes in orders(a.ndim):
        if is_equal(a.transpose(axes).reshape(b.shape), b, room):
            return axes
    return None


def orders(n: int) -> Iterable[tuple[int, ...]]:
    """Every order of so many axes, the usual ones first."""
    usual = [tuple(range(n)), (0, *range(2, n), 1), (0, n - 1, *range(1, n - 1))] if n > 2 else [tuple(range(n))]
    yield from dict.fromkeys([*usual, *itertools.permutations(range(n))])
