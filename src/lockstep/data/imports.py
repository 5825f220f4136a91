"""The user's own datasets under a name: any source, read and checked once, kept as one npz in their data folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from lockstep.data import npz
from lockstep.data.catalogue import DATASETS
from lockstep.data.contents import Data
from lockstep.data.files import new_file, sole_writer, writing
from lockstep.data.places import imports
from lockstep.errors import LockstepError
from lockstep.language import later

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # as every name in a study


def store(read: Callable[[], Data], name: str) -> Path:
    """Keep what `read` returns under a new name; raises LockstepError LS-310 before it reads, LS-501, LS-502."""
    _assert_usable(name)
    path = imports() / f"{name}.npz"
    _assert_new(path, name)
    data = read()
    with sole_writer(path.parent):
        _assert_new(path, name)
        with new_file(path) as temporary, writing(path):
            npz.write(temporary, data)
    return path


def _assert_usable(name: str) -> None:
    if not _NAME.fullmatch(name) or name.lower().endswith(".npz"):
        message = later('"{name}" cannot be the name of a dataset', name=name[:80])
        hint = later("letters, digits, dot, dash and underscore, at most 64, not ending with .npz")
        raise LockstepError("LS-310", message, where="name", hint=hint)
    if name.lower() in DATASETS:
        message = later('"{name}" is a dataset that Lockstep knows already', name=name)
        raise LockstepError("LS-310", message, where="name", hint=later("choose another name"))


def _assert_new(path: Path, name: str) -> None:
    if path.exists():
        message = later('there is already a dataset "{name}"', name=name)
        hint = later("choose another name, or delete that file first; imports are never overwritten")
        raise LockstepError("LS-310", message, where=str(path), hint=hint)
