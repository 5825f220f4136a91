"""What the runs say, in sentences: generated from the numbers, and never stronger than the number of seeds allows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from lockstep.report.facts import Facts
from lockstep.report.groups import Group, accuracy, epoch_seconds, n_test
from lockstep.report.numbers import accuracy_decimals, count, fixed, listed, points, seconds, word

TOLD_ONE_BY_ONE = 3  # so many groups get a sentence of their own; more are summed up


def answer(groups: Sequence[Group]) -> str:
    """One paragraph on accuracy and time."""
    told = [found for found in groups if any(accuracy(run) is not None for run in found.finished)]
    if not told:
        return "No run has finished with a test accuracy, so there is nothing to compare yet."
    if len(told) <= TOLD_ONE_BY_ONE:
        sentences = [*(_accuracies(found) for found in told), _times(told)]
    else:
        sentences = [_summary(told)]
    return " ".join(filter(None, [*sentences, _reach(told)]))


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
    return f"{told[0].upper()}{told[1:]}: on this machine, {n}, order not interleaved: not a ranking."


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


def _summary(groups: Sequence[Group]) -> str:
    spreads, best = [], []
    for found in groups:
        values = [value for run in found.finished if (value := accuracy(run)) is not None]
        best.append((max(values), found))
        spreads += [100 * (max(values) - min(values))] if len(found.backends) > 1 else []
    places = accuracy_decimals(n_test(groups[0].finished[0]))
    high, low = max(best, key=lambda row: row[0]), min(best, key=lambda row: row[0])
    text = (
        f"The runs cover {count(len(groups), 'combination')} of network, dataset and setting. "
        f"The best test accuracy of a combination reached from {points(low[0], places)} ({low[1].title}) "
        f"to {points(high[0], places)} ({high[1].title})."
    )
    if spreads:
        text += (
            f" Within a combination, the runs' accuracies lie at most {fixed(max(spreads), places)} points apart "
            f"(median {fixed(statistics.median(spreads), places)})."
        )
    return text


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


def same_machine(runs: Sequence[Facts]) -> bool:
    """Whether all runs report the same CPU, device and obtained threads."""
    seen = {
        (run.environment.cpu, run.environment.cores, run.environment.device, run.environment.threads.obtained)
        for run in runs
        if run.environment
    }
    return len(seen) <= 1
