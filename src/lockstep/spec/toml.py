"""A study's file: TOML text → `Study` with every error on its line, and back.

tomllib says where a file is not TOML, but not on which line a wrong value stands; `lines_of` finds that again in a text
that tomllib has accepted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, cast

import tomli_w
from pydantic import TypeAdapter, ValidationError

from lockstep import arguments
from lockstep.errors import LockstepError, Problem, did_you_mean, system
from lockstep.files import intake
from lockstep.language import later, reason, recognised
from lockstep.spec import FORMAT, Recipe, Study, naming
from lockstep.spec.records import BLOCKS, dotted, parse_word, problems_of, set_key, to_table

# What else is wrong with a study, of which these keys were left out because they are wrong themselves.
Also = Callable[[Study, frozenset[str]], Iterable[Problem]]


def _nothing(study: Study, left_out: frozenset[str]) -> Iterable[Problem]:
    return ()


def read_study(path: str | PathLike[str], settings: Iterable[str] = (), also: Also = _nothing) -> Study:
    """The study in a TOML file, with `key=value` settings put over it.

    Raises LockstepError with every error of the file at once (LS-201 … LS-209); where there is any, `also` is asked
    what is wrong with the rest.
    """
    path = located(path)
    try:
        with open(path, "rb") as file:
            content = file.read(intake.LARGEST_SPEC + 1)
        if len(content) > intake.LARGEST_SPEC:
            message = later("larger than {n:,} bytes", n=intake.LARGEST_SPEC)
            raise LockstepError("LS-201", message, where=str(path), hint=later("this is no study file"))
        text = content.decode("utf-8")
        if (zero := content.find(b"\0")) >= 0:  # UTF-16 may pass for UTF-8
            raise UnicodeDecodeError("utf-8", content, zero, zero + 1, "a zero")
    except UnicodeDecodeError as error:
        message = later("not UTF-8 at byte {n}", n=error.start)
        raise LockstepError("LS-202", message, where=str(path), hint=later("save it as UTF-8")) from error
    except (OSError, ValueError) as error:
        hint: str = later(
            'give the path of a study\'s TOML file, or the name of one of ours such as "lab-lenet"; '
            "to begin one: lockstep init NAME"
        )
        if _is_name(path) and (near := did_you_mean(path.name, own_studies())).startswith("did"):
            hint = near
        raise LockstepError(
            "LS-201", later("cannot read: {why}", why=system(error)), where=str(path), hint=hint
        ) from error
    return parse_study(text, str(path), settings, name=path.stem, format=1 if is_written(path) else FORMAT, also=also)


def own_studies() -> list[str]:
    """The studies that come with Lockstep, by name."""
    files = _own().iterdir() if _own().is_dir() else ()  # a checkout without symbolic links has a file there
    return sorted(path.name.removesuffix(".toml") for path in files if path.name.endswith(".toml"))


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


def is_written(path: Path) -> bool:
    """Whether Lockstep wrote this description of one run: it lies in the folder of a run, a trace or a bundle."""
    beside = ("status.json", "environment.json", "plan.json")
    return path.name in ("spec.toml", "canonical.toml") and any((path.parent / name).exists() for name in beside)


BOM = "\ufeff"  # what Windows' editors begin a file in UTF-8 with

# What tomllib says most often.
TOML = (
    later("{what} (at line {line}, column {column})"), later("{what} (at end of document)"), later("Invalid value"),
    later("Invalid statement"), later("Unterminated string"), later("Unclosed array"), later("Unclosed inline table"),
    later("Cannot overwrite a value"), later("Cannot declare {key} twice"), later("Illegal character {sign}"),
    later("Expected '=' after a key in a key/value pair"), later("Expected ']' at the end of a table declaration"),
    later("Expected ']]' at the end of an array declaration"), later("Invalid initial character for a key part"),
    later("Expected newline or end of document after a statement"), later("Duplicate inline table key {key}"),
    later("Unescaped {sign} in a string"), later("Expected {what}"),
)  # fmt: skip


DIGITS = later("Exceeds the limit ({limit} digits) for integer string conversion: value has {n} digits")


def parse_study(
    text: str, file: str = "", settings: Iterable[str] = (), name: str | None = None, format: int = FORMAT,
    also: Also = _nothing,
) -> Study:  # fmt: skip
    """The study in a TOML text; `file` is what its errors call it, `name` its name and `format` that where it has none.

    Without either it has that of the script that runs. Raises as `read_study`.
    """
    arguments.instance(text, str, "text", later("read_study reads a file"))
    text = text.removeprefix(BOM)
    try:
        document = intake.toml(text)
    except tomllib.TOMLDecodeError as error:
        raise LockstepError(
            "LS-202", recognised(str(error), TOML), where=file, hint=later("see https://toml.io for the notation")
        ) from error
    except ValueError as error:  # Python refuses whole numbers of more than 4,300 digits
        message = recognised(str(error).partition(";")[0], [DIGITS])
        raise LockstepError("LS-202", message, where=file, hint=later("no key takes it")) from error
    except RecursionError as error:
        hint = later("a study needs three levels")
        raise LockstepError("LS-202", later("nested too deeply"), where=file, hint=hint) from error
    document.setdefault("format", format)
    document.setdefault("name", naming.of_script() if name is None else naming.of_text(name))
    settings = list(settings)
    problems = [problem for setting in settings for problem in _apply(document, setting)]
    try:
        study = _validated(document, settings)
    except (ValidationError, RecursionError) as error:
        found = problems_of(error, Study) if isinstance(error, ValidationError) else []
        found = [problem for problem in found if not _is_of_another(document, problem.where)]
        problems += found or [Problem("LS-202", later("nested too deeply"), "", later("a study needs three levels"))]
        problems += _with_the_rest(document, error, also) if found else []
    else:
        problems += also(study, frozenset()) if problems else []
    if problems:
        raise LockstepError.several(_placed(problems, text, file, settings))
    return study


def _validated(document: dict[str, Any], settings: Sequence[str]) -> Study:
    """The document as a study; what a setting gives for a text is the text that was typed, be it `name=1`."""
    try:
        return _STUDY.validate_python(document)
    except ValidationError as error:
        wants_text = {dotted(row["loc"]) for row in error.errors(include_url=False) if row["type"] == "string_type"}
        texts = {}
        for key, _equals, value in (setting.partition("=") for setting in settings):
            key, value = key.strip(), value.strip()
            if key in wants_text or (f"{key}[0]" in wants_text and not value.startswith("[")):  # of a list the one item
                texts[key] = value
        for key, value in texts.items():
            with contextlib.suppress(KeyError, ValueError):  # of a setting that was wrong in itself
                set_key(document, key, value)
        if not texts:
            raise
        return _STUDY.validate_python(document)


def written(text: str, settings: Iterable[str] = ()) -> dict[str, Any]:
    """What a text that is a study's says, with the settings put over it, as plain tables."""
    document = intake.toml(text)
    for setting in settings:
        _apply(document, setting)
    return document


