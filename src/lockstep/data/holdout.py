"""The test set of a dataset that comes without one: a share of each class, the same one wherever it is drawn."""

from __future__ import annotations

import numpy as np

from lockstep.language import later
from lockstep.randomness import permutation

SHARE = 0.2
POSITION = 0  # in the stream "split"
NOTE = later("the test images are {share} of each class, drawn by Lockstep's own generator with seed 0")


def note(share: float) -> str:
    """What a dataset says of such a test set."""
    return later(NOTE, share=f"{share:.0%}")


def draw(n: int, label: int, share: float = SHARE) -> tuple[np.ndarray, np.ndarray]:
    """(to test, to train): the indices 0 … n − 1 of a class's images, both in order.

    At least one is to test, and one to train, where there are two.
    """
    n_test = min(max(round(n * share), 1), n - 1)
    order = permutation(n, 0, "split", POSITION, label)
    return np.sort(order[:n_test]), np.sort(order[n_test:])
