"""What two models keep: parameters that one of them lacks, and, left as they are, which numbers the second one holds.

A bias that has no partner is 0 in both, and a scale 1, so that what follows is compared; that one is missing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lockstep.exchange.models.records import Call, Model, Trace, Unit
from lockstep.language import later
from lockstep.proof.pair import permutations
from lockstep.proof.pair.mapping import Pair, Pairing
from lockstep.store.documents.difference import Finding, Spot

# role of what is missing → (meaning, the number that is as good as none, the arguments that make a layer keep it)
NEUTRAL = {
    "bias": ("bias", 0.0, ("bias", "use_bias")),
    "shift": ("shift", 0.0, ("center", "affine", "elementwise_affine", "use_bias")),
    "scale": ("affine", 1.0, ("scale", "use_scale", "affine", "elementwise_affine")),
}
STAGE = "weights"


def neutral(model: Model, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The units of these names that are as good as none at some number, and there filled with it."""
    return {
        unit.name: np.full(unit.shape, NEUTRAL[unit.role][1])
        for unit in model.units
        if unit.name in names and unit.role in NEUTRAL
    }


def missing(
    models: Sequence[Model], traces: Sequence[Trace], pairing: Pairing
) -> Iterator[tuple[Finding, Call | None]]:
    """What one model keeps and the other lacks, with the second model's call of the same layer.

    A recurrent layer's second bias adds to the first one, and lacks nothing.
    """
    partners = ({pair.a: pair.b for pair in pairing.pairs}, {pair.b: pair.a for pair in pairing.pairs})
    for side, left in enumerate((pairing.left_a, pairing.left_b)):
        for unit in models[side].units:
            call = _user(traces[side], [unit.name])
            if unit.name not in left or unit.role not in NEUTRAL or call is None or _is_recurrent(call):
                continue
            names = [partners[side][name] for name in call.units.values() if name in partners[side]]
            calls = [call, _user(traces[1 - side], names)]
            calls = calls if side == 0 else calls[::-1]
            meaning = NEUTRAL[unit.role][0]
            here, there = (True, False) if side == 0 else (False, True)
            what = {"kind": call.kind or call.function, "role": unit.role}
            sentence = (
                later("{kind}: the first model alone has a {role}", **what)
                if side == 0
                else later("{kind}: the second model alone has a {role}", **what)
            )
            titles = [each.path or each.function if each else "–" for each in calls]
            lines = [str(each.where) if each else "–" for each in calls]
            spot = Spot(a=titles[0], b=titles[1], line_a=lines[0], line_b=lines[1])
            yield (
                Finding(
                    stage=STAGE,
                    cause=sentence,
                    meaning=meaning,
                    a=here,
                    b=there,
                    places=(spot,),
                    off=math.inf,
                    error=math.inf,
                ),
                calls[1],
            )


def padding_row(a: np.ndarray, b: np.ndarray, tolerance: float) -> dict[str, object] | None:
    """The one row of a table that gets no gradient in one model, where all others agree; None where that is not so."""
    if a.ndim != 2 or a.shape != b.shape:
        return None
    rows = np.flatnonzero(np.abs(a - b).max(axis=1) > tolerance)
    if len(rows) != 1 or (not (is_a := not np.any(a[rows[0]])) and np.any(b[rows[0]])):
        return None
    return {"row": int(rows[0]), "side": "A" if is_a else "B"}


def turned_round(models: Sequence[Model], pairing: Pairing) -> list[object]:
    """What is said of kernels that one framework convolves with and the other correlates with."""
    units = [{unit.name: unit for unit in model.units} for model in models]
    return [
        later("{a} = {b} with its window turned round by 180°", a=pair.a, b=pair.b)
        for pair in pairing.pairs
        if units[0][pair.a].is_turned_round != units[1][pair.b].is_turned_round
    ]


def _user(trace: Trace, names: Sequence[str]) -> Call | None:
    return next((call for call in trace.calls if set(names) & set(call.units.values())), None)


def _is_recurrent(call: Call) -> bool:
    return any(role.partition(".")[0] == "recurrent" for role in call.units)


def as_they_are(
    pairing: Pairing, units: Sequence[Mapping[str, Unit]], values: Sequence[Mapping[str, np.ndarray]],
    traces: Sequence[Trace],
) -> tuple[list[Finding], dict[str, np.ndarray]]:  # fmt: skip
    """How the second model's own numbers differ from the first one's, and what it would hold if they did not."""
    findings: list[Finding] = []
    there: dict[str, np.ndarray] = {}
    for pair in pairing.pairs:
        wanted, found = pair.there(values[0][pair.a]), values[1][pair.b]
        if np.array_equal(wanted, found):
            continue
        there[pair.b] = np.ascontiguousarray(wanted)
        findings.append(_told(pair, units[1][pair.b], wanted, found, traces))
    return findings, there


def _told(pair: Pair, unit: Unit, wanted: np.ndarray, found: np.ndarray, traces: Sequence[Trace]) -> Finding:
    calls = [_user(trace, [name]) for trace, name in zip(traces, (pair.a, pair.b), strict=True)]
    lines = [str(call.where) if call else "–" for call in calls]
    spot = Spot(a=pair.a, b=pair.b, line_a=lines[0], line_b=lines[1])
    off = float(np.abs(wanted - found).max(initial=0.0))
    order = permutations.of_arrays(wanted, found)
    if order is None:
        return Finding(
            stage=STAGE,
            cause=later("the parameters hold other numbers"),
            meaning="numbers",
            a=None,
            b=None,
            places=(spot,),
            off=off,
            error=0.0,
        )
    told = permutations.described(order, wanted.shape, found.shape)
    words = told.words() if told is not None else later("in another order")
    if told is not None and told.is_turned and not told.moved:
        cause, meaning = later("the second model holds it with {words}", words=words), "transposed"
    elif told is not None and set(told.moved) == {wanted.ndim - 2} and is_gated(unit):
        gates = " ".join(map(str, told.along[wanted.ndim - 2]))
        cause, meaning = (
            later("the second model holds it with its gates in the order {gates}", gates=gates),
            "gate order",
        )
    else:
        cause, meaning = later("the second model holds the same numbers elsewhere: {words}", words=words), "order"
    return Finding(stage=STAGE, cause=cause, meaning=meaning, a=None, b=words, places=(spot,), off=off, error=0.0)


def is_gated(unit: Unit) -> bool:
    """Whether a unit holds gates, beside each other in its last axis but one."""
    return unit.role in ("kernel", "recurrent", "bias") and len(unit.shape) in (2, 3) and unit.shape[-2] in (3, 4)
