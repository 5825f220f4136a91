"""Two run folders side by side: from two machines, two versions of a framework, two backends, or one edited by hand.

Folders with traces are judged like any trace, and then compared bit by bit. Folders without hold the loss of every
step, the last weights and the predictions: whether these are the same bits is told at once. Then the judge trains the
first steps itself, and the first step whose loss is further from it than rounding explains is a divergence; and it
predicts with the last weights, from which the predictions may be no further. Causes are looked for by doing the same
again under every known difference.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise, zip_longest
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import arguments, data, store
from lockstep.backends.plan import Arrays
from lockstep.errors import LockstepError
from lockstep.language import joined, later
from lockstep.machine import cores
from lockstep.proof import cases, growth, procedure, tolerances, verdicts
from lockstep.proof.causes import CAUSES, differing
from lockstep.proof.findings import Finding
from lockstep.proof.judge import Judge
from lockstep.proof.traces import Trace
from lockstep.proof.verdicts import Judgement
from lockstep.spec import FORMATS, Run
from lockstep.spec.records import changed
from lockstep.spec.toml import read_study
from lockstep.store.documents.part import but
from lockstep.store.documents.proof import FORMAT, Backend, Coverage, Divergence, Network, Observed, Proof
from lockstep.store.documents.run import Environment, Metrics
from lockstep.training import inputs

FIRST_STEPS = 10  # that the judge trains itself


@cores.one_blas_thread()
def compare_runs(first: str | PathLike[str], second: str | PathLike[str]) -> Proof:
    """Compare two run folders: a proof with `first` and `second`, and where bits differ first.

    Raises LockstepError: LS-505 for a folder that is not a finished run or whose files are not what was written,
    LS-210 for runs that should not be equal (another network, recipe, dataset, seed or dtype: all that differ are
    named).
    """
    first, second = folders = arguments.path(first, "first"), arguments.path(second, "second")
    if first.resolve() == second.resolve():
        raise LockstepError(
            "LS-210", later("a run is compared with itself"), where=str(first), hint=later("name two folders")
        )
    runs = [finished_run(folder) for folder in folders]
    are_traces = [
        (folder / "manifest.json").exists() and "kept" in store.read_json(folder / "manifest.json")
        for folder in folders
    ]
    if any(are_traces) and not all(are_traces):
        raise LockstepError(
            "LS-210", later("one is a trace of a proof and the other a run"), where=f"{first}, {second}",
            hint=later("compare two runs, or two folders below traces/"),
        )  # fmt: skip
    environments = [Environment.read(folder / "environment.json") for folder in folders]
    _raise_where_not_alike(runs, environments, folders)
    case = _case(runs[0], environments)
    found = [_judged(folder, run, case, all(are_traces)) for folder, run in zip(folders, runs, strict=True)]
    rows = [row for row, _wrong in found]
    identical, place = _bits(folders, all(are_traces))
    divergences = tuple(item for _row, wrong in found for item in wrong)
    verdict = "IDENTICAL" if identical and not divergences else procedure.worst_of(row.verdict for row in rows)
    network = Network(
        network=runs[0].network_name, dataset=runs[0].dataset, dtype=runs[0].dtype, seed=runs[0].seed, grid={},
        n_train=environments[0].dataset.n_train, batch_size=runs[0].recipe.batch_size,
        parameters=None, verdict=verdict, backends=tuple(rows), growth=None,
    )  # fmt: skip
    observed = Observed(
        networks=1, traces_asked=2, traces_judged=2 * all(are_traces),
        values=sum(row.coverage.values or 0 for row in rows),
        not_observed=tuple(sorted({row.reason for row in rows if row.reason})),
    )  # fmt: skip
    return Proof(
        format=FORMAT, study=runs[0].study, verdict=verdict, first=str(first), second=str(second),
        claim=claim_of(verdict, place, all(are_traces)), steps=rows[0].coverage.steps or 0, planted=(),
        first_different_bits=place, coverage=observed, networks=(network,), divergences=divergences,
        proven=store.now(),
    )  # fmt: skip


def claim_of(verdict: str, place: str | None, traces: bool) -> str:
    """What a comparison of two run folders comes to, in one sentence."""
    if verdict == "IDENTICAL":
        return later("every array of the two is the same, bit for bit")
    claim = later("at least one is not what its spec.toml says")
    if verdict == "EQUAL":
        claim = later(
            "the losses of the first {n} steps of both, and the predictions that follow from their last weights, are "
            "the judge's within rounding; how later steps led to these weights was not judged, and what is too small "
            "for a loss needs traces",
            n=FIRST_STEPS,
        )
        claim = later("every part of both is the judge's within rounding") if traces else claim
    if verdict == "INCONCLUSIVE":
        claim = later("they are not the same bits, and nothing here says whether rounding explains it")
    return later("{claim}; their first different bits: {place}", claim=claim, place=place) if place else claim


# --------------------------------------------------------------------------------------------- may they be compared?


TWO_RUNS = later("name two run folders, such as runs/<study>/<run>, or one study's TOML file")


def finished_run(folder: Path, hint: str = "") -> Run:
    """The run of a folder that is whole; raises LockstepError (LS-210, LS-505) where it is not, or not finished."""
    record = store.Record(folder)
    if not (folder / "status.json").is_file():
        message = later("it is no run folder") if folder.exists() else later("it does not exist")
        raise LockstepError("LS-210", message, where=str(folder), hint=hint or TWO_RUNS)
    status = record.status.get("status")
    if status != "finished":
        hint = later("only finished runs can be compared; run it again")
        message = (
            later("this run is {status}", status=later(status)) if status else later("this run is of an unknown status")
        )
        raise LockstepError("LS-505", message, where=str(folder), hint=hint)
    store.check_manifest(folder)
    runs = read_study(folder / "spec.toml").runs()
    if len(runs) != 1:
        raise store.damaged(folder / "spec.toml", later("it holds {n} runs instead of one", n=len(runs)))
    return runs[0]


def _raise_where_not_alike(runs: list[Run], environments: list[Environment], folders: tuple[Path, Path]) -> None:
    """Raise LockstepError (LS-210) with everything in which the runs were meant to differ."""
    first, second = runs
    said: list[str] = []
    for name in ("network", "recipe", "seed", "dtype", "train_size", "format"):
        ours, theirs = getattr(first, name), getattr(second, name)
        if ours != theirs:
            said += [joined((name, _shortly(name, ours, theirs)), ": ")]
            if name == "format":
                said += [joined((number, later(FORMATS[number])), " = ") for number in sorted((ours, theirs))]
    hashes = [environment.dataset.hashes for environment in environments]
    if hashes[0] != hashes[1]:
        names = [environment.dataset.name for environment in environments]
        said.append(later("data: {one} and {other} with other hashes", one=names[0], other=names[1]))
    if said:
        hint = later("compare two runs of one network, recipe, dataset, seed and dtype")
        message = later("these runs were not meant to be equal. {what}", what=joined(said, "; "))
        raise LockstepError("LS-210", message, where=f"{folders[0]}, {folders[1]}", hint=hint)


def _shortly(name: str, ours: Any, theirs: Any) -> str:
    """What differs between two records, field by field."""
    if name == "network":
        for index, (one, other) in enumerate(zip(ours.layers, theirs.layers, strict=False)):
            if one != other:
                return later("layer {index} is {one} and {other}", index=index, one=one, other=other)
        if len(ours.layers) != len(theirs.layers):
            return later("{one} and {other} layers", one=len(ours.layers), other=len(theirs.layers))
    if hasattr(ours, "__dataclass_fields__"):
        different = [key for key in ours.__dataclass_fields__ if getattr(ours, key) != getattr(theirs, key)]
        rows = ({"key": key, "one": getattr(ours, key), "other": getattr(theirs, key)} for key in different)
        return joined(later("{key} is {one} and {other}", **row) for row in rows)
    return later("{one} and {other}", one=ours, other=theirs)


# --------------------------------------------------------------------------------------------------- are they the same?


def _bits(folders: tuple[Path, Path], traces: bool) -> tuple[bool, str | None]:
    """(whether every array of both has the same bits, the first that has not)."""
    contents = [_trace_arrays(folder) if traces else _run_arrays(folder) for folder in folders]
    for (name, ours), (other, theirs) in zip_longest(*contents, fillvalue=("nothing", np.empty(0))):
        if name != other:
            return False, later("{name} stands where the other has {other}", name=name, other=other)
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype or ours.tobytes() != theirs.tobytes():
            if ours.shape != theirs.shape:
                return False, later("{name}: shapes {one} and {other}", name=name, one=ours.shape, other=theirs.shape)
            where = np.argwhere(np.asarray(ours != theirs))
            return False, later(
                "{name} at {place}", name=name, place=where[0].tolist() if len(where) else later("its dtype")
            )
    return True, None


def _trace_arrays(folder: Path) -> Iterable[tuple[str, np.ndarray]]:
    trace = Trace(folder)
    for name in ("start", *(f"step-{step}" for step in range(trace.steps)), "end"):
        for key, value in sorted(trace.arrays(name).items()):
            yield f"{name} {key}", value


def _run_arrays(folder: Path) -> Iterable[tuple[str, np.ndarray]]:
    record = store.Record(folder)
    for name in ("steps", "predictions"):
        for key, value in sorted(record.arrays(name).items()):
            yield f"{name} {key}", value
    checkpoint = _checkpoint(folder)
    for arrays in store.read_checkpoint(checkpoint):
        for key, value in sorted(arrays.items()):
            yield f"{checkpoint.name} {key}", value


def _checkpoint(folder: Path) -> Path:
    checkpoint = store.newest_checkpoint(folder)
    if checkpoint is None:
        raise store.damaged(folder, later("it has no checkpoint"))
    return checkpoint


# ------------------------------------------------------------------------------------------- is each what it should be?


def _case(run: Run, environments: list[Environment]) -> cases.Case | None:
    """What should have been run, where the dataset is on this machine and is the same."""
    try:
        loaded = data.load(run.dataset, offline=True)
    except LockstepError:
        return None
    if dict(loaded.hashes) != environments[0].dataset.hashes:
        return None
    return cases.Case(changed(run, backend="numpy"), inputs.Examples(loaded, run), (run,))


def _judged(
    folder: Path, run: Run, case: cases.Case | None, is_trace: bool
) -> tuple[Backend, tuple[Divergence, ...]]:  # fmt: skip
    """What is said of one of the folders, and every place where it is wrong."""
    row, covered = Judgement(run), Coverage(steps=FIRST_STEPS, values=0)
    if case is None:
        row.reason = later("the dataset {name} of these runs is not on this machine", name=run.dataset)
    elif is_trace:
        row = verdicts.judged(trace := Trace(folder), case)
        verdicts.judge_growth(case, row, growth.measured(case, [trace], trace.steps))
    else:
        row.divergences, covered = _run_judged(folder, run, case)
        row.verdict = "DIVERGED" if row.divergences else "EQUAL"
    found = Backend(
        backend=run.backend, verdict=row.verdict, reason=row.reason, code=None,
        versions=Environment.read(folder / "environment.json").versions, folder=str(folder), stages=(),
        coverage=covered, trace=None, certificate=None,
    )  # fmt: skip
    if case and is_trace:
        found = but(found, **procedure.seen(case, row))
    return found, tuple(but(item, folder=str(folder)) for item in row.divergences)


def losses_of(judge: Judge, case: cases.Case, steps: int, dtype: str) -> list[float]:
    """The losses of the first steps of training by the judge's meaning, in a dtype."""
    model = judge.exact if dtype == "float64" else judge.single
    return [model.step(images, labels) for _step, images, labels in growth.batches(case, judge, steps)]


