"""Running means and variances after one pass in training, and what explains those that differ."""

from __future__ import annotations

import dataclasses

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.records import Call, Trace
from lockstep.language import later
from lockstep.proof.pair import alternatives, client, mapping, remedies, stages, tolerances, wording
from lockstep.proof.pair.party import Parties, Party
from lockstep.store.documents.difference import Finding, Spot
from lockstep.store.documents.part import but


def compared(parties: Parties, pairing: mapping.Pairing) -> tuple[list[Finding], int]:
    """Running means and variances after one pass in training, and how many were compared.

    What differs is explained by the second model's own momentum, or by the kind of its variance.
    """
    (trace, _own), (other, _theirs) = (party.numbers("training") for party in parties)
    findings: list[Finding] = []
    n = 0
    for pair in pairing.pairs:
        if pair.a not in trace.state or pair.b not in other.state:
            continue
        n += 1
        wanted, found = pair.there(trace.state[pair.a]), other.state[pair.b]
        tolerance = tolerances.of_statistic(wanted, parties[0].loose)
        off = stages.off(wanted, found)
        if off <= tolerance:
            continue
        calls = [user_of(each, name) for each, name in ((trace, pair.a), (other, pair.b))]
        lines = [client.shown(call.where) if call else "–" for call in calls]
        indices = [call.index if call else None for call in calls]
        spot = Spot(a=pair.a, b=pair.b, line_a=lines[0], line_b=lines[1], call_a=indices[0], call_b=indices[1])
        new = Finding(stage="statistics", places=(spot,), off=off)
        if calls[0] is not None and calls[1] is not None:
            new = _momentum(parties[1], pair, calls[0], calls[1], wanted, tolerance, new)
            if new.cause:  # what follows is seen with that put right
                other, _theirs = parties[1].numbers("training")
            else:
                old = parties[1].exact.units()[pair.b]
                new = _biased(other, old, calls[0], calls[1], wanted, found, new)
        wording.add(findings, new)
    return findings, n


def user_of(trace: Trace, unit: str) -> Call | None:
    return next((call for call in trace.calls if unit in call.units.values()), None)


def _momentum(
    b: Party, pair: mapping.Pair, one: Call, two: Call, wanted: np.ndarray, tolerance: float, unexplained: Finding
) -> Finding:
    """What the second model's layer gives with another momentum, tried in its own framework."""
    for alternative in alternatives.of_arguments(two, b.exact.signature(two), [one]):
        if alternative.meaning != "momentum":
            continue
        where = {"call": -1, "path": two.path} if two.path else {"call": two.index}
        change = dataclasses.replace(alternative.change, of=two.function, **where)
        try:
            again = b.exact.trace(b.batch, "training", [*b.changes_in("training"), change])
        except LockstepError:
            continue
        error = stages.off(wanted, again.state[pair.b])
        if error <= tolerance:
            what = {"kind": two.kind or two.function, "argument": alternative.argument}
            here = next((v for k, v in one.arguments.items() if alternatives.MEANING.get(k) == "momentum"), None)
            sentence = later("{kind}: {argument} is {a} | {b}", **what, a=here, b=alternative.before)
            told = remedies.rewritten(b, two, alternative.argument, alternative.after, alternative)
            b.changes.append(change)
            return but(
                unexplained, cause=sentence, meaning="momentum", a=here, b=alternative.before, error=error,
                remedies=(told,) if told else (),
            )  # fmt: skip
    return unexplained


def _biased(
    trace: Trace, old: np.ndarray, one: Call, two: Call, wanted: np.ndarray, found: np.ndarray, unexplained: Finding
) -> Finding:
    """Whether one side averages the biased variance of a batch, and the other n/(n − 1) times that."""
    n = max(trace.tensors[number].size for number in two.inputs) // max(wanted.size, 1)
    if n < 2 or wanted.shape != found.shape:
        return unexplained
    momenta = {
        share
        for call in (one, two)
        for name, value in call.arguments.items()
        if alternatives.MEANING.get(name) == "momentum" and isinstance(value, float)
        for share in (value, 1 - value)
    }
    for share in sorted(momenta):
        parts = wanted - (1 - share) * old, found - (1 - share) * old
        for factor, words in (
            (n / (n - 1), (later("n/(n − 1) · variance"), later("variance"))),
            ((n - 1) / n, (later("variance"), later("n/(n − 1) · variance"))),
        ):
            off = float(np.abs(parts[0] - factor * parts[1]).max(initial=0.0))
            if off <= tolerances.STATISTICS * 16 * float(np.abs(wanted).max(initial=0.0)):
                sentence = later(
                    "{kind}: the running variance averages {a} | {b}", kind=two.kind, a=words[0], b=words[1]
                )
                return but(unexplained, cause=sentence, meaning="variance", a=words[0], b=words[1], error=off)
    return unexplained
