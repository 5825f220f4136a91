"""A file of Python in a fresh process in which importing `lockstep` fails: what leaves Lockstep does without it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.machine import processes, workers

# Run before a file: what is not installed raises this error, too. Its folder is where Python would look first.
ALONE = (
    "import os, runpy, sys; sys.modules['lockstep'] = None; sys.argv = sys.argv[1:]; file = sys.argv[0]; "
    "sys.path.insert(0, os.path.dirname(os.path.abspath(file))); runpy.run_path(file, run_name='__main__')"
)
ON_THE_PROCESSOR = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}


def run(file: Path, words: Sequence[object], backend: str, place: Path, seconds: float, hint: str = "") -> None:
    """Run `file words` in a place, quietly, with two threads of this backend's framework.

    Raises LockstepError: LS-402 where it hangs or dies, LS-503 for want of memory; `hint` says what to try then.
    """
    log = place / f"{file.stem}.log"
    command = [sys.executable, "-P", "-c", ALONE, str(file.resolve()), *map(str, words)]
    with open(log, "wb") as stream:
        talk = {"stdin": subprocess.DEVNULL, "stdout": stream, "stderr": stream}
        process = processes.start(command, 2, env=workers.environment(backend, 2) | ON_THE_PROCESSOR, cwd=place, **talk)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        message = later("it was not done after {seconds} seconds", seconds=seconds)
        raise LockstepError("LS-402", message, where=str(file), hint=later("try it by itself first")) from None
    finally:
        process.kill()
        process.wait()
    if code:
        (problem,) = workers.death(code, file, log, False).problems
        raise LockstepError(problem.code, problem.message, where=str(file), hint=hint)
