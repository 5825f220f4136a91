"""Time to a test accuracy: a row for each network and backend, a column for each level, who never got there named."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.language import _, n_
from lockstep.report.compare.milestones import Way
from lockstep.report.table import Table
from lockstep.report.words.quantities import MISSING, fixed, percent


def tables(ways: Sequence[Way]) -> list[Table]:
    """One table for each dataset, whose levels are its own."""
    return [_table([way for way in ways if way.dataset == name]) for name in dict.fromkeys(way.dataset for way in ways)]


def _table(ways: Sequence[Way]) -> Table:
    levels = sorted({way.accuracy for way in ways})
    of: dict[tuple[str, str], dict[float, Way]] = {}
    for way in ways:
        of.setdefault((way.name, way.backend), {})[way.accuracy] = way
    rows = [[*key, *(_cell(own.get(level)) for level in levels)] for key, own in of.items()]
    names = [key[0] for key in of]
    breaks = {place for place in range(1, len(names)) if names[place] != names[place - 1]}
    columns = [(_("Network"), "l"), (_("Backend"), "l")]
    columns += [
        (_("to {level}\u00a0% (s)", level=percent(level, 2 if round(level * 1000) % 10 else 0)), "r")
        for level in levels
    ]
    return Table(_caption(ways), columns, rows, breaks=breaks)


def _caption(ways: Sequence[Way]) -> str:
    n = max(way.runs for way in ways)
    text = _(
        "{dataset}: seconds of the steps alone to the end of the first epoch that is at least as good.",
        dataset=ways[0].dataset,
    )
    if n > 1:
        kind = _("its 95 % interval") if all(way.is_interval for way in ways) else _("the range of the runs")
        text += " " + _(
            "The median over seeds, in brackets {kind}; a run that never gets there counts as the slowest.", kind=kind
        )
    return text


def _cell(way: Way | None) -> str:
    """ "1.23 (1.10…1.40), never in 1 of 5"."""
    if way is None:
        return MISSING
    never = way.runs - way.reached
    missed = (
        n_("never reached in {k} of {n}", "never reached in {k} of {n}", never, k=never, n=way.runs) if never else ""
    )
    if way.seconds is None:
        return missed or MISSING
    told = _seconds(way.seconds)
    if way.runs > 1:
        told += f" ({_seconds(way.low)}…{_seconds(way.high) if way.high is not None else '∞'})"
    return ", ".join(filter(None, [told, missed]))


def _seconds(value: float | None) -> str:
    if value is None:
        return "∞"
    return fixed(value, 3 if value < 1 else 2 if value < 100 else 1)
