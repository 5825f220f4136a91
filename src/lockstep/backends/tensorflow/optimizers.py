"""The optimizers' steps: (record, this update's `Numbers`, w, g, *slots), which assign to variables in place.

The fused kernels of TensorFlow are epsilon-hat (Adam), have epsilon inside the root (RMSprop), or work out 1 − β in
float32, which is 1e-5 off for β₂ = .999.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf


class Numbers(NamedTuple):
    """What is decided for one update, or for a chunk of them: 1/(1−β₁ᵗ) and 1/√(1−β₂ᵗ), μ as the buffer is kept."""

    rate: Any
    first: Any
    root_of_second: Any
    epsilon: Any
    momentum: Any


def sgd(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor) -> None:
    """w ← w − lr·g."""
    w.assign_sub(now.rate * g)


def momentum(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, b: tf.Variable) -> None:
    """b ← μ·b + g; w ← w − lr·b."""
    w.assign_sub(now.rate * b.assign(now.momentum * b + g))


def nesterov(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, b: tf.Variable) -> None:
    """b ← μ·b + g; w ← w − lr·(g + μ·b)."""
    w.assign_sub(now.rate * (g + o.momentum * b.assign(now.momentum * b + g)))


def adam(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, m: tf.Variable, v: tf.Variable) -> None:
    """m ← β₁·m + (1−β₁)·g; v ← β₂·v + (1−β₂)·g²; w ← w − lr·m̂/(√v̂ + ε)."""
    m.assign(o.beta1 * m + (1 - o.beta1) * g)
    v.assign(o.beta2 * v + (1 - o.beta2) * tf.square(g))
    w.assign_sub((now.rate * now.first) * m / (tf.sqrt(v) * now.root_of_second + now.epsilon))


def rmsprop(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, s: tf.Variable) -> None:
    """s ← ρ·s + (1−ρ)·g²; w ← w − lr·g/(√s + ε), or g/√(s + ε)."""
    s.assign(o.rho * s + (1 - o.rho) * tf.square(g))
    root = tf.sqrt(s + now.epsilon) if o.epsilon_mode == "inside" else tf.sqrt(s) + now.epsilon
    w.assign_sub(now.rate * g / root)


# kind → (the slots' names, the update). AdamW is Adam after the decay, which `Model._update` applies to the kernels.
OPTIMIZERS: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "sgd": ((), sgd),
    "momentum": (("momentum",), momentum),
    "nesterov": (("momentum",), nesterov),
    "adam": (("first_moment", "second_moment"), adam),
    "adamw": (("first_moment", "second_moment"), adam),
    "rmsprop": (("mean_square",), rmsprop),
}
