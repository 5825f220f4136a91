"""A difference that no known cause explains, packed so that one file reproduces it alone.

    spec.toml  canonical.toml      what the backend ran, and what it should have run
    plan.json                      what was decided: scaling, steps per epoch, threads; and the place that is guilty
    before.safetensors             "weights/…", "state/…" before the step
    arrays.safetensors             the batch; of a layer its input "x" and its output's gradient "dy"; what was "found"
    environment.json               versions and machine
    reproduce.py                   runs the guilty part in the backend and in NumPy's float64, and compares

It is what to send to a framework's maintainers, or to us.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends, store
from lockstep.backends.mistakes import plan_of
from lockstep.backends.plan import Arrays, Plan, Taken
from lockstep.files import intake
from lockstep.proof.findings import rows_of
from lockstep.proof.traces import Trace, part
from lockstep.spec import Run, Study
from lockstep.spec.toml import read_study, resolved_toml
from lockstep.store.documents.proof import Divergence

SCRIPT = '''"""{what} of network {network} in {backend}: run alone, beside NumPy in float64.

python reproduce.py        needs lockstep-nn and the framework; found with {versions}
"""

from pathlib import Path

from lockstep.proof import bundle

HERE = Path(__file__).parent
arrays = bundle.arrays(HERE)
theirs, judge = bundle.models(HERE)  # both stand where the backend stood before the step
{work}
for name, value in wanted.items():
    difference = abs(found[name].astype("float64") - value)
    print(f"{{name}}: off by {{difference.max():.3e}} of {{abs(value).max():.3e}}, at {{difference.argmax()}}")
'''
LAYER = """found = bundle.layer(theirs, "{layer}", {x}, arrays["dy"])
wanted = bundle.layer(judge, "{layer}", {x}, arrays["dy"])"""
GRADIENTS = """found, wanted = (model.gradients(arrays["images"], arrays["labels"])[1] for model in (theirs, judge))"""
STATISTICS = """for model in (theirs, judge):
    model.step(arrays["images"], arrays["labels"])
found, wanted = (bundle.statistics(model) for model in (theirs, judge))"""
STEP = """for model in (theirs, judge):
    print("loss:", model.step(arrays["images"], arrays["labels"]))
