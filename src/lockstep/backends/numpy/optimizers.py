"""The optimizers' steps, in place on flat buffers: (record, this update's `Numbers`, w, g, scratch, *slots)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from lockstep.backends.plan import Numbers


def sgd(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray) -> None:
    """w ← w − lr·g."""
    w -= np.multiply(g, now.rate, out=s)


def momentum(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, b: np.ndarray) -> None:
    """b ← μ·b + g; w ← w − lr·b."""
    b *= o.momentum * now.buffer_factor
    b += g
    w -= np.multiply(b, now.rate, out=s)


def nesterov(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, b: np.ndarray) -> None:
    """b ← μ·b + g; w ← w − lr·(g + μ·b)."""
    b *= o.momentum * now.buffer_factor
    b += g
    np.multiply(b, o.momentum, out=s)
    s += g
    s *= now.rate
    w -= s


def adam(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, m: np.ndarray, v: np.ndarray) -> None:
    """m ← β₁·m + (1−β₁)·g; v ← β₂·v + (1−β₂)·g²; w ← w − lr·m̂/(√v̂ + ε), where x̂ₜ = x/(1−βᵗ)."""
    m *= o.beta1
    m += np.multiply(g, 1 - o.beta1, out=s)
    v *= o.beta2
    np.multiply(g, g, out=s)
    s *= 1 - o.beta2
    v += s
    np.sqrt(v, out=s)
    s *= 1 / math.sqrt(1 - o.beta2**now.t)
    s += now.epsilon
    np.divide(m, s, out=s)
    s *= now.rate / (1 - o.beta1**now.t)
    w -= s


def rmsprop(o: Any, now: Numbers, w: np.ndarray, g: np.ndarray, s: np.ndarray, q: np.ndarray) -> None:
    """q ← ρ·q + (1−ρ)·g²; w ← w − lr·g/(√q + ε), or g/√(q + ε)."""
    q *= o.rho
    np.multiply(g, g, out=s)
    s *= 1 - o.rho
    q += s
    if o.epsilon_mode == "inside":
        np.sqrt(np.add(q, now.epsilon, out=s), out=s)
    else:
        np.sqrt(q, out=s)
        s += now.epsilon
    np.divide(g, s, out=s)
    s *= now.rate
    w -= s


# kind → (the slots' names, the update). AdamW is Adam after `Model.decay` of the kernels.
OPTIMIZERS: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "sgd": ((), sgd),
    "momentum": (("momentum",), momentum),
    "nesterov": (("momentum",), nesterov),
    "adam": (("first_moment", "second_moment"), adam),
    "adamw": (("first_moment", "second_moment"), adam),
    "rmsprop": (("mean_square",), rmsprop),
}
