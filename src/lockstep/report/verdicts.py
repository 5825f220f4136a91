"""A proof → what the page says of it: verdict, what it rests on, what it does not say, and every divergence's cause."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lockstep import plots
from lockstep.report.numbers import MISSING, count, fixed, listed, percent, significant
from lockstep.report.proven import (
    Backend,
    Cause,
    Cost,
    Coverage,
    Divergence,
    Fit,
    Growth,
    Network,
    Previous,
    Proof,
    Reading,
    Stage,
    Worst,
)
from lockstep.report.table import Table

# A page has a size: what is left out beyond these is said where it is left out.
MAX_NETWORKS = 16  # with stages, growth and certificates
MAX_ROWS = 400  # of the table of verdicts
MAX_FIRST = 3  # first places in the sentence
MAX_CAUSES = 12  # divergences of one backend and cause
MAX_PLACES = 60  # of one divergence
MAX_TWIN_ROWS = 200  # behind a figure of growth
MAX_MISFITS = 12  # lines on runs that a proof does not fit

EXACT = 1e-30  # a tolerance below this only lets numbers through that frameworks flush to zero
MANY = 1e6  # times the tolerance; how many more says nothing
MARKS = {"IDENTICAL": "good", "EQUAL": "good", "INCONCLUSIVE": "warn", "DIVERGED": "bad", "ERROR": "bad"}

LIMITS = (
    "It says nothing of how long trainings end. In float32 they part by rounding alone (a relu’s input that is −3·10⁻⁸ "
    "in one and +2·10⁻⁸ in another is enough), and their ends are equal in distribution at most."
)


def tell_proof(reading: Reading, prefix: str, fit: Fit | None = None) -> dict[str, Any]:
    """Everything that the page says of one proof, as plain data; `prefix` keeps the figures' identifiers apart.

    `fit` are the runs that the proof is shown beside; None for a page of its own.
    """
    proof = reading.proof
    if proof is None:
        gap = (
            f"{reading.study}: proof.json cannot be used, so nothing is proven here: {reading.gap}"
            if reading.gap
            else ""
        )
        return {"study": reading.study, "gap": gap, "is_there": False}
    titles = _titles(proof.networks)
    shown = list(zip(proof.networks, titles, strict=True))[:MAX_NETWORKS]
    return {
        "study": reading.study,
        "gap": "",
        "is_there": True,
        "verdict": proof.verdict if not fit or fit.covered else f"{proof.verdict}, but not of these runs",
        "mark": MARKS[proof.verdict] if not fit or fit.covered else "warn",
        "sentence": _sentence(proof),
        "limits": _limits(proof),
        "made": _made(proof),
        "planted": _planted(proof),
        "not_observed": list(proof.coverage.not_observed),
        "fits": _fits(fit) if fit else {"text": "", "title": "", "kind": "", "lines": []},
        "folders": _folders(proof),
        "previous": _previous(proof.previous),
        "summary": _summary(proof),
        "divergences": _divergences(proof),
        "networks": [_network(network, title, f"{prefix}-{n}") for n, (network, title) in enumerate(shown)],
        "left_out": _left_out(proof),
        "cost": _cost(proof.cost),
    }


# ----------------------------------------------------------------------------------------------------- in sentences


def _sentence(proof: Proof) -> str:
    """The verdict's meaning, without the word itself, which stands before it."""
    if proof.is_comparison:
        return f"{proof.claim}."
    rows = [row for network in proof.networks for row in network.backends]
    names = _distinct(row.backend for row in rows)
    first = f"the first {count(proof.steps, 'step')}"
    n = len(proof.networks)
    thing = "network" if len({network.network for network in proof.networks}) == n else "combination"
    networks = "" if n < 2 else f", with both {thing}s" if n == 2 else f", with all {count(n, thing)}"
    if proof.verdict in ("IDENTICAL", "EQUAL"):
        who = f"all {count(len(names), 'backend')}" if len(names) > 2 else listed(names)
        return f"{who} took {first} alike within rounding{networks}. {_rests_on(proof)}"
    by_verdict = {word: _distinct(row.backend for row in rows if row.verdict == word) for word in MARKS}
    told = [f"{listed(found)}: {word}" for word, found in by_verdict.items() if found]
    what = {
        "DIVERGED": "not every backend takes the same steps",
        "ERROR": "a backend failed",
        "INCONCLUSIVE": "nothing is off where something was seen, but not everything was observed",
    }[proof.verdict]
    return f"{what} ({'; '.join(told)}). {_first_places(proof)}{_rests_on(proof)}"


