"""The page's first figure: test accuracy with its interval, and the seconds of an epoch, by network and backend.

It is a table with bars in its cells: every number can be read, heard, sorted and copied, it fits any width, and as a
page is compared with its runs letter by letter, no bar can say what its number does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from lockstep.language import _
from lockstep.report.compare.cells import Cell, median, plus_minus
from lockstep.report.compare.comparison import Comparison
from lockstep.report.draw import plots
from lockstep.report.sections.comparisons import over_images
from lockstep.report.words.quantities import accuracy_decimals, column, listed, percent
from lockstep.uncertainty import Interval

SHOWN = 8  # rows of a first screen; the others fold
MOST = 500  # rows of a page
COLOURS = ("blue", "vermillion", "green", "purple", "orange", "sky", "grey")  # those of the plots


def section(found: Comparison) -> dict[str, Any] | None:
    """Rows, axes and caption as plain data; None where no run has a test accuracy."""
    cells = [cell for cell in found.cells if cell.runs][:MOST]
    if not cells:
        return None
    places = max(accuracy_decimals(cell.n_test) for cell in cells)
    intervals = [_interval(found, cell) for cell in cells]
    low, high = _ends(cells, intervals)
    times = [median(cell.seconds) for cell in cells]
    longest = max((time for time in times if time), default=0.0)
    several = len({cell.group.dataset for cell in cells}) > 1
    names = [f"{cell.title} · {cell.group.dataset}" if several else cell.title for cell in cells]
    rows = []
    for place, (cell, interval, time, told) in enumerate(zip(cells, intervals, times, column(times), strict=True)):
        value = cell.over_seeds.value if cell.over_seeds else 0.0
        rows.append(
            {
                "network": names[place],
                "starts": not place or names[place] != names[place - 1],
                "backend": cell.backend,
                "colour": COLOURS[_place(cell.backend, cells)],
                "accuracy": percent(value, places),
                "interval": _said(cell, interval, places),
                "at": _share(value, low, high),
                "low": _share(interval.low if interval and interval.low is not None else value, low, high),
                "high": _share(interval.high if interval and interval.high is not None else value, low, high),
                "seconds": told,
                "long": _share(time or 0.0, 0.0, longest),
                "is_timed": time is not None,
            }
        )
    ticks = [
        {"at": _share(value, low, high), "text": percent(value, _tick_places(high - low))}
        for value in _ticks(low, high)
    ]
    return {"rows": rows[:SHOWN], "more": rows[SHOWN:], "ticks": ticks, "caption": _caption(cells)}


def _place(backend: str, cells: Sequence[Cell]) -> int:
    order = [
        *plots.KNOWN,
        *(one for one in plots.backend_order(cell.backend for cell in cells) if one not in plots.KNOWN),
    ]
    return order.index(backend) % len(COLOURS)


def _interval(found: Comparison, cell: Cell) -> Interval | None:
    """Over seeds where there are several, else over test images."""
    return cell.over_seeds if len(cell.runs) > 1 else over_images(found, cell)


def _said(cell: Cell, interval: Interval | None, places: int) -> str:
    """The interval in words."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    if len(cell.runs) > 1:
        return plus_minus(interval, places).partition("\u00a0")[2]
    return _("{low}…{high}", low=percent(interval.low, places), high=percent(interval.high, places))


def _ends(cells: Sequence[Cell], intervals: Sequence[Interval | None]) -> tuple[float, float]:
    """The axis of accuracies: what is drawn, with a little room, never outside 0 and 1."""
    values = [cell.over_seeds.value for cell in cells if cell.over_seeds]
    values += [end for one in intervals if one for end in (one.low, one.high) if end is not None]
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.002)
    return max(low - room, 0.0), min(high + room, 1.0) if high + room > low else 1.0


def _share(value: float, low: float, high: float) -> str:
    """Where on an axis, in per cent with one decimal: no more digits than a screen has dots."""
    share = (value - low) / (high - low) if high > low else 0.5
    return f"{100 * min(max(share, 0.0), 1.0):.1f}"


def _ticks(low: float, high: float) -> list[float]:
    """Two to four round numbers on an axis."""
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step *= next(times for times in (5, 2, 1) if (high - low) / (times * step) >= 2)
    first = math.ceil(low / step - 1e-9)
    return [place * step for place in range(first, first + 5) if place * step <= high + 1e-9]


def _tick_places(room: float) -> int:
    return max(0, -math.floor(math.log10(50 * room) + 1e-9))


def _caption(cells: Sequence[Cell]) -> str:
    """What the lines and bars are."""
    numbers = sorted({len(cell.runs) for cell in cells})
    parts = []
    if numbers[-1] > 1:
        parts.append(_("Dots: mean test accuracy; lines: its 95 % interval over seeds"))
    if numbers[0] == 1:
        parts.append(_("Dots: test accuracy of one seed; lines: 95 % interval over test images"))
    times = _("bars: seconds of an epoch, median")
    return f"{listed(parts)}; {times}."
