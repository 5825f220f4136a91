"""The language of what people read: English in the code, other languages in `locale/<language>/*.po`.

There are two words. `_` says a text now, in the language in use: on pages and in tables. `later` makes a text that is
said later: whatever is kept, raised or passed on, since an error's message goes to a terminal in the language in use,
and to --json and a run folder in English. Whoever shows such a text at last calls `say`. `n_` and `n_later` do the same
with the form that goes with a number. Babel finds texts by these names, so modules import them by no other.

A sentence's English form is its key (GNU gettext). The .po files are compiled when Lockstep is installed (setup.py),
and the standard library reads the result. What is kept for programs stays English in every language: run folders,
--json, CSV, error codes. This is the lowest floor of the tree: it imports nothing else of Lockstep.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import re
import string
from collections.abc import Iterable, Iterator
from gettext import GNUTranslations, NullTranslations
from importlib import resources
from importlib.resources.abc import Traversable
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
    said = str(translations(_spoken).gettext(text)) if text else ""  # gettext keeps the catalog's head under ""
    return _FORMATTER.vformat(said, (), values) if values else said


def n_(one: str, many: str, n: int, /, **values: Any) -> str:
    """The form of a text that goes with a number, which it may use as {n}: Russian has three."""
    return _FORMATTER.vformat(translations(_spoken).ngettext(one, many, n), (), {"n": n, **values})


class _Formatter(string.Formatter):
    """Fills {names} in: other texts and formatted numbers as the language in use has them, controls as escapes."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Text):
            return format(say(value), format_spec)
        is_number = isinstance(value, int | float) and format_spec
        return number(format(value, format_spec)) if is_number else visible(super().format_field(value, format_spec))


_FORMATTER = _Formatter()


# ------------------------------------------------------------------------------------------- texts that are said later


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
    """The text in English, its {names} filled in; `say` has it in the language in use. Without values a form for `_`.

    >>> later("{failed} of {all} runs failed", failed=1, all=3)
    '1 of 3 runs failed'
    """
    return Text.of((text,), values)


def n_later(one: str, many: str, n: int, /, **values: Any) -> Text:
    """As `later`, with the form that goes with a number."""
    return Text.of((one, many), {"n": n, **values})


def digits(value: float, form: str) -> Text:
    """A number that is said later, as the language in use writes it.

    >>> digits(0.0821, ".2g")
    '0.082'
    """
    return Text.of((f"{{value:{form}}}",), {"value": value})


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
def translations(language: str) -> NullTranslations:
    """What the texts of the source are in this language; FileNotFoundError where its catalog was not compiled."""
    if language == LANGUAGES[0]:
        return NullTranslations()
    with catalog_of(language).open("rb") as file:
        return GNUTranslations(file)


def catalog_of(language: str) -> Traversable:
    """The compiled catalog of a language other than English; it is there where Lockstep was installed."""
    return resources.files("lockstep") / "locale" / language / "lockstep.mo"


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


@dataclasses.dataclass(frozen=True)
class Signs:
    """How a language writes numbers and times, as Unicode's tables of locales (CLDR) have it."""

    group: str
    decimal: str
    months: tuple[str, ...]
    moment: str


SIGNS = {
    "ru": Signs(
        group="\u00a0",
        decimal=",",
        months=(
            "января", "февраля", "марта", "апреля", "мая", "июня", "июля", "августа", "сентября", "октября", "ноября",
            "декабря",
        ),
        moment="{day} {month} {year}\u202fг., {time} {zone}",
    ),
}  # fmt: skip


def number(text: str) -> str:
    """A number as English writes it, as the language in use writes it.

    >>> number("1,234.5")
    '1,234.5'
    """
    if _spoken == LANGUAGES[0]:
        return text
    signs = SIGNS[_spoken]
    return text.translate({ord(","): signs.group, ord("."): signs.decimal})


def minus(text: str) -> str:
    """A number of a page or a figure with its own sign, which stands on the line as + does."""
    return text.replace("-", "−")


def as_english(text: str) -> str:
    """A text of the language in use with its numbers as English writes them."""
    if _spoken == LANGUAGES[0]:
        return text
    signs = SIGNS[_spoken]
    text = re.sub(rf"(?<=\d){re.escape(signs.decimal)}(?=\d)", ".", text)
    return re.sub(rf"(?<=\d){re.escape(signs.group)}(?=\d{{3}}(?!\d))", ",", text)


def moment(text: str) -> str:
    """A time as files keep it, as the language in use writes it; what is no time stays as it is.

    >>> moment("2026-01-02T03:04:05Z")
    '2026-01-02T03:04:05Z'
    """
    if _spoken == LANGUAGES[0]:
        return text
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        return text
    signs = SIGNS[_spoken]
    return signs.moment.format(
        day=when.day, month=signs.months[when.month - 1], year=when.year, time=when.strftime("%H:%M:%S"),
        zone=when.strftime("%z") if when.utcoffset() else "UTC",
    )  # fmt: skip
