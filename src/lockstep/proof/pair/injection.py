"""The reference's numbers in the place of a call that nothing explains, so that what lies behind it can be seen.

Which call of the one is which of the other there, nobody knows: of all near the place those two are taken whose numbers
are most alike, or that are of one kind. A wrong pair would make a difference of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from lockstep.exchange.models.records import Call
from lockstep.proof.pair import alignment
from lockstep.proof.pair.places import MOST_BEHIND, Numbers, Side

ALIKE = 0.5  # the correlation of two calls' numbers from which they may be the same one's
OF_A_KIND = 0.5  # what one kind adds to it
FARTHER = 0.02  # what each call between the place and the two takes from it


def found(numbers: Sequence[Numbers], places: Sequence[Side]) -> tuple[Call, np.ndarray] | None:
    """The second side's call and what the first side's gives there, in the second one's layout; None where none is."""
    best: tuple[float, Call, np.ndarray] | None = None
    near = [_near(each, place) for each, place in zip(numbers, places, strict=True)]
    for (far, one), (farther, other) in itertools.product(*map(enumerate, near)):
        value = _there(numbers, one, other)
        if value is None:
            continue
        alike = _correlation(value, numbers[1].tensors[other.outputs[0]].value)
        is_of_a_kind = bool(one.kind) and one.kind == other.kind
        score = alike + OF_A_KIND * is_of_a_kind - FARTHER * (far + farther)
        if (alike >= ALIKE or is_of_a_kind) and (best is None or score > best[0]):
            best = score, other, value
    return None if best is None else best[1:]


def of(numbers: Sequence[Numbers], one: Call, other: Call) -> tuple[Call, np.ndarray] | None:
    """The same of two calls that are known to be each other's."""
    value = _there(numbers, one, other)
    return None if value is None else (other, value)


def _near(numbers: Numbers, place: Side) -> list[Call]:
    """The calls of a place, the outermost first, and those behind it."""
    first = place.calls[0].index
    behind = [call for call in numbers.harmful() if call.index > first][:MOST_BEHIND]
    return [*reversed(place.calls), *(call for call in behind if call not in place.calls)]


def _there(numbers: Sequence[Numbers], one: Call, other: Call) -> np.ndarray | None:
    """What the first side's call gives, in the layout of the second one's; None where it is of another size."""
    if len(other.outputs) != 1 or other.outputs[0] in numbers[1].matched:
        return None
    b = numbers[1].tensors.get(other.outputs[0])
    for number in one.outputs:
        a = numbers[0].tensors.get(number)
        if a is None or b is None or number in numbers[0].matched or a.value.size != b.value.size:
            continue
        for axes in _orders(numbers, one, other, a.value.ndim):
            value = a.value.transpose(axes)
            if value.shape == b.value.shape:
                return np.ascontiguousarray(value)
    return None


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    one, two = a.ravel() - a.mean(), b.ravel() - b.mean()
    with np.errstate(all="ignore"):
        found = float(one @ two / np.sqrt((one @ one) * (two @ two)))
    return found if np.isfinite(found) else 0.0


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
