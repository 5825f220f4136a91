"""A tree of Flax's variables, flat under its own paths (safetensors), and the module's text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lockstep.backends.plan import Arrays
from lockstep.exchange.files.modules import PROGRAMS, heading, metadata, numbers, statements
from lockstep.exchange.scripts import jax, linen
from lockstep.exchange.trained import Form, Trained
from lockstep.spec import JOINS

OURS = {
    "kernel": ("params", "kernel"), "bias": ("params", "bias"), "scale": ("params", "scale"),
    "shift": ("params", "bias"), "running_mean": ("batch_stats", "mean"), "running_variance": ("batch_stats", "var"),
}  # fmt: skip


def tensors(trained: Trained) -> Arrays:
    """Every variable under its path in Flax's tree; layouts are the canonical ones."""
    found: Arrays = {}
    for row in trained.given.plan.rows:
        for part, value in trained.of(row.name).items():
            collection, name = OURS[part]
            found[f"{collection}/{linen.attribute(row.name)}/{name}"] = np.ascontiguousarray(value)
    return found


def text(trained: Trained, stem: str) -> str:
    """The module, and a function that loads its variables."""
    given = dataclasses.replace(trained.given, is_own=True)
    rows, layers = given.plan.rows, linen.LAYERS
    codes = {row.name: layers[row.layer.kind](row, given) for row in rows if row.layer.kind not in JOINS}
    helpers = "\n\n".join(text.strip("\n") + "\n" for text in jax.helpers(list(codes.values())))
    lines = [_scaled(trained), *statements(rows, codes, jax.joined), "return x"]
    body = "\n".join(f"        {line}" for line in lines)
    uses_jax = "import jax\n" if "jax." in body.replace("jax.numpy", "") + helpers else ""
    use = (
        f'    variables = load("{stem}_flax.safetensors")\n'
        "    logits = Network().apply(variables, images)  # (n, height, width, channels), uint8\n"
    )
    what = f"The network {given.run.network_name} as a module of Flax, with its variables beside it."
    return f'''{heading(trained, what, use)}
{uses_jax}import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict
from safetensors.flax import load_file

{helpers}
class Network(nn.Module):
    @nn.compact
    def __call__(self, images, training=False):
        """Logits of uint8 images (n, height, width, channels)."""
{body}


def load(file):
    """The trained variables, as a tree."""
    return unflatten_dict(load_file(file), sep="/")
'''


def _scaled(trained: Trained) -> str:
    mean, scale = trained.scaling
    x = "images.astype(jnp.float32)"
    if mean.any():
        x = f"({x} - {_number(mean)})"
    return f"x = {x} * {_number(scale)}"


def _number(values: np.ndarray) -> str:
    return numbers(values) if len(values) == 1 else f"jnp.array({numbers(values)})"


def prepare(trained: Trained, place: Path, stem: str) -> Arrays:
    """Write both files."""
    found = tensors(trained)
    save_file(found, place / f"{stem}_flax.safetensors", metadata=metadata(trained, format="flax"))
    (place / f"{stem}_flax_module.py").write_text(text(trained, stem), encoding="utf-8")
    return found


FORM = Form(
    "Flax", "flax", ("jax", "flax"), ("jax", "jaxlib", "flax", "safetensors"), "jax",
    lambda stem: (f"{stem}_flax.safetensors", f"{stem}_flax_module.py"), prepare, PROGRAMS / "check_flax.py",
)  # fmt: skip
