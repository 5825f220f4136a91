"""Where every value of a study comes from: a place in its file, a setting, or its default.

A value may be given by itself (`epochs = 3`), inside a short form (`optimizer = "adam 0.01"` gives the rate and leaves
β₁ to its default) or as another network's name. What a setting replaces as a whole no longer comes from the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

from lockstep.language import Text, later
from lockstep.spec.records import expanded, to_table
from lockstep.spec.toml import Place, located, places_of, written
from lockstep.study.check import load_study


def resolved_values(
    path: str | PathLike[str], settings: Iterable[str] = (), networks: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Every value of a study as it will be run: rows of "key" (dotted), "value" (as JSON has it) and "source".

    `source` is `file:line:column`, `--set key`, "default" or "the file's name". `networks` keeps only these. Raises
    LockstepError as `load_study`.
    """
    path, settings = located(path), list(settings)
    study = load_study(path, settings, networks=list(networks))
    text = path.read_text(encoding="utf-8")
    sources = _Sources(str(path), places_of(text), written(text, settings), settings)
    table = to_table(study)
    table = {key: table[key] for key in sorted(table, key=lambda key: (key == "networks", key != "name"))}
    return [{"key": key, "value": value, "source": sources.of(key)} for key, value in _leaves(table)]


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{key}[{place}]")
    else:
        yield key, value


class _Sources:
    """What a file and settings say, by dotted key."""

    def __init__(self, file: str, places: Mapping[str, Place], document: Any, settings: Iterable[str]) -> None:
        self.file, self.places, self.document = file, places, document
        self.settings = [setting.partition("=")[0].strip() for setting in settings]

    def of(self, key: str) -> str | Text:
        """Where the value of a key comes from."""
        for asked in reversed(self.settings):
            if key == asked or (_is_below(key, asked) and self._gives(asked, key.removeprefix(asked))):
                return f"--set {asked}"
            if _is_below(key, asked):
                return later("default")
        for part, rest in _parts(key):
            if part not in self.places:
                continue
            if other := self._other_network(part):
                return self.of(f"networks.{other}{rest}")
            if not rest or self._gives(part, rest):
                return f"{self.file}:{self.places[part]}"
            break
        return later("the file's name") if key == "name" else later("default")

    def _gives(self, part: str, rest: str) -> bool:
        """Whether the value at a part of a key, a table or a short form, holds the rest of the key."""
        value = expanded(self._value(part))
        for name in _names(rest):
            if name == "layers" and isinstance(value, list):  # a network may be written as the list of its layers
                continue
            if not _holds(value, name):
                return False
            value = expanded(value[name])
        return True

    def _other_network(self, part: str) -> str:
        """The network that this one is a name for, or ""."""
        value = self._value(part) if re.fullmatch(r"networks\.[^\[]+", part) else None
        return value if isinstance(value, str) else ""

    def _value(self, key: str) -> Any:
        value = self.document
        for name in _names(key):
            if not _holds(value, name):
                return None
            value = value[name]
        return value


def _is_below(key: str, part: str) -> bool:
    return key.startswith((f"{part}.", f"{part}["))


def _holds(value: Any, name: str | int) -> bool:
    if isinstance(name, int):
        return isinstance(value, list) and name < len(value)
    return isinstance(value, Mapping) and name in value


def _parts(key: str) -> Iterator[tuple[str, str]]:
    """The key and what is around it, from within, each with the rest of the key behind it.

    Each also as it is where a network is the list of its layers.
    """
    part = key
    while part:
        for written_so in dict.fromkeys((part, part.replace(".layers[", "["))):
            yield written_so, key[len(part) :]
        part = part[: max(part.rfind("."), part.rfind("["), 0)]


def _names(key: str) -> Iterator[str | int]:
    """ "networks.a.layers[1].units" → "networks", "a", "layers", 1, "units"."""
    for part in key.split("."):
        name, *places = part.split("[")
        if name:
            yield name
        for place in places:
            yield int(place.rstrip("]"))
