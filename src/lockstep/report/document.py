"""report.json: what was compared, as numbers, for whoever goes on from there in a program.

Made from the same `Comparison` as the page, which is built once; here are its numbers, there its tables. Numbers are
numbers and shares are shares (0.9488, not "94.88 %"); what cannot be said is null. Texts are English in every language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from lockstep import uncertainty
from lockstep.language import speaking
from lockstep.report.compare.cells import Cell, mean_of, median
from lockstep.report.compare.comparison import Comparison, Effect, Ranking
from lockstep.report.compare.groups import Group, distinct
from lockstep.report.compare.milestones import Reached, reached
from lockstep.report.compare.pairs import LOWER_GAP, Contest, Pair
from lockstep.report.facts import Facts
from lockstep.report.sections.comparisons import over_images
from lockstep.report.words.answer import answer
from lockstep.report.words.conclusions import conclusions
from lockstep.report.words.headlines import Headline, headlines
from lockstep.uncertainty import Difference, Interval
from lockstep.version import version

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean or median of `n` values and its 95 % interval, null where there is none."""

    value: float
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, found: Interval | None) -> Estimate | None:
        """The estimate of an interval; None where there is none."""
        return None if found is None else cls(found.value, found.low, found.high, found.n)


@dataclasses.dataclass(frozen=True)
class CellRow:
    """The finished runs of one network, dataset, setting and backend; shares, seconds and bytes."""

    name: str
    network: str
    setting: str
    dataset: str
    backend: str
    runs: dict[str, str]  # folder by seed
    diverged: list[str]  # folders
    copies: list[str]  # folders
    accuracies: dict[str, float]  # test accuracy by seed
    accuracy_over_seeds: Estimate | None
    accuracy_over_images: Estimate | None
    test_loss: Estimate | None
    train_accuracy: Estimate | None  # in inference mode
    is_underfitted: bool | None
    gap: Estimate | None
    gap_at_best_epoch: Estimate | None
    parameters: int | None
    multiply_adds: int | None
    test_images: int | None
    seconds_per_epoch: Estimate | None  # a median
    peak_memory_bytes: float | None


