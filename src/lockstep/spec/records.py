"""How a record works: checked fields, short forms, tables, and pydantic's errors in the words of a person.

A record is a frozen dataclass whose constructor checks its values. Records that can stand in one place, such as all
layers, are a family: each has a `kind`, which names it in TOML, and a short form, `"conv2d 20 5"` for `Conv2D(20, 5)`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar, cast, dataclass_transform, get_args

from pydantic import BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.dataclasses import rebuild_dataclass

from lockstep.errors import LockstepError, Problem, did_you_mean, nearest
from lockstep.language import joined, later, reason, recognised

_R = TypeVar("_R")
_CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[_R]) -> type[_R]:
    """Make a class a frozen record whose constructor checks its values and raises `LockstepError`."""
    return _telling(pydantic_dataclass(frozen=True, config=_CONFIG)(cls))


def completed(cls: type[_R]) -> type[_R]:
    """A record that speaks of what its module defines after it, once that is there."""
    rebuild_dataclass(cast(Any, cls), force=True)
    return _telling(cls)


def _telling(made: Any) -> Any:
    """The class, whose constructor says what is wrong in our words."""
    checked = made.__init__

    @functools.wraps(checked)
    def __init__(self: Any, *values: Any, **named: Any) -> None:
        try:
            checked(self, *values, **named)
        except ValidationError as error:
            raise LockstepError.several(problems_of(error, made)) from None

    made.__init__ = __init__
    return made


def changed(value: _R, **fields: Any) -> _R:
    """The record with some fields replaced, checked like any other."""
    return cast(_R, dataclasses.replace(cast(Any, value), **fields))


def kind(name: str) -> Any:
    """The field that names a record in its family; never given by position."""
    return dataclasses.field(default=name, kw_only=True, repr=False)


def pair(value: Any) -> Any:
    """5 → (5, 5); [5, 3] → (5, 3): height, width."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    return tuple(value) if isinstance(value, list) else value


def as_tuple(value: Any) -> Any:
    """A lone value is a list of one; TOML's lists become tuples."""
    if isinstance(value, str | int | float | dict):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def several(values: Any, **limits: Any) -> BeforeValidator:
    """`as_tuple` for a tuple of such values; `limits` of their number are repeated for the JSON Schema."""
    listed = Annotated[tuple[values, ...], Field(**limits)]
    return BeforeValidator(as_tuple, json_schema_input_type=values | listed)


def lists_of(values: Any, **limits: Any) -> BeforeValidator:
    """`as_tuple` for a tuple of lists of such values, of which a list of one may be written as that one."""
    one = values | Annotated[tuple[values, ...], Field(min_length=1)]
    return BeforeValidator(as_tuple, json_schema_input_type=Annotated[tuple[one, ...], Field(**limits)])


# Strict: TOML has types, so "5" is not 5 and true is not 1.
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Count = Annotated[Whole, Field(ge=1, le=1_000_000)]
Pair = Annotated[tuple[Count, Count], BeforeValidator(pair, json_schema_input_type=Count | tuple[Count, Count])]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, lt=1)]


def parse_word(text: str) -> Any:
    """One word of a short form or of `--set`: a TOML value where it is one, else the text itself.

    >>> parse_word("0.1"), parse_word("[5, 3]"), parse_word("same")
    (0.1, [5, 3], 'same')
    """
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # Python refuses whole numbers of more than 4,300 digits
        return text
    return document["value"] if document.keys() == {"value"} else text


LONGEST = 1000  # characters of a short form that are looked at
_WORD = re.compile(r"""(?:\[[^\]]*\]|'[^']*'|"[^"]*"|[^\s\['"])+|\S""")  # a list or a quoted text is one word


def _expand(kinds: Mapping[str, type], value: Any) -> Any:
    """The short form `"conv2d 20 [5, 3] padding=same"` as the table that it stands for."""
    if isinstance(value, Mapping):
        return _of_block(kinds, value)
    if not isinstance(value, str):
        return value
    kind, *words = [word.group() for word in itertools.islice(_WORD.finditer(value[:LONGEST]), 32)] or [""]
    if kind not in kinds:
        raise ValueError(later('unknown kind "{kind}"; {advice}', kind=kind, advice=did_you_mean(kind, kinds)))
    fields = [field.name for field in dataclasses.fields(kinds[kind]) if not field.kw_only]
    table: dict[str, Any] = {"kind": kind}
    for position, word in enumerate(words):
        name, equals, rest = word.partition("=")
        if not equals and position >= len(fields):
            facts = {"kind": kind, "most": len(fields), "names": ", ".join(fields), "n": len(words)}
            raise ValueError(later('"{kind}" takes at most {most} values ({names}), got {n}', **facts))
        key, text = (name, rest) if equals else (fields[position], word)
        if key in table:
            raise ValueError(later('"{key}" is given twice in "{text}"', key=key, text=value))
        table[key] = parse_word(text)
    return table


