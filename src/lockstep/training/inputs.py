"""What is decided before a run: its images and labels, what a pixel becomes, its starting weights, and its plan.

A pure function of the run and the dataset, that needs no framework and no process: training, the judge and whoever
works a hand-in out again ask for the same.
"""

from __future__ import annotations

import numpy as np

from lockstep import data, randomness
from lockstep.backends.mistakes import plan_of
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.data import mistakes
from lockstep.spec import Recipe, Run, Shape


class Examples:
    """A run's images and labels: training, validation and test, and what a pixel becomes.

    `train_part` is the part of the training images, without augmentation, on which the network is evaluated as it is on
    the test images: of the two accuracies the gap of overfitting is the difference.
    """

    def __init__(self, loaded: data.Data, run: Run) -> None:
        """Hold the validation images out, then keep `train_size` of the rest."""
        kept, held_out = data.split(len(loaded.train_images), run.recipe.validation, run.seed)
        if run.train_size:
            kept = data.part_of(kept, loaded.train_labels, run.train_size, run.format)
        whole = len(kept) == len(loaded.train_images)
        self.data = loaded
        self.train = (loaded.train_images, loaded.train_labels) if whole else _some(loaded, kept)
        self.validation = _some(loaded, held_out)
        self.test = (loaded.test_images, loaded.test_labels)
        self.train_part = evenly_drawn(*self.train, min(len(self.test[0]), MOST_EVALUATED))
        self.mean, self.scale = scaling_of(self.train[0], run.recipe)

    @property
    def shape(self) -> Shape:
        """(height, width, channels) of an image."""
        return tuple(self.train[0].shape[1:])


MOST_EVALUATED = 10_000  # training images that are evaluated at an epoch's end, as the test images are


def evenly_drawn(images: np.ndarray, labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of the training images, or all: the same ones in every epoch, backend and seed.

    Drawn and not the first ones, because many a folder of images is sorted by class.
    """
    if len(images) <= most:
        return images, labels
    places = np.sort(randomness.permutation(len(images), 0, "evaluated")[:most])
    return images[places], labels[places]


def _some(loaded: data.Data, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return loaded.train_images[indices], loaded.train_labels[indices]


def scaling_of(images: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(mean, scale) of each channel: a pixel enters the network as (pixel − mean) · scale."""
    right = _scaled(images, recipe)
    return mistakes.scaling(*right, recipe) if recipe.mistakes else right


def _scaled(images: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    channels = images.shape[3]
    if recipe.scaling == "unit":
        return np.zeros(channels), np.full(channels, 1 / 255)
    levels = np.arange(256.0)
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(channels)])
    mean = counts @ levels / counts.sum(axis=1)
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1)
    return mean, 1 / np.sqrt(np.maximum(variance, 1.0))


def make_plan(run: Run, examples: Examples, threads: int) -> Plan:
    """Everything decided, for a backend to compute."""
    n, batch = len(examples.train[0]), run.recipe.batch_size
    return plan_of(
        run.network, examples.shape, run.recipe, run.seed, examples.mean, examples.scale,
        -(-len(data.epoch_order(n, run.recipe, run.seed, 0)) // batch), computed_dtype(run), run.device, threads,
    )  # fmt: skip


def computed_dtype(run: Run) -> str:
    """The dtype that is computed in: the one asked for, unless the recipe makes a mistake of it."""
    return mistakes.dtype(run) if run.recipe.mistakes else run.dtype


def start(run: Run, shape: Shape) -> dict[str, np.ndarray]:
    """The run's starting weights for images of this shape."""

    def drawn(seed: int) -> dict[str, np.ndarray]:
        return initial_weights(run.network, shape, seed, computed_dtype(run), run.format)

    return mistakes.weights(drawn, run) if run.recipe.mistakes else drawn(run.seed)


def load(dataset: str) -> data.Data:
    """A dataset that is on this machine."""
    return data.load(dataset, offline=True)
