"""The section "Comparisons": what differs, by how much, how surely, and what it costs.

`compare` looks at the runs once and keeps what it found as plain records; `tell` lays it out in tables and figures, and
`answer` makes sentences of it. Both say less where there are fewer seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from lockstep import uncertainty
from lockstep.language import _, later, n_, number
from lockstep.report.compare import fronts
from lockstep.report.compare.cells import (
    Answers,
    Cell,
    between,
    bootstrap_over_images,
    make_cells,
    mean_of,
    median,
    minus,
    plus_minus,
)
from lockstep.report.compare.effects import ATTRIBUTES, Step, steps
from lockstep.report.compare.groups import Group, same_machine
from lockstep.report.compare.pairs import (
    LOWER_GAP,
    MAX_PAIRS,
    Contest,
    Held,
    Pair,
    adjust,
    baseline_of,
    contests,
    difference,
    hold,
)
from lockstep.report.compare.pairs import compare as compare_pair
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.sections import literature
from lockstep.report.table import Table
from lockstep.report.words.quantities import (
    MISSING,
    accuracy_decimals,
    column,
    count,
    fixed,
    is_number,
    listed,
    percent,
    seeds_of,
    span,
    whole,
    word,
)
from lockstep.uncertainty import LEVEL, Interval

MAX_CELLS = 100  # rows of the overview
MAX_POINTS = 80  # of one front
MAX_FRONTS = 4  # datasets
MAX_STEPS = 30  # rows of the table of depth and kernel size
ENOUGH = 5  # repetitions below which times are not ranked
START = ("import", "build", "compile")
MEBIBYTE = 2**20

LEAST_SEEDS = 3  # fewer leave nearly every difference open, and nothing follows from that

PRICES = {"seconds": later("{name} has the shortest epoch"), "parameters": later("{name} has the fewest parameters")}
TITLES = {"networks": later("Networks"), "settings": later("Settings"), "backends": later("Backends")}
CLOCKS = {  # of a table's columns
    "import": later("Import (s)"),
    "build": later("Build (s)"),
    "compile": later("Compile (s)"),
    "train": later("Train (s)"),
    "evaluate": later("Evaluate (s)"),
}


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


# ------------------------------------------------------------------------------------------------------------- times


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


# ----------------------------------------------------------------------------------------------------------- layout


def section(found: Comparison) -> dict[str, Any]:
    """The section as plain data: tables, SVG texts and sentences; a part without anything to say is None or empty."""
    notes = dict.fromkeys(found.notes)
    return {
        "overview": _overview(found),
        "pairs": [told for held in found.held.values() if (told := _pairs(held)) is not None],
        "alone": "" if any(held.rows for held in found.held.values()) else _alone(found.cells),
        "gaps": _gap_table(found),
        "effects": _effect_table(found),
        "effects_absent": _effects_absent(found),
        "fronts": _fronts(found.cells),
        "rankings": _ranking_table(found),
        "fairness": _fairness(found.cells),
        "start": _start_table(found.cells),
        "published": literature.section(found.cells),
        "notes": [*list(notes)[:40], *([_("… and {n} more.", n=len(notes) - 40)] if len(notes) > 40 else [])],
    }


def _alone(cells: Sequence[Cell]) -> str:
    if not any(cell.runs for cell in cells):
        return _("No run has finished with a test accuracy, so there is nothing to compare.")
    return _("There is one network, setting and backend for each dataset, so there is nothing to compare.")


def _places(cells: Sequence[Cell]) -> int:
    return max((accuracy_decimals(cell.n_test) for cell in cells if cell.runs), default=2)


def _overview(found: Comparison) -> Table | None:
    """One row per network, setting and backend."""
    cells = [cell for cell in found.cells if cell.finished]
    if not cells:
        return None
    shown, places = cells[:MAX_CELLS], _places(cells)
    seconds = [_seconds(cell) for cell in shown]
    columns: list[tuple[str, str, list[str]]] = [(_("Network"), "l", [cell.title for cell in shown])]
    if len({cell.group.dataset for cell in shown}) > 1:
        columns.append((_("Dataset"), "l", [cell.group.dataset for cell in shown]))
    columns += [
        (_("Backend"), "l", [cell.backend for cell in shown]),
        (_("Seeds"), "r", [str(len(cell.runs)) for cell in shown]),
        (_("Test accuracy (%), ± over seeds"), "r", [plus_minus(cell.over_seeds, places) for cell in shown]),
        (_("95 % over test images"), "r", [between(over_images(found, cell), places) for cell in shown]),
        (_("Test loss, ± over seeds"), "r", [plus_minus(mean_of(cell.losses), 4, 1) for cell in shown]),
        (_("Own training images right (%)"), "r", [plus_minus(mean_of(cell.fits), places) for cell in shown]),
        (_("Gap at the end (points)"), "r", [plus_minus(mean_of(cell.gaps), places) for cell in shown]),
        (_("Gap at the best epoch"), "r", [plus_minus(mean_of(cell.best_gaps), places) for cell in shown]),
        (_("Parameters"), "r", [fixed(cell.parameters, 0) for cell in shown]),
        (_("Multiply-adds"), "r", [fixed(cell.multiply_adds, 0) for cell in shown]),
        (_("Epoch (s), median"), "r", column([value for value, _ in seconds])),
        (_("95 % or range"), "r", [text for _, text in seconds]),
        (_("Peak memory (MiB)"), "r", [fixed(cell.memory / MEBIBYTE if cell.memory else None, 0) for cell in shown]),
    ]
    breaks = {place for place, cell in enumerate(shown) if place and cell.group is not shown[place - 1].group}
    caption = _(
        "Means over seeds with Student’s 95 % interval of the mean: what other seeds would change. Over test images: "
        "the BCa bootstrap’s interval of the same mean, for one seed Wilson’s: what other images would change. The "
        "gap is training minus test accuracy, both computed at the epoch’s end in inference mode, the former on a "
        "fixed part of the training images without augmentation. The best epoch is that of the lowest validation "
        "loss. Of five times and more the bootstrap’s interval of the median, of fewer the range in brackets."
    )
    if any(cell.runs and not cell.gaps for cell in shown):
        caption += " " + _("Runs that did not evaluate their training images so have no gap that is like with like.")
    if underfitted := [cell for cell in shown if cell.underfitted is not None]:
        caption += " " + _(
            "Underfitted, with more of their own training images wrong than test images add: {names}.",
            names=listed([cell.name for cell in underfitted[:8]]),
        )
    if len(cells) > MAX_CELLS:
        caption += " " + more_rows(len(cells) - MAX_CELLS)
    rows = [list(row) for row in zip(*(values for *_, values in columns), strict=True)]
    return Table(caption, [(title, side) for title, side, _ in columns], rows, breaks=breaks)


def more_rows(n: int) -> str:
    """What a table has no room for."""
    return n_(
        "Not shown, for the page’s size: {count} further rows.",
        "Not shown, for the page’s size: {count} further rows.",
        n,
        count=whole(n),
    )


def over_images(found: Comparison, cell: Cell) -> Interval | None:
    """The bootstrap's interval; Wilson's for one seed, and where every image was right or wrong with every seed."""
    interval = found.over_images.get(cell)
    if interval is not None or len(cell.runs) == 1:
        return interval or cell.over_images
    return cell.over_images if cell.over_seeds and cell.over_seeds.value in (0.0, 1.0) else None


def _seconds(cell: Cell) -> tuple[float | None, str]:
    """The median epoch, and its interval or range as text."""
    if not cell.seconds:
        return None, MISSING
    found = uncertainty.bootstrap_median(cell.seconds)
    if found.low is not None and found.high is not None:
        return found.value, span(*column([found.low, found.high]))
    ends = [min(cell.seconds), max(cell.seconds)]
    return found.value, f"({span(*column(ends))})" if len(cell.seconds) > 1 else "n\u00a0=\u00a01"


def _points(found: Pair) -> list[str]:
    """Difference and interval, in points."""
    one = found.difference
    if one is None:
        return [MISSING, MISSING]
    interval = MISSING
    if one.low is not None and one.high is not None:
        interval = span(_signed(one.low), _signed(one.high))
    return [_signed(one.value), interval]


def _signed(share: float) -> str:
    return minus(number(f"{100 * share:+.2f}"))


def _p(value: float | None) -> str:
    """ "0.012", "< 0.001"."""
    if value is None:
        return MISSING
    return number("< 0.001" if value < 0.001 else f"{value:.3f}")


def _compared(pair: Pair) -> str:
    """ "5 pairs", "3, unpaired"."""
    if pair.difference is None:
        return MISSING
    n = pair.difference.n
    return n_("{n} pair", "{n} pairs", n) if pair.difference.is_paired else _("{n}, unpaired", n=n)


def _pairs(held: Held) -> dict[str, Any] | None:
    if not held.rows:
        return None
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    breaks: set[int] = set()
    last: Contest | None = None
    for contest, pair in held.rows:
        if contest is not last:
            breaks.add(len(rows))
            last = contest
        marks[len(rows), 3] = "good" if pair.is_shown else ""
        rows.append(
            [
                contest.where, f"{pair.what[0]} − {pair.what[1]}", _compared(pair), pair.verdict(), *_points(pair),
                _p(pair.p), *_alone_right(pair),
                _p(pair.mcnemar_p), percent(pair.same, 2), fixed(pair.kappa, 3),
            ]
        )  # fmt: skip
    columns = [(_("Within"), "l"), (_("Difference"), "l wrap"), (_("Seeds"), "l"), (_("What can be said"), "l wide")]
    pairs = [pair for _contest, pair in held.rows]
    p, mcnemar_p = _p_title(pairs), _("McNemar p, Holm") if _mcnemar_tests(pairs) > 1 else _("McNemar p")
    columns += [(_("Points"), "r"), (_("95 % interval"), "r"), (p, "r"), (_("Only first right"), "r")]
    columns += [(_("Only second right"), "r"), (mcnemar_p, "r"), (_("Same answer (%)"), "r"), ("κ", "r")]
    if held.kind != "backends":  # two networks are not meant to answer alike
        columns, rows = columns[:-2], [row[:-2] for row in rows]
    table = Table(_pairs_caption(held), columns, rows, breaks=breaks, marks=marks)
    return {"title": _(TITLES[held.kind]), "table": _without_constant(table, 0)}


def _without_constant(table: Table, place: int) -> Table:
    """The table without a column whose cells are all the same; its caption says it once."""
    values = {row[place] for row in table.rows}
    if len(values) > 1:
        return table
    title = table.columns[place][0]
    marks = {(row, at - (at > place)): mark for (row, at), mark in table.marks.items() if at != place}
    rows = [[*row[:place], *row[place + 1 :]] for row in table.rows]
    columns = [*table.columns[:place], *table.columns[place + 1 :]]
    breaks = set() if place == 0 else table.breaks
    return Table(f"{table.caption} {title}: {values.pop()}.", columns, rows, breaks=breaks, marks=marks)


def _p_title(pairs: Sequence[Pair]) -> str:
    """The title of p values over seeds; of one there is nothing to correct."""
    return _("p, Holm") if max((pair.tests for pair in pairs), default=0) > 1 else "p"


def _mcnemar_tests(pairs: Sequence[Pair]) -> int:
    return sum(pair.mcnemar_p is not None for pair in pairs)


def _alone_right(pair: Pair) -> list[str]:
    """How many images only one of the two got right."""
    found = pair.mcnemar
    return [whole(found.only_first), whole(found.only_second)] if found else [MISSING, MISSING]


def _tests_caption(n: int) -> str:
    """What the p values over seeds are: n of them."""
    if not n:
        return _("Test accuracy, first minus second.")
    if n == 1:
        return _(
            "Test accuracy, first minus second, paired by seed where seeds are shared (Student’s t, else Welch’s). "
            "What can be said rests on the p value, and on this test set."
        )
    return count(
        n,
        "Test accuracy, first minus second, paired by seed where seeds are shared (Student’s t, else Welch’s). The "
        "p values are corrected for this table’s {count} comparison (Holm), the intervals are not; what can be said "
        "rests on the p values, and on this test set.",
        "Test accuracy, first minus second, paired by seed where seeds are shared (Student’s t, else Welch’s). The "
        "p values are corrected for this table’s {count} comparisons (Holm), the intervals are not; what can be said "
        "rests on the p values, and on this test set.",
    )


def _pairs_caption(held: Held) -> str:
    pairs = [pair for _, pair in held.rows]
    seeds = list(dict.fromkeys(pair.seed for pair in pairs if pair.seed))
    text = _tests_caption(max((pair.tests for pair in pairs), default=0)) + " "
    if len(seeds) == 1:
        text += _(
            "The columns behind are of seed {seed}: images that only one of the two got right, and McNemar’s exact "
            "test of these two trained networks.",
            seed=seeds[0],
        )
    elif seeds:
        text += _(
            "The columns behind are of the first shared seed ({seeds}): images that only one of the two got right, and "
            "McNemar’s exact test of these two trained networks.",
            seeds=listed(seeds),
        )
    if seeds and held.kind == "backends":
        text += " " + _("Equal answers and Cohen’s κ are of the same seed.")
    if not held.is_all_pairs:
        text += " " + _(
            "There are too many pairs for one table: each is held to one of its row’s, chosen before any number."
        )
    if held.left_out:
        text += " " + count(held.left_out, "Left out: {count} further pair.", "Left out: {count} further pairs.")
    return text


def _gap_table(found: Comparison) -> Table | None:
    """The gap of each variant beside the plain one's."""
    if not found.gaps:
        return None
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    breaks: set[int] = set()
    last: Contest | None = None
    for contest, pair in found.gaps:
        if contest is not last:
            breaks.add(len(rows))
            last = contest
        marks[len(rows), 4] = "good" if pair.is_shown and pair.difference and pair.difference.value < 0 else ""
        gaps = [plus_minus(mean_of(cell.gaps), 2) for cell in (pair.first, pair.second)]
        rows.append(
            [contest.where, pair.what[0], gaps[0], gaps[1], pair.verdict(LOWER_GAP), *_points(pair), _p(pair.p)]
        )
    columns = [
        (_("Within"), "l"),
        (_("Variant"), "l wrap"),
        (_("Gap (points)"), "r"),
        (_("without"), "r"),
        (_("What can be said"), "l wide"),
    ]
    columns += [(_("Points"), "r"), (_("95 % interval"), "r"), (_p_title([pair for _contest, pair in found.gaps]), "r")]
    names = listed(list(dict.fromkeys(contest.name(contest.baseline) for contest, _ in found.gaps)))
    caption = _(
        "Training minus test accuracy at the end, both in inference mode, beside {names}, the one without any remedy "
        "against overfitting. Of an underfitted network the gap says nothing for its remedy. A narrower gap is no gain "
        "by itself: whether the test accuracy rose stands in the tables of pairs.",
        names=names,
    )
    return _without_constant(Table(caption, columns, rows, breaks=breaks, marks=marks), 0)


