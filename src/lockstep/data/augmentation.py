"""Random changes of training images, decided once in NumPy so that every backend sees the same pictures.

Every image's numbers stand at its own index in streams keyed by (seed, epoch), so neither the batch order nor the
images around it matter. Work is done in chunks that stay in a processor's cache.
"""

from __future__ import annotations

import numpy as np

from lockstep.randomness import uniform
from lockstep.spec import Augmentation

_FLIP, _ANGLE, _DOWN, _RIGHT = range(4)  # positions within an epoch
CHUNK_PIXELS = 2**16


def augment(images: np.ndarray, augmentation: Augmentation, seed: int, epoch: int) -> np.ndarray:
    """The images as trained on in one epoch: flipped, then rotated about their centre, then shifted.

    `images`: uint8 (n, height, width, channels), left as they are; returns a new array of the same shape and dtype.
    Rotation is bilinear in float64, rounded half to even; a positive angle turns counter-clockwise. Shifts are whole
    pixels. What comes in at a border is 0. The result for an image depends on (seed, epoch, its index) alone.
    """
    n = len(images)
    flip = uniform(n, seed, "augmentation", epoch, _FLIP) < 0.5
    degrees = (2 * uniform(n, seed, "augmentation", epoch, _ANGLE) - 1) * augmentation.rotation
    span = 2 * augmentation.shift + 1
    down, right = (
        np.floor(uniform(n, seed, "augmentation", epoch, axis) * span).astype(np.int64) - augmentation.shift
        for axis in (_DOWN, _RIGHT)
    )
    changed = images.copy()
    step = max(1, CHUNK_PIXELS // max(1, images[:1].size))
    for start in range(0, n, step):
        chunk = slice(start, start + step)
        if augmentation.flip:
            changed[chunk] = np.where(flip[chunk, None, None, None], changed[chunk, :, ::-1], changed[chunk])
        if augmentation.rotation:
            changed[chunk] = rotated(changed[chunk], np.deg2rad(degrees[chunk]))
        if augmentation.shift:
            changed[chunk] = shifted(changed[chunk], down[chunk], right[chunk])
    return changed


def rotated(images: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Each image turned counter-clockwise by its angle (radians) about its centre."""
    n, height, width, channels = images.shape
    y, x = (np.arange(size) - (size - 1) / 2 for size in (height, width))
    cos, sin = (function(angles)[:, None, None] for function in (np.cos, np.sin))
    # The image's rows run downwards: where a pixel comes from is found by turning it clockwise on the page.
    rows = cos * y[:, None] + sin * x + (height - 1) / 2
    columns = cos * x - sin * y[:, None] + (width - 1) / 2
    np.clip(rows, -1, height, out=rows)  # beyond the border all is 0, and the padding is as good as any place there
    np.clip(columns, -1, width, out=columns)
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]

    padded = np.zeros((n, height + 3, width + 3, channels), dtype=np.float64)
    padded[:, 1 : height + 1, 1 : width + 1] = images
    pixels = padded.reshape(-1, channels)
    line = width + 3
    corner = (top * line + left).astype(np.intp) + (line + 1)
    corner += np.arange(n)[:, None, None] * ((height + 3) * line)
    above = _between(pixels.take(corner, axis=0), pixels.take(corner + 1, axis=0), right)
    corner += line
    below = _between(pixels.take(corner, axis=0), pixels.take(corner + 1, axis=0), right)
    return np.rint(_between(above, below, down)).astype(np.uint8)


def _between(here: np.ndarray, there: np.ndarray, way: np.ndarray) -> np.ndarray:
    """here · (1 − way) + there · way, in the place of `here`; `there` is used up."""
    here *= 1 - way
    there *= way
    here += there
    return here


def shifted(images: np.ndarray, down: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Each image moved by whole pixels, zeros coming in; further than its size is out of sight."""
    n, height, width, _ = images.shape
    reach_down, reach_right = (min(int(np.abs(move).max()), size) for move, size in ((down, height), (right, width)))
    padded = np.pad(images, ((0, 0), (reach_down, reach_down), (reach_right, reach_right), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top = reach_down - np.clip(down, -reach_down, reach_down)
    left = reach_right - np.clip(right, -reach_right, reach_right)
    return np.moveaxis(windows[np.arange(n), top, left], 1, -1)
