"""Numbers → text: as many digits as mean something, the same number of decimals down a column."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lockstep.language import _, minus, n_, number, spoken

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
    return minus(number(f"{value:,.{decimals}f}")) if value is not None and math.isfinite(value) else MISSING


def whole(n: int) -> str:
    """A whole number with thousands separators."""
    return number(f"{n:,}")


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

    >>> significant(0.054), significant(99.7), significant(3.4e-5), significant(0.0), significant(4.5e35)
    ('0.054', '100', '3.4·10⁻⁵', '0', '4.5·10³⁵')
    """
    if value == 0 or 0.001 <= value < 1e6 or not math.isfinite(value):
        return minus(number(f"{value:,.2g}")) if value < 99.5 else fixed(value, 0)
    digits, exponent = f"{value:.1e}".split("e")
    return f"{minus(number(digits))}·10{str(int(exponent)).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


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
    return _("{n}\u00a0s", n=fixed(value, places))


def word(n: int) -> str:
    """A whole number, in English in words up to nine: other languages would have to inflect them."""
    return _WORDS[n] if spoken() == "en" and n < len(_WORDS) else whole(n)


def count(n: int, one: str, many: str, /, **values: str) -> str:
    """The form of a text that goes with a number, which it names as {count}.

    >>> count(1, "{count} epoch", "{count} epochs"), count(12, "{count} epoch", "{count} epochs")
    ('one epoch', '12 epochs')
    """
    return n_(one, many, n, count=word(n), **values)


def shape(sizes: Sequence[int] | None) -> str:
    """(28, 28, 1) → "28 × 28 × 1"."""
    return "\u00a0×\u00a0".join(map(whole, sizes)) if sizes else MISSING


def listed(words: Sequence[str]) -> str:
    """["a", "b", "c"] → "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return _("{first} and {last}", first=", ".join(words[:-1]), last=words[-1])


def span(low: str, high: str) -> str:
    """From one number to another, or the one that both are once they are rounded.

    >>> span("1", "2"), span("1", "1")
    ('1 to 2', '1')
    """
    return low if low == high else _("{low} to {high}", low=low, high=high)


def seeds_of(n: int) -> str:
    return count(n, "{count} seed", "{count} seeds")


def images_of(n: int) -> str:
    return count(n, "{count} image", "{count} images")
