"""Which images train, which are held out, and in which order they come: pure functions of the seed."""

from __future__ import annotations

import numpy as np

from lockstep.data import mistakes
from lockstep.randomness import permutation
from lockstep.spec import Recipe

LEAST_WATCHED = 50  # validation images for early stopping: of fewer, one moves the accuracy by two points or more


def split(n: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(train indices, validation indices) of `n` images: both int64, sorted, together every index once.

    `fraction` in [0, 1) of the images is for validation, rounded to a whole number: none for 0, else at least one, and
    at least one image is left to train on.
    """
    n_validation = min(max(round(n * fraction), 1), n - 1) if fraction and n else 0
    order = permutation(n, seed, "split")
    return np.sort(order[n_validation:]), np.sort(order[:n_validation])


def part_of(indices: np.ndarray, labels: np.ndarray, n: int, format: int) -> np.ndarray:
    """`n` of these indices into `labels`, both sorted int64: the first of each class, as many as its share comes to.

    Every class has one before any has its second, so that none is left out while n allows. Those for a smaller n are
    among those for a larger one. In format 1 (`spec.FORMATS`) simply the first, whatever their classes.
    """
    if format == 1 or n >= len(indices):
        return indices[:n]
    own = labels[indices]
    by_class = np.argsort(own, kind="stable")
    classes, starts, counts = np.unique(own[by_class], return_index=True, return_counts=True)
    place = np.searchsorted(classes, own)
    rank = np.empty(len(own), np.int64)
    rank[by_class] = np.arange(len(own)) - np.repeat(starts, counts)
    share = np.where(rank, (rank + 0.5) / counts[place], 0.0)  # of its class that is kept before it is
    return np.asarray(indices[np.sort(np.lexsort((place, share))[:n])])


def batch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which `n` training images come in one epoch: int64 (n,), cut into batches from the front."""
    return permutation(n, seed, "order", epoch)


def epoch_order(n: int, recipe: Recipe, seed: int, epoch: int) -> np.ndarray:
    """`batch_order` as the recipe takes it."""
    order = batch_order(n, seed, epoch)
    return mistakes.order(order, recipe) if recipe.mistakes else order
