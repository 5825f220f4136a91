"""How strange a picture is to a run, in words that can be kept: "stranger than 99.2 % of the test pictures".

No single score does it. The energy of the outputs (Liu et al. 2020) misses crosses, the nearest neighbour in pixels
misses what is thin, that in the last hidden layer misses clothes. So each score becomes a p value among test pictures
of this run, and the p values are taken together as Fisher did: −Σ log p, whose own place among test pictures is what is
said. Nothing here is a promise: the table says how many scribbles, crosses and letters this run would have noticed.

The page computes the same scores: from the same neighbours (training pictures in 16 levels of grey, which it carries)
and the same network in float64.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lockstep.data import Data
from lockstep.play.networks import Played

NEIGHBOURS = 600  # training pictures that are carried, the same number of each class
MEASURED = 1000  # test pictures by which scores become p values, and as many others to see that it holds
REFUSED = 0.03  # of the test pictures are called strange
BATCH = 100


def neighbours(data: Data) -> np.ndarray:
    """Training pictures (n, height, width, channels) uint8 in 16 levels: the first of each class."""
    each = max(NEIGHBOURS // data.n_classes, 1)
    places = [np.flatnonzero(data.train_labels == label)[:each] for label in range(data.n_classes)]
    return np.asarray(data.train_images[np.sort(np.concatenate(places))] // 16 * 17)


def blurred(images: np.ndarray) -> np.ndarray:
    """Pictures in float64, each pixel the mean of its surroundings (¼, ½, ¼ along both axes): (n, numbers)."""
    x = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    x = 0.25 * x[:, :-2] + 0.5 * x[:, 1:-1] + 0.25 * x[:, 2:]
    x = 0.25 * x[:, :, :-2] + 0.5 * x[:, :, 1:-1] + 0.25 * x[:, :, 2:]
    return x.reshape(len(images), -1)


@dataclasses.dataclass(frozen=True, eq=False)
class Scale:
    """What is common among test pictures: shares, and for each score the value below which such a share of them lies.

    `caught`: kind → the share of such pictures that are stranger than all but 3 % of the test pictures; "held" is that
    of test pictures which took no part in the scale.
    """

    levels: np.ndarray
    values: dict[str, np.ndarray]
    together: np.ndarray
    n: int
    caught: dict[str, float]

    def shares(self, score: str, found: np.ndarray) -> np.ndarray:
        """Which share of the test pictures scores less."""
        return np.interp(found, self.values[score], self.levels)

    def joined(self, scores: dict[str, np.ndarray]) -> np.ndarray:
        """−Σ log p over the scores."""
        least = 1 / (self.n + 1)
        return np.asarray(
            sum(-np.log(np.maximum(1 - self.shares(name, found), least)) for name, found in scores.items())
        )

    def strangeness(self, scores: dict[str, np.ndarray]) -> np.ndarray:
        """The share of test pictures that are less strange."""
        return np.interp(self.joined(scores), self.together, self.levels)

    def document(self) -> dict[str, Any]:
        def short(values: np.ndarray) -> list[float]:
            return [float(f"{value:.6g}") for value in values]

        return {
            "levels": short(self.levels), "values": {name: short(found) for name, found in self.values.items()},
            "together": short(self.together), "n": self.n, "caught": self.caught, "refused": REFUSED,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Sets:
    """Neighbours and the pictures that are held to them, the same for every run: `common` test pictures make a scale,
    `held` ones and strangers, kind → pictures, are looked at by it. `pixels`: the score that no run has a part in."""

    near: np.ndarray
    pictures: dict[str, np.ndarray]
    pixels: dict[str, np.ndarray]

    @classmethod
    def of(cls, data: Data, near: np.ndarray, strangers: dict[str, np.ndarray]) -> Sets:
        half = min(MEASURED, len(data.test_images) // 2)
        halves = {"common": data.test_images[0 : 2 * half : 2], "held": data.test_images[1 : 2 * half : 2]}
        pictures = {**halves, **strangers}
        rows = blurred(near)
        return cls(near, pictures, {kind: nearest(blurred(images), rows) for kind, images in pictures.items()})


class Scores:
    """The scores of pictures by one run; the names are those of the page."""

    def __init__(self, one: Played, near: np.ndarray) -> None:
        self.one, self.hidden = one, one.rows[-1].inputs[0]
        self.inner = self._outputs(near)[0]

    def _outputs(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the last hidden layer's values, the network's outputs), a row a picture."""
        hidden, logits = [], []
        for start in range(0, len(images), BATCH):
            found = self.one.judge.activations(images[start : start + BATCH], False)
            hidden.append(found[self.hidden].reshape(len(found[self.hidden]), -1))
            logits.append(found[self.one.rows[-1].name])
        return np.concatenate(hidden), np.concatenate(logits)

    def __call__(self, images: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
        """Of pictures (n, …) and their distances to the nearest neighbour in pixels."""
        hidden, logits = self._outputs(images)
        top = logits.max(axis=1)
        energy = -(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))
        return {
            "energy": energy, "pixels": pixels, "hidden": nearest(hidden, self.inner),
            "direction": nearest(_unit(hidden), _unit(self.inner)),
        }  # fmt: skip


def nearest(x: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The Euclidean distance of each row to the nearest of others."""
    squares = (x**2).sum(axis=1)[:, None] + (near**2).sum(axis=1) - 2 * x @ near.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0))


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def scale(one: Played, sets: Sets) -> Scale:
    """The scale of a run, worked out anew, and what it notices."""
    scores = Scores(one, sets.near)
    found = {kind: scores(images, sets.pixels[kind]) for kind, images in sets.pictures.items()}
    common = found.pop("common")
    made = _scale(common, len(common["energy"]))
    caught = {kind: float((made.strangeness(values) > 1 - REFUSED).mean()) for kind, values in found.items()}
    return dataclasses.replace(made, caught=caught)


def _scale(common: dict[str, np.ndarray], n: int) -> Scale:
    tail = 1 - np.geomspace(0.1, 1 / n, 40) if n > 10 else np.array([0.9])
    levels = np.unique([*np.linspace(0, 0.9, 31), *tail, 1.0])
    values = {name: np.quantile(found, levels) for name, found in common.items()}
    made = Scale(levels, values, levels, n, {})
    return dataclasses.replace(made, together=np.quantile(made.joined(common), levels))
