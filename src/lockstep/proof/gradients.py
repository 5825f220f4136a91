"""Are a backend's gradients the slopes of its loss? `lockstep prove STUDY --gradients`.

Each backend is asked by itself, in float64 and in a process of its own (`derivatives`), for every network, recipe and
dataset of the study with its first seed. The document goes into `gradients.json` in the study's folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockstep import backends, store, study
from lockstep.files import locks
from lockstep.language import later
from lockstep.machine import cores, description, sources
from lockstep.proof import derivatives, procedure
from lockstep.spec import Run, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml
from lockstep.study import places
from lockstep.study.places import local
from lockstep.version import version

FORMAT = 1
FILE = "gradients.json"


def check_gradients(
    asked: Study, runs_folder: Path, threads: int | None = None, tell: procedure.Tell = lambda run, event: None
) -> dict[str, Any]:  # fmt: skip
    """Check every network, recipe and dataset of a study over its backends; docs/proof.md describes the document.

    `tell` hears of the progress. Raises LockstepError for a study that cannot be, a folder that cannot be written and
    one where another process proves the same (LS-504); a gradient that is wrong is a verdict.
    """
    asked, threads = study.checked(asked), cores.checked_threads(threads)
    recipe = changed(asked.recipe, products="full")  # rounded factors have no slope
    asked = changed(asked, dtype=("float64",), seeds=asked.seeds[:1], recipe=recipe)
    folder = runs_folder / asked.name / store.TRACES
    store.make_folder(folder)
    networks: dict[tuple[str, str, str], dict[str, Any]] = {}
    with locks.take(folder):
        for run in asked.runs():
            key = (run.network_name, run.dataset, repr(dict(run.grid)))
            named = {"network": run.network_name, "dataset": run.dataset, "grid": dict(run.grid), "backends": []}
            networks.setdefault(key, named)["backends"].append(_checked(run, asked, folder, threads, tell))
    verdicts = [row["verdict"] for network in networks.values() for row in network["backends"]]
    document = {
        "format": FORMAT, "study": asked.name, "verdict": procedure.worst_of(verdicts),
        "networks": list(networks.values()),
        "images": derivatives.N_IMAGES, "step": derivatives.STEP, "lockstep": version(),
        "git_revision": sources.git_revision(), "machine": description.machine(), "threads": threads,
        "proven": store.now(),
    }  # fmt: skip
    store.write_json(runs_folder / asked.name / FILE, document)
    return document


def _checked(run: Run, asked: Study, folder: Path, threads: int, tell: procedure.Tell) -> dict[str, Any]:
    """One backend's row."""
    row: dict[str, Any] = {"backend": run.backend, "code": None, "reason": None, "parameters": []}
    if reason := backends.why_missing(run.backend):
        row |= {"verdict": "INCONCLUSIVE", "reason": reason, "code": "LS-401"}
    else:
        place = _begun(run, asked, folder)
        tell(run, {"event": "start", "folder": str(place)})
        job = places.Job([run], [place], threads, places.Task("lockstep.proof.derivatives"))
        (record,) = local.HERE.do(job, lambda event: tell(run, event))
        status = record.status
        if status["status"] == "finished":
            row["parameters"] = store.read_json(place / derivatives.FILE)["rows"]
            row["verdict"] = derivatives.verdict(row["parameters"])
            row["reason"] = _why(row)
        else:
            row |= {"verdict": "ERROR", "reason": status["reason"], "code": status["code"]}
    tell(run, {"event": "end", "verdict": row["verdict"], "reason": row["reason"]})
    return row


def _begun(run: Run, asked: Study, folder: Path) -> Path:
    text = resolved_toml(study.one_run_study(asked, run))
    place = folder / f"gradients-{study.run_id(run, text)}"
    if place.exists():
        shutil.rmtree(place, ignore_errors=True)
    store.make_folder(place)
    store.write_status(place, "running")
    store.write_bytes(place / "spec.toml", text.encode())
    return place


def wrong(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The parameters of a backend whose gradient is no slope."""
    return [one for one in row["parameters"] if one["gradients"] and not one["off"] <= one["room"]]


def _why(row: Mapping[str, Any]) -> str | None:
    """What is wrong or was not seen, in a sentence."""
    if found := wrong(row):
        first = found[0]
        facts = {"parameter": first["parameter"], "at": first["at"], "gradient": first["gradient"]}
        return later(
            "the gradient of {parameter} at {at} is {gradient:.6g}, but the loss has the slope {slope:.6g} there",
            **facts, slope=first["slope"],
        )  # fmt: skip
    unseen = [one["parameter"] for one in row["parameters"] if not one["gradients"]]
    return later("at kinks wherever it was looked at: {names}", names=", ".join(unseen)) if unseen else None


def exit_code(document: Mapping[str, Any]) -> int:
    """0 where all gradients are slopes, 1 where one is not, 5 for want of a disk or memory, else 4."""
    rows = [row for network in document["networks"] for row in network["backends"]]
    if any(row["verdict"] == "DIVERGED" for row in rows):
        return 1
    if document["verdict"] == "EQUAL":
        return 0
    failed = [row for row in rows if row["code"]]
    return 5 if failed and all(row["code"].startswith("LS-5") for row in failed) else 4
