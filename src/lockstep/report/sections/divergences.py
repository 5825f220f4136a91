"""The places of a proof where a backend is not what it should be: how far off, why, and what mends it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lockstep.language import _, minus, number
from lockstep.report.table import Table
from lockstep.report.words import forms
from lockstep.report.words.coordinates import coordinates, distinct, spot, titled
from lockstep.report.words.quantities import MISSING, count, significant, span, whole
from lockstep.store.documents.proof import (
    Cause,
    Divergence,
    Proof,
)

EXACT = 1e-30  # a tolerance below this only lets numbers through that frameworks flush to zero
MANY = 1e6  # times the tolerance; how many more says nothing

MAX_CAUSES = 12  # divergences of one backend and cause
MAX_PLACES = 60  # of one divergence


def divergences(proof: Proof) -> list[dict[str, Any]]:
    """Divergences, those of one backend and cause together, the first one first."""
    groups: dict[tuple[Any, ...], list[Divergence]] = {}
    titles = []
    for found, coordinate in zip(proof.divergences, coordinates(proof.divergences), strict=True):
        title = titled(found.network, {key: value for key, value in coordinate.items() if value})
        key = (title, found.backend, found.folder, found.causes)
        titles += [f"{title} · {found.backend}"] if key not in groups else []
        groups.setdefault(key, []).append(found)
    told: list[dict[str, Any]] = []
    known: set[str] = set()
    for title, rows in list(zip(titles, groups.values(), strict=True))[:MAX_CAUSES]:
        first = rows[0]
        bundles = distinct(row.bundle for row in rows if row.bundle)
        told.append(
            {
                "title": title,
                "folder": first.folder or "",
                "first": f"{spot(first)}: {off(first)}.",
                "numbers": _numbers(first),
                "cause": _cause(first.causes),
                "explained": [
                    _explained(cause, len(first.explained) > 1) for cause in first.explained if cause.cause not in known
                ],
                "places": _places(rows),
                "n_places": len(rows),
                "bundle": bundles[0] if bundles else "",
                "bundles": count(len(bundles) - 1, "and {count} more beside it", "and {count} more beside it")
                if len(bundles) > 1
                else "",
                "more": "",
            }
        )
        known |= {cause.cause for cause in first.explained}
    n = len(groups) - MAX_CAUSES
    if n > 0:
        told[-1]["more"] = count(
            n,
            "Not shown, for the page’s size: {count} further divergence.",
            "Not shown, for the page’s size: {count} further divergences.",
        )
    return told


def off(found: Divergence) -> str:
    """How far off, and what is allowed."""
    if found.problem:
        return forms.say(found.problem)
    if found.size is None:
        return _("not a finite number")
    size = significant(found.size)
    if not found.tolerance or found.tolerance < EXACT:
        return _("off by {size} where it must be exact", size=size)
    return _("off by {size} where rounding allows {allowed}", size=size, allowed=significant(found.tolerance))


def _numbers(found: Divergence) -> str:
    if found.problem or found.found is None or found.wanted is None:
        return ""
    where = _(" at {index}", index=list(found.index)) if found.index else ""
    digits = next((n for n in range(6, 17) if f"{found.found:.{n}g}" != f"{found.wanted:.{n}g}"), 17)
    ours, theirs = (minus(number(f"{value:.{digits}g}")) for value in (found.found, found.wanted))
    return _("Its number{where} is {ours}; the judge’s is {theirs}.", where=where, ours=ours, theirs=theirs)


def _cause(causes: Sequence[str]) -> str:
    if not causes or causes == ("unexplained",):
        return _("Cause unexplained: no known difference reproduces these numbers.")
    if len(causes) == 1:
        return _("Cause, which reproduces these numbers within rounding: {cause}.", cause=causes[0])
    return _(
        "Each of these reproduces the numbers, so one of them is the cause: {causes}.",
        causes=_(" or ").join(causes),
    )


def _explained(cause: Cause, is_named: bool) -> list[tuple[str, str]]:
    rows = [(_("What"), cause.what), (_("Known from"), cause.default_of), (_("What to do"), cause.mend)]
    return [(_("Cause"), cause.cause)] * is_named + [(title, _(text)) for title, text in rows if text]


def _places(rows: Sequence[Divergence]) -> Table:
    body = [
        [
            forms.say(row.stage),
            forms.say(row.where),
            _steps(row.steps or (row.step,)),
            *_measured(row),
            forms.say(row.problem or ""),
        ]
        for row in rows[:MAX_PLACES]
    ]
    columns = [(_("Stage"), "l"), (_("Where"), "l"), (_("Steps"), "l"), (_("Off by"), "r"), (_("Tolerance"), "r")]
    columns += [(_("Worst, × tolerance"), "r"), (_("Problem"), "l")]
    if not any(row.problem for row in rows):
        columns, body = columns[:-1], [row[:-1] for row in body]
    caption = _("Every place with this cause")
    if len(rows) > MAX_PLACES:
        caption = _("Every place with this cause; the first {n} of {all}", n=MAX_PLACES, all=whole(len(rows)))
    return Table(caption, columns, body)


def _measured(row: Divergence) -> list[str]:
    if row.problem:
        return [MISSING] * 3
    size = MISSING if row.size is None else significant(row.size)
    allowed = _("exact") if not row.tolerance or row.tolerance < EXACT else significant(row.tolerance)
    times = math.inf if row.times_tolerance is None else row.times_tolerance
    return [size, allowed, significant(times) if times < MANY else "> 10⁶"]


def _steps(steps: Sequence[int | None]) -> str:
    """(0, 1, 2, 3) → "0 to 3"."""
    known = [step for step in steps if step is not None]
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return span(str(known[0]), str(known[-1]))
    return ", ".join(map(str, known[:6])) + (" …" if len(known) > 6 else "") or MISSING