@dataclasses.dataclass(frozen=True)
class OverSeeds:
    """first − second over seeds: the mean with its interval, the p of "no difference", and p by Holm for the table."""

    value: float
    low: float | None
    high: float | None
    seeds: int
    is_paired: bool
    p: float | None
    p_holm: float | None
    is_shown: bool
    seeds_needed: int | None

    @classmethod
    def of(cls, found: Difference | None, pair: Pair) -> OverSeeds | None:
        """The difference of a pair; None where nothing was compared."""
        if found is None:
            return None
        return cls(
            found.value, found.low, found.high, found.n, found.is_paired, found.p, pair.p, pair.is_shown,
            pair.seeds_needed,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class OverImages:
    """McNemar's test of the two networks that one seed trained, and how often they answer alike."""

    seed: str
    only_first_right: int
    only_second_right: int
    p: float
    p_holm: float | None
    is_shown: bool
    same_answers: float | None
    kappa: float | None

    @classmethod
    def of(cls, pair: Pair) -> OverImages | None:
        """The test of a pair; None where its predictions could not be compared."""
        found = pair.mcnemar
        if found is None:
            return None
        return cls(
            pair.seed, found.only_first, found.only_second, found.p, pair.mcnemar_p, pair.is_shown_of_images, pair.same,
            pair.kappa,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PairRow:
    """Two cells: `first` and `second` are names of `cells`, `within` what they share, `said` the table's words."""

    within: str
    first: str
    second: str
    problem: str | None
    over_seeds: OverSeeds | None
    over_images: OverImages | None
    said: str

    @classmethod
    def of(cls, pair: Pair, within: str = "", words: str | None = None) -> PairRow:
        """A row of a table of pairs."""
        return cls(
            within, pair.first.name, pair.second.name, pair.obstacle or None, OverSeeds.of(pair.difference, pair),
            OverImages.of(pair), pair.verdict(words) if words else pair.verdict(),
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class EffectRow:
    """What one further layer, or another kernel size, does: `accuracy` and the costs' factors."""

    attribute: str
    values: tuple[str, str]
    accuracy: PairRow
    parameters: float | None
    multiply_adds: float | None
    seconds_per_epoch: float | None


@dataclasses.dataclass(frozen=True)
class RankingRow:
    """Two cells' times: `first` has the shorter epoch; it is `is_ranked` only where no reason stands against it."""

    within: str
    first: str
    second: str
    ratio: float | None
    is_ranked: bool
    reasons: list[str]


@dataclasses.dataclass(frozen=True)
class HeadlineRow:
    """The best of a contest, and the names of those from which it differs at each level, or does not."""

    kind: str
    within: str
    best: str
    level_with: list[str]
    shown_higher_than: list[str]
    right_more_often_than: list[str]
    right_less_often_than: list[str]
    not_told_from: list[str]
    underfitted: dict[str, float]  # the share of their own training images that they get right

    @classmethod
    def of(cls, one: Headline) -> HeadlineRow:
        """A headline as names of the contest."""
        name = one.contest.name
        return cls(
            one.kind, one.contest.where, name(one.best), [name(cell) for cell in one.level_with],
            one.others(one.shown), one.others(one.more_right), one.others(one.less_right), one.others(one.still_open),
            {name(cell): cell.underfitted or 0.0 for cell in one.underfitted},
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Document:
    """All of it; see docs/run-folder.md."""

    format: int
    lockstep: str
    studies: list[str]
    questions: list[str]
    answer: str
    headlines: list[HeadlineRow]
    conclusions: list[str]
    test_images_in_training: dict[str, int]
    cells: list[CellRow]
    networks: list[PairRow]
    settings: list[PairRow]
    backends: list[PairRow]
    gaps: list[PairRow]
    effects: list[EffectRow]
    times: list[RankingRow]
    reached: list[Reached]


def document(
    groups: Sequence[Group], found: Comparison, proven: tuple[str, int] | None = None, levels: Sequence[float] = ()
) -> dict[str, Any]:
    """The document of a comparison, as plain tables of numbers and texts; `proven` as for `answer`.

    `levels` are the test accuracies, as shares, to which times are asked for.
    """
    runs = [run for members in groups for run in members.runs]
    questions = distinct(str(run.spec.get("question") or "") for run in runs)
    with speaking("en"):
        made = Document(
            format=FORMAT,
            lockstep=version(),
            studies=distinct(run.study for run in runs),
            questions=questions,
            answer=answer(groups, found, questions[0] if questions else "", proven),
            headlines=[HeadlineRow.of(one) for kind in ("networks", "settings") for one in headlines(found, kind)],
            conclusions=conclusions(found),
            test_images_in_training=_leaks(runs),
            cells=[_cell(found, cell) for cell in found.cells],
            networks=_pairs(found.held["networks"].rows),
            settings=_pairs(found.held["settings"].rows),
            backends=_pairs(found.held["backends"].rows),
            gaps=[PairRow.of(pair, contest.where, LOWER_GAP) for contest, pair in found.gaps],
            effects=[_effect(effect) for effect in found.effects],
            times=[_ranking(row) for row in found.rankings],
            reached=reached(groups, levels),
        )
    return dataclasses.asdict(made)


def _leaks(runs: Sequence[Facts]) -> dict[str, int]:
    """How many test images are training images too, by dataset, where the runs say it."""
    found = {run.dataset: run.environment.dataset.n_test_in_training for run in runs if run.environment}
    return {name: n for name, n in found.items() if n is not None}


def _pairs(rows: Sequence[tuple[Contest, Pair]]) -> list[PairRow]:
    return [PairRow.of(pair, contest.where) for contest, pair in rows]


def _cell(found: Comparison, cell: Cell) -> CellRow:
    own = [run for run in cell.group.runs if run.backend == cell.backend]
    return CellRow(
        cell.name, cell.group.network, cell.group.label, cell.group.dataset, cell.backend,
        {seed: run.folder for seed, run in cell.runs.items()}, [run.folder for run in own if run.is_diverged],
        [run.folder for run in own if run.copy_of], cell.accuracies, Estimate.of(cell.over_seeds),
        Estimate.of(over_images(found, cell)), Estimate.of(mean_of(cell.losses)), Estimate.of(mean_of(cell.fits)),
        cell.underfitted is not None if cell.fits else None, Estimate.of(mean_of(cell.gaps)),
        Estimate.of(mean_of(cell.best_gaps)), cell.parameters, cell.multiply_adds, cell.n_test,
        Estimate.of(uncertainty.bootstrap_median(cell.seconds)) if cell.seconds else None, cell.memory,
    )  # fmt: skip


def _effect(found: Effect) -> EffectRow:
    less, more = found.step.less, found.step.more
    return EffectRow(
        found.step.attribute, found.step.values, PairRow.of(found.pair), _quotient(less.parameters, more.parameters),
        _quotient(less.multiply_adds, more.multiply_adds), _quotient(median(less.seconds), median(more.seconds)),
    )  # fmt: skip


def _ranking(row: Ranking) -> RankingRow:
    return RankingRow(
        row.where, row.first.name, row.second.name, row.ratio, not row.obstacles, [one.kind for one in row.obstacles]
    )


def _quotient(less: float | None, more: float | None) -> float | None:
    return more / less if less and more is not None else None
