"""Which cells are compared with which, and what may be said of each pair: never more than the statistics allow.

Which pairs are looked at is decided before any number is, or the p values would mean nothing: all of them where they
are few, else each against one that the study itself marks out.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from lockstep import uncertainty
from lockstep.language import _, later, n_, number
from lockstep.report.compare.cells import Answers, Cell
from lockstep.report.words.quantities import MISSING, points, seeds_of, whole, word
from lockstep.uncertainty import LEVEL, Difference, McNemar

MAX_PAIRS = 40  # of one table; a page has a size and a reader has patience
REMEDIES = ("dropout", "batch_norm")  # layers that are there against overfitting

# {higher} names a cell's network, backend or setting.
HIGHER = later("{higher} higher by {size}\u00a0±\u00a0{half} points, {seeds}")
LOWER_GAP = later("{higher} wider by {size}\u00a0±\u00a0{half} points, {seeds}")


OBSTACLES = {
    "no_run": later("not compared: {name} has no finished run with a test accuracy"),
    "other_images": later("not compared: tested on different images"),
    "not_like_with_like": later("not known like with like: training images were not evaluated as test images were"),
}


@dataclasses.dataclass
class Pair:
    """Two cells and what their runs say of the difference first − second. `what` names each side in a verdict."""

    first: Cell
    second: Cell
    what: tuple[str, str]
    obstacle: str = ""  # why they are not compared, a key of OBSTACLES
    seeds: tuple[str, ...] = ()
    difference: Difference | None = None
    seed: str = ""  # whose predictions were compared
    mcnemar: McNemar | None = None
    same: float | None = None  # share of equal answers
    kappa: float | None = None
    p: float | None = None  # adjusted for the table
    mcnemar_p: float | None = None  # likewise
    tests: int = 1  # how many p values the table holds

    @property
    def problem(self) -> str:
        """Why they are not compared, in words."""
        missing = next((cell for cell in (self.first, self.second) if not cell.runs), self.first)
        return _(OBSTACLES[self.obstacle], name=missing.name) if self.obstacle else ""

    @property
    def is_shown(self) -> bool:
        """Whether the difference over seeds stands after the correction."""
        return self.p is not None and self.p <= LEVEL and self.difference is not None and self.difference.sd > 0

    @property
    def is_shown_of_images(self) -> bool:
        """Whether these two trained networks differ on these images: of other trainings that says nothing."""
        return self.mcnemar_p is not None and self.mcnemar_p <= LEVEL

    @property
    def more_right(self) -> str:
        """The side whose trained network is right more often, of those that McNemar's test compared."""
        return self.what[0 if self.mcnemar and self.mcnemar.only_first > self.mcnemar.only_second else 1]

    @property
    def seeds_needed(self) -> int | None:
        """How many seeds would settle a difference of this size among so many comparisons; None beyond what is counted.

        Of a single seed nothing says how much another would bring.
        """
        found = self.difference
        if found is None or found.n < 2 or not found.sd:
            return None
        n = uncertainty.seeds_to_settle(found.value, found.sd, level=LEVEL / max(self.tests, 1))
        return None if n is None else max(n, found.n + 1)

    @property
    def higher(self) -> str:
        """The side with the higher mean."""
        return self.what[0] if self.difference is None or self.difference.value >= 0 else self.what[1]

    def verdict(self, higher: str = HIGHER) -> str:
        """What may be said, in words: of other seeds, where that is shown, else of these trained networks alone."""
        if self.problem or self.difference is None:
            return self.problem or _("one seed: cannot be told")
        if not self.is_shown:
            return self._not_shown()
        said = _(higher, higher=self.higher, seeds=self._seeds(), size=self._size(), half=self._half())
        return f"{said}; {fit}" if (fit := self.fit()) else said

    def fit(self) -> str:
        """That one of the two is underfitted, which is no judgement on what it was tried for."""
        low = [(cell.underfitted, name) for cell, name in zip((self.first, self.second), self.what, strict=True)]
        told = [(value, name) for value, name in low if value is not None]
        return fitted_badly(told[0][1], told[0][0]) if len(told) == 1 else ""

    def of_images(self) -> str:
        """What McNemar's test shows of the two trained networks that it compared."""
        return _(
            "the trained networks of seed {seed} differ: {higher} is right more often on these images "
            "(McNemar p\u00a0{p})",
            seed=self.seed,
            higher=self.more_right,
            p=p_value(self.mcnemar_p),
        )

    def _not_shown(self) -> str:
        found = self.difference
        if found is None or found.n == 1:
            if self.is_shown_of_images:
                return _("{images}; of other seeds one cannot tell", images=self.of_images())
            return _("one seed: cannot be told")
        if not found.sd and not found.value:
            return _("equal with every seed ({seeds})", seeds=self._seeds())
        if not found.sd:
            return _(
                "{higher} higher by {size} points with every seed ({seeds}): no spread from which chance could be "
                "judged",
                higher=self.higher,
                size=self._size(),
                seeds=self._seeds(),
            )
        if self.is_shown_of_images:
            return _(
                "{images}; of other seeds {n} cannot tell, {needed}",
                images=self.of_images(),
                n=word(found.n),
                needed=seeds_would(self.seeds_needed),
            )
        if abs(found.value) < 1e-12:
            return _("no difference could be shown: the means are equal ({seeds})", seeds=self._seeds())
        if found.p is not None and found.p <= LEVEL:
            not_shown = n_(
                "no difference could be shown among {n} comparisons",
                "no difference could be shown among {n} comparisons",
                self.tests,
            )
        else:
            not_shown = _("no difference could be shown")
        n = self.seeds_needed
        if n is None:
            return _(
                "{not_shown}; more than {most} seeds would be needed for one of this size",
                not_shown=not_shown,
                most=whole(uncertainty.MOST_SEEDS),
            )
        return n_(
            "{not_shown}; about {n} seeds would settle one of this size",
            "{not_shown}; about {n} seeds would settle one of this size",
            n,
            not_shown=not_shown,
        )

    def _seeds(self) -> str:
        n = self.difference.n if self.difference else 0
        if self.difference and not self.difference.is_paired:
            return n_("{n} or more unpaired runs each", "{n} or more unpaired runs each", n)
        return seeds_of(n)

    def _size(self) -> str:
        return number(f"{100 * abs(self.difference.value if self.difference else 0.0):.2f}")

    def _half(self) -> str:
        return number(f"{100 * ((self.difference and self.difference.half) or 0.0):.2f}")


