"""A study to begin with: `lockstep init`. Every key that a study can have stands in it, with its default and its range.

A key behind a # has the value that is given there unless one says otherwise, so that taking a # away changes nothing
and shows where to write. What there is to say about the keys is read off the schema; only the networks are chosen here.
"""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from lockstep import arguments, backends
from lockstep.errors import LockstepError, did_you_mean
from lockstep.files import disk
from lockstep.language import _, joined, later, say
from lockstep.spec import BLOCKS, INITIALIZERS, JOINS, LAYERS, OPTIMIZERS, SCHEDULES, naming
from lockstep.spec.records import WRITTEN, as_toml
from lockstep.study import schema

WIDTH = 100
SCHEMA_FILE = "study.schema.json"
HINT = later("choose a folder that you may write to")


class Template(NamedTuple):
    """What a kind of study begins with: a sentence, the question, what is set and not left to its default."""

    what: str
    question: str
    study: dict[str, Any]
    recipe: dict[str, Any]
    networks: dict[str, tuple[tuple[str, ...], ...]]  # name → layers, those of a row on one line


MLP = (("flatten",), ("dense 64", "relu"), ("dense 32", "relu"), ("dense 10",))
CNN = (("conv2d 8 3", "relu", "max_pool2d"), ("flatten",), ("dense 10",))
TEMPLATES = {
    "mlp": Template(
        later("a multilayer perceptron"), later("How well does a multilayer perceptron do?"),
        {"dataset": "digits"}, {"epochs": 5, "batch_size": 32}, {"mlp": MLP},
    ),
    "cnn": Template(
        later("a convolutional network"), later("What does a convolution gain?"),
        {"dataset": "digits"}, {"epochs": 5, "batch_size": 32}, {"cnn": CNN},
    ),
    "lenet": Template(
        later("LeNet of 1998 in the words of today, for images of 28×28 and more"),
        later("What does LeNet reach, and is it the same in every framework?"),
        {"dataset": "mnist"}, {"epochs": 5, "batch_size": 64, "schedule": "cosine"},
        {"lenet": (
            ("conv2d 6 5 padding=same", "relu", "max_pool2d"), ("conv2d 16 5", "relu", "max_pool2d"),
            ("flatten",), ("dense 120", "relu"), ("dense 84", "relu"), ("dense 10",),
        )},
    ),
    "lab": Template(
        later("a laboratory's comparison: two networks in every framework, three seeds"),
        later("Is the same network the same network in every framework, and what does it cost in each?"),
        {"dataset": "mnist", "seeds": [0, 1, 2]}, {"epochs": 5, "schedule": "cosine", "validation": 0.1},
        {
            "mlp": (("flatten",), ("dense 100", "relu"), ("dense 100", "relu"), ("dense 10",)),
            "cnn": (
                ("conv2d 20 5", "relu", "max_pool2d"), ("conv2d 50 5", "relu", "max_pool2d"),
                ("flatten",), ("dense 500", "relu"), ("dense 10",),
            ),
        },
    ),
}  # fmt: skip
STUDY_KEYS = ("question", "name", "dataset", "backends", "seeds", "dtype", "device", "train_size", "format")


def new_study(path: str | PathLike[str], kind: str = "mlp") -> Path:
    """Write a study to begin with, in the language in use, and the JSON Schema for editors beside it; returns its path.

    `.toml` is added to a path that has no ending. Raises LockstepError: LS-209 for a kind that is none of TEMPLATES,
    LS-200 where there is such a file already, LS-501 and LS-502 where it cannot be written.
    """
    place = arguments.path(path, "path")
    place = place if place.suffix == ".toml" else place.with_name(f"{place.name}.toml")
    text = template(kind, naming.of_text(place.stem), place.name)
    if place.exists():
        hint = later("choose another name, or move it away")
        raise LockstepError("LS-200", later("there is such a file already"), where=str(place), hint=hint)
    with disk.writing(place, say(HINT)):
        place.parent.mkdir(parents=True, exist_ok=True)
    for file, content in ((place.with_name(SCHEMA_FILE), as_json()), (place, text)):
        if file is place or _is_ours(file):
            with disk.new_file(file, say(HINT)) as temporary, disk.writing(file, say(HINT)):
                temporary.write_text(content, encoding="utf-8")
    return place


def as_json() -> str:
    """The JSON Schema of a study as text."""
    return json.dumps(schema.study_schema(), indent=2, ensure_ascii=False) + "\n"


def _is_ours(file: Path) -> bool:
    """Whether there is no such file, or one of an earlier template's."""
    try:
        return not file.exists() or f'"title": "{schema.TITLE}"' in file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False


def template(kind: str, name: str, file: str) -> str:
    """The text of a study of this kind; `name` and `file` are what it is called."""
    if kind not in TEMPLATES:
        message = later('there is no template "{kind}"', kind=kind)
        raise LockstepError("LS-209", message, where="--kind", hint=did_you_mean(kind, TEMPLATES))
    chosen = TEMPLATES[kind]
    here = [one for one in backends.BACKENDS if backends.why_missing(one) is None]
    given = {"question": say(chosen.question), "backends": here, **chosen.study}
    return "\n".join([*_head(chosen, file), *_study(given, name), *_recipe(chosen.recipe), *_networks(chosen)]) + "\n"


