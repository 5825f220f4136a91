"""A proof → what the page says of it: verdict, what it rests on, what it does not say, and every divergence's cause."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

from lockstep.language import Text, _, later, moment, n_, number
from lockstep.report.proofs import Fit, Reading
from lockstep.report.sections.comparisons import more_rows
from lockstep.report.sections.divergences import MANY, divergences, off
from lockstep.report.sections.growth import growth
from lockstep.report.sections.rankings import cores_of
from lockstep.report.table import Table
from lockstep.report.words import forms
from lockstep.report.words.coordinates import coordinates, distinct, short, spot, titled
from lockstep.report.words.quantities import MISSING, count, fixed, listed, percent, significant, whole
from lockstep.store.documents.part import but
from lockstep.store.documents.proof import (
    Backend,
    Cost,
    Coverage,
    Divergence,
    Network,
    Previous,
    Proof,
    Share,
    Stage,
    Worst,
)

# A page has a size: what is left out beyond these is said where it is left out.
MAX_NETWORKS = 16  # with stages, growth and certificates
MAX_ROWS = 400  # of the table of verdicts
MAX_FIRST = 3  # first places in the sentence
MAX_MISFITS = 12  # lines on runs that a proof does not fit

MARKS = {"IDENTICAL": "good", "EQUAL": "good", "INCONCLUSIVE": "warn", "DIVERGED": "bad", "ERROR": "bad"}

LIMITS = later(
    "It says nothing of how long trainings end. In float32 they part by rounding alone (a relu’s input that is −3·10⁻⁸ "
    "in one and +2·10⁻⁸ in another is enough), and their ends are equal in distribution at most."
)


def section(reading: Reading, prefix: str, fit: Fit | None = None) -> dict[str, Any]:
    """Everything that the page says of one proof, as plain data; `prefix` keeps the figures' identifiers apart.

    `fit` are the runs that the proof is shown beside; None for a page of its own.
    """
    proof = reading.proof
    if proof is None:
        gap = ""
        if reading.gap:
            gap = _(
                "{study}: proof.json cannot be used, so nothing is proven here: {why}",
                study=reading.study,
                why=reading.gap,
            )
        return {"study": reading.study, "gap": gap, "is_there": False}
    titles, verdict = _titles(proof.networks), forms.say(proof.verdict)
    shown = list(zip(proof.networks, titles, strict=True))[:MAX_NETWORKS]
    return {
        "study": reading.study,
        "gap": "",
        "is_there": True,
        "verdict": verdict if not fit or fit.covered else _("{verdict}, but not of these runs", verdict=verdict),
        "mark": MARKS[proof.verdict] if not fit or fit.covered else "warn",
        "sentence": _sentence(proof),
        "limits": _limits(proof),
        "made": _made(proof),
        "planted": _planted(proof),
        "not_observed": [_not_observed(text) for text in proof.coverage.not_observed],
        "fits": _fits(fit) if fit else {"text": "", "title": "", "kind": "", "lines": []},
        "folders": _folders(proof),
        "previous": _previous(proof.previous),
        "summary": _summary(proof),
        "divergences": divergences(proof),
        "networks": [_network(network, title, f"{prefix}-{n}") for n, (network, title) in enumerate(shown)],
        "left_out": _left_out(proof),
        "cost": _cost(proof.cost),
    }


# ----------------------------------------------------------------------------------------------------- in sentences


def _not_observed(text: str) -> str:
    """ "jax: jax not installed": a backend, or nobody, and a reason."""
    backend, colon, reason = text.partition(": ")
    if isinstance(text, Text):
        return forms.say(text)
    return f"{backend}: {forms.say(reason)}" if colon and " " not in backend else forms.say(text)


def _sentence(proof: Proof) -> str:
    """The verdict's meaning, without the word itself, which stands before it."""
    if proof.is_comparison:
        return f"{forms.say(proof.claim)}."
    rows = [row for network in proof.networks for row in network.backends]
    names = distinct(row.backend for row in rows)
    if proof.verdict in ("IDENTICAL", "EQUAL"):
        all_of_them = count(len(names), "all {count} backend", "all {count} backends")
        alike = count(
            proof.steps,
            "{who} took the first {count} step alike within rounding{networks}.",
            "{who} took the first {count} steps alike within rounding{networks}.",
            who=all_of_them if len(names) > 2 else listed(names),
            networks=_with_all(proof.networks),
        )
        return f"{alike} {_rests_on(proof)}"
    by_verdict = {word: distinct(row.backend for row in rows if row.verdict == word) for word in MARKS}
    told = [f"{listed(found)}: {forms.say(word)}" for word, found in by_verdict.items() if found]
    return f"{_(NOT_EQUAL[proof.verdict])} ({'; '.join(told)}). {_first_places(proof)}{_rests_on(proof)}"


