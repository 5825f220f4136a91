"""This machine: a worker process for each job, told apart in events by their runs' ids."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import IO, Any

from lockstep import backends, store
from lockstep.errors import LockstepError
from lockstep.files import disk, locks
from lockstep.language import later
from lockstep.machine import contention, processes, workers
from lockstep.spec import Run
from lockstep.study import places

GRACE_SECONDS = 4.0  # for a worker that is asked to end, to save the epoch under way


class Local:
    """The place of every study that says nothing else."""

    def do(self, job: places.Job, tell: places.Tell = lambda event: None) -> list[store.Record]:
        """Do a job in one worker process (see `places.Place.do`)."""
        try:
            check_installed(job.runs[0].backend)
            self._work(job, tell)
        except LockstepError as error:
            for folder in job.folders:
                if len(job.folders) == 1 or store.read_status(folder)["status"] == "running":
                    store.write_status(folder, "failed", error.code, error.text)
        return [store.Record(folder) for folder in job.folders]

    def _work(self, job: places.Job, tell: places.Tell) -> None:
        """A worker from start to end. Raises LockstepError (LS-402, LS-503) where it died without a word."""
        first, *others = job.folders
        for folder in others:
            with disk.writing(folder / "worker.log", store.HINT), open(folder / "worker.log", "ab") as log:
                log.write(f"{store.now()} trained together with {first.name}, whose log it is\n".encode())
        with _log_of(job) as log:
            worker = _started(job, log)
        pace, ids = Pace(), [places.run_id(folder) for folder in job.folders]
        with worker, processes.at_work(first, worker.process):
            try:
                for event in map(store.restored, worker.events()):
                    if event.get("run") in ids:
                        pace.hear(event)
                        tell(event)
            except BaseException:
                worker.stop(pace.patience())
                for folder in job.folders:
                    # Why it ends is more than what cannot be written.
                    with contextlib.suppress(LockstepError, KeyError):
                        if store.read_status(folder)["status"] == "running":
                            store.write_status(folder, "failed", "LS-402", store.INTERRUPTED)
                raise
        if any(store.read_status(folder)["status"] == "running" for folder in job.folders):
            raise worker.death(first / "worker.log")


def check_installed(backend: str) -> None:
    """Raise LockstepError (LS-401) where a backend cannot run here."""
    if reason := backends.why_missing(backend):
        hint = f"pip install 'lockstep-nn[{backends.BACKENDS[backend][3]}]'"
        raise LockstepError("LS-401", reason, where=later("backend {name}", name=backend), hint=hint)


@contextlib.contextmanager
def _log_of(job: places.Job) -> Iterator[IO[bytes]]:
    """The log of a job's worker; where a run goes on, behind the words of the worker before."""
    path = job.folders[0] / "worker.log"
    with disk.writing(path, store.HINT), open(path, "ab" if job.held else "wb") as log:
        if log.tell():
            log.write(f"\n{workers.GOES_ON} {store.now()}\n".encode())
            log.flush()
        yield log


def _started(job: places.Job, log: IO[bytes]) -> workers.Worker:
    words = [job.threads, *job.folders] if len(job.folders) > 1 else [job.folders[0], job.threads, *job.task.words]
    try:
        return workers.Worker(
            job.task.module, words, job.threads, environment(job.runs[0], job.threads), log,
            **locks.inherited(job.held),
        )  # fmt: skip
    except LockstepError as error:
        problem = error.problems[0]
        raise LockstepError(problem.code, problem.message, where=str(job.folders[0]), hint=problem.hint) from error


def environment(run: Run, threads: int) -> dict[str, str]:
    """The variables that a worker of a run or of a proof gets."""
    device = {"JAX_PLATFORMS": "cpu"} if run.device == "cpu" else {}  # no GPU is started that nobody asks for
    # What the user has set is in the first and the second: how to wait is said only where he says nothing.
    return {**contention.waiting(), **workers.environment(run.backend, threads), **device}


class Pace:
    """How long a worker that is asked to end may take to save the epoch under way."""

    def __init__(self) -> None:
        self.since, self.took = time.monotonic(), 0.0
        self.heard: dict[str, float] = {}  # when each run was heard of last

    def hear(self, event: dict[str, Any]) -> None:
        """Take one event of a run."""
        now, run = time.monotonic(), event["run"]
        self.took = now - self.heard.get(run, self.since) if event["event"] == "epoch" else 0.0
        self.since = self.heard[run] = now

    def patience(self) -> float:
        """Seconds: none where the epoch cannot be over in time, to go by the one before."""
        return 0.0 if self.took - (time.monotonic() - self.since) > GRACE_SECONDS else GRACE_SECONDS


HERE = Local()