def _first_places(proof: Proof) -> str:
    """Where each network and backend is off first."""
    firsts: dict[tuple[str, ...], Divergence] = {}
    for found in proof.divergences:
        firsts.setdefault((found.network, found.dataset, found.dtype, found.backend), found)
    told = [f"{found.network} on {found.backend}: {_spot(found)}: {_off(found)}" for found in firsts.values()]
    more = _more(len(told) - MAX_FIRST, "more below", "more below")
    what = "The first place" if len(told) == 1 else "The first places"
    return f"{what}: {'; '.join([*told[:MAX_FIRST], *more])}. " if told else ""


def _rests_on(proof: Proof) -> str:
    """How many numbers were compared, and how near the worst of a backend that agrees comes to its tolerance."""
    if not proof.coverage.values:
        return "No number was compared."
    text = (
        f"{proof.coverage.values:,} numbers were compared with those of a judge, NumPy in float64, which works every "
    )
    text += "part of each step out again from what the backend itself fed it."
    rows = [
        (worst, f"{network.network} on {row.backend}: {_spot(worst)}")
        for network in proof.networks
        for row in network.backends
        if row.verdict in ("IDENTICAL", "EQUAL") and (worst := _worst(row))
    ]
    if not rows:
        return text
    worst, where = max(rows, key=lambda found: _ratio(found[0]))
    whose = "The one furthest off" if proof.verdict in ("IDENTICAL", "EQUAL") else "Where they agree, the furthest off"
    return f"{text} {whose} reached {_times(worst)} of what rounding allows ({where})."


def _limits(proof: Proof) -> str:
    """What exactly is claimed, and what is not."""
    if proof.is_comparison:
        return LIMITS if proof.verdict == "EQUAL" else ""
    if proof.verdict in ("IDENTICAL", "EQUAL"):
        return f"Exactly this is claimed: {proof.claim}. {LIMITS}" if proof.claim else LIMITS
    agree = any(row.verdict in ("IDENTICAL", "EQUAL") for network in proof.networks for row in network.backends)
    rest = " A row that is EQUAL is so for itself: within rounding, on everything that was observed of it."
    return f"Nothing is claimed of the whole.{rest if agree else ''}"


def _made(proof: Proof) -> str:
    """When, where and with what."""
    machine = proof.machine
    seeds = _distinct(str(network.seed) for network in proof.networks if network.seed is not None)
    sizes = _distinct(
        f"{network.n_train:,} training images in batches of {network.batch_size:,}"
        for network in proof.networks
        if network.n_train is not None and network.batch_size is not None
    )
    cores = f", {count(machine.cores, 'core')}" if machine.cores else ""
    parts = [
        f"Proven {proof.proven}" if proof.proven else "",
        f"seed {listed(seeds)}" if seeds else "",
        sizes[0] if len(sizes) == 1 else "",
        f"{machine.cpu}{cores}" if machine.cpu else "",
        f"{count(proof.threads, 'thread')}" if proof.threads else "",
        f"Lockstep {proof.lockstep}" if proof.lockstep else "",
        f"revision {proof.git_revision[:10]}" if proof.git_revision else "",
    ]
    return "; ".join(filter(None, parts)) + "." if any(parts) else ""


def _planted(proof: Proof) -> list[str]:
    return [" in ".join(filter(None, (plant.partition("@")[0], plant.partition("@")[2]))) for plant in proof.planted]


def _previous(kept: Previous | None) -> list[str]:
    return [f"{kept.file}: {kept.verdict}, proven {kept.proven or 'at an unknown time'}"] if kept else []


def _folders(proof: Proof) -> list[str]:
    return [f"first: {proof.first}", f"second: {proof.second}"] if proof.is_comparison else []


def _fits(fit: Fit) -> dict[str, Any]:
    """Whether the runs of the report are those that were proven."""
    n, n_covered = len(fit.covered) + len(fit.misfits), len(fit.covered)
    found: dict[str, Any] = {"text": "", "title": "", "kind": "warn", "lines": []}
    if not n:
        return found | {"text": "No run has finished yet that this could be a proof of."}
    if n_covered:
        some = f"{n_covered:,} of the {n:,} finished runs" if fit.misfits else f"the {count(n, 'finished run')}"
        found["text"] = (
            f"It is a proof of {some} here: network, recipe, data, dtype, versions and Lockstep’s revision are the "
            "same. A run’s seed may be another one."
        )
    if fit.misfits:
        reasons: dict[tuple[str, ...], list[str]] = {}
        for run, why in fit.misfits:
            reasons.setdefault(why, []).append(f"{run.network} on {run.backend}, seed {run.seed or MISSING}")
        lines = [f"{'; '.join(why)}: {_some(runs)}" for why, runs in reasons.items()]
        found["kind"] = "warn" if n_covered else "bad"
        found["title"] = (
            f"It is no proof of {count(len(fit.misfits), 'run')} here"
            if n_covered
            else "This proof does not fit the runs of this report"
        )
        found["lines"] = [*lines[:MAX_MISFITS], *_more(len(lines) - MAX_MISFITS, "further reason")]
    return found