NOT_EQUAL = {
    "DIVERGED": later("not every backend takes the same steps"),
    "ERROR": later("a backend failed"),
    "INCONCLUSIVE": later("nothing is off where something was seen, but not everything was observed"),
}


def _with_all(networks: Sequence[Network]) -> str:
    """How many cases a sentence is about, where there are several."""
    n = len(networks)
    if n < 2:
        return ""
    if len({network.network for network in networks}) == n:
        if n == 2:
            return _(", with both networks")
        return count(n, ", with all {count} network", ", with all {count} networks")
    return (
        _(", with both combinations")
        if n == 2
        else count(n, ", with all {count} combination", ", with all {count} combinations")
    )


def _first_places(proof: Proof) -> str:
    """Where each network and backend is off first."""
    firsts: dict[tuple[str, ...], Divergence] = {}
    for found in proof.divergences:
        firsts.setdefault((found.network, found.dataset, found.dtype, found.backend), found)
    told = [f"{_case(found.network, found.backend)}: {spot(found)}: {off(found)}" for found in firsts.values()]
    if not told:
        return ""
    more = len(told) - MAX_FIRST
    shown = told[:MAX_FIRST]
    shown += [count(more, "and {count} more below", "and {count} more below")] if more > 0 else []
    return n_("The first place: {places}.", "The first places: {places}.", len(told), places="; ".join(shown)) + " "


def _case(network: str, backend: str) -> str:
    return _("{network} on {backend}", network=network, backend=backend)


def _rests_on(proof: Proof) -> str:
    """How many numbers were compared, and how near the worst of a backend that agrees comes to its tolerance."""
    if not proof.coverage.values:
        return _("No number was compared.")
    text = n_(
        "{count} numbers were compared with those of a judge, NumPy in float64, which works every part of each step "
        "out again from what the backend itself fed it.",
        "{count} numbers were compared with those of a judge, NumPy in float64, which works every part of each step "
        "out again from what the backend itself fed it.",
        proof.coverage.values,
        count=whole(proof.coverage.values),
    )
    rows = [
        (worst, f"{_case(network.network, row.backend)}: {spot(worst)}")
        for network in proof.networks
        for row in network.backends
        if row.verdict in ("IDENTICAL", "EQUAL") and (worst := _worst(row))
    ]
    if not rows:
        return text
    worst, where = max(rows, key=lambda found: _ratio(found[0]))
    if proof.verdict in ("IDENTICAL", "EQUAL"):
        furthest = _(
            "The one furthest off reached {times} of what rounding allows ({where}).",
            times=_times(worst),
            where=where,
        )
    else:
        furthest = _(
            "Where they agree, the furthest off reached {times} of what rounding allows ({where}).",
            times=_times(worst),
            where=where,
        )
    return f"{text} {furthest}"


def _limits(proof: Proof) -> str:
    """What exactly is claimed, and what is not."""
    if proof.is_comparison:
        return _(LIMITS) if proof.verdict == "EQUAL" else ""
    if proof.verdict in ("IDENTICAL", "EQUAL"):
        claim = _("Exactly this is claimed: {claim}.", claim=forms.say(proof.claim)) if proof.claim else ""
        return f"{claim} {_(LIMITS)}".strip()
    agree = any(row.verdict in ("IDENTICAL", "EQUAL") for network in proof.networks for row in network.backends)
    found = [_("Nothing is claimed of the whole.")]
    if agree:
        found.append(_("A row that is EQUAL is so for itself: within rounding, on everything that was observed of it."))
    return " ".join(found)


def _made(proof: Proof) -> str:
    """When, where and with what."""
    machine = proof.machine
    seeds = distinct(str(network.seed) for network in proof.networks if network.seed is not None)
    sizes = distinct(
        n_(
            "{count} training images in batches of {size}",
            "{count} training images in batches of {size}",
            network.n_train,
            count=whole(network.n_train),
            size=whole(network.batch_size),
        )
        for network in proof.networks
        if network.n_train is not None and network.batch_size is not None
    )
    cores = f", {cores_of(machine.cores)}" if machine.cores else ""
    parts = [
        _("Proven {when}", when=moment(proof.proven)) if proof.proven else "",
        _("seed {seed}", seed=listed(seeds)) if seeds else "",
        sizes[0] if len(sizes) == 1 else "",
        f"{machine.cpu}{cores}" if machine.cpu else "",
        count(proof.threads, "{count} thread", "{count} threads") if proof.threads else "",
        f"Lockstep {proof.lockstep}" if proof.lockstep else "",
        _("revision {revision}", revision=proof.git_revision[:10]) if proof.git_revision else "",
    ]
    return "; ".join(filter(None, parts)) + "." if any(parts) else ""


