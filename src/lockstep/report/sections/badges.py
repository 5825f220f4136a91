"""The proof at the top of a page: for each network a badge with its verdict, and what was compared to reach it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lockstep.language import _, n_, number
from lockstep.report.proofs import Fit, Reading
from lockstep.report.sections.verdicts import MARKS
from lockstep.report.words import forms
from lockstep.report.words.coordinates import coordinates, titled
from lockstep.report.words.quantities import count, listed, seconds, significant
from lockstep.store.documents.proof import Backend, Network, Proof

MOST = 4  # badges at the top; how many more there are is said
SIGNS = {"IDENTICAL": "✓", "EQUAL": "✓", "INCONCLUSIVE": "?", "DIVERGED": "✗", "ERROR": "!"}


def section(proofs: Sequence[tuple[Reading, Fit | None]]) -> dict[str, Any]:
    """ "rows": a badge for each network and verdict; "gap": why there is none; "price": what the proof took."""
    rows: list[dict[str, str]] = []
    gaps, spent = [], 0.0
    for reading, fit in proofs:
        if reading.gap:
            gaps.append(_("{study}: its proof.json cannot be used.", study=reading.study))
        if reading.proof is None or fit is None:
            continue
        if not fit.covered:
            gaps.append(_("There is a proof, but not of these runs."))
            continue
        spent += reading.proof.seconds or 0.0
        rows += _of_proof(reading.proof)
    more = len(rows) - MOST
    return {
        "rows": rows if more <= 0 else sorted(rows, key=lambda row: row["kind"] == "good")[:MOST],
        "more": n_("and {n} further verdict", "and {n} further verdicts", more) if more > 0 else "",
        "gap": "" if rows else " ".join(gaps) or _("Not proven: whether the same steps were taken."),
        "price": _("The proof took {time}.", time=seconds(spent)) if spent else "",
    }


def _of_proof(proof: Proof) -> list[dict[str, str]]:
    found = []
    for network, coordinate in zip(proof.networks, coordinates(proof.networks), strict=True):
        title = titled(network.network, {key: value for key, value in coordinate.items() if key != "dtype"})
        for verdict in dict.fromkeys(row.verdict for row in network.backends):
            members = [row for row in network.backends if row.verdict == verdict]
            found.append(
                {
                    "kind": MARKS[verdict],
                    "sign": SIGNS[verdict],
                    "verdict": forms.say(verdict),
                    "title": title,
                    "who": listed([row.backend for row in members]),
                    "what": _what(network, members, proof.steps),
                }
            )
    return found


def _what(network: Network, rows: Sequence[Backend], steps: int) -> str:
    """ "10 steps; every layer, gradient and update against NumPy in float64; at most 0.44 of what rounding allows"."""
    if not any(row.certificate for row in rows):
        return listed([forms.say(row.reason) for row in rows if row.reason][:1]) or _("not observed")
    worst = max((_ratio(row) for row in rows), default=0.0)
    values = sum(row.coverage.values or 0 for row in rows)
    said = count(
        steps,
        "{count} step: every layer, gradient and update held against a judge in float64, {values} numbers",
        "{count} steps: every layer, gradient and update held against a judge in float64, {values} numbers",
        values=_rounded(values),
    )
    if worst <= 1:
        return _("{said}; the worst at {worst} of what rounding allows", said=said, worst=significant(worst))
    times = significant(worst) if worst < 1e6 else "> 10⁶"
    return _("{said}; the worst at {times} times what rounding allows", said=said, times=times)


def _ratio(row: Backend) -> float:
    found = [stage.worst.times_tolerance for stage in row.stages if stage.worst]
    return max((math.inf if value is None else value for value in found), default=0.0)


def _rounded(n: int) -> str:
    """ "64 million"."""
    if n >= 1_000_000:
        return _("{n} million", n=number(f"{n / 1e6:,.0f}"))
    return number(f"{n:,}")
