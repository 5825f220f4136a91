"""Which network or setting is best, and what each level supports of that: the numbers behind the answer's sentences.

Three levels, and none is said for another: other seeds are shown to come out so; of the trained networks at hand one is
right more often on these images; nothing could be shown.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lockstep.report.compare.cells import Cell
from lockstep.report.compare.comparison import Comparison
from lockstep.report.compare.pairs import Contest, Pair

MAX_CONTESTS = 4  # of one kind: more are in the tables


@dataclasses.dataclass(frozen=True)
class Headline:
    """The best cell of a contest beside the others: each pair of it stands in one of the four lists.

    `kind` is "networks" or "settings"; `level_with` are cells of exactly its mean.
    """

    kind: str
    contest: Contest
    best: Cell
    level_with: list[Cell]
    shown: list[Pair]  # over seeds, it is higher
    more_right: list[Pair]  # of these trained networks it is right more often
    less_right: list[Pair]  # … and less often, although its mean is higher
    still_open: list[Pair]

    @property
    def is_of_one_seed(self) -> bool:
        """Whether nothing was said over seeds, so that a pair that is open says nothing at all."""
        own = [*self.shown, *self.more_right, *self.less_right, *self.still_open]
        return len(self.best.runs) < 2 or not any(pair.difference and pair.difference.n > 1 for pair in own)

    @property
    def underfitted(self) -> list[Cell]:
        """The cells of the contest that do not fit their own training images."""
        return [cell for cell in self.contest.cells if cell.underfitted is not None]

    def others(self, pairs: Sequence[Pair]) -> list[str]:
        """The names of those that stand beside the best one in these pairs."""
        return [self.contest.name(pair.second if pair.first is self.best else pair.first) for pair in pairs]


def headlines(found: Comparison, kind: str) -> list[Headline]:
    """The headline of each contest between networks, or between settings."""
    rows: dict[int, tuple[Contest, list[Pair]]] = {}
    for contest, pair in found.held[kind].rows:
        rows.setdefault(id(contest), (contest, []))[1].append(pair)
    return [_headline(kind, contest, pairs) for contest, pairs in list(rows.values())[:MAX_CONTESTS]]


def _headline(kind: str, contest: Contest, pairs: Sequence[Pair]) -> Headline:
    means = {cell: cell.over_seeds.value for cell in contest.cells if cell.over_seeds}
    best = max(means, key=lambda cell: means[cell])
    name = contest.name(best)
    lists: dict[str, list[Pair]] = {key: [] for key in ("shown", "more_right", "less_right", "still_open")}
    for pair in pairs:
        if best not in (pair.first, pair.second) or pair.problem:
            continue
        if pair.is_shown and pair.higher == name:
            lists["shown"].append(pair)
        elif pair.is_shown_of_images:
            lists["more_right" if pair.more_right == name else "less_right"].append(pair)
        else:
            lists["still_open"].append(pair)
    level = [cell for cell, mean in means.items() if cell is not best and mean == means[best]]
    return Headline(kind, contest, best, level, **lists)