def _planted(proof: Proof) -> list[str]:
    both = [(plant.partition("@")[0], plant.partition("@")[2]) for plant in proof.planted]
    return [
        _("{cause} in {backend}", cause=one, backend=other) if one and other else one or other for one, other in both
    ]


def _previous(before: Previous | None) -> list[str]:
    if not before:
        return []
    when = moment(before.proven) if before.proven else _("at an unknown time")
    verdict = forms.say(before.verdict)
    return [_("{file}: {verdict}, proven {when}", file=before.file, verdict=verdict, when=when)]


def _folders(proof: Proof) -> list[str]:
    if not proof.is_comparison:
        return []
    return [_("first: {name}", name=proof.first), _("second: {name}", name=proof.second)]


def _fits(fit: Fit) -> dict[str, Any]:
    """Whether the runs of the report are those that were proven."""
    n, n_covered = len(fit.covered) + len(fit.misfits), len(fit.covered)
    found: dict[str, Any] = {"text": "", "title": "", "kind": "warn", "lines": []}
    if not n:
        return found | {"text": _("No run has finished yet that this could be a proof of.")}
    if n_covered:
        if fit.misfits:
            some = n_(
                "{some} of the {count} finished runs",
                "{some} of the {count} finished runs",
                n,
                some=whole(n_covered),
                count=whole(n),
            )
        else:
            some = count(n, "the {count} finished run", "the {count} finished runs")
        found["text"] = _(
            "It is a proof of {runs} here: network, recipe, data, dtype, versions and Lockstep’s revision are the "
            "same. A run’s seed may be another one.",
            runs=some,
        )
    if fit.misfits:
        reasons: dict[tuple[str, ...], list[str]] = {}
        for run, why in fit.misfits:
            name = _(
                "{network} on {backend}, seed {seed}",
                network=run.network,
                backend=run.backend,
                seed=run.seed or MISSING,
            )
            reasons.setdefault(why, []).append(name)
        lines = [f"{'; '.join(why)}: {_some(runs)}" for why, runs in reasons.items()]
        found["kind"] = "warn" if n_covered else "bad"
        found["title"] = (
            count(len(fit.misfits), "It is no proof of {count} run here", "It is no proof of {count} runs here")
            if n_covered
            else _("This proof does not fit the runs of this report")
        )
        more = len(lines) - MAX_MISFITS
        found["lines"] = lines[:MAX_MISFITS]
        if more > 0:
            found["lines"].append(count(more, "and {count} further reason", "and {count} further reasons"))
    return found


def _some(names: Sequence[str], most: int = 8) -> str:
    """A list that may be long, each once."""
    once = distinct(names)
    if len(once) <= most:
        return listed(once)
    return listed([*once[:most], _("{n} more", n=whole(len(once) - most))])


def _left_out(proof: Proof) -> str:
    n = len(proof.networks) - MAX_NETWORKS
    if n <= 0:
        return ""
    return count(
        n,
        "Not shown, for the page’s size: stages and growth of {count} further case.",
        "Not shown, for the page’s size: stages and growth of {count} further cases.",
    )


# --------------------------------------------------------------------------------------------------- verdicts, stages


def _titles(networks: Sequence[Network]) -> list[str]:
    """Each network with what sets it apart from the others."""
    return [titled(row.network, found) for row, found in zip(networks, coordinates(networks), strict=True)]


def _labels(network: Network) -> list[str]:
    """What each backend's column is called; two run folders may be of one backend."""
    if len(network.backends) == 2 and all(row.folder for row in network.backends):
        first, second = (row.backend for row in network.backends)
        return [_("first: {name}", name=first), _("second: {name}", name=second)]
    return [row.backend for row in network.backends]


# What of a backend was judged: title, what it is called where it is whole in every row, how many of how many or a text.
PARTS: tuple[tuple[str, str, Callable[[Coverage], Share | str]], ...] = (
    (later("Layers"), later("all layers"), lambda seen: seen.layers or MISSING),
    (later("Parameters"), later("all parameters"), lambda seen: seen.parameters or MISSING),
    (later("Updates"), later("all updates"), lambda seen: _of(seen.updates_judged, seen.steps)),
    (later("Updates to within"), "", lambda seen: _within(seen)),
    (
        later("Full steps"),
        later("every layer in each step"),
        lambda seen: _of(seen.steps_with_layers_judged, seen.steps),
    ),
)


