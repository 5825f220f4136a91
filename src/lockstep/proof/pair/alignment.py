"""Which tensor of one model is which of the other: by their values, whatever the order of their axes.

Sorted values of equal tensors stay equal under any order of axes, and sorting never makes a difference larger. The
tolerance comes from both sides' own float32 (see `tolerances`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from lockstep.exchange.models.records import Trace
from lockstep.proof.pair import tolerances

MOST_AXES = 6  # whose orders are all tried


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a trace as it is matched: its values in order of size, and what they may be off."""

    number: int
    value: np.ndarray
    ordered: np.ndarray
    tolerance: float

    def within(self, share: float) -> Tensor:
        """The same, with a tolerance of at least a share of its largest value."""
        least = share * tolerances.FACTOR * tolerances.largest(self.value) if share else 0.0
        return dataclasses.replace(self, tolerance=least) if least > self.tolerance else self


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
        tolerance = tolerances.LEAST * tolerances.largest(value)
        other = beside.tensors.get(number) if is_same_pass and beside is not None else None
        if other is not None and other.shape == value.shape:
            with np.errstate(invalid="ignore"):
                off = np.abs(other.astype(np.float64) - value)
            tolerance = max(tolerance, tolerances.from_float32(off))
        found[number] = Tensor(number, value, np.sort(value.ravel()), tolerance)
    return found


def is_equal(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    """Whether two arrays of one shape agree within `tolerance`, with what is not finite at the same places."""
    with np.errstate(invalid="ignore"):
        close = np.abs(a - b) <= tolerance
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
    tolerance = max(a.tolerance, b.tolerance)
    for place in (0, -1, a.ordered.size // 2):  # most pairs differ there
        if not is_equal(a.ordered[[place]], b.ordered[[place]], tolerance):
            return False
    return is_equal(a.ordered, b.ordered, tolerance)


def order(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[int, ...] | None:
    """The order of a's axes in which it is b, read row by row; None where the same values stand otherwise."""
    if a.size != b.size or a.ndim > MOST_AXES:
        return None
    for axes in orders(a.ndim):
        if is_equal(a.transpose(axes).reshape(b.shape), b, tolerance):
            return axes
    return None


def orders(n: int) -> Iterable[tuple[int, ...]]:
    """Every order of so many axes, the usual ones first."""
    usual = [tuple(range(n)), (0, *range(2, n), 1), (0, n - 1, *range(1, n - 1))] if n > 2 else [tuple(range(n))]
    yield from dict.fromkeys([*usual, *itertools.permutations(range(n))])