def _some(names: Sequence[str], most: int = 8) -> str:
    """A list that may be long, each once."""
    kept = _distinct(names)
    return listed([*kept[:most], f"{len(kept) - most:,} more"]) if len(kept) > most else listed(kept)


def _more(n: int, thing: str, things: str = "") -> list[str]:
    return [f"and {count(n, thing, things)}"] if n > 0 else []


def _left_out(proof: Proof) -> str:
    n = len(proof.networks) - MAX_NETWORKS
    return f"Not shown, for the page’s size: stages and growth of {count(n, 'further case')}." if n > 0 else ""


# --------------------------------------------------------------------------------------------------- verdicts, stages


def _coordinates(rows: Sequence[Network | Divergence]) -> list[dict[str, str]]:
    """What sets networks apart beside their name: "dataset", "dtype" and keys of the grid, where they vary."""
    found = [{"dataset": row.dataset, "dtype": row.dtype, **row.grid} for row in rows]
    varying = [
        key for key in _distinct(key for row in found for key in row) if len({row.get(key) for row in found}) > 1
    ]
    return [{key: row.get(key, MISSING) for key in varying} for row in found]


def _short(key: str) -> str:
    """ "recipe.batch_size" → "batch_size"."""
    return key.rpartition(".")[2]


def _title(name: str, coordinate: dict[str, str]) -> str:
    """ "mlp · float32 · batch_size 13": datasets and dtypes need no word before them."""
    told = (value if key in ("dataset", "dtype") else f"{_short(key)} {value}" for key, value in coordinate.items())
    return " · ".join([name, *told])


def _titles(networks: Sequence[Network]) -> list[str]:
    """Each network with what sets it apart from the others."""
    return [_title(row.network, found) for row, found in zip(networks, _coordinates(networks), strict=True)]


def _labels(network: Network) -> list[str]:
    """What each backend's column is called; two run folders may be of one backend."""
    if len(network.backends) == 2 and all(row.folder for row in network.backends):
        return [f"{which}: {row.backend}" for which, row in zip(("first", "second"), network.backends, strict=True)]
    return [row.backend for row in network.backends]


# What of a backend was judged: title, what it is called where it is whole in every row, how many of how many.
PARTS: tuple[tuple[str, str, Callable[[Coverage], str]], ...] = (
    ("Layers", "all layers", lambda seen: seen.layers or MISSING),
    ("Parameters", "all parameters", lambda seen: seen.parameters or MISSING),
    ("Updates", "all updates", lambda seen: _of(seen.updates_judged, seen.steps)),
    ("Full steps", "every layer in each step", lambda seen: _of(seen.steps_with_layers_judged, seen.steps)),
)


