"""Are a backend's gradients the slopes of its loss? `lockstep prove STUDY --gradients`.

Each backend is asked by itself, in float64 and in a process of its own (`derivatives`), for every network, recipe and
dataset of the study with its first seed. The document goes into `gradients.json` in the study's folder.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from lockstep import backends, store, study
from lockstep.files import locks
from lockstep.language import later
from lockstep.machine import cores, description, sources
from lockstep.proof import derivatives, procedure
from lockstep.spec import Run, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml
from lockstep.store.documents.gradients import FILE, FORMAT, Backend, Derivatives, Gradients, Network, Parameter
from lockstep.store.documents.run import Environment
from lockstep.study import places
from lockstep.study.places import local
from lockstep.version import version


def check_gradients(
    asked: Study, runs_folder: Path, threads: int | None = None, tell: procedure.Tell = lambda run, event: None
) -> Gradients:  # fmt: skip
    """Check every network, recipe and dataset of a study over its backends; docs/proof.md describes the document.

    `tell` hears of the progress. Raises LockstepError for a study that cannot be, a folder that cannot be written and
    one where another process proves the same (LS-504); a gradient that is wrong is a verdict.
    """
    asked, threads = study.checked(asked), cores.checked_threads(threads)
    recipe = changed(asked.recipe, products="full")  # rounded factors have no slope
    asked = changed(asked, dtype=("float64",), seeds=asked.seeds[:1], recipe=recipe)
    folder = runs_folder / asked.name / store.TRACES
    store.make_folder(folder)
    found: dict[tuple[str, str, str], tuple[Run, list[Backend]]] = {}  # a network's first run, its backends' rows
    with locks.take(folder):
        for run in asked.runs():
            key = (run.network_name, run.dataset, repr(dict(run.grid)))
            found.setdefault(key, (run, []))[1].append(_checked(run, asked, folder, threads, tell))
    networks = tuple(
        Network(network=run.network_name, dataset=run.dataset, grid=dict(run.grid), backends=tuple(rows))
        for run, rows in found.values()
    )
    document = Gradients(
        format=FORMAT, study=asked.name,
        verdict=procedure.worst_of(row.verdict for network in networks for row in network.backends), networks=networks,
        images=derivatives.N_IMAGES, step=derivatives.STEP, lockstep=version(), git_revision=sources.git_revision(),
        machine=Environment(**description.machine()), threads=threads, proven=store.now(),
    )  # fmt: skip
    store.write_json(runs_folder / asked.name / FILE, document.document())
    return document


def _checked(run: Run, asked: Study, folder: Path, threads: int, tell: procedure.Tell) -> Backend:
    if reason := backends.why_missing(run.backend):
        row = Backend(backend=run.backend, code="LS-401", reason=reason, parameters=(), verdict="INCONCLUSIVE")
    else:
        place = _begun(run, asked, folder)
        tell(run, {"event": "start", "folder": str(place)})
        job = places.Job([run], [place], threads, places.Task("lockstep.proof.derivatives"))
        (record,) = local.HERE.do(job, lambda event: tell(run, event))
        row = _row(run.backend, record, place)
    tell(run, {"event": "end", "verdict": row.verdict, "reason": row.reason})
    return row


def _row(backend: str, record: store.Record, place: Path) -> Backend:
    """What a worker left of one backend."""
    status = record.status
    if status["status"] != "finished":
        return Backend(
            backend=backend, code=status["code"], reason=status["reason"], parameters=(), verdict="ERROR"
        )  # fmt: skip
    rows = Derivatives.read(place / derivatives.FILE).rows
    return Backend(
        backend=backend, code=None, reason=why(rows), parameters=rows, verdict=derivatives.verdict(rows)
    )  # fmt: skip


def _begun(run: Run, asked: Study, folder: Path) -> Path:
    text = resolved_toml(study.one_run_study(asked, run))
    place = folder / f"gradients-{study.run_id(run, text)}"
    if place.exists():
        shutil.rmtree(place, ignore_errors=True)
    store.make_folder(place)
    store.write_status(place, "running")
    store.write_bytes(place / "spec.toml", text.encode())
    return place


def why(rows: Sequence[Parameter]) -> str | None:
    """What is wrong or was not seen, in a sentence."""
    if first := next((row for row in rows if row.is_wrong), None):
        return later(
            "the gradient of {parameter} at {at} is {gradient:.6g}, but the loss has the slope {slope:.6g} there",
            parameter=first.parameter, at=list(first.at or ()), gradient=_number(first.gradient),
            slope=_number(first.slope),
        )  # fmt: skip
    unseen = [row.parameter for row in rows if not row.gradients]
    return later("at kinks wherever it was looked at: {names}", names=", ".join(unseen)) if unseen else None


def _number(kept: float | None) -> float:
    """A number as it was before JSON, which has none that is not finite."""
    return math.nan if kept is None else kept


def exit_code(document: Gradients) -> int:
    """0 where all gradients are slopes, 1 where one is not, 5 for want of a disk or memory, else 4."""
    if any(row.verdict == "DIVERGED" for row in document.rows):
        return 1
    if document.verdict == "EQUAL":
        return 0
    codes = [row.code for row in document.rows if row.code]
    return 5 if codes and all(code.startswith("LS-5") for code in codes) else 4
