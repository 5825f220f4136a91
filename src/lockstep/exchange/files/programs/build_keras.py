"""`python build_keras.py PLACE STEM`: the model of model.py, with the weights of tensors.npz, becomes STEM.keras."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import keras
import numpy as np


def model_of(place: Path) -> keras.Model:
    """The model with its weights."""
    model = runpy.run_path(str(place / "model.py"))["build"]()
    with np.load(place / "tensors.npz", allow_pickle=False) as arrays:
        for layer in model.layers:
            for variable in layer.variables:
                if "seed_generator" not in variable.path:
                    variable.assign(arrays[f"{layer.name}/{variable.name}"])
    return model


def main(place: Path, stem: str) -> None:
    """Save it."""
    model_of(place).save(place / f"{stem}.keras")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