def _effect_table(found: Comparison) -> Table | None:
    if not found.effects:
        return None
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    breaks: set[int] = set()
    last = ""
    for effect in found.effects:
        step, pair = effect.step, effect.pair
        if step.attribute != last:
            breaks.add(len(rows))
            last = step.attribute
        marks[len(rows), 4] = "good" if pair.is_shown else ""
        rows.append(
            [
                _(ATTRIBUTES[step.attribute]), " → ".join(step.values), f"{step.less.title} → {step.more.title}",
                step.more.backend, pair.verdict(), *_points(pair), _ratio(step.less.parameters, step.more.parameters),
                _ratio(step.less.multiply_adds, step.more.multiply_adds),
                _ratio(median(step.less.seconds), median(step.more.seconds)),
            ]
        )  # fmt: skip
    columns = [(_("What changes"), "l"), (_("From → to"), "l"), (_("Networks"), "l wrap"), (_("Backend"), "l")]
    columns += [(_("What can be said of the accuracy"), "l wide"), (_("Points"), "r"), (_("95 % interval"), "r")]
    columns += [(_("Parameters"), "r"), (_("Multiply-adds"), "r"), (_("Epoch (s)"), "r")]
    caption = _(
        "Pairs of networks that differ in one of depth and kernel size alone; a further layer’s own width, and pooling "
        "beside a further convolution, come with it. Points are the change in test accuracy. Costs are multiplied by "
        "these factors; those of the time are a record, not a ranking."
    )
    n = max(effect.pair.tests for effect in found.effects)
    if n > 1:
        caption += " " + count(
            n,
            "What can be said rests on p values that are corrected for {count} comparison (Holm).",
            "What can be said rests on p values that are corrected for {count} comparisons (Holm).",
        )
    return _without_constant(Table(caption, columns, rows, breaks=breaks, marks=marks), 3)


