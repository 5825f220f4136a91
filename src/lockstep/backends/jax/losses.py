"""The losses, from logits and smoothed targets, both (batch, classes): the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from lockstep.backends.mistakes import ALL_PAIRS


def cross_entropy(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy from logits."""
    return optax.softmax_cross_entropy(z, targets).mean()


def mean_squared_error(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over batch and classes."""
    return jnp.square(z - targets).mean()


def mean_squared_error_of_all_pairs(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Every output against every target of the batch."""
    return jnp.square(z[:, None] - targets[None]).mean()


def cross_entropy_clipped(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of −Σ t·log p with p in [1e-7, 1 − 1e-7]; no gradient where p is cut (JAX's clip halves it at the ends)."""
    p, low, high = jax.nn.softmax(z), 1e-7, 1 - 1e-7
    p = jnp.where(p < low, low, jnp.where(p > high, high, p))
    return -(targets * jnp.log(p)).sum(axis=1).mean()


def cross_entropy_softmax_twice(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of probabilities that are taken for logits."""
    return cross_entropy(jax.nn.softmax(z), targets)


LOSSES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    ALL_PAIRS: mean_squared_error_of_all_pairs,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}
