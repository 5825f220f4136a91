"""Dropout: what it drops and what it does to the rest, measured in both frameworks, and never read off an argument.

Inverted dropout divides what is left by the share that it keeps, so y/x tells the rate to the last digit, where the
share that was dropped tells it roughly. The masks themselves are each framework's own, and are compared nowhere: passes
and steps are compared with nothing dropped. A dropout that works in inference too is told by its call's own arguments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lockstep.exchange.models.records import Call, Model, Trace
from lockstep.exchange.models.training import Drop
from lockstep.language import later
from lockstep.proof.pair import client, rewrites, stages
from lockstep.proof.pair.party import Parties, Party
from lockstep.proof.pair.stages import Told
from lockstep.store.documents.difference import Finding, Remedy, Spot

STAGE = "dropout"
ENOUGH = 4000  # values behind a share that is compared
MOST_PASSES = 12
SIGMAS = 5.0
SAME = 1e-5  # two scales: float32's rounding of a quotient, and no two rates that people use


@dataclasses.dataclass(frozen=True)
class Seen:
    """One dropout over several passes."""

    drop: Drop
    n: int
    dropped: float

    @property
    def rate(self) -> float:
        """The rate: by the scale where dropout is inverted, else by what was dropped."""
        return 1 - 1 / self.drop.scale if self.is_inverted else self.dropped

    @property
    def is_inverted(self) -> bool:
        """Whether what is left is divided by the share that is kept."""
        return math.isfinite(self.drop.scale) and self.drop.scale > 1 + SAME

    @property
    def width(self) -> float:
        """What a measured share may be off."""
        return SIGMAS * math.sqrt(0.25 / max(self.n, 1)) + 1e-9


def compared(parties: Parties) -> Told:
    """Dropouts of both models in their order."""
    told = Told()
    one, two = (_seen(party) for party in parties)
    if any(party.exact.asked.framework == "jax" for party in parties):
        one, two = _distinct(one), _distinct(two)
    if not one and not two:
        return told
    told.not_observed.append(later("the masks of dropout: each framework draws its own"))
    if len(one) != len(two):
        counts = {"a": len(one), "b": len(two)}
        if any(map(_hides_some, parties)):
            words = later(
                "dropout: {a} | {b} are seen; those inside of attention and recurrent layers are not", **counts
            )
            told.not_observed.append(words)
            return told
        spot = Spot(a=_places(one), b=_places(two), line_a=_line(one), line_b=_line(two))
        cause = later("dropout is applied {a} | {b} times", **counts)
        told.findings.append(stages.finding(STAGE, spot, cause=cause, meaning="number", values=(len(one), len(two))))
        told.count(STAGE, 0, max(len(one), len(two)), later("dropouts"))
        return told
    found = [_difference(a, b, parties) for a, b in zip(one, two, strict=True)]
    told.findings += [each for each in found if each is not None]
    told.count(STAGE, found.count(None), len(one), later("dropouts: their rates and scales"))
    return told


def _distinct(seen: Sequence[Seen]) -> list[Seen]:
    """One of each rate, in order of size: layers of JAX are known, and not how often and when they are called."""
    by_rate = {round(each.rate, 4): each for each in reversed(seen)}
    return [by_rate[rate] for rate in sorted(by_rate)]


def _hides_some(party: Party) -> bool:
    """Whether there are functions that may drop values inside."""
    return any(
        "attention" in call.kind or call.kind in ("lstm", "gru") for call in party.exact.trace(party.batch).calls
    )


def _seen(party: Party) -> list[Seen]:
    """Each dropout of a model; passes are repeated until a share says something."""
    passes: list[list[Drop]] = []
    for _pass in range(MOST_PASSES):
        passes.append(party.exact.drops(party.batch))
        if not passes[0] or min(map(_n, _together(passes))) >= ENOUGH:
            break
    return [each for each in _together(passes) if each.dropped > 0]  # the rest drops nothing, whatever it is


def _n(seen: Seen) -> int:
    return seen.n


def _together(passes: Sequence[Sequence[Drop]]) -> list[Seen]:
    found = []
    for each in zip(*passes, strict=False):
        n = sum(drop.n for drop in each)
        found.append(Seen(each[0], n, sum(drop.dropped * drop.n for drop in each) / max(n, 1)))
    return found


def _places(seen: Sequence[Seen]) -> str:
    return ", ".join(each.drop.path or client.shown(each.drop.where) for each in seen) or "–"


def _line(seen: Sequence[Seen]) -> str:
    return client.shown(seen[0].drop.where) if seen else "–"


def _difference(a: Seen, b: Seen, parties: Parties) -> stages.Finding | None:
    """What two dropouts do otherwise."""
    cause, meaning, values, lines = "", "", (a.rate, b.rate), []
    if a.is_inverted != b.is_inverted:
        words = [later("divided") if each.is_inverted else later("not divided") for each in (a, b)]
        cause = later("dropout: what is left is {a} | {b} by the share that is kept", a=words[0], b=words[1])
        meaning = "scale"
    elif abs(a.rate - b.rate) > (SAME if a.is_inverted else a.width + b.width):
        shown = {"a": f"{a.rate:.4g}", "b": f"{b.rate:.4g}"}
        cause, meaning = later("dropout: the rate is {a} | {b}", **shown), "rate"
        if abs(a.rate + b.rate - 1) <= SAME:
            cause = later("dropout: the rate is {a} | {b}: one is the share that the other keeps", **shown)
        lines = [_remedy(parties[1].model, b.drop, round(a.rate, 9))]
    if not cause:
        return None
    spot = Spot(a=_places([a]), b=_places([b]), line_a=_line([a]), line_b=_line([b]))
    return stages.finding(STAGE, spot, cause=cause, meaning=meaning, values=values, off=abs(a.rate - b.rate),
                          lines=lines)  # fmt: skip


def _remedy(model: Model, drop: Drop, rate: float) -> Remedy | None:
    """The line that makes a dropout's layer, or calls its function, with another rate."""
    layer = next((layer for layer in model.layers if layer.path == drop.path and "ropout" in layer.name), None)
    if layer is not None:
        argument = next((key for key in ("p", "rate") if key in layer.arguments), "rate")
        where, names = layer.where, tuple(layer.arguments)
        return rewrites.rewritten(where.file, where.line, layer.name, argument, rate, names)
    where = drop.where
    return rewrites.rewritten(where.file, where.line, "dropout", "p", rate, ("input", "p"))