def _ratio(less: float | None, more: float | None) -> str:
    return number(f"×\u00a0{more / less:.2f}") if less and more is not None else MISSING


def _effects_absent(found: Comparison) -> str:
    several = len({(cell.group.network, str(cell.layers)) for cell in found.cells if cell.runs}) > 1
    if found.effects or not several:
        return ""
    return _(
        "No two networks of one dataset, setting and backend differ in nothing but the number of convolution layers, "
        "the number of dense layers or the kernel size, so what one of these does by itself cannot be told from these "
        "runs."
    )


# ------------------------------------------------------------------------------------------------------------ fronts


def _fronts(cells: Sequence[Cell]) -> list[dict[str, Any]]:
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


# ------------------------------------------------------------------------------------------------------------- times


def _ranking_table(found: Comparison) -> Table | None:
    if not found.rankings:
        return None
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    for row in found.rankings:
        ratio = number(f"×\u00a0{row.ratio:.2f}") if row.ratio else MISSING
        if row.reasons:
            said = _("cannot be ranked: {reasons}", reasons="; ".join(row.reasons))
        else:
            said = _("{name} is faster", name=row.first.backend)
        marks[len(rows), 6] = "good" if not row.reasons else ""
        medians = column([median(row.first.seconds), median(row.second.seconds)])
        rows.append([row.where, row.first.backend, row.second.backend, *medians, ratio, said])
    columns = [
        (_("Network"), "l"),
        (_("Shorter"), "l"),
        (_("Longer"), "l"),
        (_("Median epoch (s)"), "r"),
        (_("of the longer (s)"), "r"),
    ]
    columns += [(_("Ratio"), "r"), (_("What can be said"), "l wide")]
    caption = n_(
        "Seconds per epoch. Times are ranked where the runs took turns on one machine, at least {count} times each, "
        "and the bootstrap’s 95 % intervals of the medians do not overlap.",
        "Seconds per epoch. Times are ranked where the runs took turns on one machine, at least {count} times each, "
        "and the bootstrap’s 95 % intervals of the medians do not overlap.",
        ENOUGH,
        count=word(ENOUGH),
    )
    return Table(caption, columns, rows, marks=marks)


