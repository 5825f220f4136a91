"""What a run ended with, as a file of another program takes it; and what a form of such files has to say of itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from lockstep.backends.plan import Arrays
from lockstep.exchange.scripts.given import Given


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run's network with its final weights and running statistics, in the canonical names and layout, float32.

    `facts` say where it comes from: texts by name, which are written into whatever has room for them.
    """

    given: Given
    weights: Arrays
    statistics: Arrays
    facts: Mapping[str, str]

    @property
    def arrays(self) -> Arrays:
        """Weights and statistics."""
        return self.weights | self.statistics

    def of(self, layer: str) -> Arrays:
        """A layer's arrays by their own names: "kernel", "bias", "running_mean" …"""
        start = f"{layer}/"
        return {name.removeprefix(start): value for name, value in self.arrays.items() if name.startswith(start)}

    @property
    def scaling(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean, scale) of each channel: a pixel enters as (pixel − mean) · scale; one number where all are alike."""
        plan = self.given.plan
        mean, scale = (np.unique(v) if np.ptp(v) == 0 else v for v in (plan.mean, plan.scale))
        return mean.astype("float32"), scale.astype("float32")


@dataclasses.dataclass(frozen=True)
class Form:
    """A form of files: how its parts are written, and the programs that make the rest of it and load it again.

    Programs know nothing of Lockstep. Each is run alone as `python PROGRAM PLACE STEM`. `prepare` writes into a place
    what the `builder` reads (or, without one, the files themselves), and gives every tensor that the files hold, by its
    name there. The `checker` loads the files and leaves `found.npz`: "tensor/NAME" for each of these,
    "layer/READER/NAME" for each layer's output on `few` of the images, in the canonical layout, "logits/READER" for
    `all` of them and, where the files give them, "probabilities/READER" for `few`.

    `names` are the files of a stem, the one that is named by hand first; `backend` is whose threads the programs have.
    """

    title: str
    extra: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    backend: str
    names: Callable[[str], tuple[str, ...]]
    prepare: Callable[[Trained, Path, str], Arrays]
    checker: Path
    builder: Path | None = None
