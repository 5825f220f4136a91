"""Passes of both models until they are equal: what is found is put right, and the next pass is made with it.

Behind a difference that nothing explains, the second model is given the first one's numbers, and the search goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.records import CONSTRUCTOR, Call, Change, Model, Trace
from lockstep.language import later
from lockstep.proof.pair import (
    alignment,
    alternatives,
    client,
    evidence,
    feeders,
    gates,
    graph,
    injection,
    laboratory,
    mapping,
    outputs,
    rewrites,
    strides,
    tolerances,
    wording,
)
from lockstep.proof.pair.party import Parties, Party
from lockstep.proof.pair.places import Numbers
from lockstep.store.documents.difference import Finding, Graph, Spot
from lockstep.store.documents.part import but

MOST_ROUNDS = 60  # differences at single places that are put right one after the other


@dataclasses.dataclass(frozen=True)
class Passes:
    """The last pass of both models, with what is the same in both."""

    traces: tuple[Trace, Trace]
    matched: dict[int, list[int]]

    @functools.cached_property
    def drawn(self) -> tuple[graph.Drawn, graph.Drawn]:
        """Their calls as the document has them."""
        return graph.Drawn(self.traces[0]), graph.Drawn(self.traces[1])

    def graph(self) -> Graph:
        """Both as graphs."""
        return graph.graph(*self.drawn, self.matched)


def differs_in_training(model: Model) -> bool:
    return any(unit.role in ("mean", "variance") for unit in model.units)


@dataclasses.dataclass(frozen=True)
class Reached:
    """How far a search came: tensors of the first model that are matched, of how many, and how far off outputs are."""

    n_matched: int
    n_tensors: int
    worst: float  # in tolerances; infinite where something unexplained is left
    is_explained: bool


@dataclasses.dataclass(frozen=True)
class Seen:
    """One pass of each model, and what is the same in both: tensor of the first → those of the second."""

    traces: Sequence[Trace]
    tensors: Sequence[Mapping[int, alignment.Tensor]]
    there: dict[int, list[int]]
    numbers: Sequence[Numbers]

    @property
    def is_equal(self) -> bool:
        """Whether nothing of either differs."""
        return all(each.is_equal for each in self.numbers)


@dataclasses.dataclass
class Search:
    """The search in one mode: what is found is put right, and the next pass is made with it."""

    parties: Parties
    pairing: mapping.Pairing
    mode: str
    stage: str
    findings: list[Finding]
    notes: dict[str, Any]
    carried: list[Any]
    last: dict[str, Passes]  # stage → its last pass
    is_explained: bool = True

    def until_equal(self) -> Reached:
        """Go on until both are equal; behind a difference that nothing explains, with the reference's numbers."""
        for n_rounds in itertools.count():
            seen = self._seen()
            if seen.is_equal:
                return self._end(seen)
            places, causes = [each.place() for each in seen.numbers], list[laboratory.Cause]()
            if None not in places and n_rounds <= MOST_ROUNDS:
                causes = self._causes(seen, places)
                if (goes_on := self._mended(seen, places, causes)) is not None:
                    if goes_on:
                        continue
                    return self._stopped(seen)
            self.is_explained = False
            if not self._goes_behind(seen, places, causes) or n_rounds > MOST_ROUNDS:
                return self._stopped(seen)
        raise AssertionError("there is an end to it")

    def _seen(self) -> Seen:
        """One more pass of each."""
        traces, tensors = zip(*(party.numbers(self.mode) for party in self.parties), strict=True)
        there = alignment.matches(tensors[0], tensors[1])
        self.last[self.stage] = Passes((traces[0], traces[1]), there)
        back = {number for numbers in there.values() for number in numbers}
        traces = tuple(evidence.judged(traces, (there, back)))
        numbers = [Numbers(trace, own, known) for trace, own, known in zip(traces, tensors, (there, back), strict=True)]
        return Seen(traces, tensors, there, numbers)

    def _reached(self, seen: Seen, worst: float, is_explained: bool) -> Reached:
        return Reached(len(seen.there) - len(self.parties[1].results), len(seen.tensors[0]), worst, is_explained)

    def _stopped(self, seen: Seen) -> Reached:
        """What is behind stays unseen."""
        return self._reached(seen, np.inf, False)

    def _end(self, seen: Seen) -> Reached:
        """Every tensor is matched: whether the outputs are in their places, too, and can be outputs."""
        for finding in outputs.findings(self.stage, seen.traces, seen.tensors, seen.there):
            wording.add(self.findings, finding)
        contradiction = outputs.contradiction(seen.traces, seen.there) if self.mode == "inference" else None
        if contradiction and not self.findings:
            unexplained = wording.unexplained(self.stage, self.parties, seen.numbers)
            self.findings.append(but(unexplained, cause=contradiction, meaning="outputs"))
            return self._stopped(seen)
        worst = _worst(seen.traces[0], seen.traces[1], seen.tensors, seen.there) if self.is_explained else np.inf
        return self._reached(seen, worst, self.is_explained)

    def _causes(self, seen: Seen, places: Sequence[Any]) -> list[laboratory.Cause]:
        """What explains the first place, by reproduction."""
        one, two = (
            laboratory.Bench(party.exact, numbers, place)
            for party, numbers, place in zip(self.parties, seen.numbers, places, strict=True)
        )
        return laboratory.causes((one, two))

    def _mended(self, seen: Seen, places: Sequence[Any], causes: Sequence[laboratory.Cause]) -> bool | None:
        """Whether the search goes on with the place put right, or cannot; None where nothing explains the place."""
        usable = [cause for cause in causes if laboratory.is_tried(cause)]
        if not usable and (share := _as_of_float32(seen.numbers, places)):
            _loosen(self.parties, share, wording.spot_of(self.parties, places, None).b, self.notes)
            return True
        if usable:
            whole = _put_right(self.parties, self.pairing, seen.traces, self.mode, usable[0], self.notes)
            self._tell(seen, places, whole or usable[0])
            return whole is not None  # else it is known, and no pass can be made with it
        if causes:
            return None
        if _regated(self.parties, self.pairing, seen.numbers, places, self.carried):
            return True
        if (made := _otherwise_made(self.stage, self.parties, seen.numbers, places, self.mode)) is None:
            return None
        wording.add(self.findings, made)
        self.pairing.again()  # another way through a layer may pair its units otherwise
        return True

    def _tell(self, seen: Seen, places: Sequence[Any], cause: laboratory.Cause) -> None:
        """Add a cause to the findings, each part of it with the call that is its partner."""
        parts = tuple(
            dataclasses.replace(part, partner=self.pairing.partner(part.side, part.call, seen.traces[1 - part.side]))
            for part in cause.parts
        )
        for finding in wording.of_cause(self.stage, dataclasses.replace(cause, parts=parts), self.parties, places):
            wording.add(self.findings, finding)

    def _goes_behind(self, seen: Seen, places: Sequence[Any], causes: Sequence[laboratory.Cause]) -> bool:
        """Tell what nothing explains, and give the second model the first one's numbers behind it, where that goes."""
        both = [place for place in places if place is not None]
        is_asked = not causes and len(both) == 2 and not wording.not_finite(seen.numbers, places)
        taken = feeders.found(seen.numbers, both, self.pairing) if is_asked else None
        finding = (
            wording.unexplained(self.stage, self.parties, seen.numbers, causes)
            if taken is None
            else _taken(self.stage, *taken[:2])
        )
        wording.add(self.findings, finding)
        return _injected(self.parties, seen.numbers, self.pairing, taken and taken[2])


