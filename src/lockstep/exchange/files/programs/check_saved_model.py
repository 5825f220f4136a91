"""`python check_saved_model.py PLACE STEM`: loads the SavedModel of a place by TensorFlow alone; see `trained`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf


def main(place: Path, stem: str) -> None:
    """Write what its signatures give."""
    loaded = tf.saved_model.load(place / f"{stem}_saved_model")
    with np.load(place / "images.npz", allow_pickle=False) as arrays:
        few, every = arrays["few"], arrays["all"]
    held = {variable.name.removesuffix(":0"): variable.numpy() for variable in loaded.variables}
    found = {f"tensor/{name}": value for name, value in held.items() if "seed_generator" not in name}
    found |= {f"layer/TensorFlow/{name}": value.numpy() for name, value in loaded.layers(few).items()}
    parts = [loaded.serve(every[start : start + 500]) for start in range(0, len(every), 500)]
    found["logits/TensorFlow"] = np.concatenate([part["logits"].numpy() for part in parts])
    found["probabilities/TensorFlow"] = loaded.serve(few)["probabilities"].numpy()
    np.savez(place / "found.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
