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
) -> tuple[tuple[Call, Call], tuple[Call, Call]] | None:
    """The two calls of a layer, and the two that give what they take; None where a place is none of that kind."""
    for side, place in enumerate(places):
        for call in place.calls:
            partner = pairing.partner(side, call, numbers[1 - side].trace) if call.units else None
            if partner is None or not _is_fed_alike(numbers[side], call) or _is_fed_alike(numbers[1 - side], partner):
                continue
            makers = _maker(numbers[side], call), _maker(numbers[1 - side], partner)
            if makers[0] is None or makers[1] is None or makers[0].function == makers[1].function:
                continue
            calls = (call, partner) if side == 0 else (partner, call)
            return calls, ((makers[0], makers[1]) if side == 0 else (makers[1], makers[0]))
    return None


def _is_fed_alike(numbers: Numbers, call: Call) -> bool:
    """Whether the other model has all that a call takes."""
    return all(number in numbers.matched or number not in numbers.tensors for number in call.inputs)


def _maker(numbers: Numbers, call: Call) -> Call | None:
    """The innermost call that gives the first real tensor that a call takes."""
    first = next((number for number in call.inputs if number in numbers.tensors), -1)
    return max(numbers.makers.get(first, ()), key=numbers.depth, default=None)
