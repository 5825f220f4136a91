"""Workers: a module of Lockstep's in a process of its own, listened to, ended, and asked why it died.

Whoever needs a framework, or a clock that nobody else disturbs, has it done by one: trainings, traces of a proof,
baselines of a bench, measured defaults, the rate of a matrix product.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from lockstep.errors import LockstepError, says_want_of_memory
from lockstep.language import later
from lockstep.machine import cores, processes

# What a framework says about itself at start-up is no news, and nothing may go out to the network. Which device is
# taken is for the study to say: JAX is told nothing, and so finds every one that is there.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "", "JAX_PLATFORM_NAME": "",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip


def environment(backend: str, threads: int) -> dict[str, str]:
    """The variables of a process in which this backend's framework is quiet and has so many threads."""
    return {**os.environ, **cores.thread_environment(backend, threads), **QUIET}


class Worker:
    """A module at work in a process of its own, which ends when this one does.

    As a context it is ended on the way out, whatever happened.
    """

    def __init__(
        self, module: str, words: Sequence[object], threads: int, environment: dict[str, str], log: IO[bytes] | int,
        **options: Any,
    ) -> None:  # fmt: skip
        """Begin `python -m module words` on so many processors; its other output goes into the log.

        `options` are put over those of subprocess.Popen: with `stdout` it has nobody who listens.
        Raises LockstepError (LS-503) where no process can be started.
        """
        self._of_memory_before = ended_for_memory()
        command = [sys.executable, "-P", "-m", module, *map(str, words)]
        try:
            # The worker ends when nobody holds the other end of its standard input any more.
            talk = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log}
            texts = {"text": True, "encoding": "utf-8", "errors": "replace"}
            self.process: subprocess.Popen[str] = processes.start(
                command, threads, env=environment, **{**talk, **texts, **options}
            )
        except OSError as error:
            hint = later("free some memory and run it again")
            raise LockstepError("LS-503", later("no worker could be started: {why}", why=error), hint=hint) from error

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.process.__exit__(None, None, None)

    def events(self) -> Iterator[dict[str, Any]]:
        """The worker's events, as they come, until it ends; lines that a library printed are left out."""
        for line in self.process.stdout or ():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict) and "event" in event:
                    yield event
        self.process.wait()

    def exit_code(self, seconds: float) -> int | None:
        """Its exit code, once it has ended; None where it has not after so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.process.wait(timeout=seconds)
        return None

    def stop(self, patience: float = 0.0) -> None:
        """End the worker: ask it to, and wait so many seconds for it, if any; then kill it.

        At once where somebody interrupts this too.
        """
        if self.process.poll() is not None:
            return
        try:
            if patience:
                self.process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(timeout=patience)
        finally:
            self.process.kill()
            self.process.wait()

    def death(self, log: Path) -> LockstepError:
        """Why a worker died that could not say so itself: its exit code, the system's word, the end of its log."""
        code, place = self.process.returncode, log.parent
        return death(code, place, log, ended_for_memory() > self._of_memory_before)


FREE_MEMORY = later("free some memory, or take a smaller network, batch or dataset")
LAST_LINES = 40  # NumPy says at length what may be wrong where a library cannot be loaded, the reason among it
LAST_BYTES = 2**16  # of a log, in which its last words are looked for
GOES_ON = "---- another process goes on with this run:"  # stands in a log where the words of another worker begin


def last_words(log: Path, n: int) -> list[str]:
    """The last so many lines of what the last worker left in a log; blank ones don't count."""
    with open(log, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - LAST_BYTES, 0))
        text = file.read(LAST_BYTES).decode("utf-8", errors="replace")
    text = text.rpartition(GOES_ON)[2].partition("\n")[2] if GOES_ON in text else text
    return [line for line in text.splitlines() if line.strip()][-n:]


def death(code: int, place: Path, log: Path, is_for_memory: bool) -> LockstepError:
    """What an exit code and a log say of a worker's end; `is_for_memory`: the system has ended a process for it."""
    lines, hint = last_words(log, LAST_LINES), later("see {file}", file=log)
    if code > 0 and (told := [line.strip() for line in lines if says_want_of_memory(line)]):
        why = later("not enough memory: {why}", why=told[-1][:300])
        return LockstepError("LS-503", why, where=str(place), hint=later(FREE_MEMORY))
    if code == -signal.SIGKILL and is_for_memory:
        hint = later(FREE_MEMORY)
        return LockstepError("LS-503", later("the system ended it because memory ran out"), where=str(place), hint=hint)
    if code < 0:
        with contextlib.suppress(ValueError):
            cause = later("it was ended by signal {name}", name=signal.Signals(-code).name)
            if code == -signal.SIGKILL:
                cause = later("{cause} (as the system does when memory runs out)", cause=cause)
            return LockstepError("LS-402", cause, where=str(place), hint=hint)
    message = later("it ended with exit code {code}", code=code)
    if lines:
        message = later("{ended}; it last said: {words}", ended=message, words=" | ".join(lines[-3:]))
    return LockstepError("LS-402", message, where=str(place), hint=hint)


def ended_for_memory() -> int:
    """How many processes the system has ended because memory ran out (Linux; elsewhere none that is known of)."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