def _of_block(kinds: Mapping[str, type], table: Mapping[Any, Any]) -> Any:
    """`{residual = [...]}` as the table that it stands for: the kind's first field is given under the kind's name."""
    named = [] if "kind" in table else [name for name in BLOCKS if name in table and name in kinds]
    if len(named) != 1:
        return table
    (kind,) = named
    first = dataclasses.fields(cast(Any, BLOCKS[kind]))[0].name
    if first in table:
        raise ValueError(later('"{key}" is given twice, by its name and as "{kind}"', key=first, kind=kind))
    return {"kind": kind, **{first if name == kind else name: item for name, item in table.items()}}


def expanded(value: Any) -> Any:
    """A short form of any family as the table that it stands for; anything else as it is."""
    is_one = isinstance(value, str) and value.split() and value.split()[0] in KINDS
    return _expand(KINDS, value) if is_one else value


FAMILY_FIELDS = ("initializer", "bias_initializer", "optimizer", "schedule", "join")  # fields that hold one of a family
SHORT_FORMS = "short_forms_of"  # marks a text in a family's JSON Schema
BLOCKS: dict[str, type] = {}  # kinds whose table may have their name for its first key; filled by `branches`
KINDS: dict[str, type] = {}  # every kind of every family below, by its TOML name; filled by `kinds_of`


def kinds_of(union: Any) -> dict[str, type]:
    """A table kind → record of a family: a union of records, of which any may stand in one place."""
    kinds: dict[str, type] = {
        str(next(field.default for field in dataclasses.fields(cls) if field.name == "kind")): cls
        for cls in get_args(union)
    }
    KINDS.update(kinds)
    return kinds


def short_form(union: Any) -> BeforeValidator:
    """What lets a short form stand for one of a family."""
    kinds = kinds_of(union)
    tables = Annotated[union, Field(discriminator="kind")]
    short = Annotated[str, Field(json_schema_extra={SHORT_FORMS: list(kinds)})]  # `schema` says what they look like
    return BeforeValidator(functools.partial(_expand, kinds), json_schema_input_type=short | tables)


def to_table(value: Any) -> Any:
    """A record as TOML's own types, complete with defaults; keys without a value are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = sorted((field.name for field in dataclasses.fields(value)), key=lambda name: name != "kind")
        table = {name: to_table(getattr(value, name)) for name in names}
        return {name: item for name, item in table.items() if item is not None}
    if isinstance(value, Mapping):
        return {key: to_table(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_table(item) for item in value]
    return value


def digest(value: Any) -> str:
    """SHA-256 of a record, or of its table: the same for the same content, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(to_table(value), sort_keys=True).encode()).hexdigest()


def set_key(table: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; a short form or a missing table on the way becomes a table.

    Raises KeyError with the part of the key that leads through something that is not a table.
    """
    *path, last = key.split(".")
    for depth, part in enumerate(path):
        inner = table.get(part)
        inner = {} if inner is None else expanded(inner)
        if not isinstance(inner, dict):
            raise KeyError(".".join(path[: depth + 1]))
        table[part] = inner = dict(inner)
        table = inner
    table[last] = value


# ------------------------------------------------------------------------------------- pydantic's errors in our words


def _owner(location: tuple[Any, ...], root: type) -> type:
    """The record that holds the last key of an error's location."""
    owner = root
    for part in location[:-1]:
        field = getattr(owner, "__pydantic_fields__", {}).get(part)
        inner = _records_in(field.annotation) if field else []
        if part in KINDS:
            owner = KINDS[part]
        elif len(inner) == 1:
            owner = inner[0]
    return owner


def _records_in(annotation: Any) -> list[type]:
    """The records that a field's type speaks of."""
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _records_in(argument)]


def dotted(location: Iterable[Any]) -> str:
    """("networks", "cnn", "layers", 3, "kernel") → "networks.cnn.layers[3].kernel"."""
    text = ""
    for part in location:
        if part == "[key]":  # pydantic's note that the key itself is wrong
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _is_tag(location: tuple[Any, ...], position: int) -> bool:
    """Whether a part of a location is pydantic's note of the kind that it took, and no key of the file."""
    before = location[position - 1] if position else None
    return location[position] in KINDS and (isinstance(before, int) or before in FAMILY_FIELDS)


