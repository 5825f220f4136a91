"""What two models return: as many outputs, each the other's tensor, and their entries in the same places.

That every number is found somewhere in the other model is not enough: one may give what the other only passes through,
and sorted values say nothing of where they stand.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from lockstep.exchange.models.records import Call, Trace, Where
from lockstep.language import later
from lockstep.proof.pair import alignment, permutations
from lockstep.proof.pair.alignment import Tensor
from lockstep.store.documents.difference import Finding, Spot

MOST_OUTPUTS = 6  # whose orders are all tried


def contradiction(traces: Sequence[Trace], matched: Mapping[int, Sequence[int]]) -> str:
    """In what the outputs differ, as a sentence; "" where each is the other's. `matched`: tensor of a → those of b."""
    one, other = (trace.outputs for trace in traces)
    shapes = ["; ".join(_shape(trace, number) for number in trace.outputs) for trace in traces]
    if len(one) != len(other):
        return later("the first gives {n} outputs, the second {m}: {a} | {b}", n=len(one), m=len(other), a=shapes[0],
                     b=shapes[1])  # fmt: skip
    if len(one) > MOST_OUTPUTS:
        orders: list[tuple[int, ...]] = [other]
    else:
        orders = [*itertools.permutations(other)]
    for order in orders:
        if all(_is_same(traces, a, b, matched) for a, b in zip(one, order, strict=True)):
            return ""
    return later("what the one gives the other only passes through: {a} | {b}", a=shapes[0], b=shapes[1])


def _is_same(traces: Sequence[Trace], a: int, b: int, matched: Mapping[int, Sequence[int]]) -> bool:
    """Whether two outputs are one; whole numbers are compared by whoever compares whole numbers."""
    values = [trace.tensors.get(number) for trace, number in zip(traces, (a, b), strict=True)]
    if any(value is None for value in values):
        return values[0] is values[1]
    kinds = [np.issubdtype(value.dtype, np.floating) for value in values if value is not None]
    return b in matched.get(a, ()) if kinds == [True, True] else kinds == [False, False]


def _shape(trace: Trace, number: int) -> str:
    value = trace.tensors.get(number)
    return "–" if value is None else f"{value.dtype.name} {value.shape}"


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
        cause = later("the models return other tensors of theirs: {a} | {b}", a=spot.a, b=spot.b)
        off = alignment.off(tensors[0][outputs[0][0]].value, tensors[1][outputs[1][0]].value)
        return [Finding(stage=stage, cause=cause, meaning="output", a=spot.a, b=spot.b, places=(spot,), off=off)]
    found = []
    for one in dict.fromkeys(one for one, _other in pairs):
        others = [other for this, other in pairs if this == one]
        if not any(_is_in_place(tensors[0][one], tensors[1][other]) for other in others):
            found.append(_scrambled(stage, traces, tensors, (one, others[0])))
    return found


def _is_in_place(a: Tensor, b: Tensor) -> bool:
    tolerance = max(a.tolerance, b.tolerance)
    if max(a.value.ndim, b.value.ndim) > alignment.MOST_AXES:  # whose orders nobody tries
        return a.value.shape == b.value.shape and alignment.is_equal(a.value, b.value, tolerance)
    ways = alignment.order(a.value, b.value, tolerance), alignment.order(b.value, a.value, tolerance)
    return any(way is not None for way in ways)


def _scrambled(
    stage: str, traces: Sequence[Trace], tensors: Sequence[Mapping[int, Tensor]], numbers: tuple[int, int]
) -> Finding:
    a, b = (own[number] for own, number in zip(tensors, numbers, strict=True))
    order = permutations.of_examples(a.value, b.value, max(a.tolerance, b.tolerance))
    told = None
    if order is not None:
        told = permutations.described(order, a.value.shape[1:], b.value.shape[1:])
    words = told.words() if told is not None else later("in another order")
    off = float(abs(a.value.ravel() - b.value.ravel()).max(initial=0.0))
    cause = later("the output holds the same numbers elsewhere: {words}", words=words)
    return Finding(
        stage=stage, cause=cause, meaning="order", a=None, b=words, places=(_spot(traces, numbers),), off=off, error=0.0
    )


def _spot(traces: Sequence[Trace], numbers: Sequence[int]) -> Spot:
    titles, lines = [], []
    for trace, number in zip(traces, numbers, strict=True):
        maker = _maker(trace, number)
        titles.append((maker.path or maker.function) if maker else "–")
        lines.append(str(maker.where if maker else Where()))
    return Spot(a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1])


def _maker(trace: Trace, number: int) -> Call | None:
    return next((call for call in reversed(trace.calls) if number in call.outputs and number not in call.inputs), None)