def _summary(proof: Proof) -> Table:
    """Network × backend: verdict, worst number, coverage. What is whole in every row is said once, without a column."""
    rows: list[list[str]] = []
    marks, breaks, notes = {}, set(), {}
    coordinate_of = coordinates(proof.networks)
    seen = [row.coverage for network in proof.networks for row in network.backends]
    everywhere = [part for part in PARTS if part[1] and seen and all(_is_whole(part[2](one)) for one in seen)]
    shown = [part for part in PARTS if part not in everywhere and any(part[2](one) != MISSING for one in seen)]
    unseen = any(_unseen(row) != NOTHING for network in proof.networks for row in network.backends)
    for network, coordinate in zip(proof.networks, coordinate_of, strict=True):
        breaks.add(len(rows))
        for label, row in zip(_labels(network), network.backends, strict=True):
            worst = _worst(row)
            if row.reason:
                notes[len(rows)] = forms.say(row.reason)
            marks[len(rows), 2 + len(coordinate)] = MARKS[row.verdict]
            rows.append(
                [
                    network.network, *coordinate.values(), label, forms.say(row.verdict),
                    _times(worst) if worst else MISSING, spot(worst) if worst else MISSING,
                    *(_judged(part[2](row.coverage)) for part in shown),
                    fixed(row.coverage.values, 0), *([_(_unseen(row))] if unseen else []),
                ]
            )  # fmt: skip
    if len(rows) > MAX_ROWS:
        notes[MAX_ROWS - 1] = more_rows(len(rows) - MAX_ROWS)
    heads = {"dataset": _("Dataset"), "dtype": _("Dtype")}  # keys of the grid stay as the study writes them
    columns = [(_("Network"), "l"), *((heads.get(key, short(key)), "l") for key in (coordinate_of or [{}])[0])]
    columns += [(_("Backend"), "l"), (_("Verdict"), "l"), (_("Worst, × tolerance"), "r"), (_("Where"), "l wide")]
    columns += [(_(part[0]), "r") for part in shown] + [(_("Numbers"), "r")]
    columns += [(_("Not observed"), "l wrap")] if unseen else []
    caption = [_("What was found and what it rests on. Up to 1 × its tolerance a number is within rounding.")]
    if everywhere:
        caption.append(_("Judged in every row: {parts}.", parts=listed([_(part[1]) for part in everywhere])))
    if any(one.updates_within for one in seen):
        caption.append(
            _(
                "“Updates to within” is the part of a step that may be wrong unseen, of the parameter that is judged "
                "least closely; ⁶⁴ where float32 leaves more than a tenth open and the steps were taken in float64 too."
            )
        )
    late = any(one.late_steps for one in seen)
    if late:
        caption.append(_("Steps beyond the first ones are the last two of the schedule."))
    if any(part[1] for part in shown):
        caption.append(_("“5 of 6” says how many were judged, of all; in a full step every layer was."))
    if rows and not unseen:
        caption.append(_("No stage was left out."))
    return Table(" ".join(caption), columns, rows[:MAX_ROWS], breaks=breaks, notes=notes, marks=marks)


def _within(seen: Coverage) -> str:
    """ "0.93 %": of the parameter whose updates were judged least closely."""
    found = [within for within in seen.updates_within.values() if within is not None]
    if not found:
        return MISSING
    return f"{100 * max(found):.2g} %" + ("⁶⁴" if seen.in_float64 else "")


NOTHING = later("nothing")


def _unseen(row: Backend) -> str:
    """What was not observed; of two run folders without traces, nothing but the losses was."""
    if row.stages or row.coverage.missing:
        return ", ".join(map(forms.say, row.coverage.missing)) or NOTHING
    return _("all but losses") if row.coverage.values else _("all")


def _is_whole(found: Share | str) -> bool:
    return isinstance(found, Share) and found.judged == found.of


def _of(n: int | None, every: int | None) -> Share | str:
    return MISSING if n is None else f"{n:,}" if every is None else Share(judged=n, of=every)


def _judged(found: Share | str) -> str:
    """ "5 of 6" in the language in use."""
    if isinstance(found, str):
        return number(found)
    return _("{n} of {all}", n=number(f"{found.judged:,}"), all=number(f"{found.of:,}"))


def _worst(row: Backend) -> Worst | None:
    """The worst number of all stages, with its stage."""
    rows = [but(stage.worst, stage=stage.stage) for stage in row.stages if stage.worst]
    return max(rows, key=_ratio, default=None)


def _ratio(worst: Worst) -> float:
    return math.inf if worst.times_tolerance is None else worst.times_tolerance


