"""Texts on their way to a terminal: made safe for it; what is stored in English, said in the language in use."""

from __future__ import annotations

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


def word(text: str) -> str:
    """A text, or a word that stands for one, in the language in use."""
    return say(text) if isinstance(text, Text) else _(text)


def stored(reason: object) -> str:
    """A reason out of a run folder, in the language in use.

    One of an earlier version, which kept no form beside it, stays English behind the meaning of its code.
    """
    if isinstance(reason, Text):
        return say(reason)
    if spoken() != LANGUAGES[0] and (code := str(reason).partition(" ")[0].rstrip(":")) in CODES:
        return f"{title(code)}: {reason}"
    return str(reason)
