"""A study's file: TOML text → `Study` with every error on its line, and back.

tomllib says where a file is not TOML, but not on which line a wrong value stands; `lines_of` finds that again in a text
that tomllib has accepted.
"""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import TypeAdapter, ValidationError

from lockstep import arguments, naming, reading
from lockstep.errors import LockstepError, Problem, did_you_mean, system
from lockstep.language import later as _
from lockstep.language import mark, reason, recognised
from lockstep.records import parse_word, problems_of, set_key, to_table
from lockstep.spec import Recipe, Study


def read_study(path: str | PathLike[str], settings: Iterable[str] = ()) -> Study:
    """The study in a TOML file, with `key=value` settings put over it.

    Raises LockstepError with every error of the file at once (LS-201 … LS-209).
    """
    path = located(path)
    try:
        with open(path, "rb") as file:
            content = file.read(reading.LARGEST_SPEC + 1)
        if len(content) > reading.LARGEST_SPEC:
            message = _("larger than {n:,} bytes", n=reading.LARGEST_SPEC)
            raise LockstepError("LS-201", message, where=str(path), hint=_("this is no study file"))
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        message = _("not UTF-8 at byte {n}", n=error.start)
        raise LockstepError("LS-202", message, where=str(path), hint=_("save it as UTF-8")) from error
    except (OSError, ValueError) as error:
        hint: str = _(
            'give the path of a study\'s TOML file, or the name of one of ours such as "lab-lenet"; '
            "to begin one: lockstep init NAME"
        )
        if _is_name(path) and (near := did_you_mean(path.name, own_studies())).startswith("did"):
            hint = near
        raise LockstepError("LS-201", _("cannot read: {why}", why=system(error)), where=str(path), hint=hint) from error
    return parse_study(text, str(path), settings, name=path.stem)


def own_studies() -> list[str]:
    """The studies that come with Lockstep, by name."""
    return sorted(path.name.removesuffix(".toml") for path in _own().iterdir() if path.name.endswith(".toml"))


def own_study(name: str) -> Path:
    """The file of one of them."""
    return Path(str(_own() / f"{name}.toml"))


def _own() -> Traversable:
    return resources.files("lockstep") / "studies"


def located(path: str | PathLike[str]) -> Path:
    """The path, or the file of the study of ours that it names where nothing else has this name."""
    path = arguments.path(path, "path")
    return own_study(path.name) if _is_name(path) and not path.exists() and path.name in own_studies() else path


def _is_name(path: Path) -> bool:
    return path.name == str(path) and not path.suffix


# What tomllib says most often.
TOML = (
    mark("{what} (at line {line}, column {column})"), mark("{what} (at end of document)"), mark("Invalid value"),
    mark("Invalid statement"), mark("Unterminated string"), mark("Unclosed array"), mark("Unclosed inline table"),
    mark("Cannot overwrite a value"), mark("Cannot declare {key} twice"), mark("Illegal character {sign}"),
    mark("Expected '=' after a key in a key/value pair"), mark("Expected ']' at the end of a table declaration"),
    mark("Expected ']]' at the end of an array declaration"), mark("Invalid initial character for a key part"),
    mark("Expected newline or end of document after a statement"), mark("Duplicate inline table key {key}"),
    mark("Unescaped {sign} in a string"), mark("Expected {what}"),
)  # fmt: skip


DIGITS = mark("Exceeds the limit ({limit} digits) for integer string conversion: value has {n} digits")