def _is_of_another(document: dict[str, Any], where: str) -> bool:
    """Whether what is wrong there is a layer of another network, which this one is a name for."""
    networks = document.get("networks")
    named = {name for name, value in networks.items() if isinstance(value, str)} if isinstance(networks, dict) else ()
    return any(where.startswith(f"networks.{name}.layers[") for name in named)


_STUDY = TypeAdapter(Study)
NAMED = ("networks", "recipe_for", "recipe")  # tables of which one entry may be wrong and the others right
STAND_IN = "stand-in"  # for networks of which none is right


def _with_the_rest(document: dict[str, Any], error: Any, also: Also) -> Iterable[Problem]:
    """What `also` finds in a document without what is wrong in itself: "networks.a", "recipe", "dataset" …"""
    left_out: set[str] = set()
    for _attempt in range(3):  # a network may be another's name, which is left out
        if not isinstance(error, ValidationError):
            return ()
        places = {row["loc"][:2] for row in error.errors(include_url=False)}  # of which there may be 40,000
        document = _without(document, places)
        left_out |= {".".join(map(str, place[:depth])) for place in places for depth in (1, 2) if place}
        if not document.get("networks"):
            document = document | {"networks": {STAND_IN: ["flatten", "dense 10"]}}
            left_out.add(f"networks.{STAND_IN}")
        try:
            return also(_STUDY.validate_python(document), frozenset(left_out))
        except (ValidationError, RecursionError) as another:
            error = another
    return ()


def _without(document: dict[str, Any], places: set[tuple[Any, ...]]) -> dict[str, Any]:
    """The document without the keys at these places, or without the entries of a table that hold them."""
    whole = {place[0] for place in places if place and (place[0] not in NAMED or len(place) == 1)}
    entries = {place for place in places if place and place[0] not in whole}
    return {
        key: {name: inner for name, inner in value.items() if (key, name) not in entries}
        if key in NAMED and isinstance(value, dict)
        else value
        for key, value in document.items()
        if key not in whole and not (key in {place[0] for place in entries} and not isinstance(value, dict))
    }


@contextlib.contextmanager
def placing(path: Path, settings: Sequence[str]) -> Iterator[None]:
    """Give the problems that the body raises about a study the file and line that their key stands on."""
    try:
        yield
    except LockstepError as error:
        text = path.read_text(encoding="utf-8", errors="replace").removeprefix(BOM)
        raise LockstepError.several(_placed(error.problems, text, str(path), settings)) from None


