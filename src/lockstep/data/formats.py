"""What lies at a path: which reader takes it, or what is there instead and how it becomes a dataset.

A folder is known by what it holds, not by how it is called, and looked into where it only wraps another, as unpacked
archives do. `scripts` has what is refused by its kind.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from lockstep.data import images, npz, pixel_table, quartet, scripts
from lockstep.data.contents import Data, Facts
from lockstep.errors import LockstepError
from lockstep.language import later

DEPTH = 3  # folders in folders that are looked into
SHOWN = 6  # names of what is there instead
_BESIDES = {"__MACOSX"}  # what an archive of macOS unpacks to beside its content


class Format(NamedTuple):
    """How a thing at a path is read, and where it lies: further in, where folders only wrap it."""

    reader: ModuleType
    at: Path

    def read(self) -> Data:
        found: Data = self.reader.read(self.at)
        return found

    def facts(self) -> Facts:
        """What is known of it without decoding its images."""
        found: Facts = self.reader.facts(self.at)
        return found


def format_at(path: Path) -> Format:
    """The reader of what lies at a path, which exists; raises LockstepError LS-307 that names what is there."""
    if not os.path.isdir(path):
        return _of_file(path)
    inner, found = path, _of_folder(path)
    for _depth in range(DEPTH):
        if found:
            return found
        if (wrapped := _wrapped(inner)) is None:
            break
        inner, found = wrapped, _of_folder(wrapped)
    if images.is_image_folder(path):
        return Format(images, path)  # its reader says what keeps it from being a folder of pictures
    for inside in _visible(path):
        if refusal := scripts.refusal(inside):
            raise refusal
    message = later("nothing in this folder is a dataset; here are: {names}", names=_names(path))
    message = message if _visible(path) else later("the folder is empty")
    raise LockstepError("LS-307", message, where=str(path), hint=HINT)


HINT = later(
    "give a folder with four IDX files such as {names} (each may end in .gz), a folder with one subfolder of pictures "
    "per class, an .npz file, or a .csv with a label and pixels a row",
    names=", ".join(quartet.FILES.values()),
)


def _of_file(path: Path) -> Format:
    if path.suffix.lower() == ".npz":
        return Format(npz, path)
    if pixel_table.is_table(path):
        return Format(pixel_table, path)
    if refusal := scripts.refusal(path):
        raise refusal
    if quartet.is_one(path):
        hint = later("give the folder that it lies in, with the other three")
        raise LockstepError("LS-307", later("this is one file of four"), where=str(path), hint=hint)
    raise LockstepError("LS-307", later("this file is not a dataset"), where=str(path), hint=HINT)


def _of_folder(folder: Path) -> Format | None:
    """The reader of a folder that is a dataset itself."""
    if quartet.is_quartet(folder):
        return Format(quartet, folder)
    if pixel_table.in_folder(folder) and not images.holds_classes(folder):  # else it lists the pictures
        return Format(pixel_table, folder)
    archives = [path for path in _visible(folder) if path.suffix.lower() == ".npz" and path.is_file()]
    if len(archives) == 1:
        return Format(npz, archives[0])
    return Format(images, folder) if images.holds_classes(folder) else None


def _wrapped(folder: Path) -> Path | None:
    """The only subfolder of a folder, where it has just one."""
    folders = [path for path in _visible(folder) if path.is_dir() and path.name not in _BESIDES]
    return folders[0] if len(folders) == 1 else None


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []


def _names(folder: Path) -> str:
    names = [path.name for path in _visible(folder)]
    more = later(" and {n:,} more", n=len(names) - SHOWN) if len(names) > SHOWN else ""
    return ", ".join(json.dumps(name, ensure_ascii=False)[1:-1] for name in names[:SHOWN]) + str(more) or "–"
