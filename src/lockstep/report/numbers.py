"""Numbers → text: as many digits as mean something, the same number of decimals down a column."""

from __future__ import annotations

import math
from collections.abc import Sequence

MISSING = "—"
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def is_number(value: float | None) -> bool:
    """Whether there is a finite value."""
    return value is not None and math.isfinite(value)


def fixed(value: float | None, decimals: int) -> str:
    """The value with so many decimals and thousands separators.

    >>> fixed(1234.5, 1), fixed(None, 2)
    ('1,234.5', '—')
    """
    return f"{value:,.{decimals}f}" if value is not None and math.isfinite(value) else MISSING


def column(values: Sequence[float | None]) -> list[str]:
    """A column of seconds, whose numbers share their decimals: milliseconds, or fewer where the largest is long.

    >>> column([0.0123, 1.5, None])
    ['0.012', '1.500', '—']
    """
    largest = max((abs(value) for value in values if value is not None and math.isfinite(value)), default=0.0)
    places = next(places for places, limit in ((3, 10), (2, 100), (1, 1000), (0, math.inf)) if largest < limit)
    return [fixed(value, places) for value in values]


def significant(value: float) -> str:
    """Two significant digits, with a power of ten where the value is very small or very large.

    >>> significant(0.054), significant(3.4e-5), significant(0.0), significant(4.5e35)
    ('0.054', '3.4·10⁻⁵', '0', '4.5·10³⁵')
    """
    if value == 0 or 0.001 <= value < 1e6 or not math.isfinite(value):
        return f"{value:,.2g}" if value < 100 else fixed(value, 0)
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def accuracy_decimals(n_examples: float | None) -> int:
    """Decimals of a percentage that one example more or less would change."""
    return 1 if n_examples and n_examples < 2000 else 2


def percent(share: float | None, places: int) -> str:
    """A share as a percentage without its sign."""
    return fixed(None if share is None else 100 * share, places)


def points(share: float | None, places: int) -> str:
    """A share as a percentage with its sign, for a sentence."""
    return f"{percent(share, places)}\u00a0%"


def seconds(value: float | None) -> str:
    """Three significant digits but no less than milliseconds, and the unit, for a sentence."""
    if value is None or not math.isfinite(value):
        return MISSING
    places = 3 if value < 1 else max(2 - math.floor(math.log10(value)), 0)
    return f"{fixed(value, places)}\u00a0s"


def word(n: int) -> str:
    """A whole number, in words up to nine."""
    return _WORDS[n] if n < len(_WORDS) else f"{n:,}"


def count(n: int, thing: str, things: str = "") -> str:
    """A number with its noun, in words up to nine.

    >>> count(1, "epoch"), count(12, "epoch")
    ('one epoch', '12 epochs')
    """
    return f"{word(n)} {thing if n == 1 else things or thing + 's'}"


def shape(sizes: Sequence[int] | None) -> str:
    """(28, 28, 1) → "28 × 28 × 1"."""
    return "\u00a0×\u00a0".join(f"{size:,}" for size in sizes) if sizes else MISSING


def listed(words: Sequence[str]) -> str:
    """["a", "b", "c"] → "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
