"""Whether a catalog of translations fits the source: `problems(paths, po)` names everything that is wrong with it.

`python -m support.catalogs` does so for every catalog: of the commands, the report, and the page to play with.

Texts are found as Babel finds them: in Python and Jinja, as arguments of `_`, `n_`, `later` and `n_later`.
"""

from __future__ import annotations

import functools
import string
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from babel.messages.extract import extract_from_file
from babel.messages.pofile import PoFileError, read_po
from typer.main import get_command

import lockstep
from lockstep import cli, language
from lockstep.cli import usage
from lockstep.explain.remedies import REMEDIES
from lockstep.proof.causes import CAUSES
from support import STUDY_FILES

SOURCES = Path(lockstep.__file__).parent
MESSAGES, REPORT, PLAY = (SOURCES / "locale" / "ru" / f"{name}.po" for name in ("messages", "report", "play"))
OTHERS = {"report", "play", "locale", "chapters", "studies", "__pycache__"}  # no texts of commands
OF_CAUSES = [text for cause in CAUSES.values() for text in (cause.what, cause.defaults, cause.mend)]
QUESTIONS = [tomllib.loads(path.read_text(encoding="utf-8"))["question"] for path in STUDY_FILES]
NOW_AND_LATER = {"_": None, "n_": (1, 2), "later": None, "n_later": (1, 2)}  # what `language` has texts called by
KEYWORDS = {**NOW_AND_LATER, "count": (2, 3)}  # `count` is that of report/words/quantities.py
RECORDS = {"Cause": (1, 3, 4)}  # classes of causes.py whose fields of these numbers are shown to people
METHODS = {".py": "python", ".html": "jinja2.ext:babel_extract"}
FORMS = {"ru": 3}  # of a plural


def texts(paths: Iterable[Path], keywords: Mapping[str, tuple[int, ...] | None] = KEYWORDS) -> dict[str, str | None]:
    """Every text of these files and folders with its plural, or with None where it has none."""
    found: dict[str, str | None] = {}
    for path in _files(paths):
        for message in _messages(path, keywords):
            one, many = message if isinstance(message, tuple) else (message, None)
            found[one] = many or found.get(one)
        for fields in _messages(path, RECORDS):
            found |= {text: found.get(text) for text in fields if text}
    return found


def _messages(path: Path, keywords: Mapping[str, tuple[int, ...] | None]) -> tuple[Any, ...]:
    """What the calls of these names in a file are given: a text, or a tuple of them."""
    return _extracted(path, path.stat().st_mtime_ns, tuple(keywords.items()))


@functools.cache  # a catalog that is planted wrong is held to the same sources
def _extracted(path: Path, _changed: int, keywords: tuple[tuple[str, Any], ...]) -> tuple[Any, ...]:
    found = extract_from_file(METHODS[path.suffix], path, keywords=dict(keywords))
    return tuple(message for _line, message, _comments, _context in found)


def held(code: str) -> dict[Any, str]:
    """A language's texts as the program holds them: what is taken out here is missing there."""
    return language.translations(code)._catalog  # type: ignore[attr-defined]


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(one for one in path.rglob("*") if one.suffix in METHODS) if path.is_dir() else [path]


def names(text: str) -> set[str]:
    """The {names} of a text."""
    return {name for _before, name, _spec, _conversion in string.Formatter().parse(text) if name is not None}


def problems(
    paths: Iterable[Path], po: Path, more: Iterable[str] = (),
    keywords: Mapping[str, tuple[int, ...] | None] = KEYWORDS,
) -> list[str]:  # fmt: skip
    """What a catalog lacks, has too much or has wrongly for the texts of these files, and for `more`.

    Empty where it fits.
    """
    try:
        with po.open("rb") as file:
            catalog = read_po(file, locale=po.parent.name, abort_invalid=True)
    except PoFileError as error:
        return [f"it cannot be read: {error}"]
    wanted = texts(paths, keywords) | dict.fromkeys(more)
    there = {message.id[0] if message.pluralizable else message.id: message for message in catalog if message.id}
    found = [f"missing: {text}" for text in wanted if text not in there]
    found += [f"not in the source: {text}" for text in there if text not in wanted]
    found += [f"out of use: {text}" for text in catalog.obsolete]
    forms = FORMS[po.parent.name]
    if catalog.num_plurals != forms:
        found.append(f"{catalog.num_plurals} plural forms, not {forms}")
    for text, message in there.items():
        said = message.string if isinstance(message.string, tuple) else (message.string,)
        many = message.id[1] if message.pluralizable else None
        if text in wanted and many != wanted[text]:
            found.append(f"another plural: {text}")
        if message.fuzzy:
            found.append(f"fuzzy: {text}")
        if len(said) != (forms if message.pluralizable else 1):
            found.append(f"{len(said)} forms: {text}")
        if not all(said):
            found.append(f"empty: {text}")
            continue
        found += [f"other {{names}}: {text} → {one}" for one in said if names(one) != names(many or text)]
        found += [f"other spaces at its ends: {text}" for one in said if _ends(one) != _ends(text)]
    return found


def _ends(text: str) -> tuple[bool, bool]:
    return text[:1].isspace(), text[-1:].isspace()


def tables() -> set[str]:
    """Texts of commands that are no arguments of `_`: those of helps, and of tables that are shown whole."""
    remedies = (text for row in REMEDIES.values() for text in vars(row).values())
    return {*usage.texts(get_command(cli.app)), *OF_CAUSES, *remedies}


def problems_of_messages(po: Path = MESSAGES) -> list[str]:
    paths = [
        path
        for path in sorted(SOURCES.iterdir())
        if path.name not in OTHERS and (path.is_dir() or path.suffix == ".py")
    ]
    return problems(paths, po, tables(), NOW_AND_LATER)


def problems_of_report(po: Path = REPORT) -> list[str]:
    return problems([SOURCES / "report"], po, [*OF_CAUSES, *QUESTIONS])


def problems_of_play(po: Path = PLAY) -> list[str]:
    return problems([SOURCES / "play"], po, (), NOW_AND_LATER)


if __name__ == "__main__":
    found = problems_of_messages() + problems_of_report() + problems_of_play()
    sys.exit("\n".join(found) or None)
