"""Text of Python as ruff lays it out: calls that are broken where they are too long, blocks with two lines between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

WIDTH = 110  # of a line


def call(head: str, arguments: Sequence[str], tail: str = ")", indent: int = 0, deeper: int = 0) -> str:
    """`head` with its arguments up to `tail`, on one line, or on three, or each argument on its own.

    It is to stand `deeper` than it is written here.

    >>> call("x = f(", ["1", "2"])
    'x = f(1, 2)'
    """
    before, inner = " " * indent, " " * (indent + 4)
    whole, listed = f"{before}{head}{', '.join(arguments)}{tail}", f"{inner}{', '.join(arguments)}"
    if len(whole) + deeper <= WIDTH:
        return whole
    if len(listed) + deeper <= WIDTH:
        return f"{before}{head}\n{listed}\n{before}{tail}"
    return "\n".join([f"{before}{head}", *(f"{inner}{argument}," for argument in arguments), f"{before}{tail}"])


def listed(head: str, items: Iterable[str], tail: str, indent: int = 0) -> str:
    """A table: each item on a line of its own."""
    inner = " " * (indent + 4)
    return "\n".join([" " * indent + head, *(f"{inner}{item}," for item in items), " " * indent + tail])


def indented(text: str, indent: int = 4) -> str:
    """Every line of a text further in."""
    return "\n".join(" " * indent + line if line else line for line in text.splitlines())


def pair(values: tuple[int, ...]) -> str:
    """Two sizes as frameworks take them: one number for both where they are the same.

    >>> pair((5, 5)), pair((5, 3))
    ('5', '(5, 3)')
    """
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def options(**given: Any) -> list[str]:
    """Named arguments, without those that are None."""
    return [f"{name}={value!r}" for name, value in given.items() if value is not None]


def blocks(parts: Iterable[str]) -> str:
    """Parts of a file, functions and classes, with two empty lines between them."""
    return "\n\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"


def wrapped(line: str, indent: int, width: int = 110) -> list[str]:
    """A statement that is one call, with its arguments on a line of their own where it is too long."""
    head, _, rest = line.partition("(")
    return [line] if indent + len(line) <= width else [f"{head}(", f"    {rest[:-1]}", ")"]
