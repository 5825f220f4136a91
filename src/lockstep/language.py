"""The language of what people read: English in the code, other languages in `locale/<language>/*.po`.

A sentence's English form is its key (GNU gettext). What is kept for programs stays English in every language: run
folders, --json, CSV, error codes. This is the lowest floor of the tree: it imports nothing else of Lockstep.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import re
import string
from collections.abc import Iterable, Iterator
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
    return _FORMATTER.vformat(said, (), values) if values else said


def n_(one: str, many: str, n: int, /, **values: Any) -> str:
    """The form of a text that goes with a number, which it may use as {n}: Russian has three."""
    return _FORMATTER.vformat(_catalog(_spoken).ngettext(one, many, n), (), {"n": n, **values})


def mark(text: str, /) -> str:
    """Mark a text for the catalogs that is translated where it is shown, with `_`."""
    return text


class _Formatter(string.Formatter):
    """Fills {names} in: other texts and formatted numbers as the language in use has them, controls as escapes."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Text):
            return format(say(value), format_spec)
        is_number = isinstance(value, int | float) and format_spec
        return number(format(value, format_spec)) if is_number else visible(super().format_field(value, format_spec))


_FORMATTER = _Formatter()


# --------------------------------------------------------------------------------- texts that are kept and shown later
# An error's message goes to a terminal in the language in use, and to --json and a run folder in English. Modules that
# make such texts import `later as _` and `n_later as n_`: the catalogs know them by these names.


class Text(str):
    """A text that is English wherever it is kept, joined or compared; `say` has it in the language in use."""

    forms: tuple[str, ...]
    values: dict[str, Any]

    @classmethod
    def of(cls, forms: tuple[str, ...], values: dict[str, Any]) -> Text:
        """One form, or two and the number n that decides between them; of an exception what it says."""
        values = {key: reason(value) if isinstance(value, BaseException) else value for key, value in values.items()}
        key = forms[0] if len(forms) == 1 or values["n"] == 1 else forms[1]
        made = cls(key.format(**values) if values else key)
        made.forms, made.values = forms, values
        return made


def later(text: str, /, **values: Any) -> Text:
    """The text in English, its {names} filled in, that `say` has in the language in use.

    >>> later("{failed} of {all} runs failed", failed=1, all=3)
    '1 of 3 runs failed'
    """
    return Text.of((text,), values)


def n_later(one: str, many: str, n: int, /, **values: Any) -> Text:
    """As `later`, with the form that goes with a number."""
    return Text.of((one, many), {"n": n, **values})


def joined(parts: Iterable[object], between: str = ", ") -> Text:
    """Texts one after the other, each of which is said in the language in use."""
    row = [piece for part in parts for piece in (between, part)][1:]
    values = {f"part{number}": piece for number, piece in enumerate(row)}
    return Text.of(("".join(f"{{{name}}}" for name in values),), values)


def say(text: object) -> str:
    """A text for whoever reads it: in the language in use where it can be, without control characters in any case."""
    if not isinstance(text, Text) or _spoken == LANGUAGES[0]:
        return visible(str(text))
    one, *many = text.forms
    return n_(one, many[0], text.values["n"], **text.values) if many else _(one, **text.values)


def recognised(message: str, texts: Iterable[str]) -> str:
    """What a library says, as the first of these texts that fits it word by word, but for its {names}; else itself.

    >>> recognised("Missing argument 'STUDY'.", ["Missing argument {argument}."]).values
    {'argument': "'STUDY'"}
    """
    texts = list(texts)
    for text in texts:
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(text))
        pattern = re.sub(r"\\\{(\w+):,\\\}", r"(?P<\1>[0-9,]+)", pattern)
        if found := re.fullmatch(pattern, message, re.DOTALL):
            counts = set(re.findall(r"\{(\w+):,\}", text))
            values = {
                name: int(value.replace(",", "")) if name in counts else recognised(value, texts)
                for name, value in found.groupdict().items()
            }
            return later(text, **values)
    return message


def reason(error: BaseException) -> str:
    """What an exception says of itself, still to be said in the language in use where it was made so."""
    return error.args[0] if len(error.args) == 1 and isinstance(error.args[0], Text) else str(error)


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


# ----------------------------------------------------------------------------------------------- what can be shown

# A name may hold what moves a cursor, recolours a terminal or turns the line around: Unicode's controls and surrogates
# (bytes that are no UTF-8), what ends a line, and what changes its direction.
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str, keep: str = "\n\t") -> str:
    r"""A text with its control characters as escapes, but for those to keep; what can be shown stays as it is.

    >>> visible("cat\x1b[31m.png")
    'cat\\x1b[31m.png'
    """
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(sign: str) -> str:
    number = ord(sign)
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a file's name, as Python keeps one that is no UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


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


def minus(text: str) -> str:
    """A number of a page or a figure with its own sign, which stands on the line as + does."""
    return text.replace("-", "−")


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
