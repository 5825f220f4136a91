"""How starting weights are drawn: each scheme is told by its name, and two that differ are not alike."""

from __future__ import annotations

import numpy as np
import pytest

from lockstep.exchange.models.records import Unit
from lockstep.proof.pair import initializers

SHAPES = ((3, 3, 16, 32), (200, 64), (64, 10))
FANS = [initializers.fans_of(Unit("w", "kernel", shape)) for shape in SHAPES]


def drawn(scheme: str, seed: int) -> list[initializers.Sample]:
    numbers = np.random.default_rng(seed)

    def values(shape: tuple[int, ...], i: float, o: float) -> np.ndarray:
        n = int(np.prod(shape))
        cut = np.clip(numbers.normal(size=3 * n), -9, 9)
        cut = cut[np.abs(cut) < 2][:n] / 0.87962566103423978
        return {
            "uniform ±1/√fan_in": lambda: numbers.uniform(-1, 1, n) * i**-0.5,
            "Glorot uniform": lambda: numbers.uniform(-1, 1, n) * (6 / (i + o)) ** 0.5,
            "LeCun normal (truncated)": lambda: cut * i**-0.5,
            "He normal": lambda: numbers.normal(size=n) * (2 / i) ** 0.5,
            "normal, σ 0.02": lambda: numbers.normal(size=n) * 0.02,
        }[scheme]()

    return [(values(shape, *fans), fans) for shape, fans in zip(SHAPES, FANS, strict=True)]


NAMES = ("uniform ±1/√fan_in", "Glorot uniform", "LeCun normal (truncated)", "He normal", "normal, σ 0.02")


@pytest.mark.parametrize("name", NAMES)
def test_a_scheme_is_told_by_its_draws(name):
    assert initializers.named(drawn(name, 1)) == name
    assert initializers.is_alike(drawn(name, 1), drawn(name, 2))
    others = [other for other in NAMES if other != name]
    assert not any(initializers.is_alike(drawn(name, 1), drawn(other, 2)) for other in others)


def test_constants_are_told_apart_and_what_no_scheme_gives_gets_no_name():
    zeros, ones = [(np.zeros(8), (8.0, 8.0))], [(np.ones(8), (8.0, 8.0))]
    assert initializers.is_alike(zeros, zeros)
    assert not initializers.is_alike(zeros, ones)
    assert initializers.named(ones) == "1"
    assert "σ" in initializers.named([(np.random.default_rng(0).exponential(size=500), (8.0, 8.0))])
