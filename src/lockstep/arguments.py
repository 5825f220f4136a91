"""Arguments of the package's public functions, checked and converted; one of another kind is an error in words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from lockstep.errors import LockstepError
from lockstep.language import LANGUAGES, catalog_of, later

_K = TypeVar("_K")
LANGUAGE = "LOCKSTEP_LANGUAGE"  # the environment's variable


def language_of_environment() -> str:
    """The language that LOCKSTEP_LANGUAGE asks for, English where it is not set; raises LockstepError (LS-205)."""
    return known_language(os.environ.get(LANGUAGE) or LANGUAGES[0], LANGUAGE)


def known_language(name: str, where: str) -> str:
    """One of the languages; raises LockstepError (LS-205) for any other, LS-505 where its texts are missing."""
    if name in LANGUAGES:
        if name != LANGUAGES[0] and not (catalog := catalog_of(name)).is_file():
            hint = later("install Lockstep again; in a checkout: make catalogs")
            message = later('the texts of language "{name}" are not installed', name=name)
            raise LockstepError("LS-505", message, where=str(catalog), hint=hint)
        return name
    hint = later("one of {names}", names=", ".join(LANGUAGES))
    raise LockstepError("LS-205", later('there is no language "{name}"', name=name), where=where, hint=hint)


def path(value: Any, name: str) -> Path:
    """A path given as a text or as a Path; raises LockstepError (LS-204) for anything else."""
    if isinstance(value, str | os.PathLike) and isinstance(os.fspath(value), str) and os.fspath(value):
        return Path(value)
    raise _wrong(value, name, later("a path, as a text or a Path"), later('for example {name}="runs"', name=name))


def paths(value: Any, name: str) -> list[Path]:
    """One path or several, each given as a text or as a Path."""
    return [path(one, name) for one in several(value, name, later("a path, or a list of paths"))]


def texts(value: Any, name: str) -> list[str]:
    """A list of texts, or one alone; raises LockstepError (LS-204) for anything else, None among it."""
    wanted = later("a list of texts")
    found = several(value, name, wanted)
    for one in found:
        if not isinstance(one, str):
            raise _wrong(one, name, wanted)
    return found


def function(value: Any, name: str) -> Any:
    """What can be called; raises LockstepError (LS-204) for anything else."""
    if callable(value):
        return value
    raise _wrong(value, name, later("a function"))


def several(value: Any, name: str, wanted: str) -> list[Any]:
    """A list given as any iterable, or one alone that stands for a list of one."""
    if isinstance(value, str | os.PathLike):
        return [value]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return list(value)
    raise _wrong(value, name, wanted)


def instance(value: Any, kind: type[_K], name: str, hint: str) -> _K:
    """A value that has to be one of a class; raises LockstepError (LS-204) with this hint where it is none."""
    if isinstance(value, kind):
        return value
    wanted = later("a text") if kind is str else later("a {name}", name=kind.__name__)
    raise _wrong(value, name, wanted, hint)


def whole(value: Any, name: str) -> int:
    """A whole number; raises LockstepError (LS-204) for anything else, True and 2.0 among it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _wrong(value, name, later("a whole number"))


def index(value: Any, name: str, n: int) -> int:
    """The place, from 0, of one of n; raises LockstepError (LS-204, LS-205)."""
    if not 0 <= whole(value, name) < n:
        message = later("{value} is none of the first {n}", value=value, n=n)
        raise LockstepError("LS-205", message, where=name, hint=later("one of 0 to {last}", last=n - 1))
    return value


def _wrong(value: Any, name: str, wanted: str, hint: str = "") -> LockstepError:
    try:
        shown = repr(value)
    except Exception:  # somebody else's class
        shown = ""
    shown = shown if 0 < len(shown) <= 60 and "\n" not in shown else "…"
    found = {"wanted": wanted, "value": shown, "type": type(value).__name__}
    return LockstepError(
        "LS-204", later("{wanted} is wanted here, not {value} ({type})", **found), where=name, hint=hint
    )
