"""Files that are whole or not there: written under a temporary name beside them, flushed to the disk, renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError, system
from lockstep.language import later

HINT = later("choose a folder that you may write to")  # the command line adds the option by which


@contextlib.contextmanager
def writing(path: Path, hint: str) -> Iterator[None]:
    """Turn an OSError of the body, which writes `path`, into LockstepError: LS-502 for a full disk, else LS-501.

    `hint` says where else the file could go.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = later("free some space and try again")
            raise LockstepError("LS-502", later("the disk is full"), where=str(path), hint=hint) from error
        message = later("cannot write: {why}", why=system(error))
        raise LockstepError("LS-501", message, where=str(path), hint=hint) from error


@contextlib.contextmanager
def new_file(path: Path, hint: str, sync_name: bool = True) -> Iterator[Path]:
    """A temporary path for the body to write; it becomes `path` if the body ends well and vanishes if not.

    Without `sync_name` a later file of the same folder flushes this one's name too.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with writing(path, hint):
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            if sync_name:
                sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_strays(folder: Path) -> None:
    """Remove what `new_file` left half written in a folder, where the process that wrote it is gone."""
    for path in folder.glob(".*.part"):
        number = path.name.split(".")[-2]
        if number.isdecimal() and not is_alive(int(number)):
            with contextlib.suppress(OSError):
                path.unlink()


def is_alive(number: int) -> bool:
    """Whether there is a process of this number on this machine."""
    if sys.platform == "win32":  # there signal 0 is Ctrl-C, sent to every process of this console
        return is_alive_on_windows(number)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def is_alive_on_windows(number: int) -> bool:
    """Whether a process of this number is there, asked of the kernel: a signal of number 0 would end it."""
    import ctypes

    synchronize, is_not_there, is_running = 0x0010_0000, 87, 258  # SYNCHRONIZE, ERROR_INVALID_PARAMETER, WAIT_TIMEOUT
    kernel: Any = getattr(ctypes, "WinDLL")("kernel32", use_last_error=True)  # noqa: B009  # no attribute elsewhere
    kernel.OpenProcess.restype = ctypes.c_void_p
    if not 0 <= number < 2**32:
        return True
    if not (handle := kernel.OpenProcess(synchronize, False, number)):
        return bool(getattr(ctypes, "get_last_error")() != is_not_there)  # noqa: B009
    try:
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == is_running)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(handle))


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk: a rename that is not flushed can be undone by a power cut."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no such call
        return
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(number)
