"""What `lockstep explain` says of the field: parts of the chapters, by the words that studies use.

The chapters are the pages of docs/chapters, which the package carries along; nothing is said twice. A part begins at a
heading with a mark above it, `<!-- topic: max_pool2d avg_pool2d pooling -->`, and ends before the next heading that is
not below its own. Marks are comments, so that a page reads the same wherever Markdown is read.
"""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from lockstep.errors import LockstepError
from lockstep.explain import formulas
from lockstep.language import LANGUAGES, _, later, spoken

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 100  # columns: longer lines are hard to read

_MARK = re.compile(r"<!-- topic: (.+?) -->")
_HEADING = re.compile(r"(#{1,6}) (.+)")
_COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
_MATHS = re.compile(r"\$\$(.+?)\$\$|\$(.+?)\$", re.DOTALL)
_IMAGE = re.compile(r"!\[(.*?)\]\(.*?\)", re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


@dataclasses.dataclass(frozen=True)
class Topic:
    """A part of a chapter: `names` under which it is found, `text` in Markdown with formulas in LaTeX."""

    names: tuple[str, ...]
    title: str
    chapter: str
    language: str
    text: str


@cache
def topics(language: str = "en") -> dict[str, Topic]:
    """Name → part, in the order of the chapters; raises LockstepError where the installation lacks them."""
    folder = resources.files("lockstep") / "chapters" / language
    if not folder.is_dir():
        hint = later("install Lockstep again; on a checkout without symbolic links read docs/chapters")
        message = later("the chapters ({language}) are not installed", language=language)
        raise LockstepError("LS-505", message, where=str(folder), hint=hint)
    pages = sorted((page for page in folder.iterdir() if page.name.endswith(".md")), key=lambda page: page.name)
    found: dict[str, Topic] = {}
    for page in pages:
        for part in parts_of(page.read_text(encoding="utf-8"), page.name.removesuffix(".md"), language):
            found |= dict.fromkeys(part.names, part)
    return found


def find(word: str, language: str | None = None) -> Topic | None:
    """The part of that name in a language, or in the first that has it, beginning with the one in use.

    Spaces and hyphens count as underscores.
    """
    name = re.sub(r"[\s-]+", "_", word.strip().lower())
    languages = [language] if language else sorted(LANGUAGES, key=lambda one: one != spoken())
    return next((topics(one)[name] for one in languages if name in topics(one)), None)


def parts_of(page: str, chapter: str, language: str) -> list[Topic]:
    """The marked parts of a page."""
    lines = page.splitlines(keepends=True)
    headings = _headings(lines)
    found = []
    for place, depth, title in headings:
        mark = _MARK.fullmatch(lines[place - 1].strip()) if place else None
        if mark:
            end = next((there for there, deep, _ in headings if there > place and deep <= depth), len(lines))
            text = _COMMENT.sub("", "".join(lines[place:end])).strip()
            found.append(Topic(tuple(mark[1].split()), title, chapter, language, text))
    return found


def _headings(lines: list[str]) -> list[tuple[int, int, str]]:
    """(line, depth, title) of every heading outside code."""
    found, is_code = [], False
    for place, line in enumerate(lines):
        if line.startswith("```"):
            is_code = not is_code
        elif not is_code and (heading := _HEADING.match(line)):
            found.append((place, len(heading[1]), heading[2].strip()))
    return found


def plain(text: str) -> str:
    """Markdown for a terminal: formulas as lines of signs, figures by their descriptions, links by their words."""
    pieces = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(piece if piece.startswith("```") else _plain(piece) for piece in pieces)


def _plain(text: str) -> str:
    def formula(found: re.Match[str]) -> str:
        if found[1] is not None:
            return f"\n    {formulas.as_text(found[1])}\n"
        return formulas.as_text(found[2]).replace("*", r"\*").replace("_", r"\_")

    def outside_code(piece: str) -> str:
        piece = _IMAGE.sub(lambda found: _("(figure: {what})", what=found[1]), piece)
        return _MATHS.sub(formula, _LINK.sub(r"\1", piece))

    return "".join(piece if piece.startswith("`") else outside_code(piece) for piece in re.split(r"(`[^`\n]+`)", text))


def print_topic(topic: Topic, console: Console) -> None:
    """Print a part on a terminal."""
    from rich.markdown import Markdown

    console.print(Markdown(plain(topic.text), code_theme="ansi_dark"), width=min(console.width, WIDTH))


def listed(language: str) -> list[tuple[str, str, str]]:
    """(names, title, chapter) of every part, once."""
    return [(" ".join(part.names), part.title, part.chapter) for part in dict.fromkeys(topics(language).values())]
