"""The proof: evidence that backends took the same steps, or the first place where one did not, and its cause.

Each backend leaves a trace of its first steps (`trace`), the judge works every part of it out again (`judge`), and what
is off by more than rounding (`rounding`) is explained by reproduction (`causes`). Verdicts:

    IDENTICAL     bit for bit what the NumPy backend computed
    EQUAL         within rounding of the judge, on everything that was observed
    DIVERGED      not so: the first place, its size, its cause
    INCONCLUSIVE  not observed: a framework that is not installed, a dataset that is not here
    ERROR         the backend failed

What is claimed is exactly this: the first steps are the same within rounding. Long float32 trainings part all the same
(a relu's input that is −3e-8 in one and +2e-8 in another is enough); their ends are equal in distribution.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from lockstep import backends, data, store, study
from lockstep.errors import LockstepError, Problem, did_you_mean
from lockstep.files import atomic, locks
from lockstep.language import joined
from lockstep.language import later as _
from lockstep.language import n_later as n_
from lockstep.machine import contention, processes, timing
from lockstep.proof import bundle, growth, power, verdicts
from lockstep.proof.cases import Case, cases
from lockstep.proof.causes import CAUSES, differing, planted
from lockstep.proof.judge import STAGES, Finding
from lockstep.proof.trace import Trace
from lockstep.proof.verdicts import Court, coverage, judge_growth
from lockstep.spec import Run, Study
from lockstep.spec.records import changed, digest
from lockstep.spec.toml import resolved_toml
from lockstep.study import places
from lockstep.study.places import local
from lockstep.version import version

FORMAT = 1
STEPS = 10
VERDICTS = ("IDENTICAL", "EQUAL", "INCONCLUSIVE", "DIVERGED", "ERROR")  # of several, the last of these
Tell = Callable[[Run, dict[str, Any]], None]


def worst_of(verdicts: Iterable[str]) -> str:
    """The verdict of a whole: that of its worst part; INCONCLUSIVE where there is none."""
    return max(verdicts, key=VERDICTS.index, default="INCONCLUSIVE")


def _was_found(plant: str, divergences: list[dict[str, Any]]) -> bool:
    name, _at, backend = plant.partition("@")
    return any(
        row["backend"] == backend and any(name in cause.split(" + ") for cause in row["causes"]) for row in divergences
    )


def claim(verdict: str, steps: int) -> str:
    """What a verdict says, and no more."""
    if verdict in ("IDENTICAL", "EQUAL"):
        return _("the first {n} steps are the same within rounding, on everything that was observed", n=steps)
    if verdict == "DIVERGED":
        return _("at least one backend does not do what the study says; the first places and their causes are named")
    return _("not everything that was asked was observed, so nothing is claimed of the whole")


# ----------------------------------------------------------------------------------------------------- a study, proven


class Threads(contention.Threads):
    """As many traces are made at a time as threads are free."""

    def of(self, run: Run) -> int:
        """How many a worker takes: one, which waits for no other; NumPy's shares every batch out as training does.

        The division between threads is our own work in NumPy, and part of what is proven; it is the framework's
        elsewhere.
        """
        return self.asked if run.backend == "numpy" else 1


@timing.one_blas_thread()  # what a judge multiplies is small: a second thread would only spin, where a worker computes
def prove(
    asked: Study, runs_folder: Path, steps: int = STEPS, plants: Sequence[str] = (), threads: int | None = None,
    tell: Tell = lambda run, event: None,
) -> dict[str, Any]:  # fmt: skip
    """Prove every network, recipe, dataset and dtype of a study, with its first seed, over its backends.

    `steps` are taken on as many training images as make two epochs of them, the short last batch among them. `plants`
    are `cause@backend`: differences switched on in one backend; one given twice is one. `tell` hears of the progress.
    Returns the document that `proof.json` in the study's folder holds; docs/proof.md describes it. Raises
    LockstepError for a study that cannot be, an unknown plant, a folder that cannot be written and one where another
    process proves the same (LS-504).
    """
    asked, wanted, plants = study.checked(asked), Threads(threads), list(dict.fromkeys(plants))
    if not 2 <= steps <= 100_000:
        hint = _("ask for 2 to 100,000; what goes wrong from one step to the next shows in the second one")
        message = n_("{n:,} step was asked for", "{n:,} steps were asked for", steps)
        raise LockstepError("LS-205", message, where="--steps", hint=hint)
    check_plants(plants, asked)
    traces = runs_folder / asked.name / store.TRACES
    store.make_folder(traces)
    with locks.take(traces):  # a second proof would take this one's traces away
        found = _document(asked, runs_folder, steps, wanted, plants, tell)
        write(found, runs_folder)
    return found


def _document(
    asked: Study, runs_folder: Path, steps: int, threads: Threads, plants: Sequence[str], tell: Tell
) -> dict[str, Any]:
    """All traces made and judged: what proof.json holds."""
    networks, divergences = [], []
    for case in cases(asked, steps, plants):
        folder = runs_folder / asked.name / store.TRACES
        rows = _rows(case, asked, folder, steps, threads, tell)
        _compare_with_numpy(rows)
        parting = growth.measured(case, [row["trace"] for row in rows if row["trace"]], steps)
        was_open = [row["trace"] and not row["divergences"] for row in rows]
        for row in rows:
            judge_growth(case, row, parting)
        _beside(case, rows, asked, folder, steps, threads, tell)
        for row in rows:
            row |= verdicts.verdict_of_updates(row)
        suspicion = verdicts.suspicion(case, rows, steps)
        for row, is_told in zip(rows, was_open, strict=True):
            if is_told:
                tell(row["run"], _end(row))
            _pack(case, row, runs_folder / asked.name / store.UNEXPLAINED)
        networks.append(_network(case, rows, parting.document) | {"suspicion": suspicion} | _seen_here(case, rows))
        divergences += [item for row in rows for item in row["divergences"]]
    return {
        "format": FORMAT,
        "study": asked.name,
        "verdict": worst_of(row["verdict"] for row in networks),
        "claim": claim(worst_of(row["verdict"] for row in networks), _steps_claimed(networks, steps)),
        "steps": steps,
        "planted": plants,
        "not_found": [plant for plant in plants if not _was_found(plant, divergences)],
        "coverage": _coverage_of_all(networks),
        "networks": networks,
        "divergences": divergences,
        "lockstep": version(),
        "git_revision": timing.git_revision(),
        "machine": timing.machine(),
        "threads": threads.taken,
        "proven": store.now(),
    }


def _steps_claimed(networks: list[dict[str, Any]], steps: int) -> int:
    """How many first steps a claim is of: all, or those up to where a recipe leaves the range of its numbers."""
    ends = [row["judged_to"] for network in networks for row in network["backends"] if row.get("judged_to")]
    return min([steps, *ends])


def write(document: dict[str, Any], runs_folder: Path) -> Path:
    """Write a study's proof into its folder; a planted one, which says nothing of the study's own runs, beside it.

    A proof replaces the one before it, but what observed nothing new does not take away what was observed: where a
    framework is missing or failed, the proof of before is kept as `proof-previous.json`, and the document names it.
    """
    folder = runs_folder / document["study"]
    store.make_folder(folder)
    path = folder / ("proof-planted.json" if document["planted"] else "proof.json")
    if not document["planted"]:
        document["previous"] = _kept_aside(path, document["verdict"])
    store.write_json(path, document)
    return path


UNSEEN = ("INCONCLUSIVE", "ERROR")  # verdicts on what was not seen


def _kept_aside(path: Path, verdict: str) -> dict[str, Any] | None:
    """Move the proof of before out of the way of one that could not see; {"file", "verdict", "proven"} of it."""
    aside = path.with_name("proof-previous.json")
    try:
        before = store.read_json(path)
        is_better = verdict in UNSEEN and before["verdict"] not in UNSEEN
    except (LockstepError, KeyError, TypeError):
        is_better = False  # there is none, or none that can be read
    with atomic.writing(aside, store.HINT):
        for suffix in (".json", ".html"):
            if is_better and path.with_suffix(suffix).exists():
                path.with_suffix(suffix).replace(aside.with_suffix(suffix))
            elif verdict not in UNSEEN:  # it has been proven again
                aside.with_suffix(suffix).unlink(missing_ok=True)
    try:
        kept = store.read_json(aside)
        return {"file": str(aside), "verdict": kept["verdict"], "proven": kept["proven"]}
    except (LockstepError, KeyError, TypeError):
        return None


def check_plants(plants: Sequence[str], asked: Study) -> None:
    """Raise LockstepError where a plant is not `cause@backend` with a backend of the study."""
    problems = [problem for plant in plants for problem in _problems_of(plant, asked)]
    if problems:
        raise LockstepError.several(problems)
    for plant in plants:
        name, _at, backend = plant.partition("@")
        runs = [run for run in changed(asked, seeds=asked.seeds[:1]).runs() if run.backend == backend]
        shapes = {run.dataset: data.describe(run.dataset).image_shape for run in runs}
        if not any(differing(name, run, shapes[run.dataset]) for run in runs):
            planted([plant], runs[0], shapes[runs[0].dataset])  # raises, and says why


def _problems_of(plant: str, asked: Study) -> Iterator[Problem]:
    """What is wrong with the words of a plant."""
    name, at, backend = plant.partition("@")
    if name not in CAUSES:
        near = did_you_mean(name, CAUSES)
        hint: str = _("see: lockstep explain causes")
        if near.startswith("did"):
            hint = _("{near} All of them: lockstep explain causes", near=near)
        yield Problem("LS-209", _('no known difference is called "{name}"', name=name), "--plant", hint)
    if not at:
        example = f"{name if name in CAUSES else 'adam_epsilon_hat'}@{asked.backends[-1]}"
        yield Problem(
            "LS-209",
            _('"{plant}" names no backend', plant=plant),
            "--plant",
            _("write it as cause@backend: {example}", example=example),
        )
    elif backend not in asked.backends:
        known = backend in backends.BACKENDS
        there = _("this study has {names}", names=", ".join(asked.backends))
        hint = there if known else did_you_mean(backend, asked.backends)
        yield Problem("LS-209", _('"{backend}" is not a backend of this study', backend=backend), "--plant", hint)


def _rows(case: Case, asked: Study, folder: Path, steps: int, threads: Threads, tell: Tell) -> list[dict[str, Any]]:
    """Every backend's trace, made a few at a time, and judged while the next ones are made."""
    rows: dict[int, dict[str, Any]] = {}
    waiting: dict[int, Future[dict[str, Any]]] = {}

    def told(is_last: bool) -> None:
        """What is judged by now; all of it in the end."""
        for index in [index for index, judged in waiting.items() if is_last or judged.done()]:
            row = rows[index]
            row |= waiting.pop(index).result()
            # What is right step by step may be wrong over all of them: judged when every backend has been seen.
            tell(row["run"], _end(row) if row["divergences"] else {"event": "judged"})

    calls = [partial(_traced, run, asked, folder, steps, threads) for run in case.runs]
    with Court(threads.asked) as court:
        for index, row in processes.side_by_side(calls, threads.taken, tell, folder):
            rows[index] = row
            if trace := row["trace"]:
                waiting[index] = court.judge(trace, case)
            told(is_last=False)
        told(is_last=True)
    return [rows[index] for index in range(len(calls))]


