"""The proof: evidence that backends took the same steps, or the first place where one did not, and its cause.

Each backend leaves a trace of its first steps (`traces`), the judge works every part of it out again (`judge`), and
what is off by more than rounding (`tolerances`) is explained by reproduction (`causes`). Verdicts:

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
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, get_args

from lockstep import backends, data, store, study
from lockstep.errors import LockstepError, Problem, did_you_mean
from lockstep.files import disk, locks
from lockstep.language import joined, later, n_later
from lockstep.machine import contention, cores, description, processes, sources
from lockstep.proof import bundle, growth, power, verdicts
from lockstep.proof.cases import Case, cases
from lockstep.proof.causes import CAUSES, differing, planted
from lockstep.proof.findings import STAGES, Finding
from lockstep.proof.traces import Trace
from lockstep.proof.verdicts import Court, Judgement, coverage, judge_growth
from lockstep.spec import Run, Study
from lockstep.spec.records import changed, digest
from lockstep.spec.toml import resolved_toml
from lockstep.store.documents.part import but
from lockstep.store.documents.proof import (
    FILE,
    FORMAT,
    Backend,
    Certificate,
    Coverage,
    Data,
    Difference,
    Divergence,
    Growth,
    Network,
    Observed,
    Previous,
    Proof,
    Stage,
    Suspicion,
    Verdict,
    Worst,
)
from lockstep.store.documents.run import Environment
from lockstep.study import places
from lockstep.study.places import local
from lockstep.version import version

STEPS = 10
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)  # of several, the last of these
Tell = Callable[[Run, dict[str, Any]], None]


def worst_of(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of a whole: that of its worst part; INCONCLUSIVE where there is none."""
    return max(verdicts, key=VERDICTS.index, default="INCONCLUSIVE")


def _was_found(plant: str, divergences: list[Divergence]) -> bool:
    name, _at, backend = plant.partition("@")
    return any(
        row.backend == backend and any(name in cause.split(" + ") for cause in row.causes) for row in divergences
    )


def claim(verdict: str, steps: int) -> str:
    """What a verdict says, and no more."""
    if verdict in ("IDENTICAL", "EQUAL"):
        return later("the first {n} steps are the same within rounding, on everything that was observed", n=steps)
    if verdict == "DIVERGED":
        return later(
            "at least one backend does not do what the study says; the first places and their causes are named"
        )
    return later("not everything that was asked was observed, so nothing is claimed of the whole")


# ----------------------------------------------------------------------------------------------------- a study, proven


class Threads(contention.Threads):
    """As many traces are made at a time as threads are free."""

    def of(self, run: Run) -> int:
        """How many a worker takes: one, which waits for no other; NumPy's shares every batch out as training does.

        The division between threads is our own work in NumPy, and part of what is proven; it is the framework's
        elsewhere.
        """
        return self.asked if run.backend == "numpy" else 1


@cores.one_blas_thread()  # what a judge multiplies is small: a second thread would only spin, where a worker computes
def prove(
    asked: Study, runs_folder: Path, steps: int = STEPS, plants: Sequence[str] = (), threads: int | None = None,
    tell: Tell = lambda run, event: None, part: Part | None = None,
) -> Proof:  # fmt: skip
    """Prove every network, recipe, dataset and dtype of a study, with its first seed, over its backends.

    `steps` are taken on as many training images as make two epochs of them, the short last batch among them. `plants`
    are `cause@backend`: differences switched on in one backend; one given twice is one. `tell` hears of the progress.
    `part` is what is proven where a proof of before goes on being one of the rest (see `upkeep`).
    Returns what `proof.json` in the study's folder holds; docs/proof.md describes it. Raises
    LockstepError for a study that cannot be, an unknown plant, a folder that cannot be written and one where another
    process proves the same (LS-504).
    """
    asked, wanted, plants = study.checked(asked), Threads(threads), list(dict.fromkeys(plants))
    if not 2 <= steps <= 100_000:
        hint = later("ask for 2 to 100,000; what goes wrong from one step to the next shows in the second one")
        message = n_later("{n:,} step was asked for", "{n:,} steps were asked for", steps)
        raise LockstepError("LS-205", message, where="--steps", hint=hint)
    check_plants(plants, asked)
    traces = runs_folder / asked.name / store.TRACES
    store.make_folder(traces)
    with locks.take(traces):  # a second proof would take this one's traces away
        return write(_document(asked, runs_folder, steps, wanted, plants, tell, part or Part()), runs_folder)


