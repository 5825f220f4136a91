"""What the runs say, in sentences: generated from the numbers, and never stronger than the number of seeds allows.

`answer` is the page's first paragraph, short enough to be read: what went wrong, then what the study asked, then what
is left of accuracy and time. `conclusions` says of every kind of comparison that the runs allow what came of it, and
stands above its tables. A sentence never says less than its row either: where other seeds are open, what holds of the
trained networks at hand is said as that.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from lockstep.language import _, n_
from lockstep.report.compare.cells import Cell, mean_of, median, minus, plus_minus
from lockstep.report.compare.groups import Group, accuracy, epoch_seconds, n_test, same_machine
from lockstep.report.compare.pairs import Contest, Held, Pair, fitted_badly, p_value, seeds_would
from lockstep.report.facts import Facts
from lockstep.report.sections import literature
from lockstep.report.sections.comparisons import START, Comparison, Ranking, start_seconds, took_turns
from lockstep.report.words import question
from lockstep.report.words.headlines import Headline, headlines
from lockstep.report.words.quantities import (
    MISSING,
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
    whole,
    word,
)

TOLD_ONE_BY_ONE = 3  # so many groups get a sentence of their own; more are summed up
MAX_SENTENCES = 6  # of the first paragraph
MANY_SEEDS = 10  # from which on a test between backends has some power
MAX_NAMED = 4  # cells, pairs or contests that one conclusion names
MEBIBYTE = 2**20


def answer(
    groups: Sequence[Group], found: Comparison | None = None, asked_for: str = "", proven: tuple[str, int] | None = None
) -> str:
    """One paragraph: what diverged, what the question `asked_for`, accuracy and time, and how far that reaches.

    `proven` is the verdict of a proof of these runs and its number of steps.
    """
    told = [found for found in groups if any(accuracy(run) is not None for run in found.finished)]
    failed = [line for line in [_diverged(groups)] if line]
    if not told:
        return " ".join([*failed, _("No run has finished with a test accuracy, so there is nothing to compare yet.")])
    own = _asked(told, found, asked_for, proven) if found else []
    best = [line for kind in ("networks", "settings") for line in _contests(found, kind)][:1] if found else []
    if len(told) <= TOLD_ONE_BY_ONE:
        each = [_accuracies(group) for group in told if not own or len(group.backends) > 1]
        sentences = [*own, *each, *best, _times(told)]
    else:
        sentences = [*own, *_summary(told), *best]
    sentences = list(dict.fromkeys(filter(None, sentences)))[: MAX_SENTENCES - 1]
    is_said = found is not None and _backends(found) in sentences
    return " ".join([*failed, *sentences, *filter(None, [_reach(told, is_said)])])


def _diverged(groups: Sequence[Group]) -> str:
    """The trainings whose numbers are no longer finite, which nothing below counts."""
    lost = [(found, run) for found in groups for run in found.runs if run.is_diverged]
    if not lost:
        return ""
    names = [f"{found.label} ({run.backend}, {seed_of(run)})" for found, run in lost]
    n = sum(run.is_finished for found in groups for run in found.runs)
    return n_(
        "{count} of {all} trainings diverged, its numbers are no longer finite: {names}; it is in no mean, no best "
        "and no comparison below.",
        "{count} of {all} trainings diverged, their numbers are no longer finite: {names}; they are in no mean, no "
        "best and no comparison below.",
        len(lost),
        count=word(len(lost)).capitalize(),
        all=whole(n),
        names=_some(names),
    )


def seed_of(run: Facts) -> str:
    """ "seed 3"."""
    return _("seed {seed}", seed=run.seed or MISSING)


def _asked(
    told: Sequence[Group], found: Comparison, asked_for: str, proven: tuple[str, int] | None = None
) -> list[str]:
    """What the runs say to the study's own question, in its order; nothing where it asks for what they do not have."""
    answers: dict[str, Callable[[], list[str]]] = {
        "gap": lambda: _gaps(found) or [_gap_sizes(found.cells)],
        "structure": lambda: [_effects(found)],
        "settings": lambda: _contests(found, "settings") or _contests(found, "networks"),
        "backends": lambda: (
            [_proven(proven), *(_accuracies(one) for one in told[:TOLD_ONE_BY_ONE]), _backends(found)]
            if found.held["backends"].rows
            else []
        ),
        "networks": lambda: _contests(found, "networks"),
        "cost": lambda: [_times(told) if len(told) <= TOLD_ONE_BY_ONE else _cheapest(found)],
    }
    aim = question.target(asked_for)
    reached = [_reached(found.cells, aim)] if aim is not None else []
    return [*reached, *(line for name in question.asked(asked_for) for line in answers[name]() if line)]


