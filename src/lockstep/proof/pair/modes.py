"""Dropout that works in inference too: no value is dropped while models are compared, so its calls tell of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lockstep.exchange.models.records import Call, Trace
from lockstep.language import later
from lockstep.store.documents.difference import Finding, Spot

RATES = ("p", "rate")


def at_work(call: Call) -> bool:
    """Whether a dropout drops, by its own arguments."""
    arguments: Mapping[str, Any] = call.arguments
    is_asked = arguments.get("training") is True or arguments.get("deterministic") is False
    rate = next((arguments[name] for name in RATES if name in arguments), None)
    return call.kind == "dropout" and is_asked and rate != 0.0


def findings(traces: Sequence[Trace]) -> Iterator[Finding]:
    """Dropouts that one model has at work in inference and the other has not, by their place among all of them."""
    calls = [[call for call in trace.calls if call.kind == "dropout"] for trace in traces]
    for a, b in zip(*calls, strict=False):
        if at_work(a) == at_work(b):
            continue
        spot = Spot(a=a.path or a.function, b=b.path or b.function, line_a=str(a.where), line_b=str(b.where))
        here = at_work(a), at_work(b)
        cause = later("dropout works in inference: {a} | {b}", a=here[0], b=here[1])
        yield Finding(stage="forward", cause=cause, meaning="dropout", a=here[0], b=here[1], places=(spot,))
    for side, rest in ((0, calls[0][len(calls[1]) :]), (1, calls[1][len(calls[0]) :])):
        for call in filter(at_work, rest):
            titles, lines = ["–", "–"], ["–", "–"]
            titles[side], lines[side] = call.path or call.function, str(call.where)
            here = side == 0, side == 1
            cause = later("dropout works in inference: {a} | {b}", a=here[0], b=here[1])
            spot = Spot(a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1])
            yield Finding(stage="forward", cause=cause, meaning="dropout", a=here[0], b=here[1], places=(spot,))
