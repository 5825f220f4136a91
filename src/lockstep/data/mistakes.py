"""Mistakes that a recipe makes on purpose (`spec.MISTAKES`) in its data, its starting weights and what it reports.

Each function takes what is right and gives what the recipe makes of it; whoever decides something asks here only where
a recipe makes mistakes at all. Those of a training step stand in `backends.mistakes`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lockstep.spec import Recipe, Run

Arrays = dict[str, np.ndarray]


def order(right: np.ndarray, recipe: Recipe) -> np.ndarray:
    """An epoch's order (n,): that of the dataset, or without the short last batch."""
    taken = np.arange(len(right)) if "order_not_shuffled" in recipe.mistakes else right
    full = len(right) // recipe.batch_size * recipe.batch_size
    return taken[:full] if "last_batch_dropped" in recipe.mistakes and full else taken


def scaling(mean: np.ndarray, scale: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(mean, scale) of each channel: those that leave a pixel as it is."""
    is_missing = "scaling_missing" in recipe.mistakes
    return (np.zeros_like(mean), np.ones_like(scale)) if is_missing else (mean, scale)


def weights(drawn: Callable[[int], Arrays], run: Run) -> Arrays:
    """Starting weights of another seed than the run's, or with their square kernels transposed."""
    found = drawn(run.seed + ("weights_of_another_seed" in run.recipe.mistakes))
    return transposed(found) if "kernels_transposed" in run.recipe.mistakes else found


def transposed(weights: Arrays) -> Arrays:
    """The weights with every square kernel transposed: dense (in, out), convolution (height, width): a port's slip."""
    return {
        name: np.ascontiguousarray(value.swapaxes(0, 1)) if value.ndim > 1 and len(set(value.shape[:2])) == 1 else value
        for name, value in weights.items()
    }


def dtype(run: Run) -> str:
    """float32, whatever was asked for."""
    return "float32" if "computed_in_float32" in run.recipe.mistakes else run.dtype


def mean_of_steps(right: float, losses: np.ndarray, recipe: Recipe) -> float:
    """An epoch's training loss: the mean of its batches' means, however long each batch is."""
    return float(losses.mean()) if "last_batch_unweighted" in recipe.mistakes else right
