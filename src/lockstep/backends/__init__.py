"""The backends by the name they are imported with. Looking one up here imports no framework."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, cast

from lockstep.backends.contract import Backend
from lockstep.errors import LockstepError, did_you_mean
from lockstep.language import joined, later

# name → (title, the modules it needs, the distributions whose versions a record names, the extra that installs them)
BACKENDS = {
    "numpy": ("NumPy", ("numpy",), ("numpy",), ""),
    "torch": ("PyTorch", ("torch",), ("torch",), "torch"),
    "tensorflow": ("TensorFlow", ("tensorflow", "keras"), ("tensorflow", "tensorflow-cpu", "keras"), "tensorflow"),
    "jax": ("JAX", ("jax", "optax"), ("jax", "jaxlib", "optax"), "jax"),
}


if TYPE_CHECKING:  # here a type checker compares each with the contract
    from lockstep.backends import jax, numpy, tensorflow, torch

    _EVERY: tuple[Backend, ...] = (numpy, torch, tensorflow, jax)


def why_missing(name: str) -> str | None:
    """Why a backend cannot run here, or None; looks for the modules without importing them.

    Raises LockstepError (LS-209) for a name that is not in BACKENDS.
    """
    if name not in BACKENDS:
        raise LockstepError(
            "LS-209", later('there is no backend "{name}"', name=name), hint=did_you_mean(name, BACKENDS)
        )
    absent = [module for module in BACKENDS[name][1] if importlib.util.find_spec(module) is None]
    return later("{modules} not installed", modules=joined(absent, later(" and "))) if absent else None


def versions(name: str) -> dict[str, str]:
    """The installed versions of a backend's distributions and of NumPy."""
    found = {}
    for distribution in dict.fromkeys(("numpy", *BACKENDS[name][2])):
        try:
            found[distribution] = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def load(name: str) -> Backend:
    """Import a backend; only a worker process does this. Raises LockstepError (LS-401) where it is not installed."""
    return cast(Backend, imported(name, f"lockstep.backends.{name}"))


def imported(name: str, module: str) -> ModuleType:
    """A module that needs a backend's framework. Raises LockstepError (LS-401) where that is not installed."""
    if reason := why_missing(name):
        extra = BACKENDS[name][3]
        raise LockstepError(
            "LS-401", reason, where=later("backend {name}", name=name), hint=f"pip install 'lockstep-nn[{extra}]'"
        )
    with _as_if_not_installed(PASSED_BY.get(name, ())):
        return importlib.import_module(module)


# What Keras and TensorFlow import where it is installed, and what no training here asks for: half of their start.
PASSED_BY = {"tensorflow": ("jax", "matplotlib", "pandas", "scipy", "sklearn")}


@contextlib.contextmanager
def _as_if_not_installed(names: Iterable[str]) -> Iterator[None]:
    """Inside, importing one of these packages fails as it does where there is none, unless it has been imported."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # as importlib documents it
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
