"""A disk that fails: the i-th open, write, fsync or rename below a folder, counted over all processes of a command.

`CUT` is a power cut: every process ends there, and what was written but not flushed is gone, names like contents.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import mmap
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

CUT = 0  # no errno
KINDS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "CUT": CUT}


class Disk:
    """Fails at operation `number` (from 1) of those below `folder`: `kind`, once or `for_good`."""

    def __init__(self, folder: Path, number: int, kind: str, for_good: bool) -> None:
        self.folder, self.number, self.kind, self.for_good = os.path.realpath(folder), number, KINDS[kind], for_good
        self.count = _shared_count(Path(f"{self.folder}.operations"))
        self.contents: dict[str, int] = {}  # a file with content that is not flushed → how much of it is
        self.names: dict[str, Callable[[], object]] = {}  # a name that is not flushed → what a power cut does to it
        self.real = {"open": io.open, "os.open": os.open, "write": os.write, "fsync": os.fsync, "mkdir": os.mkdir}
        self.real |= {"replace": os.replace, "rename": os.rename}

    @property
    def operations(self) -> int:
        """How many there have been."""
        return int(struct.unpack("q", self.count[:8])[0])

    def install(self) -> None:
        """From now on, in this process and in those forked from it."""
        builtins.open = io.open = self._open  # type: ignore[assignment]
        os.open, os.write, os.fsync, os.mkdir = self._os_open, self._os_write, self._fsync, self._mkdir
        os.replace = self._renaming("replace")  # type: ignore[assignment]
        os.rename = self._renaming("rename")  # type: ignore[assignment]

    def strike(self, path: str, half: Callable[[], object] = lambda: None) -> None:
        """Count one operation; where it is the one to fail, leave `half` of it done and fail."""
        self.count[:8] = struct.pack("q", self.operations + 1)
        if self.operations == self.number or (self.for_good and self.operations > self.number):
            half()
            if self.kind == CUT:
                self._cut()
            raise OSError(self.kind, os.strerror(self.kind), path)

    def _cut(self) -> None:
        for path, flushed in self.contents.items():
            with contextlib.suppress(OSError):
                os.truncate(path, flushed + (os.stat(path).st_size - flushed) // 2)
        for undo in reversed(list(self.names.values())):
            with contextlib.suppress(OSError):
                undo()
        os.killpg(0, 9)

    def _is_ours(self, path: Any) -> bool:
        if isinstance(path, int) or not isinstance(path, str | os.PathLike):
            return False
        return os.path.realpath(path).startswith(f"{self.folder}{os.sep}")

    def _open(self, path: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if not self._is_ours(path):
            return self.real["open"](path, mode, *rest, **named)
        path = os.path.realpath(path)
        self.strike(path)
        file = self.real["open"](path, mode, *rest, **named)
        return _File(file, self, path) if set(mode) & set("wax+") else file

    def _os_open(self, path: Any, *rest: Any, **named: Any) -> int:
        if self._is_ours(path):
            self.strike(os.path.realpath(path))
        return int(self.real["os.open"](path, *rest, **named))

    def _os_write(self, number: int, content: bytes) -> int:
        path = os.path.realpath(f"/proc/self/fd/{number}")
        if self._is_ours(path):
            self.strike(path)
        return int(self.real["write"](number, content))

    def _fsync(self, number: int) -> None:
        path = os.path.realpath(f"/proc/self/fd/{number}")
        if self._is_ours(path):
            self.strike(path)
        self.real["fsync"](number)
        self.synced(path)

    def synced(self, path: str) -> None:
        """A file's content is on the disk, or a folder's names are."""
        self.contents.pop(path, None)
        for name in [name for name in self.names if os.path.dirname(name) == path]:
            del self.names[name]

    def _mkdir(self, path: Any, *rest: Any, **named: Any) -> None:
        self.real["mkdir"](path, *rest, **named)
        path = os.path.realpath(path)
        if self._is_ours(path) and self.kind == CUT:
            self.names[path] = lambda: shutil.rmtree(path)

    def _renaming(self, name: str) -> Callable[..., None]:
        def rename(old: Any, new: Any, **named: Any) -> None:
            if not self._is_ours(new):
                return self.real[name](old, new, **named)
            old, new = os.path.realpath(old), os.path.realpath(new)
            self.strike(new)
            before = None
            if self.kind == CUT and os.path.exists(new):
                with self.real["open"](new, "rb") as file:
                    before = file.read()
            self.real[name](old, new, **named)
            self.contents.pop(new, None)
            if old in self.contents:
                self.contents[new] = self.contents.pop(old)
            self.names.setdefault(new, lambda: self._put_back(new, before))
            return None

        return rename

    def _put_back(self, path: str, before: bytes | None) -> None:
        if before is None:
            return os.unlink(path)
        with self.real["open"](path, "wb") as file:
            file.write(before)
        return None


def _shared_count(path: Path) -> mmap.mmap:
    """Eight bytes that all processes see which map this file."""
    with open(path, "a+b") as file:
        file.truncate(8)
        return mmap.mmap(file.fileno(), 8)


class _File:
    """An open file whose writes may fail."""

    def __init__(self, file: Any, disk: Disk, path: str) -> None:
        self.file, self.disk, self.path = file, disk, path

    def write(self, content: Any) -> int:
        self.disk.contents.setdefault(self.path, os.stat(self.path).st_size)
        self.disk.strike(self.path, lambda: (self.file.write(content[: len(content) // 2]), self.file.flush()))
        return int(self.file.write(content))

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def __iter__(self) -> Any:
        return iter(self.file)
