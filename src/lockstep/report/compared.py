"""The section "Comparisons": what differs, by how much, how surely, and what it costs.

`compare` looks at the runs once and keeps what it found as plain records; `tell` lays it out in tables and figures, and
`answer` makes sentences of it. Both say less where there are fewer seeds.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

from lockstep import plots, statistics
from lockstep.report import fronts, published
from lockstep.report.cells import (
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
from lockstep.report.effects import ATTRIBUTES, Step, steps
from lockstep.report.facts import Facts
from lockstep.report.groups import Group, same_machine
from lockstep.report.numbers import MISSING, accuracy_decimals, column, count, fixed, is_number, listed, percent, word
from lockstep.report.pairs import (
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
from lockstep.report.pairs import compare as compare_pair
from lockstep.report.table import Table
from lockstep.statistics import LEVEL, Interval

MAX_CELLS = 100  # rows of the overview
MAX_POINTS = 80  # of one front
MAX_FRONTS = 4  # datasets
MAX_STEPS = 30  # rows of the table of depth and kernel size
ENOUGH = 5  # repetitions below which times are not ranked
START = ("import", "build", "compile")
MEBIBYTE = 2**20

LEAST_SEEDS = 3  # fewer leave nearly every difference open, and nothing follows from that

PRICES = {"seconds": "the shortest epoch", "parameters": "the fewest parameters"}
BEST_AND_CHEAP = (
    "{best} has the highest mean accuracy ({mean}, {seeds}). Of it and those from which no difference could be shown, "
    "{has}."
)
TOO_FEW = "{best} has the highest mean accuracy ({mean}, {seeds}): too few to tell which cheaper one is as good."

TITLES = {"networks": "Networks", "settings": "Settings", "backends": "Backends"}


@dataclasses.dataclass
class Ranking:
    """Two cells' seconds per epoch: who is faster, or why that cannot be said."""

    where: str
    first: Cell
    second: Cell
    reasons: list[str]

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
    """Everything that was compared."""

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
    return [f"{run.folder}: answers not compared: predictions.npz: {run.gaps['predictions.npz']}." for run in runs]


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


def _obstacles(first: Cell, second: Cell) -> list[str]:
    """What keeps two times from being ranked."""
    found = []
    if not same_machine([*first.finished, *second.finished]):
        found.append("different machines, devices or threads")
    fewest = min(len(first.seconds), len(second.seconds))
    if fewest < ENOUGH:
        found.append(f"{count(fewest, 'repetition')}, not {word(ENOUGH)}")
    if not _is_interleaved(first.finished, second.finished):
        found.append("not interleaved")
    ends = [_ends(statistics.bootstrap_median(cell.seconds)) for cell in (first, second)]
    if fewest >= ENOUGH and ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]:
        found.append("the intervals overlap")
    return found


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


def tell(found: Comparison) -> dict[str, Any]:
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
        "published": published.tell(found.cells),
        "notes": [*list(notes)[:40], *([f"… and {len(notes) - 40} more."] if len(notes) > 40 else [])],
    }


def _alone(cells: Sequence[Cell]) -> str:
    if not any(cell.runs for cell in cells):
        return "No run has finished with a test accuracy, so there is nothing to compare."
    return "There is one network, setting and backend for each dataset, so there is nothing to compare."


def _places(cells: Sequence[Cell]) -> int:
    return max((accuracy_decimals(cell.n_test) for cell in cells if cell.runs), default=2)


