"""What every script here shares: the data and the form of its answer."""

import json
import os

import numpy as np

from lockstep import data


def training_data() -> tuple[np.ndarray, np.ndarray]:
    """MNIST's training images and labels; IMAGES in the environment keeps the first so many."""
    loaded = data.load("mnist", offline=True)
    n = int(os.environ.get("IMAGES", len(loaded.train_images)))
    return loaded.train_images[:n], loaded.train_labels[:n]


def report(seconds: list[float], loss: float) -> None:
    """Print every epoch's seconds and the last loss as JSON."""
    print(json.dumps({"seconds": seconds, "loss": loss}))