def _shown(value: Any) -> str:
    """The value as a message can hold it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, tables thousands deep
        return later("this {type}", type=type(value).__name__)
    return text if len(text) <= 60 else text[:57] + "…"


def range_in_words(context: Mapping[str, Any]) -> str:
    """The limits of a number, "gt", "ge", "lt", "le", in words."""
    words = {
        "gt": later("above {limit}", limit=context.get("gt")),
        "ge": later("at least {limit}", limit=context.get("ge")),
        "lt": later("below {limit}", limit=context.get("lt")),
        "le": later("at most {limit}", limit=context.get("le")),
    }
    found = [text for key, text in words.items() if key in context]
    return later("{low} and {high}", low=found[0], high=found[1]) if len(found) == 2 else joined(found)


def as_toml(value: Any) -> str:
    """A value, a tuple or a table as TOML writes it on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


# How a key is written that has no default, or one that shows nothing.
WRITTEN = {
    "networks": '{mlp = ["flatten", "dense 10"]}', "layers": '["flatten", "dense 10"]', "filters": "20", "kernel": "5",
    "units": "10", "stride": "2", "initializer": '"he_normal"', "bias_initializer": '"zeros"',
    "optimizer": '"adam 0.001"', "schedule": '"cosine"', "train_size": "1000", "clip_norm": "1.0",
    "question": '"Does it converge?"', "name": '"my-study"', "grid": '{"optimizer.learning_rate" = [0.001, 0.01]}',
    "recipe_for": "{mlp = {l2 = 0.001}}", "recipe": "{epochs = 10}", "augmentation": "{shift = 2}",
    "backends": '["numpy", "torch"]',
    "mistakes": '["rate_late"]', "shortcut": '["conv2d 16 1"]', "times": "3", "join": '"concat"',
    "branches": '[["conv2d 8 1"], ["conv2d 8 3 padding=same"]]',
    "early_stopping": '{monitor = "validation_loss", patience = 5}',
}  # fmt: skip


def example(owner: type, key: str) -> str:
    """How a key of a record is written: `epochs = 10`; of a kind's, in the kind's short form: `"conv2d 20 5"`.

    "" for a key that the record has not.
    """
    fields = {field.name: field for field in dataclasses.fields(cast(Any, owner))}
    if key not in fields or key == "kind":
        return ""
    if "kind" not in fields:
        return f"{key} = {_written(fields[key])}"
    needed = [field for field in fields.values() if _has_no_default(field) and not field.kw_only]
    if (name := str(fields["kind"].default)) in BLOCKS:
        first, *others = needed if fields[key] in needed else [*needed, fields[key]]
        pairs = [f"{name} = {_written(first)}", *(f"{field.name} = {_written(field)}" for field in others)]
        return f"{{{', '.join(pairs)}}}"
    words = [str(fields["kind"].default), *map(_written, needed)]
    more = [] if fields[key] in needed else [f"{key}={_written(fields[key])}".replace('"', "'")]
    return json.dumps(" ".join([*words, *more]), ensure_ascii=False)


def _has_no_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _written(field: dataclasses.Field[Any]) -> str:
    if field.name in WRITTEN:
        return WRITTEN[field.name]
    value = to_table(field.default)
    return as_toml(value[0] if isinstance(value, list) and len(set(map(repr, value))) == 1 else value)


MOST_PROBLEMS = 100
EXAMPLES = {  # field → a table in it
    "layers": '{kind = "dense", units = 10}',
    "optimizer": '{kind = "adam", learning_rate = 0.001}',
    "schedule": '{kind = "step", every = 5}',
    "join": '{kind = "concat"}',
    "initializer": '{kind = "normal", std = 0.1}',
    "bias_initializer": '{kind = "uniform", limit = 0.1}',
}
# What pydantic says of the rest.
MESSAGES = (
    later("tuple should have at most {most} items after validation, not {n}"),
    later("dictionary should have at most {most} items after validation, not {n}"),
    later("input should be a valid string"),
    later("keys should be strings"),
)
_TYPE_WORDS = {
    "int_type": later("a whole number"), "int_from_float": later("a whole number"),
    "int_parsing": later("a whole number"),
    "float_type": later("a number"), "float_parsing": later("a number"), "finite_number": later("a finite number"),
    "bool_type": later("true or false"), "bool_parsing": later("true or false"), "string_type": later("a text"),
    "tuple_type": later("a list"), "dict_type": later("a table"), "dataclass_type": later("a table"),
    "model_type": later("a table"),
}  # fmt: skip


def problems_of(error: ValidationError, root: type, where: str = "") -> list[Problem]:
    """What pydantic found, as problems whose `where` is the dotted key behind the prefix; of very many the first."""
    rows = error.errors(include_url=False)
    found = [_problem(dict(row), root, where) for row in rows[:MOST_PROBLEMS]]
    if len(rows) > MOST_PROBLEMS:
        message = later("{n:,} more of such errors are not listed", n=len(rows) - MOST_PROBLEMS)
        found.append(Problem(found[-1].code, message, "", later("mend those above first")))
    return found