def _proven(proven: tuple[str, int] | None) -> str:
    """Whether the backends take the same steps, which no accuracy tells."""
    if proven is None:
        return _("Whether the backends take the same steps is not proven here: lockstep prove does that.")
    verdict, steps = proven
    return n_(
        "Whether the backends take the same steps was tried for the first {n} step: {verdict}.",
        "Whether the backends take the same steps was tried for the first {n} steps: {verdict}.",
        steps,
        verdict=_(verdict),
    )


def _reached(cells: Sequence[Cell], aim: float) -> str:
    """Whether the accuracy that the question names was reached, by which seeds and with how long a training."""
    means = {cell: cell.over_seeds.value for cell in cells if cell.over_seeds}
    if not means:
        return ""
    best = max(means, key=lambda cell: means[cell])
    hits = [value for value in best.accuracies.values() if value >= aim]
    places = max(accuracy_decimals(best.n_test), len(f"{100 * aim:g}".partition(".")[2]))
    said = {
        "aim": points(aim, len(f"{100 * aim:g}".partition(".")[2])),
        "best": best.name,
        "mean": f"{plus_minus(best.over_seeds, places)}\u00a0%",
        "hits": _word(len(hits)),
        "seeds": seeds_of(len(best.accuracies)),
        "time": _training_time(best),
    }
    if means[best] >= aim:
        return _(
            "A mean test accuracy of {aim} is reached by {best}: {mean}, {hits} of {seeds} reach it by "
            "themselves{time}.",
            **said,
        )
    return _(
        "A mean test accuracy of {aim} is not reached: the highest is that of {best}, {mean}; {hits} of {seeds} reach "
        "it by themselves{time}.",
        **said,
    )


def _training_time(cell: Cell) -> str:
    taken = [run.timing.seconds.get("train") for run in cell.finished if run.timing]
    middle = median([value for value in taken if value is not None])
    return "" if middle is None else _(", with a median of {time} of training", time=seconds(middle))


def _gap_sizes(cells: Sequence[Cell]) -> str:
    """The smallest and the largest gap, where no network without a remedy stands beside those with one."""
    sizes = {cell.name: found.value for cell in cells if (found := mean_of(cell.gaps))}
    if not sizes:
        return ""
    low, high = _ends(sizes)
    return _(
        "The gap between training and test accuracy at the end is from {smallest} points ({low}) to {largest} points "
        "({high}).",
        smallest=minus(fixed(100 * sizes[low], 2)),
        low=low,
        largest=minus(fixed(100 * sizes[high], 2)),
        high=high,
    )


def _cheapest(found: Comparison) -> str:
    """The shortest and the longest median epoch of all, where there are too many for each to be told."""
    times = {cell.name: value for cell in found.cells if (value := median(cell.seconds)) is not None}
    if len(times) < 2:
        return ""
    low, high = _ends(times)
    return _(
        "One epoch took from {shortest} ({low}) to {longest} ({high}), a record and not a ranking.",
        shortest=seconds(times[low]),
        low=low,
        longest=seconds(times[high]),
        high=high,
    )