def _beside(
    case: Case, rows: list[dict[str, Any]], asked: Study, folder: Path, steps: int, threads: Threads, tell: Tell
) -> None:  # fmt: skip
    """Take the steps again in float64 where float32's rounding leaves updates wide open, and judge them in that.

    Below kinks and batch normalisations a gradient of float32 may be off by more than itself. The same backend's
    float64 is the same code, and there nothing is wide. Its divergences are the row's.
    """
    wide = [row for row in rows if row["trace"] and not row["divergences"] and verdicts.is_wide(row["findings"])]
    if not wide or case.canonical.dtype != "float32" or case.canonical.recipe.products != "full":
        return
    double = dataclasses.replace(case, canonical=changed(case.canonical, dtype="float64"), runs=())

    doubled = [changed(row["run"], dtype="float64") for row in wide]
    of_doubled = {id(run): row["run"] for run, row in zip(doubled, wide, strict=True)}

    def passed_on(run: Run, event: dict[str, Any]) -> None:
        if event["event"] == "phase":
            tell(of_doubled[id(run)], event)

    calls = [partial(_traced, run, asked, folder, steps, threads) for run in doubled]
    with Court(threads.asked) as court:
        waiting = []
        for index, found in processes.side_by_side(calls, threads.taken, passed_on, folder):
            waiting.append((wide[index], found, found["trace"] and court.judge(found["trace"], double)))
        for row, found, judgement_of in waiting:
            row["beside"] = found | (judgement_of.result() if judgement_of else {})
            if row["beside"]["divergences"]:
                row |= {"divergences": row["beside"]["divergences"], "verdict": "DIVERGED", "reason": None}