@np.errstate(all="ignore")  # what diverges is told as such
def _run_judged(folder: Path, run: Run, case: cases.Case) -> tuple[list[Divergence], Coverage]:
    """What is wrong with the first steps' losses and the predictions of a run folder, and how many were looked at."""
    record = store.Record(folder)
    losses, logits = record.arrays("steps")["loss"], record.arrays("predictions")["logits"]
    weights, state = store.read_checkpoint(_checkpoint(folder))
    epochs = Metrics.in_folder(folder).epochs or 0
    order = data.epoch_order(len(case.examples.train[0]), run.recipe, run.seed, 0)
    expected = epochs * -(-len(order) // run.recipe.batch_size)
    problem: str | None = None
    if len(losses) != expected:
        problem = later("{n} losses are kept, {all} steps were taken", n=len(losses), all=expected)
    for name, values in (("steps.npz, loss", losses), ("predictions.npz, logits", logits)):
        if not np.isfinite(values).all() and problem is None:
            strange = ~np.isfinite(values)
            facts = {"name": name, "value": values[strange][0], "place": np.argwhere(strange)[0].tolist()}
            problem = later("{name} holds {value} at {place}", **facts)
    if unfit := case.judge.unfit(weights, state):
        problem = problem or later("the checkpoint: {problem}", problem=unfit)
    if problem:
        broken = Finding("training", "its arrays", None, problem=problem)
        return [divergence(run, broken, [])], Coverage(steps=0, values=0)
    steps = min(FIRST_STEPS, len(losses))
    divergences = [*_losses_judged(losses[:steps], run, case), *_predictions_judged(logits, weights, state, run, case)]
    return divergences, Coverage(steps=steps, values=steps + logits.size)


def _losses_judged(losses: np.ndarray, run: Run, case: cases.Case) -> Iterator[Divergence]:
    """The first loss that no rounding explains, if any."""
    tolerance_at = _tolerances(case, len(losses))
    wrong = _first_wrong(losses, case.judge, case, tolerance_at)
    if wrong is None:
        return
    step, wanted = wrong
    off, tolerance = abs(float(losses[step]) - wanted), tolerance_at[step]
    found = Finding(
        "loss", "training from the start", step, off / tolerance, off, tolerance, (), float(losses[step]), wanted
    )
    # Steps after the first wrong one follow from it, but a true cause reproduces them all.
    yield divergence(
        run, found, reproducing(case, lambda judge: _first_wrong(losses, judge, case, tolerance_at) is None)
    )


def _predictions_judged(
    logits: np.ndarray, weights: Arrays, state: Arrays, run: Run, case: cases.Case
) -> Iterator[Divergence]:
    """Predictions that do not follow from the last weights, if so."""
    images, steps = case.examples.test[0], int(state.get("step", 0))
    found = case.judge.logits(logits, images, weights, state, steps)
    if not found.agrees:
        causes = reproducing(case, lambda judge: judge.logits(logits, images, weights, state, steps).agrees)
        yield divergence(run, found, causes)


def reproducing(case: cases.Case, fits: Callable[[Judge], bool]) -> list[str]:
    """The known differences under which the judge gives what was found."""
    others = {name: differing(name, case.canonical, case.examples.shape) for name in CAUSES}
    return [name for name, other in others.items() if other is not None and fits(case.judge_of(other))]


def divergence(run: Run, found: Finding, causes: list[str]) -> Divergence:
    """One place that is wrong; what has a problem has no numbers."""
    if found.problem:
        nan = math.nan
        found = dataclasses.replace(found, size=nan, tolerance=nan, units=nan, found=nan, wanted=nan)
    return Divergence(
        network=run.network_name, dataset=run.dataset, dtype=run.dtype, seed=run.seed, grid=dict(run.grid),
        backend=run.backend, stage=found.stage, where=found.where, step=found.step,
        steps=() if found.step is None else (found.step,), size=found.size, tolerance=found.tolerance,
        times_tolerance=found.units, index=found.index, found=found.found, wanted=found.wanted,
        problem=found.problem or None, causes=tuple(causes) or verdicts.UNEXPLAINED, bundle=None,
        explained=verdicts.explained(causes),
    )  # fmt: skip


def _tolerances(case: cases.Case, steps: int) -> list[float]:
    """How far rounding may move the loss of each step by then: what it does to NumPy in float32, several times over.

    A difference grows from step to step, so no step is allowed less than the one before it.
    """
    exact = losses_of(case.judge, case, steps, "float64")
    single = losses_of(case.judge, case, steps, "float32")
    unit = tolerances.eps(case.canonical.dtype) / tolerances.eps("float32")
    floor = [
        float(tolerances.of(case.canonical.dtype, 1 + abs(loss), case.canonical.recipe.batch_size)) for loss in exact
    ]
    found = [
        max(tolerances.FACTOR * abs(one - other) * unit, least)
        for one, other, least in zip(exact, single, floor, strict=True)
    ]
    for index, (before, _after) in enumerate(pairwise(found)):
        found[index + 1] = max(found[index + 1], 2 * before)  # doubling every step or two was measured
    return found


def _first_wrong(
    losses: np.ndarray, judge: Judge, case: cases.Case, tolerance_at: list[float]
) -> tuple[int, float] | None:
    """(step, the judge's loss) of the first loss that is further off than is allowed."""
    wanted = losses_of(judge, case, len(losses), "float64")
    for step in range(len(losses)):
        if not abs(float(losses[step]) - wanted[step]) <= tolerance_at[step]:
            return step, wanted[step]
    return None
