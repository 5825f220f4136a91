"""A small trace of a backend, and what the judge says of it."""

from __future__ import annotations

from lockstep import store, study
from lockstep.backends import numpy as reference
from lockstep.proof import growth, tracer, verdicts
from lockstep.proof.traces import Trace
from lockstep.spec import Network, Recipe, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml

LAYERS = ["conv2d 4 3 2 same", "batch_norm", "relu", "flatten", "dropout 0.2", "dense 10"]
STEPS = 8


def asked(dtype="float32", **recipe):
    options = {"optimizer": "adam 0.01", "batch_size": 13, "epochs": 2, "schedule": "cosine"} | recipe
    return Study(
        networks={"net": Network(LAYERS)}, dataset=("digits",), backends=("numpy",), recipe=Recipe(**options),
        dtype=(dtype,), name="small",
    )  # fmt: skip


def traced(case, folder, backend=reference, steps=STEPS, threads=1):
    """A trace of a case's run, made in this process."""
    (run,) = case.runs
    folder.mkdir()
    text = resolved_toml(changed(study.one_run_study(asked(), run), train_size=run.train_size))
    store.write_bytes(folder / "spec.toml", text.encode())
    store.write_json(folder / "environment.json", {"versions": {}})
    tracer.take_steps(backend, run, case.examples, folder, threads, lambda event: None, steps)
    return Trace(folder)


def judged(case, found):
    row = verdicts.judged(found, case)
    verdicts.judge_growth(case, row, growth.measured(case, [found], found.steps))
    return row
