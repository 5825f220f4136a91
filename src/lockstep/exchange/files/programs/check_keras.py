"""`python check_keras.py PLACE STEM`: loads STEM.keras; see `trained.Form`."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np


def main(place: Path, stem: str) -> None:
    """Write what the model gives."""
    model = keras.saving.load_model(place / f"{stem}.keras", compile=False, safe_mode=True)
    with np.load(place / "images.npz", allow_pickle=False) as arrays:
        few, every = arrays["few"], arrays["all"]
    found = {
        f"tensor/{layer.name}/{variable.name}": np.asarray(variable)
        for layer in model.layers
        for variable in layer.variables
        if "seed_generator" not in variable.path
    }
    names = [layer.name for layer in model.layers if layer.name == "input" or layer.name[0].isdigit()]
    inside = keras.Model(model.inputs, {name: model.get_layer(name).output for name in names})
    found |= {f"layer/Keras/{name}": np.asarray(value) for name, value in inside(few, training=False).items()}
    found["logits/Keras"] = model.predict(every, batch_size=500, verbose=0)
    np.savez(place / "found.npz", **found)  # type: ignore[arg-type]  # its stub takes names for options


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
