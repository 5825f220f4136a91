"""The film of a run on a page: what it had learned after each epoch, in half precision.

`lockstep run --film` keeps the numbers (store/film.py); a page shows the film of the first of its runs that has one.
Half precision is enough to look at kernels, and for an answer to two digits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.play import arrays
from lockstep.play.networks import Played, row_of

MOST_FRAMES = 16
MOST_NUMBERS = 1_000_000  # of all frames together, which take some 2.2 MB of the page


def document(runs: Sequence[Played]) -> dict[str, Any] | None:
    """The film of the first run that has one: its place among the runs, its epochs, its numbers (frames, numbers).

    A frame that is damaged, or that half precision could not hold, is left out; None where fewer than two are left.
    """
    for place, one in enumerate(runs):
        frames = {epoch: numbers for epoch, path in store.find_frames(one.record.folder).items()
                  if (numbers := _numbers(one, path)) is not None}  # fmt: skip
        if len(frames) > 1:
            epochs = _chosen(sorted(frames), max(min(MOST_FRAMES, MOST_NUMBERS // frames[min(frames)].size), 2))
            return {
                "run": place, "epochs": epochs, "numbers": arrays.packed(np.stack([frames[epoch] for epoch in epochs])),
            }  # fmt: skip
    return None


def _numbers(one: Played, path: Any) -> np.ndarray | None:
    """A frame's numbers in the order of the page's, in half precision."""
    with contextlib.suppress(LockstepError):
        found = store.read_frame(path)
        shapes = {name: value.shape for name, value in one.parameters.items()}
        if {name: value.shape for name, value in found.items()} == shapes:
            row = row_of({name: found[name] for name in shapes}, "float16")
            return row if np.isfinite(row).all() else None
    return None


def _chosen(epochs: list[int], most: int) -> list[int]:
    """At most so many of these epochs, evenly, the first and the last among them."""
    if len(epochs) <= most:
        return epochs
    return [epochs[round(place)] for place in np.linspace(0, len(epochs) - 1, most)]
