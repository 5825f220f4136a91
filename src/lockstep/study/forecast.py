"""How long a study will take, said before it starts: from what such runs took on this machine, or from a first epoch.

An estimate is as good as what it rests on, so that is said with it. Early stopping may end a run before, and other
programs may take their part of the machine.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep import data, store
from lockstep.errors import LockstepError
from lockstep.files import intake
from lockstep.language import later, n_later
from lockstep.machine import description
from lockstep.spec import Run
from lockstep.spec.records import digest

MOST_READ = 300  # earlier runs, the newest first: to read them all would take longer than it tells


@dataclasses.dataclass(frozen=True)
class Pace:
    """What earlier runs of one kind took: seconds before the first epoch and after the last, and seconds an epoch."""

    around: float
    epoch: float

    def of(self, run: Run) -> float:
        """Seconds of a run to its last epoch."""
        return self.around + run.recipe.epochs * self.epoch


class Expectation:
    """The expected time of some runs, which listens to their events until it knows enough."""

    def __init__(self, runs: Sequence[Run], runs_folder: Path, threads: int, tell: Callable[[str], None]) -> None:
        """Look at earlier runs below `runs_folder`; `tell` hears a sentence now, or after the first epoch."""
        self.runs, self.tell = runs, tell
        self.started = self.began = 0.0  # when the first run was begun, and when its first epoch was
        self.is_settled = not runs
        known = paces(runs_folder, runs, threads) if runs else {}
        told = [known[kind(run, threads)].of(run) for run in runs if kind(run, threads) in known]
        if told and len(told) == len(runs):
            self.is_settled = True
            tell(
                n_later(
                    "expected: about {time} for {n} run, as long as such a run took on this machine before",
                    "expected: about {time} for {n} runs, as long as such runs took on this machine before",
                    len(runs),
                    time=roughly(sum(told)),
                )
            )
        elif told:
            facts = {"time": roughly(sum(told)), "n": len(told), "all": len(runs)}
            tell(later("expected: about {time} for {n} of {all} runs, which this machine has done before; more is said "
                      "after the first epoch", **facts))  # fmt: skip
        elif runs:
            tell(later("how long it takes is not known yet, as this machine has done none of these runs: that is said "
                      "after the first epoch"))  # fmt: skip

    def hear(self, run: Run, event: Mapping[str, Any]) -> None:
        """Take one event of a run (see `lockstep.study.Tell`)."""
        if self.is_settled:
            return
        if event["event"] == "start":
            self.started, self.began = time.monotonic(), 0.0
        elif event["event"] == "phase" and event["phase"] == "train":
            self.began = time.monotonic()
        elif event["event"] == "epoch" and self.began:
            self.is_settled = True
            seconds = time.monotonic() - self.began
            whole = len(self.runs) * (self.began - self.started) + self.from_epoch(run, seconds)
            told = n_later(
                "expected: about {time} for {n} run, to go by its first epoch ({epoch})",
                "expected: about {time} for {n} runs, beside what other frameworks take to start, if their epochs take "
                "as long for each image and multiply-add as this first one ({epoch})",
                len(self.runs),
                time=roughly(whole),
                epoch=roughly(seconds),
            )
            self.tell(told)

    def from_epoch(self, run: Run, seconds: float) -> float:
        """Seconds of all runs, to go by one epoch of this one."""
        facts = {name: data.describe(name) for name in {other.dataset for other in [run, *self.runs]}}
        work = _work(run, facts[run.dataset])
        return sum(seconds * other.recipe.epochs * _work(other, facts[other.dataset]) / work for other in self.runs)


def _work(run: Run, facts: data.Facts) -> float:
    """Images of an epoch times multiply-adds of one."""
    n = min(run.train_size or facts.n_train, facts.n_train)
    return float(max(n * run.network.summary(facts.image_shape)["multiply_adds"], 1))


def roughly(seconds: float) -> str:
    """A time with as many digits as an estimate has."""
    if seconds < 1:
        return later("1 s")
    if seconds < 100:
        return later("{n} s", n=round(seconds) if seconds < 20 else 5 * round(seconds / 5))
    if seconds < 5400:
        return later("{n} min", n=max(round(seconds / 60), 1))
    return later("{n:.1f} h", n=seconds / 3600)


# -------------------------------------------------------------------------------------------------------- earlier runs


def kind(run: Run, threads: int) -> Hashable:
    """What decides how long an epoch takes, as far as an estimate needs it."""
    recipe = run.recipe
    return (
        digest(run.network), run.backend, run.dataset, run.dtype, run.device, run.train_size, recipe.batch_size,
        bool(recipe.augmentation), round(recipe.validation, 6), threads,
    )  # fmt: skip


def paces(runs_folder: Path, runs: Sequence[Run], threads: int) -> dict[Hashable, Pace]:
    """What finished runs of these kinds took on this machine: kind → the median of their paces."""
    wanted = {kind(run, threads) for run in runs}
    networks = {run.network_name for run in runs}
    cpu = description.machine()["cpu"]
    found: dict[Hashable, list[Pace]] = {}
    for folder in _newest(runs_folder, networks):
        try:
            (earlier,) = store.read_asked(folder).runs()
            environment = intake.json_object(folder / "environment.json")
            seen = kind(earlier, environment["threads"]["asked"])
            if seen in wanted and environment["cpu"] == cpu:
                found.setdefault(seen, []).append(_pace(intake.json_object(folder / "timing.json")))
        except (LockstepError, OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue  # an estimate is no reason to stop for what cannot be read
    return {
        seen: Pace(statistics.median(one.around for one in rows), statistics.median(one.epoch for one in rows))
        for seen, rows in found.items()
    }


def _newest(runs_folder: Path, networks: set[str]) -> Iterator[Path]:
    """Folders of finished runs whose names begin with one of these networks', the newest first."""
    places = [
        path
        for name in networks
        for path in runs_folder.glob(f"*/{name}-*/timing.json")
        if (path.parent / "manifest.json").exists()
    ]
    places.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return (path.parent for path in places[:MOST_READ])


def _pace(found: Mapping[str, Any]) -> Pace:
    """The pace of a run that had its process to itself; raises ValueError for others."""
    seconds, n = found["seconds"], len(found["epochs"])
    if found.get("together", 1) != 1 or found.get("parts", 1) != 1:
        raise ValueError("its times are not its own")
    epoch = sum(seconds.get(clock, 0.0) for clock in ("train", "augment", "evaluate", "checkpoint")) / n
    return Pace(max(seconds["total"] - n * epoch, 0.0), epoch)
