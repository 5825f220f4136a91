"""What two models return, once all their numbers are equal: the same tensors, and their entries in the same places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lockstep.exchange.models.records import Call, Trace, Where
from lockstep.language import later as _
from lockstep.proof.pair import alignment, permutations
from lockstep.proof.pair.alignment import Tensor
from lockstep.store.documents.difference import Finding, Spot


def findings(
    stage: str, traces: Sequence[Trace], tensors: Sequence[Mapping[int, Tensor]], there: Mapping[int, Sequence[int]]
) -> list[Finding]:
    """Differences of what is returned; sorted values say nothing of either."""
    outputs = [
        [number for number in trace.outputs if number in own] for trace, own in zip(traces, tensors, strict=True)
    ]
    pairs = [(one, other) for one in outputs[0] for other in there.get(one, ()) if other in outputs[1]]
    if not pairs and all(outputs):
        spot = _spot(traces, (outputs[0][0], outputs[1][0]))
        cause = _("the models return other tensors of theirs: {a} | {b}", a=spot.a, b=spot.b)
        off = alignment.off(tensors[0][outputs[0][0]].value, tensors[1][outputs[1][0]].value)
        return [Finding(stage, cause, "output", spot.a, spot.b, [spot], off, 0.0)]
    found = []
    for one in dict.fromkeys(one for one, _other in pairs):
        others = [other for this, other in pairs if this == one]
        if not any(_is_in_place(tensors[0][one], tensors[1][other]) for other in others):
            found.append(_scrambled(stage, traces, tensors, (one, others[0])))
    return found


def _is_in_place(a: Tensor, b: Tensor) -> bool:
    room = max(a.room, b.room)
    if max(a.value.ndim, b.value.ndim) > alignment.MOST_AXES:  # whose orders nobody tries
        return a.value.shape == b.value.shape and alignment.is_equal(a.value, b.value, room)
    ways = alignment.order(a.value, b.value, room), alignment.order(b.value, a.value, room)
    return any(way is not None for way in ways)


def _scrambled(
    stage: str, traces: Sequence[Trace], tensors: Sequence[Mapping[int, Tensor]], numbers: tuple[int, int]
) -> Finding:
    a, b = (own[number] for own, number in zip(tensors, numbers, strict=True))
    order = permutations.of_examples(a.value, b.value, max(a.room, b.room))
    told = None
    if order is not None:
        told = permutations.described(order, a.value.shape[1:], b.value.shape[1:])
    words = told.words() if told is not None else _("in another order")
    off = float(abs(a.value.ravel() - b.value.ravel()).max(initial=0.0))
    cause = _("the output holds the same numbers elsewhere: {words}", words=words)
    return Finding(stage, cause, "order", None, words, [_spot(traces, numbers)], off, 0.0)


def _spot(traces: Sequence[Trace], numbers: Sequence[int]) -> Spot:
    titles, lines = [], []
    for trace, number in zip(traces, numbers, strict=True):
        maker = _maker(trace, number)
        titles.append((maker.path or maker.function) if maker else "–")
        lines.append(str(maker.where if maker else Where()))
    return Spot(titles[0], titles[1], lines[0], lines[1])


def _maker(trace: Trace, number: int) -> Call | None:
    return next((call for call in reversed(trace.calls) if number in call.outputs and number not in call.inputs), None)
