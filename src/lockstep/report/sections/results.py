"""The table of results: one row per run, with the numbers that it came to."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

from lockstep.language import _, later, n_
from lockstep.report.compare.groups import (
    Group,
    accuracy,
    coordinate,
    epoch_seconds,
    n_test,
    title_of,
    varying_coordinates,
)
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.sections import clocks, gaps, rankings
from lockstep.report.table import Table
from lockstep.report.words import forms
from lockstep.report.words.quantities import MISSING, accuracy_decimals, column, fixed, percent, word

MEBIBYTE = 2**20


def section(runs: Sequence[Facts], groups: Sequence[Group], verdicts: Mapping[Path, str] | None) -> Table:
    """One row per run; `verdicts` of those that a proof speaks of, by run folder."""
    columns = [(_("Network"), "l", [run.network for run in runs]), (_("Backend"), "l", [run.backend for run in runs])]
    if len({run.study for run in runs}) > 1:
        columns.insert(0, (_("Study"), "l", [run.study for run in runs]))
    for name in varying_coordinates(runs):
        values = [title_of(run) if name == "dataset" else coordinate(run, name) for run in runs]
        side = "r" if all(_is_numeric(value) for value in values) else "l"
        columns.append((coordinate_title(name), side, values))
    if len({tuple(row) for row in _transposed([values for *_, values in columns])}) < len(runs):  # repeated runs
        columns.append((_("Run"), "l", [run.folder for run in runs]))
    columns += [(title, "r", values) for title, values in _figures(runs)]
    if verdicts is not None:
        columns.append((_("Proof"), "l", [forms.say(verdicts.get(run.record.folder, MISSING)) for run in runs]))
    columns.append((_("Status"), "l", [gaps.state(run) for run in runs]))
    starts = set(itertools.accumulate(len(found.runs) for found in groups))
    rows = _transposed([values for *_, values in columns])
    notes = {place: gaps.why(run) for place, run in enumerate(runs) if not run.is_finished}
    caption = n_(
        "{count} run. Seconds per epoch are the median over the run's epochs.",
        "{count} runs. Seconds per epoch are the median over the run's epochs.",
        len(runs),
        count=word(len(runs)).capitalize(),
    )
    return Table(caption, [(title, side) for title, side, _ in columns], rows, breaks=starts, notes=notes)


COORDINATES = {"dataset": later("Dataset"), "dtype": later("Dtype"), "seed": later("Seed")}


def coordinate_title(name: str) -> str:
    """A column's title; keys of the recipe stay as the study writes them."""
    if name in COORDINATES:
        return _(COORDINATES[name])
    return name.capitalize() if "." not in name else name


def _is_numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == MISSING
    return True


def _figures(runs: Sequence[Facts]) -> list[tuple[str, list[str]]]:
    """The numeric columns: title and values."""
    places = max((accuracy_decimals(n_test(run)) for run in runs), default=2)
    memory = [run.timing.peak_memory_bytes if run.timing else None for run in runs]
    parameters = [run.metrics.parameters if run.metrics else None for run in runs]
    losses = [run.metrics.test.loss if run.metrics else None for run in runs]
    return [
        (_("Test accuracy (%)"), [percent(accuracy(run), places) for run in runs]),
        (_("Test loss"), [fixed(loss, 4) for loss in losses]),
        (_("Epoch (s)"), column([epoch_seconds(run) for run in runs])),
        *(
            (_(rankings.CLOCKS[clock]), column([clocks.seconds_of(run, clock) for run in runs]))
            for clock in plots.CLOCKS
        ),
        (_("Peak memory (MiB)"), [fixed(value / MEBIBYTE, 0) if value is not None else MISSING for value in memory]),
        (_("Parameters"), [fixed(value, 0) for value in parameters]),
    ]


def _transposed(columns: Sequence[Sequence[str]]) -> list[list[str]]:
    return [list(row) for row in zip(*columns, strict=True)]
