"""An idiomatic script: run to its end where there is no Lockstep, and judged by the accuracy that it reaches.

It draws numbers of its own, so no step of it can be compared. What is asked is whether its test accuracy could be that
of the study: it may be off by what test images of this number leave open (two shares of one, 95 %), and, where the
study has runs of several seeds, by what another seed makes of it (95 % for one more). That is no proof of equality.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import stats

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.exchange.scripts import idiomatic
from lockstep.files import disk
from lockstep.language import later
from lockstep.machine import alone
from lockstep.proof import script

SECONDS = 3600  # that its training may take
Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Reached:
    """What a script reached and what the study allows; `path` is None where it was not written."""

    path: Path | None
    accuracy: float
    low: float
    high: float
    seeds: int
    count: idiomatic.Count

    @property
    def is_within(self) -> bool:
        """Whether its accuracy could be the study's."""
        return self.low <= self.accuracy <= self.high

    def document(self) -> dict[str, object]:
        """As plain data."""
        return dataclasses.asdict(self) | {
            "path": None if self.path is None else str(self.path), "count": self.count._asdict(),
            "is_within": self.is_within,
        }  # fmt: skip


def export(
    folder: Path, target: str, out: Path | None = None, force: bool = False, tell: Tell = lambda what: None
) -> Reached:  # fmt: skip
    """Write a run as an idiomatic script of `target`, once it has reached the study's accuracy; raises as `script`."""
    asked = script.subject(folder)
    if target in idiomatic.TARGETS:
        script.assert_installed(target, asked)
    path = out or Path(f"{asked.run.network_name}_{target}_idiomatic.py")
    script.assert_free(path, force)
    with tempfile.TemporaryDirectory(prefix="lockstep-") as name:
        place = Path(name)
        data = asked.data_at(place)
        text = idiomatic.write(asked.given, target, path.name, str(data.resolve()))
        file = place / path.name
        file.write_text(text, encoding="utf-8")
        tell(later("{file}: its whole training in a process of its own", file=path.name))
        words = ("--data", data, "--out", place / "result.npz")
        alone.run(file, words, idiomatic.TARGETS[target], place, SECONDS, f"python {path.name}")
        if not (place / "result.npz").is_file():
            raise LockstepError("LS-403", later("it ended, but wrote no result"), where=path.name)
        accuracy = float(store.read_npz(place / "result.npz")["accuracy"])
    low, high, seeds = allowed(folder, asked)
    found = Reached(None, accuracy, low, high, seeds, idiomatic.count(text))
    if not found.is_within:
        return found
    hint = later("choose another file: --out")
    with disk.new_file(path, hint) as part, disk.writing(path, hint):
        part.write_text(text, encoding="utf-8")
    return dataclasses.replace(found, path=path)


def allowed(folder: Path, asked: script.Subject) -> tuple[float, float, int]:
    """(lowest, highest) accuracy that could be the study's, and of how many seeds."""
    reached = of_every_seed(folder)
    n = len(asked.examples.test[0])
    mean = float(np.mean(reached))
    share = min(max(mean, 0.5 / n), 1 - 0.5 / n)
    room = float(stats.norm.ppf(0.975)) * math.sqrt(2 * share * (1 - share) / n)
    if len(reached) > 1:
        t = float(stats.t.ppf(0.975, len(reached) - 1))
        room = max(room, t * float(np.std(reached, ddof=1)) * math.sqrt(1 + 1 / len(reached)))
    return mean - room, mean + room, len(reached)


def of_every_seed(folder: Path) -> list[float]:
    """What the runs of a study reached that differ in seed and backend alone, a mean for each seed."""
    own = store.Record(folder)
    by_seed: dict[int, list[float]] = {own.seed: [own.test_accuracy or 0.0]}
    for record in store.find_runs(folder.parent, depth=1):
        alike = ("network", "dataset", "dtype", "recipe")
        try:
            is_one = record.is_finished and all(getattr(record, name) == getattr(own, name) for name in alike)
        except LockstepError:
            continue
        if is_one and record.folder.resolve() != folder.resolve() and record.test_accuracy is not None:
            by_seed.setdefault(record.seed, []).append(record.test_accuracy)
    return [float(np.mean(found)) for found in by_seed.values()]
