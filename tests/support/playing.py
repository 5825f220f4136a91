"""Runs to play with, without a training: whole folders with weights drawn at random; and the page's scripts in Node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from lockstep import parse_study, store
from lockstep.play import networks
from lockstep.play import page as pages
from lockstep.spec.records import to_table
from support.needs import need

NODE = shutil.which("node") or ""
SOURCES = Path(pages.__file__).parent
COMPUTING = tuple(name for name in pages.SCRIPTS if name != "page")  # the page alone needs a browser

# Every kind of layer with every option, sizes all different; the last one of each makes classes.
EVERYTHING = {
    "images": [
        "conv2d 5 [3, 2] 1 same", "batch_norm", "relu", "conv2d 4 3 2 same_lower bias=false", "layer_norm 1e-3 example",
        "gelu", "max_pool2d 3 1 same", "layer_norm", "elu 1.3", "avg_pool2d 2 1 same", "leaky_relu 0.2",
        "avg_pool2d 2 1 same count_padding=true", "gelu tanh", "dropout 0.3", "flatten chw", "dense 9", "tanh",
        "dense 8", "sigmoid", "dense 7",
    ],
    "pooled": ["conv2d 6 3", "softplus", "max_pool2d 2 ties=shared", "conv2d 7 2", "global_avg_pool"],
    "branches": [
        "conv2d 4 3 padding=same", {"residual": ["conv2d 4 3 padding=same", "relu", "conv2d 4 1"]},
        {"parallel": [["conv2d 3 1"], ["max_pool2d 3 1 same", "tanh"], ["relu"]]},
        {"parallel": [["relu"], ["conv2d 11 1"]], "join": "concat reversed"},
        {"residual": ["conv2d 5 3 2 same"], "shortcut": ["conv2d 5 1 2 padding=same bias=false"],
         "join": "add 0.5 2 rectified=true"},
        {"parallel": [["relu"], ["sigmoid"]], "join": {"kind": "concat", "axis": "width"}},
        {"parallel": [["relu"], ["tanh"]], "join": {"kind": "concat", "axis": "height"}},
        {"parallel": [["relu"], ["tanh"], ["sigmoid"]], "join": "add"}, "global_avg_pool",
        {"parallel": [["dense 3"], ["dense 5"], ["dense 4"]]}, "relu", "dense 7",
    ],
    "flat": ["flatten", "dense 11 bias=false", "batch_norm 0.2", "relu", "layer_norm", "dense 7"],
}  # fmt: skip


def run_to_play(
    root: Path, layers: Sequence[Any], shape: tuple[int, int, int] = (12, 11, 2), classes: int = 7, *,
    name: str = "net", backend: str = "numpy", seed: int = 0, recipe: str = "epochs = 1", dtype: str = "float32",
    dataset: str = "digits", study: str = "toys",
) -> Path:  # fmt: skip
    """A finished run's folder with weights, running statistics and sixteen pictures drawn at random."""
    text = f'dataset = "{dataset}"\nbackends = ["{backend}"]\nseeds = [{seed}]\ndtype = "{dtype}"\n[recipe]\n{recipe}\n'
    asked = parse_study(f"{text}[networks]\n{name} = {toml(layers)}\n")
    folder = store.claim(root / study, f"{name}-{backend}-{seed}")
    store.write_json(folder / "status.json", {"format": 1, "status": "finished"})
    store.write_bytes(folder / "spec.toml", tomli_w.dumps(to_table(asked)).encode())
    random = np.random.default_rng(seed)
    names = [str(label) for label in range(classes)]
    described = {
        "name": dataset, "shape": shape, "class_names": names, "pixel_mean": random.uniform(20, 60, shape[2]).tolist(),
        "pixel_scale": random.uniform(0.01, 0.02, shape[2]).tolist(),
    }  # fmt: skip
    store.write_json(folder / "environment.json", {"dataset": described})
    store.write_json(folder / "metrics.json", {"test": {"accuracy": 0.5, "loss": 1.0}})
    images = random.integers(0, 256, (store.SAMPLES, *shape)).astype(np.uint8) * (random.random(shape) < 0.4)
    store.write_npz(folder / "samples.npz", images=images.astype(np.uint8), labels=np.arange(store.SAMPLES) % classes)
    write_numbers(folder, next(iter(asked.networks.values())), shape, random, dtype)
    return folder


def toml(value: Any) -> str:
    """A value as TOML has it on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(toml, value))}]" if isinstance(value, list) else json.dumps(value)


def write_numbers(folder: Path, network: Any, shape: tuple[int, int, int], random: Any, dtype: str) -> None:
    """A checkpoint with weights of the size that training leaves, and statistics that are no start's."""
    rows = network.facts(shape)
    weights, state = {}, {"step": np.array(1)}
    for row in rows:
        for what, size in row.parameter_shapes.items():
            spread = 1.5 / np.sqrt(max(np.prod(size[:-1]), 1)) if what == "kernel" else 0.3
            weights[f"{row.name}/{what}"] = (random.normal(0, spread, size) + (what == "scale")).astype(dtype)
        if row.layer.has_state:
            n = row.output_shape[-1]
            state[f"{row.name}/running_mean"] = random.normal(0, 0.3, n).astype(dtype)
            state[f"{row.name}/running_variance"] = random.uniform(0.3, 2, n).astype(dtype)
    store.write_checkpoint(folder, 1, weights, state)


def as_played(folder: Path) -> networks.Played:
    return networks.played(store.Record(folder))


OPENING = """
const BUILD = async run => network(run, await unpacked(run.numbers));
"""


def in_node(body: str, given: Any, planted: Sequence[tuple[str, str]] = ()) -> Any:
    """What `body`, the inside of an async function of `given`, returns beside the page's scripts.

    `planted` are (text, other text): each stands in the scripts once, and is replaced.
    """
    need(bool(NODE), "node")
    code = "\n".join((SOURCES / f"{name}.js").read_text("utf-8") for name in COMPUTING)
    opening = (SOURCES / "page.js").read_text("utf-8")
    start, end = opening.index("/** A run with its numbers"), opening.index("const pictureAt")
    code += opening[start:end] + OPENING
    for before, after in planted:
        assert code.count(before) == 1, before
        code = code.replace(before, after)
    code += f"""
(async given => {{ {body} }})(JSON.parse(require("fs").readFileSync(0, "utf8")))
  .then(found => process.stdout.write(JSON.stringify(found)), error => {{ console.error(error); process.exit(1); }});
"""
    done = subprocess.run(
        [NODE, "-e", code], input=json.dumps(given), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
