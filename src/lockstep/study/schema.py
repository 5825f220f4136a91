"""What can stand in a study's file: its JSON Schema, for editors, and every key in words, for people.

Both are read off the records (`spec`), so that no list of keys is written twice. What pydantic knows of them is all but
three things, which are put in here: the short forms ("conv2d 20 5") as patterns, the `kind` that a table must name, and
what each key means. TOML has no null: a key without a value is left out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from lockstep import data
from lockstep.backends import BACKENDS
from lockstep.language import joined, later
from lockstep.spec import BLOCKS, INITIALIZERS, JOINS, LAYERS, OPTIMIZERS, SCHEDULES, Study
from lockstep.spec.records import KINDS, SHORT_FORMS, range_in_words

TITLE = "A study of Lockstep's"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
FAMILIES = {
    "Layer": LAYERS | BLOCKS, "Join": JOINS, "Optimizer": OPTIMIZERS, "Schedule": SCHEDULES,
    "Initializer": INITIALIZERS,
}  # fmt: skip

# Record and key → what it means. A key that is missing here has no comment in a template, and a test names it.
MEANINGS = {
    "Study": {
        "question": later("the question it asks; the report begins with it"),
        "name": later("the folder below runs/; by default the file's name"),
        "dataset": later("one name or path, or a list"),
        "backends": later("in which frameworks to train"),
        "seeds": later("one or a list; starting weights, order and dropout follow from it"),
        "dtype": later("in which precision, one or a list"),
        "device": later("where; cuda is a GPU of NVIDIA's"),
        "train_size": later("keep only so many training images, of each class its share; by default all"),
        "format": later("what starting weights and train_size mean; 1 repeats runs of earlier versions"),
        "recipe": later("how the networks are trained"),
        "networks": later("name → layers, or the name of another network"),
        "grid": later("key of the recipe → values to try, each with each"),
        "recipe_for": later("name of a network → keys of the recipe that are otherwise for it"),
    },
    "Recipe": {
        "optimizer": later("what makes steps of gradients"),
        "epochs": later("how often every training image is seen"),
        "batch_size": later("images of one step"),
        "loss": later("what is minimised"),
        "schedule": later("how the learning rate changes"),
        "label_smoothing": later("the share of a label that goes to all classes alike"),
        "l2": later("λ of ½·λ·‖kernel‖²; not part of the loss that is reported"),
        "clip_norm": later("the largest norm that gradients may have; by default any"),
        "validation": later("the share of the training images that is held out"),
        "early_stopping": later("stop where the monitor no longer improves; needs validation"),
        "augmentation": later("random changes of each image, anew every epoch: pixels, degrees, left–right"),
        "scaling": later("unit: pixel/255; standard: also without the training images' mean and deviation"),
        "loss_reduction": later("what is minimised is the mean over the batch or the sum"),
        "clip_scope": later("clip_norm limits the norm of all gradients together, or of each tensor"),
        "products": later("factors of products in full, or rounded as a GPU rounds them (float32 only)"),
        "mistakes": later("mistakes made on purpose: what do they cost?"),
    },
    "Network": {
        "layers": later("from the image to one output per class"),
        "initializer": later("what draws the kernels of layers that name none of their own"),
    },
}


class Key(NamedTuple):
    """A key of a record: what it means, its default as JSON has it (None where it has none), the values it takes."""

    name: str
    meaning: str
    default: Any
    takes: str
    is_required: bool


# -------------------------------------------------------------------------------------------------------- JSON Schema


def study_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a study's TOML file, short forms included."""
    return copy.deepcopy(_schema())


@cache
def _schema() -> dict[str, Any]:
    made = _rewritten(TypeAdapter(Study).json_schema())
    definitions = made.pop("$defs")
    for kind, record in KINDS.items():
        table = definitions[record.__name__]
        table["required"] = ["kind", *table.get("required", ())]
        table["properties"]["kind"] = {"const": kind}
    for family, kinds in FAMILIES.items():
        tables = [{"$ref": f"#/$defs/{record.__name__}"} for record in kinds.values()]
        short = [_short_form(kind, definitions[record.__name__]) for kind, record in kinds.items()]
        by_name = [_by_name(kind, definitions[kinds[kind].__name__]) for kind in BLOCKS if kind in kinds]
        definitions[family] = {"anyOf": [*short, *by_name, *tables]}
    for owner, keys in MEANINGS.items():
        properties = (made if owner == "Study" else definitions[owner])["properties"]
        for key, text in keys.items():
            properties[key] = {"description": text, **properties[key]}
    made["properties"]["backends"] |= _one_or_several({"enum": list(BACKENDS)})
    made["properties"]["dataset"]["examples"] = list(data.DATASETS)
    anything = {"type": ["string", "number", "boolean", "object"]}
    made["properties"]["grid"]["additionalProperties"] = _one_or_several(anything)
    made["properties"]["networks"] |= {"minProperties": 1, "maxProperties": 1000, "additionalProperties": False}
    made["properties"]["recipe_for"]["additionalProperties"] = False
    head = {"$schema": DIALECT, "title": TITLE, "description": "docs/study.md says what every key means."}
    return {**made, **head, "$defs": dict(sorted(definitions.items()))}


def _by_name(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """`{residual = [...]}`: the table without `kind`, whose first key is the kind's name."""
    first = next(name for name in table["properties"] if name != "kind")
    renamed = {first: kind}
    return {
        "type": "object", "additionalProperties": False, "description": summary(table),
        "required": [renamed.get(name, name) for name in table["required"] if name != "kind"],
        "properties": {renamed.get(name, name): node for name, node in table["properties"].items() if name != "kind"},
    }  # fmt: skip


def _one_or_several(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]}


