"""How training went: loss and accuracy over epochs, of each network and of all networks of a dataset in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.language import _, later, n_
from lockstep.report.compare.cells import make_cells, median
from lockstep.report.compare.groups import Group
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.table import Table
from lockstep.report.words.quantities import count, fixed, is_number, listed, percent, significant, span

MAX_TWIN_ROWS = 600  # rows of all tables behind curves together
MAX_LINES = 21  # networks in one figure: each has a colour and a marker of its own
MAX_FIGURES = 8  # datasets

COLUMNS = {
    "train_loss": later("Train loss"),
    "train_inference_loss": later("Train loss, inference"),
    "validation_loss": later("Validation loss"),
    "test_loss": later("Test loss"),
    "train_accuracy": later("Train accuracy (%)"),
    "train_inference_accuracy": later("Train accuracy, inference (%)"),
    "validation_accuracy": later("Validation accuracy (%)"),
    "test_accuracy": later("Test accuracy (%)"),
}

UNKNOWN_GAP = later(
    "The training line is what the epoch’s steps got right, with their dropout and augmentation: these runs did not "
    "evaluate training images as they did test images, so the gap of overfitting is not known like with like."
)

Histories = Mapping[str, Sequence[plots.History]]


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
            _(
                "{backend}, seed {seed} (events.jsonl: {why})",
                backend=run.backend,
                seed=run.seed,
                why=run.gaps.get("events.jsonl") or _("no epoch in it"),
            )
            for run in silent
        ]
        found["absent"] = _("Not shown: {why}.", why=listed(why))
    if not histories:
        return found
    best = {backend: [n for run in members.of(backend) if (n := best_epoch(run))] for backend in histories}
    found["plots"] = [
        plots.svg(plots.curves(histories, measure, best), _said(histories, measure), f"{measure}{number}")
        for measure in plots.MEASURES
    ]
    return found | {"caption": _curves_caption(members, histories), "twin": _curves_twin(members, stride)}


def _said(histories: Histories, measure: str) -> str:
    """What a screen reader says of a figure of curves."""
    epochs = max(row.epoch for runs in histories.values() for run in runs for row in run)
    ends = [
        f"{backend} {fixed(plots.MEASURES[measure][1] * value, 4 if measure == 'loss' else 2)}"
        for backend, runs in histories.items()
        if (value := runs[0][-1].number(f"test_{measure}")) is not None
    ]
    return count(
        epochs,
        "{measure} over {count} epoch. On the test set at the end: {ends}.",
        "{measure} over {count} epochs. On the test set at the end: {ends}.",
        measure=_(plots.MEASURES[measure][0]),
        ends=", ".join(ends) or _("not known"),
    )


def _curves_caption(members: Group, histories: Histories) -> str:
    told = []
    if max(len(runs) for runs in histories.values()) > 1:
        told.append(_("Several runs of a backend: the median, with a band from the lowest to the highest."))
    gaps = [(_widest(members, f"test_{measure}"), scale) for measure, (_, scale) in plots.MEASURES.items()]
    if all(gap is not None for gap, _ in gaps):
        loss, share = (gap * scale for gap, scale in gaps if gap is not None)
        if share:
            text = _(
                "At any epoch, backends with the same seed were at most {loss} apart in test loss and {share} points "
                "in test accuracy.",
                loss=significant(loss),
                share=significant(share),
            )
        else:
            text = _(
                "At any epoch, backends with the same seed were at most {loss} apart in test loss and equal in test "
                "accuracy.",
                loss=significant(loss),
            )
        told.append(text)
    return " ".join(filter(None, [*told, _marked(members, histories)]))


def best_epoch(run: Facts) -> int | None:
    """The epoch of the lowest validation loss; that which early stopping chose, where it did."""
    if run.metrics and run.metrics.best_epoch:
        return run.metrics.best_epoch
    rows = [row for row in run.history if is_number(row.validation_loss)]
    return min(rows, key=lambda row: row.validation_loss or 0.0).epoch if rows else None


def _marked(members: Group, histories: Histories) -> str:
    """What the marks mean: the best epochs, and the gap at the end of the first backend's runs."""
    first = plots.backend_order(histories)[0]
    runs = [run for run in members.of(first) if run.history]
    ends = [(row.train_inference_accuracy, row.test_accuracy) for row in (run.history[-1] for run in runs)]
    gaps = [train - test for train, test in ends if train is not None and test is not None]
    found = []
    if any(best_epoch(run) for run in members.finished):
        found.append(
            _("Triangles at the top: each run’s best epoch, that of the lowest validation loss or of early stopping.")
        )
    if not plots.is_like_with_like(histories):
        found.append(_(UNKNOWN_GAP))
    elif gaps:
        found.append(
            _(
                "The bracket at the right is {backend}’s gap between training and test at the end, both in inference "
                "mode: {gap} points of accuracy.",
                backend=first,
                gap=percent(sum(gaps) / len(gaps), 2).replace("-", "−"),
            )
        )
    return " ".join(found)


