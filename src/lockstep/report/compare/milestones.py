"""How long training takes to a test accuracy: what a bench of equal epochs cannot say of networks that learn unequally.

Seconds are those of the steps alone, summed to the end of the first epoch whose test accuracy is at least the level. A
run that never gets there counts as slower than all that do, so that a median is of all runs and not of the lucky ones.
Levels are asked for, or taken from a ladder that was there before any run; a level chosen by looking at the curves
would favour whoever it was chosen for.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from lockstep import arguments
from lockstep.errors import LockstepError
from lockstep.language import _, later
from lockstep.report.compare.cells import Cell, make_cells
from lockstep.report.compare.groups import Group
from lockstep.report.facts import Facts
from lockstep.report.table import Table
from lockstep.report.words.quantities import MISSING, fixed, percent, span
from lockstep.uncertainty import CONFIDENCE

LADDER = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998)
MOST_LEVELS = 3  # of the ladder: the highest that any run of the dataset reaches


@dataclasses.dataclass(frozen=True)
class Reached:
    """The runs of one network, dataset, setting and backend on their way to a test accuracy, a share.

    `seconds` and `epochs` are medians over all `runs`, None where fewer than half `reached` it; `fastest` and `slowest`
    are of those that did.
    """

    name: str
    network: str
    setting: str
    dataset: str
    backend: str
    accuracy: float
    runs: int
    reached: int
    seconds: float | None
    fastest: float | None
    slowest: float | None
    epochs: float | None


def levels_of(reach: Any) -> tuple[float, ...]:
    """Test accuracies that somebody gave in per cent, as shares in order; raises LockstepError (LS-204, LS-205)."""
    found = []
    wanted = later("numbers, per cent of the test images")
    for value in [reach] if isinstance(reach, int | float) else arguments.several(reach, "reach", wanted):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 100:
            message = later("{value} is no test accuracy", value=repr(value)[:40])
            hint = later("per cent of the test images, above 0 and at most 100")
            raise LockstepError("LS-205", message, where="--reach", hint=hint)
        found.append(round(value / 100, 9))
    return tuple(sorted(set(found)))


def reached(groups: Sequence[Group], levels: Sequence[float] = ()) -> list[Reached]:
    """A row for each cell and level (shares, or those of the ladder), by dataset and level."""
    cells = [(cell, runs) for cell in make_cells(groups) if (runs := _timed(cell))]
    found = []
    for dataset in dict.fromkeys(cell.group.dataset for cell, _runs in cells):
        here = [(cell, runs) for cell, runs in cells if cell.group.dataset == dataset]
        for level in sorted(set(levels)) or _of_the_ladder([run for _cell, runs in here for run in runs]):
            found += [_row(cell, runs, level) for cell, runs in here]
    return found


def _timed(cell: Cell) -> list[Facts]:
    """Its runs whose time is their own and of which every epoch's time and test accuracy is known."""
    return [
        run
        for run in cell.finished
        if run.timing and run.history
        and all(row.train_seconds is not None and row.test_accuracy is not None for row in run.history)
    ]  # fmt: skip


def _of_the_ladder(runs: Sequence[Facts]) -> list[float]:
    best = max(row.test_accuracy or 0.0 for run in runs for row in run.history)
    return [level for level in LADDER if level <= best][-MOST_LEVELS:]


def _row(cell: Cell, runs: Sequence[Facts], level: float) -> Reached:
    ways = [_way(run, level) for run in runs]
    seconds, epochs = (sorted(way[place] for way in ways) for place in (0, 1))
    there = [value for value in seconds if math.isfinite(value)]
    return Reached(
        cell.name, cell.group.network, cell.group.label, cell.group.dataset, cell.backend, level, len(runs), len(there),
        _finite(statistics.median(seconds)), min(there, default=None), max(there, default=None),
        _finite(statistics.median(epochs)),
    )  # fmt: skip


def _way(run: Facts, level: float) -> tuple[float, float]:
    """(seconds, epochs) that a run takes to a level; infinite where it never gets there."""
    spent = 0.0
    for number, row in enumerate(run.history, 1):
        spent += row.train_seconds or 0.0
        if (row.test_accuracy or 0.0) >= level:
            return spent, float(number)
    return math.inf, math.inf


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclasses.dataclass(frozen=True)
class Way:
    """How long the runs of one cell take to a level: the median, and between what; None is never."""

    name: str
    backend: str
    dataset: str
    accuracy: float
    runs: int
    reached: int
    seconds: float | None
    low: float | None
    high: float | None
    is_interval: bool  # 95 %, free of any distribution; of fewer than six runs it is the range


def ways(groups: Sequence[Group], levels: Sequence[float] = ()) -> list[Way]:
    """As `reached`, with the interval of the median over runs.

    Between the order statistics of ranks k and n + 1 − k lies the median of other runs with a probability of
    1 − 2·P(B < k), B binomial of n and ½ (Thompson 1936). A run that never gets there is the slowest of them.
    """
    cells = [(cell, runs) for cell in make_cells(groups) if (runs := _timed(cell))]
    found = []
    for row in reached(groups, levels):
        for cell, runs in cells:
            if (cell.name, cell.group.dataset) == (row.name, row.dataset):
                seconds = sorted(_way(run, row.accuracy)[0] for run in runs)
                rank = _rank(len(seconds))
                ends = seconds[max(rank, 1) - 1], seconds[-max(rank, 1)]
                found.append(
                    Way(
                        cell.title, cell.backend, row.dataset, row.accuracy, row.runs, row.reached, row.seconds,
                        _finite(ends[0]), _finite(ends[1]), rank > 0,
                    )
                )  # fmt: skip
                break
    return found


def _rank(n: int) -> int:
    """The largest k whose order statistics bound the median with 95 %; 0 where there are too few."""
    found, below = 0, 0.0
    for k in range(1, n // 2 + 1):
        below += math.comb(n, k - 1) / 2**n
        if 1 - 2 * below < CONFIDENCE:
            break
        found = k
    return found


def table(rows: Sequence[Reached]) -> Table | None:
    """The rows for people; None where there are none."""
    if not rows:
        return None
    several = len({row.dataset for row in rows}) > 1
    columns = [(_("Network"), "l"), *([(_("Dataset"), "l")] if several else []), (_("Backend"), "l")]
    columns += [(_("Test accuracy of (%)"), "r"), (_("Runs that got there"), "r"), (_("Seconds, median"), "r")]
    columns += [(_("fastest to slowest"), "r"), (_("Epochs, median"), "r")]
    body = [_cells(row, several) for row in rows]
    breaks = {
        place
        for place in range(1, len(rows))
        if (rows[place].dataset, rows[place].accuracy) != (rows[place - 1].dataset, rows[place - 1].accuracy)
    }
    caption = _(
        "Time to a test accuracy: seconds of the steps alone, to the end of the first epoch that is at least as good. "
        "A run that never gets there counts as slower than all others. Levels are those asked for, or of a fixed "
        "ladder."
    )
    return Table(caption, columns, body, breaks=breaks)


def _cells(row: Reached, with_dataset: bool) -> list[str]:
    def seconds(value: float | None) -> str:
        return fixed(value, 2)

    between = MISSING if row.fastest is None else span(seconds(row.fastest), seconds(row.slowest))
    named = [row.setting, *([row.dataset] if with_dataset else []), row.backend]
    of = _("{n} of {all}", n=row.reached, all=row.runs)
    places = 2 if round(row.accuracy * 1000) % 10 else 0
    return [*named, percent(row.accuracy, places), of, seconds(row.seconds), between, fixed(row.epochs, 1)]
