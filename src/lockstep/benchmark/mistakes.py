"""What each classic mistake of published comparisons would have cost here: measured, one mistake at a time.

A fault either misreads the clocks of a sound measurement (compiling counted as training), or is committed by a lap of
its own, interleaved with a sound one. Its size is the ratio of what would have been reported to what is so.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lockstep import backends, store, study
from lockstep.benchmark import baselines, benches
from lockstep.benchmark.benches import Entry, Tell, interval
from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.machine import cores, description, sources
from lockstep.spec import Study
from lockstep.store.documents.bench import FORMAT, Fault, Faults, Lap, Laps
from lockstep.store.documents.run import Environment
from lockstep.version import version


def _steady(lap: Lap) -> float:
    return lap.steady


def _train(lap: Lap) -> float:
    return lap.steady * len(lap.epochs)


@dataclasses.dataclass(frozen=True)
class Misread:
    """A fault that is a wrong sum of right clocks: `wrong` over `right`, of each lap of our own backends."""

    what: str
    wrong: Callable[[Lap], float]
    right: Callable[[Lap], float] = _train
    of_shipped: bool = False


@dataclasses.dataclass(frozen=True)
class Committed:
    """A fault that a lap commits: an entry with the fault beside one without."""

    what: str
    baseline: str  # of `baselines`, or "" for every backend of ours
    fault: str = ""
    threads: int | None = None


FAULTS: dict[str, Misread | Committed] = {
    "compile_inside": Misread(
        later("compiling is counted as training"), lambda lap: _train(lap) + (lap.seconds.get("compile") or 0.0)
    ),
    "start_inside": Misread(
        later("importing, building and compiling are counted as training"),
        lambda lap: _train(lap) + sum(lap.seconds.get(clock) or 0.0 for clock in ("import", "build", "compile")),
    ),
    "evaluation_inside": Misread(
        later("each epoch's evaluation on the test set is counted as training"),
        lambda lap: _train(lap) + (lap.seconds["evaluate"] or 0.0) * len(lap.epochs),
    ),
    "no_warm_up": Misread(
        later("the first epoch, in which frameworks compile and fill caches, is reported as the epoch"),
        lambda lap: lap.epochs[0], _steady, of_shipped=True,
    ),
    "best_epoch": Misread(
        later("the fastest epoch is reported, not the median"),
        lambda lap: min(lap.epochs[1:] or lap.epochs), _steady,
    ),
    "one_thread": Committed(later("one side runs on one thread, the other on all"), "", threads=1),
    "item_every_step": Committed(later("the loss is fetched at every step with .item()"), "torch", "item"),
    "transforms_in_loop": Committed(
        later("images become tensors one by one inside the timed loop"), "torch", "transforms"
    ),
    "other_precision": Committed(
        later("one side computes in bfloat16 (autocast), the other in float32"), "torch", "bfloat16"
    ),
    "no_synchronisation": Committed(later("the clock stops before asynchronous work is done"), "flax", "no_wait"),
}  # fmt: skip


def measure(
    asked: Study, runs_folder: Path, rounds: int = benches.ROUNDS, epochs: int = benches.EPOCHS,
    threads: int | None = None, tell: Tell = lambda event: None,
) -> Faults:  # fmt: skip
    """Size every fault on the networks of a study: what `lockstep bench --faults` writes into its faults.json.

    Raises LockstepError for what cannot be.
    """
    asked, threads = study.checked(asked), cores.checked_threads(threads)
    if rounds < 1 or epochs < 2:
        message = later("one round and two epochs are the least")
        raise LockstepError("LS-205", message, where="--rounds, --epochs", hint=later("5 rounds give an interval"))
    sound, _left_out = benches.entries_of(asked, epochs, threads, True, runs_folder / asked.name)
    sound = [entry for entry in sound if not entry.is_shipped or entry.name in ("torch", "keras", "flax")]
    wrong = [entry for fault in FAULTS.values() if isinstance(fault, Committed) for entry in _wrong(fault, sound)]
    noise = benches.noise_now()
    tell({"event": "noise", **dict(noise)})
    began = time.perf_counter()
    laps = benches.interleaved([*sound, *wrong], rounds, tell)
    rows = (row for name, fault in FAULTS.items() for row in _sized(name, fault, sound, laps))
    return Faults(
        format=FORMAT, study=asked.name, rounds=benches.n_rounds(laps), epochs=epochs, threads=threads,
        faults=tuple(rows), noise=noise, machine=Environment(**description.machine()),
        seconds=time.perf_counter() - began, lockstep=version(), git_revision=sources.git_revision(),
        measured=store.now(),
    )  # fmt: skip


def _wrong(fault: Committed, sound: Sequence[Entry]) -> Iterator[Entry]:
    """The entries that commit a fault, one for each sound one that can."""
    for entry in sound:
        if entry.is_shipped != bool(fault.baseline) or (fault.baseline and entry.name != fault.baseline):
            continue
        if fault.threads and fault.threads >= entry.threads:
            continue  # there is only one thread
        yield dataclasses.replace(entry, fault=fault.fault, threads=fault.threads or entry.threads)


def _sized(name: str, fault: Misread | Committed, sound: Sequence[Entry], laps: Laps) -> Iterator[Fault]:
    """A row per entry that shows the fault: by how much it is off."""
    for entry in sound:
        if isinstance(fault, Misread):
            if entry.is_shipped != fault.of_shipped:
                continue
            values = [fault.wrong(lap) / fault.right(lap) for lap in laps[entry.key] if lap]
        else:
            values = [
                ratio for other in _wrong(fault, [entry]) for ratio in benches.ratio(laps[other.key], laps[entry.key])
            ]
        if values:
            title = (baselines.SHIPPED if entry.is_shipped else backends.BACKENDS)[entry.name][0]
            yield Fault(
                fault=name, what=later(fault.what), network=entry.run.network_name, entry=title,
                is_shipped=entry.is_shipped, worst=max(values, key=lambda x: max(x, 1 / x)), **dict(interval(values)),
            )  # fmt: skip
