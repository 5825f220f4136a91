"""How training went: loss and accuracy over epochs, of each network and of all networks of a dataset in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lockstep import plots
from lockstep.report.cells import make_cells, median
from lockstep.report.facts import Facts
from lockstep.report.groups import Group
from lockstep.report.numbers import count, fixed, is_number, listed, percent, points, significant
from lockstep.report.table import Table

MAX_TWIN_ROWS = 600  # rows of all tables behind curves together
MAX_LINES = 21  # networks in one figure: each has a colour and a marker of its own
MAX_FIGURES = 8  # datasets

Histories = Mapping[str, Sequence[Sequence[dict[str, Any]]]]


def curves(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Each group's figures, what they say and the numbers behind them, as plain data."""
    rows = sum(len(run.history) for found in groups for run in found.runs)
    stride = max(1, math.ceil(rows / MAX_TWIN_ROWS))
    return [_curves(found, n, stride) for n, found in enumerate(groups)]


def _curves(members: Group, number: int, stride: int) -> dict[str, Any]:
    histories = {
        backend: rows
        for backend in members.backends
        if (rows := [run.history for run in members.runs if run.backend == backend and run.history])
    }
    found: dict[str, Any] = {"title": members.title, "plots": [], "caption": "", "twin": None, "absent": ""}
    silent = [run for run in members.runs if not run.history]
    if silent:
        why = [
            f"{run.backend}, seed {run.seed} (events.jsonl: {run.gaps.get('events.jsonl', 'no epoch in it')})"
            for run in silent
        ]
        found["absent"] = f"Not shown: {listed(why)}."
    if not histories:
        return found
    best = {backend: [n for run in members.of(backend) if (n := best_epoch(run))] for backend in histories}
    found["plots"] = [
        plots.svg(plots.curves(histories, measure, best), _said(histories, measure), f"{measure}{number}")
        for measure in plots.MEASURES
    ]
    return found | {"caption": _curves_caption(members, histories), "twin": _curves_twin(members, stride)}


def _said(histories: dict[str, list[list[dict[str, Any]]]], measure: str) -> str:
    """What a screen reader says of a figure of curves."""
    epochs = max(row["epoch"] for runs in histories.values() for run in runs for row in run)
    ends = [
        f"{backend} {fixed(plots.MEASURES[measure][1] * value, 4 if measure == 'loss' else 2)}"
        for backend, runs in histories.items()
        if (value := runs[0][-1].get(f"test_{measure}")) is not None
    ]
    title = f"{plots.MEASURES[measure][0]} over {count(epochs, 'epoch')}"
    return f"{title}. On the test set at the end: {', '.join(ends) or 'not known'}."


def _curves_caption(members: Group, histories: dict[str, list[list[dict[str, Any]]]]) -> str:
    text = ""
    if max(len(runs) for runs in histories.values()) > 1:
        text += "Several runs of a backend: the median, with a band from the lowest to the highest. "
    gaps = [(_widest(members, f"test_{measure}"), scale) for measure, (_, scale) in plots.MEASURES.items()]
    if all(gap is not None for gap, _ in gaps):
        loss, share = (gap * scale for gap, scale in gaps if gap is not None)
        text += f"At any epoch, backends with the same seed were at most {significant(loss)} apart in test loss "
        text += f"and {significant(share)} points in test accuracy." if share else "and equal in test accuracy."
    return f"{text} {_marked(members, histories)}".strip()


def best_epoch(run: Facts) -> int | None:
    """The epoch of the lowest validation loss; that which early stopping chose, where it did."""
    if run.metrics and run.metrics.best_epoch:
        return run.metrics.best_epoch
    rows = [row for row in run.history if is_number(row.get("validation_loss"))]
    return int(min(rows, key=lambda row: row["validation_loss"])["epoch"]) if rows else None


def _marked(members: Group, histories: Histories) -> str:
    """What the marks mean: the best epochs, and the gap at the end of the first backend's runs."""
    first = plots.backend_order(histories)[0]
    runs = [run for run in members.of(first) if run.history]
    ends = [(row.get("train_accuracy"), row.get("test_accuracy")) for row in (run.history[-1] for run in runs)]
    gaps = [train - test for train, test in ends if train is not None and test is not None]
    found = []
    if any(best_epoch(run) for run in members.finished):
        found.append(
            "Triangles at the top: each run’s best epoch, that of the lowest validation loss or of early stopping."
        )
    if gaps:
        gap = points(sum(gaps) / len(gaps), 2).replace("\u00a0%", " points").replace("-", "−")
        found.append(
            f"The bracket at the right is {first}’s gap between training and test at the end: {gap} of accuracy."
        )
    return " ".join(found)


