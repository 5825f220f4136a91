"""The losses, from logits (batch, classes) and labels (batch,): the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.plan import Plan


def cross_entropy(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean softmax cross-entropy from logits."""
    return F.cross_entropy(z, labels, label_smoothing=plan.recipe.label_smoothing)


def mean_squared_error(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean over batch and classes."""
    return F.mse_loss(z, _targets(z, labels, plan))


def mean_squared_error_of_all_pairs(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean (zᵢ − tⱼ)² = mean (zᵢ − t̄)² + mean (tⱼ − t̄)², without a batch × batch array."""
    t = _targets(z, labels, plan)
    middle = t.mean(0).expand_as(t)
    return F.mse_loss(z, middle) + F.mse_loss(t, middle)


def cross_entropy_clipped(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """−Σ t·log p with p = softmax(z) cut to [1e-7, 1 − 1e-7]; `clamp` sends nothing back where it cuts."""
    p = z.softmax(1).clamp(1e-7, 1 - 1e-7)
    return -(_targets(z, labels, plan) * p.log()).sum(1).mean()


def cross_entropy_softmax_twice(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Probabilities taken for logits."""
    return cross_entropy(z.softmax(1), labels, plan)


def _targets(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """(batch, classes): 1 for the label and 0 elsewhere, smoothed."""
    s = plan.recipe.label_smoothing
    # Not by F.one_hot, which looks at every label first and so, on the CPU, reads the least and the largest.
    return torch.zeros_like(z).scatter_(1, labels[:, None], 1 - s) + s / plan.classes


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, Plan], torch.Tensor]] = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    ALL_PAIRS: mean_squared_error_of_all_pairs,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}