def _overview(found: Comparison) -> Table | None:
    """One row per network, setting and backend."""
    cells = [cell for cell in found.cells if cell.finished]
    if not cells:
        return None
    shown, places = cells[:MAX_CELLS], _places(cells)
    seconds = [_seconds(cell) for cell in shown]
    columns: list[tuple[str, str, list[str]]] = [("Network", "l", [cell.title for cell in shown])]
    if len({cell.group.dataset for cell in shown}) > 1:
        columns.append(("Dataset", "l", [cell.group.dataset for cell in shown]))
    columns += [
        ("Backend", "l", [cell.backend for cell in shown]),
        ("Seeds", "r", [str(len(cell.runs)) for cell in shown]),
        ("Test accuracy (%), ± over seeds", "r", [plus_minus(cell.over_seeds, places) for cell in shown]),
        ("95 % over test images", "r", [between(_over_images(found, cell), places) for cell in shown]),
        ("Test loss, ± over seeds", "r", [plus_minus(mean_of(cell.losses), 4, 1) for cell in shown]),
        ("Gap at the end (points)", "r", [plus_minus(mean_of(cell.gaps), places) for cell in shown]),
        ("Gap at the best epoch", "r", [plus_minus(mean_of(cell.best_gaps), places) for cell in shown]),
        ("Parameters", "r", [fixed(cell.parameters, 0) for cell in shown]),
        ("Multiply-adds", "r", [fixed(cell.multiply_adds, 0) for cell in shown]),
        ("Epoch (s), median", "r", column([value for value, _ in seconds])),
        ("95 % or range", "r", [text for _, text in seconds]),
        ("Peak memory (MiB)", "r", [fixed(cell.memory / MEBIBYTE if cell.memory else None, 0) for cell in shown]),
    ]
    breaks = {place for place, cell in enumerate(shown) if place and cell.group is not shown[place - 1].group}
    more = (
        f" Not shown, for the page’s size: {len(cells) - MAX_CELLS:,} further rows." if len(cells) > MAX_CELLS else ""
    )
    caption = (
        "Means over seeds with Student’s 95 % interval of the mean: what other seeds would change. Over test images: "
        "the BCa bootstrap’s interval of the same mean, for one seed Wilson’s: what other images would change. The "
        "gap is training minus test accuracy; training accuracy is taken during the epoch, with its dropout and "
        "augmentation, so the gap is rather understated. The best epoch is that of the lowest validation loss. Of "
        f"five times and more the bootstrap’s interval of the median, of fewer the range in brackets.{more}"
    )
    rows = [list(row) for row in zip(*(values for *_, values in columns), strict=True)]
    return Table(caption, [(title, side) for title, side, _ in columns], rows, breaks=breaks)


def _over_images(found: Comparison, cell: Cell) -> Interval | None:
    """The bootstrap's interval; Wilson's for one seed, and where every image was right or wrong with every seed."""
    interval = found.over_images.get(cell)
    if interval is not None or len(cell.runs) == 1:
        return interval or cell.over_images
    return cell.over_images if cell.over_seeds and cell.over_seeds.value in (0.0, 1.0) else None


def _seconds(cell: Cell) -> tuple[float | None, str]:
    """The median epoch, and its interval or range as text."""
    if not cell.seconds:
        return None, MISSING
    found = statistics.bootstrap_median(cell.seconds)
    if found.low is not None and found.high is not None:
        return found.value, " to ".join(column([found.low, found.high]))
    ends = [min(cell.seconds), max(cell.seconds)]
    return found.value, f"({' to '.join(column(ends))})" if len(cell.seconds) > 1 else "n\u00a0=\u00a01"


def _points(found: Pair) -> list[str]:
    """Difference and interval, in points."""
    one = found.difference
    if one is None:
        return [MISSING, MISSING]
    interval = MISSING
    if one.low is not None and one.high is not None:
        interval = minus(f"{100 * one.low:+.2f} to {100 * one.high:+.2f}")
    return [minus(f"{100 * one.value:+.2f}"), interval]


def _p(value: float | None) -> str:
    if value is None:
        return MISSING
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _compared(pair: Pair) -> str:
    """ "5 pairs", "3, unpaired"."""
    if pair.difference is None:
        return MISSING
    n = pair.difference.n
    return f"{n}, unpaired" if not pair.difference.is_paired else f"{n} pair{'s' if n > 1 else ''}"


def _pairs(held: Held) -> dict[str, Any] | None:
    """One table of pairs."""
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
    columns = [("Within", "l"), ("Difference", "l wrap"), ("Seeds", "l"), ("What can be said", "l wide")]
    columns += [("Points", "r"), ("95 % interval", "r"), ("p, Holm", "r"), ("Only first right", "r")]
    columns += [("Only second right", "r"), ("McNemar p, Holm", "r"), ("Same answer (%)", "r"), ("κ", "r")]
    if held.kind != "backends":  # two networks are not meant to answer alike
        columns, rows = columns[:-2], [row[:-2] for row in rows]
    table = Table(_pairs_caption(held), columns, rows, breaks=breaks, marks=marks)
    return {"title": TITLES[held.kind], "table": _without_constant(table, 0)}


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


def _alone_right(pair: Pair) -> list[str]:
    """How many images only one of the two got right."""
    found = pair.mcnemar
    return [f"{found.only_first:,}", f"{found.only_second:,}"] if found else [MISSING, MISSING]


