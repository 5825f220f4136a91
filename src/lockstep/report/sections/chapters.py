"""Where each section of the page is explained: a part of the chapters, which `lockstep explain` prints.

The page needs nothing else, so a section leads to the table at the page's end, which names the chapters' files.
"""

from __future__ import annotations

from typing import Any

from lockstep.errors import LockstepError
from lockstep.explain import topics
from lockstep.language import _, spoken
from lockstep.report.table import Table

# Section → the word by which its part of the chapters is found.
WORDS = {
    "results": "accuracy",
    "comparisons": "gap",
    "proof": "identical",
    "data": "scaling",
    "networks": "architecture",
    "curves": "overfitting",
    "confusion": "confusion",
    "images": "softmax",
    "seen": "feature_maps",
    "times": "timing",
    "reproduce": "defaults",
}


def links() -> dict[str, dict[str, str]]:
    """Section → {"word", "title", "chapter"}; without the part's title where the chapters are not installed."""
    return {section: _link(word) for section, word in WORDS.items()}


def _link(word: str) -> dict[str, str]:
    part = _part(word)
    return {"word": word, "title": part.title if part else "", "chapter": part.chapter if part else ""}


def _part(word: str) -> topics.Topic | None:
    try:
        return topics.find(word, spoken()) or topics.find(word)
    except LockstepError:
        return None


def table() -> Table:
    """Every part that a section leads to, with its chapter's file and the word that prints it."""
    rows: dict[tuple[str, ...], None] = {}
    for word in WORDS.values():
        if part := _part(word):
            file = f"docs/chapters/{part.language}/{part.chapter}.md"
            rows[part.title, file, f"lockstep explain {word}"] = None
    columns = [(_("Part"), "l"), (_("Chapter"), "l"), (_("In a terminal"), "l")]
    return Table(_("Where the sections of this page are explained"), columns, [list(row) for row in rows])


def control_questions(studies: list[str]) -> list[dict[str, Any]]:
    """The control questions of the assignment that asks them, with the word that prints a short answer to each."""
    if not any(name.removesuffix("-quick") == ASKS for name in studies):
        return []
    found = [(f"question_{n}", _part(f"question_{n}")) for n in range(1, 6)]
    return [{"title": part.title, "word": word} for word, part in found if part]


ASKS = "lab-lenet"