def _times(worst: Worst) -> str:
    """ "0.38", "> 10⁶": how far off, in tolerances."""
    ratio = _ratio(worst)
    return significant(ratio) if ratio < MANY else "> 10⁶"


def _network(network: Network, title: str, prefix: str) -> dict[str, Any]:
    labels = _labels(network)
    return {
        "title": title,
        "stages": _stages(network, title, labels) if any(row.stages for row in network.backends) else None,
        "growth": growth(network, title, prefix) if network.growth else None,
        "suspicion": forms.say(network.suspicion.reason) if network.suspicion else "",
        "blind": _blind(network),
        "differences": _differences(network, title) if network.differences else None,
        "certificates": [
            (
                label,
                json.dumps(row.certificate.model_dump(exclude={"worst": {"problem"}}), indent=2, ensure_ascii=False),
            )
            for label, row in zip(labels, network.backends, strict=True)
            if row.certificate
        ],
    }


def _stages(network: Network, title: str, labels: Sequence[str]) -> Table:
    """Stage × backend: verdict and worst number."""
    names = distinct(stage.stage for row in network.backends for stage in row.stages)
    marks, rows = {}, []
    for place, name in enumerate(names):
        cells = []
        for column, row in enumerate(network.backends, 1):
            stage = next((stage for stage in row.stages if stage.stage == name), None)
            text, mark = _cell(stage, row)
            marks[place, column] = mark
            cells.append(text)
        rows.append([forms.say(name), *cells])
    caption = _(
        "{title}: stages in the order in which data flow. Each part was fed what the backend itself fed it, so an "
        "error is not passed on from one stage to the next. The number is the largest difference from the judge, in "
        "tolerances. —: does not apply here.",
        title=title,
    )
    return Table(caption, [(_("Stage"), "l"), *((label, "r") for label in labels)], rows, marks=marks)


def _blind(network: Network) -> list[str]:
    """The known differences that this proof would not have seen, each in a line."""
    return [f"{one.cause}: {forms.say(one.what)}" for one in network.differences if not one.is_seen]


def _differences(network: Network, title: str) -> Table:
    """Every known difference that applies here, and how large it would have been."""
    rows, marks = [], {}
    for place, one in enumerate(network.differences):
        effect = MANY if one.effect is None else one.effect
        rows.append(
            [one.cause, forms.say(one.what), forms.say(one.stage), significant(effect) if effect < MANY else "> 10⁶"]
        )
        if not one.is_seen:
            marks[place, 3] = "warn"
    caption = _(
        "{title}: what this proof would have seen. Of each known difference that can be made here, how far off a "
        "backend that makes it would have been, in tolerances, worked out by the judge alone. Up to 1 × it is a blind "
        "spot.",
        title=title,
    )
    columns = [(_("Difference"), "l"), (_("What it is"), "l wide"), (_("Stage"), "l"), (_("× tolerance"), "r")]
    return Table(caption, columns, rows, marks=marks)


def _cell(stage: Stage | None, row: Backend) -> tuple[str, str]:
    """(text, mark) of one stage of one backend."""
    if stage is None or not stage.comparisons or stage.worst is None:
        is_missing = stage is None or stage.stage in row.coverage.missing
        return (_("not observed"), "warn") if is_missing else (MISSING, "")
    ratio = _ratio(stage.worst)
    if stage.verdict == "EQUAL" and ratio > 1:  # judged through parts of which one is guilty
        return _("follows {times}", times=_times(stage.worst)), ""
    times = f" {_times(stage.worst)}" if ratio > 1 or stage.verdict == "EQUAL" else ""
    return f"{forms.say(stage.verdict)}{times}", "" if stage.verdict == "EQUAL" else MARKS[stage.verdict]


# ------------------------------------------------------------------------------------------------------ growth, cost


def _cost(rows: Sequence[Cost]) -> Table | None:
    """What the planted differences cost when training goes on to its end."""
    if not rows:
        return None
    body = [
        [
            row.network, row.backend, ", ".join(distinct(row.plants)), percent(row.accuracy, 2),
            percent(row.planted_accuracy, 2), fixed(row.loss, 4), fixed(row.planted_loss, 4),
        ]
        for row in rows
    ]  # fmt: skip
    columns = [
        (_("Network"), "l"),
        (_("Backend"), "l"),
        (_("Planted"), "l"),
        (_("Test accuracy (%)"), "r"),
        (_("planted (%)"), "r"),
    ]
    columns += [(_("Test loss"), "r"), (_("planted"), "r")]
    caption = _("What it costs: one training to its end as it should be and one with what was planted, with one seed.")
    return Table(caption, columns, body)
