"""What else must be put right with a cause that changes shapes: the same argument of all layers behind it.

A stride that stands at another convolution of a block makes shapes in between that what follows cannot take, so no
place of the two is equal before both are put right.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.exchange.models.records import Call, Change, Trace
from lockstep.proof.pair import alternatives
from lockstep.proof.pair.alternatives import Alternative
from lockstep.proof.pair.laboratory import Part
from lockstep.proof.pair.mapping import Pairing


def elsewhere(part: Part, pairing: Pairing, traces: Sequence[Trace]) -> list[Part]:
    """The partner's values of the same argument, for every layer of the part's side behind its call."""
    mine, other = traces[part.side], traces[1 - part.side]
    found: list[Part] = []
    for call in mine.calls:
        is_told = any(each.call.path == call.path and each.call.function == call.function for each in (part, *found))
        if call.index <= part.call.index or not call.units or (call.path and is_told):
            continue
        partner = pairing.partner(part.side, call, other)
        for name, value in _differing(call, partner, part.alternative.meaning) if partner else ():
            change = Change(call=call.index, arguments={name: value})
            told = Alternative(change, part.alternative.meaning, name, call.arguments[name], value)
            found.append(Part(part.side, call, told, partner))
    return found


def _differing(call: Call, partner: Call, meaning: str) -> list[tuple[str, object]]:
    """(argument, the partner's value) of this meaning, where the two differ in it."""
    theirs = [value for name, value in partner.arguments.items() if alternatives.MEANING.get(name) == meaning]
    return [
        (name, alternatives.like(theirs[0], before))
        for name, before in call.arguments.items()
        if alternatives.MEANING.get(name) == meaning and theirs and alternatives.like(theirs[0], before) != before
    ]
