"""The reference's numbers in the place of those that nothing explains, so that what lies behind them can be seen.

Which tensor of the one is which of the other there, nobody knows near the place: a layer's sum may be one call here and
two there. What the next layer takes that both models have is known, and so is what they return.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from lockstep.exchange.models.records import Call
from lockstep.proof.pair import alignment
from lockstep.proof.pair.mapping import Pairing
from lockstep.proof.pair.places import Numbers


def found(numbers: Sequence[Numbers], pairing: Pairing) -> tuple[Call, np.ndarray] | None:
    """The second side's call and what it shall give, in its own layout; None where no tensors are known to be partners.

    The call is the outermost that gives what the first layer behind all differences takes, of which there is a partner.
    """
    for first, second in (*_taken(numbers, pairing), *_returned(numbers)):
        if first in numbers[0].matched or second in numbers[1].matched:
            continue
        if (told := given(numbers, first, second)) is not None:
            return told
    return None


def given(numbers: Sequence[Numbers], first: int, second: int) -> tuple[Call, np.ndarray] | None:
    """The outermost call that gives the second side's tensor, and the first side's in its layout."""
    a, b = numbers[0].tensors.get(first), numbers[1].tensors.get(second)
    makers = [call for call in numbers[1].makers.get(second, ()) if len(call.outputs) == 1]
    if a is None or b is None or not makers or a.value.size != b.value.size:
        return None
    maker = min(makers, key=numbers[1].depth)
    ones = [call for call in numbers[0].makers.get(first, ())]
    for one in ones:
        for axes in _orders(numbers, one, maker, a.value.ndim):
            value = a.value.transpose(axes)
            if value.shape == b.value.shape:
                return maker, np.ascontiguousarray(value)
    return None


def _taken(numbers: Sequence[Numbers], pairing: Pairing) -> Iterator[tuple[int, int]]:
    """(the first side's tensor, the second's) that partner layers take, where the output needs them."""
    for call in numbers[1].harmful():
        partner = pairing.partner(1, call, numbers[0].trace) if call.units else None
        if partner is not None:
            yield from zip(
                (number for number in partner.inputs if number in numbers[0].tensors),
                (number for number in call.inputs if number in numbers[1].tensors),
                strict=False,
            )


def _returned(numbers: Sequence[Numbers]) -> Iterator[tuple[int, int]]:
    return zip(numbers[0].trace.outputs, numbers[1].trace.outputs, strict=False)


def _orders(numbers: Sequence[Numbers], one: Call, other: Call, n: int) -> Iterator[tuple[int, ...]]:
    """Orders of axes that a call's output may have: that of what it takes, then the usual ones."""
    for first, second in itertools.product(one.inputs, other.inputs):
        a, b = numbers[0].tensors.get(first), numbers[1].tensors.get(second)
        if a is None or b is None or a.value.ndim != n or b.value.ndim != n:
            continue
        axes = alignment.order(a.value, b.value, max(a.tolerance, b.tolerance))
        if axes is not None:
            yield axes
    yield tuple(range(n))
    if n > 2:
        yield (0, *range(2, n), 1)
        yield (0, n - 1, *range(1, n - 1))
