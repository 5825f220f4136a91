"""A dataset's files: whole or not there, one writer at a time, known by the hash of their content."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import system
from lockstep.files import disk, intake, locks
from lockstep.language import later

HINT = later("set XDG_CACHE_HOME or XDG_DATA_HOME to a folder that you may write to")
LOCK_SECONDS = 1800.0  # how long to wait for another process that downloads into the same folder


def writing(path: Path) -> contextlib.AbstractContextManager[None]:
    """`lockstep.files.disk.writing` for a dataset's file."""
    return disk.writing(path, HINT)


def new_file(path: Path) -> contextlib.AbstractContextManager[Path]:
    """`lockstep.files.disk.new_file` for a dataset's file."""
    return disk.new_file(path, HINT)


@contextlib.contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Make the folder and hold its lock, and clear what was left half written; raises LS-501, LS-504."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locks.waiting(folder, LOCK_SECONDS, HINT):
        for leftover in folder.glob(".*.part"):
            with contextlib.suppress(OSError):
                leftover.unlink()
        yield


def content_hash(path: Path, n_bytes: int) -> str:
    """SHA-256 of a file's decompressed content, which should have `n_bytes`; raises ValueError with what is wrong.

    At most one byte more than `n_bytes` is decompressed.
    """
    try:
        with intake.opened(path) as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            stream = intake.Unpacked(file) if is_gzip else file
            digest, n_found = hashlib.sha256(), 0
            while n_found <= n_bytes and (chunk := stream.read(min(2**20, n_bytes + 1 - n_found))):
                digest.update(chunk)
                n_found += len(chunk)
    except EOFError:
        raise ValueError(later("the gzip file is cut off")) from None
    except zlib.error as error:
        raise ValueError(later("the gzip file is damaged: {error}", error=error)) from None
    except OSError as error:
        raise ValueError(later("cannot be read: {why}", why=system(error))) from None
    if n_found != n_bytes:
        facts = {"found": n_found, "expected": n_bytes}
        if n_found > n_bytes:
            raise ValueError(later("more than {expected:,} bytes once decompressed, expected {expected:,}", **facts))
        raise ValueError(later("{found:,} bytes once decompressed, expected {expected:,}", **facts))
    return digest.hexdigest()
