"""The language of what people read: English in the code, other languages in `locale/<language>/*.po`.

A sentence's English form is its key (GNU gettext). What is kept for programs stays English in every language: run
folders, --json, CSV, error codes. This is the lowest floor of the tree: it imports nothing else of Lockstep.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import re
from collections.abc import Iterator
from gettext import NullTranslations
from importlib import resources
from typing import Any

LANGUAGES = ("en", "ru")

_spoken = LANGUAGES[0]


def use(language: str) -> None:
    """Speak one of LANGUAGES from now on; raises ValueError for any other."""
    global _spoken
    if language not in LANGUAGES:
        raise ValueError(f"no language {language!r}")
    _spoken = language


def spoken() -> str:
    """The language in use."""
    return _spoken


@contextlib.contextmanager
def speaking(language: str) -> Iterator[None]:
    """Speak a language within a block."""
    before = spoken()
    use(language)
    try:
        yield
    finally:
        use(before)


def _(text: str, /, **values: Any) -> str:
    """The text in the language in use, its {names} filled in.

    >>> _("{failed} of {all} runs failed", failed=1, all=3)
    '1 of 3 runs failed'
    """
    said = _catalog(_spoken).gettext(text) if text else ""  # gettext keeps the catalog's head under ""
    return said.format(**values) if values else said


def n_(one: str, many: str, n: int, /, **values: Any) -> str:
    """The form of a text that goes with a number, which it may use as {n}: Russian has three."""
    return _catalog(_spoken).ngettext(one, many, n).format(**{"n": n, **values})


def mark(text: str, /) -> str:
    """Mark a text for the catalogs that is translated where it is shown, with `_`."""
    return text


@functools.cache
def _catalog(language: str) -> NullTranslations:
    if language == LANGUAGES[0]:
        return NullTranslations()
    import io

    from babel.messages.mofile import write_mo
    from babel.messages.pofile import read_po
    from babel.support import Translations

    found = Translations()
    for path in sorted((resources.files("lockstep") / "locale" / language).iterdir(), key=lambda path: path.name):
        if path.name.endswith(".po"):
            with path.open("rb") as file:
                catalog = read_po(file, locale=language)
            compiled = io.BytesIO()
            write_mo(compiled, catalog)
            compiled.seek(0)
            part = Translations(fp=compiled)
            found.merge(part)
            found.plural = part.plural  # which `merge` leaves as it was
    return found


# ------------------------------------------------------------------------------------------------------------- numbers


def number(text: str) -> str:
    """A number as English writes it, as the language in use writes it.

    >>> number("1,234.5")
    '1,234.5'
    """
    if _spoken == LANGUAGES[0]:
        return text
    from babel import Locale

    symbols = Locale.parse(_spoken).number_symbols["latn"]
    return text.translate({ord(","): symbols["group"], ord("."): symbols["decimal"]})


def as_english(text: str) -> str:
    """A text of the language in use with its numbers as English writes them."""
    if _spoken == LANGUAGES[0]:
        return text
    from babel import Locale

    symbols = Locale.parse(_spoken).number_symbols["latn"]
    text = re.sub(rf"(?<=\d){re.escape(symbols['decimal'])}(?=\d)", ".", text)
    return re.sub(rf"(?<=\d){re.escape(symbols['group'])}(?=\d{{3}}(?!\d))", ",", text)


def moment(text: str) -> str:
    """A time as files keep it, as the language in use writes it; what is no time stays as it is.

    >>> moment("2026-01-02T03:04:05Z")
    '2026-01-02T03:04:05Z'
    """
    if _spoken == LANGUAGES[0]:
        return text
    from babel.dates import format_datetime

    try:
        return str(format_datetime(datetime.datetime.fromisoformat(text), "long", locale=_spoken))
    except ValueError:
        return text
