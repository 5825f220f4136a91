"""The page's first words: what was asked, answered in at most three short sentences, and one line of caution.

`answer` says the same with every number and reservation, in a paragraph; nobody reads a paragraph first. What stands
here never says more than that does: where one seed leaves something open, the line of caution says so for all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lockstep.language import _, n_
from lockstep.report.compare.cells import mean_of, median, minus
from lockstep.report.compare.comparison import Comparison
from lockstep.report.compare.groups import Group, accuracy, n_test
from lockstep.report.proofs import Fit, Reading
from lockstep.report.words import question
from lockstep.report.words.answer import best_of_combinations
from lockstep.report.words.conclusions import effects, ends
from lockstep.report.words.headlines import Headline, headlines
from lockstep.report.words.quantities import (
    accuracy_decimals,
    count,
    fixed,
    listed,
    percent,
    points,
    seconds,
    seeds_of,
    whole,
)

MOST = 3  # sentences
MANY = 3  # networks that a sentence names one by one

Proofs = Sequence[tuple[Reading, Fit | None]]


def brief(groups: Sequence[Group], found: Comparison, asked_for: str, proofs: Proofs) -> list[str]:
    """At most three sentences: what went wrong, then what the question asks for, then what is left of the rest."""
    told = [one for one in groups if any(accuracy(run) is not None for run in one.finished)]
    if not told:
        return [_("No run has finished with a test accuracy, so there is nothing to compare yet.")]
    topics: dict[str, Callable[[], list[str]]] = {
        "backends": lambda: [_same_steps(groups, proofs), _accuracies(told)],
        "networks": lambda: [_best(found, "networks"), _accuracies(told)],
        "settings": lambda: [_best(found, "settings"), _best(found, "networks")],
        "gap": lambda: [_gap(found)],
        "structure": lambda: [effects(found)],
        "cost": lambda: [_cost(found)],
    }
    asked = question.asked(asked_for)
    order = [*asked, *(name for name in ("settings", "networks", "backends", "cost") if name not in asked)]
    aim = question.target(asked_for)
    sentences = [_diverged(groups), _reached(found, aim) if aim is not None else ""]
    said = {name: [one for one in topics[name]() if one] for name in order}
    sentences += [one for name in asked for one in said[name][:1]]
    sentences += [one for name in asked for one in said[name][1:]]
    sentences += [one for name in order if name not in asked for one in said[name][:1]]
    return list(dict.fromkeys(one for one in sentences if one))[:MOST]


def _diverged(groups: Sequence[Group]) -> str:
    n = sum(run.is_diverged for found in groups for run in found.runs)
    every = sum(len(found.runs) for found in groups)
    if not n:
        return ""
    return n_(
        "{count} of {all} trainings diverged and is in no number below.",
        "{count} of {all} trainings diverged and are in no number below.",
        n,
        count=whole(n),
        all=whole(every),
    )


def _same_steps(groups: Sequence[Group], proofs: Proofs) -> str:
    """Whether the backends are proven to take the same steps."""
    backends = list(dict.fromkeys(name for found in groups for name in found.backends))
    verdicts = {verdict for _, fit in proofs if fit for verdict in fit.covered.values()}
    n = sum(run.is_finished for found in groups for run in found.runs)
    covered = sum(len(fit.covered) for _, fit in proofs if fit)
    if not verdicts:
        return _("Whether the backends take the same steps is not proven here.") if len(backends) > 1 else ""
    if "DIVERGED" in verdicts:
        return _("Not every backend does what the study says: the proof names where and why.")
    if not verdicts <= {"IDENTICAL", "EQUAL"}:
        return _("The proof could not observe every backend.")
    if covered < n:
        return _("{n} of {all} runs are proven to take the steps that the study says.", n=whole(covered), all=whole(n))
    if len(backends) == 1:
        return _("{backend} is proven to take the steps that the study says.", backend=backends[0])
    who = (
        _("Both backends")
        if len(backends) == 2
        else count(len(backends), "All {count} backend", "All {count} backends")
    )
    return _("{who} are proven to take the same steps, within rounding.", who=who)


def _accuracies(told: Sequence[Group]) -> str:
    """The test accuracy of each network, over its backends; of many the lowest and the highest."""
    rows = []
    for found in told:
        values = [
            sum(own) / len(own)
            for backend in found.backends
            if (own := [value for run in found.of(backend) if (value := accuracy(run)) is not None])
        ]
        rows.append((found, min(values), max(values)))
    places = accuracy_decimals(n_test(told[0].finished[0]))
    if len(rows) > MANY:
        low, high = min(rows, key=lambda row: row[2]), max(rows, key=lambda row: row[2])
        return best_of_combinations(points(low[2], places), low[0].title, points(high[2], places), high[0].title)
    datasets = len({found.dataset for found in told})
    parts = []
    for found, low_, high_ in rows:
        title = found.title if datasets > 1 else found.label
        span = percent(low_, places), percent(high_, places)
        if span[0] == span[1]:
            parts.append(_("{title} gets {share}\u00a0%", title=title, share=span[0]))
        else:
            parts.append(_("{title} gets {low} to {high}\u00a0%", title=title, low=span[0], high=span[1]))
    n = n_test(told[0].finished[0])
    images = _(" of the test images")
    if n and datasets == 1:
        images = n_(" of {count} test images", " of {count} test images", n, count=whole(n))
    alike = (
        _(", the same with every backend")
        if all(low == high and len(found.backends) > 1 for found, low, high in rows)
        else ""
    )
    return _("{parts}{images} right{alike}.", parts=listed(parts), images=images, alike=alike)


def _best(found: Comparison, kind: str) -> str:
    """Which network or setting has the highest accuracy, and what that is worth."""
    rows = headlines(found, kind)
    if not rows:
        return ""
    names = list(dict.fromkeys(one.contest.name(one.best) for one in rows))
    if len(names) > 1:
        where = [f"{one.contest.name(one.best)} ({one.contest.where})" for one in rows]
        return _("The highest test accuracy is that of {names}.", names=listed(where[:MANY]))
    best = rows[0].best
    mean = points(best.over_seeds.value if best.over_seeds else None, accuracy_decimals(best.n_test))
    said = {"name": names[0], "mean": mean, "worth": _worth(rows)}
    if any(one.level_with for one in rows):
        return _("{name} is among the best with {mean} right{worth}.", **said)
    return _("{name} has the highest test accuracy, {mean}{worth}.", **said)


def _worth(rows: Sequence[Headline]) -> str:
    """Over seeds, of the trained networks alone, or open; said of several contests only where it holds of all."""
    if all(one.shown and not one.still_open and not one.less_right for one in rows):
        return _(", shown over {seeds}", seeds=seeds_of(min(len(one.best.runs) for one in rows)))
    if all(one.is_of_one_seed for one in rows):
        return _("; one seed cannot tell whether by chance")
    if not any(one.shown for one in rows):
        return _("; no difference from the next could be shown")
    return _("; over part of the others alone is that shown")


def _gap(found: Comparison) -> str:
    sizes = {cell.name: one.value for cell in found.cells if (one := mean_of(cell.gaps))}
    if not sizes:
        return ""
    low, high = ends(sizes)
    if low == high:
        return _("Training accuracy is {size} points above test accuracy.", size=minus(fixed(100 * sizes[low], 2)))
    return _(
        "Training accuracy is from {smallest} ({low}) to {largest} points ({high}) above test accuracy.",
        smallest=minus(fixed(100 * sizes[low], 2)),
        low=low,
        largest=minus(fixed(100 * sizes[high], 2)),
        high=high,
    )


def _cost(found: Comparison) -> str:
    times = {
        _("{network} with {backend}", network=cell.title, backend=cell.backend): value
        for cell in found.cells
        if (value := median(cell.seconds)) is not None
    }
    if not times:
        return ""
    low, high = ends(times)
    if low == high:
        return _("An epoch takes {time}.", time=seconds(times[low]))
    return _(
        "An epoch takes from {shortest} ({low}) to {longest} ({high}).",
        shortest=seconds(times[low]),
        low=low,
        longest=seconds(times[high]),
        high=high,
    )


def _reached(found: Comparison, aim: float) -> str:
    """Whether the accuracy that the question names is reached."""
    means = {cell: cell.over_seeds.value for cell in found.cells if cell.over_seeds}
    if not means:
        return ""
    best = max(means, key=lambda cell: means[cell])
    places = max(accuracy_decimals(best.n_test), len(f"{100 * aim:g}".partition(".")[2]))
    said = {
        "aim": points(aim, len(f"{100 * aim:g}".partition(".")[2])),
        "name": best.name,
        "mean": points(means[best], places),
    }
    if means[best] >= aim:
        return _("{aim} of the test images is reached: {name} gets {mean}.", **said)
    return _("{aim} of the test images is not reached: the best, {name}, gets {mean}.", **said)


# ------------------------------------------------------------------------------------------------------------- caution


def caution(groups: Sequence[Group], found: Comparison, n_unfinished: int, n_warnings: int) -> str:
    """One line: what keeps these numbers from saying more than they seem to. Empty where nothing does."""
    parts = []
    if n_unfinished:
        n = sum(len(members.runs) for members in groups)
        parts.append(_("{n} of {all} runs did not finish", n=whole(n_unfinished), all=whole(n)))
    told = [cell for cell in found.cells if cell.runs]
    fewest = min((len(cell.runs) for cell in told), default=0)
    if fewest == 1 and len(told) > 1:
        parts.append(_("one seed cannot tell a difference in accuracy from chance"))
    if found.rankings and not any(not row.obstacles for row in found.rankings):
        reasons = list(dict.fromkeys(reason for row in found.rankings for reason in row.reasons))
        parts.append(_("times are a record and no ranking ({reasons})", reasons="; ".join(reasons[:2])))
    if n_warnings:
        parts.append(n_("{n} warning stands below", "{n} warnings stand below", n_warnings))
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
