"""How near two backends must come to one another, stage by stage."""

from __future__ import annotations

import numpy as np

from support import backend_cases as table

# Relative to the largest number of each array. Before the first update only rounding differs; after it a rounding
# difference passes through the optimizer, where Adam divides by √v̂, which may be tiny.
TOLERANCES = {"start": 0.0, "untouched": 0.0, "inference": 1e-13, "training": 1e-13, "seen": 1e-13, "loss": 1e-13,
              "gradient": 1e-11, "sent back": 1e-11, "alone": 1e-11}  # fmt: skip
AFTER_UPDATES = 1e-9


def assert_close(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Names, shapes, dtypes, then values; the message names the worst."""
    assert found.keys() == wanted.keys()
    worst: list[str] = []
    for name, value in wanted.items():
        assert found[name].shape == value.shape, name
        if name.partition("|")[0] != "steps":
            assert found[name].dtype == value.dtype or name.endswith(("step", "loss", "first batch")), name
        tolerance = TOLERANCES.get(name.partition("|")[0], AFTER_UPDATES)
        size = np.abs(value).max(initial=0.0)
        difference = np.abs(found[name].astype(float) - value).max(initial=0.0)
        if not difference <= tolerance * max(size, 1e-3):
            worst.append(f"{name}: off by {difference:.2e} of {size:.2e}, allowed {tolerance:g} of it")
    assert not worst, "\n".join(worst)


ROUNDED_CASES = [name for name in table.CASES if name.startswith("rounded-")]


def assert_products_are_rounded_alike(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    """Each layer alone, on the same numbers: rounded factors are off by 4e-3 (bfloat16) or 5e-4 (TF32) of full ones."""
    for name, value in wanted.items():
        if name.startswith("alone|"):
            off = np.abs(found[name].astype(float) - value).max() / np.abs(value).max()
            assert off <= 1e-5, f"{name}: off by {off:.1e}"
