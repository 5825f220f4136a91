"""Pictures by which the page proves itself on opening: every layer's outputs, as the judge has them in float64.

All values of sixteen pictures would be ten megabytes for four LeNets. So of each layer the page carries sums of its
values, each with a sign of its own drawn by its place: a value that is wrong, missing or elsewhere changes them. They
are held to 1e-10 of the sum of what was added, which is what any order of adding differs by a thousand times less.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lockstep.play.networks import Played

SUMS = 2  # of each layer
TOLERANCE = 1e-10


def signs(n: int, number: int) -> np.ndarray:
    """n signs, +1 or −1, of sum `number`, by a hash of the place in 32 bits that JavaScript has too."""
    h = np.arange(1, n + 1, dtype=np.uint64) ^ np.uint64((number + 1) * 0x9E3779B9 & 0xFFFFFFFF)
    mask = np.uint64(0xFFFFFFFF)
    h = (h * np.uint64(0x85EBCA6B)) & mask
    h ^= h >> np.uint64(13)
    h = (h * np.uint64(0xC2B2AE35)) & mask
    return np.where(h >> np.uint64(31), -1.0, 1.0)


def sums(values: np.ndarray) -> list[float]:
    """The signed sums of a layer's values (in row-major order), and last what they may be off."""
    flat = values.ravel()
    tolerance = TOLERANCE * float(np.abs(flat).sum()) + 1e-300
    return [*(float((signs(flat.size, number) * flat).sum()) for number in range(SUMS)), tolerance]


def document(one: Played, images: Sequence[np.ndarray]) -> list[dict[str, list[float]]]:
    """For each picture (height, width, channels) uint8: layer → its sums."""
    found = one.judge.activations(np.stack(list(images)), False)
    return [{name: sums(values[place]) for name, values in found.items()} for place in range(len(images))]
