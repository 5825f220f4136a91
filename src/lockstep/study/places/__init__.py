"""Places where runs are done: `do(job)` gives their records, wherever the work goes on.

A job names folders whose spec.toml says what is to be done; what comes out lies in them afterwards. Events carry the
run's id and nothing that another machine could not send. The first place is this machine: `local`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from lockstep.files import locks
from lockstep.spec import Run
from lockstep.store import Record

Tell = Callable[[dict[str, Any]], None]  # {"run": the run's id, "event": "phase" | "epoch" …}


class Task(NamedTuple):
    """What is done with a job's runs: a module that is one worker, and its words behind the folder and the threads."""

    module: str
    words: tuple[object, ...] = ()


TRAINING = Task("lockstep.training.worker")
TOGETHER = Task("lockstep.training.crew")  # some runs in one process


class Job(NamedTuple):
    """Work that one worker does: its runs, each with its folder, begun and locked by who asks."""

    runs: Sequence[Run]
    folders: Sequence[Path]
    threads: int
    task: Task = TRAINING
    held: Sequence[locks.Lock] = ()  # the worker holds them too: they are free when both are gone


class Place(Protocol):
    """Somewhere that jobs are done."""

    def do(self, job: Job, tell: Tell = lambda event: None) -> list[Record]:
        """Do it: the records of its runs. One that failed says so in its status; only an interruption is raised."""


def run_id(folder: Path) -> str:
    """How events name the run of a folder."""
    return folder.name