def parse_study(text: str, file: str = "", settings: Iterable[str] = (), name: str | None = None) -> Study:
    """The study in a TOML text; `file` is what its errors call it, `name` its name where it gives none.

    Without either it has that of the script that runs.
    """
    arguments.instance(text, str, "text", _("read_study reads a file"))
    try:
        document = reading.toml(text)
    except tomllib.TOMLDecodeError as error:
        raise LockstepError(
            "LS-202", recognised(str(error), TOML), where=file, hint=_("see https://toml.io for the notation")
        ) from error
    except ValueError as error:  # Python refuses whole numbers of more than 4,300 digits
        message = recognised(str(error).partition(";")[0], [DIGITS])
        raise LockstepError("LS-202", message, where=file, hint=_("no key takes it")) from error
    except RecursionError as error:
        hint = _("a study needs three levels")
        raise LockstepError("LS-202", _("nested too deeply"), where=file, hint=hint) from error
    document.setdefault("name", naming.of_script() if name is None else naming.of_text(name))
    settings = list(settings)
    problems = [problem for setting in settings for problem in _apply(document, setting)]
    try:
        study = TypeAdapter(Study).validate_python(document)
    except (ValidationError, RecursionError) as error:
        found = problems_of(error, Study) if isinstance(error, ValidationError) else []
        problems += found or [Problem("LS-202", _("nested too deeply"), "", _("a study needs three levels"))]
    if problems:
        raise LockstepError.several(_placed(problems, text, file, settings))
    return study


@contextlib.contextmanager
def placing(path: Path, settings: Sequence[str]) -> Iterator[None]:
    """Give the problems that the body raises about a study the file and line that their key stands on."""
    try:
        yield
    except LockstepError as error:
        text = path.read_text(encoding="utf-8", errors="replace")
        raise LockstepError.several(_placed(error.problems, text, str(path), settings)) from None


def _apply(document: dict[str, Any], setting: str) -> list[Problem]:
    """Put one `key=value` over the document; what is wrong with it, if anything."""
    key, equals, value = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        hint = _("write --set recipe.epochs=3")
        return [Problem("LS-200", _('"{text}" is not key=value', text=setting), "--set", hint)]
    _write_kind_out(document, key)
    try:
        set_key(document, key, parse_word(value.strip()))
    except KeyError as error:
        message = _('"{part}" is not a table, so "{key}" does not exist', part=error.args[0], key=key)
        return [Problem("LS-203", message, "--set", _("set it whole"))]
    except ValueError as error:  # a short form on the way is wrong in itself
        return [Problem("LS-205", reason(error), "--set", _("set it whole"))]
    return []


def _write_kind_out(document: dict[str, Any], key: str) -> None:
    """Before a setting into what a recipe has by default, as `recipe.optimizer.learning_rate` is: name its kind."""
    table, *path = key.split(".")
    recipe = document.setdefault(table, {}) if table == "recipe" and len(path) > 1 else None
    default = to_table(Recipe()).get(path[0]) if path else None
    if isinstance(recipe, dict) and isinstance(default, dict) and "kind" in default:
        recipe.setdefault(path[0], {"kind": default["kind"]})


def _placed(problems: Iterable[Problem], text: str, file: str, settings: Iterable[str]) -> Iterator[Problem]:
    """The problems with the file and the line of their keys, or with --set where that brought them."""
    asked, lines = {setting.partition("=")[0].strip() for setting in settings}, lines_of(text)
    for problem in problems:
        key = problem.where
        if key.startswith("--"):
            where = key
        elif any(key == setting or key.startswith((f"{setting}.", f"{setting}[")) for setting in asked):
            where = f"--set {key}"
        else:
            line = _line(lines, key)
            where = ": ".join(part for part in (f"{file}:{line}" if line else file, key) if part)
        yield Problem(problem.code, problem.message, where, problem.hint)


def _line(lines: dict[str, int], key: str) -> int | None:
    """The line of a key, or of the nearest part around it that the file has."""
    while key:
        for name in (key, key.replace(".layers[", "[")):  # a network may be written as the list of its layers
            if name in lines:
                return lines[name]
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return None


def resolved_toml(study: Study) -> str:
    """The study as TOML, with every default written out; reading it gives the same study again."""
    arguments.instance(study, Study, "study", _('make one with Study(…), or read one: load_study("study.toml")'))
    table = to_table(study)
    table = {key: table[key] for key in ("name", "question")} | table  # what a reader wants first
    return tomli_w.dumps({key: value for key, value in table.items() if value not in ({}, "")})