def _widest(members: Group, key: str) -> float | None:
    """The largest difference between backends at one epoch of one seed."""
    values: dict[tuple[str, int], dict[str, float]] = {}
    for run in members.runs:
        for row in run.history:
            if (value := row.number(key)) is not None and math.isfinite(value):
                values.setdefault((run.seed, row.epoch), {})[run.backend] = value
    found = [max(row.values()) - min(row.values()) for row in values.values() if len(row) > 1]
    return max(found, default=None)


def _curves_twin(members: Group, stride: int) -> Table:
    """The numbers behind the curves, epoch by epoch."""
    rows = [row for run in members.runs for row in run.history]
    splits = ("train", "train_inference", "validation", "test")
    keys = [f"{split}_{measure}" for measure in plots.MEASURES for split in splits]
    keys = [key for key in keys if any(row.number(key) is not None for row in rows)]
    body: list[list[str]] = []
    breaks: set[int] = set()
    for run in members.runs:
        breaks.add(len(body))
        for place, row in enumerate(run.history):
            if place % stride == 0 or place == len(run.history) - 1:
                cells = [
                    percent(row.number(key), 2) if key.endswith("accuracy") else fixed(row.number(key), 4)
                    for key in keys
                ]
                body.append([run.backend, run.seed, str(row.epoch), *cells])
    columns = [(_("Backend"), "l"), (_("Seed"), "r"), (_("Epoch"), "r"), *((_(COLUMNS[key]), "r") for key in keys)]
    if stride > 1:
        caption = n_("The same numbers, every {n} epochs", "The same numbers, every {n} epochs", stride)
    else:
        caption = _("The same numbers")
    return Table(caption, columns, body, breaks=breaks)


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
    rows = [_ends(name, runs, plots.of_split("train", histories)) for name, runs in shown.items()]
    caption = []
    if any(len(runs) > 1 for runs in shown.values()):
        caption.append(_("Several runs of a network: the median, with a band from the lowest to the highest."))
    if not plots.is_like_with_like(histories):
        caption.append(_(UNKNOWN_GAP))
    if len(named) > MAX_LINES:
        caption.append(_("The first {n} of {all} are drawn.", n=MAX_LINES, all=len(named)))
    titles = [_("Runs"), _("Epochs"), _("Training loss"), _("Test loss")]
    titles += [_("Training accuracy (%)"), _("Test accuracy (%)")]
    columns = [(_("Network"), "l"), *((title, "r") for title in titles)]
    ends = "; ".join(
        _("{name}: test loss {loss}, test accuracy {accuracy} %", name=row[0], loss=row[4], accuracy=row[6])
        for row in rows[:8]
    )

    def said(title: str) -> str:
        return count(
            len(shown),
            "{measure} of {count} network over epochs, {where}. {ends}",
            "{measure} of {count} networks over epochs, {where}. {ends}",
            measure=_(title),
            where=where,
            ends=ends,
        )

    return {
        "title": where,
        "plots": [
            plots.svg(plots.overview(histories, measure), said(title), f"all-{measure}{number}")
            for measure, (title, _) in plots.MEASURES.items()
        ],
        "caption": " ".join(caption),
        "twin": Table(_("The ends of these lines: medians over runs at each run’s last epoch"), columns, rows),
    }  # fmt: skip


def _ends(name: str, runs: Sequence[Facts], train: str) -> list[str]:
    """Medians over runs of the last epoch's numbers."""
    last = [run.history[-1] for run in runs]
    keys = (f"{train}_loss", "test_loss", f"{train}_accuracy", "test_accuracy")
    middle = {key: median([n for row in last if (n := row.number(key)) is not None]) for key in keys}
    epochs = sorted({len(run.history) for run in runs})
    lasted = span(str(epochs[0]), str(epochs[-1])) if len(epochs) > 1 else str(epochs[0])
    cells = [_cell(key, middle[key]) for key in keys]
    return [name, str(len(runs)), lasted, *cells]


def _cell(key: str, value: float | None) -> str:
    """An accuracy in percent, a loss as it is."""
    return percent(value, 2) if key.endswith("accuracy") else fixed(value, 4)