@dataclasses.dataclass(frozen=True)
class Part:
    """What of a study is to be proven: the runs that `is_wanted` says, beside what an earlier proof has shown."""

    is_wanted: Callable[[Run], bool] = lambda run: True
    networks: tuple[Network, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    seconds: float = 0.0


def _document(
    asked: Study, runs_folder: Path, steps: int, threads: Threads, plants: Sequence[str], tell: Tell, part: Part
) -> Proof:
    """All traces made and judged: what proof.json holds."""
    began = time.monotonic()
    networks, divergences = list(part.networks), list(part.divergences)
    for case in cases(asked, steps, plants, part.is_wanted):
        folder = runs_folder / asked.name / store.TRACES
        rows = judged_rows(case, asked, folder, steps, threads, tell)
        _compare_with_numpy(rows)
        parting = growth.measured(case, [row.trace for row in rows if row.trace], steps)
        was_open = [row.trace and not row.divergences for row in rows]
        for row in rows:
            judge_growth(case, row, parting)
        _beside(case, rows, asked, folder, steps, threads, tell)
        for row in rows:
            verdicts.judge_updates(row)
        suspicion = verdicts.suspicion(case, rows, steps)
        for row, is_told in zip(rows, was_open, strict=True):
            if is_told:
                tell(row.run, _end(row))
            _pack(case, row, runs_folder / asked.name / store.UNEXPLAINED)
        networks.append(_network(case, rows, parting.document, suspicion))
        divergences += [item for row in rows for item in row.divergences]
    verdict = worst_of(row.verdict for row in networks)
    return Proof(
        format=FORMAT, study=asked.name, verdict=verdict, claim=claim(verdict, _steps_claimed(networks, steps)),
        steps=steps, planted=tuple(plants),
        not_found=tuple(plant for plant in plants if not _was_found(plant, divergences)),
        coverage=_coverage_of_all(networks), networks=tuple(networks), divergences=tuple(divergences),
        lockstep=version(), git_revision=sources.git_revision(), machine=Environment(**description.machine()),
        threads=threads.taken, proven=store.now(), seconds=round(part.seconds + time.monotonic() - began, 3),
        lockstep_sources=sources.own_sources(),
    )  # fmt: skip


def _steps_claimed(networks: list[Network], steps: int) -> int:
    """How many first steps a claim is of: all, or those up to where a recipe leaves the range of its numbers."""
    ends = [row.judged_to for network in networks for row in network.backends if row.judged_to]
    return min([steps, *ends])


def write(proof: Proof, runs_folder: Path) -> Proof:
    """Write a study's proof into its folder, and return it as it stands there.

    A planted one, which says nothing of the study's own runs, lies beside it. A proof replaces the one before it, but
    what observed nothing new does not take away what was observed: where a framework is missing or failed, the proof
    of before is kept as `proof-previous.json`, and the new one names it.
    """
    folder = runs_folder / proof.study
    store.make_folder(folder)
    path = folder / ("proof-planted.json" if proof.planted else FILE)
    if not proof.planted:
        proof = but(proof, previous=_kept_aside(path, proof.verdict))
    store.write_json(path, proof.document())
    return proof


UNSEEN = ("INCONCLUSIVE", "ERROR")  # verdicts on what was not seen


def _kept_aside(path: Path, verdict: str) -> Previous | None:
    """Move the proof of before out of the way of one that could not see; what is said of it."""
    aside = path.with_name("proof-previous.json")
    try:
        is_better = verdict in UNSEEN and Proof.read(path).verdict not in UNSEEN
    except LockstepError:
        is_better = False  # there is none, or none that can be read
    with disk.writing(aside, store.HINT):
        for suffix in (".json", ".html"):
            if is_better and path.with_suffix(suffix).exists():
                path.with_suffix(suffix).replace(aside.with_suffix(suffix))
            elif verdict not in UNSEEN:  # it has been proven again
                aside.with_suffix(suffix).unlink(missing_ok=True)
    try:
        kept = Proof.read(aside)
        return Previous(file=str(aside), verdict=kept.verdict, proven=kept.proven)
    except LockstepError:
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
        hint: str = later("see: lockstep explain causes")
        if near.startswith("did"):
            hint = later("{near} All of them: lockstep explain causes", near=near)
        yield Problem("LS-209", later('no known difference is called "{name}"', name=name), "--plant", hint)
    if not at:
        example = f"{name if name in CAUSES else 'adam_epsilon_hat'}@{asked.backends[-1]}"
        yield Problem(
            "LS-209",
            later('"{plant}" names no backend', plant=plant),
            "--plant",
            later("write it as cause@backend: {example}", example=example),
        )
    elif backend not in asked.backends:
        known = backend in backends.BACKENDS
        there = later("this study has {names}", names=", ".join(asked.backends))
        hint = there if known else did_you_mean(backend, asked.backends)
        yield Problem("LS-209", later('"{backend}" is not a backend of this study', backend=backend), "--plant", hint)


def judged_rows(case: Case, asked: Study, folder: Path, steps: int, threads: Threads, tell: Tell) -> list[Judgement]:
    """Every backend's trace, made a few at a time, and judged while the next ones are made."""
    rows: dict[int, Judgement] = {}
    waiting: dict[int, Future[Judgement]] = {}

    def told(is_last: bool) -> None:
        """What is judged by now; all of it in the end."""
        for index in [index for index, judged in waiting.items() if is_last or judged.done()]:
            row = rows[index] = dataclasses.replace(waiting.pop(index).result(), run=rows[index].run)
            # What is right step by step may be wrong over all of them: judged when every backend has been seen.
            tell(row.run, _end(row) if row.divergences else {"event": "judged"})

    calls = [partial(traced, run, asked, folder, steps, threads) for run in case.runs]
    with Court(threads.asked) as court:
        for index, row in processes.side_by_side(calls, threads.taken, tell, folder):
            rows[index] = row
            if trace := row.trace:
                waiting[index] = court.judge(trace, case)
            told(is_last=False)
        told(is_last=True)
    return [rows[index] for index in range(len(calls))]


def _beside(
    case: Case, rows: list[Judgement], asked: Study, folder: Path, steps: int, threads: Threads, tell: Tell
) -> None:  # fmt: skip
    """Take the steps again in float64 where float32's rounding leaves updates wide open, and judge them in that.

    Below kinks and batch normalisations a gradient of float32 may be off by more than itself. The same backend's
    float64 is the same code, and there nothing is wide. Its divergences are the row's.
    """
    wide = [row for row in rows if row.trace and not row.divergences and verdicts.is_wide(row.findings)]
    if not wide or case.canonical.dtype != "float32" or case.canonical.recipe.products != "full":
        return
    double = dataclasses.replace(case, canonical=changed(case.canonical, dtype="float64"), runs=())

    doubled = [changed(row.run, dtype="float64") for row in wide]
    of_doubled = {id(run): row.run for run, row in zip(doubled, wide, strict=True)}

    def passed_on(run: Run, event: dict[str, Any]) -> None:
        if event["event"] == "phase":
            tell(of_doubled[id(run)], event)

    calls = [partial(traced, run, asked, folder, steps, threads) for run in doubled]
    with Court(threads.asked) as court:
        waiting = []
        for index, found in processes.side_by_side(calls, threads.taken, passed_on, folder):
            waiting.append((wide[index], found, court.judge(found.trace, double) if found.trace else None))
        for row, found, judgement_of in waiting:
            row.beside = judgement_of.result() if judgement_of else found
            if row.beside.divergences:
                row.divergences, row.verdict, row.reason = row.beside.divergences, "DIVERGED", None


def _seen_here(case: Case, rows: list[Judgement]) -> tuple[Difference, ...]:
    """Which known differences would have been seen, measured on a trace that is right."""
    right = [row for row in rows if row.trace and row.verdict in ("IDENTICAL", "EQUAL")]
    if not right or verdicts.range_ends(right[0].findings) is not None:
        return ()
    beside = right[0].beside
    return tuple(power.effects(case, [trace for trace in (right[0].trace, beside and beside.trace) if trace]))


def traced(run: Run, asked: Study, folder: Path, steps: int, threads: Threads, tell: Tell) -> Judgement:
    """One backend's trace, made."""
    if reason := backends.why_missing(run.backend):
        tell(run, {"event": "end", "verdict": "INCONCLUSIVE", "reason": reason})
        return Judgement(run, reason=reason)
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
        return Judgement(run, verdict="ERROR", reason=status["reason"], code=status["code"])
    tell(run, {"event": "phase", "phase": "judging"})
    return Judgement(run, Trace(place))


def _end(row: Judgement) -> dict[str, Any]:
    """The event that tells a backend's final verdict."""
    first = row.divergences[0] if row.divergences else row.reason
    return {"event": "end", "verdict": row.verdict, "reason": first}


def _pack(case: Case, row: Judgement, folder: Path) -> None:
    """Bundle what nothing explains."""
    row.divergences = [_packed(case, row, item, folder) for item in row.divergences]


def _packed(case: Case, row: Judgement, item: Divergence, folder: Path) -> Divergence:
    of = row if item.dtype == case.canonical.dtype else row.beside
    if item.causes != verdicts.UNEXPLAINED or item.stage not in STAGES or row.is_doubted or not (of and of.trace):
        return item
    canonical = changed(case.canonical, dtype=item.dtype)
    return but(item, bundle=str(bundle.write(folder, of.trace, canonical, case.judge.plan, item)))


# ------------------------------------------------------------------------------------------------- the whole of a case


def _compare_with_numpy(rows: list[Judgement]) -> None:
    """A backend whose every file has the NumPy backend's bytes is IDENTICAL."""
    numpy_files = [row.trace.manifest.files for row in rows if row.run.backend == "numpy" and row.trace]
    for row in rows:
        is_other = row.run.backend != "numpy" and row.verdict == "EQUAL"
        if is_other and row.trace and numpy_files and row.trace.manifest.files == numpy_files[0]:
            row.verdict = "IDENTICAL"


def _network(case: Case, rows: list[Judgement], drawn: Growth, suspicion: Suspicion | None) -> Network:
    run, differences = case.canonical, _seen_here(case, rows)
    return Network(
        network=run.network_name, dataset=run.dataset, dtype=run.dtype, seed=run.seed, grid=dict(run.grid),
        n_train=len(case.examples.train[0]), batch_size=run.recipe.batch_size,
        parameters=run.network.summary(case.examples.shape)["parameters"],
        verdict=worst_of(row.verdict for row in rows), backends=tuple(_backend(case, row) for row in rows),
        growth=drawn, suspicion=suspicion, differences=differences,
        blind=tuple(one.cause for one in differences if not one.is_seen),
    )  # fmt: skip


def _backend(case: Case, row: Judgement) -> Backend:
    name = row.run.backend
    return Backend(
        backend=name, verdict=row.verdict, reason=row.reason, code=row.code, versions=backends.versions(name),
        judged_to=verdicts.range_ends(row.findings), **seen(case, row),
    )  # fmt: skip


class Seen(TypedDict):
    """What a part of a proof says of what was seen of one backend."""

    stages: tuple[Stage, ...]
    coverage: Coverage
    trace: str | None
    certificate: Certificate | None


def seen(case: Case, row: Judgement) -> Seen:
    """What was seen of one backend, and the certificate of it."""
    stages = tuple(_stage(name, [finding for finding in row.findings if finding.stage == name], row) for name in STAGES)
    covered = _coverage(case, row)
    signed = _certificate(case, row, row.trace, stages, covered) if row.trace and row.findings else None
    return Seen(stages=stages, coverage=covered, trace=str(row.trace.folder) if row.trace else None, certificate=signed)


def _coverage(case: Case, row: Judgement) -> Coverage:
    """What was observed of a row, and how closely; `in_float64` where that was asked for it."""
    found = coverage(case, row.trace, row.findings)
    if not row.trace:
        return found
    missing = found.missing
    if verdicts.open_updates(row):
        missing = tuple(stage for stage in STAGES if stage in (*missing, "updated weights"))
    within, is_beside = verdicts.all_updates_within(row), bool(row.beside and row.beside.trace)
    return but(found, missing=missing, updates_within=within, in_float64=is_beside)


def _stage(name: str, findings: list[Finding], row: Judgement) -> Stage:
    """What was compared in one stage, and its worst number."""
    if not findings:
        return Stage(stage=name, verdict="INCONCLUSIVE", comparisons=0, values=0, worst=None)
    worst = max(findings, key=lambda finding: (bool(finding.problem), finding.units))
    verdict: Verdict = "EQUAL"
    if all(finding.is_beyond for finding in findings) or (name == "updated weights" and verdicts.open_updates(row)):
        verdict = "INCONCLUSIVE"
    if any(item.stage == name for item in row.divergences):
        verdict = "DIVERGED"
    return Stage(
        stage=name, verdict=verdict, comparisons=len(findings), values=sum(finding.n for finding in findings),
        worst=Worst(
            where=worst.where, step=worst.step, index=worst.index, size=worst.size, tolerance=worst.tolerance,
            times_tolerance=worst.units, problem=worst.problem or None,
        ),
    )  # fmt: skip


def _coverage_of_all(networks: list[Network]) -> Observed:
    rows = [row for network in networks for row in network.backends]
    return Observed(
        networks=len(networks), traces_asked=len(rows),
        traces_judged=sum(bool(row.trace or row.certificate) for row in rows),
        values=sum(row.coverage.values or 0 for row in rows),
        not_observed=tuple(sorted({joined((row.backend, row.reason), ": ") for row in rows if row.reason})),
    )  # fmt: skip


def _certificate(
    case: Case, row: Judgement, trace: Trace, stages: Sequence[Stage], covered: Coverage
) -> Certificate:  # fmt: skip
    """What another number of the same backend, such as a time, may carry as its proof."""
    run, around = case.canonical, Environment.read(trace.folder / "environment.json")
    worst = max(
        (but(stage.worst, stage=stage.stage) for stage in stages if stage.worst),
        key=lambda one: math.inf if one.times_tolerance is None else one.times_tolerance,
    )
    return Certificate(
        verdict=row.verdict, backend=trace.backend, versions=around.versions, dtype=run.dtype, device=around.device,
        threads=around.threads.obtained, n_train=len(case.examples.train[0]), network=digest(run.network),
        recipe=digest(run.recipe), seed=run.seed,
        dataset=Data(name=case.examples.data.name, hashes=dict(case.examples.data.hashes)), steps=covered.steps,
        values=covered.values, worst=worst, missing=covered.missing,
    )  # fmt: skip


def exit_code(proof: Proof) -> int:
    """0 where all is equal, 1 where something diverged, 5 for want of a disk or memory, else 4: a backend failed."""
    if proof.verdict in ("IDENTICAL", "EQUAL"):
        return 0
    if proof.divergences:
        return 1
    failed = [row for row in proof.rows if row.reason]
    return 5 if failed and all((row.code or "").startswith("LS-5") for row in failed) else 4
