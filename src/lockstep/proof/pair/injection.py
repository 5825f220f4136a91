"""The reference's numbers in the place of a call that nothing explains, so that what lies behind it can be seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from lockstep.exchange.models.records import Call
from lockstep.proof.pair import alignment
from lockstep.proof.pair.places import Numbers, Side


def found(numbers: Sequence[Numbers], places: Sequence[Side]) -> tuple[Call, np.ndarray] | None:
    """The second side's call and what the first side's gives there, in the second one's layout; None where none is."""
    outer_first = itertools.product(reversed(places[0].calls), reversed(places[1].calls))
    for one, other in outer_first:
        if not one.outputs or len(other.outputs) != 1:
            continue
        for number in one.outputs:
            a, b = numbers[0].tensors.get(number), numbers[1].tensors.get(other.outputs[0])
            if a is None or b is None or number in numbers[0].matched or b.number in numbers[1].matched:
                continue
            for axes in _orders(numbers, one, other, a.value.ndim):
                value = a.value.transpose(axes)
                if value.shape == b.value.shape:
                    return other, np.ascontiguousarray(value)
    return None


def _orders(numbers: Sequence[Numbers], one: Call, other: Call, n: int) -> Iterator[tuple[int, ...]]:
    """Orders of axes that a call's output may have: that of what it takes, then the usual ones."""
    for first, second in itertools.product(one.inputs, other.inputs):
        a, b = numbers[0].tensors.get(first), numbers[1].tensors.get(second)
        if a is None or b is None or a.value.ndim != n or b.value.ndim != n:
            continue
        axes = alignment.order(a.value, b.value, max(a.room, b.room))
        if axes is not None:
            yield axes
    yield tuple(range(n))
    if n > 2:
        yield (0, *range(2, n), 1)
        yield (0, n - 1, *range(1, n - 1))
