"""What is said on the way to a terminal: texts made safe for it, and what is stored in English said in any language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rich import markup

from lockstep.errors import CODES, title
from lockstep.language import LANGUAGES, Text, _, later, say, spoken, visible


def escape(text: str, keep: str = "\n\t") -> str:
    """A text to be printed as it is: no markup of rich's, and no control character that a terminal would obey."""
    return markup.escape(visible(text, keep))


# What a run, a worker and the doctor say they are at, and places that a judge names.
WORDS = (
    later("build"), later("train"), later("a whole epoch"), later("judging"), later("running"),
    later("failed"), later("finished"), later("whole"), later("unfinished"), later("being worked on"), later("damaged"),
    later("all weights"), later("images"), later("input"), later("its arrays"), later("labels"), later("logits"),
    later("losses"), later("manifest"), later("names"), later("order"), later("test images"),
    later("training from the start"), later("updates taken"), later("unexplained"),
)  # fmt: skip


def told(row: Mapping[str, Any], key: str) -> str:
    """A text out of a row, in the language in use."""
    return word(row[key])


def word(text: str) -> str:
    """A text, or a word that stands for one, in the language in use."""
    return say(text) if isinstance(text, Text) else _(text)


def stored(reason: object) -> str:
    """A reason, which is English out of a run folder, in the language in use, as far as its words are known there.

    What they are not is told behind the meaning of its code.
    """
    if isinstance(reason, Text):
        return say(reason)
    if parts := re.fullmatch(r"(LS-\d+ .*?: )([^\n]*)(?:\n\s*→ ([^\n]*))?", str(reason)):
        message, hint = _(parts[2]), _(parts[3] or "")
        if " " in parts[2] and say(message) != parts[2]:  # a word alone may mean something else
            return parts[1] + say(message) + (f"\n    → {say(hint)}" if parts[3] else "")
    if spoken() != LANGUAGES[0] and (code := str(reason).partition(" ")[0].rstrip(":")) in CODES:
        return f"{title(code)}: {reason}"
    return str(reason)