def _summary(proof: Proof) -> Table:
    """Network × backend: verdict, worst number, coverage. What is whole in every row is said once, without a column."""
    rows: list[list[str]] = []
    marks, breaks, notes = {}, set(), {}
    coordinates = _coordinates(proof.networks)
    seen = [row.coverage for network in proof.networks for row in network.backends]
    whole = [part for part in PARTS if seen and all(_is_whole(part[2](one)) for one in seen)]
    shown = [part for part in PARTS if part not in whole and any(part[2](one) != MISSING for one in seen)]
    unseen = any(_unseen(row) != NOTHING for network in proof.networks for row in network.backends)
    for network, coordinate in zip(proof.networks, coordinates, strict=True):
        breaks.add(len(rows))
        for label, row in zip(_labels(network), network.backends, strict=True):
            worst = _worst(row)
            if row.reason:
                notes[len(rows)] = row.reason
            marks[len(rows), 2 + len(coordinate)] = MARKS[row.verdict]
            rows.append(
                [
                    network.network, *coordinate.values(), label, row.verdict, _times(worst) if worst else MISSING,
                    _spot(worst) if worst else MISSING, *(part[2](row.coverage) for part in shown),
                    fixed(row.coverage.values, 0), *([_unseen(row)] if unseen else []),
                ]
            )  # fmt: skip
    if len(rows) > MAX_ROWS:
        notes[MAX_ROWS - 1] = f"Not shown, for the page’s size: {len(rows) - MAX_ROWS:,} further rows."
    heads = {"dataset": "Dataset", "dtype": "Dtype"}  # keys of the grid stay as the study writes them
    columns = [("Network", "l"), *((heads.get(key, _short(key)), "l") for key in (coordinates or [{}])[0])]
    columns += [("Backend", "l"), ("Verdict", "l"), ("Worst, × tolerance", "r"), ("Where", "l wide")]
    columns += [(title, "r") for title, *_ in shown] + [("Numbers", "r")]
    columns += [("Not observed", "l wrap")] if unseen else []
    caption = "What was found and what it rests on. Up to 1 × its tolerance a number is within rounding."
    caption += f" Judged in every row: {listed([name for _, name, _ in whole])}." if whole else ""
    caption += " “5 of 6” says how many were judged, of all; in a full step every layer was." if shown else ""
    caption += "" if unseen or not rows else " No stage was left out."
    return Table(caption, columns, rows[:MAX_ROWS], breaks=breaks, notes=notes, marks=marks)


NOTHING = "nothing"


def _unseen(row: Backend) -> str:
    """What was not observed; of two run folders without traces, nothing but the losses was."""
    if row.stages or row.coverage.missing:
        return ", ".join(row.coverage.missing) or NOTHING
    return "all but losses" if row.coverage.values else "all"


def _is_whole(text: str) -> bool:
    """Whether "6 of 6" is all."""
    seen, of, whole = text.partition(" of ")
    return bool(of) and seen == whole


def _of(n: int | None, whole: int | None) -> str:
    return MISSING if n is None else f"{n:,}" if whole is None else f"{n:,} of {whole:,}"


def _worst(row: Backend) -> Worst | None:
    """The worst number of all stages, with its stage."""
    rows = [stage.worst.model_copy(update={"stage": stage.stage}) for stage in row.stages if stage.worst]
    return max(rows, key=_ratio, default=None)


def _ratio(worst: Worst) -> float:
    return math.inf if worst.times_tolerance is None else worst.times_tolerance


def _times(worst: Worst) -> str:
    """ "0.38", "> 10⁶": how far off, in tolerances."""
    ratio = _ratio(worst)
    return significant(ratio) if ratio < MANY else "> 10⁶"


def _spot(place: Worst | Divergence) -> str:
    """ "updated weights, 1_dense/kernel, step 0"."""
    step = "" if place.step is None or place.step < 0 else f"step {place.step}"
    return ", ".join(filter(None, (place.stage, place.where, step)))


def _network(network: Network, title: str, prefix: str) -> dict[str, Any]:
    labels = _labels(network)
    return {
        "title": title,
        "stages": _stages(network, title, labels) if any(row.stages for row in network.backends) else None,
        "growth": _growth(network, title, prefix) if network.growth else None,
        "certificates": [
            (label, json.dumps(row.certificate.model_dump(), indent=2, ensure_ascii=False))
            for label, row in zip(labels, network.backends, strict=True)
            if row.certificate
        ],
    }


def _stages(network: Network, title: str, labels: Sequence[str]) -> Table:
    """Stage × backend: verdict and worst number."""
    names = _distinct(stage.stage for row in network.backends for stage in row.stages)
    marks, rows = {}, []
    for place, name in enumerate(names):
        cells = []
        for column, row in enumerate(network.backends, 1):
            stage = next((stage for stage in row.stages if stage.stage == name), None)
            text, mark = _cell(stage, row)
            marks[place, column] = mark
            cells.append(text)
        rows.append([name, *cells])
    caption = (
        f"{title}: stages in the order in which data flow. Each part was fed what the backend itself fed it, so an "
        "error is not passed on from one stage to the next. The number is the largest difference from the judge, in "
        f"tolerances. {MISSING}: does not apply here."
    )
    return Table(caption, [("Stage", "l"), *((label, "r") for label in labels)], rows, marks=marks)