found, wanted = theirs.weights(), judge.weights()"""
PREDICT = """found, wanted = (model.activations(arrays["images"], False) for model in (theirs, judge))"""


def write(folder: Path, trace: Trace, canonical: Run, plan: Plan, divergence: Divergence) -> Path:
    """Pack one divergence of a trace; returns the folder. An older bundle of the same place is replaced."""
    folder = folder / folder_name(trace, canonical, divergence)
    shutil.rmtree(folder, ignore_errors=True)
    store.make_folder(folder)
    step = divergence.step
    layer = _layer(divergence, plan)
    if divergence.stage == "predictions":
        before, batch, work = trace.state(trace.steps) or {}, trace.arrays("end"), PREDICT
    else:
        before = trace.before(step or 0) or trace.arrays("start")
        batch = trace.arrays(f"step-{step or 0}")
        work = _work(divergence.stage, layer if f"activation/{layer}" in batch else "", canonical.recipe.l2, plan)
    kept: Arrays = {name: batch[name] for name in ("images", "labels", "indices") if name in batch}
    if work.startswith("found = bundle.layer"):
        kept |= {
            **_inputs_of(batch, plan, layer),
            "dy": batch[f"sent_back/{layer}"],
            "found": batch[f"activation/{layer}"],
        }
    _write_arrays(folder / "before.safetensors", before)
    _write_arrays(folder / "arrays.safetensors", kept)
    shutil.copyfile(trace.folder / "spec.toml", folder / "spec.toml")
    shutil.copyfile(trace.folder / "environment.json", folder / "environment.json")
    asked = Study(
        networks={canonical.network_name: canonical.network}, dataset=(canonical.dataset,), backends=("numpy",),
        seeds=(canonical.seed,), dtype=(canonical.dtype,), recipe=canonical.recipe, train_size=canonical.train_size,
        format=canonical.format,
    )  # fmt: skip
    store.write_bytes(folder / "canonical.toml", resolved_toml(asked).encode())
    facts = {
        "input_shape": plan.input_shape, "mean": plan.mean, "scale": plan.scale, "step": step or 0,
        "steps_per_epoch": plan.steps_per_epoch, "mean_of_trace": list(trace.manifest.mean),
        "scale_of_trace": list(trace.manifest.scale), "divergence": divergence.document(),
    }  # fmt: skip
    store.write_json(folder / "plan.json", facts)
    versions = ", ".join(f"{name} {number}" for name, number in backends.versions(trace.backend).items())
    what = f"{divergence.stage}, {divergence.where}".replace("\\", "/").replace('"', "'")
    script = SCRIPT.format(
        what=what.capitalize(), network=canonical.network_name, backend=trace.backend, versions=versions, work=work
    )
    store.write_bytes(folder / "reproduce.py", script.encode())
    return folder


def folder_name(trace: Trace, canonical: Run, divergence: Divergence) -> str:
    """What tells the bundles of a study apart."""
    settings = [f"{key.rpartition('.')[2]}={value}" for key, value in canonical.grid.items()]
    words = [canonical.network_name, canonical.dataset, trace.backend, canonical.dtype, *settings]
    words += [divergence.stage, str(divergence.where)]
    return "-".join(re.sub(r"[^A-Za-z0-9.=]+", "-", word).strip("-.") for word in words)[:200]


def _work(stage: str, layer: str, l2: float, plan: Plan) -> str:
    """The lines that run the guilty part alone: a layer, where all of the part is in it."""
    n = len(plan.row(layer).inputs) if layer else 1
    x = 'arrays["x"]' if n == 1 else f"tuple(arrays[f'x{{place}}'] for place in range({n}))"
    if stage == "statistics":
        return STATISTICS
    if stage == "gradients" and l2:  # a layer knows nothing of the decay
        return GRADIENTS
    return LAYER.format(layer=layer, x=x) if layer else STEP


def _layer(divergence: Divergence, plan: Plan) -> str:
    """The layer that a place speaks of."""
    where, *others = rows_of(str(divergence.where))
    is_layer = not others and where in [row.name for row in plan.rows]
    return where if divergence.stage in ("forward", "backward", "gradients", "statistics") and is_layer else ""


def _inputs_of(batch: Arrays, plan: Plan, layer: str) -> Arrays:
    """ "x" → what a layer took in; of several "x0", "x1" …"""
    names = plan.row(layer).inputs
    keys = ["x"] if len(names) == 1 else [f"x{place}" for place in range(len(names))]
    return {key: batch[f"activation/{name}"] for key, name in zip(keys, names, strict=True)}


def _write_arrays(path: Path, arrays: Arrays) -> None:
    from safetensors.numpy import save

    store.write_bytes(path, save({name: np.asarray(value, order="C") for name, value in arrays.items()}))


# ------------------------------------------------------------------------------------------- what reproduce.py calls


def arrays(folder: Path) -> Arrays:
    return _read_arrays(folder / "arrays.safetensors")


def _read_arrays(path: Path) -> Arrays:
    try:
        return intake.tensors(intake.content(path, intake.LARGEST_ARRAYS))
    except (OSError, ValueError) as error:
        raise store.damaged(path, error) from error


def models(folder: Path) -> tuple[Any, Any]:
    """(the backend's model, NumPy's in float64), both as they stood before the step."""
    facts = store.read_json(folder / "plan.json")
    before = _read_arrays(folder / "before.safetensors")
    weights, state = part(before, "weights"), part(before, "state")
    found = []
    for file, mean, scale in (("spec.toml", "mean_of_trace", "scale_of_trace"), ("canonical.toml", "mean", "scale")):
        (run,) = read_study(folder / file).runs()
        plan = plan_of(
            run.network, tuple(facts["input_shape"]), run.recipe, run.seed, np.array(facts[mean]),
            np.array(facts[scale]), facts["steps_per_epoch"], run.dtype, run.device, 1,
        )  # fmt: skip
        if file == "canonical.toml":
            plan = dataclasses.replace(plan, dtype="float64", device="cpu")
        model = backends.load(run.backend).build(
            plan, {name: value.astype(plan.dtype) for name, value in weights.items()}
        )
        known = model.state()
        placed = {name: state[name].astype(plan.dtype) if name in state else value for name, value in known.items()}
        model.restore(
            {name: value.astype(plan.dtype) for name, value in weights.items()},
            placed | {"step": np.array(facts["step"])},
        )
        found.append(model)
    return found[0], found[1]


def layer(model: Any, name: str, x: Taken, dy: np.ndarray) -> Arrays:
    """One layer alone: {"y", "dx", parameter → gradient}; of a join "dx0", "dx1" …"""
    y, dx, gradients = model.layer(name, x, dy)
    sent = {f"dx{place}": one for place, one in enumerate(dx)} if isinstance(dx, tuple) else {"dx": dx}
    return {"y": y, **sent, **gradients}


def statistics(model: Any) -> Arrays:
    """Running statistics alone."""
    return {name: value for name, value in model.state().items() if "running_" in name}