def _fairness(cells: Sequence[Cell]) -> list[str]:
    """What the times rest on."""
    runs = [run for cell in cells for run in cell.finished if run.timing]
    known = [run.environment for run in runs if run.environment]
    if not known:
        return []
    machines = dict.fromkeys(f"{one.cpu or _('a CPU without a name')}, {cores_of(one.cores or 0)}" for one in known)
    threads = dict.fromkeys(str(one.threads.obtained) for one in known if one.threads.obtained is not None)
    versions = dict.fromkeys(f"{name} {text}" for one in known for name, text in sorted(one.versions.items()))
    numbers = [len(cell.seconds) for cell in cells if cell.seconds]
    loads = [one.load[0] for one in known if one.load]
    n = MISSING
    if numbers:
        n = f"{min(numbers)}" if min(numbers) == max(numbers) else span(str(min(numbers)), str(max(numbers)))
    devices = dict.fromkeys(one.device or MISSING for one in known)
    lines = [
        _(
            "Machine: {machines}; device: {devices}.",
            machines=listed(list(machines)[:4]),
            devices=listed(list(devices)),
        ),
        _(
            "Threads obtained: {threads}. Each run in a process of its own.",
            threads=listed(list(threads)) or _("not known"),
        ),
        _("Versions: {versions}.", versions=", ".join(list(versions)[:12]) or _("not known")),
        _("Times per network and backend: n\u00a0=\u00a0{n}; each is the median over a run’s epochs.", n=n),
    ]
    if loads:
        ends = span(fixed(min(loads), 1), fixed(max(loads), 1))
        lines.append(
            _("Load average: {ends}; where it is above the threads, other programs took part of the time.", ends=ends)
        )
    return lines


