"""How a command ends that is interrupted: with the exit code of what ended it, and a word about what is kept."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import NoReturn

from lockstep.screen.output import tell


def end_on_signals() -> None:
    """Let a signal end the command as Ctrl-C does: what it has begun is brought to an end."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) != signal.SIG_IGN:  # nohup
            signal.signal(getattr(signal, name), _terminated)


def _terminated(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


@contextlib.contextmanager
def saying(*texts: str) -> Iterator[None]:
    """Say these lines on stderr where the block is interrupted."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        for text in texts:
            tell(text, err=True)
        raise
