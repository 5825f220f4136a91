"""Copies of one run are one measurement: a folder that was copied tells nothing that the first does not.

Two runs of other seeds do not have the same losses or predictions to the last bit, and two runs do not take the same
time to the last digit. What is found so is shown, named, and in no mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterator, Sequence

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.report.facts import Facts


def mark_copies(facts: Sequence[Facts]) -> None:
    """Write into each copy which run it is one of: of those alike the first stays.

    A run of the same seed that was done again has the same bits and another time: it is no copy.
    """
    seen: dict[Hashable, list[Facts]] = {}
    for run in sorted(facts, key=lambda run: not _is_named_by_its_spec(run)):  # the folder that was not renamed stays
        if not run.is_finished or run.is_diverged:
            continue
        results = list(_results(run))
        original = next((other for key in results for other in seen.get(key, ()) if _is_copy(run, other)), None)
        if original is not None:
            run.copy_of = original.folder
            continue
        for key in results:
            seen.setdefault(key, []).append(run)


def _is_named_by_its_spec(run: Facts) -> bool:
    """Whether the folder has the name that Lockstep gives a run, which ends with the hash of what the run is."""
    return bool(run.spec) and run.record.folder.name.endswith(store.spec_hash(run.spec_text))


def _results(run: Facts) -> Iterator[Hashable]:
    """What the run's training came to, each part as a hash: its losses, and its predictions."""
    try:
        losses = run.record.arrays("steps").get("loss")
        if losses is not None and losses.size:
            yield "losses", hashlib.sha256(losses.tobytes()).digest()
    except LockstepError:  # whoever needs it says that it is missing
        pass
    try:
        content = (run.record.folder / "predictions.npz").read_bytes()
    except OSError:
        return
    yield "predictions", hashlib.sha256(content).digest()


def _is_copy(run: Facts, other: Facts) -> bool:
    """Whether these runs of the same results are one: of the same time, or said to be of two seeds of one thing."""
    if _times(run) is not None and _times(run) == _times(other):
        return True
    return run.seed != other.seed and _what(run) == _what(other)


def _times(run: Facts) -> Hashable | None:
    return run.timing.epochs if run.timing and any(run.timing.epochs) else None


def _what(run: Facts) -> Hashable:
    networks = str((run.spec.get("networks") or {}).get(run.network))
    return (run.network, networks, run.backend, run.dataset, run.dtype, tuple(sorted(run.settings.items())))
