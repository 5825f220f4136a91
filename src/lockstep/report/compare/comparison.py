"""Everything that runs say of each other: contests, gaps, effects, rankings, and what is in the way of one."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from lockstep import uncertainty
from lockstep.language import _, later
from lockstep.report.compare.cells import (
    Answers,
    Cell,
    bootstrap_over_images,
    make_cells,
    median,
)
from lockstep.report.compare.effects import Step, steps
from lockstep.report.compare.groups import Group, same_machine
from lockstep.report.compare.pairs import (
    MAX_PAIRS,
    Contest,
    Held,
    Pair,
    adjust,
    baseline_of,
    contests,
    hold,
)
from lockstep.report.compare.pairs import compare as compare_pair
from lockstep.report.facts import Facts
from lockstep.report.words.quantities import (
    count,
    word,
)
from lockstep.uncertainty import Interval

MAX_CELLS = 100  # rows of the overview
MAX_STEPS = 30  # rows of the table of depth and kernel size
ENOUGH = 5  # repetitions below which times are not ranked


class Obstacle(NamedTuple):
    """What keeps two times from being ranked, a key of OBSTACLES; `n` is how many repetitions there are."""

    kind: str
    n: int

    def said(self) -> str:
        if self.kind == "too_few_repetitions":
            enough = word(ENOUGH)
            return count(self.n, "{count} repetition, not {enough}", "{count} repetitions, not {enough}", enough=enough)
        return _(OBSTACLES[self.kind])


OBSTACLES = {
    "different_machines": later("different machines, devices or threads"),
    "not_interleaved": later("not interleaved"),
    "intervals_overlap": later("the intervals overlap"),
}


@dataclasses.dataclass
class Ranking:
    """Two cells' seconds per epoch: who is faster, or why that cannot be said."""

    where: str
    first: Cell
    second: Cell
    obstacles: list[Obstacle]

    @property
    def reasons(self) -> list[str]:
        """The obstacles in words."""
        return [one.said() for one in self.obstacles]

    @property
    def ratio(self) -> float | None:
        """How many times as long the second one takes."""
        one, other = median(self.first.seconds), median(self.second.seconds)
        return None if not one or other is None else other / one


@dataclasses.dataclass
class Effect:
    """Two networks that differ in one attribute, with the difference in accuracy."""

    step: Step
    pair: Pair


@dataclasses.dataclass
class Comparison:
    cells: list[Cell]
    over_images: dict[Cell, Interval]
    held: dict[str, Held]
    gaps: list[tuple[Contest, Pair]]
    effects: list[Effect]
    rankings: list[Ranking]
    notes: list[str]


def compare(groups: Sequence[Group]) -> Comparison:
    """Compare what may be compared; reads the predictions."""
    cells, answers = make_cells(groups), Answers()
    found = contests(cells)
    held = {kind: hold(kind, rows, answers) for kind, rows in found.items()}
    over_images = bootstrap_over_images([cell for cell in cells[:MAX_CELLS] if len(cell.runs) > 1], answers)
    return Comparison(
        cells,
        over_images,
        held,
        _gaps([*found["networks"], *found["settings"]], answers),
        _effects(found["networks"], answers),
        _rankings(found["backends"]),
        [note for cell in cells for note in cell.notes] + _unread(cells),
    )


def _unread(cells: Sequence[Cell]) -> list[str]:
    """Whose predictions could not be used, so that images were not resampled and answers not compared."""
    runs = [run for cell in cells for run in cell.runs.values() if "predictions.npz" in run.gaps]
    return [
        _("{run}: answers not compared: {file}: {why}.", run=run.folder, file="predictions.npz", why=why)
        for run in runs
        if (why := run.gaps["predictions.npz"])
    ]


def _gaps(found: Sequence[Contest], answers: Answers) -> list[tuple[Contest, Pair]]:
    """How far each remedy against overfitting changes the gap between training and test accuracy."""
    rows = [
        (contest, compare_pair(cell, base, (contest.name(cell), contest.name(base)), answers, "gaps"))
        for contest in found
        if (base := baseline_of(contest.cells))
        for cell in contest.cells
        if cell is not base
    ][:MAX_PAIRS]
    adjust([pair for _, pair in rows])
    return rows


def _effects(found: Sequence[Contest], answers: Answers) -> list[Effect]:
    rows = [step for contest in found for step in steps(contest.cells)][:MAX_STEPS]
    effects = [
        Effect(step, compare_pair(step.more, step.less, (step.more.title, step.less.title), answers)) for step in rows
    ]
    adjust([effect.pair for effect in effects])
    return effects


def _rankings(found: Sequence[Contest]) -> list[Ranking]:
    rows = []
    for contest in found:
        timed = [cell for cell in contest.cells if cell.seconds]
        for place, first in enumerate(timed):
            rows += [
                Ranking(contest.where, *_by_time(first, second), _obstacles(first, second))
                for second in timed[place + 1 :]
            ]
    return rows[:MAX_PAIRS]


def _by_time(first: Cell, second: Cell) -> tuple[Cell, Cell]:
    return (first, second) if (median(first.seconds) or 0) <= (median(second.seconds) or 0) else (second, first)


def _obstacles(first: Cell, second: Cell) -> list[Obstacle]:
    """What keeps two times from being ranked."""
    fewest = min(len(first.seconds), len(second.seconds))
    ends = [_ends(uncertainty.bootstrap_median(cell.seconds)) for cell in (first, second)]
    stands = {
        "different_machines": not same_machine([*first.finished, *second.finished]),
        "too_few_repetitions": fewest < ENOUGH,
        "not_interleaved": not _is_interleaved(first.finished, second.finished),
        "intervals_overlap": fewest >= ENOUGH and ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1],
    }
    return [Obstacle(kind, fewest) for kind, is_so in stands.items() if is_so]


def _ends(found: Interval) -> tuple[float, float]:
    """Where the interval begins and ends; of values without spread, or too few, the value itself."""
    return (found.value, found.value) if found.low is None or found.high is None else (found.low, found.high)


def took_turns(groups: Sequence[Group]) -> bool:
    """Whether the backends of every group took turns."""
    pairs = [(found.of(x), found.of(y)) for found in groups for x, y in itertools.combinations(found.backends, 2)]
    return bool(pairs) and all(_is_interleaved(one, other) for one, other in pairs)


def _is_interleaved(first: Sequence[Facts], second: Sequence[Facts]) -> bool:
    """Whether the runs of two cells took turns, by their starting times: at least as often as the smaller has runs."""
    if len(first) < 2 or len(second) < 2:
        return False
    starts = [(run.status.started or "", side) for side, runs in enumerate((first, second)) for run in runs]
    if not all(start for start, _ in starts):
        return False
    order = [side for _, side in sorted(starts)]
    turns = sum(one != other for one, other in itertools.pairwise(order))
    return turns >= min(len(first), len(second))