def _widest(members: Group, key: str) -> float | None:
    """The largest difference between backends at one epoch of one seed."""
    values: dict[tuple[str, int], dict[str, float]] = {}
    for run in members.runs:
        for row in run.history:
            if (value := row[key]) is not None and math.isfinite(value):
                values.setdefault((run.seed, row["epoch"]), {})[run.backend] = value
    found = [max(row.values()) - min(row.values()) for row in values.values() if len(row) > 1]
    return max(found, default=None)


def _curves_twin(members: Group, stride: int) -> Table:
    """The numbers behind the curves, epoch by epoch."""
    rows = [row for run in members.runs for row in run.history]
    keys = [f"{split}_{measure}" for measure in plots.MEASURES for split in plots.SPLITS]
    keys = [key for key in keys if any(row[key] is not None for row in rows)]
    titles = [
        f"{split.capitalize()} {measure}{' (%)' if measure == 'accuracy' else ''}"
        for split, measure in (k.split("_") for k in keys)
    ]
    body: list[list[str]] = []
    breaks: set[int] = set()
    for run in members.runs:
        breaks.add(len(body))
        for place, row in enumerate(run.history):
            if place % stride == 0 or place == len(run.history) - 1:
                cells = [percent(row[key], 2) if key.endswith("accuracy") else fixed(row[key], 4) for key in keys]
                body.append([run.backend, run.seed, str(row["epoch"]), *cells])
    columns = [("Backend", "l"), ("Seed", "r"), ("Epoch", "r"), *((title, "r") for title in titles)]
    return Table("The same numbers" + (f", every {stride} epochs" if stride > 1 else ""), columns, body, breaks=breaks)


# ------------------------------------------------------------------------------------------------------ in one figure


def overviews(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """For every dataset with two networks or more: all of them in one figure, and their ends as a table.

    Of several backends the one with the most networks, or the first: each network’s own figure has all backends.
    """
    found: dict[str, dict[str, dict[str, list[Facts]]]] = {}
    for cell in make_cells(groups):
        if runs := [run for run in cell.finished if run.history]:
            found.setdefault(cell.group.dataset, {}).setdefault(cell.backend, {})[cell.title] = runs
    most = {dataset: max(backends.items(), key=lambda row: len(row[1])) for dataset, backends in found.items()}
    rows = [(dataset, *row) for dataset, row in most.items() if len(row[1]) > 1]
    return [_overview(*row, number) for number, row in enumerate(rows[:MAX_FIGURES])]


def _overview(dataset: str, backend: str, named: dict[str, list[Facts]], number: int) -> dict[str, Any]:
    shown = dict(list(named.items())[:MAX_LINES])
    histories = {name: [run.history for run in runs] for name, runs in shown.items()}
    where = f"{dataset}, {backend}"
    rows = [_ends(name, runs) for name, runs in shown.items()]
    text = (
        "Several runs of a network: the median, with a band from the lowest to the highest." if _several(shown) else ""
    )
    if len(named) > MAX_LINES:
        text += f" The first {MAX_LINES} of {len(named)} are drawn."
    titles = ("Runs", "Epochs", "Training loss", "Test loss", "Training accuracy (%)", "Test accuracy (%)")
    columns = [("Network", "l"), *((title, "r") for title in titles)]
    ends = "; ".join(f"{row[0]}: test loss {row[4]}, test accuracy {row[6]} %" for row in rows[:8])
    said = f"of {count(len(shown), 'network')} over epochs, {where}. {ends}"
    return {
        "title": where,
        "plots": [
            plots.svg(plots.overview(histories, measure), f"{title} {said}", f"all-{measure}{number}")
            for measure, (title, _) in plots.MEASURES.items()
        ],
        "caption": text.strip(),
        "twin": Table("The ends of these lines: medians over runs at each run’s last epoch", columns, rows),
    }  # fmt: skip


def _several(named: Mapping[str, Sequence[Facts]]) -> bool:
    return any(len(runs) > 1 for runs in named.values())


def _ends(name: str, runs: Sequence[Facts]) -> list[str]:
    """Medians over runs of the last epoch's numbers."""
    last = [run.history[-1] for run in runs]
    keys = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")
    middle = {key: median([row[key] for row in last if row[key] is not None]) for key in keys}
    epochs = sorted({len(run.history) for run in runs})
    lasted = f"{epochs[0]} to {epochs[-1]}" if len(epochs) > 1 else str(epochs[0])
    cells = [fixed(middle[key], 4) if key.endswith("loss") else percent(middle[key], 2) for key in keys]
    return [name, str(len(runs)), lasted, *cells]
