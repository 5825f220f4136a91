"""Confusion matrices, the reports of precision and recall, and how often backends give the same answer."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.language import _, later, n_
from lockstep.report.compare.groups import Group
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.sections import gaps
from lockstep.report.table import Table
from lockstep.report.words.quantities import fixed, listed, percent, significant, whole
from lockstep.store.documents.run import Scores

MAX_CLASSES = 40  # classes up to which a table of all classes is printed


def section(members: Group, number: int, room: int) -> dict[str, Any]:
    runs = [run for run in members.firsts() if run.metrics and run.metrics.test.confusion]
    found: dict[str, Any] = {"title": members.title, "plots": [], "caption": "", "reports": []}
    found |= {"twin": None, "share_twin": None, "once": []}
    if runs:
        found |= _matrices(runs, number, members.seeds, room)
        reports = runs if len(runs[0].class_names) <= MAX_CLASSES else runs[:1]
        found["reports"] = [(run.backend, _report(run)) for run in reports]
    agreement = _agreement(members.firsts())
    return found | {
        "agreement": agreement,
        "absent": gaps.absent(members, "metrics.json"),
        "disagreement": gaps.absent(members, "predictions.npz", later("Predictions not compared: {why}.")),
    }


def _matrices(runs: Sequence[Facts], number: int, seeds: Sequence[str], room: int) -> dict[str, Any]:
    """`room` is how many matrices may be drawn; the first backend's, in counts and in percent, always are."""
    counts = {run.backend: np.array(run.metrics.test.confusion) for run in runs if run.metrics}
    names = runs[0].class_names
    errors = [int((matrix - np.diag(np.diag(matrix))).max()) for matrix in counts.values()]
    shown, left_out = list(counts)[: max(1, room - 1)], list(counts)[max(1, room - 1) :]
    drawn = [
        (
            backend,
            plots.svg(
                plots.confusion(counts[backend], names, max(errors)),
                _matrix_said(backend, counts[backend], names),
                f"confusion{number}-{place}",
            ),
        )
        for place, backend in enumerate(shown)
    ]
    matrix = counts[shown[0]]
    said = _matrix_said(shown[0], matrix, names) + " " + _("In percent of each true class.")
    share = plots.svg(plots.confusion(matrix, names, max(errors), in_percent=True), said, f"confusion{number}-percent")
    drawn.append((_("{backend}, in percent of the true class", backend=shown[0]), share))
    captions = [_("Seed {seed} of {seeds}.", seed=runs[0].seed, seeds=listed(seeds))] if len(seeds) > 1 else []
    if left_out:
        captions.append(_("Not drawn on a page of so many networks: {backends}.", backends=listed(left_out)))
    twins = _matrix_twins(shown[0], matrix, names) if len(names) <= MAX_CLASSES else (None, None)
    told = {"plots": drawn, "caption": " ".join(captions), "twin": twins[0], "share_twin": twins[1]}
    return told | {"once": _once(counts, shown, drawn)}


def _once(counts: Mapping[str, np.ndarray], shown: Sequence[str], drawn: Sequence[tuple[str, Any]]) -> list[Any]:
    """The drawings, each with who has it: of matrices that are equal one, and behind them the one in percent."""
    alike: dict[bytes, list[str]] = {}
    for backend in shown:
        alike.setdefault(counts[backend].tobytes(), []).append(backend)
    matrices = dict(drawn)
    found = [(listed(backends), matrices[backends[0]]) for backends in alike.values()]
    return [*found, *drawn[len(shown) :]]


def _matrix_twins(backend: str, matrix: np.ndarray, names: Sequence[str]) -> tuple[Table, Table]:
    """A confusion matrix as two tables: counts, and percent of each true class."""
    columns = [(_("True"), "l"), *((name, "r") for name in names)]
    title = _("Confusion of {backend}: rows true, columns predicted", backend=backend)
    rows = [[name, *map(whole, row)] for name, row in zip(names, matrix.tolist(), strict=False)]
    share_title = _("Confusion of {backend} in percent of the true class", backend=backend)
    shares = [[percent(n / max(sum(row), 1), 2) for n in row] for row in matrix.tolist()]
    share_rows = [[name, *row] for name, row in zip(names, shares, strict=False)]
    return Table(title, columns, rows), Table(share_title, columns, share_rows)


def _matrix_said(backend: str, matrix: np.ndarray, names: Sequence[str]) -> str:
    """What a screen reader says of a confusion matrix: hits and the most frequent error."""
    errors = matrix - np.diag(np.diag(matrix))
    text = _(
        "Confusion matrix of {backend}: {right} of {all} test images right.",
        backend=backend,
        right=whole(int(np.trace(matrix))),
        all=whole(int(matrix.sum())),
    )
    if errors.max(initial=0) > 0:
        true, predicted = divmod(int(errors.argmax()), len(errors))
        text += " " + n_(
            "Most frequent error: {true} taken for {answer}, {n} times.",
            "Most frequent error: {true} taken for {answer}, {n} times.",
            int(errors.max()),
            true=names[true],
            answer=names[predicted],
        )
    return text


def _report(run: Facts) -> Table:
    """Precision, recall, F1 and support of every class, and their averages."""
    test = run.metrics.test if run.metrics else None
    classes = list(zip(run.class_names, test.per_class, strict=False)) if test else []
    averages = [(_("macro average"), test.macro), (_("weighted average"), test.weighted)] if test else []
    total = sum(row.support or 0 for _, row in classes)
    foot = [[*_scores(name, row), fixed(total, 0)] for name, row in averages if row]
    body = [[*_scores(name, row), fixed(row.support, 0)] for name, row in classes]
    columns = [(_("Class"), "l"), (_("Precision"), "r"), (_("Recall"), "r"), ("F1", "r"), (_("Support"), "r")]
    return Table(_("Classification report of {backend}", backend=run.backend), columns, body, foot=foot)


def _scores(name: str, row: Scores) -> list[str]:
    return [name, *(fixed(value, 3) for value in (row.precision, row.recall, row.f1))]


def _agreement(runs: Sequence[Facts]) -> Table | None:
    """How often two backends give the same answer, from their predictions on the whole test set."""
    answers: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for run in runs:
        if (found := run.predictions()) is not None:
            answers[run.backend] = found
    rows = []
    for (one, (left, labels)), (other, (right, same)) in itertools.combinations(answers.items(), 2):
        if left.shape == right.shape and np.array_equal(labels, same):
            alike = left.argmax(axis=1) == right.argmax(axis=1)
            with np.errstate(invalid="ignore"):  # a diverged network answers infinity
                apart = float(np.abs(left.astype(np.float64) - right).max())
            rows.append(
                [
                    listed([one, other]),
                    _("{n} of {all}", n=whole(int(alike.sum())), all=whole(len(alike))),
                    whole(int((~alike).sum())),
                    significant(apart),
                ]
            )
    columns = [
        (_("Backends"), "l"),
        (_("Same answer"), "r"),
        (_("Different"), "r"),
        (_("Largest logit difference"), "r"),
    ]
    if not rows:
        return None
    seed = _(", seed {seed}", seed=runs[0].seed) if runs and runs[0].seed else ""
    caption = _("Do the backends answer alike? After training, on the test set{seed}", seed=seed)
    return Table(caption, columns, rows)
