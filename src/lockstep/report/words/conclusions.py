"""What follows from the comparisons: a sentence for each thing that the runs show, and none for what they do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from lockstep.language import _, n_
from lockstep.report.compare.cells import Cell, mean_of, median, plus_minus
from lockstep.report.compare.comparison import Comparison, Ranking
from lockstep.report.compare.pairs import Contest, Held, Pair, fitted_badly, p_value, seeds_would
from lockstep.report.facts import Facts
from lockstep.report.sections import literature
from lockstep.report.sections.rankings import START, start_seconds
from lockstep.report.words.headlines import Headline, headlines
from lockstep.report.words.quantities import (
    accuracy_decimals,
    count,
    fixed,
    images_of,
    listed,
    percent,
    points,
    seconds,
    seeds_of,
    span,
    word,
)

MAX_NAMED = 4  # cells, pairs or contests that one conclusion names
MEBIBYTE = 2**20


def conclusions(found: Comparison) -> list[str]:
    """A sentence or two for each kind of comparison that these runs allow."""
    return [*of_accuracy(found), *of_costs(found)]


def findings(found: Comparison) -> list[str]:
    """The conclusions, with what several contests alike came to said once."""
    return [*of_accuracy(found, contests_together), *of_costs(found)]


def of_accuracy(found: Comparison, tell: Callable[[Comparison, str], list[str]] | None = None) -> list[str]:
    """What may be concluded from predictions alone, whatever the machine was busy with."""
    tell = tell or contests
    lines = [*tell(found, "networks"), *tell(found, "settings"), _kinds(found.held["networks"])]
    lines += [backends(found), *gaps(found), effects(found), _published(found.cells)]
    return [line for line in lines if line]


def of_costs(found: Comparison) -> list[str]:
    """What may be concluded of time and memory."""
    return [line for line in (_ranked(found.rankings), _memory(found.cells), _start(found.cells)) if line]


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = len(names) - MAX_NAMED
    others = [count(more, "{count} other", "{count} others")] if more > 0 else []
    return listed([*names[:MAX_NAMED], *others])


def _by_contest(rows: Sequence[tuple[Contest, Pair]]) -> list[tuple[Contest, list[Pair]]]:
    found: dict[int, tuple[Contest, list[Pair]]] = {}
    for contest, pair in rows:
        found.setdefault(id(contest), (contest, []))[1].append(pair)
    return list(found.values())


def _where(contest: Contest) -> str:
    return f" ({contest.where})" if contest.where else ""


def contests(found: Comparison, kind: str) -> list[str]:
    """Which network or setting is best, and what each level supports of that."""
    return [_headline(one) for one in headlines(found, kind)]


def contests_together(found: Comparison, kind: str) -> list[str]:
    """As `contests`; of those that say the same, as that of every backend may, one sentence names where."""
    same: dict[str, list[Headline]] = {}
    for one in headlines(found, kind):
        same.setdefault(_headline(_held(one, "")), []).append(one)
    return [_headline(_held(rows[0], listed([one.contest.where for one in rows]))) for rows in same.values()]


def _held(one: Headline, where: str) -> Headline:
    """A headline that is said to be of somewhere else."""
    return dataclasses.replace(one, contest=dataclasses.replace(one.contest, where=where))


def _headline(one: Headline) -> str:
    best = one.best
    said = {
        "title": _("Networks") if one.kind == "networks" else _("Settings"),
        "best": one.contest.name(best),
        "where": f", {one.contest.where}" if one.contest.where else "",
        "mean": f"{plus_minus(best.over_seeds, accuracy_decimals(best.n_test))}\u00a0%",
        "seeds": seeds_of(len(best.runs)),
    }
    if one.level_with:
        same = some([one.contest.name(cell) for cell in one.level_with])
        said["best"] = _("{best} (level with {others})", best=said["best"], others=same)
    rest = "".join(f"; {part}" for part in _levels(one))
    if one.is_of_one_seed:
        return _("{title}{where}: {best} has the highest test accuracy ({mean}){rest}.", rest=rest, **said)
    return _("{title}{where}: {best} has the highest mean test accuracy ({mean}, {seeds}){rest}.", rest=rest, **said)


def _levels(one: Headline) -> list[str]:
    """What each level supports: shown over seeds, of the trained networks at hand alone, or open."""
    parts = []
    if one.shown:
        parts.append(_("it is shown to be higher than {lower}", lower=some(one.others(one.shown))))
    parts += [_right_more_often(one, one.more_right)] if one.more_right else []
    parts += [_right_less_often(one, one.less_right)] if one.less_right else []
    if one.is_of_one_seed:
        parts += [] if parts else [_("with one seed it cannot be told whether by chance")]
    elif one.still_open:
        parts.append(_("no difference from {open} could be shown", open=some(one.others(one.still_open))))
    return parts + _underfitted([(one.contest.name(cell), cell.underfitted or 0.0) for cell in one.underfitted])


def _underfitted(rows: Sequence[tuple[str, float]]) -> list[str]:
    """Which ones are underfitted, in one part of a sentence."""
    if len(rows) < 2:
        return [fitted_badly(name, fit) for name, fit in rows]
    names = some([f"{name} ({points(fit, 1)})" for name, fit in rows])
    return [_("underfitted, with so many of their own training images right, are {names}", names=names)]


def _right_more_often(one: Headline, pairs: Sequence[Pair]) -> str:
    text = _(
        "of these trained networks it is right more often than {others} on these {images} (seed {seed}, McNemar "
        "p\u00a0{p})",
        **_of_images(one, pairs),
    )
    return text + _of_other_seeds(pairs)


def _right_less_often(one: Headline, pairs: Sequence[Pair]) -> str:
    text = _(
        "of these trained networks it is right less often than {others} on these {images} (seed {seed}, McNemar "
        "p\u00a0{p})",
        **_of_images(one, pairs),
    )
    return text + _of_other_seeds(pairs)


def _of_images(one: Headline, pairs: Sequence[Pair]) -> dict[str, str]:
    return {
        "others": some(one.others(pairs)),
        "images": images_of(one.best.n_test or 0),
        "seed": listed(list(dict.fromkeys(pair.seed for pair in pairs))),
        "p": p_value(max(pair.mcnemar_p or 0.0 for pair in pairs)),
    }


def _of_other_seeds(pairs: Sequence[Pair]) -> str:
    """What these seeds cannot tell of others."""
    n = min(pair.difference.n for pair in pairs if pair.difference)
    if n < 2:
        return _(", and of other seeds one cannot tell")
    if not any(pair.difference and pair.difference.sd for pair in pairs):
        return _(", and with every seed by as much, without a spread from which chance could be judged")
    needed = [pair.seeds_needed for pair in pairs]
    most = None if None in needed else max(value for value in needed if value is not None)
    return _(", and of other seeds {n} cannot tell, {needed}", n=word(n), needed=seeds_would(most))


def _kinds(held: Held) -> str:
    """Networks with convolutions against those without."""
    rows = [pair for _, pair in held.rows if _has_convolution(pair.first) != _has_convolution(pair.second)]
    if not rows:
        return ""
    shown = [pair for pair in rows if pair.is_shown]
    won = sum(_has_convolution(pair.first if pair.higher == pair.what[0] else pair.second) for pair in shown)
    lost, open_ = len(shown) - won, len(rows) - len(shown)
    return _(
        "Convolutional against fully connected networks: of {n}, {won}, {lost}{rest}.",
        n=_comparisons(len(rows)),
        won=n_(
            "{won} shows the convolutional one higher",
            "{won} show the convolutional one higher",
            max(won, 1),
            won=word_or_none(won),
        ),
        lost=n_("{lost} shows it lower", "{lost} show it lower", max(lost, 1), lost=word_or_none(lost)),
        rest=_("; in {n} it cannot be told", n=word(open_)) if open_ else "",
    )


def word_or_none(n: int) -> str:
    return word(n) if n else _("none")


def _comparisons(n: int) -> str:
    return count(n, "{count} comparison", "{count} comparisons")


def _has_convolution(cell: Cell) -> bool:
    return any(row["kind"] == "conv2d" for row in cell.layers)


def backends(found: Comparison) -> str:
    """Whether backends were shown to reach different accuracies."""
    pairs = [pair for _, pair in found.held["backends"].rows if pair.difference]
    if not pairs:
        return ""
    told = [pair for pair in pairs if pair.difference and pair.difference.n > 1]
    if not told:
        same = [pair.same for pair in pairs if pair.same is not None]
        if not same:
            return _("Backends: one seed cannot tell whether they differ in test accuracy.")
        low, high = percent(min(same), 1), percent(max(same), 1)
        return _(
            "Backends: one seed cannot tell whether they differ in test accuracy; the trained networks gave the same "
            "answer to {share}\u00a0% of the test images.",
            share=low if low == high else span(low, high),
        )
    n, shown = _comparisons(len(told)), [pair for pair in told if pair.is_shown]
    if not shown:
        seeds = seeds_of(min(pair.difference.n for pair in told if pair.difference))
        differ = [f"{pair.first.title}: {pair.of_images()}" for pair in told if pair.is_shown_of_images]
        return _(
            "Backends: no difference in test accuracy between them could be shown in {n} with {seeds}{differ}.",
            n=n,
            seeds=seeds if len(told) == 1 else _("at least {seeds}", seeds=seeds),
            differ=_("; but {which}", which=some(differ)) if differ else "",
        )
    return n_(
        "Backends: {k} of {all} shows a difference in test accuracy: {which}.",
        "Backends: {k} of {all} show a difference in test accuracy: {which}.",
        len(shown),
        k=word(len(shown)),
        all=n,
        which=some([f"{pair.first.title}: {pair.verdict()}" for pair in shown]),
    )


def _ranked(rankings: Sequence[Ranking]) -> str:
    """Who is faster, where that may be said at all."""
    if not rankings:
        return ""
    ranked = [row for row in rankings if not row.reasons]
    if ranked:
        which = [
            _(
                "{first} is faster than {second} ({where})",
                first=row.first.backend,
                second=row.second.backend,
                where=row.where,
            )
            for row in ranked
        ]
        left = len(rankings) - len(ranked)
        rest = count(left, "; {count} further pair cannot be ranked", "; {count} further pairs cannot be ranked")
        return _("Time: {which}{rest}.", which=some(which), rest=rest if left else "")
    medians = []
    for where in list(dict.fromkeys(row.where for row in rankings))[:MAX_NAMED]:
        cells = [cell for row in rankings if row.where == where for cell in (row.first, row.second)]
        times = {cell.backend: median(cell.seconds) or 0.0 for cell in cells}
        medians.append(epoch_span(where, times, *ends(times)))
    reasons = list(dict.fromkeys(reason for row in rankings for reason in row.reasons))
    return _(
        "Time: {medians}; the backends cannot be ranked ({reasons}).",
        medians=listed(medians),
        reasons="; ".join(reasons[:MAX_NAMED]),
    )


def ends(values: Mapping[str, float]) -> tuple[str, str]:
    """The names of the lowest and the highest value."""
    return min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])


def _of_backends(cells: Sequence[Cell]) -> dict[str, list[Facts]]:
    found: dict[str, list[Facts]] = {}
    for cell in cells:
        found.setdefault(cell.backend, []).extend(run for run in cell.finished if run.timing)
    return {name: runs for name, runs in found.items() if runs}


def _memory(cells: Sequence[Cell]) -> str:
    peaks = {
        name: [float(run.timing.peak_memory_bytes) for run in runs if run.timing and run.timing.peak_memory_bytes]
        for name, runs in _of_backends(cells).items()
    }
    middle = {name: value for name, values in peaks.items() if (value := median(values)) is not None}
    if len(middle) < 2:
        return ""
    least, most = ends(middle)
    low, high = (_("{n}\u00a0MiB", n=fixed(middle[name] / MEBIBYTE, 0)) for name in (least, most))
    if low == high:
        return _("Memory: the median peak was {low}; what a framework brings along is in it.", low=low)
    return _(
        "Memory: the median peak was from {low} ({least}) to {high} ({most}); what a framework brings along is in it.",
        low=low,
        least=least,
        high=high,
        most=most,
    )


def _start(cells: Sequence[Cell]) -> str:
    taken = {name: start_seconds(runs, START) for name, runs in _of_backends(cells).items()}
    middle = {name: value for name, values in taken.items() if (value := median(values)) is not None}
    if len(middle) < 2:
        return ""
    least, most = ends(middle)
    n = min(len(values) for values in taken.values() if values)
    return count(
        n,
        "Start-up: import, build and compile took together from {low} ({least}) to {high} ({most}), medians of {count} "
        "run or more.",
        "Start-up: import, build and compile took together from {low} ({least}) to {high} ({most}), medians of {count} "
        "runs or more.",
        low=seconds(middle[least]),
        least=least,
        high=seconds(middle[most]),
        most=most,
    )


def gaps(found: Comparison) -> list[str]:
    """Which remedy narrowed the gap most, and what became of the test accuracy."""
    lines = []
    for contest, pairs in _by_contest(found.gaps)[:MAX_NAMED]:
        where = _where(contest)
        if not any(pair.difference for pair in pairs):
            lines.append(
                _(
                    "Overfitting: the gap between training and test accuracy is not known like with like{where}: these "
                    "runs did not evaluate their training images as they did test images.",
                    where=where,
                )
            )
            continue
        low = [pair for pair in pairs if pair.first.underfitted is not None]
        narrower = [
            pair
            for pair in pairs
            if pair.is_shown and pair.difference and pair.difference.value < 0 and pair not in low
        ]
        unfit = "".join(
            f"; {part}" for part in _underfitted([(pair.what[0], pair.first.underfitted or 0.0) for pair in low])
        )
        if not narrower:
            numbers = [pair.difference.n for pair in pairs if pair.difference]
            lines.append(
                _(
                    "Overfitting: no variant could be shown to narrow the gap between training and test accuracy"
                    "{where} ({seeds}){unfit}.",
                    where=where,
                    seeds=seeds_of(min(numbers)) if numbers else _("no runs"),
                    unfit=unfit,
                )
            )
            continue
        best = min(narrower, key=lambda pair: pair.difference.value if pair.difference else 0.0)
        before, after = (mean_of(cell.gaps) for cell in (best.second, best.first))
        lines.append(
            _(
                "Overfitting: {variant} narrowed the gap between training and test accuracy{where} most, from {before} "
                "to {after} points ({size}, {seeds}); of its test accuracy: {accuracy}{unfit}.",
                variant=best.what[0],
                where=where,
                before=plus_minus(before, 2),
                after=plus_minus(after, 2),
                size=plus_minus(best.difference, 2).replace("-", "−"),
                seeds=seeds_of(best.difference.n if best.difference else 0),
                accuracy=_verdict_of(found, best),
                unfit=unfit,
            )
        )
    return lines


def _verdict_of(found: Comparison, pair: Pair) -> str:
    """What the tables of pairs say of the accuracies of the same two cells."""
    rows = [row for kind in ("networks", "settings") for _, row in found.held[kind].rows]
    same = [row for row in rows if {row.first, row.second} == {pair.first, pair.second}]
    return same[0].verdict() if same else _("it was not compared")


def effects(found: Comparison) -> str:
    if not found.effects:
        return ""
    shown = [effect for effect in found.effects if effect.pair.is_shown]
    which = [f"{effect.step.less.title} → {effect.step.more.title}: {effect.pair.verdict()}" for effect in shown]
    return n_(
        "Depth and kernel size: of {pairs} that differ in one of them alone, {k} shows a difference in test accuracy"
        "{which}.",
        "Depth and kernel size: of {pairs} that differ in one of them alone, {k} show a difference in test accuracy"
        "{which}.",
        max(len(shown), 1),
        pairs=count(len(found.effects), "{count} pair of networks", "{count} pairs of networks"),
        k=word_or_none(len(shown)),
        which=f": {some(which)}" if which else "",
    )


def _published(cells: Sequence[Cell]) -> str:
    """Results that no correct training should give."""
    rows = [(cell, literature.judge(cell)) for cell in cells if cell.runs]
    told = [
        _("{name} is {verdict}", name=cell.name, verdict=_(said))
        for cell, said in rows
        if said in (literature.LOWER, literature.TOO_GOOD)
    ]
    return _("Beside published results: {which}.", which=some(told)) if told else ""


def epoch_span(title: str, times: Mapping[str, float], low: str, high: str) -> str:
    if seconds(times[low]) == seconds(times[high]):
        return _("one epoch of {title} took {time} with each backend", title=title, time=seconds(times[low]))
    return _(
        "one epoch of {title} took from {shortest} ({low}) to {longest} ({high})",
        title=title,
        shortest=seconds(times[low]),
        low=low,
        longest=seconds(times[high]),
        high=high,
    )
