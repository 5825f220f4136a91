"""The losses: (outputs (n, classes), targets (n, classes), Pass) → (loss of each example, its gradient by the outputs).

Most look at each example by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lockstep.backends.mistakes import ALL_PAIRS

Loss = Callable[[np.ndarray, np.ndarray, Any], tuple[np.ndarray, np.ndarray]]


def cross_entropy(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−Σ t·log softmax(z);  dz = softmax(z) − t, because Σ t = 1."""
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1, keepdims=True)
    return -(t * (z - np.log(total))).sum(axis=1), e / total - t


def mean_squared_error(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the classes of (z − t)²;  dz = 2·(z − t)/classes."""
    difference = z - t
    return np.square(difference).mean(axis=1), difference * (2 / z.shape[1])


def cross_entropy_clipped(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−Σ t·log clip(p), p = softmax(z);  dp = −t/p where p is not cut, dz = p·(dp − Σ p·dp)."""
    p = softmax(z)
    cut = np.clip(p, z.dtype.type(1e-7), 1 - z.dtype.type(1e-7))
    dp = np.where(cut == p, -t / cut, 0)
    return -(t * np.log(cut)).sum(axis=1), p * (dp - (p * dp).sum(axis=1, keepdims=True))


def cross_entropy_softmax_twice(z: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy of p = softmax(z) taken for logits;  dz = p·(dp − Σ p·dp)."""
    p = softmax(z)
    loss, dp = cross_entropy(p, t)
    return loss, p * (dp - (p * dp).sum(axis=1, keepdims=True))


def softmax(z: np.ndarray) -> np.ndarray:
    """Of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


def mean_squared_error_of_all_pairs(z: np.ndarray, t: np.ndarray, on: Any) -> tuple[np.ndarray, np.ndarray]:
    """The mean over j of (z − tⱼ)², which is (z − t̄)² + var t, over the whole batch; its slope is that of (z − t̄)²."""
    mean = on.total(t.sum(axis=0)) / on.n
    variance = on.total(np.square(t - mean).sum(axis=0)) / on.n
    losses, dx = mean_squared_error(z, np.broadcast_to(mean, t.shape))
    return losses + variance.mean(), dx


def _each(loss: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Loss:
    """A loss that looks at each example by itself."""
    return lambda z, t, on: loss(z, t)


LOSSES: dict[str, Loss] = {
    "cross_entropy": _each(cross_entropy),
    "mean_squared_error": _each(mean_squared_error),
    ALL_PAIRS: mean_squared_error_of_all_pairs,
    "cross_entropy_clipped": _each(cross_entropy_clipped),
    "cross_entropy_softmax_twice": _each(cross_entropy_softmax_twice),
}
