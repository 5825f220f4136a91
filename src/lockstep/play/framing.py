"""How the pictures of a dataset stand in their field, measured on its training images: the `Frame` of the pad.

MNIST's digits fill a box of 20 pixels and have their centre of mass in the middle of 28 × 28; scikit-learn's are larger
and stand by their box; photographs fill their field. Nobody has to say which: the images do.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from lockstep.play.painting import ENLARGED, MARGIN, Frame

MEASURED = 2000  # images at most
EVEN = 24  # by how many of 255 levels an even ground may be off


def framed(images: np.ndarray) -> Frame:
    """The frame of these images (n, height, width, channels) uint8."""
    images = images[:: max(len(images) // MEASURED, 1)][:MEASURED]
    return _measured(images, _ground(images))


def _measured(images: np.ndarray, ground: int | None) -> Frame:
    shape = tuple(int(n) for n in images.shape[1:])
    side = max(shape[:2])
    if ground is None:
        return Frame(shape, False, 0, side, side / 14, "box", (shape[0] / 2, shape[1] / 2))  # type: ignore[arg-type]
    ink = np.abs(images.astype(np.float32).mean(axis=3) - ground) / 255
    boxes = np.array([box for box in map(_box, ink) if box is not None])
    if not len(boxes):
        return Frame(shape, False, ground, side, side / 14, "box", (shape[0] / 2, shape[1] / 2))  # type: ignore[arg-type]
    low, high = boxes[:, :2], boxes[:, 2:]
    middles = (low + high) / 2
    inked = ink[ink.sum(axis=(1, 2)) > 0]
    rows, columns = np.indices(shape[:2]) + 0.5
    total = inked.sum(axis=(1, 2))
    masses = np.stack([(inked * rows).sum(axis=(1, 2)), (inked * columns).sum(axis=(1, 2))], axis=1) / total[:, None]
    centre = "mass" if masses.std(axis=0).sum() < middles.std(axis=0).sum() else "box"
    at = np.median(masses if centre == "mass" else middles, axis=0)
    box = float(np.median((high - low).max(axis=1)))
    return Frame(shape, True, ground, box, _pen(inked), centre, (float(at[0]), float(at[1])))  # type: ignore[arg-type]


def framed_coarsely(images: np.ndarray, coarse: int) -> Frame:
    """The frame of images that were enlarged three times from `coarse` pixels a side, measured on these."""
    first, end = ENLARGED, ENLARGED * (coarse + 1)
    images = images[:: max(len(images) // MEASURED, 1)][:MEASURED]
    found = _measured(images[:, first:end:ENLARGED, first:end:ENLARGED], _ground(images))
    shape = tuple(int(n) for n in images.shape[1:])
    at = (found.at[0] * ENLARGED + MARGIN, found.at[1] * ENLARGED + MARGIN)
    return dataclasses.replace(
        found, shape=shape, box=found.box * ENLARGED, pen=found.pen * ENLARGED, at=at, coarse=coarse
    )  # type: ignore[arg-type]


def _ground(images: np.ndarray) -> int | None:
    """0 or 255 where most images have that around their edge and hold little ink; None for photographs."""
    edge = np.concatenate(
        [images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]], axis=1
    )  # (n, pixels of the edge, channels)
    for ground in (0, 255):
        is_even = np.abs(edge.astype(np.int16) - ground) <= EVEN
        empty = np.abs(images.astype(np.int16) - ground) <= EVEN
        if is_even.mean() > 0.97 and empty.mean() > 0.35:
            return ground
    return None


def _box(ink: np.ndarray) -> tuple[int, int, int, int] | None:
    """(top, left, bottom, right) of what is inked."""
    rows, columns = (np.flatnonzero((ink > 0.1).any(axis=axis)) for axis in (1, 0))
    return (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1) if len(rows) else None


def _pen(ink: np.ndarray) -> float:
    """The width of lines in pixels: ink per pixel of the line's skeleton, the median over some images."""
    few = ink[:: max(len(ink) // 200, 1)][:200]
    length = thinned(few > 0.35).sum(axis=(1, 2))
    widths = few.sum(axis=(1, 2))[length > 0] / (1.12 * length[length > 0])  # a skeleton's step is 1 to √2 long
    return float(np.clip(np.median(widths), 1, max(ink.shape[1:]) / 6)) if len(widths) else max(ink.shape[1:]) / 14


def thinned(masks: np.ndarray) -> np.ndarray:
    """Skeletons of masks (n, height, width), one pixel wide (Zhang & Suen 1984)."""
    found = np.pad(masks, ((0, 0), (1, 1), (1, 1))).astype(bool)
    while True:
        before = found.copy()
        for first in (True, False):
            ring = [np.roll(found, (-i, -j), (1, 2)) for i, j in
                    ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))]  # fmt: skip
            n = np.sum(ring, axis=0)
            turns = np.sum([~one & other for one, other in zip(ring, [*ring[1:], ring[0]], strict=True)], axis=0)
            up, right, down, left = ring[0], ring[2], ring[4], ring[6]
            if first:
                open_sides = ~(up & right & down) & ~(right & down & left)
            else:
                open_sides = ~(up & right & left) & ~(up & down & left)
            found &= ~(found & (n >= 2) & (n <= 6) & (turns == 1) & open_sides)
        if np.array_equal(before, found):
            return found[:, 1:-1, 1:-1]
