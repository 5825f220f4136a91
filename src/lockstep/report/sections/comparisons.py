"""The section "Comparisons": what differs, by how much, how surely, and what it costs.

`compare` looks at the runs once and keeps what it found as plain records; `tell` lays it out in tables and figures, and
`answer` makes sentences of it. Both say less where there are fewer seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep import uncertainty
from lockstep.language import _, later, n_, number
from lockstep.report.compare.cells import (
    Cell,
    between,
    mean_of,
    median,
    minus,
    plus_minus,
)
from lockstep.report.compare.comparison import MAX_CELLS, Comparison
from lockstep.report.compare.effects import ATTRIBUTES
from lockstep.report.compare.pairs import (
    LOWER_GAP,
    Contest,
    Held,
    Pair,
)
from lockstep.report.sections import fronts, literature
from lockstep.report.sections.rankings import fairness, ranking_table, start_table
from lockstep.report.table import Table
from lockstep.report.words.quantities import (
    MISSING,
    accuracy_decimals,
    column,
    count,
    fixed,
    listed,
    percent,
    span,
    whole,
)
from lockstep.uncertainty import Interval

MEBIBYTE = 2**20


TITLES = {"networks": later("Networks"), "settings": later("Settings"), "backends": later("Backends")}


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
        "fronts": fronts.section(found.cells),
        "rankings": ranking_table(found),
        "fairness": fairness(found.cells),
        "start": start_table(found.cells),
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


def tests_caption(n: int) -> str:
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
    text = tests_caption(max((pair.tests for pair in pairs), default=0)) + " "
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
