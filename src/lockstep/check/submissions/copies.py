"""Hand-ins held against each other, and the runs of one: which are the same run under another name?

A clock hardly shows the same nanoseconds twice, so times that two runs share were measured once. Bits are shared
honestly too: the same description gives the same bits on the same kind of machine, which is what Lockstep promises, so
that is a note. Under two descriptions they are no coincidence, unless what differs in these changed nothing of the
steps (a clip that was never reached, patience, a name): then the losses of one go on where those of the other end, and
each follows from its own description.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import store
from lockstep.check.submissions.findings import NOT_OURS
from lockstep.check.submissions.submission import Submission
from lockstep.errors import LockstepError
from lockstep.language import joined, later
from lockstep.spec import Run

ENOUGH = 2  # times: one may be shared by chance, where a clock counts tenths of microseconds and a class is large
SAME_COMPILER = {"tensorflow", "jax"}  # both may compute by XLA, and then give the same bits
WHAT = {
    "weights": later("weights"), "predictions": later("predictions"), "losses": later("losses"),
    "times": later("times"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Print:
    """What makes a run recognisable: hashes of its last weights, predictions and losses, and what its clocks showed."""

    submission: Path
    owner: Path
    record: store.Record
    run: Run
    description: str
    weights: str | None
    predictions: str | None
    losses: str | None
    times: frozenset[float]
    trained_together: bool

    @property
    def name(self) -> str:
        """The name by which a sentence calls the run."""
        return self.record.folder.name

    def shared(self, other: Print) -> list[str]:
        """The marks that another run has too."""
        found = [
            key
            for key in ("weights", "predictions", "losses")
            if getattr(self, key) is not None and getattr(self, key) == getattr(other, key)
        ]
        is_crew = self.owner == other.owner and self.trained_together and other.trained_together
        return [*found, *(["times"] if len(self.times & other.times) >= ENOUGH and not is_crew else [])]


def print_of(submission: Submission, record: store.Record) -> Print | None:
    """The marks of a finished run; None where it cannot be read, which is reported where the run is checked."""
    found: Print | None = _or_none(lambda: _print_of(submission, record) if record.is_finished else None)
    return found


def _print_of(submission: Submission, record: store.Record) -> Print:
    (run,) = store.read_asked(record.folder).runs()
    description = store.spec_hash(store.read_spec(record.folder))
    timing = _or_none(lambda: record.timing) or {}
    environment = _or_none(lambda: record.environment) or {}
    steps = _or_none(lambda: record.arrays("steps")) or {}
    predictions = _or_none(lambda: record.arrays("predictions")) or {}
    weights = _or_none(lambda: _weights(record)) or {}
    return Print(
        submission.name, submission.owner, record, run, description, _hash(weights),
        _hash({"logits": predictions.get("logits")}), _hash({"loss": steps.get("loss")}), _times(timing, record),
        max(timing.get("together") or 1, environment.get("trained_together") or 1) > 1,
    )  # fmt: skip


def _or_none(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (LockstepError, OSError, *NOT_OURS):
        return None


def _weights(record: store.Record) -> dict[str, np.ndarray]:
    folder = store.newest_checkpoint(record.folder)
    return store.read_checkpoint(folder)[0] if folder else {}


def _hash(arrays: dict[str, Any]) -> str | None:
    """A hash of arrays by name; None where there are none, where one is not finite, or where all values are equal."""
    digest = hashlib.sha256()
    values = [(name, np.asarray(value)) for name, value in sorted(arrays.items()) if value is not None]
    if not values or not all(value.dtype.kind == "f" and np.isfinite(value).all() for _name, value in values):
        return None
    if all((value == value.flat[0]).all() for _name, value in values if value.size):
        return None
    for name, value in values:
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(np.ascontiguousarray(value).data)
    return digest.hexdigest()


def _times(timing: dict[str, Any], record: store.Record) -> frozenset[float]:
    """Every time that was measured to more digits than anybody writes down."""
    seconds = timing.get("seconds")
    told = [*(timing.get("epochs") or ()), *(seconds.values() if isinstance(seconds, dict) else ())]
    told += [row.get("train_seconds") for row in _or_none(lambda: record.history) or ()]
    return frozenset(
        value for value in told if isinstance(value, float) and np.isfinite(value) and round(value, 5) != value
    )


def groups(prints: Sequence[Print]) -> dict[Path, list[tuple[Print, Print]]]:
    """Run folder → its pairs with other runs that share anything; one folder given twice is no pair."""
    known: dict[Any, list[Print]] = {}
    for one in prints:
        for key in ("weights", "predictions", "losses"):
            if getattr(one, key) is not None:
                known.setdefault((key, getattr(one, key)), []).append(one)
        for value in one.times:
            known.setdefault(("times", value), []).append(one)
    found: dict[Path, list[tuple[Print, Print]]] = {}
    for one in prints:
        keys: list[Any] = [(key, getattr(one, key)) for key in ("weights", "predictions", "losses")]
        keys += [("times", value) for value in one.times]
        others = {id(other): other for key in keys for other in known.get(key, ())}
        own = one.record.folder.resolve()
        pairs = [(one, other) for other in others.values() if other.record.folder.resolve() != own]
        if pairs:
            found[one.record.folder] = pairs
    return found


def judged(pair: tuple[Print, Print], fits: Callable[[Print], bool | None]) -> Iterator[tuple[bool, str]]:
    """(whether it is a problem or a note, a sentence) of a run and another that shares something with it.

    `fits(print)`: whether a run's first losses are those of its own description; None where nobody can tell.
    """
    one, other = pair
    shared = one.shared(other)
    if not shared:
        return
    is_one_submission = one.owner == other.owner
    is_described_alike = one.description == other.description
    facts: dict[str, Any] = {"other": other.name, "folder": str(other.submission)}
    facts["what"] = joined(later(WHAT[key]) for key in shared)
    if is_one_submission:
        if is_described_alike:
            if "times" in shared:
                yield False, later("a copy of {other}: it counts once", **facts)
        elif "times" in shared or not _is_honest(one, other, fits):
            differing = _differing(one, other)
            yield True, later("the same run as {other}, though {differing}: equal {what}", differing=differing, **facts)
    elif "times" in shared or not (is_described_alike or _is_honest(one, other, fits)):
        yield True, later("the same run as {other} in the folder {folder}: equal {what}", **facts)
    elif is_described_alike:
        yield False, later("the same bits as {other} in the folder {folder}, other times: the same study gives the "
                           "same bits on machines that round alike, so this is no sign of a copy", **facts)  # fmt: skip


def _differing(one: Print, other: Print) -> str:
    """The keys in which the descriptions of two runs differ."""
    if one.run.seed != other.run.seed:
        return later("the seeds are {one} and {other}", one=one.run.seed, other=other.run.seed)
    if one.run.backend != other.run.backend:
        return later("the backends are {one} and {other}", one=one.run.backend, other=other.run.backend)
    return later("their spec.toml differ")


def _is_honest(one: Print, other: Print, fits: Callable[[Print], bool | None]) -> bool:
    """Whether two descriptions may have given the same numbers."""
    backends = {one.run.backend, other.run.backend}
    if len(backends) > 1 and backends != SAME_COMPILER:
        return False
    losses = [_or_none(lambda run=run: run.record.arrays("steps")["loss"]) for run in (one, other)]  # type: ignore[misc]
    if any(loss is None for loss in losses):
        return False
    n = min(map(len, losses))
    if not np.array_equal(losses[0][:n], losses[1][:n]):
        return False
    told = [fits(run) for run in (one, other)]
    if None in told:  # without the data: another seed has another start, but for weights that are all zero
        return one.run.seed == other.run.seed
    return all(told)
