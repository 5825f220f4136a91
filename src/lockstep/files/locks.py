"""One process at a time: locks that die with their holder.

The system's own lock (flock; on Windows LockFileEx, both by way of filelock) lies on the file `lock` of a run folder.
It is gone with the last process that holds it, however that one ended, so a lock file that is left behind after kill -9
or a power cut holds nobody up. What stands in the file is for people: who holds it. On a network file system a lock is
as good as its server; where a file system has none at all, the lock is held as long as the process lives that the
file names, which leaves a gap when two begin at the same moment.

Windows keeps others from reading a byte that is locked, the first one. So who holds it stands behind that byte, which
is a blank. And a file that is open cannot be removed there: it is closed first, and stays with whoever opens it in
between.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError
from lockstep.files import disk
from lockstep.language import later

NAME = "lock"
ON_WINDOWS = os.name == "nt"
MOST_BYTES = 4096  # that are read of a lock file
PATIENCE_SECONDS = 10.0  # how long a holder that was killed may take to be gone, its worker with it
CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
HINT = disk.HINT


class Lock:
    """A lock that is held; a context manager that gives it back.

    `number` is the open file: a child that inherits it holds the lock too. `left_by` says who held it last and did not
    give it back, if anybody.
    """

    def __init__(self, path: Path, number: int, left_by: dict[str, Any] | None) -> None:
        self.path, self.number, self.left_by = path, number, left_by

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lock back. Its file is removed, so a child that still holds it keeps nobody out."""
        removes = [lambda: os.close(self.number), self.path.unlink]
        for step in removes if ON_WINDOWS else reversed(removes):
            with contextlib.suppress(OSError):
                step()


def inherited(held: Sequence[Lock]) -> dict[str, Any]:
    """What `subprocess.Popen` is told so that a child holds these locks too; on Windows it does not."""
    return {} if ON_WINDOWS else {"pass_fds": [lock.number for lock in held]}


def take(folder: Path) -> Lock:
    """Take the folder's lock; raises LockstepError (LS-504) with the holder's pid where another process works there."""
    path = folder / NAME
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        with disk.writing(path, HINT):
            number = _opened(path)
        try:
            got, found = has_locked(number), holder(path)
            got = not _is_alive(found) if got is None else got
            if got and _is_still(path, number):
                with disk.writing(path, HINT):
                    os.ftruncate(number, 0)
                    os.lseek(number, 0, os.SEEK_SET)
                    os.write(number, b" " + json.dumps(this_process()).encode())
                return Lock(path, number, found)
        except BaseException:
            os.close(number)
            raise
        os.close(number)
        if not got and (_is_alive(found) or time.monotonic() > until):
            raise _held(folder, found)
        time.sleep(0.02)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)


def has_locked(number: int) -> bool | None:
    """Whether this open file is locked now, by this process; None where the file system has no locks."""
    import filelock  # kept out of start-up

    try:
        return filelock.lock_descriptor(number, blocking=False)
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        return None


def _is_still(path: Path, number: int) -> bool:
    """Whether this open file is the one of that name: its last holder may have removed it in between."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False


def is_held(folder: Path) -> bool:
    """Whether a process works in this folder now; changes nothing."""
    try:
        number = os.open(folder / NAME, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would hold us up
    except OSError:
        return False
    try:
        got = has_locked(number)
        return _is_alive(holder(folder / NAME)) if got is None else not got
    finally:
        os.close(number)


def clear(folder: Path) -> None:
    """Remove the lock that a dead holder left; does nothing where a process works or the folder cannot be written.

    The child of a holder that was killed is waited for, as `take` does.
    """
    if (folder / NAME).is_file():
        with contextlib.suppress(LockstepError, OSError), take(folder):
            pass


def holder(path: Path) -> dict[str, Any] | None:
    """The holder that a lock file names, {"pid", "host", "boot", "since"}; None where it names none."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would hold us up
        try:
            os.lseek(number, 1, os.SEEK_SET)
            found = json.loads(os.read(number, MOST_BYTES))
        finally:
            os.close(number)
        return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else None
    return None


def this_process() -> dict[str, Any]:
    """The content of a lock file that this process holds."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "host": platform.node(), "boot": _boot(), "since": since}


def _boot() -> str | None:
    """An identifier of this start of the machine."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None


def _is_alive(found: dict[str, Any] | None) -> bool:
    """Whether a holder may still be alive; of a holder on another machine that cannot be ruled out."""
    if found is None or found.get("host") != platform.node():
        return found is not None
    if found.get("boot") != _boot():
        return False
    return disk.is_alive(found["pid"])


def _held(folder: Path, found: dict[str, Any] | None) -> LockstepError:
    message, hint = later("another process works on this run"), later("wait for it, or end it")
    if found is not None:
        facts = {"pid": found["pid"], "since": found.get("since"), "host": found.get("host")}
        message = later("process {pid} (since {since}) works on this run", **facts)
        if found.get("host") != platform.node():
            message = later("process {pid} on {host} (since {since}) works on this run", **facts)
            hint = later('wait for it, or end it; if it is no longer there, remove the file "{name}"', name=NAME)
    return LockstepError("LS-504", message, where=str(folder), hint=hint)


@contextlib.contextmanager
def briefly(folder: Path) -> Iterator[None]:
    """Lock the folder itself for work that takes no time; waits while other processes hold it.

    Windows locks no folder: there a file in it is locked instead.
    """
    with disk.writing(folder, HINT):
        number = _opened(folder / FOLDERS_NAME) if ON_WINDOWS else os.open(folder, os.O_RDONLY)
    try:
        _wait(number, None)
        yield
    finally:
        os.close(number)


@contextlib.contextmanager
def waiting(folder: Path, seconds: float, hint: str) -> Iterator[None]:
    """Lock a folder for work that takes a while, waiting at most so long; raises LockstepError (LS-501, LS-504).

    The locked file stays: a process that waits has it open. `hint`: what to do where the folder cannot be written.
    """
    with disk.writing(folder, hint):
        number = _opened(folder / FOLDERS_NAME)
    try:
        if not _wait(number, seconds):
            message = later("another process has held the lock for {seconds:.0f} seconds", seconds=seconds)
            raise LockstepError("LS-504", message, where=str(folder), hint=later("wait for it to finish, or end it"))
        yield
    finally:
        os.close(number)


FOLDERS_NAME = ".lock"


def _wait(number: int, seconds: float | None) -> bool:
    """Lock this open file; False where it took longer than `seconds`. A file system without locks holds nobody up."""
    until = None if seconds is None else time.monotonic() + seconds
    with contextlib.suppress(OSError):
        while has_locked(number) is False:
            if until is not None and time.monotonic() > until:
                return False
            time.sleep(0.005)
    return True
