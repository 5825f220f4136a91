"""Output that never ends the work: to a terminal that was closed, or a pipe that nobody reads, it goes in vain.

Nor does it where there is none at all: a scheduler or a daemon may start a program with its standard streams closed,
and Python then has None in their place, as it has under `pythonw`.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

GONE = (errno.EPIPE, errno.EIO)  # the pipe's reader, the terminal


class Lasting(io.FileIO):
    """An open file whose reader may be gone, which is no error; any other one (a full disk) is raised, once."""

    instead_of: object = None  # the stream that had the file, and would close it if nobody held it

    def write(self, content: Buffer) -> int:
        """Write; once the reader is gone, drop this and whatever comes."""
        try:
            return super().write(content)
        except OSError as error:
            nobody = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nobody, self.fileno())
            os.close(nobody)
            if error.errno not in GONE:
                raise
        return super().write(content)


def stand_in() -> None:
    """Open the null device where a standard stream is missing, for this process and for those that it starts.

    The numbers are taken too, or the next file that is opened would be standard output.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nobody = os.open(os.devnull, os.O_RDWR)
            if nobody != number:
                os.dup2(nobody, number)
                os.close(nobody)
            os.set_inheritable(number, True)
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "r+" if number == 0 else "w", encoding="utf-8"))  # noqa: SIM115


def make_lasting() -> None:
    """Let standard output and error outlast their readers, and write what no encoding has as an escape.

    Streams that somebody has put in their place (a test, a notebook) are left alone.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper or type(getattr(stream.buffer, "raw", stream.buffer)) is not io.FileIO:
            continue  # an unbuffered stream has no buffer around its file
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
            raw = Lasting(stream.fileno(), "w", closefd=False)
            raw.instead_of = stream
            lasting = io.TextIOWrapper(
                io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )  # fmt: skip
            setattr(sys, name, lasting)
