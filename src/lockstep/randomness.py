"""Counter-based random streams: every random number is a pure function of (seed, purpose, position).

A stream that is consumed in order ties a result to everything drawn before it: resume a run, skip a layer or change the
batch size and all that follows is different. Philox (Salmon et al. 2011) computes the numbers at any position directly,
so all four backends, a resumed run and a test that looks at step 37 alone see the same ones. Only raw bits come from
NumPy, whose bit generators are stable across versions (NEP 19); what they mean is defined here.
"""

from __future__ import annotations

import numpy as np

# Purposes never share numbers. Append only: an index is part of every stream's key.
PURPOSES = (
    "weights", "order", "split", "augmentation", "dropout", "warm_up", "bootstrap", "bench", "rounding", "evaluated",
    "gradients", "strangers",
)  # fmt: skip


def bits(n: int, seed: int, purpose: str, *position: int) -> np.ndarray:
    """`n` random 64-bit words (uint64) of the stream (seed, purpose) at `position`, at most three whole numbers ≥ 0."""
    counter = [0, *position, *(0,) * (3 - len(position))]
    generator = np.random.Philox(key=[seed, PURPOSES.index(purpose)], counter=counter)
    return np.asarray(generator.random_raw(n), dtype=np.uint64)


def uniform(n: int, seed: int, purpose: str, *position: int) -> np.ndarray:
    """`n` float64 numbers in [0, 1), multiples of 2⁻⁵³."""
    return (bits(n, seed, purpose, *position) >> np.uint64(11)) * 2.0**-53


def normal(n: int, seed: int, purpose: str, *position: int) -> np.ndarray:
    """`n` float64 numbers from the standard normal distribution (Box & Muller 1958)."""
    u, v = uniform(2 * n, seed, purpose, *position).reshape(2, n)
    return np.sqrt(-2.0 * np.log1p(-u)) * np.cos(2.0 * np.pi * v)


TRUNCATED_STD = 0.8796256610342398  # √(1 − 4φ(2)/(2Φ(2) − 1)), of the standard normal cut at ±2


def truncated_normal(n: int, seed: int, purpose: str, *position: int) -> np.ndarray:
    """`n` float64 numbers of the standard normal distribution within ±2: what lies outside is drawn again.

    `position` has at most two numbers; the third counts the draws.
    """
    values, draw = normal(n, seed, purpose, *position), 0
    while (outside := np.abs(values) > 2).any():
        draw += 1
        position = (*position[:2], *(0,) * (2 - len(position)))
        values[outside] = normal(n, seed, purpose, *position, draw)[outside]
    return values


def permutation(n: int, seed: int, purpose: str, *position: int) -> np.ndarray:
    """The numbers 0 … n−1 (int64) in random order."""
    return np.argsort(bits(n, seed, purpose, *position), kind="stable")


def dropout_mask(shape: tuple[int, ...], rate: float, seed: int, step: int, layer: int) -> np.ndarray:
    """True where a value is kept: the mask of layer number `layer` at update number `step` (from 0), batch axis first.

    The first rows of a short batch's mask are those of a full one. A value is kept where 16 random bits are below
    (1 − rate) · 2¹⁶, so the rate is met to 1/131072.
    """
    n = int(np.prod(shape))
    words = bits(-(-n // 4), seed, "dropout", step, layer).astype("<u8", copy=False).view("<u2")
    return (words[:n] < round((1.0 - rate) * 65536)).reshape(shape)