def _put_right(
    parties: Parties, pairing: mapping.Pairing, traces: Sequence[Trace], mode: str,
    cause: laboratory.Cause, notes: dict[str, Any],
) -> laboratory.Cause | None:  # fmt: skip
    """Make all passes that follow with a cause put right, and the cause; None where no pass can be made so.

    A stride makes another shape, which what follows may not take: then all strides that the models have elsewhere are
    exchanged with it, and found at their own places if they have no part in it.
    """
    before = [[*party.changes] for party in parties], [{k: [*v] for k, v in p.of_mode.items()} for p in parties]
    for part in cause.parts:
        party, change = parties[part.side], _lasting(part)
        if part.alternative.meaning == "training":
            party.of_mode.setdefault(mode, []).append(change)
        else:
            party.changes.append(change)
        if cause.share:
            _loosen(parties, cause.share, part.call.path or part.call.function, notes)
    if all(map(_can_pass, parties, (mode, mode))):
        return cause
    rest = [other for part in cause.parts for other in strides.elsewhere(part, pairing, traces)]
    for part in rest:
        parties[part.side].changes.append(_lasting(part))
    if rest and all(map(_can_pass, parties, (mode, mode))):
        return dataclasses.replace(cause, parts=(*cause.parts, *rest))
    for party, changes, of_mode in zip(parties, *before, strict=True):
        party.changes, party.of_mode = changes, of_mode
    return None


def _regated(
    parties: Parties, pairing: mapping.Pairing, numbers: Sequence[Numbers], places: Sequence[Any],
    carried: list[Any],
) -> bool:  # fmt: skip
    """Whether a recurrent layer at a place gives the other side's numbers with its gates in another order; kept so."""
    for side in (1, 0):
        party, place = parties[side], places[side]
        if place is None or (known := gates.gated(party.model, place.calls)) is None:
            continue
        values = party.exact.units()

        def tried(units: Mapping[str, np.ndarray], party: Party = party) -> Trace:
            party.exact.put(units)
            return party.exact.trace(party.batch, "inference", party.changes_in("inference"), None, party.results)

        wanted = {n: t for n, t in numbers[1 - side].tensors.items() if n not in numbers[1 - side].matched}
        found = gates.found(*known, values, wanted, tried)
        party.exact.put({name: values[name] for name in known[1]} if found is None else found[1])
        if found is not None:
            party.rough.put(found[1])
            pairing.regate(side, known[1], found[0])
            words = {"layer": known[0].path or known[0].function, "order": " ".join(map(str, found[0]))}
            carried.append(later("{layer} holds the gates of the other model in the order {order}", **words))
            return True
    return False


