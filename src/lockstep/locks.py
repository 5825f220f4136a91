"""One process at a time: locks that die with their holder.

The system's own lock (flock) lies on the file `lock` of a run folder. It is gone with the last process that holds it,
however that one ended, so a lock file that is left behind after kill -9 or a power cut holds nobody up. What stands in
the file is for people: who holds it. On a network file system flock is as good as its server; where a file system has
no locks at all, the process that the file names has to do, which leaves a gap when two begin at the same moment.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep import files, reading
from lockstep.errors import LockstepError
from lockstep.language import later as _

try:
    import fcntl
except ImportError:  # Windows: no lock, and nothing that says otherwise
    fcntl = None  # type: ignore[assignment]

NAME = "lock"
PATIENCE_SECONDS = 10.0  # how long a holder that was killed may take to be gone, its worker with it
CANNOT_LOCK = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
HINT = files.HINT


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
        """Give it back. A child that still has it goes on holding what nobody can find any more."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.number)


def take(folder: Path) -> Lock:
    """Take the folder's lock; raises LockstepError (LS-504) with the holder's pid where somebody works there."""
    path = folder / NAME
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        with files.writing(path, HINT):
            number = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        try:
            got, found = _locked(number), holder(path)
            got = not _is_alive(found) if got is None else got
            if got and _is_still(path, number):
                with files.writing(path, HINT):
                    os.ftruncate(number, 0)
                    os.write(number, json.dumps(this_process()).encode())
                return Lock(path, number, found)
        except BaseException:
            os.close(number)
            raise
        os.close(number)
        if not got and (_is_alive(found) or time.monotonic() > until):
            raise _held(folder, found)
        time.sleep(0.02)


def _locked(number: int) -> bool | None:
    """Whether this open file is locked now, by this process; None where the file system has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in CANNOT_LOCK:
            raise
        return None
    return True


def _is_still(path: Path, number: int) -> bool:
    """Whether this open file is the one of that name: its last holder may have removed it in between."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except FileNotFoundError:
        return False


def is_held(folder: Path) -> bool:
    """Whether somebody works in this folder now; changes nothing."""
    try:
        number = os.open(folder / NAME, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe would hold us up
    except OSError:
        return False
    try:
        got = _locked(number)
        return _is_alive(holder(folder / NAME)) if got is None else not got
    finally:
        os.close(number)


def clear(folder: Path) -> None:
    """Remove what a holder that is no more left behind; nothing happens where somebody works, or nobody may write.

    The child of a holder that was killed is waited for, as `take` does.
    """
    if (folder / NAME).is_file():
        with contextlib.suppress(LockstepError, OSError), take(folder):
            pass


def holder(path: Path) -> dict[str, Any] | None:
    """What a lock file says of its holder, {"pid", "host", "boot", "since"}; None where it says nothing."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads(reading.text(path))
        return found if isinstance(found, dict) and isinstance(found.get("pid"), int) else None
    return None


def this_process() -> dict[str, Any]:
    """What this process writes into a lock file."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "host": platform.node(), "boot": _boot(), "since": since}


def _boot() -> str | None:
    """What tells one start of the machine from the next."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None


def _is_alive(found: dict[str, Any] | None) -> bool:
    """Whether a holder may still be there; one of another machine may, for all that can be known here."""
    if found is None or found.get("host") != platform.node():
        return found is not None
    if found.get("boot") != _boot():
        return False
    return files.is_alive(found["pid"])


def _held(folder: Path, found: dict[str, Any] | None) -> LockstepError:
    message, hint = _("another process works on this run"), _("wait for it, or end it")
    if found is not None:
        facts = {"pid": found["pid"], "since": found.get("since"), "host": found.get("host")}
        message = _("process {pid} (since {since}) works on this run", **facts)
        if found.get("host") != platform.node():
            message = _("process {pid} on {host} (since {since}) works on this run", **facts)
            hint = _('wait for it, or end it; if it is no longer there, remove the file "{name}"', name=NAME)
    return LockstepError("LS-504", message, where=str(folder), hint=hint)


@contextlib.contextmanager
def briefly(folder: Path) -> Iterator[None]:
    """Hold the folder itself for a moment, waiting for others who do; for what takes no time."""
    with files.writing(folder, HINT):
        number = os.open(folder, os.O_RDONLY)
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)