def fitted_badly(name: str, fit: float | None) -> str:
    """That a network does not even get its own training images right."""
    share = points(fit, 1)
    return _("{name} is underfitted: it gets {share} of its own training images right", name=name, share=share)


def p_value(value: float | None) -> str:
    """ "= 0.012", or "< 0.001": a p value behind its letter."""
    if value is None:
        return MISSING
    return number("<\u00a00.001" if value < 0.001 else f"=\u00a0{value:.3f}")


def seeds_would(n: int | None) -> str:
    """How many seeds would settle what is open."""
    if n is None:
        return _("more than {most} would be needed", most=whole(uncertainty.MOST_SEEDS))
    return n_("about {n} would", "about {n} would", n)


def compare(first: Cell, second: Cell, what: tuple[str, str], answers: Answers, read: str = "accuracies") -> Pair:
    """The difference of one number of two cells, paired by seed where two seeds or more are shared, else Welch's.

    For accuracies the predictions of the first shared seed are compared too.
    """
    pair = Pair(first, second, what)
    if not (first.runs and second.runs):
        pair.obstacle = "no_run"
    elif first.test_set != second.test_set:
        pair.obstacle = "other_images"
    if pair.obstacle:
        return pair
    pair.seeds = tuple(seed for seed in getattr(first, read) if seed in getattr(second, read))
    pair.difference = difference(first, second, read)
    if pair.difference is None and read == "gaps":
        pair.obstacle = "not_like_with_like"
    if read == "accuracies":
        _compare_answers(pair, answers)
    return pair


def difference(first: Cell, second: Cell, read: str = "accuracies") -> Difference | None:
    """The difference first − second over seeds; None where one of them has no numbers."""
    x, y = getattr(first, read), getattr(second, read)
    seeds = [seed for seed in x if seed in y]
    if len(seeds) >= 2 or (seeds and min(len(x), len(y)) < 2):
        return uncertainty.paired_difference([x[seed] for seed in seeds], [y[seed] for seed in seeds])
    return uncertainty.welch_difference(list(x.values()), list(y.values())) if x and y else None


def _compare_answers(pair: Pair, answers: Answers) -> None:
    """McNemar's test and the agreement of the first seed for which both have predictions of the same images."""
    for seed in pair.seeds:
        one, other = answers.of(pair.first.runs[seed]), answers.of(pair.second.runs[seed])
        if one is None or other is None or len(one[1]) != len(other[1]) or (one[1] != other[1]).any():
            continue
        pair.seed = seed
        pair.mcnemar = uncertainty.mcnemar(one[0] == one[1], other[0] == other[1])
        pair.same, pair.kappa = uncertainty.agreement(one[0], other[0])
        return


def adjust(pairs: Sequence[Pair]) -> None:
    """Correct the p values of one table for their number (Holm), those over seeds and McNemar's each by themselves."""
    over_seeds = [pair.difference.p if pair.difference else None for pair in pairs]
    tested = [pair.mcnemar.p if pair.mcnemar else None for pair in pairs]
    n = sum(p is not None for p in over_seeds)
    for pair, p, mcnemar_p in zip(pairs, uncertainty.holm(over_seeds), uncertainty.holm(tested), strict=True):
        pair.p, pair.mcnemar_p, pair.tests = p, mcnemar_p, n