def _seen_here(case: Case, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """{"differences", "blind"}: which known differences would have been seen, measured on a trace that is right."""
    right = [row for row in rows if row["trace"] and row["verdict"] in ("IDENTICAL", "EQUAL")]
    if not right or verdicts.range_ends(right[0]["findings"]) is not None:
        return {"differences": [], "blind": []}
    traces = [trace for trace in (right[0]["trace"], right[0].get("beside", {}).get("trace")) if trace]
    found = power.effects(case, traces)
    return {"differences": found, "blind": [item["cause"] for item in found if not item["is_seen"]]}


def _traced(run: Run, asked: Study, folder: Path, steps: int, threads: Threads, tell: Tell) -> dict[str, Any]:
    """One backend's trace, made."""
    row: dict[str, Any] = {"run": run, "trace": None, "findings": [], "divergences": [], "reason": None}
    if reason := backends.why_missing(run.backend):
        tell(run, {"event": "end", "verdict": "INCONCLUSIVE", "reason": reason})
        return row | {"verdict": "INCONCLUSIVE", "reason": reason}
    text = resolved_toml(changed(study.one_run_study(asked, run), train_size=run.train_size))
    place = folder / study.run_id(run, text)
    if (place / "spec.toml").exists():  # an older trace of the same steps
        shutil.rmtree(place, ignore_errors=True)
    store.make_folder(place)
    store.write_status(place, "running")
    store.write_bytes(place / "spec.toml", text.encode())
    tell(run, {"event": "start", "folder": str(place)})
    job = places.Job([run], [place], threads.of(run), places.Task("lockstep.proof.tracer", (steps,)))
    (record,) = local.HERE.do(job, lambda event: tell(run, event))
    status = record.status
    if status["status"] != "finished":
        tell(run, {"event": "end", "verdict": "ERROR", "reason": status["reason"]})
        return row | {"verdict": "ERROR", "reason": status["reason"], "code": status["code"]}
    tell(run, {"event": "phase", "phase": "judging"})
    return row | {"trace": Trace(place)}


def _end(row: dict[str, Any]) -> dict[str, Any]:
    """The event of a verdict that stays."""
    first = row["divergences"][0] if row["divergences"] else row["reason"]
    return {"event": "end", "verdict": row["verdict"], "reason": first}


def _pack(case: Case, row: dict[str, Any], folder: Path) -> None:
    """Bundle what nothing explains."""
    for item in row["divergences"]:
        if item["causes"] == ["unexplained"] and item["stage"] in STAGES and not row.get("is_doubted"):
            trace = row["trace"] if item["dtype"] == case.canonical.dtype else row["beside"]["trace"]
            canonical = changed(case.canonical, dtype=item["dtype"])
            item["bundle"] = str(bundle.write(folder, trace, canonical, case.judge.plan, item))


# ------------------------------------------------------------------------------------------------- the whole of a case


def _compare_with_numpy(rows: list[dict[str, Any]]) -> None:
    """A backend whose every file has the NumPy backend's bytes is IDENTICAL."""
    numpy_files = [row["trace"].manifest["files"] for row in rows if row["run"].backend == "numpy" and row["trace"]]
    for row in rows:
        is_other = row["run"].backend != "numpy" and row["verdict"] == "EQUAL"
        if is_other and numpy_files and row["trace"].manifest["files"] == numpy_files[0]:
            row["verdict"] = "IDENTICAL"


def _network(case: Case, rows: list[dict[str, Any]], drawn: dict[str, Any]) -> dict[str, Any]:
    run = case.canonical
    return {
        "network": run.network_name, "dataset": run.dataset, "dtype": run.dtype, "seed": run.seed,
        "grid": dict(run.grid), "n_train": len(case.examples.train[0]), "batch_size": run.recipe.batch_size,
        "parameters": run.network.summary(case.examples.shape)["parameters"],
        "verdict": worst_of(row["verdict"] for row in rows),
        "backends": [_backend(case, row) for row in rows],
        "growth": drawn,
    }  # fmt: skip


def _backend(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    run = row["run"]
    found = {
        "backend": run.backend, "verdict": row["verdict"], "reason": row["reason"], "code": row.get("code"),
        "versions": backends.versions(run.backend), "judged_to": verdicts.range_ends(row["findings"]),
    }  # fmt: skip
    return found | described(case, row)


def described(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    """What was seen of one backend: {"stages", "coverage", "trace", "certificate"}."""
    trace, findings = row["trace"], row["findings"]
    found = {
        "stages": [_stage(name, [finding for finding in findings if finding.stage == name], row) for name in STAGES],
        "coverage": _coverage(case, row),
        "trace": str(trace.folder) if trace else None,
    }
    return found | {"certificate": certificate(case, row, found) if findings else None}


def _coverage(case: Case, row: dict[str, Any]) -> dict[str, Any]:
    """What was observed of a row, and how closely."""
    found = coverage(case, row["trace"], row["findings"]) | _power_of(row)
    if row["trace"] and verdicts.open_updates(row):
        found["missing"] = [stage for stage in STAGES if stage in (*found["missing"], "updated weights")]
    return found


def _power_of(row: dict[str, Any]) -> dict[str, Any]:
    """{"updates_within", "in_float64"}: how closely updates were judged, and whether float64 was asked for that."""
    is_beside = bool(row.get("beside", {}).get("trace"))
    return {"updates_within": verdicts.all_updates_within(row), "in_float64": is_beside} if row["trace"] else {}


def _stage(name: str, findings: list[Finding], row: dict[str, Any]) -> dict[str, Any]:
    """What was compared in one stage, and its worst number."""
    if not findings:
        return {"stage": name, "verdict": "INCONCLUSIVE", "comparisons": 0, "values": 0, "worst": None}
    worst = max(findings, key=lambda finding: (bool(finding.problem), finding.units))
    verdict = "EQUAL"
    if all(finding.is_beyond for finding in findings) or (name == "updated weights" and verdicts.open_updates(row)):
        verdict = "INCONCLUSIVE"
    if any(item["stage"] == name for item in row["divergences"]):
        verdict = "DIVERGED"
    return {
        "stage": name, "verdict": verdict, "comparisons": len(findings),
        "values": sum(finding.n for finding in findings),
        "worst": {
            "where": worst.where, "step": worst.step, "index": worst.index, "size": worst.size,
            "tolerance": worst.tolerance, "times_tolerance": worst.units, "problem": worst.problem or None,
        },
    }  # fmt: skip


def _coverage_of_all(networks: list[dict[str, Any]]) -> dict[str, Any]:
    backends_seen = [row for network in networks for row in network["backends"]]
    return {
        "networks": len(networks),
        "traces_asked": len(backends_seen),
        "traces_judged": sum(row["trace"] is not None for row in backends_seen),
        "values": sum(row["coverage"].get("values", 0) for row in backends_seen),
        "not_observed": sorted(
            {joined((row["backend"], row["reason"]), ": ") for row in backends_seen if row["reason"]}
        ),
    }


def certificate(case: Case, row: dict[str, Any], described: dict[str, Any]) -> dict[str, Any]:
    """What another number of the same backend, such as a time, may carry as its proof."""
    run, trace = case.canonical, row["trace"]
    stages = [stage for stage in described["stages"] if stage["worst"]]
    worst = max(stages, key=lambda stage: stage["worst"]["times_tolerance"])
    return {
        "verdict": row["verdict"], "backend": trace.backend, "versions": trace.environment.get("versions", {}),
        "dtype": run.dtype, "device": trace.environment.get("device"),
        "threads": trace.environment.get("threads", {}).get("obtained"), "n_train": len(case.examples.train[0]),
        "network": digest(run.network), "recipe": digest(run.recipe), "seed": run.seed,
        "dataset": {"name": case.examples.data.name, "hashes": dict(case.examples.data.hashes)},
        "steps": described["coverage"]["steps"], "values": described["coverage"]["values"],
        "worst": {"stage": worst["stage"], **worst["worst"]}, "missing": described["coverage"]["missing"],
    }  # fmt: skip


def exit_code(document: dict[str, Any]) -> int:
    """0 where all is equal, 1 where something diverged, 5 for want of a disk or memory, else 4: a backend failed."""
    if document["verdict"] in ("IDENTICAL", "EQUAL"):
        return 0
    if document["divergences"]:
        return 1
    rows = [row for network in document["networks"] for row in network["backends"] if row["reason"]]
    return 5 if rows and all((row["code"] or "").startswith("LS-5") for row in rows) else 4
