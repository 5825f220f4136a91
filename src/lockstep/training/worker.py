"""One run in a process of its own: `python -m lockstep.training.worker FOLDER THREADS`.

What the run is stands in the folder's spec.toml; what comes out goes into the folder; progress goes to the parent as
one JSON object a line. The process ends when its parent does. Runs that are trained together have one process for all:
see `lockstep.training.crew`. Whatever else is done with a run in a process of its own begins and ends like this, too:
see `lockstep.proof.tracer`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from lockstep import store
from lockstep.errors import LockstepError, Problem, is_want_of_memory
from lockstep.machine import processes
from lockstep.spec import Run
from lockstep.training import checkpoints, loop


def failure(error: BaseException, log: Path | None = None) -> dict[str, Any]:
    """What status.json says of a run that came to this end; `log` is where its traceback stands."""
    if isinstance(error, LockstepError):
        return {"code": error.code, "reason": error.text}
    if is_want_of_memory(error):
        hint = "a smaller network or recipe.batch_size takes less"
        return {"code": "LS-503", "reason": str(Problem("LS-503", f"not enough memory: {error}"[:1000], "", hint))}
    message = f"{type(error).__name__}: {error}".strip()[:1500]
    return {
        "code": "LS-403",
        "reason": str(Problem("LS-403", message, "", f"the traceback is in {log}" if log else "")),
    }


def main(folder: Path, threads: int) -> int:
    """Train the run of this folder, whose status says how it ended; returns the exit code."""
    return work(folder, lambda run, tell: loop.alone(loop.train(run, folder, threads, tell)))


def work(folder: Path, do: Callable[[Run, loop.Tell], None]) -> int:
    """Do something with the run of this folder, as a worker; its status says how it ended. Returns the exit code."""
    tell = teller(folder, begin())
    try:
        (run,) = store.read_asked(folder).runs()
        do(run, tell)
    except BaseException as error:
        end(folder, error, folder / "worker.log")
        return 1
    end(folder)
    return 0


def begin() -> TextIO:
    """Make this process a worker. What it tells its parent goes into the file returned, all else into the log."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a framework prints goes to the log
    processes.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches parent and worker alike: the parent decides
    return channel


def teller(folder: Path, channel: TextIO) -> loop.Tell:
    """Who hears of a run's events: its folder, and the parent, who is told which run's they are."""

    def tell(event: dict[str, Any]) -> None:
        store.append_event(folder / "events.jsonl", event)
        channel.write(json.dumps(store.with_texts(store.finite({**event, "run": folder.name}))) + "\n")

    return tell


def end(folder: Path, error: BaseException | None = None, log: Path | None = None) -> None:
    """Say in a run's folder how it ended; the traceback of an error goes into the log."""
    if error is None:
        store.write_status(folder, "finished")
        checkpoints.leave_last(folder)  # not before: whoever is killed here goes on from the newest
    elif isinstance(error, loop.Ended):
        store.write_status(folder, "failed", "LS-402", store.INTERRUPTED)
    else:
        traceback.print_exception(error)
        store.write_status(folder, "failed", **failure(error, log))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