def _pairs_caption(held: Held) -> str:
    pairs = [pair for _, pair in held.rows]
    seeds = list(dict.fromkeys(pair.seed for pair in pairs if pair.seed))
    n = max((pair.tests for pair in pairs), default=0)
    text = (
        "Test accuracy, first minus second, paired by seed where seeds are shared (Student’s t, else Welch’s). The "
        "p values are corrected for this table’s "
        f"{count(n, 'comparison')} (Holm), the intervals are not; what can be said rests on the p values, and on this "
        "test set. "
    )
    if seeds:
        name = f"of seed {seeds[0]}" if len(seeds) == 1 else f"of the first shared seed ({listed(seeds)})"
        text += (
            f"The columns behind are {name}: images that only one of the two got right, and McNemar’s exact test of "
            "these two trained networks."
        )
    if seeds and held.kind == "backends":
        text += " Equal answers and Cohen’s κ are of the same seed."
    if not held.is_all_pairs:
        text += " There are too many pairs for one table: each is held to one of its row’s, chosen before any number."
    if held.left_out:
        text += f" Left out: {count(held.left_out, 'further pair')}."
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
        ("Within", "l"),
        ("Variant", "l wrap"),
        ("Gap (points)", "r"),
        ("without", "r"),
        ("What can be said", "l wide"),
    ]
    columns += [("Points", "r"), ("95 % interval", "r"), ("p, Holm", "r")]
    names = listed(list(dict.fromkeys(contest.name(contest.baseline) for contest, _ in found.gaps)))
    caption = (
        f"Training minus test accuracy at the end, beside {names}, the one without any remedy against overfitting. A "
        "narrower gap is no gain by itself: whether the test accuracy rose stands in the tables of pairs."
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
                ATTRIBUTES[step.attribute], " → ".join(step.values), f"{step.less.title} → {step.more.title}",
                step.more.backend, pair.verdict(), *_points(pair), _ratio(step.less.parameters, step.more.parameters),
                _ratio(step.less.multiply_adds, step.more.multiply_adds),
                _ratio(median(step.less.seconds), median(step.more.seconds)),
            ]
        )  # fmt: skip
    columns = [("What changes", "l"), ("From → to", "l"), ("Networks", "l wrap"), ("Backend", "l")]
    columns += [("What can be said of the accuracy", "l wide"), ("Points", "r"), ("95 % interval", "r")]
    columns += [("Parameters", "r"), ("Multiply-adds", "r"), ("Epoch (s)", "r")]
    caption = (
        "Pairs of networks that differ in one of depth and kernel size alone; a further layer’s own width, and pooling "
        "beside a further convolution, come with it. Points are the change in test accuracy, p corrected for the table "
        "(Holm). Costs are multiplied by these factors; those of the time are a record, not a ranking."
    )
    return _without_constant(Table(caption, columns, rows, breaks=breaks, marks=marks), 3)


def _ratio(less: float | None, more: float | None) -> str:
    return f"×\u00a0{more / less:.2f}" if less and more is not None else MISSING


def _effects_absent(found: Comparison) -> str:
    several = len({(cell.group.network, str(cell.layers)) for cell in found.cells if cell.runs}) > 1
    if found.effects or not several:
        return ""
    return (
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
    more = f" The first {MAX_POINTS} of {n:,} are drawn." if n > MAX_POINTS else ""
    several = " A network has the same parameters in every backend." if _many(cells) else ""
    return {
        "title": title,
        "plots": drawn,
        "caption": (
            "Mean test accuracy over cost; bars are Student’s intervals over seeds. Nothing that was run is both "
            "cheaper and more accurate than a filled marker; times are a record, not a "
            f"ranking. Where names would hide each other, some are left to the table.{several}{more}"
        ),
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
    mean, seeds = f"{plus_minus(best.over_seeds, 2)}\u00a0%", count(len(best.runs), "seed")
    if len(best.runs) < LEAST_SEEDS:
        return TOO_FEW.format(best=best.name, mean=mean, seeds=seeds)
    good = [cell for cell in known if cell is best or not _is_worse(cell, best)]
    cheapest = {}
    for cost, words in PRICES.items():
        priced = [cell for cell in good if _cost_of(cell, cost) is not None]
        if len({_cost_of(cell, cost) for cell in known}) > 1 and priced:
            cheapest[words] = min(priced, key=lambda cell, cost=cost: (_cost_of(cell, cost) or 0.0, -_mean(cell)))  # type: ignore[misc]
    has = listed([f"{cell.name} has {words}" for words, cell in cheapest.items()])
    return BEST_AND_CHEAP.format(best=best.name, mean=mean, seeds=seeds, has=has)


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
            "yes" if (cell.title, cell.backend) in on["seconds"] else "no", fixed(cell.parameters, 0),
            "yes" if (cell.title, cell.backend) in on["parameters"] else "no",
        ]
        for cell in cells
        if cell.over_seeds
    ][:MAX_POINTS]  # fmt: skip
    columns = [
        ("Network", "l"),
        ("Backend", "l"),
        ("Test accuracy (%)", "r"),
        ("Epoch (s)", "r"),
        ("On its front", "l"),
    ]
    columns += [("Parameters", "r"), ("On its front", "l")]
    return Table(f"{title}: the same numbers", columns, rows)


