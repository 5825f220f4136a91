"""Accuracy against what it costs: which cells are beaten in neither, as a figure and in words.

A cell is on the Pareto front where no other one of the same dataset is both at least as accurate and at most as costly.
The front is of the means as they are, whatever their intervals; which differences are real is said beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lockstep.language import _, later, n_, number
from lockstep.report.draw import canvas, lettering, plots
from lockstep.report.draw.plots import INK

COSTS = {"seconds": later("Seconds per epoch"), "parameters": later("Parameters")}
POINTS = 72 / 100  # of a pixel of matplotlib's
CHARACTER = 4.2  # points of a name's letter, on average


@dataclasses.dataclass(frozen=True)
class Point:
    """One cell: its cost, accuracy in percent with half its interval (0: none), and who it is."""

    name: str
    backend: str
    cost: float
    accuracy: float
    half: float = 0.0


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats, from the cheapest to the costliest; of equal points all."""
    found: list[Point] = []
    for point in sorted(points, key=lambda point: (point.cost, -point.accuracy)):
        twin = bool(found) and (point.cost, point.accuracy) == (found[-1].cost, found[-1].accuracy)
        if twin or not found or point.accuracy > found[-1].accuracy:
            found.append(point)
    return found


@canvas.settings()
def pareto(points: Sequence[Point], cost: str) -> Figure:
    """Accuracy over a cost on a logarithmic axis: backends by colour and marker, the front filled and joined."""
    backends = plots.backend_order(point.backend for point in points)
    more = 0.2 * ((len(backends) - 1) // 4)
    figure, axes = plots._figure(4.9, 3.7 + more, left=0.62, bottom=0.96 + more, right=0.3, top=0.16)
    style, best = plots.looks(backends), front(points)
    axes.set_xscale("log")
    axes.step(
        [point.cost for point in best], [point.accuracy for point in best], where="post", color=INK, alpha=0.45,
        linewidth=0.9, linestyle=(0, (3, 2)),
    )  # fmt: skip
    for point in sorted(points, key=lambda point: backends.index(point.backend)):
        colour, marker = style[point.backend]
        size = 5.5 + 2.4 * (
            len(backends) - 1 - backends.index(point.backend)
        )  # one around the other where they are equal
        if point.half:
            axes.errorbar(point.cost, point.accuracy, point.half, color=colour, linewidth=0.9, alpha=0.6)
        axes.plot(
            point.cost, point.accuracy, marker=marker, markersize=size, color=colour, markeredgewidth=1.2,
            markerfacecolor=(colour, 0.45) if point in best else "none", linestyle="none",
        )  # fmt: skip
    axes.margins(y=0.12)
    low, high = min(point.cost for point in points), max(point.cost for point in points)
    room = max(high / low, 1.5) ** 0.14
    axes.set_xlim(low / room, high * room)
    _ticks(axes, low, high)
    _names(axes, points)
    axes.set_xlabel(_(COSTS[cost]))
    axes.set_ylabel(_("Test accuracy (%)"))
    plots._grid(axes, "y")
    line = Line2D([], [], color=INK, alpha=0.45, linestyle=(0, (3, 2)), label=_("front (filled markers)"))
    plots._legends(figure, style, backends, [line])
    return figure


def _names(axes: plots.Axes, points: Sequence[Point]) -> None:
    """Each network's name once, at its best point, where it hides no other; those on the front come first."""
    best = front(points)
    shown: dict[str, Point] = {}
    for point in sorted(points, key=lambda point: (point in best, point.accuracy)):
        shown[point.name] = point
    texts = lettering.by_name((point.name for point in points), 22)
    taken: list[tuple[float, float, float, float]] = []
    left, right = (axes.transAxes.transform((x, 0))[0] for x in (0, 1))
    for point in sorted(shown.values(), key=lambda point: (point not in best, -point.accuracy)):
        text = texts[point.name]
        x, y = axes.transData.transform((point.cost, point.accuracy)) * POINTS
        for side, rise in ((1, 5), (-1, 5), (1, -11), (-1, -11)):
            width = CHARACTER * len(text)
            start = x + 6 if side > 0 else x - 6 - width
            box = (start, y + rise, start + width, y + rise + 9)
            if box[0] < left * POINTS or box[2] > right * POINTS + 20 or any(_overlap(box, other) for other in taken):
                continue
            taken.append(box)
            axes.annotate(
                text, (point.cost, point.accuracy), (6 * side, rise), textcoords="offset points",
                ha="left" if side > 0 else "right", fontsize=7.5,
            )  # fmt: skip
            break


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ticks(axes: plots.Axes, low: float, high: float) -> None:
    """Ticks at 1, 2 and 5 times the powers of ten, or at powers alone where costs span several."""
    wide = high > 100 * low
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, place: number(f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    )


def said(points: Sequence[Point], cost: str, where: str) -> str:
    """What a screen reader says: the front, from the cheapest to the most accurate."""
    shown = [
        _(
            "{name}, {backend}: {accuracy} % at {cost}",
            name=point.name,
            backend=point.backend,
            accuracy=number(f"{point.accuracy:.2f}"),
            cost=_cost(point.cost),
        )
        for point in front(points)[:8]
    ]
    return n_(
        "{where}: test accuracy over {cost}, {n} points. On the front: {points}.",
        "{where}: test accuracy over {cost}, {n} points. On the front: {points}.",
        len(points),
        where=where,
        cost=_(COSTS[cost]).lower(),
        points="; ".join(shown),
    )


def _cost(value: float) -> str:
    return number(f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