# ------------------------------------------------------------------------------------------------------- line numbers

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+|\#[^\n]*)|(?P<newline>\n)
    |(?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    |(?P<sign>[\[\]{},=.])|(?P<bare>[^\s\[\]{},=.#"']+)""",
    re.VERBOSE | re.DOTALL,
)


def lines_of(text: str) -> dict[str, int]:
    """Dotted key → line (from 1), for every key and array item of a text that is valid TOML.

    >>> lines_of('a.b = [1, {c = 2}]')
    {'a.b': 1, 'a.b[0]': 1, 'a.b[1]': 1, 'a.b[1].c': 1}
    """
    return _Lines(text).found


class _Lines:
    """One walk over the tokens of a valid document."""

    def __init__(self, text: str) -> None:
        self.found: dict[str, int] = {}
        self.tables: dict[str, int] = {}  # array of tables → how many of it there were
        self.tokens = list(self._tokens(text))
        self.at = 0
        self._document()

    def _tokens(self, text: str) -> Iterator[tuple[str, str, int]]:
        line = 1
        for match in _TOKEN.finditer(text):
            kind = str(match.lastgroup)
            if kind != "space":
                yield kind, match.group(), line
            line += match.group().count("\n")

    def _peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _take(self) -> tuple[str, str, int]:
        self.at += 1
        return self.tokens[self.at - 1]

    def _skip_newlines(self) -> None:
        while self._peek() == "\n":
            self.at += 1

    def _document(self) -> None:
        prefix = ""
        while self.at < len(self.tokens):
            self._skip_newlines()
            if not self._peek():
                return
            if self._peek() == "[":
                prefix = self._header()
            else:
                self._pair(prefix)

    def _header(self) -> str:
        brackets = 0
        while self._peek() == "[":
            self.at, brackets = self.at + 1, brackets + 1
        key, line = self._key("")
        self.at += brackets
        parts: list[str] = []
        for part in key.split("."):
            parts.append(part)
            whole = ".".join(parts)
            if whole in self.tables and whole != key:
                parts[-1] += f"[{self.tables[whole]}]"
        key = ".".join(parts)
        if brackets == 2:
            self.tables[key] = self.tables.get(key, -1) + 1
            self.found.setdefault(key, line)
            key += f"[{self.tables[key]}]"
        self.found.setdefault(key, line)
        return key

    def _key(self, prefix: str) -> tuple[str, int]:
        """A dotted key from here up to its sign, behind the prefix; each part of it is noted."""
        line = self.tokens[self.at][2]
        while True:
            kind, word, _ = self._take()
            word = word[1:-1] if kind == "text" else word
            prefix = f"{prefix}.{word}" if prefix else word
            if self._peek() != ".":
                return prefix, line
            self.found.setdefault(prefix, line)
            self.at += 1

    def _pair(self, prefix: str) -> None:
        key, line = self._key(prefix)
        self.found.setdefault(key, line)
        self.at += 1  # the equals sign
        self._value(key)

    def _value(self, key: str) -> None:
        sign = self._peek()
        if sign == "[":
            self._items(key)
        elif sign == "{":
            self._inline(key)
        else:  # a number or a date may hold dots: everything up to the next sign is one value
            while self.at < len(self.tokens) and (self._peek() == "." or self.tokens[self.at][0] in ("bare", "text")):
                self.at += 1

    def _items(self, key: str) -> None:
        self.at += 1
        index = 0
        while True:
            self._skip_newlines()
            if self._peek() in ("]", ""):
                self.at += 1
                return
            if self._peek() == ",":
                self.at += 1
                continue
            item = f"{key}[{index}]"
            self.found[item] = self.tokens[self.at][2]
            self._value(item)
            index += 1

    def _inline(self, key: str) -> None:
        self.at += 1
        while self._peek() not in ("}", ""):
            if self._peek() in (",", "\n"):
                self.at += 1
            else:
                self._pair(key)
        self.at += 1
