"""Gradients of all parameters, of one weighing of the output that is the same in both models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lockstep.exchange.models.records import Call, Trace
from lockstep.language import later
from lockstep.proof.pair import alignment, averages, client, mapping, parameters, stages, tolerances
from lockstep.proof.pair.party import Parties, as_float32
from lockstep.store.documents.difference import Finding, Spot


def compared(parties: Parties, pairing: mapping.Pairing) -> tuple[list[Finding], int, dict[str, np.ndarray]]:
    """Gradients of units, how many were compared, and the first model's; of one designed weighing of the output."""
    a, b = parties
    trace, own = a.numbers("inference")
    other, theirs = b.numbers("inference")
    if not (_is_real(trace, own) and _is_real(other, theirs)):
        return [], 0, {}
    numbers = np.random.default_rng(1)
    value, there = own[trace.outputs[0]].value, theirs[other.outputs[0]].value
    designed = numbers.normal(size=value.shape).astype(np.float32).astype(np.float64)
    axes = alignment.order(value, there, max(own[trace.outputs[0]].tolerance, theirs[other.outputs[0]].tolerance) * 8)
    if axes is None:
        return [], 0, {}
    weighed = np.ascontiguousarray(designed.transpose(axes).reshape(there.shape))
    exact = (
        a.exact.trace(a.batch, "inference", a.changes_in("inference"), designed),
        b.exact.trace(b.batch, "inference", b.changes_in("inference"), weighed),
    )
    rough = (
        a.rough.trace([as_float32(x) for x in a.batch], "inference", a.changes_in("inference"), designed),
        b.rough.trace([as_float32(x) for x in b.batch], "inference", b.changes_in("inference"), weighed),
    )
    found, n = [], 0
    for pair in pairing.pairs:
        names = (pair.a, pair.b)
        if not all(name in each.by_unit for name, each in zip(names, exact, strict=True)):
            continue
        n += exact[0].by_unit[pair.a].size > 0
        one, two = pair.there(exact[0].by_unit[pair.a]), exact[1].by_unit[pair.b]
        tolerance = tolerances.of_gradient(one, a.loose)
        for name, trace_, beside in zip(names, exact, rough, strict=True):
            if name in beside.by_unit and beside.by_unit[name].shape == trace_.by_unit[name].shape:
                with np.errstate(invalid="ignore"):
                    off32 = np.abs(beside.by_unit[name] - trace_.by_unit[name])
                tolerance = max(tolerance, tolerances.from_float32(off32))
        off = stages.off(one, two)
        if off > tolerance:
            calls = [averages.user_of(trace_, name) for trace_, name in zip(exact, names, strict=True)]
            lines = [client.shown(call.where) if call else "–" for call in calls]
            spot = Spot(a=pair.a, b=pair.b, line_a=lines[0], line_b=lines[1])
            row = parameters.padding_row(one, two, tolerance) if "table" in _roles(calls) else None
            told = later("embedding: row {row} of {side} gets no gradient", **row) if row else ""
            sides = (row["side"] == "A", row["side"] == "B") if row else (None, None)
            new = Finding(
                stage="gradients",
                cause=told,
                meaning="padding index" if row else "",
                a=sides[0],
                b=sides[1],
                places=(spot,),
                off=off,
                error=np.inf,
            )
            found.append(new)
    return found, n, exact[0].by_unit


def _roles(calls: Sequence[Call | None]) -> set[str]:
    return {role.partition(".")[0] for call in calls if call is not None for role in call.units}


def _is_real(trace: Trace, tensors: dict[int, alignment.Tensor]) -> bool:
    """Whether the first output can be weighed: it is there, and no whole number."""
    number = trace.outputs[0] if trace.outputs else -1
    return number in tensors and np.issubdtype(trace.tensors[number].dtype, np.floating)
