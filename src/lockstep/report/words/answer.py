"""What the runs say, in sentences: generated from the numbers, and never stronger than the number of seeds allows.

`answer` is the page's first paragraph, short enough to be read: what went wrong, then what the study asked, then what
is left of accuracy and time. `conclusions` says of every kind of comparison that the runs allow what came of it, and
stands above its tables. A sentence never says less than its row either: where other seeds are open, what holds of the
trained networks at hand is said as that.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from lockstep.language import _, n_
from lockstep.report.compare.cells import Cell, mean_of, median, minus, plus_minus
from lockstep.report.compare.comparison import Comparison, took_turns
from lockstep.report.compare.groups import Group, accuracy, epoch_seconds, n_test, same_machine
from lockstep.report.facts import Facts
from lockstep.report.words import question
from lockstep.report.words.conclusions import (
    backends,
    contests,
    effects,
    ends,
    epoch_span,
    gaps,
    some,
    word_or_none,
)
from lockstep.report.words.quantities import (
    MISSING,
    accuracy_decimals,
    count,
    fixed,
    images_of,
    listed,
    points,
    seconds,
    seeds_of,
    whole,
    word,
)

TOLD_ONE_BY_ONE = 3  # so many groups get a sentence of their own; more are summed up
MAX_SENTENCES = 6  # of the first paragraph
MANY_SEEDS = 10  # from which on a test between backends has some power


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
    best = [line for kind in ("networks", "settings") for line in contests(found, kind)][:1] if found else []
    if len(told) <= TOLD_ONE_BY_ONE:
        each = [_accuracies(group) for group in told if not own or len(group.backends) > 1]
        sentences = [*own, *each, *best, _times(told)]
    else:
        sentences = [*own, *_summary(told), *best]
    sentences = list(dict.fromkeys(filter(None, sentences)))[: MAX_SENTENCES - 1]
    is_said = found is not None and backends(found) in sentences
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
        names=some(names),
    )


def seed_of(run: Facts) -> str:
    """ "seed 3"."""
    return _("seed {seed}", seed=run.seed or MISSING)


def _asked(
    told: Sequence[Group], found: Comparison, asked_for: str, proven: tuple[str, int] | None = None
) -> list[str]:
    """What the runs say to the study's own question, in its order; nothing where it asks for what they do not have."""
    answers: dict[str, Callable[[], list[str]]] = {
        "gap": lambda: gaps(found) or [_gap_sizes(found.cells)],
        "structure": lambda: [effects(found)],
        "settings": lambda: contests(found, "settings") or contests(found, "networks"),
        "backends": lambda: (
            [_proven(proven), *(_accuracies(one) for one in told[:TOLD_ONE_BY_ONE]), backends(found)]
            if found.held["backends"].rows
            else []
        ),
        "networks": lambda: contests(found, "networks"),
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
        "hits": word_or_none(len(hits)),
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
    low, high = ends(sizes)
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
    low, high = ends(times)
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
    return epoch_span(found.title, times, low, high)


def best_of_combinations(low: str, worst: str, high: str, best: str) -> str:
    """Between which accuracies, already in words, the best of the combinations lie; one where they are the same."""
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
        best_of_combinations(points(low[0], places), low[1].title, points(high[0], places), high[1].title),
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
