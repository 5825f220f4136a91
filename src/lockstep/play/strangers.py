"""Drawings that are no digits, to measure what a page recognises as strange: scribbles, crosses, capitals of Latin.

Strokes are made up by the rules below from a stream of their own, so that they are the same on every machine, and
painted as the pad would paint them. Clothes are Fashion-MNIST's test images, where they are on this machine.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from lockstep import randomness
from lockstep.data import Data, load
from lockstep.errors import LockstepError
from lockstep.play.painting import PAD, Frame, Strokes, picture

# Capitals on a grid of 4 × 6, a stroke a word of points: column and row. I, O and the like of digits are left out.
CAPITALS = {
    "A": "06 20 46;13 33", "E": "40 00 06 46;03 33", "F": "40 00 06;03 33", "H": "00 06;40 46;03 43",
    "K": "00 06;40 03 46", "L": "00 06 46", "M": "06 00 23 40 46", "N": "06 00 46 40", "P": "06 00 30 41 42 33 03",
    "R": "06 00 30 41 42 33 03 46", "T": "00 40;20 26", "U": "00 05 16 36 45 40", "V": "00 26 40",
    "W": "00 16 22 36 40", "X": "00 46;40 06", "Y": "00 23 40;23 26",
}  # fmt: skip
N = 200  # of each kind


SCRIBBLES, CROSSES, LETTERS = range(3)  # each has a stream of its own


def _uniform(n: int, kind: int, number: int) -> np.ndarray:
    return randomness.uniform(n, 0, "strangers", kind, number)


def scribbles(number: int) -> Strokes:
    """A line through 6 to 12 points anywhere, rounded at its corners."""
    drawn = _uniform(25, SCRIBBLES, number)
    points = drawn[1 : 1 + 2 * (6 + int(drawn[0] * 7))].reshape(-1, 2) * 200 + 40
    return [_rounded(points)]


def crosses(number: int) -> Strokes:
    """Two lines that cross near their middles, upright or lying."""
    a, b, first, second, x, y = _uniform(6, CROSSES, number)
    turn = (0.25 if number % 2 else 0.0) * np.pi + (a - 0.5) * 0.4
    lines = []
    for angle, length in ((turn, 160 + 60 * first), (turn + np.pi / 2 + (b - 0.5) * 0.5, 160 + 60 * second)):
        half = np.array([np.cos(angle), np.sin(angle)]) * length / 2
        middle = np.array([130 + 20 * x, 130 + 20 * y])
        lines.append(np.array([middle - half, middle + half]))
    return lines


def capitals(number: int) -> Strokes:
    """A capital letter, slanted and stretched a little."""
    letter = list(CAPITALS)[number % len(CAPITALS)]
    wide, slant, *shake = _uniform(2 + 64, LETTERS, number)
    found, at = [], 0
    for word in CAPITALS[letter].split(";"):
        points = np.array([[int(place[0]), int(place[1])] for place in word.split()], float)
        points += (np.array(shake[at : at + points.size]).reshape(-1, 2) - 0.5) * 0.35
        at += points.size
        x, y = points[:, 0] * 30 * (0.85 + 0.4 * wide), points[:, 1] * 33
        found.append(np.stack([70 + x + (slant - 0.5) * 0.4 * (100 - y), 40 + y], axis=1))
    return found


KINDS: dict[str, Callable[[int], Strokes]] = {"scribbles": scribbles, "crosses": crosses, "capitals": capitals}


def pictures(kind: str, frame: Frame, n: int = N) -> np.ndarray:
    """n pictures of a kind (n, height, width, channels) uint8."""
    return np.stack([picture(KINDS[kind](number), frame) for number in range(n)])


def _rounded(points: np.ndarray) -> np.ndarray:
    """The line with its corners cut twice (Chaikin 1974)."""
    for _ in range(2):
        inner = np.stack([0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]], axis=1)
        points = np.concatenate([points[:1], inner.reshape(-1, 2), points[-1:]])
    return np.clip(points, 0, PAD)


def clothes(data: Data, n: int = N) -> np.ndarray | None:
    """Fashion-MNIST's first test images, for digits of the same size; None for others, or where it is not here."""
    if data.class_names != tuple("0123456789") or data.image_shape != (28, 28, 1):
        return None
    with contextlib.suppress(LockstepError):
        return np.asarray(load("fashion-mnist", offline=True).test_images[:n])
    return None