def _who(found: Group, runs: Sequence[Facts]) -> str:
    """ "All four backends", "Both backends", "numpy and jax (two of four backends)"."""
    backends, told = found.backends, [name for name in found.backends if any(run.backend == name for run in runs)]
    if len(told) < len(backends):
        return count(
            len(backends),
            "{names} ({n} of {count} backend)",
            "{names} ({n} of {count} backends)",
            names=listed(told),
            n=word(len(told)),
        )
    if len(told) == 1:
        return told[0]
    return _("Both backends") if len(told) == 2 else count(len(told), "All {count} backend", "All {count} backends")


def _accuracies(found: Group) -> str:
    runs = [run for run in found.finished if accuracy(run) is not None]
    values = [value for run in runs if (value := accuracy(run)) is not None]
    n = n_test(runs[0])
    places = accuracy_decimals(n)
    low, high = points(min(values), places), points(max(values), places)
    images = n_(" of {count} test images", " of {count} test images", n, count=whole(n)) if n else ""
    title = found.title
    if len(found.seeds) > 1:
        title = _("{title} with {seeds}", title=title, seeds=seeds_of(len(found.seeds)))
    said = {"who": _who(found, runs), "title": title}
    if len(runs) == 1 or (low == high and min(values) < max(values)):
        return _("{who} trained {title} to a test accuracy of {low}{images}.", low=low, images=images, **said)
    if min(values) == max(values):
        return _("{who} trained {title} to the same test accuracy, {low}{images}.", low=low, images=images, **said)
    pictures = images_of(round((max(values) - min(values)) * n)) if n else ""
    return _(
        "{who} trained {title} to a test accuracy between {low} and {high}, a spread of {spread} points"
        "{pictures}{means}.",
        low=low,
        high=high,
        spread=fixed(round(100 * max(values), places) - round(100 * min(values), places), places),
        pictures=_(" ({images} of {n})", images=pictures, n=whole(n)) if n else "",
        means=_means(found, places) if len(found.seeds) > 1 else "",
        **said,
    )


def _means(found: Group, places: int) -> str:
    """The backends' means over seeds: how far they lie apart."""
    means = [
        statistics.fmean(values)
        for backend in found.backends
        if (values := [value for run in found.of(backend) if (value := accuracy(run)) is not None])
    ]
    if len(means) < 2:
        return ""
    low, high = points(min(means), places), points(max(means), places)
    if low == high:
        return _("; each backend’s mean over seeds is {low}", low=low)
    return _("; the backends’ means over seeds lie between {low} and {high}", low=low, high=high)


def _times(groups: Sequence[Group]) -> str:
    """Shortest and longest epochs, with everything that keeps this from being a ranking."""
    runs = [run for found in groups for run in found.finished if epoch_seconds(run) is not None]
    parts = [part for found in groups if (part := _epoch_times(found))]
    if not parts:
        return ""
    if not same_machine(runs):
        return _("The runs come from different machines or thread counts, so their times are not compared.")
    fewest = min(len(runs) for found in groups for backend in found.backends if (runs := found.of(backend)))
    told = listed(parts)
    told = f"{told[0].upper()}{told[1:]}"
    order = "" if took_turns(groups) else _(", order not interleaved")
    if fewest <= 1:
        return _("{told}: on this machine, in this run, n\u00a0=\u00a01{order}: not a ranking.", told=told, order=order)
    return _(
        "{told}: on this machine, in these runs, n\u00a0=\u00a0{n} per backend{order}: not a ranking.",
        told=told,
        n=fewest,
        order=order,
    )


def _epoch_times(found: Group) -> str:
    """ "One epoch of mlp took from 0.400 s (numpy) to 1.60 s (jax)"."""
    times = {
        backend: statistics.median(values)
        for backend in found.backends
        if (values := [value for run in found.of(backend) if (value := epoch_seconds(run)) is not None])
    }
    if not times:
        return ""
    low, high = min(times, key=lambda name: times[name]), max(times, key=lambda name: times[name])
    if len(times) == 1:
        return _("one epoch of {title} took {time}", title=found.title, time=seconds(times[low]))
    return _epoch_span(found.title, times, low, high)


