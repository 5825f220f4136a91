"""Everything that is decided before a backend starts, once for all of them, as NumPy arrays.

Learning rates, dropout masks, scaling, the order in which layers are run, how many pixels an average pools over:
whatever two backends would have to agree on. A plan with mistakes on purpose is `mistakes.MistakenPlan`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from lockstep import randomness
from lockstep.backends.walk import Walk
from lockstep.spec import Adam, AdamW, LayerFacts, Network, Recipe, Shape, same_padding

Arrays = dict[str, np.ndarray]
Taken = np.ndarray | tuple[np.ndarray, ...]  # what a row takes in: one array, or one for each input of a join
FRACTION_BITS = {"tf32": 10, "bfloat16": 7}  # of float32's 23, that `products` keeps of the factors of each product


class Numbers(NamedTuple):
    """What is decided for one update, or an array of each for several.

    Learning rate, ε after bias correction, what the momentum buffer is multiplied by first, updates including this one.
    """

    rate: Any
    epsilon: Any
    buffer_factor: Any
    t: Any


@dataclass(frozen=True)
class Plan:
    """Everything that was decided before the backend starts.

    `mean` and `scale` (channels,): a pixel enters the network as (pixel − mean) · scale. `steps_per_epoch` counts
    updates, the short last batch among them.
    """

    network: Network
    input_shape: Shape
    recipe: Recipe
    seed: int
    mean: np.ndarray
    scale: np.ndarray
    steps_per_epoch: int
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1

    @cached_property
    def rows(self) -> list[LayerFacts]:
        """Every layer in its place, as the network was written."""
        return self.network.facts(self.input_shape)

    @cached_property
    def fast_rows(self) -> list[LayerFacts]:
        """The same layers in the order in which they are trained.

        relu after max-pooling does a quarter of the work and gives the same values and gradients bit for bit: relu is
        monotone, and where it would create ties (values ≤ 0) its gradient is 0 whoever gets it (alone, not shared).
        """
        rows = list(self.rows)
        for index in range(len(rows) - 1):
            first, second = rows[index : index + 2]
            if (first.layer.kind, second.layer.kind) == ("relu", "max_pool2d") and second.layer.ties == "first":
                rows[index:] = exchanged(first, second, rows[index + 2 :])
        return rows

    @cached_property
    def walk(self) -> Walk:
        """The way through the layers as the network was written."""
        return Walk(self.rows)

    @cached_property
    def fast_walk(self) -> Walk:
        """The way in which they are trained."""
        return Walk(self.fast_rows)

    def row(self, name: str) -> LayerFacts:
        """The layer of this name in its place."""
        (found,) = (row for row in self.rows if row.name == name)
        return found

    @cached_property
    def classes(self) -> int:
        """How many values the network puts out."""
        return int(self.rows[-1].output_shape[0])

    @cached_property
    def decayed(self) -> frozenset[str]:
        """The parameters that L2 and AdamW's decay act on: the kernels."""
        return frozenset(name for name in self.network.parameter_shapes(self.input_shape) if name.endswith("/kernel"))

    @cached_property
    def dropouts(self) -> list[tuple[int, LayerFacts]]:
        """(index, facts) of each dropout layer that drops anything."""
        return [(index, row) for index, row in enumerate(self.rows) if row.layer.kind == "dropout" and row.layer.rate]

    def masks(self, step: int, n: int) -> Arrays:
        """Layer name → what each value is multiplied by (n, …): 0, or 1/keep where it is kept, in the run's dtype."""
        return {
            row.name: self.mask((n, *row.output_shape), row.layer.rate, step, index) for index, row in self.dropouts
        }

    def mask(self, shape: Shape, rate: float, step: int, index: int) -> np.ndarray:
        """The mask of layer number `index` at update number `step`."""
        kept = randomness.dropout_mask(shape, rate, self.seed, step, index)
        return kept.astype(self.dtype) * np.asarray(1 / (1 - rate), self.dtype)

    def learning_rate(self, step: int) -> float:
        """The learning rate of update number `step`, from 0; after the last epoch the last one goes on."""
        total = self.recipe.epochs * self.steps_per_epoch
        step = min(step, total - 1)
        return float(
            self.recipe.optimizer.learning_rate
            * self.recipe.schedule.factor(step / total, step // self.steps_per_epoch)
        )

    def epsilon(self, step: int) -> float:
        """The optimizer's ε at update number `step`, from 0, as it stands after bias correction; 0 without one."""
        o = self.recipe.optimizer
        if isinstance(o, Adam | AdamW) and o.epsilon_mode == "hat":
            return float(o.epsilon / math.sqrt(1 - o.beta2 ** (step + 1)))
        return float(getattr(o, "epsilon", 0.0))

    def buffer_factor(self, step: int) -> float:
        """What the momentum buffer is multiplied by before update number `step`.

        1, but where the velocity v = −lr·b is what stays as it is when the rate changes (to another one than 0, at
        which no b could stand for v).
        """
        rate = self.learning_rate(step)
        if getattr(self.recipe.optimizer, "form", "") != "velocity" or step == 0 or rate == 0:
            return 1.0
        return self.learning_rate(step - 1) / rate

    @property
    def in_training(self) -> bool:
        """Whether a training step uses the batch's statistics and dropout, as it should."""
        return True

    @property
    def in_prediction(self) -> bool:
        """Whether a prediction uses the batch's statistics and dropout, as it should not."""
        return False

    @property
    def loss(self) -> str:
        """The row of each backend's LOSSES that is minimised."""
        return self.recipe.loss

    def minimised(self, loss: Any, n: int) -> Any:
        """What the gradients are of, where `loss` is the mean over a batch of `n`: that, or the sum."""
        return loss * n if self.recipe.loss_reduction == "sum" else loss

    @property
    def fraction_bits(self) -> int | None:
        """How many fraction bits the factors of a product keep; None for all."""
        return FRACTION_BITS.get(self.recipe.products)

    def numbers(self, step: int) -> Numbers:
        """What is decided for update number `step`, from 0."""
        return Numbers(self.learning_rate(step), self.epsilon(step), self.buffer_factor(step), step + 1)

    def initial_statistics(self) -> Arrays:
        """Running mean 0 and variance 1 for every batch normalisation."""
        return {
            f"{row.name}/running_{what}": np.full(row.output_shape[-1], value, self.dtype)
            for row in self.rows
            if row.layer.has_state
            for what, value in (("mean", 0), ("variance", 1))
        }


def exchanged(first: LayerFacts, second: LayerFacts, rest: list[LayerFacts]) -> list[LayerFacts]:
    """Two layers, of which the second takes what the first gives and nobody else does, in the other order."""
    if second.inputs != (first.name,) or any(first.name in row.inputs for row in rest):
        return [first, second, *rest]
    others = (
        replace(row, inputs=tuple(first.name if name == second.name else name for name in row.inputs)) for row in rest
    )
    return [replace(second, inputs=first.inputs), replace(first, inputs=(second.name,)), *others]


def window_padding(row: LayerFacts) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of the padding of a layer that slides a window."""
    if row.layer.padding == "valid":
        return (0, 0), (0, 0)
    kernel, stride = row.layer.window()
    high, wide = (
        same_padding(n, k, s, row.layer.padding) for n, k, s in zip(row.input_shape[:2], kernel, stride, strict=True)
    )
    return high, wide


def pool_counts(row: LayerFacts) -> np.ndarray:
    """By what each window of an average pooling is divided: (output height, output width, 1) float64.

    Its number of real pixels, or with `count_padding` its size.
    """
    kernel, stride = row.layer.window()
    if row.layer.count_padding:
        return np.full((*row.output_shape[:2], 1), float(math.prod(kernel)))
    counts = []
    for size, k, s, (before, _), n in zip(
        row.input_shape[:2], kernel, stride, window_padding(row), row.output_shape[:2], strict=True
    ):
        starts = np.arange(n) * s - before
        counts.append(np.minimum(starts + k, size) - np.maximum(starts, 0))
    return np.asarray(counts[0][:, None, None] * counts[1][None, :, None], dtype=np.float64)