def _rewritten(node: Any) -> Any:
    """The schema as a file can follow it: families by name, no null, no titles that only repeat their key."""
    if isinstance(node, list):
        return [_rewritten(item) for item in node]
    if not isinstance(node, dict):
        return node
    if options := node.get("anyOf"):
        family = next((_family(option) for option in options if SHORT_FORMS in option), None)
        kept = [option for option in options if option != {"type": "null"} and not _is_of_family(option)]
        kept = ([{"$ref": f"#/$defs/{family}"}] if family else []) + [_rewritten(option) for option in kept]
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "title", *_LENGTHS)}
        return _without_null({**rest, **(kept[0] if len(kept) == 1 else {"anyOf": kept})})
    dropped = ("title", *_LENGTHS) if node.get("type") == "object" else ("title",)
    kept_keys = {key: value for key, value in _without_null(node).items() if key not in dropped}
    return {
        key: {name: _rewritten(item) for name, item in value.items()} if key in _NAMED else _rewritten(value)
        for key, value in kept_keys.items()
    }


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """The node without a default that is none, in a table of defaults too."""
    default = node.get("default")
    if isinstance(default, dict):
        return node | {"default": {key: value for key, value in default.items() if value is not None}}
    return {key: value for key, value in node.items() if key != "default" or value is not None}


_LENGTHS = ("minLength", "maxLength")  # pydantic puts those of a list or a table beside its other forms
_NAMED = ("properties", "$defs", "patternProperties")  # their keys are names, whatever they are called


def _family(option: Mapping[str, Any]) -> str:
    return next(name for name, kinds in FAMILIES.items() if list(kinds) == option[SHORT_FORMS])


def _is_of_family(option: Mapping[str, Any]) -> bool:
    return SHORT_FORMS in option or "discriminator" in option


# -------------------------------------------------------------------------------------------------------- short forms

_ANY = r"""(?:\[[^\]]*\]|'[^']*'|"[^"]*"|[^\s\['"])+"""
_WHOLE = r"\+?[0-9][0-9_]*"
_NUMBER = r"[+-]?[0-9][0-9_]*(?:\.[0-9_]+)?(?:[eE][+-]?[0-9]+)?"


def _short_form(kind: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """A text of the kind: values in the order of the table, then any by name; what is required is there either way."""
    fields = {name: _pattern(node) for name, node in table["properties"].items() if name != "kind"}
    values, n = [rf"\s+{value}" for value in fields.values()], len(table["required"]) - 1
    named = rf"(?:\s+(?:{'|'.join(rf'{name}={value}' for name, value in fields.items())}))" if fields else ""
    optional = ""
    for value in reversed(values[n:]):
        optional = rf"(?:{value}{optional})?"
    ways = ["".join(values[:n]) + optional + (f"{named}*" if named else "")]
    ways += ["".join(values[:given]) + f"{named}{{{n - given},}}" for given in range(n)]
    return {"type": "string", "pattern": rf"^\s*{kind}(?:{'|'.join(ways)})\s*$", "description": summary(table)}


def _pattern(node: Mapping[str, Any]) -> str:
    """What a value of this kind looks like in a short form."""
    if choices := node.get("enum"):
        return rf"""['"]?(?:{"|".join(map(re.escape, choices))})['"]?"""
    if "anyOf" in node and all(option.get("type") in ("integer", "array") for option in node["anyOf"]):
        return rf"(?:{_WHOLE}|\[[^\]]*\])"
    return {"integer": _WHOLE, "number": _NUMBER, "boolean": "(?:true|false)"}.get(node.get("type", ""), _ANY)


def summary(table: Mapping[str, Any]) -> str:
    """The first sentence of what a kind is."""
    return str(table.get("description", "")).partition("\n")[0]


# --------------------------------------------------------------------------------------------------- the keys in words


def keys_of(owner: str) -> Iterator[Key]:
    """Every key of a record, by the record's name ("Study", "Recipe", "Conv2D" …), but `kind`."""
    table = _schema() if owner == "Study" else _schema()["$defs"][owner]
    meanings = MEANINGS.get(owner, {})
    for name, node in table["properties"].items():
        if name != "kind":
            is_required = name in table.get("required", ())
            yield Key(name, later(meanings.get(name, "")), node.get("default"), takes(node), is_required)


def takes(node: Mapping[str, Any]) -> str:
    """Which values a key takes, in words; "" where a family or a table says it."""
    if "enum" in node:
        return joined([str(value) for value in node["enum"]], ", ")
    if "anyOf" in node:
        return joined(list(dict.fromkeys(filter(None, map(takes, _unlisted(node["anyOf"]))))), "; ")
    words = {"integer": later("a whole number"), "boolean": "true, false"}
    limits = {short: node[long] for long, short in _LIMITS.items() if abs(node.get(long, 2**63)) < 2**63}
    found = [words.get(node.get("type", ""), ""), range_in_words(limits) if limits else ""]
    return joined(list(filter(None, found)), ", ")


_LIMITS = {"exclusiveMinimum": "gt", "minimum": "ge", "exclusiveMaximum": "lt", "maximum": "le"}


def _unlisted(options: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The options, and in place of a list what its items are."""
    for option in options:
        if option.get("type") != "array":
            yield option
        elif items := option.get("items"):
            yield items


def datasets() -> str:
    """The datasets that have a name, in words."""
    return later("{names}, or a path", names=", ".join(data.DATASETS))
