"""What the runs say, in sentences: generated from the numbers, and never stronger than the number of seeds allows.

`answer` is the page's first paragraph, short enough to be read; `conclusions` says of every kind of comparison that the
runs allow what came of it, and stands above its tables.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from lockstep.report import published
from lockstep.report.cells import Cell, mean_of, median, plus_minus
from lockstep.report.compared import START, Comparison, Ranking, start_seconds, took_turns
from lockstep.report.facts import Facts
from lockstep.report.groups import Group, accuracy, epoch_seconds, n_test, same_machine
from lockstep.report.numbers import accuracy_decimals, count, fixed, listed, percent, points, seconds, word
from lockstep.report.pairs import Contest, Held, Pair

TOLD_ONE_BY_ONE = 3  # so many groups get a sentence of their own; more are summed up
MAX_SENTENCES = 6  # of the first paragraph
MAX_NAMED = 4  # cells, pairs or contests that one conclusion names
MEBIBYTE = 2**20


def answer(groups: Sequence[Group], found: Comparison | None = None) -> str:
    """One paragraph: accuracy and time, which network or setting is best, and how far that reaches."""
    told = [found for found in groups if any(accuracy(run) is not None for run in found.finished)]
    if not told:
        return "No run has finished with a test accuracy, so there is nothing to compare yet."
    best = [line for kind in ("networks", "settings") for line in _contests(found, kind)][:1] if found else []
    if len(told) <= TOLD_ONE_BY_ONE:
        sentences = [*(_accuracies(group) for group in told), *best, _times(told)]
    else:
        sentences = [*_summary(told), *best]
    return " ".join([*filter(None, sentences), *filter(None, [_reach(told)])][:MAX_SENTENCES])


def _who(found: Group, runs: Sequence[Facts]) -> str:
    """ "All four backends", "Both backends", "numpy and jax (two of four backends)"."""
    backends, told = found.backends, [name for name in found.backends if any(run.backend == name for run in runs)]
    if len(told) < len(backends):
        return f"{listed(told)} ({word(len(told))} of {count(len(backends), 'backend')})"
    if len(told) == 1:
        return told[0]
    return "Both backends" if len(told) == 2 else f"All {count(len(told), 'backend')}"


def _accuracies(found: Group) -> str:
    runs = [run for run in found.finished if accuracy(run) is not None]
    values = [value for run in runs if (value := accuracy(run)) is not None]
    n = n_test(runs[0])
    places = accuracy_decimals(n)
    low, high = points(min(values), places), points(max(values), places)
    images = f" of {n:,} test images" if n else ""
    where = f"{_who(found, runs)} trained {found.title}"
    if len(found.seeds) > 1:
        where += f" with {count(len(found.seeds), 'seed')}"
    if len(runs) == 1:
        return f"{where} to a test accuracy of {low}{images}."
    if min(values) == max(values):
        return f"{where} to the same test accuracy, {low}{images}."
    spread = fixed(round(100 * max(values), places) - round(100 * min(values), places), places)
    pictures = f" ({count(round((max(values) - min(values)) * n), 'image')} of {n:,})" if n else ""
    means = _means(found, places) if len(found.seeds) > 1 else ""
    return f"{where} to a test accuracy between {low} and {high}, a spread of {spread} points{pictures}{means}."


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
    return f"; the backends’ means over seeds lie between {low} and {high}"


def _times(groups: Sequence[Group]) -> str:
    """Shortest and longest epochs, with everything that keeps this from being a ranking."""
    runs = [run for found in groups for run in found.finished if epoch_seconds(run) is not None]
    parts = [part for found in groups if (part := _epoch_times(found))]
    if not parts:
        return ""
    if not same_machine(runs):
        return "The runs come from different machines or thread counts, so their times are not compared."
    fewest = min(len(runs) for found in groups for backend in found.backends if (runs := found.of(backend)))
    n = "in this run, n\u00a0=\u00a01" if fewest <= 1 else f"in these runs, n\u00a0=\u00a0{fewest} per backend"
    told = listed(parts)
    order = "" if took_turns(groups) else ", order not interleaved"
    return f"{told[0].upper()}{told[1:]}: on this machine, {n}{order}: not a ranking."


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
        return f"one epoch of {found.title} took {seconds(times[low])}"
    return f"one epoch of {found.title} took from {seconds(times[low])} ({low}) to {seconds(times[high])} ({high})"


def _summary(groups: Sequence[Group]) -> list[str]:
    spreads, best = [], []
    for found in groups:
        values = [value for run in found.finished if (value := accuracy(run)) is not None]
        best.append((max(values), found))
        spreads += [100 * (max(values) - min(values))] if len(found.backends) > 1 else []
    places = accuracy_decimals(n_test(groups[0].finished[0]))
    high, low = max(best, key=lambda row: row[0]), min(best, key=lambda row: row[0])
    sentences = [
        f"The runs cover {count(len(groups), 'combination')} of network, dataset and setting.",
        f"The best test accuracy of a combination reached from {points(low[0], places)} ({low[1].title}) "
        f"to {points(high[0], places)} ({high[1].title}).",
    ]
    if spreads:
        sentences.append(
            f"Within a combination, the runs' accuracies lie at most {fixed(max(spreads), places)} points apart "
            f"(median {fixed(statistics.median(spreads), places)})."
        )
    return sentences


def _reach(groups: Sequence[Group]) -> str:
    """How far these sentences reach."""
    if not any(len(found.backends) > 1 for found in groups):
        return ""
    fewest = min(len(found.seeds) for found in groups)
    seeds = "One seed cannot tell" if fewest == 1 else f"{word(fewest).capitalize()} seeds can hardly tell"
    return (
        f"{seeds} whether a difference in accuracy comes from the backend or from chance, and equal accuracies do not "
        "prove equal arithmetic."
    )


# ------------------------------------------------------------------------------------------------------ conclusions

# Whole sentences, so that they can be translated.
BEST = "{title}{where}: {best} has the highest mean test accuracy ({mean}, {seeds}); {rest}."
BEST_OF_ONE = (
    "{title}{where}: {best} has the highest test accuracy ({mean}); with one seed it cannot be told whether by chance."
)
ALL_HIGHER = "it is shown to be higher than {lower}"
SOME_HIGHER = "it is shown to be higher than {lower}, and no difference from {open} could be shown"
NONE_HIGHER = "no difference from {open} could be shown"
KINDS = (
    "Convolutional against fully connected networks: of {n}, {won} {show} the convolutional one higher, {lost} "
    "{show_lost} it lower{rest}."
)
SAME_BACKENDS = "Backends: no difference in test accuracy between them could be shown in {n} with {seeds}."
SOME_BACKENDS = "Backends: {k} of {n} {show} a difference in test accuracy: {which}."
ONE_SEED_BACKENDS = "Backends: one seed cannot tell whether they differ in test accuracy{answers}."
NOT_RANKED = "Time: {medians}; the backends cannot be ranked ({reasons})."
RANKED = "Time: {which}{rest}."
MEMORY = "Memory: the median peak was from {low} ({least}) to {high} ({most}); what a framework brings along is in it."
STARTUP = (
    "Start-up: import, build and compile took together from {low} ({least}) to {high} ({most}), medians of {n} or more."
)
GAP = (
    "Overfitting: {variant} narrowed the gap between training and test accuracy{where} most, from {before} to {after} "
    "points ({size}, {seeds}); of its test accuracy: {accuracy}."
)
NO_GAP = "Overfitting: no variant could be shown to narrow the gap between training and test accuracy{where} ({seeds})."
EFFECTS = (
    "Depth and kernel size: of {n} that differ in one of them alone, {k} {show} a difference in test accuracy{which}."
)
PUBLISHED = "Beside published results: {which}."


def conclusions(found: Comparison) -> list[str]:
    """A sentence or two for each kind of comparison that these runs allow."""
    lines = [*_contests(found, "networks"), *_contests(found, "settings"), _kinds(found.held["networks"])]
    lines += [_backends(found), _ranked(found.rankings), _memory(found.cells), _start(found.cells)]
    lines += [*_gaps(found), _effects(found), _published(found.cells)]
    return [line for line in lines if line]


def _some(names: Sequence[str]) -> str:
    """The first few names, and how many more."""
    more = len(names) - MAX_NAMED
    return listed([*names[:MAX_NAMED], *([f"{count(more, 'other')}"] if more > 0 else [])])


def _by_contest(rows: Sequence[tuple[Contest, Pair]]) -> list[tuple[Contest, list[Pair]]]:
    found: dict[int, tuple[Contest, list[Pair]]] = {}
    for contest, pair in rows:
        found.setdefault(id(contest), (contest, []))[1].append(pair)
    return list(found.values())


def _where(contest: Contest) -> str:
    return f" ({contest.where})" if contest.where else ""


def _contests(found: Comparison, kind: str) -> list[str]:
    """Which network or setting is best, and than which ones that is shown."""
    lines = []
    for contest, pairs in _by_contest(found.held[kind].rows)[:MAX_NAMED]:
        cells = [cell for cell in contest.cells if cell.over_seeds]
        best = max(cells, key=lambda cell: cell.over_seeds.value if cell.over_seeds else 0.0)
        own = [pair for pair in pairs if best in (pair.first, pair.second) and not pair.problem]
        title = "Networks" if kind == "networks" else "Settings"
        said = {
            "title": title,
            "best": contest.name(best),
            "where": f", {contest.where}" if contest.where else "",
            "mean": f"{plus_minus(best.over_seeds, accuracy_decimals(best.n_test))}\u00a0%",
            "seeds": count(len(best.runs), "seed"),
        }
        if len(best.runs) < 2 or not any(pair.difference and pair.difference.n > 1 for pair in own):
            lines.append(BEST_OF_ONE.format(**said))
            continue
        names = {True: [], False: []}  # type: dict[bool, list[str]]
        for pair in own:
            other = pair.second if pair.first is best else pair.first
            names[pair.is_shown and pair.higher == contest.name(best)].append(contest.name(other))
        form = NONE_HIGHER if not names[True] else SOME_HIGHER if names[False] else ALL_HIGHER
        lines.append(BEST.format(rest=form.format(lower=_some(names[True]), open=_some(names[False])), **said))
    return lines


def _kinds(held: Held) -> str:
    """Networks with convolutions against those without."""
    rows = [pair for _, pair in held.rows if _has_convolution(pair.first) != _has_convolution(pair.second)]
    if not rows:
        return ""
    shown = [pair for pair in rows if pair.is_shown]
    won = sum(_has_convolution(pair.first if pair.higher == pair.what[0] else pair.second) for pair in shown)
    lost, open_ = len(shown) - won, len(rows) - len(shown)
    rest = f"; in {word(open_)} it cannot be told" if open_ else ""
    return KINDS.format(
        n=count(len(rows), "comparison"), won=word(won) if won else "none", lost=word(lost) if lost else "none",
        show=_verb(won), show_lost=_verb(lost), rest=rest,
    )  # fmt: skip


def _verb(n: int) -> str:
    return "shows" if n <= 1 else "show"


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
        ends = list(dict.fromkeys(percent(value, 1) for value in (min(same), max(same)))) if same else []
        answers = f"; the trained networks gave the same answer to {' to '.join(ends)}\u00a0% of the test images"
        return ONE_SEED_BACKENDS.format(answers=answers if same else "")
    n, shown = count(len(told), "comparison"), [pair for pair in told if pair.is_shown]
    if not shown:
        fewest = min(pair.difference.n for pair in told if pair.difference)
        return SAME_BACKENDS.format(
            n=n, seeds=count(fewest, "seed") if len(told) == 1 else f"at least {count(fewest, 'seed')}"
        )
    which = [f"{pair.first.title}: {pair.verdict()}" for pair in shown]
    return SOME_BACKENDS.format(k=word(len(shown)), n=n, show=_verb(len(shown)), which=_some(which))


def _ranked(rankings: Sequence[Ranking]) -> str:
    """Who is faster, where that may be said at all."""
    if not rankings:
        return ""
    ranked = [row for row in rankings if not row.reasons]
    if ranked:
        which = [f"{row.first.backend} is faster than {row.second.backend} ({row.where})" for row in ranked]
        left = len(rankings) - len(ranked)
        rest = f"; {count(left, 'further pair')} cannot be ranked" if left else ""
        return RANKED.format(which=_some(which), rest=rest)
    medians = []
    for where in list(dict.fromkeys(row.where for row in rankings))[:MAX_NAMED]:
        cells = [cell for row in rankings if row.where == where for cell in (row.first, row.second)]
        times = {cell.backend: median(cell.seconds) or 0.0 for cell in cells}
        low, high = _ends(times)
        medians.append(
            f"one epoch of {where} took from {seconds(times[low])} ({low}) to {seconds(times[high])} ({high})"
        )
    reasons = list(dict.fromkeys(reason for row in rankings for reason in row.reasons))
    return NOT_RANKED.format(medians=listed(medians), reasons="; ".join(reasons[:MAX_NAMED]))


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
    low, high = (f"{fixed(middle[name] / MEBIBYTE, 0)}\u00a0MiB" for name in (least, most))
    return MEMORY.format(low=low, least=least, high=high, most=most)


def _start(cells: Sequence[Cell]) -> str:
    taken = {name: start_seconds(runs, START) for name, runs in _of_backends(cells).items()}
    middle = {name: value for name, values in taken.items() if (value := median(values)) is not None}
    if len(middle) < 2:
        return ""
    least, most = _ends(middle)
    n = count(min(len(values) for values in taken.values() if values), "run")
    return STARTUP.format(low=seconds(middle[least]), least=least, high=seconds(middle[most]), most=most, n=n)


def _gaps(found: Comparison) -> list[str]:
    """Which remedy narrowed the gap most, and what became of the test accuracy."""
    lines = []
    for contest, pairs in _by_contest(found.gaps)[:MAX_NAMED]:
        where = _where(contest)
        narrower = [pair for pair in pairs if pair.is_shown and pair.difference and pair.difference.value < 0]
        if not narrower:
            numbers = [pair.difference.n for pair in pairs if pair.difference]
            lines.append(NO_GAP.format(where=where, seeds=count(min(numbers), "seed") if numbers else "no runs"))
            continue
        best = min(narrower, key=lambda pair: pair.difference.value if pair.difference else 0.0)
        before, after = (mean_of(cell.gaps) for cell in (best.second, best.first))
        lines.append(
            GAP.format(
                variant=best.what[0], where=where, before=plus_minus(before, 2), after=plus_minus(after, 2),
                size=plus_minus(best.difference, 2).replace("-", "−"),
                seeds=count(best.difference.n if best.difference else 0, "seed"), accuracy=_verdict_of(found, best),
            )
        )  # fmt: skip
    return lines


def _verdict_of(found: Comparison, pair: Pair) -> str:
    """What the tables of pairs say of the accuracies of the same two cells."""
    rows = [row for kind in ("networks", "settings") for _, row in found.held[kind].rows]
    same = [row for row in rows if {row.first, row.second} == {pair.first, pair.second}]
    return same[0].verdict() if same else "it was not compared"


def _effects(found: Comparison) -> str:
    if not found.effects:
        return ""
    shown = [effect for effect in found.effects if effect.pair.is_shown]
    which = [f"{effect.step.less.title} → {effect.step.more.title}: {effect.pair.verdict()}" for effect in shown]
    pairs = count(len(found.effects), "pair of networks", "pairs of networks")
    said = f": {_some(which)}" if which else ""
    return EFFECTS.format(n=pairs, k=word(len(shown)) if shown else "none", show=_verb(len(shown)), which=said)


def _published(cells: Sequence[Cell]) -> str:
    """Results that no correct training should give."""
    rows = [(cell, published.judge(cell)) for cell in cells if cell.runs]
    told = [f"{cell.name} is {said}" for cell, said in rows if said in (published.LOWER, published.TOO_GOOD)]
    return PUBLISHED.format(which=_some(told)) if told else ""
