"""Are two results different, and how sure can one be? Plain numbers in, intervals and p values out.

A report must never sound surer than its runs allow, so every function here says what its interval is over: seeds (would
another training come out the same?) or test images (would other images?). Everything is a pure function of its
arguments, the bootstrap's random numbers too. Only SciPy's special functions are imported; tests compare with
`scipy.stats`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from lockstep import randomness

CONFIDENCE = 0.95
LEVEL = 0.05  # of a test: how often it may see a difference where there is none
POWER = 0.8  # how often a planned test should see a difference that is there
MOST_SEEDS = 1000  # beyond this nobody plans
RESAMPLES = 2000
CHUNK = 2**21  # resampled values in memory at a time

Values = Sequence[float] | np.ndarray


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate from `n` values with its 95 % interval; None where n is 1 or the values have no spread at all."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def half(self) -> float | None:
        """Half of the interval's width: what stands behind ±."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclasses.dataclass(frozen=True)
class Difference(Interval):
    """A difference of two means with its interval, the two-sided p of "no difference" and the spread behind it.

    `n` counts the pairs, or the values of the smaller side where they are not paired. `sd` is the standard deviation
    that one further seed brings: of the paired differences, or √(s₁² + s₂²).
    """

    sd: float
    p: float | None
    is_paired: bool


@dataclasses.dataclass(frozen=True)
class McNemar:
    """How often only one of two was right, and the exact p of "both are right equally often"."""

    only_first: int
    only_second: int
    p: float


def mean_interval(values: Values, confidence: float = CONFIDENCE) -> Interval:
    """Student's t interval of the mean, x̄ ± t(n−1)·s/√n (Student 1908): over seeds, if the values are runs."""
    x = _checked(values)
    mean, sd = float(x.mean()), _spread(x)
    if not sd:
        return Interval(mean, None, None, len(x))
    half = float(special.stdtrit(len(x) - 1, (1 + confidence) / 2)) * sd / math.sqrt(len(x))
    return Interval(mean, mean - half, mean + half, len(x))


def paired_difference(first: Values, second: Values, confidence: float = CONFIDENCE) -> Difference:
    """The mean of first − second, run by run, with the paired t test (Student 1908); both in the order of the seeds.

    Differences without any spread give no interval; p is 1 where all of them are 0 and None otherwise, for then nothing
    says how much another seed would bring.
    """
    x, y = _checked(first), _checked(second)
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} values are no pairs")
    found = mean_interval(x - y, confidence)
    sd = _spread(x - y, around=max(np.abs(x).max(), np.abs(y).max()))
    if not sd:
        same = bool(np.allclose(x, y, rtol=1e-12, atol=0))
        p = 1.0 if same and len(x) > 1 else None
        return Difference(0.0 if same else found.value, None, None, len(x), 0.0, p, True)
    t = found.value / (sd / math.sqrt(len(x)))
    return Difference(found.value, found.low, found.high, len(x), sd, _two_sided(t, len(x) - 1), True)


def welch_difference(first: Values, second: Values, confidence: float = CONFIDENCE) -> Difference:
    """mean(first) − mean(second) of runs that are not paired, with Welch's test.

    The degrees of freedom are (a + b)² / (a²/(n₁−1) + b²/(n₂−1)) with a = s₁²/n₁, b = s₂²/n₂ (Welch 1947).
    """
    x, y = _checked(first), _checked(second)
    value, n = float(x.mean() - y.mean()), min(len(x), len(y))
    a, b = _spread(x) ** 2 / len(x), _spread(y) ** 2 / len(y)
    if n < 2 or not a + b:
        return Difference(value, None, None, n, 0.0, 1.0 if n > 1 and not value else None, False)
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))
    error = math.sqrt(a + b)
    half = float(special.stdtrit(freedom, (1 + confidence) / 2)) * error
    sd = math.sqrt(_spread(x) ** 2 + _spread(y) ** 2)
    return Difference(value, value - half, value + half, n, sd, _two_sided(value / error, freedom), False)


def _two_sided(t: float, freedom: float) -> float:
    return float(2 * special.stdtr(freedom, -abs(t)))


def _checked(values: Values) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or not x.size or not np.isfinite(x).all():
        raise ValueError("statistics need a list of at least one number, all of them finite")
    return x


def _spread(x: np.ndarray, around: float = 0.0) -> float:
    """The sample's standard deviation; 0 where it is nothing but the rounding of numbers of this size."""
    sd = float(x.std(ddof=1)) if len(x) > 1 else 0.0
    return sd if sd > 1e-13 * max(float(np.abs(x).max()), around) else 0.0


