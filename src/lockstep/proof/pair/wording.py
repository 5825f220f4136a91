"""Differences as they are told: at which calls, in which words, and each cause once, with all its places."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lockstep.exchange.models.records import Call
from lockstep.language import later
from lockstep.proof.pair import alignment, alternatives, client, laboratory, remedies
from lockstep.proof.pair.party import Parties
from lockstep.proof.pair.places import Numbers
from lockstep.store.documents.difference import Finding, Spot
from lockstep.store.documents.part import but

TOLD = ("function", "precision")  # causes that are known by their numbers and put right by no argument


def of_cause(stage: str, cause: laboratory.Cause, parties: Parties, places: Sequence[Any]) -> Iterator[Finding]:
    """A finding for each part of a cause."""
    for part in cause.parts:
        for alternative in part.alternative.parts():
            values = _values(part, alternative)
            yield Finding(
                stage=stage, cause=_sentence(part.call, alternative, values), meaning=alternative.meaning,
                a=values[0], b=values[1], places=(spot_of(parties, places, part),), off=cause.before, error=cause.error,
                remedies=remedies.of_part(parties, part, alternative, places),
            )  # fmt: skip


def spot_of(parties: Parties, places: Sequence[Any], part: laboratory.Part | None) -> Spot:
    calls = [place.calls[-1] for place in places]
    if part is not None:
        calls[part.side] = part.call
        calls[1 - part.side] = part.partner or calls[1 - part.side]
    titles = [call.path or call.function for call in calls]
    lines = [client.shown(call.where) for call in calls]
    return Spot(
        a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1], call_a=calls[0].index, call_b=calls[1].index
    )


def _values(part: laboratory.Part, alternative: alternatives.Alternative) -> tuple[Any, Any]:
    """What the first model has and what the second one has; of functions, all that fit."""
    found = alternative.before, alternative.after
    if alternative.meaning == "function":
        found = _either(alternative.before), _either(alternative.after)
    return (found[1], found[0]) if part.side else found


def _either(names: Sequence[str]) -> str:
    """One of several: A or B or C."""
    return functools.reduce(lambda one, other: later("{one} or {other}", one=one, other=other), names)


def _sentence(call: Call, alternative: alternatives.Alternative, values: tuple[Any, Any]) -> str:
    """What the two sides do, as a person says it."""
    what = {"kind": call.kind or call.function, "a": values[0], "b": values[1]}
    meaning = alternative.meaning
    if meaning == "pads":
        return later("{kind}: the border is padded otherwise: {a} | {b}", **what)
    if meaning == "crop":
        return later("{kind}: the border is cut off otherwise: {a} | {b}", **what)
    if meaning == "function":
        return later("another function: {a} | {b}", **what)
    if meaning == "flatten":
        return later("the image is flattened in another order of axes", **what)
    if meaning == "order":
        words = values[0] or values[1] or later("in another order")
        return later("{kind}: what it takes holds the same numbers elsewhere: {words}", kind=what["kind"], words=words)
    return later("{kind}: {argument} is {a} | {b}", argument=alternative.argument, **what)


def add(findings: list[Finding], new: Finding) -> None:
    """Put a finding to those of the same cause, or behind them."""
    for index, finding in enumerate(findings):
        if finding.cause and finding.cause == new.cause and _named(new.places[0]) in map(_named, finding.places):
            return  # met again in the other mode
        if finding.cause == new.cause and finding.stage == new.stage:
            more = tuple(remedy for remedy in new.remedies if remedy not in finding.remedies)
            findings[index] = but(finding, places=finding.places + new.places, remedies=finding.remedies + more)
            return
    findings.append(new)


def _named(spot: Spot) -> tuple[str, ...]:
    """A place by its names: calls have other numbers in another mode."""
    return spot.a, spot.b, spot.line_a, spot.line_b


def unexplained(
    stage: str, parties: Parties, numbers: Sequence[Numbers], causes: Sequence[laboratory.Cause] = ()
) -> Finding:
    places = [each.place() for each in numbers]
    calls = [place.calls[-1] if place else _last(each) for place, each in zip(places, numbers, strict=True)]
    names = [(call.path or call.function, client.shown(call.where), call.index) if call else ("–", "–", None)
             for call in calls]  # fmt: skip
    (a, line_a, call_a), (b, line_b, call_b) = names
    spot = Spot(a=a, b=b, line_a=line_a, line_b=line_b, call_a=call_a, call_b=call_b)
    told = [(cause, part) for cause in causes for part in cause.parts if cause.meaning in TOLD]
    if not told:
        sentence, meaning = _longer(numbers), "length"
        if not sentence:
            sentence, meaning = not_finite(numbers, places), "finite"
        off = _off(numbers, places)
        return Finding(stage=stage, cause=sentence, meaning=meaning if sentence else "", places=(spot,), off=off)
    cause, part = told[0]
    alternative = part.alternative
    values = _values(part, alternative)
    if cause.meaning == "function":
        sentence = later("another function: {a} | {b}", a=values[0], b=values[1])
    else:
        sentence = later("computed in another precision: {a} | {b}", a=values[0], b=values[1])
    return Finding(
        stage=stage, cause=sentence, meaning=cause.meaning, a=values[0], b=values[1], places=(spot,), off=cause.before
    )


def not_finite(numbers: Sequence[Numbers], places: Sequence[Any]) -> str:
    """That one side's call gives NaN or infinity, where the other's whole pass has nothing of the kind."""
    if any(place is None or not place.targets for place in places):
        return ""
    values = [each.tensors[place.targets[0]].value for each, place in zip(numbers, places, strict=True)]
    counts = [int((~np.isfinite(value)).sum()) for value in values]
    all_finite = [all(np.isfinite(one.value).all() for one in each.tensors.values()) for each in numbers]
    if counts[1] and all_finite[0]:
        return later("{n} of {all} values are NaN or infinite in the second, and none in the first", n=counts[1],
                     all=values[1].size)  # fmt: skip
    if counts[0] and all_finite[1]:
        return later("{n} of {all} values are NaN or infinite in the first, and none in the second", n=counts[0],
                     all=values[0].size)  # fmt: skip
    return ""


def _last(numbers: Numbers) -> Call | None:
    """The outermost call that gives a model's first output."""
    makers = [numbers.makers[number] for number in numbers.trace.outputs if number in numbers.makers]
    return min(makers[0], key=numbers.depth) if makers else None


def _longer(numbers: Sequence[Numbers]) -> str:
    """That one model goes on where the other has ended, where all that the other gives is found in it."""
    ends = [each.is_equal for each in numbers]
    if ends[0] == ends[1]:
        return ""
    calls = [call.kind or call.function for call in numbers[ends[0]].harmful() if call.parent < 0]
    shown = ", ".join(calls[:4]) + (" …" if len(calls) > 4 else "")
    if ends[0]:
        return later("the second goes on where the first has ended: {calls}", calls=shown)
    return later("the first goes on where the second has ended: {calls}", calls=shown)


def _off(numbers: Sequence[Numbers], places: Sequence[Any]) -> float | None:
    """How far the two lie apart where they give as many numbers for the first time; None where they never do."""
    if any(place is None for place in places):
        return None
    values = [[each.tensors[n].value for n in place.targets] for each, place in zip(numbers, places, strict=True)]
    return next((alignment.off(a, b) for a, b in itertools.product(*values) if a.size == b.size), None)
