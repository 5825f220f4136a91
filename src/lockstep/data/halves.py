"""Which part of a dataset a folder's or a file's name speaks of: to train, to test, or to validate.

Whoever made a dataset called its parts as they liked: `train` and `test`, `training` and `testing`, `Train` and `Val`,
`t10k`. Capitals make no difference, since half of all systems do not tell them apart.
"""

from __future__ import annotations

import re

HALVES = ("train", "test")
NAMES = {
    "train": ("train", "training"),
    "test": ("test", "testing", "t10k"),
    "validation": ("validation", "valid", "val", "dev"),
}
_PARTS = {name: part for part, names in NAMES.items() for name in names}


def part_of(name: str) -> str | None:
    """The part of a dataset that a whole name stands for: "train", "test", "validation" or None.

    >>> part_of("Training"), part_of("valid"), part_of("trains")
    ('train', 'validation', None)
    """
    return _PARTS.get(name.strip().lower())


def words(name: str) -> list[str]:
    """The words of a file's name, in lower case.

    >>> words("emnist-letters-Train_images.idx3-ubyte")
    ['emnist', 'letters', 'train', 'images', 'idx3', 'ubyte']
    """
    return re.findall(r"[^\W_]+", name.lower())


def part_in(name: str) -> str | None:
    """The part that one of a name's words speaks of; None where none does, or several do."""
    found = {_PARTS[word] for word in words(name) if word in _PARTS}
    return found.pop() if len(found) == 1 else None
