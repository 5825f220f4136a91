"""Baselines: the same network, trained as each framework's own documentation teaches it.

Written the way a tutorial writes it, with the framework's own layers, loader, initialiser and loop, and no adapter of
ours: what a user gets who follows it. Same network, batch size, optimizer, number of epochs, dtype and images; the
schedule, the starting weights and the order of the images are the framework's own, which costs no time worth the name.

`python -m lockstep.benchmark.baselines NAME FOLDER THREADS` runs one in a process of its own: FOLDER holds spec.toml of
one run, and gets shipped.json, a `Lap`: its seconds have no "compile", which happens inside the first epoch.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.language import joined, later
from lockstep.spec import Run

FILE = "shipped.json"  # what a baseline's process leaves

# name → (title, the modules it needs, the distributions whose versions are told, the backend of ours beside it)
SHIPPED = {
    "torch": ("PyTorch, DataLoader", ("torch",), ("torch",), "torch"),
    "keras": (
        "Keras, compile and fit", ("keras", "tensorflow"), ("tensorflow", "tensorflow-cpu", "keras"), "tensorflow",
    ),
    "flax": ("Flax and Optax, a jitted step", ("flax", "optax", "jax"), ("flax", "jax", "jaxlib", "optax"), "jax"),
    "sklearn": ("scikit-learn, MLPClassifier", ("sklearn",), ("scikit-learn",), "numpy"),
    "autograd": ("NumPy, HIPS autograd", ("autograd",), ("autograd",), "numpy"),
}  # fmt: skip


@dataclasses.dataclass
class Images:
    """What a tutorial starts from: pixels in [0, 1] as float32 (n, height, width, channels), labels int64."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclasses.dataclass
class Trained:
    """What a baseline leaves: seconds of each epoch, how many images it trained on, and a prediction of classes."""

    epochs: list[float]
    images: int
    predict: Callable[[np.ndarray], np.ndarray]
    build_seconds: float


def why_missing(name: str) -> str | None:
    """Why a baseline cannot run here, or None; looks for its modules without importing them."""
    absent = [module for module in SHIPPED[name][1] if importlib.util.find_spec(module) is None]
    return later("{modules} not installed", modules=joined(absent, later(" and "))) if absent else None


def why_not(name: str, run: Run) -> str | None:
    """Why a baseline does not fit a run, or None."""
    kinds = [layer.kind for layer in run.network.layers]
    known = {"conv2d", "max_pool2d", "flatten", "dense", "relu", "dropout", "batch_norm"}
    if name == "sklearn":
        known = {"flatten", "dense", "relu"}
    if name == "autograd":
        known = {"conv2d", "max_pool2d", "flatten", "dense", "relu"}
    unknown = sorted(set(kinds) - known)
    if unknown:
        return later("it is not written for {names}", names=", ".join(unknown))
    if run.recipe.optimizer.kind not in ("adam", "sgd"):
        return later("it is not written for the optimizer {name}", name=run.recipe.optimizer.kind)
    if run.recipe.loss != "cross_entropy":
        return later("it is not written for the loss {name}", name=run.recipe.loss)
    if run.recipe.augmentation:
        return later("it is not written for augmentation")
    return None


def versions(name: str) -> dict[str, str]:
    """The installed versions behind a baseline."""
    found = {}
    for distribution in ("numpy", *SHIPPED[name][2]):
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load(name: str) -> Any:
    """Import a baseline; only a process of its own does this. Raises LockstepError (LS-401)."""
    if reason := why_missing(name):
        raise LockstepError(
            "LS-401", reason, where=later("baseline {name}", name=name), hint="pip install 'lockstep-nn[bench]'"
        )
    return importlib.import_module(f"lockstep.benchmark.baselines.{name}")