# ------------------------------------------------------------------------------------------------- at work in inference

RATES = ("p", "rate")


def is_at_work(call: Call) -> bool:
    """Whether a dropout drops, by its own arguments."""
    arguments: Mapping[str, Any] = call.arguments
    is_asked = arguments.get("training") is True or arguments.get("deterministic") is False
    rate = next((arguments[name] for name in RATES if name in arguments), None)
    return call.kind == "dropout" and is_asked and rate != 0.0


def in_inference(traces: Sequence[Trace]) -> Iterator[Finding]:
    """Dropouts that one model has at work in inference and the other has not, by their place among all of them."""
    calls = [[call for call in trace.calls if call.kind == "dropout"] for trace in traces]
    for a, b in zip(*calls, strict=False):
        if is_at_work(a) == is_at_work(b):
            continue
        spot = Spot(a=a.path or a.function, b=b.path or b.function, line_a=str(a.where), line_b=str(b.where))
        here = is_at_work(a), is_at_work(b)
        cause = later("dropout works in inference: {a} | {b}", a=here[0], b=here[1])
        yield Finding(stage="forward", cause=cause, meaning="dropout", a=here[0], b=here[1], places=(spot,))
    for side, rest in ((0, calls[0][len(calls[1]) :]), (1, calls[1][len(calls[0]) :])):
        for call in filter(is_at_work, rest):
            titles, lines = ["–", "–"], ["–", "–"]
            titles[side], lines[side] = call.path or call.function, str(call.where)
            here = side == 0, side == 1
            cause = later("dropout works in inference: {a} | {b}", a=here[0], b=here[1])
            spot = Spot(a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1])
            yield Finding(stage="forward", cause=cause, meaning="dropout", a=here[0], b=here[1], places=(spot,))
