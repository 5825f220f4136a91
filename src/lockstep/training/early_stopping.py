"""Early stopping: when training ends before its last epoch, and with which weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from lockstep.spec import Recipe


class Stopping:
    """Early stopping: when to stop, and the best epoch's weights to go back to."""

    def __init__(self, recipe: Recipe, model: Any) -> None:
        """Look for nothing where the recipe asks for nothing."""
        self.rule, self.model = recipe.early_stopping, model
        self.best_epoch: int | None = None
        self.best = -np.inf
        self.kept: tuple[Any, Any] | None = None

    def stops(self, epoch: int, row: dict[str, Any]) -> bool:
        """Whether training ends after this epoch."""
        if self.rule is None:
            return False
        value = row[self.rule.monitor] * (-1 if self.rule.monitor.endswith("loss") else 1)
        value = -np.inf if np.isnan(value) else value
        if self.best_epoch is None or value > self.best + self.rule.min_delta:
            self.best, self.best_epoch = value, epoch
            self.kept = (self.model.weights(), self.model.state()) if self.rule.restore_best else None
        return self.is_over(epoch)

    def is_over(self, epoch: int) -> bool:
        """Whether training has ended, with so many epochs done."""
        return self.rule is not None and self.best_epoch is not None and epoch - self.best_epoch >= self.rule.patience

    def restore(self) -> None:
        """Go back to the best epoch, where the recipe asks for it."""
        if self.kept is not None:
            self.model.restore(*self.kept)