def _apply(document: dict[str, Any], setting: str) -> list[Problem]:
    """Put one `key=value` over the document; what is wrong with it, if anything."""
    key, equals, value = setting.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        hint = later("for example recipe.epochs=3")
        return [Problem("LS-200", later('"{text}" is not key=value', text=setting), "--set", hint)]
    _write_kind_out(document, key)
    try:
        set_key(document, key, parse_word(value.strip()))
    except KeyError as error:
        message = later('"{part}" is not a table, so "{key}" does not exist', part=error.args[0], key=key)
        return [Problem("LS-203", message, "--set", later("set it whole"))]
    except ValueError as error:  # a short form on the way is wrong in itself
        return [Problem("LS-205", reason(error), "--set", later("set it whole"))]
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
    asked, lines = {setting.partition("=")[0].strip() for setting in settings}, places_of(text)
    for problem in problems:
        key = problem.where
        if key.startswith("--"):
            where = key
        elif any(key == setting or key.startswith((f"{setting}.", f"{setting}[")) for setting in asked):
            where = f"--set {key}"
        else:
            place = _place(lines, key, problem.code in OF_KEYS)
            where = ": ".join(part for part in (f"{file}:{place}" if place else file, key) if part)
        yield Problem(problem.code, problem.message, where, problem.hint)


OF_KEYS = ("LS-203", "LS-208")  # codes of what is wrong with a key, and not with its value


def _place(places: dict[str, Place], key: str, is_of_key: bool) -> Place | None:
    """Where a key stands, or its value; of one that the file has not, the nearest part around it."""
    while key:
        for name in (key, key.replace(".layers[", "[", 1)):  # a network may be written as the list of its layers
            if name in places:
                return places[name] if is_of_key else places.get(f"{name}{VALUE}", places[name])
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return None


def resolved_toml(study: Study) -> str:
    """The study as TOML, with every default written out; reading it gives the same study again."""
    arguments.instance(study, Study, "study", later('make one with Study(…), or read one: load_study("study.toml")'))
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


class Place(NamedTuple):
    """A line and a column of a text, both from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


VALUE = " ="  # behind a key: where its value begins
_FIRST_KEYS = {kind: dataclasses.fields(cast(Any, block))[0].name for kind, block in BLOCKS.items()}
_FIRST = re.compile(rf"(?<=\])\.({'|'.join(_FIRST_KEYS)})(?=\[|\.|{VALUE}|$)")


def places_of(text: str) -> dict[str, Place]:
    """Dotted key → place, for every key and array item of a text that is valid TOML; behind VALUE, of its value.

    >>> places_of('a.b = [1]')
    {'a': Place(line=1, column=1), 'a.b': Place(line=1, column=3), 'a.b =': Place(line=1, column=7), \
'a.b[0]': Place(line=1, column=8)}
    """
    return _Places(text).found


def lines_of(text: str) -> dict[str, int]:
    """Dotted key → line (from 1), for every key and array item of a text that is valid TOML.

    >>> lines_of('a.b = [1, {c = 2}]')
    {'a': 1, 'a.b': 1, 'a.b[0]': 1, 'a.b[1]': 1, 'a.b[1].c': 1}
    """
    return {key: place.line for key, place in places_of(text).items() if not key.endswith(VALUE)}


class _Places:
    """One walk over the tokens of a valid document."""

    def __init__(self, text: str) -> None:
        self.found: dict[str, Place] = {}
        self.tables: dict[str, int] = {}  # array of tables → how many of it there were
        self.tokens = list(self._tokens(text))
        self.at = 0
        self._document()
        for key, place in list(self.found.items()):  # {residual = [...]} is {kind = "residual", layers = [...]}
            written_out = _FIRST.sub(lambda match: f".{_FIRST_KEYS[match.group(1)]}", key)
            self.found.setdefault(written_out, place)

    def _tokens(self, text: str) -> Iterator[tuple[str, str, Place]]:
        line, start = 1, 0
        for match in _TOKEN.finditer(text):
            kind = str(match.lastgroup)
            if kind != "space":
                yield kind, match.group(), Place(line, match.start() - start + 1)
            if breaks := match.group().count("\n"):
                line, start = line + breaks, match.start() + match.group().rindex("\n") + 1

    def _peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def _take(self) -> tuple[str, str, Place]:
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
        key, place = self._key("")
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
            self.found.setdefault(key, place)
            key += f"[{self.tables[key]}]"
        self.found.setdefault(key, place)
        return key

    def _key(self, prefix: str) -> tuple[str, Place]:
        """A dotted key from here up to its sign, behind the prefix, with the place of its last part."""
        while True:
            kind, word, place = self._take()
            word = word[1:-1] if kind == "text" else word
            prefix = f"{prefix}.{word}" if prefix else word
            if self._peek() != ".":
                return prefix, place
            self.found.setdefault(prefix, place)
            self.at += 1

    def _pair(self, prefix: str) -> None:
        key, place = self._key(prefix)
        self.found.setdefault(key, place)
        self.at += 1  # the equals sign
        if self.at < len(self.tokens):
            self.found.setdefault(f"{key}{VALUE}", self.tokens[self.at][2])
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