def _head(chosen: Template, file: str) -> list[str]:
    shown = shlex.quote(file) if file.isprintable() else "STUDY"
    commands = {
        "run": later("train and write the report"),
        "show": later("layers, shapes, parameters; --resolved: every value and where it comes from"),
        "prove": later("do the backends take the same steps?"),
    }
    return [
        f"#:schema ./{SCHEMA_FILE}",
        *_comment(later("A study to begin with: {what}.", what=chosen.what)),
        "#",
        *(f"#     lockstep {command:<5} {shown:<16}  # {say(text)}" for command, text in commands.items()),
        "#",
        *_comment(
            later(
                "Every key that there is stands below, with its meaning and its values. One behind a # has the value "
                "that stands there unless you say otherwise: take the # away to change it."
            )
        ),
    ]


def _study(given: dict[str, Any], name: str) -> Iterator[str]:
    keys = {key.name: key for key in schema.keys_of("Study")}
    for key in STUDY_KEYS:
        more = {"dataset": schema.datasets(), "backends": ""}.get(key)
        example = f'"{name}"' if key == "name" else _shown(key)
        yield from _key(keys[key], given.get(key), example, more)


def _recipe(given: dict[str, Any]) -> Iterator[str]:
    yield from ("", "[recipe]")
    about = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES}
    tables = {"early_stopping": "EarlyStopping", "augmentation": "Augmentation"}
    for key in schema.keys_of("Recipe"):
        lines: Iterable[str] = ()
        if key.name in about:
            lines = _kinds(about[key.name])
        elif key.name in tables:
            lines = [f"#     {line}" for line in _values(schema.keys_of(tables[key.name]))]
        yield from _key(key, given.get(key.name), _shown(key.name), below=lines)


_BLOCK = '{residual = ["conv2d 8 3 padding=same"], join = "concat"}'


def _networks(chosen: Template) -> Iterator[str]:
    first = next(iter(chosen.networks))
    keys = {key.name: key for key in [*schema.keys_of("Study"), *schema.keys_of("Network")]}
    yield ""
    yield from _comment(joined(("[grid]", keys["grid"].meaning), ": "))
    yield from ("# [grid]", '# "optimizer.learning_rate" = [0.001, 0.01]', "")
    yield from _comment(joined(("[recipe_for]", keys["recipe_for"].meaning), ": "))
    yield from ("# [recipe_for]", f"# {first} = {{l2 = 0.001}}", "")
    yield from _comment(joined(("[networks]", keys["networks"].meaning), ": "))
    yield from _comment(later("A layer is a text, its values in the order given here or by name: dense 10 bias=false."))
    yield from _kinds(LAYERS)
    yield from _comment(
        later("A block of layers is a table, {example}, and stands where a layer may stand.", example=_BLOCK)
    )
    yield from _kinds(BLOCKS)
    yield from _comment(later("Branches of a block join:"))
    yield from _kinds(JOINS)
    for name, rows in chosen.networks.items():
        below = _kinds(INITIALIZERS) if name == first else ()
        yield from ("", f"[networks.{name}]")
        yield from _key(keys["layers"], None, None, is_shown=False)
        yield from ("layers = [", *(f"    {', '.join(map(as_toml, row))}," for row in rows), "]")
        yield from _key(keys["initializer"], None, _shown("initializer"), below=below)


def _key(
    key: schema.Key, given: Any, example: str | None, more: str | None = None, below: Iterable[str] = (),
    is_shown: bool = True,
) -> Iterator[str]:  # fmt: skip
    """What a key means and takes, and the key: with what the template sets, or behind a # with its default."""
    takes = more if more else key.takes
    yield ""
    yield from _comment(joined((key.meaning, " (", takes, ")"), "") if takes else key.meaning)
    yield from below
    if not is_shown:
        return
    default = example if example is not None else as_toml(_plain(key.default))
    if given is None:
        yield f"# {key.name} = {default}"
    else:
        said = _("by default {value}", value=default) if key.default not in (None, "") else ""
        line = f"{key.name} = {as_toml(_plain(given))}"
        yield f"{line}    # {said}" if said and _plain(given) != _plain(key.default) else line


def _shown(key: str) -> str | None:
    """How a key is written whose default shows nothing, where it has one at all."""
    return WRITTEN[key] if key in ("train_size", "clip_norm", "early_stopping", "optimizer", "initializer") else None


def _plain(value: Any) -> Any:
    """A list of one as the one value that may stand for it."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _kinds(kinds: dict[str, type]) -> Iterator[str]:
    """A line for each kind: its values in order, and which they may be."""
    for kind, record in kinds.items():
        values = "; ".join(_values(schema.keys_of(record.__name__)))
        whole = f"{kind}: {values}" if values else kind
        yield from textwrap.wrap(whole, WIDTH, initial_indent="#     ", subsequent_indent="#         ")


def _values(keys: Iterable[schema.Key]) -> Iterator[str]:
    for key in keys:
        default = "" if key.default is None else f"={as_toml(_plain(key.default))}".replace('"', "")
        default = default.replace("{kind = ", "").replace("}", "") if isinstance(key.default, dict) else default
        yield f"{key.name}{default} ({say(key.takes)})" if key.takes else f"{key.name}{default}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(say(text), WIDTH, initial_indent="# ", subsequent_indent="# ")
