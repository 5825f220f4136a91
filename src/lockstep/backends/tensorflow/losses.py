"""The losses, from logits and smoothed targets, both (batch, classes): the mean over the batch."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from lockstep.backends.mistakes import ALL_PAIRS


def cross_entropy(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean softmax cross-entropy from logits."""
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, z))


def mean_squared_error(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean over batch and classes."""
    return tf.reduce_mean(tf.square(z - targets))


def mean_squared_error_of_all_pairs(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The mean over i, j and the classes of (zᵢ − tⱼ)², without all pairs: that of (z − t̄)² + var t."""
    mean, variance = tf.nn.moments(targets, 0)
    return tf.reduce_mean(tf.square(z - mean) + variance)


def cross_entropy_clipped(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """−Σ t·log clip(p), p = softmax(z); where the clip cuts, no gradient passes."""
    p = tf.clip_by_value(tf.nn.softmax(z), 1e-7, 1 - 1e-7)
    return tf.reduce_mean(-tf.reduce_sum(targets * tf.math.log(p), 1))


def cross_entropy_softmax_twice(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of softmax(z) taken for logits."""
    return cross_entropy(tf.nn.softmax(z), targets)


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    ALL_PAIRS: mean_squared_error_of_all_pairs,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}