def _epoch_span(title: str, times: Mapping[str, float], low: str, high: str) -> str:
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


def _best_of_combinations(low: str, worst: str, high: str, best: str) -> str:
    if low == high:
        return _("The best test accuracy of every combination is {low}.", low=low)
    return _(
        "The best test accuracy of a combination reached from {low} ({worst}) to {high} ({best}).",
        low=low,
        worst=worst,
        high=high,
        best=best,
    )


def _summary(groups: Sequence[Group]) -> list[str]:
    spreads, best = [], []
    for found in groups:
        values = [value for run in found.finished if (value := accuracy(run)) is not None]
        best.append((max(values), found))
        spreads += [100 * (max(values) - min(values))] if len(found.backends) > 1 else []
    places = accuracy_decimals(n_test(groups[0].finished[0]))
    high, low = max(best, key=lambda row: row[0]), min(best, key=lambda row: row[0])
    sentences = [
        count(
            len(groups),
            "The runs cover {count} combination of network, dataset and setting.",
            "The runs cover {count} combinations of network, dataset and setting.",
        ),
        _best_of_combinations(points(low[0], places), low[1].title, points(high[0], places), high[1].title),
    ]
    if spreads:
        sentences.append(
            _(
                "Within a combination, the runs' accuracies lie at most {most} points apart (median {median}).",
                most=fixed(max(spreads), places),
                median=fixed(statistics.median(spreads), places),
            )
        )
    return sentences


def _reach(groups: Sequence[Group], is_said: bool) -> str:
    """How far these sentences reach; whether it `is_said` before what one seed can tell of the backends."""
    if not any(len(found.backends) > 1 for found in groups):
        return ""
    fewest = min(len(found.seeds) for found in groups)
    if fewest == 1 and is_said:
        return _("Equal accuracies do not prove equal arithmetic.")
    if fewest == 1:
        return _(
            "One seed cannot tell whether a difference in accuracy comes from the backend or from chance, and equal "
            "accuracies do not prove equal arithmetic."
        )
    if fewest >= MANY_SEEDS:
        return _(
            "Whether a difference in accuracy comes from the backend or from chance is tested below; equal accuracies "
            "do not prove equal arithmetic."
        )
    return n_(
        "{count} seeds can hardly tell whether a difference in accuracy comes from the backend or from chance, and "
        "equal accuracies do not prove equal arithmetic.",
        "{count} seeds can hardly tell whether a difference in accuracy comes from the backend or from chance, and "
        "equal accuracies do not prove equal arithmetic.",
        fewest,
        count=word(fewest).capitalize(),
    )


# ------------------------------------------------------------------------------------------------------ conclusions


def conclusions(found: Comparison) -> list[str]:
    """A sentence or two for each kind of comparison that these runs allow."""
    return [*of_accuracy(found), *of_costs(found)]


def of_accuracy(found: Comparison) -> list[str]:
    """What may be concluded from predictions alone, whatever the machine was busy with."""
    lines = [*_contests(found, "networks"), *_contests(found, "settings"), _kinds(found.held["networks"])]
    lines += [_backends(found), *_gaps(found), _effects(found), _published(found.cells)]
    return [line for line in lines if line]


def of_costs(found: Comparison) -> list[str]:
    """What may be concluded of time and memory."""
    return [line for line in (_ranked(found.rankings), _memory(found.cells), _start(found.cells)) if line]


def _some(names: Sequence[str]) -> str:
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


def _contests(found: Comparison, kind: str) -> list[str]:
    """Which network or setting is best, and what each level supports of that."""
    return [_headline(one) for one in headlines(found, kind)]


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
        same = _some([one.contest.name(cell) for cell in one.level_with])
        said["best"] = _("{best} (level with {others})", best=said["best"], others=same)
    rest = "".join(f"; {part}" for part in _levels(one))
    if one.is_of_one_seed:
        return _("{title}{where}: {best} has the highest test accuracy ({mean}){rest}.", rest=rest, **said)
    return _("{title}{where}: {best} has the highest mean test accuracy ({mean}, {seeds}){rest}.", rest=rest, **said)


