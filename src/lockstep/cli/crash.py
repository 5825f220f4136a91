"""What is left where Lockstep itself fails: a log with the traceback, and a few lines for whoever saw it happen."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from lockstep.language import later

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h


def write_log(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write the traceback, the command and the versions into a new file; None where no folder can be written.

    Nothing leaves this machine: whoever reads the file decides whether to send it.
    """
    from lockstep.version import version

    try:
        here = os.getcwd()
    except OSError as gone:
        here = f"({gone})"
    name = f"fault-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}.log"
    facts = (
        f"lockstep {version()}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: lockstep {' '.join(arguments)}\nfolder: {here}\n\n"
    )
    text = facts + "".join(traceback.format_exception(error))
    for folder in log_folders():
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", errors="replace")
            return folder / name
    return None


def log_folders() -> Iterator[Path]:
    """Where the log may go, the best place first."""
    import platformdirs

    with contextlib.suppress(RuntimeError):  # there is no home
        folder = Path(platformdirs.user_log_dir("lockstep", appauthor=False))
        if folder.is_absolute():
            yield folder
    for found in (tempfile.gettempdir, os.getcwd):
        with contextlib.suppress(OSError):
            yield Path(found())


def told(error: BaseException, log: Path | None) -> tuple[str, str, str]:
    """What is printed of an error of ours: what happened, where the traceback is, what to do."""
    reason = " ".join(str(error).split())[:300]
    what = f"{type(error).__name__}{': ' if reason else ''}{reason}"
    happened = later("This is our fault, not yours: {what}", what=what)
    if log is None:
        hint = later("Run it again with --debug; send us what it prints.")
        return happened, later("No folder for a log could be written."), hint
    return (
        happened,
        later("The traceback is in {file}", file=log),
        later("Please send us that file; it holds the command and paths, and nothing was sent. --debug shows it here."),
    )
