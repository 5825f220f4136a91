"""Strokes as pictures of a dataset: boxed, painted, averaged to grey and centred, as the page's pad does it.

The same arithmetic as drawing.js, step by step, so that what a table says of scribbles is said of what the page would
make of them. Strokes are arrays (points, 2) of x and y in units of the pad, 280 a side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

PAD = 280.0  # units of a side of the pad
FINE = 4  # subsamples along a pixel's side
Strokes = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Frame:
    """How pictures of a dataset stand in their field, in pixels.

    `is_boxed`: one drawing on an even ground, brought to `box` pixels at its longer side with lines `pen` wide, and its
    centre (of "mass" or of its "box") to `at` (row, column). Otherwise a picture fills its field and is only scaled.
    `coarse` is how many pixels a side a picture had before it was enlarged three times, as scikit-learn's digits were.
    """

    shape: tuple[int, int, int]
    is_boxed: bool = True
    ground: int = 0
    box: float = 20.0
    pen: float = 2.0
    centre: str = "mass"
    at: tuple[float, float] = (14.0, 14.0)
    coarse: int = 0

    @property
    def ink(self) -> int:
        """The value of full ink."""
        return 255 - self.ground

    @property
    def side(self) -> int:
        return max(self.shape[:2])

    def document(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "ink": self.ink}


def picture(strokes: Strokes, frame: Frame) -> np.ndarray:
    """The picture (height, width, channels) uint8 that the page makes of strokes drawn with the frame's pen."""
    cover = covered(strokes, frame)
    grey = np.floor(frame.ground + (frame.ink - frame.ground) * cover + 0.5).astype(np.uint8)
    return np.repeat(grey[..., None], frame.shape[2], axis=2)


def covered(strokes: Strokes, frame: Frame) -> np.ndarray:
    """How much ink each pixel has, 0 to 1: (height, width)."""
    if not frame.is_boxed:
        scale = frame.side / PAD
        return inked([points * scale for points in strokes], frame)
    whole = np.concatenate(list(strokes))
    low, high = whole.min(axis=0), whole.max(axis=0)
    extent = float((high - low).max())
    is_dot = extent < frame.pen / frame.side * PAD
    scale = frame.side / PAD if is_dot else (frame.box - frame.pen) / extent
    middle = np.array([frame.at[1], frame.at[0]])
    placed = [(points - (low + high) / 2) * scale + middle for points in strokes]
    cover = inked(placed, frame)
    if frame.centre == "mass" and cover.sum() > 0:
        placed = [points + middle - mass(cover)[::-1] for points in placed]
        cover = inked(placed, frame)
    return cover


ENLARGED, MARGIN = 3, 2  # times, and where the first coarse pixel begins; see data/digits.py


def inked(strokes: Strokes, frame: Frame) -> np.ndarray:
    """The ink of each pixel; of a coarse picture in 16 steps a coarse pixel, then enlarged as the dataset was."""
    if not frame.coarse:
        return painted(strokes, frame.pen, frame.shape[:2])
    n = frame.coarse
    small = painted([(points - MARGIN) / ENLARGED for points in strokes], frame.pen / ENLARGED, (n, n))
    along = enlarging(frame.shape[0], n)
    return np.asarray(along @ (np.floor(small * 16 + 0.5) / 16) @ along.T)


def enlarging(n: int, coarse: int) -> np.ndarray:
    """What each coarse pixel gives to each of n along one axis (n, coarse): bilinear, with zeros outside."""
    distance = np.abs(np.arange(n)[:, None] - (ENLARGED * np.arange(coarse) + ENLARGED))
    return np.maximum(ENLARGED - distance, 0) / ENLARGED


def mass(cover: np.ndarray) -> np.ndarray:
    """The centre of mass (row, column); a pixel's own lies in its middle."""
    rows, columns = np.indices(cover.shape) + 0.5
    return np.array([(rows * cover).sum(), (columns * cover).sum()]) / cover.sum()


def painted(strokes: Strokes, pen: float, shape: tuple[int, int]) -> np.ndarray:
    """Lines `pen` pixels wide with round ends; a pixel's ink is the mean of its 16 subsamples."""
    height, width = (n * FINE for n in shape)
    fine = np.zeros((height, width))
    radius = pen * FINE / 2
    for points in strokes:
        line = np.asarray(points) * FINE
        for (x0, y0), (x1, y1) in zip(line[:-1] if len(line) > 1 else line, line[1:] if len(line) > 1 else line,
                                      strict=True):  # fmt: skip
            left, right = max(int(min(x0, x1) - radius) - 1, 0), min(int(max(x0, x1) + radius) + 2, width)
            top, bottom = max(int(min(y0, y1) - radius) - 1, 0), min(int(max(y0, y1) + radius) + 2, height)
            if left >= right or top >= bottom:
                continue
            x, y = np.arange(left, right) + 0.5, np.arange(top, bottom)[:, None] + 0.5
            dx, dy = x1 - x0, y1 - y0
            length = dx * dx + dy * dy
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / length, 0, 1) if length else 0.0
            distance = np.sqrt((x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2)
            part = fine[top:bottom, left:right]
            np.maximum(part, np.clip(radius - distance + 0.5, 0, 1), out=part)
    return fine.reshape(shape[0], FINE, shape[1], FINE).mean(axis=(1, 3))
