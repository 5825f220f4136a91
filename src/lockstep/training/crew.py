"""Runs that are trained together, in one process: `python -m lockstep.training.crew THREADS FOLDER…`.

Each is a training of `lockstep.training.worker` like any other, with its own folder, checkpoints and end; only their
epochs are taken together. One that fails, or stops early, leaves the others to go on. A member's seconds of training
are its share of what an epoch of all took.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import store
from lockstep.backends.numpy import stack
from lockstep.errors import LockstepError
from lockstep.training import inputs, loop, worker

Asked = tuple[Any, np.ndarray]  # a training's model, and the order of the epoch that it waits for


def train(folders: list[Path], threads: int, tell: Callable[[int], loop.Tell]) -> int:
    """Do the runs of these folders, whose status says how each ended; how many failed."""
    crew, load = Crew(folders), functools.lru_cache(maxsize=1)(inputs.load)  # one copy of the images for all

    def training(index: int) -> loop.Training[None]:
        (run,) = store.read_asked(folders[index]).runs()
        return loop.train(run, folders[index], threads, tell(index), len(folders), load)

    for index in range(len(folders)):
        crew.begin(index, training)
    with loop.ending_later() as is_asked_to_end:
        while crew.waiting:
            crew.go_on(is_asked_to_end)
    return crew.failed


class Crew:
    """Trainings by their number, as far as they wait for an epoch."""

    def __init__(self, folders: list[Path]) -> None:
        self.folders, self.trainings = folders, dict[int, loop.Training[None]]()
        self.waiting: dict[int, Asked] = {}
        self.pack: Any = None
        self.packed: list[int] = []  # whose models lie in it
        self.failed = 0

    def begin(self, index: int, make: Callable[[int], loop.Training[None]]) -> None:
        """Let a training come to its first epoch."""

        def first() -> Asked:
            self.trainings[index] = make(index)
            return next(self.trainings[index])

        self._step(index, first)

    def go_on(self, is_asked_to_end: Callable[[], bool]) -> None:
        """Take the epoch that each of them waits for, and let each come to its next one, or to its end."""
        asked = dict(self.waiting)
        try:
            if self.packed != list(asked):
                self.pack, self.packed = stack.Together([model for model, _ in asked.values()]), list(asked)
            start = time.perf_counter()
            results = self.pack.train_epoch([order for _, order in asked.values()])
        except BaseException as error:
            for index in asked:
                self._end(index, error)
            return
        seconds = (time.perf_counter() - start) / len(asked)
        for index, (losses, correct) in zip(asked, results, strict=True):
            taken = loop.Taken(losses, correct, seconds, is_asked_to_end)
            self._step(index, functools.partial(self.trainings[index].send, taken))

    def _step(self, index: int, ask: Callable[[], Asked]) -> None:
        try:
            self.waiting[index] = ask()
        except StopIteration:
            self._end(index)
        except BaseException as error:
            self._end(index, error)

    def _end(self, index: int, error: BaseException | None = None) -> None:
        self.waiting.pop(index, None)
        self.failed += error is not None
        with contextlib.suppress(LockstepError):  # who cannot even say how it ended is told of by the parent
            worker.end(self.folders[index], error, self.folders[0] / "worker.log")


def main(threads: int, folders: list[Path]) -> int:
    """Do the runs of these folders; the exit code."""
    channel = worker.begin()
    return int(train(folders, threads, lambda index: worker.teller(folders[index], channel)) > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), [Path(folder) for folder in sys.argv[2:]]))