# -------------------------------------------------------------------------------------------------- which with which


@dataclasses.dataclass
class Contest:
    """Cells that differ in one kind of thing; `where` says what they share, `baseline` is what others are held to."""

    where: str
    cells: list[Cell]
    baseline: Cell
    name: Callable[[Cell], str]

    def pairs(self, all_of_them: bool) -> list[tuple[Cell, Cell]]:
        """All pairs, or each cell with the baseline."""
        if all_of_them:
            return list(itertools.combinations(self.cells, 2))
        return [(cell, self.baseline) for cell in self.cells if cell is not self.baseline]


def contests(cells: Sequence[Cell]) -> dict[str, list[Contest]]:
    """ "networks", "settings" and "backends": who is held against whom. Datasets are never compared."""
    runs = [cell for cell in cells if cell.runs]
    grid = _grid_keys(runs)
    found: dict[str, list[Contest]] = {"networks": [], "settings": [], "backends": []}
    several = len({cell.group.dataset for cell in runs}) > 1
    for members in _by(runs, lambda cell: (cell.group.dataset, cell.backend, _values(cell, grid))):
        _add(found["networks"], members, _where(members[0], several, grid, members[0].backend), _network_of)
    for members in _by(runs, lambda cell: (cell.group.dataset, cell.backend, _identity(cell))):
        name = members[0].group.network
        _add(found["settings"], members, _where(members[0], several, (), name, members[0].backend), _setting_of)
    for members in _by(runs, lambda cell: id(cell.group)):
        title = members[0].group.title if several else members[0].title
        _add(found["backends"], members, title, lambda cell: cell.backend)
    return found


def _add(rows: list[Contest], cells: list[Cell], where: str, name: Callable[[Cell], str]) -> None:
    if len(cells) > 1:
        rows.append(Contest(where, cells, baseline_of(cells) or cells[0], name))


def _by(cells: Sequence[Cell], key: Callable[[Cell], Any]) -> list[list[Cell]]:
    found: dict[Any, list[Cell]] = {}
    for cell in cells:
        found.setdefault(key(cell), []).append(cell)
    return list(found.values())


def _identity(cell: Cell) -> str:
    return f"{cell.group.network} {cell.layers}"


def _grid_keys(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The settings that vary within a network: those of a grid, and not what belongs to a network alone."""
    found: dict[str, None] = {}
    for members in _by(cells, lambda cell: (cell.group.dataset, _identity(cell))):
        names = dict.fromkeys(name for cell in members for name in cell.settings)
        found |= {name: None for name in names if len({cell.settings.get(name) for cell in members}) > 1}
    return tuple(found)


def _values(cell: Cell, names: Sequence[str]) -> tuple[str | None, ...]:
    return tuple(cell.settings.get(name) for name in names)


def _where(cell: Cell, with_dataset: bool, grid: Sequence[str], *more: str) -> str:
    values = [f"{name} {cell.settings[name]}" for name in grid if name in cell.settings]
    return " · ".join([*more, *values, *[cell.group.dataset] * with_dataset])


def _network_of(cell: Cell) -> str:
    return cell.group.network


def _setting_of(cell: Cell) -> str:
    """The label without the network's name in front."""
    return cell.title.removeprefix(cell.group.network).removeprefix(" · ") or cell.title


def remedies(cell: Cell) -> frozenset[str]:
    """What this cell has against overfitting, by its layers and its recipe."""
    found = {row["kind"] for row in cell.layers if row["kind"] in REMEDIES}
    for name, value in cell.settings.items():
        first = name.split(".")[0]
        if first in ("l2", "label_smoothing", "augmentation", "early_stopping") and value not in ("0", "0.0", "False"):
            found.add(first)
    return frozenset(found)


def baseline_of(cells: Sequence[Cell]) -> Cell | None:
    """The one cell without any remedy against overfitting, where all others have one."""
    plain = [cell for cell in cells if not remedies(cell)]
    return plain[0] if len(plain) == 1 and len(cells) > 1 else None


@dataclasses.dataclass
class Held:
    """The pairs of one table, adjusted together; `left_out` says how many of all were not looked at."""

    kind: str
    rows: list[tuple[Contest, Pair]]
    left_out: int
    is_all_pairs: bool


def hold(kind: str, found: Sequence[Contest], answers: Answers) -> Held:
    """Compare the cells of these contests, as far as one table goes, and adjust for the number of comparisons."""
    every = sum(len(contest.pairs(True)) for contest in found)
    is_all = every <= MAX_PAIRS
    asked = [(contest, pair) for contest in found for pair in contest.pairs(is_all)]
    rows = [
        (contest, compare(first, second, (contest.name(first), contest.name(second)), answers))
        for contest, (first, second) in asked[:MAX_PAIRS]
    ]
    adjust([pair for _, pair in rows])
    return Held(kind, rows, every - len(rows), is_all)
