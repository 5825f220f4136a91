"""A plan with mistakes that a recipe makes on purpose (`spec.MISTAKES`): what each changes of what is decided.

Only what is wrong stands here; everything else is the plain plan's. Mistakes in the data and the starting weights stand
in `data.mistakes`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from lockstep import randomness
from lockstep.backends.plan import Plan
from lockstep.spec import Network, Recipe, Shape

ALL_PAIRS = "mean_squared_error_of_all_pairs"  # a row of every backend's LOSSES that no recipe can name


def plan_of(network: Network, input_shape: Shape, recipe: Recipe, *rest: Any, **named: Any) -> Plan:
    """The plan of a recipe, with its mistakes; the other arguments are those of `Plan`."""
    return (MistakenPlan if recipe.mistakes else Plan)(network, input_shape, recipe, *rest, **named)


class MistakenPlan(Plan):
    """What is decided for a recipe that makes mistakes."""

    @cached_property
    def decayed(self) -> frozenset[str]:
        """The kernels, or every parameter."""
        return (
            frozenset(self.network.parameter_shapes(self.input_shape))
            if self._makes("decay_on_all")
            else super().decayed
        )

    def mask(self, shape: Shape, rate: float, step: int, index: int) -> np.ndarray:
        """A mask with another rate, of another seed, or whose kept values are not scaled."""
        rate = 1 - rate if self._makes("dropout_rate_kept") else rate
        kept = randomness.dropout_mask(shape, rate, self.seed + self._makes("dropout_of_another_seed"), step, index)
        factor = 1.0 if self._makes("dropout_not_scaled") else 1 / (1 - rate)
        return kept.astype(self.dtype) * np.asarray(factor, self.dtype)

    def learning_rate(self, step: int) -> float:
        """The rate of the update before."""
        last = self.recipe.epochs * self.steps_per_epoch - 1
        return super().learning_rate(max(min(step, last) - self._makes("rate_late"), 0))

    @property
    def in_training(self) -> bool:
        """Whether a training step uses the batch's statistics and dropout."""
        return not self._makes("training_in_inference_mode")

    @property
    def in_prediction(self) -> bool:
        """Whether a prediction uses them too."""
        return self._makes("prediction_in_training_mode")

    @property
    def loss(self) -> str:
        """The recipe's loss, or that of every output with every target."""
        return ALL_PAIRS if self._makes("targets_broadcast") else super().loss

    def _makes(self, mistake: str) -> bool:
        return mistake in self.recipe.mistakes
