"""Which Lockstep computes here: the hash of its own source files, and the revision of its checkout."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import subprocess
from pathlib import Path


@functools.cache
def own_sources() -> str:
    """SHA-256 of every Python file of this Lockstep, line ends aside: an edited copy has another one."""
    digest, here = hashlib.sha256(), Path(__file__).parent.parent
    for path in sorted(here.rglob("*.py")):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(here).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def git_revision() -> str | None:
    """The revision of the checkout that this code runs from, where it is one.

    An installed Lockstep may lie inside a repository of the user's, whose revisions say nothing about it.
    """
    here = Path(__file__)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        _git(here.parent, "ls-files", "--error-unmatch", here.name)
        return _git(here.parent, "rev-parse", "HEAD")
    return None


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()  # noqa: S603