def _levels(one: Headline) -> list[str]:
    """What each level supports: shown over seeds, of the trained networks at hand alone, or open."""
    parts = []
    if one.shown:
        parts.append(_("it is shown to be higher than {lower}", lower=_some(one.others(one.shown))))
    parts += [_right_more_often(one, one.more_right)] if one.more_right else []
    parts += [_right_less_often(one, one.less_right)] if one.less_right else []
    if one.is_of_one_seed:
        parts += [] if parts else [_("with one seed it cannot be told whether by chance")]
    elif one.still_open:
        parts.append(_("no difference from {open} could be shown", open=_some(one.others(one.still_open))))
    return parts + _underfitted([(one.contest.name(cell), cell.underfitted or 0.0) for cell in one.underfitted])


def _underfitted(rows: Sequence[tuple[str, float]]) -> list[str]:
    """Which ones are underfitted, in one part of a sentence."""
    if len(rows) < 2:
        return [fitted_badly(name, fit) for name, fit in rows]
    names = _some([f"{name} ({points(fit, 1)})" for name, fit in rows])
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
        "others": _some(one.others(pairs)),
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
            won=_word(won),
        ),
        lost=n_("{lost} shows it lower", "{lost} show it lower", max(lost, 1), lost=_word(lost)),
        rest=_("; in {n} it cannot be told", n=word(open_)) if open_ else "",
    )


def _word(n: int) -> str:
    return word(n) if n else _("none")


def _comparisons(n: int) -> str:
    return count(n, "{count} comparison", "{count} comparisons")


def _has_convolution(cell: Cell) -> bool:
    return any(row["kind"] == "conv2d" for row in cell.layers)


def _backends(found: Comparison) -> str:
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
            differ=_("; but {which}", which=_some(differ)) if differ else "",
        )
    return n_(
        "Backends: {k} of {all} shows a difference in test accuracy: {which}.",
        "Backends: {k} of {all} show a difference in test accuracy: {which}.",
        len(shown),
        k=word(len(shown)),
        all=n,
        which=_some([f"{pair.first.title}: {pair.verdict()}" for pair in shown]),
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
        return _("Time: {which}{rest}.", which=_some(which), rest=rest if left else "")
    medians = []
    for where in list(dict.fromkeys(row.where for row in rankings))[:MAX_NAMED]:
        cells = [cell for row in rankings if row.where == where for cell in (row.first, row.second)]
        times = {cell.backend: median(cell.seconds) or 0.0 for cell in cells}
        medians.append(_epoch_span(where, times, *_ends(times)))
    reasons = list(dict.fromkeys(reason for row in rankings for reason in row.reasons))
    return _(
        "Time: {medians}; the backends cannot be ranked ({reasons}).",
        medians=listed(medians),
        reasons="; ".join(reasons[:MAX_NAMED]),
    )


def _ends(values: Mapping[str, float]) -> tuple[str, str]:
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
    least, most = _ends(middle)
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
    least, most = _ends(middle)
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


def _gaps(found: Comparison) -> list[str]:
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


def _effects(found: Comparison) -> str:
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
        k=_word(len(shown)),
        which=f": {_some(which)}" if which else "",
    )


def _published(cells: Sequence[Cell]) -> str:
    """Results that no correct training should give."""
    rows = [(cell, literature.judge(cell)) for cell in cells if cell.runs]
    told = [
        _("{name} is {verdict}", name=cell.name, verdict=_(said))
        for cell, said in rows
        if said in (literature.LOWER, literature.TOO_GOOD)
    ]
    return _("Beside published results: {which}.", which=_some(told)) if told else ""
