"""Train the same neural network in NumPy, PyTorch, TensorFlow and JAX, and compare what is left.

Every public name, grouped by where it lives. They are imported when they are asked for: the command line must start
fast, and no framework is ever imported here.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

_PUBLIC = {
    "lockstep.spec": (
        # a study and its parts
        "Study", "Network", "Recipe", "Run", "Augmentation", "EarlyStopping",
        # layers
        "Conv2D", "MaxPool2D", "AvgPool2D", "GlobalAvgPool", "Flatten", "Dense", "BatchNorm", "LayerNorm",
        "Dropout",
        "ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid", "Softplus", "GELU",
        # blocks of layers, and how branches join
        "Residual", "Parallel", "Repeat", "Add", "Concat",
        # starting weights
        "HeNormal", "HeUniform", "GlorotNormal", "GlorotUniform", "LecunNormal", "LecunUniform", "Normal", "Uniform",
        "TorchDefault", "FlaxDefault", "Zeros",
        # optimizers and schedules
        "SGD", "Momentum", "Nesterov", "Adam", "AdamW", "RMSprop", "Constant", "StepDecay", "Cosine", "OneCycle",
    ),
    "lockstep.errors": ("LockstepError", "Problem"),
    "lockstep.spec.toml": ("parse_study", "read_study", "resolved_toml"),
    "lockstep.study.provenance": ("resolved_values",),
    "lockstep.study.schema": ("study_schema",),
    "lockstep.study.templates": ("new_study",),
    "lockstep.check.leftovers": ("clean_runs",),
    "lockstep.scripting": (
        "load_study", "run_study", "prove", "compare_runs", "check_gradients", "bench", "verify", "diff",
        "assert_models_equal",
    ),
    "lockstep.store.documents.difference": ("Difference", "read_difference"),
    "lockstep.store": ("Record", "Records", "find_runs"),
    "lockstep.report": ("compare", "write_report"),
    "lockstep.report.inline": ("show",),
}  # fmt: skip
_WHERE = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = list(_WHERE)
__version__: str


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("lockstep.version").version()
    if name not in _WHERE:
        raise AttributeError(f"module 'lockstep' has no attribute {name!r}")
    _speak()
    return getattr(importlib.import_module(_WHERE[name]), name)


@functools.cache
def _speak() -> None:
    """Speak the language that LOCKSTEP_LANGUAGE asks for, as the command line does."""
    asked = importlib.import_module("lockstep.arguments").language_of_environment()
    importlib.import_module("lockstep.language").use(asked)


def __dir__() -> list[str]:
    return sorted(__all__)
