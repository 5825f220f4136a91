"""Weights of a PyTorch module under its own names (safetensors), and the module's text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from lockstep.backends.plan import Arrays
from lockstep.exchange.files.modules import PROGRAMS, heading, metadata, numbers, statements
from lockstep.exchange.scripts import torch as written
from lockstep.exchange.trained import Form, Trained
from lockstep.spec import JOINS

OURS = {
    "kernel": "weight", "bias": "bias", "scale": "weight", "shift": "bias", "running_mean": "running_mean",
    "running_variance": "running_var",
}  # fmt: skip


def tensors(trained: Trained) -> Arrays:
    """Every tensor under the module's own name, in PyTorch's layout: (out, in, height, width), (out, in)."""
    found: Arrays = {}
    for row in trained.given.plan.rows:
        for part, value in trained.of(row.name).items():
            turned = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            found[f"{written.attribute(row.name)}.{OURS[part]}"] = np.ascontiguousarray(turned)
    return found


def text(trained: Trained, stem: str) -> str:
    """The module, and a function that loads it."""
    given = dataclasses.replace(trained.given, is_own=True, n_train=0)
    rows, layers = given.plan.rows, written.LAYERS
    codes = {row.name: layers[row.layer.kind](row, given) for row in rows if row.layer.kind not in JOINS}
    made = [f"        self.{written.attribute(name)} = {code.make}" for name, code in codes.items() if code.make]
    lines = [_scaled(trained), *statements(rows, codes, written.joined), "return x"]
    body = "\n".join(f"        {line}" for line in lines)
    helper = written.BIASED if "biased_batch_norm(" in body else ""
    use = f'    model = load("{stem}.safetensors")\n    logits = model(images)  # (n, channels, height, width), uint8\n'
    functional = "import torch.nn.functional as F\n" if "F." in body + helper else ""
    what = f"The network {given.run.network_name} as a module of PyTorch, with its weights beside it."
    return f'''{heading(trained, what, use)}
import torch
{functional}from safetensors.torch import load_file
from torch import nn

{helper}
class Network(nn.Module):
    def __init__(self):
        super().__init__()
{chr(10).join(made)}

    def forward(self, images):
        """Logits of uint8 images (n, channels, height, width)."""
{body}


def load(file):
    """The trained network, ready to predict."""
    model = Network()
    model.load_state_dict(load_file(file))
    return model.eval()
'''


def _scaled(trained: Trained) -> str:
    mean, scale = trained.scaling
    each = "torch.tensor({}, device=images.device)[:, None, None]"
    x = "images.to(torch.float32)"
    if mean.any():
        x = f"({x} - {numbers(mean) if len(mean) == 1 else each.format(numbers(mean))})"
    return f"x = {x} * {numbers(scale) if len(scale) == 1 else each.format(numbers(scale))}"


def prepare(trained: Trained, place: Path, stem: str) -> Arrays:
    """Write both files."""
    found = tensors(trained)
    save_file(found, place / f"{stem}.safetensors", metadata=metadata(trained, format="pt"))
    (place / f"{stem}_module.py").write_text(text(trained, stem), encoding="utf-8")
    return found


FORM = Form(
    "safetensors", "torch", ("torch", "safetensors"), ("torch", "safetensors"), "torch",
    lambda stem: (f"{stem}.safetensors", f"{stem}_module.py"), prepare, PROGRAMS / "check_torch.py",
)  # fmt: skip
