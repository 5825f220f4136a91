"""Two calls of one layer, of which one takes what both models have, and the other something else.

An activation that was left out, a step of a sequence instead of another: the layer is the same, and no argument of its
makes the two equal. What it takes is told, which needs no guess.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.exchange.models.records import Call
from lockstep.proof.pair.mapping import Pairing
from lockstep.proof.pair.places import Numbers, Side


def found(
    numbers: Sequence[Numbers], places: Sequence[Side], pairing: Pairing
) -> tuple[tuple[Call, Call], tuple[Call, Call], tuple[int, int]] | None:
    """The two calls of a layer, the two that give what they take, and that; None where a place is none of that kind."""
    for side, place in enumerate(places):
        for call in place.calls:
            partner = pairing.partner(side, call, numbers[1 - side].trace) if call.units else None
            if partner is None or not _is_fed_alike(numbers[side], call) or _is_fed_alike(numbers[1 - side], partner):
                continue
            one, other = (call, partner) if side == 0 else (partner, call)
            taken = _first(numbers[0], one), _first(numbers[1], other)
            a, b = _maker(numbers[0], taken[0]), _maker(numbers[1], taken[1])
            if a is not None and b is not None and a.function != b.function:
                return (one, other), (a, b), taken
    return None


def _is_fed_alike(numbers: Numbers, call: Call) -> bool:
    """Whether the other model has all that a call takes."""
    return all(number in numbers.matched or number not in numbers.tensors for number in call.inputs)


def _first(numbers: Numbers, call: Call) -> int:
    """The first real tensor that a call takes."""
    return next((number for number in call.inputs if number in numbers.tensors), -1)


def _maker(numbers: Numbers, number: int) -> Call | None:
    """The outermost call that gives a tensor: the layer, where there is one."""
    return min(numbers.makers.get(number, ()), key=numbers.depth, default=None)