def _otherwise_made(
    stage: str, parties: Parties, numbers: Sequence[Numbers], places: Sequence[Any], mode: str
) -> Finding | None:
    """A layer around a place that goes another way with another argument of its constructor: a norm before, not behind.

    Of PyTorch's layers alone: those of Keras and Flax are calls themselves.
    """
    party = parties[1]
    if None in places or party.model.framework != "torch":
        return None
    wanted = {number: numbers[0].tensors[number] for number in places[0].targets[:1]}
    for layer, name, value in alternatives.of_constructors(parties[0].model, party.model, places[1].calls):
        change = Change(path=layer.path, of=CONSTRUCTOR, arguments={name: value})
        try:
            trace = party.exact.trace(party.batch, mode, [*party.changes_in(mode), change], None, party.results)
        except LockstepError:
            continue
        if not alignment.matches(wanted, alignment.tensors(trace, None)):
            continue
        party.changes.append(change)
        what = {"layer": layer.name, "argument": name, "a": value, "b": layer.arguments[name]}
        found = rewrites.argument(layer.where.file, layer.where.line, layer.name, name, value, tuple(layer.arguments))
        remedy = found.remedy()
        party.edits += [found] if remedy else []
        return Finding(
            stage=stage, cause=later("{layer}: {argument} is {a} | {b}", **what),
            meaning=alternatives.MEANING.get(name, name), a=value, b=layer.arguments[name],
            places=(wording.spot_of(parties, places, None),), error=0.0, remedies=(remedy,) if remedy else (),
        )  # fmt: skip
    return None


def _can_pass(party: Party, mode: str) -> bool:
    try:
        party.exact.trace(party.batch, mode, party.changes_in(mode), None, party.results)
    except LockstepError as error:
        if error.code != "LS-403":
            raise
        return False
    return True


def _taken(stage: str, calls: tuple[Call, Call], makers: tuple[Call, Call]) -> Finding:
    """A layer that takes something else in the second model."""
    titles = [maker.path or maker.function for maker in makers]
    lines = [client.shown(maker.where) for maker in makers]
    spot = Spot(a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1])
    what = {"kind": calls[0].kind or calls[0].function, "a": titles[0], "b": titles[1]}
    told = later("{kind} takes what {a} gives | {b}", **what)
    return Finding(
        stage=stage, cause=told, meaning="taken", a=titles[0], b=titles[1], places=(spot,), off=np.inf, error=np.inf
    )


def _injected(
    parties: Parties, numbers: Sequence[Numbers], pairing: mapping.Pairing, taken: tuple[int, int] | None
) -> bool:
    """Give the second model the first one's numbers behind a place, of these tensors if known; whether it went."""
    found = injection.given(numbers, *taken) if taken else injection.found(numbers, pairing)
    if found is None:
        return False
    call, value = found
    key = f"result-{len(parties[1].results)}"
    parties[1].results[key] = value
    parties[1].changes.append(Change(call=call.index, of=call.function, result=key))
    if _can_pass(parties[1], "inference"):
        return True
    parties[1].changes.pop()
    return False


def _loosen(parties: Parties, share: float, call: str, notes: dict[str, Any]) -> None:
    """From here on, numbers may be off by this share of the largest: a call holds a number in float32."""
    for party in parties:
        party.loose = max(party.loose, share)
    words = {"call": call, "share": share}
    notes[call] = later("numbers inside of {call} are rounded to float32: {share:.0e} of its largest value", **words)


def _as_of_float32(numbers: Sequence[Numbers], places: Sequence[Any]) -> float:
    """By what share of the largest value two calls' numbers differ, where one rounded constant may do that; else 0.

    TensorFlow keeps some numbers of a formula, the slope of leaky relu or √2 of GELU, in float32 whatever the model is.
    """
    found = 0.0
    for one in places[0].targets[:1]:
        for other in places[1].targets:
            a, b = numbers[0].tensors[one], numbers[1].tensors[other]
            off, largest = alignment.off(a.value, b.value), float(np.abs(a.value).max(initial=0.0))
            if 0 < off <= tolerances.FLOAT32 * largest:
                found = max(found, off / largest)
    return found


def _lasting(part: laboratory.Part) -> Change:
    """The change for all passes that follow: of the layer, where the call is one's, since numbers of calls may move."""
    call = part.call
    where = {"call": -1, "path": call.path} if call.path else {"call": call.index}
    return dataclasses.replace(part.alternative.change, of=call.function, **where)


def _worst(a: Trace, b: Trace, tensors: Any, there: dict[int, list[int]]) -> float:
    found = 0.0
    for number in a.outputs:
        for other in there.get(number, ()):
            one, two = tensors[0][number], tensors[1][other]
            tolerance = max(one.tolerance, two.tolerance)
            found = max(found, alignment.off(one.value, two.value) / tolerance if tolerance else 0.0)
    return found