def _cell(stage: Stage | None, row: Backend) -> tuple[str, str]:
    """(text, mark) of one stage of one backend."""
    if stage is None or not stage.comparisons or stage.worst is None:
        is_missing = stage is None or stage.stage in row.coverage.missing
        return ("not observed", "warn") if is_missing else (MISSING, "")
    ratio = _ratio(stage.worst)
    if stage.verdict == "EQUAL" and ratio > 1:  # judged through parts of which one is guilty
        return f"follows {_times(stage.worst)}", ""
    number = f" {_times(stage.worst)}" if ratio > 1 or stage.verdict == "EQUAL" else ""
    return f"{stage.verdict}{number}", "" if stage.verdict == "EQUAL" else MARKS[stage.verdict]


# ------------------------------------------------------------------------------------------------------- divergences


def _divergences(proof: Proof) -> list[dict[str, Any]]:
    """Divergences, those of one backend and cause together, the first one first."""
    groups: dict[tuple[Any, ...], list[Divergence]] = {}
    titles = []
    for found, coordinate in zip(proof.divergences, _coordinates(proof.divergences), strict=True):
        title = _title(found.network, {key: value for key, value in coordinate.items() if value})
        key = (title, found.backend, found.folder, found.causes)
        titles += [f"{title} · {found.backend}"] if key not in groups else []
        groups.setdefault(key, []).append(found)
    told: list[dict[str, Any]] = []
    known: set[str] = set()
    for title, rows in list(zip(titles, groups.values(), strict=True))[:MAX_CAUSES]:
        first = rows[0]
        bundles = _distinct(row.bundle for row in rows if row.bundle)
        told.append(
            {
                "title": title,
                "folder": first.folder or "",
                "first": f"{_spot(first)}: {_off(first)}.",
                "numbers": _numbers(first),
                "cause": _cause(first.causes),
                "explained": [
                    _explained(cause, len(first.explained) > 1) for cause in first.explained if cause.cause not in known
                ],
                "places": _places(rows),
                "n_places": len(rows),
                "bundle": bundles[0] if bundles else "",
                "bundles": _more(len(bundles) - 1, "more beside it", "more beside it"),
                "more": "",
            }
        )
        known |= {cause.cause for cause in first.explained}
    n = len(groups) - MAX_CAUSES
    if n > 0:
        told[-1]["more"] = f"Not shown, for the page’s size: {count(n, 'further divergence')}."
    return told


def _off(found: Divergence) -> str:
    """How far off, and what is allowed."""
    if found.problem:
        return found.problem
    if found.size is None:
        return "not a finite number"
    if not found.tolerance or found.tolerance < EXACT:
        return f"off by {significant(found.size)} where it must be exact"
    return f"off by {significant(found.size)} where rounding allows {significant(found.tolerance)}"


def _numbers(found: Divergence) -> str:
    if found.problem or found.found is None or found.wanted is None:
        return ""
    where = f" at {list(found.index)}" if found.index else ""
    digits = next((n for n in range(6, 17) if f"{found.found:.{n}g}" != f"{found.wanted:.{n}g}"), 17)
    return f"Its number{where} is {found.found:.{digits}g}; the judge’s is {found.wanted:.{digits}g}."


def _cause(causes: Sequence[str]) -> str:
    if not causes or causes == ("unexplained",):
        return "Cause unexplained: no known difference reproduces these numbers."
    if len(causes) == 1:
        return f"Cause, which reproduces these numbers within rounding: {causes[0]}."
    return f"Each of these reproduces the numbers, so one of them is the cause: {' or '.join(causes)}."


def _explained(cause: Cause, is_named: bool) -> list[tuple[str, str]]:
    rows = [("What", cause.what), ("Known from", cause.default_of), ("What to do", cause.mend)]
    return [("Cause", cause.cause)] * is_named + [(title, text) for title, text in rows if text]


def _places(rows: Sequence[Divergence]) -> Table:
    body = [
        [row.stage, row.where, _steps(row.steps or (row.step,)), *_measured(row), row.problem or ""]
        for row in rows[:MAX_PLACES]
    ]
    columns = [("Stage", "l"), ("Where", "l"), ("Steps", "l"), ("Off by", "r"), ("Tolerance", "r")]
    columns += [("Worst, × tolerance", "r"), ("Problem", "l")]
    if not any(row.problem for row in rows):
        columns, body = columns[:-1], [row[:-1] for row in body]
    more = f"; the first {MAX_PLACES} of {len(rows):,}" if len(rows) > MAX_PLACES else ""
    return Table(f"Every place with this cause{more}", columns, body)


