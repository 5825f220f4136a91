"""What each JSON document of Lockstep's holds: a JSON Schema by its name, read off the record that writes it.

A later version may add keys, so what a schema does not name is allowed; a number that JSON does not have is null. A
text that was kept has its form and values beside it in the file, under a key of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

from lockstep.errors import LockstepError, did_you_mean
from lockstep.language import later
from lockstep.report import document as report
from lockstep.store.documents import bench, comparison, gradients, proof, run, traces
from lockstep.study import schema as study

# name → (the files that hold it, or the command that prints it; the record)
DOCUMENTS: Mapping[str, tuple[str, Any]] = {
    "status": ("status.json of a run", run.Status),
    "environment": ("environment.json of a run", run.Environment),
    "metrics": ("metrics.json of a run", run.Metrics),
    "timing": ("timing.json of a run", run.Timing),
    "epoch": ("a line of a run's events.jsonl whose event is epoch", run.Epoch),
    "trace": ("manifest.json of a proof's trace", traces.Manifest),
    "proof": ("proof.json, and lockstep prove --json", proof.Proof),
    "gradients": ("gradients.json, and lockstep prove --gradients --json", gradients.Gradients),
    "bench": ("bench.json, and lockstep bench --json", bench.Measured),
    "diff": ("diff.json, and lockstep diff --json", comparison.Comparison),
    "report": ("report.json, and lockstep report --json", report.Document),
}


def schema(name: str) -> dict[str, Any]:
    """The schema of a document, or of a study's file; raises LockstepError (LS-209) for another name."""
    if name == "study":
        return study.study_schema()
    if name not in DOCUMENTS:
        hint = did_you_mean(name, ("study", *DOCUMENTS))
        raise LockstepError("LS-209", later('there is no document "{name}"', name=name), hint=hint)
    where, record = DOCUMENTS[name]
    # Of a record's fields those are written that were set; of a report's all are.
    mode: Literal["validation", "serialization"] = "serialization" if record is report.Document else "validation"
    found = TypeAdapter(record).json_schema(mode=mode)
    return {"$schema": study.DIALECT, **found, "title": f"Lockstep: {where}"}