def cores_of(n: int) -> str:
    return count(n, "{count} core", "{count} cores")


def _start_table(cells: Sequence[Cell]) -> Table | None:
    """Seconds before the first step, per backend."""
    rows = []
    for backend in plots.backend_order(cell.backend for cell in cells):
        runs = [run for cell in cells if cell.backend == backend for run in cell.finished if run.timing]
        clocks = [start_seconds(runs, (clock,)) for clock in START]
        if any(clocks):
            total = start_seconds(runs, START)
            ends = span(*column([min(total), max(total)])) if len(total) > 1 else MISSING
            medians = column([*(median(values) for values in clocks), median(total)])
            rows.append([backend, str(len(runs)), *medians, ends])
    titles = [*(_(CLOCKS[clock]) for clock in START), _("Together (s)"), _("Range")]
    columns = [(_("Backend"), "l"), (_("Runs"), "r"), *((title, "r") for title in titles)]
    caption = _(
        "Start-up: medians over all finished runs of the seconds before the first step. A record, not a ranking."
    )
    return Table(caption, columns, rows) if rows else None


def start_seconds(runs: Sequence[Facts], clocks: Sequence[str]) -> list[float]:
    """The sum of these clocks, of each run that has them all."""
    rows = [[run.timing.seconds.get(clock) for clock in clocks] for run in runs if run.timing]
    known = [[value for value in row if value is not None and is_number(value) and value >= 0] for row in rows]
    return [sum(row) for row in known if len(row) == len(clocks)]