def first_problem(error: ValidationError) -> str:
    """The first of what pydantic found, in a few words: for files of ours, which nobody mends by hand."""
    row = error.errors(include_url=False)[0]
    place, kind = dotted(row["loc"]), row["type"]
    if kind == "value_error":
        return joined(filter(None, (place, reason(row["ctx"]["error"]))), ": ")
    if kind == "missing":
        return later("{place} is missing", place=place)
    if place and kind in _TYPE_WORDS:
        return later("{found} is not {wanted}", found=place, wanted=later(_TYPE_WORDS[kind]))
    if kind.startswith(("greater", "less")):
        return later("{place} is {value}, which is out of range", place=place, value=row["input"])
    return later("{place} is not what it should be", place=place or later("its content"))


def _problem(row: dict[str, Any], root: type, prefix: str) -> Problem:
    location, kind, context = row["loc"], row["type"], row.get("ctx", {})
    if location and isinstance(location[0], int):  # given by position
        location = (dataclasses.fields(root)[location[0]].name, *location[1:])
    plain = [part for position, part in enumerate(location) if not _is_tag(location, position)]
    where, found = prefix + dotted(plain), _shown(row.get("input"))
    key_at = max((place for place, part in enumerate(location) if isinstance(part, str)), default=-1)
    key, owner = (str(location[key_at]) if key_at >= 0 else ""), _owner(location[: key_at + 1], root)

    def said(code: str, message: str, hint: str = "", key: str = key) -> Problem:
        return Problem(code, message, where, with_example(hint, example(owner, key)))

    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = [field.name for field in dataclasses.fields(cast(Any, owner))]
        near = nearest(str(plain[-1]), known)
        return said("LS-203", later('unknown key "{key}"', key=plain[-1]), did_you_mean(str(plain[-1]), known), near)
    if kind in ("missing", "missing_argument"):
        return said("LS-208", later('"{key}" is required', key=plain[-1]), later("add it"))
    if kind == "union_tag_not_found":
        hint = later("name it, for example {example}", example=EXAMPLES.get(str(plain[-1]), EXAMPLES["layers"]))
        return Problem("LS-208", later('this table has no "kind": {found}', found=found), where, hint)
    if kind == "union_tag_invalid":
        kinds = [word.strip(" '") for word in context["expected_tags"].split(",")]
        message = later('unknown kind "{kind}"', kind=context["tag"])
        shown = EXAMPLES.get(str(plain[-1]), EXAMPLES["layers"])
        return Problem("LS-209", message, where, with_example(did_you_mean(context["tag"], kinds), shown))
    if kind == "literal_error":
        most, comes, last = context["expected"].rpartition(" or ")
        choices = later("{most} or {last}", most=most, last=last) if comes else last
        return said(
            "LS-205",
            later("{found} is not one of {choices}", found=found, choices=choices),
            later("choose one of these"),
        )
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        message = later("{found} is out of range: it must be {range}", found=found, range=range_in_words(context))
        return said("LS-205", message, later("change the value"))
    if kind == "string_pattern_mismatch":
        hint = later("letters, digits, dot, dash and underscore, at most 64")
        return said(
            "LS-205", later("{found} is not a usable name", found=found), hint, "name" if key == "name" else "networks"
        )
    if kind == "too_short" and context.get("actual_length"):
        n, least = context["actual_length"], context["min_length"]
        return said("LS-205", later("it has {n}, and needs at least {least}", n=n, least=least), later("add another"))
    if kind == "too_short":
        return said("LS-205", later("it is empty"), later("give at least one"))
    if kind == "value_error":
        return said("LS-205", reason(context["error"]))
    if isinstance(row.get("input"), type) and row["input"].__name__ in {known.__name__ for known in KINDS.values()}:
        made = f"{row['input'].__name__}(…)"
        return Problem(
            "LS-204", later("this is the class, not one of it"), where, later("write {example}", example=made)
        )
    if kind in _TYPE_WORDS or kind in ("dataclass_type", "model_attributes_type"):
        wanted = later(_TYPE_WORDS.get(kind, "a table"))
        message = later("{found} is not {wanted}", found=found, wanted=wanted)
        return said("LS-204", message, later("give {wanted}", wanted=wanted))
    return said("LS-204", joined((found, recognised(row["msg"].lower(), MESSAGES)), ": "))


def with_example(hint: str, shown: str) -> str:
    """The hint and how it is written, where that is known."""
    if not shown:
        return hint
    if not hint:
        return later("for example: {example}", example=shown)
    end = "" if hint.endswith("?") else ","
    return joined((hint, end, " ", later("for example: {example}", example=shown)), "")
