"""What two numbers of two models may differ by and still be the same number: all of it, in one place.

Nobody knows how a stranger's function rounds, but float32 shows it: what a side's float32 differs from its own float64
is what float64 differs from the exact number, times 2⁻²⁹. Eight times that is allowed, and at least a rounding of the
largest value, because float32 may happen to be exact. What is worked out here in NumPy, and not by the side itself,
rounds in its own way and gets more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FACTOR = 8.0
FROM_FLOAT32 = 2.0**-29  # float64's rounding in units of float32's
LEAST = 2.0**-48  # of the largest value: where float32 happened to be exact
LEAST_OF_FEW = 2.0**-46  # … in the few numbers of a loss or an update
STATISTICS = 2.0**-44  # of the largest value: an average of two numbers and a sum over a batch
FORMULA = 16.0  # of a side's tolerance: a formula in NumPy rounds in its own way
ALTERNATIVE = 64.0  # of a tensor's tolerance: a call that is made otherwise rounds in its own way
FLOAT32 = 2.0**-23  # the share of a value by which one rounded number of a formula moves it, at most
FAR = 2.0**-6  # of what a difference makes: what is left of it when its cause is put right is far less


def from_float32(off: np.ndarray) -> float:
    """What float64 may be off where float32 is off by this much from it; entries that are not finite say nothing."""
    return FACTOR * FROM_FLOAT32 * float(off[np.isfinite(off)].max(initial=0.0))


def largest(value: np.ndarray) -> float:
    """The largest finite entry, by its size."""
    return float(np.abs(value[np.isfinite(value)]).max(initial=0.0))


def of_statistic(value: np.ndarray, share: float) -> float:
    """What a running statistic may be off; `share` of a value in it is of float32."""
    return max(STATISTICS, FACTOR * share) * largest(value)


def of_gradient(value: np.ndarray, share: float) -> float:
    """What a gradient may be off at least: it is a sum over the batch; `share` of a value in it is of float32."""
    return FACTOR * max(LEAST, FACTOR * share) * largest(value)


def of_arrays(exact: Sequence[np.ndarray], rough: Sequence[np.ndarray], share: float = 0.0) -> float:
    """What both sides' arrays may differ by, by what each one's float32 is off; `share` of the largest at least."""
    found = 0.0
    for one, other in zip(exact, rough, strict=True):
        if one.shape == other.shape:
            with np.errstate(invalid="ignore"):
                found = max(found, from_float32(np.abs(one - other.astype(np.float64))))
        found = max(found, max(LEAST_OF_FEW, FACTOR * share) * largest(one))
    return found