# ------------------------------------------------------------------------------------------------------------- times


def _ranking_table(found: Comparison) -> Table | None:
    if not found.rankings:
        return None
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    for row in found.rankings:
        ratio = f"×\u00a0{row.ratio:.2f}" if row.ratio else MISSING
        said = f"cannot be ranked: {'; '.join(row.reasons)}" if row.reasons else f"{row.first.backend} is faster"
        marks[len(rows), 6] = "good" if not row.reasons else ""
        medians = column([median(row.first.seconds), median(row.second.seconds)])
        rows.append([row.where, row.first.backend, row.second.backend, *medians, ratio, said])
    columns = [
        ("Network", "l"),
        ("Shorter", "l"),
        ("Longer", "l"),
        ("Median epoch (s)", "r"),
        ("of the longer (s)", "r"),
    ]
    columns += [("Ratio", "r"), ("What can be said", "l wide")]
    caption = (
        "Seconds per epoch. Times are ranked where the runs took turns on one machine, at least "
        f"{word(ENOUGH)} times each, and the bootstrap’s 95 % intervals of the medians do not overlap."
    )
    return Table(caption, columns, rows, marks=marks)


def _fairness(cells: Sequence[Cell]) -> list[str]:
    """What the times rest on."""
    runs = [run for cell in cells for run in cell.finished if run.timing]
    known = [run.environment for run in runs if run.environment]
    if not known:
        return []
    machines = dict.fromkeys(f"{one.cpu or 'a CPU without a name'}, {count(one.cores or 0, 'core')}" for one in known)
    threads = dict.fromkeys(str(one.threads.obtained) for one in known if one.threads.obtained is not None)
    versions = dict.fromkeys(f"{name} {text}" for one in known for name, text in sorted(one.versions.items()))
    numbers = [len(cell.seconds) for cell in cells if cell.seconds]
    loads = [one.load[0] for one in known if one.load]
    n = f"{min(numbers)}" if min(numbers) == max(numbers) else f"{min(numbers)} to {max(numbers)}"
    devices = dict.fromkeys(one.device or MISSING for one in known)
    lines = [
        f"Machine: {listed(list(machines)[:4])}; device: {listed(list(devices))}.",
        f"Threads obtained: {listed(list(threads)) or 'not known'}. Each run in a process of its own.",
        f"Versions: {', '.join(list(versions)[:12]) or 'not known'}.",
        f"Times per network and backend: n\u00a0=\u00a0{n}; each is the median over a run’s epochs.",
    ]
    if loads:
        ends = f"{min(loads):.1f} to {max(loads):.1f}"
        lines.append(f"Load average: {ends}; where it is above the threads, other programs took part of the time.")
    return lines


def _start_table(cells: Sequence[Cell]) -> Table | None:
    """Seconds before the first step, per backend."""
    rows = []
    for backend in plots.backend_order(cell.backend for cell in cells):
        runs = [run for cell in cells if cell.backend == backend for run in cell.finished if run.timing]
        clocks = [start_seconds(runs, (clock,)) for clock in START]
        if any(clocks):
            total = start_seconds(runs, START)
            ends = f"{' to '.join(column([min(total), max(total)]))}" if len(total) > 1 else MISSING
            medians = column([*(median(values) for values in clocks), median(total)])
            rows.append([backend, str(len(runs)), *medians, ends])
    titles = [*(f"{clock.capitalize()} (s)" for clock in START), "Together (s)", "Range"]
    columns = [("Backend", "l"), ("Runs", "r"), *((title, "r") for title in titles)]
    caption = "Start-up: medians over all finished runs of the seconds before the first step. A record, not a ranking."
    return Table(caption, columns, rows) if rows else None


def start_seconds(runs: Sequence[Facts], clocks: Sequence[str]) -> list[float]:
    """The sum of these clocks, of each run that has them all."""
    rows = [[run.timing.seconds.get(clock) for clock in clocks] for run in runs if run.timing]
    known = [[value for value in row if value is not None and is_number(value) and value >= 0] for row in rows]
    return [sum(row) for row in known if len(row) == len(clocks)]