def _measured(row: Divergence) -> list[str]:
    if row.problem:
        return [MISSING] * 3
    size = MISSING if row.size is None else significant(row.size)
    allowed = "exact" if not row.tolerance or row.tolerance < EXACT else significant(row.tolerance)
    times = math.inf if row.times_tolerance is None else row.times_tolerance
    return [size, allowed, significant(times) if times < MANY else "> 10⁶"]


def _steps(steps: Sequence[int | None]) -> str:
    """(0, 1, 2, 3) → "0 to 3"."""
    known = [step for step in steps if step is not None]
    if len(known) > 2 and known == list(range(known[0], known[-1] + 1)):
        return f"{known[0]} to {known[-1]}"
    return ", ".join(map(str, known[:6])) + (" …" if len(known) > 6 else "") or MISSING


# ------------------------------------------------------------------------------------------------------ growth, cost


def _growth(network: Network, title: str, prefix: str) -> dict[str, Any]:
    """How the difference to the judge grows: a figure for each measure, a caption, the numbers."""
    found = network.growth or Growth(steps=0, loss={}, weights={})
    backends = [row.backend for row in network.backends]
    drawn, alone = [], ""
    for measure in plots.DIFFERENCES:
        lines = getattr(found, measure)
        alone = next((name for name in lines if name not in backends), "")
        named = (f"rounding alone: {alone}", lines[alone]) if alone else None
        figure = plots.growth({name: lines[name] for name in backends if name in lines}, named, measure)
        drawn.append(plots.svg(figure, _growth_said(title, measure, lines), f"{prefix}-{measure}"))
    grey = f" Grey is what rounding alone does: {alone}." if alone else ""
    caption = (
        "How far each training is from the judge’s, step by step, each left to itself from the same start: the loss of "
        "a step, and the weights after it (the largest difference, relative to the network’s largest weight)."
        f"{grey} A line far above the grey one is a reason to look for another cause than rounding"
        f"{'; no verdict rests on it' if network.dtype == 'float32' else ''}. 0 marks differences of zero; a step that "
        "was not observed leaves a gap."
    )
    return {"plots": drawn, "caption": caption, "twin": _growth_twin(found, title)}


def _growth_said(title: str, measure: str, lines: dict[str, tuple[float | None, ...]]) -> str:
    """What a screen reader says of a figure of growth."""
    ends = [f"{name} {significant(seen[-1])}" for name, row in lines.items() if (seen := _seen(row))]
    steps = max(map(len, lines.values()), default=0)
    what = f"{title}: {plots.DIFFERENCES[measure].lower()} to the judge over {count(steps, 'step')}"
    return f"{what}. At the last step that was observed: {', '.join(ends) or 'not known'}."


def _seen(row: Iterable[float | None]) -> list[float]:
    return [value for value in row if value is not None]


def _growth_twin(found: Growth, title: str) -> Table:
    """The numbers behind the figures."""
    names = _distinct([*found.loss, *found.weights])
    steps = max(map(len, [*found.loss.values(), *found.weights.values()]), default=0)
    stride = max(1, math.ceil(steps * len(names) / MAX_TWIN_ROWS))
    rows: list[list[str]] = []
    breaks = set()
    for name in names:
        breaks.add(len(rows))
        for step in range(steps):
            if step % stride == 0 or step == steps - 1:
                values = [_at(row.get(name, ()), step) for row in (found.loss, found.weights)]
                rows.append(
                    [name, f"{step:,}", *(MISSING if value is None else significant(value) for value in values)]
                )
    columns = [("Backend", "l"), ("Step", "r"), ("Loss", "r"), ("Weights", "r")]
    more = f", every {stride} steps" if stride > 1 else ""
    return Table(f"{title}: relative differences from the judge{more}", columns, rows, breaks=breaks)


def _at(row: Sequence[float | None], step: int) -> float | None:
    return row[step] if step < len(row) else None


def _cost(rows: Sequence[Cost]) -> Table | None:
    """What the planted differences cost when training goes on to its end."""
    if not rows:
        return None
    body = [
        [
            row.network, row.backend, ", ".join(_distinct(row.plants)), percent(row.accuracy, 2),
            percent(row.planted_accuracy, 2), fixed(row.loss, 4), fixed(row.planted_loss, 4),
        ]
        for row in rows
    ]  # fmt: skip
    columns = [("Network", "l"), ("Backend", "l"), ("Planted", "l"), ("Test accuracy (%)", "r"), ("planted (%)", "r")]
    columns += [("Test loss", "r"), ("planted", "r")]
    caption = "What it costs: one training to its end as it should be and one with what was planted, with one seed."
    return Table(caption, columns, body)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
