"""What accuracy costs: figures of accuracy over time, parameters and multiply-adds, and the front of the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep.language import _, later
from lockstep.report.compare import fronts
from lockstep.report.compare.cells import (
    Cell,
    median,
    plus_minus,
)
from lockstep.report.compare.pairs import (
    difference,
)
from lockstep.report.draw import plots
from lockstep.report.table import Table
from lockstep.report.words.quantities import (
    column,
    fixed,
    is_number,
    listed,
    seeds_of,
    whole,
)
from lockstep.uncertainty import LEVEL

MAX_POINTS = 80  # of one front
MAX_FRONTS = 4  # datasets
LEAST_SEEDS = 3  # fewer leave nearly every difference open, and nothing follows from that
PRICES = {"seconds": later("{name} has the shortest epoch"), "parameters": later("{name} has the fewest parameters")}


def section(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Two figures per dataset with their numbers and what they say."""
    titles = list(dict.fromkeys(cell.group.dataset for cell in cells if cell.runs))
    found = [
        _front(n, title, [cell for cell in cells if cell.group.dataset == title]) for n, title in enumerate(titles)
    ]
    return [row for row in found if row is not None][:MAX_FRONTS]


def _front(number: int, title: str, cells: Sequence[Cell]) -> dict[str, Any] | None:
    points = {cost: _drawn(cells, cost) for cost in fronts.COSTS}
    if max(len({(p.name, p.backend) for p in rows}) for rows in points.values()) < 2:
        return None
    drawn = [
        plots.svg(fronts.pareto(rows, cost), fronts.said(rows, cost, title), f"front{number}-{cost}")
        for cost, rows in points.items()
        if len({point.cost for point in rows}) > 1
    ]
    if not drawn:
        return None
    n = len([cell for cell in cells if cell.over_seeds])
    caption = [
        _(
            "Mean test accuracy over cost; bars are Student’s intervals over seeds. Nothing that was run is both "
            "cheaper and more accurate than a filled marker; times are a record, not a "
            "ranking. Where names would hide each other, some are left to the table."
        )
    ]
    if _many(cells):
        caption.append(_("A network has the same parameters in every backend."))
    if n > MAX_POINTS:
        caption.append(_("The first {n} of {all} are drawn.", n=MAX_POINTS, all=whole(n)))
    return {
        "title": title,
        "plots": drawn,
        "caption": " ".join(caption),
        "sentences": [_best_value(cells)],
        "twin": _front_twin(title, cells, points),
    }


def _many(cells: Sequence[Cell]) -> bool:
    return len({cell.backend for cell in cells}) > 1


def _cost_of(cell: Cell, cost: str) -> float | None:
    value = median(cell.seconds) if cost == "seconds" else cell.parameters
    return float(value) if value and is_number(value) else None


def _drawn(cells: Sequence[Cell], cost: str) -> list[fronts.Point]:
    rows = []
    for cell in cells:
        value, own = _cost_of(cell, cost), cell.over_seeds
        if value is not None and own is not None:
            rows.append(fronts.Point(cell.title, cell.backend, value, 100 * own.value, 100 * (own.half or 0.0)))
    return rows[:MAX_POINTS]


def _best_value(cells: Sequence[Cell]) -> str:
    """The most accurate one, and the cheapest ones from which it was not shown to differ."""
    known = [cell for cell in cells if cell.over_seeds]
    best = max(known, key=_mean)
    mean, seeds = f"{plus_minus(best.over_seeds, 2)}\u00a0%", seeds_of(len(best.runs))
    if len(best.runs) < LEAST_SEEDS:
        return _(
            "{best} has the highest mean accuracy ({mean}, {seeds}): too few to tell which cheaper one is as good.",
            best=best.name,
            mean=mean,
            seeds=seeds,
        )
    good = [cell for cell in known if cell is best or not _is_worse(cell, best)]
    cheapest = {}
    for cost, words in PRICES.items():
        priced = [cell for cell in good if _cost_of(cell, cost) is not None]
        if len({_cost_of(cell, cost) for cell in known}) > 1 and priced:
            cheapest[words] = min(priced, key=lambda cell, cost=cost: (_cost_of(cell, cost) or 0.0, -_mean(cell)))  # type: ignore[misc]
    return _(
        "{best} has the highest mean accuracy ({mean}, {seeds}). Of it and those from which no difference could be "
        "shown, {has}.",
        best=best.name,
        mean=mean,
        seeds=seeds,
        has=listed([_(words, name=cell.name) for words, cell in cheapest.items()]),
    )


def _mean(cell: Cell) -> float:
    return cell.over_seeds.value if cell.over_seeds else 0.0


def _is_worse(cell: Cell, best: Cell) -> bool:
    """Whether the difference is shown (uncorrected, so that fewer are called as good) or cannot be tested."""
    found = difference(cell, best)
    return found is None or found.p is None or found.p <= LEVEL or len(cell.runs) < LEAST_SEEDS


def _front_twin(title: str, cells: Sequence[Cell], points: dict[str, list[fronts.Point]]) -> Table:
    on = {cost: {(point.name, point.backend) for point in fronts.front(rows)} for cost, rows in points.items()}
    rows = [
        [
            cell.title, cell.backend, plus_minus(cell.over_seeds, 2), *column([median(cell.seconds)]),
            _yes((cell.title, cell.backend) in on["seconds"]), fixed(cell.parameters, 0),
            _yes((cell.title, cell.backend) in on["parameters"]),
        ]
        for cell in cells
        if cell.over_seeds
    ][:MAX_POINTS]  # fmt: skip
    columns = [
        (_("Network"), "l"),
        (_("Backend"), "l"),
        (_("Test accuracy (%)"), "r"),
        (_("Epoch (s)"), "r"),
        (_("On its front"), "l"),
    ]
    columns += [(_("Parameters"), "r"), (_("On its front"), "l")]
    return Table(_("{title}: the same numbers", title=title), columns, rows)


def _yes(is_so: bool) -> str:
    return _("yes") if is_so else _("no")