def wilson(hits: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Wilson's score interval of a share (Wilson 1927): over test images, for a single run's accuracy.

    Unlike p ± 2·√(p(1−p)/n) it stays inside 0 … 1 and holds its level near 1, where accuracies are.
    """
    if not 0 <= hits <= n or n < 1:
        raise ValueError(f"{hits} of {n} is no share")
    z, p = float(special.ndtri((1 + confidence) / 2)), hits / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, middle - half), min(1.0, middle + half), n)


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test of two classifiers on the same images (McNemar 1947; Dietterich 1998).

    `first` and `second` (n,) bool: who answered which image right. Under the null hypothesis each image that only one
    got right falls to either like a fair coin, so p is twice the tail of Binomial(b + c, ½). It compares these two
    trained networks, not what another seed would have made of them.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"answers of shape {first.shape} and {second.shape} are not to the same images")
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    p = min(1.0, 2 * float(special.bdtr(min(b, c), b + c, 0.5))) if b + c else 1.0
    return McNemar(b, c, p)


def bootstrap_means(
    table: np.ndarray, seed: int = 0, method: str = "bca", n_resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> list[Interval]:
    """Bootstrap intervals of the mean of every row of `table` (rows, n): over whatever the columns are.

    `method` is "percentile" (Efron 1979) or "bca", bias-corrected and accelerated (Efron 1987, with a from the third
    moment, as the jackknife gives it for a mean). All rows see the same resampled columns, which makes hundreds of rows
    as cheap as one. A row without spread has no interval.
    """
    x = np.asarray(table, dtype=np.float64)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError("a bootstrap needs rows of at least one number, all of them finite")
    if method not in ("bca", "percentile"):
        raise ValueError(f'there is no method "{method}", only "bca" and "percentile"')
    means, resampled = x.mean(axis=1), _resampled_means(x, seed, n_resamples)
    shares = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    return [
        Interval(float(mean), None, None, x.shape[1])
        if not _spread(row)
        else Interval(float(mean), *_between(row, mean, drawn, shares, method), x.shape[1])
        for row, mean, drawn in zip(x, means, resampled, strict=True)
    ]


def bootstrap_mean(values: Values, seed: int = 0, method: str = "bca", n_resamples: int = RESAMPLES) -> Interval:
    """The bootstrap interval of one mean: `bootstrap_means` for a single row."""
    return bootstrap_means(_checked(values)[None], seed, method, n_resamples)[0]


def bootstrap_median(values: Values, seed: int = 0, n_resamples: int = RESAMPLES) -> Interval:
    """The percentile bootstrap interval of a median (Efron 1979); below five values there is none worth the name."""
    x = _checked(values)
    if len(x) < 5:
        return Interval(float(np.median(x)), None, None, len(x))
    draws = np.median(x[_indices(len(x), n_resamples, seed, 0)], axis=1)
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(np.median(x)), float(low), float(high), len(x))


def _resampled_means(x: np.ndarray, seed: int, n_resamples: int) -> np.ndarray:
    """(rows, resamples): how often each column is drawn, times the columns; columns that are alike count as one."""
    n, found = x.shape[1], []
    kinds, kind_of = np.unique(x, axis=1, return_inverse=True)  # most images are answered alike by all
    step = max(1, CHUNK // n)
    for place, start in enumerate(range(0, n_resamples, step)):
        some = min(step, n_resamples - start)
        cells = kind_of.ravel()[_indices(n, some, seed, place)] + kinds.shape[1] * np.arange(some)[:, None]
        drawn = np.bincount(cells.ravel(), minlength=some * kinds.shape[1]).reshape(some, -1)
        found.append(kinds @ drawn.T.astype(np.float64) / n)
    return np.concatenate(found, axis=1)


def _indices(n: int, n_resamples: int, seed: int, place: int) -> np.ndarray:
    drawn = randomness.uniform(n_resamples * n, seed, "bootstrap", place, n)
    return (drawn * n).astype(np.int64).reshape(n_resamples, n)


def _between(row: np.ndarray, mean: float, drawn: np.ndarray, shares: np.ndarray, method: str) -> tuple[float, float]:
    """The two quantiles of the resampled means; BCa moves them by bias z0 and acceleration a (Efron 1987, eq. 2.3)."""
    if method == "bca":
        tolerance = 1e-13 * max(abs(mean), 1e-300)
        below = (drawn < mean - tolerance).mean() + (np.abs(drawn - mean) <= tolerance).mean() / 2
        z0 = special.ndtri(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
        apart = row - mean
        a = (apart**3).sum() / (6 * (apart**2).sum() ** 1.5)
        z = z0 + special.ndtri(shares)
        shares = special.ndtr(z0 + z / (1 - a * z))
    low, high = np.quantile(drawn, shares)
    return float(low), float(high)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for their number (Holm 1979): of all that are seen, none is false more often than the level.

    None, where nothing was tested, stays None and counts for nothing.
    """
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        adjusted[place] = largest
    return adjusted


def seeds_to_settle(
    difference: float, sd: float, power: float = POWER, level: float = LEVEL, most: int = MOST_SEEDS
) -> int | None:
    """How many seeds a paired t test needs to see a difference of this size with this power; None beyond `most`.

    The power is that of the noncentral t with n − 1 degrees of freedom and noncentrality √n·|difference|/sd (Cohen
    1988, chapter 2). A guess to plan with: both numbers come from the few runs at hand.
    """
    if not difference or not math.isfinite(difference) or not math.isfinite(sd):
        return None
    if sd <= 0:
        return 2
    n = np.arange(2, most + 1)
    limit, shift = special.stdtrit(n - 1, 1 - level / 2), np.sqrt(n) * abs(difference) / sd
    with np.errstate(all="ignore"):  # far out in a tail the answer is 0, however it is reached
        missed = np.nan_to_num(special.nctdtr(n - 1, shift, limit) - special.nctdtr(n - 1, shift, -limit))
    enough = np.flatnonzero((1 - missed >= power) | (shift > 40))
    return int(n[enough[0]]) if enough.size else None


def agreement(first: np.ndarray, second: np.ndarray) -> tuple[float, float | None]:
    """(share of equal answers, Cohen's κ) of two lists of classes.

    κ = (p₀ − pₑ)/(1 − pₑ), where pₑ is how often two who answer at random with these frequencies agree (Cohen 1960);
    None where both give one answer only.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or not first.size:
        raise ValueError(f"answers of shape {first.shape} and {second.shape} are not to the same images")
    same = float((first == second).mean())
    classes = np.unique(np.concatenate([first, second]))
    counts = [(np.searchsorted(classes, side)) for side in (first, second)]
    shares = [np.bincount(side, minlength=len(classes)) / len(first) for side in counts]
    by_chance = float(shares[0] @ shares[1])
    return same, None if by_chance >= 1 else (same - by_chance) / (1 - by_chance)
