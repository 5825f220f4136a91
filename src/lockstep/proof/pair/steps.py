"""Training steps of the persons' own, on the same batches from the same weights; where they part, and what explains it.

What loss and optimizer do otherwise was found before; a step that parts for these alone is equal once they are put
right. What a `train_step` does besides is told by taking its file's own parts together in another way: a way that gives
its numbers is what it does.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.training import Part, Steps, Way
from lockstep.language import later
from lockstep.proof.pair import losses, mapping, optimizers, stages, tolerances
from lockstep.proof.pair.losses import Labels
from lockstep.proof.pair.party import Parties, Party
from lockstep.proof.pair.stages import Parts, Told
from lockstep.store.documents.difference import Spot
from lockstep.store.documents.part import but

STAGE = "steps"
MOST_TRIED = 3  # steps by which a way is told from another
MOST_KEPT = 50_000_000  # numbers of all steps together
DECAYS = (1e-4, 5e-4, 1e-3, 1e-2, 1e-5, 2e-4, 2e-3, 2e-2)  # λ of ½·λ·‖w‖²
CLIPS = (1.0, 5.0, 0.5, 0.1, 0.25, 2.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Run:
    """Steps of one side in both precisions."""

    exact: Steps
    rough: Steps


Batch = tuple[np.ndarray, np.ndarray]


def compared(
    parties: Parties, pairing: mapping.Pairing, parts: Parts, n: int, seed: int, of_loss: losses.Result,
    of_optimizer: optimizers.Result, known: Collection[str] = (),
) -> Told:  # fmt: skip
    """Both sides' own steps, or steps of their losses and optimizers where a file has no `train_step`.

    `known` are units of the second side that differ for a reason that was found, and are not looked at again.
    """
    pairing = dataclasses.replace(pairing, pairs=tuple(pair for pair in pairing.pairs if pair.b not in known))
    told = Told()
    ways = [_way(own, party) for own, party in zip(parts, parties, strict=True)]
    for way, own, party in zip(ways, parts, parties, strict=True):
        if way is None:
            lacks = ", ".join(part for part in ("loss", "optimizer") if part not in own)
            lack = later("{file} has no train_step, and no {parts}", file=str(party.exact.asked), parts=lacks)
            told.not_observed.append(later("steps: {why}", why=lack))
            return told
    if len(parties[0].batch) != 1 or not of_loss.labels:
        told.not_observed.append(later("steps: the models take several inputs, or give other outputs"))
        return told
    n_entries = sum(int(np.prod(unit.shape)) for unit in parties[0].model.units)
    if n * n_entries > MOST_KEPT:
        told.not_observed.append(later("steps: {n} of {all} parameters are too many to be kept", n=n, all=n_entries))
        return told
    taken = [way for way in ways if way is not None]
    found, batches, why = _accepted(parties, taken, n, seed, of_loss)
    if found is None:
        told.not_observed.append(later("steps: {why}", why=str(why)))
        return told
    what = later("training steps")
    first = _first(found, pairing, _loose(parties))
    if first is None:
        told.count(STAGE, n, n, what)
        return told
    _explain(told, parties, pairing, parts, batches, taken, found, first, (of_loss, of_optimizer))
    return told


def _way(parts: Any, party: Party) -> Way | None:
    """How a side's steps are taken; None where nothing says it."""
    if "train_step" not in parts and not {"loss", "optimizer"} <= set(parts):
        return None
    return Way(is_own="train_step" in parts, changes=tuple(party.changes))


def _accepted(
    parties: Parties, ways: Sequence[Way], n: int, seed: int, of_loss: losses.Result
) -> tuple[tuple[Run, Run] | None, tuple[list[Batch], list[Batch]], LockstepError | None]:
    """Both sides' runs on the first batches that both take: labels are tried as losses take them."""
    why: LockstepError | None = None
    for labels in of_loss.labels:
        batches = _batches(parties, labels, n, seed)
        try:
            one, two = (_run(party, own, way) for party, own, way in zip(parties, batches, ways, strict=True))
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            why = why or error
            continue
        return (one, two), batches, None
    return None, ([], []), why


def _batches(parties: Parties, labels: Labels, n: int, seed: int) -> tuple[list[Batch], list[Batch]]:
    """The same batches for both, each as its side takes it."""
    first, there = parties[0].batch[0], _there(parties)
    found: tuple[list[Batch], list[Batch]] = ([], [])
    for index in range(n):
        numbers = np.random.default_rng([seed, 11, index])
        if np.issubdtype(first.dtype, np.floating):
            x = numbers.normal(size=first.shape).astype(np.float32).astype(np.float64)
        else:
            x = numbers.integers(first.min(), first.max() + 1, first.shape).astype(first.dtype)
        _plain, given = labels.drawn(seed + index)
        for own, value, y in zip(found, (x, there(x)), given, strict=True):
            own.append((value, y))
    return found


def _there(parties: Parties) -> Callable[[np.ndarray], np.ndarray]:
    """The first side's inputs as the second one takes them: what the first batch's layout says."""
    one, two = (party.batch[0] for party in parties)
    if one.shape == two.shape and np.array_equal(one, two):
        return lambda value: value
    if one.ndim > 2 and np.array_equal(np.moveaxis(one, 1, -1), two):
        return lambda value: np.ascontiguousarray(np.moveaxis(value, 1, -1))
    return lambda value: np.ascontiguousarray(np.moveaxis(value, -1, 1))


def _run(party: Party, batches: Sequence[Batch], way: Way) -> Run:
    narrow = [(_narrow(x), _narrow(y)) for x, y in batches]
    return Run(party.exact.train(batches, way), party.rough.train(narrow, way))


def _narrow(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if value.dtype == np.float64 else value


# ------------------------------------------------------------------------------------------------------ where they part


@dataclasses.dataclass(frozen=True)
class Parted:
    """The first step after which two runs are not equal."""

    step: int
    off: float
    losses: tuple[float | None, float | None]
    units: tuple[str, ...]  # the second side's, that are not equal after it
    is_of_the_loss: bool


def _loose(parties: Parties) -> float:
    """The share of a value that numbers of float32 inside of the models may move it by, there and back."""
    return tolerances.FACTOR * max(party.loose for party in parties)


def _first(runs: tuple[Run, Run], pairing: mapping.Pairing, loose: float) -> Parted | None:
    """Where two sides part; None where they don't."""
    one, two = runs
    for step in range(len(one.exact.values)):
        pair = one.exact.losses[step], two.exact.losses[step]
        off, tolerance, is_loss = 0.0, 0.0, False
        if pair[0] is not None and pair[1] is not None:
            exact = [np.array([run.exact.losses[step]]) for run in runs]
            tolerance = tolerances.of_arrays(
                exact, [np.array([run.rough.losses[step]]) for run in runs], loose * (step + 1)
            )
            off = abs(pair[0] - pair[1])
            is_loss = off > tolerance
        units = tuple(_units_off(runs, pairing, step, loose * (step + 1)))
        if is_loss or units:
            return Parted(step, max([off, *(size for _name, size in units)]), pair,
                          tuple(name for name, _size in units), is_loss)  # fmt: skip
    return None


def _units_off(runs: tuple[Run, Run], pairing: mapping.Pairing, step: int, share: float) -> Iterator[tuple[str, float]]:
    """(the second side's unit, how far it is off) of all that differ after a step."""
    one, two = (run.exact.values[step] for run in runs)
    beside = [run.rough.values[step] for run in runs]
    pairs = [pair for pair in pairing.pairs if pair.a in one and pair.b in two]
    exact = [*(one[pair.a] for pair in pairs), *(two[pair.b] for pair in pairs)]
    rough = [*(beside[0][pair.a] for pair in pairs), *(beside[1][pair.b] for pair in pairs)]
    tolerance = tolerances.of_arrays(exact, rough, share)
    for pair in pairs:
        off = stages.off(np.asarray(pair.there(one[pair.a])), two[pair.b])
        if off > tolerance:
            yield pair.b, off


def _same(run: Steps, other: Steps, tolerance: float) -> bool:
    """Whether two runs of one side are the same steps."""
    return all(
        stages.off(value, after[name]) <= tolerance * (step + 1)
        for step, (values, after) in enumerate(zip(run.values, other.values, strict=False))
        for name, value in values.items() if name in after
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- the causes


def _explain(
    told: Told, parties: Parties, pairing: mapping.Pairing, parts: Parts, batches: tuple[list[Batch], list[Batch]],
    ways: Sequence[Way], runs: tuple[Run, Run], first: Parted, before: tuple[losses.Result, optimizers.Result],
) -> None:  # fmt: skip
    """Say what makes the steps part: what was found before, or what the steps themselves do."""
    n, spot = len(batches[0]), _spot(parts, first)
    what = later("training steps")
    composed = [_as_composed(*each) for each in zip(parties, parts, batches, ways, runs, strict=True)]
    if composed[0] is None or composed[1] is None:
        told.findings.append(stages.finding(STAGE, spot, off=first.off))
        told.count(STAGE, first.step, n, what)
        return
    right = dataclasses.replace(
        composed[1], **{key: getattr(composed[0], key) for key in VARIED}, of_loss=before[0].changes,
        of_optimizer=before[1].changed,
    )  # fmt: skip
    try:
        again = _run(parties[1], batches[1], right)
        left = _first((runs[0], again), pairing, _loose(parties))
    except LockstepError as error:
        if error.code != "LS-403":
            raise
        left = first
    differing = [key for key in VARIED if getattr(composed[0], key) != getattr(composed[1], key)]
    remaining = 0.0 if left is None else np.inf
    for key in differing:
        values = getattr(composed[0], key), getattr(composed[1], key)
        told.findings.append(stages.finding(
            STAGE, spot, cause=_sentence(key, *values), meaning=key, values=values, off=first.off, error=remaining,
        ))  # fmt: skip
    if left is None and not differing:
        told.count(STAGE, n, n, later("training steps, with what was found before put right"))
        return
    if not differing:
        cause = ""
        if not (before[0].is_explained and before[1].is_explained):
            cause = later("the steps part after what differs in loss or optimizer, which could not be put right")
        told.findings.append(stages.finding(STAGE, spot, cause=cause, meaning="follows" if cause else "",
                                            off=first.off))  # fmt: skip
    told.count(STAGE, n if left is None else left.step, n, what)


def _spot(parts: Parts, first: Parted) -> Spot:
    own = [each.get("train_step") or each.get("optimizer") or Part("") for each in parts]
    words = [
        later("step {n}: loss {loss}", n=first.step + 1, loss="–" if loss is None else stages.number(loss))
        if first.is_of_the_loss
        else later("step {n}: {names}", n=first.step + 1, names=", ".join(first.units[:3]))
        for loss in first.losses
    ]
    spot = stages.spot_of(*own)
    return but(spot, a=words[0], b=words[1])


VARIED = ("mode", "is_accumulated", "is_scheduled", "clip_norm", "decay")


def _as_composed(party: Party, parts: Any, batches: Sequence[Batch], way: Way, run: Run) -> Way | None:
    """The way of taking a file's own parts together that gives its steps; None where none does."""
    if not way.is_own:
        return way
    if not {"loss", "optimizer"} <= set(parts):
        return None
    few = batches[:MOST_TRIED]
    tolerance = tolerances.FORMULA * tolerances.of_arrays(
        [value for values in run.exact.values[: len(few)] for value in values.values()],
        [value for values in run.rough.values[: len(few)] for value in values.values()],
    )
    plain = dataclasses.replace(way, is_own=False)
    for tried in _ways(plain, "schedule" in parts):
        try:
            steps = party.exact.train(few, tried)
        except LockstepError as error:
            if error.code != "LS-403":
                raise
            continue
        if _same(steps, run.exact, tolerance):
            return tried
    return None


def _ways(plain: Way, has_schedule: bool) -> Iterator[Way]:
    """Ways in which people take a step, the usual one first."""
    for mode, is_scheduled in itertools.product(("training", "inference"), (True, False) if has_schedule else (True,)):
        base = dataclasses.replace(plain, mode=mode, is_scheduled=is_scheduled)
        yield base
        yield dataclasses.replace(base, is_accumulated=True)
        yield from (dataclasses.replace(base, clip_norm=limit) for limit in CLIPS)
        yield from (dataclasses.replace(base, decay=decay) for decay in DECAYS)


def _sentence(key: str, a: Any, b: Any) -> str:
    """What the two steps do otherwise."""
    values = {"a": _word(key, a), "b": _word(key, b)}
    if key == "mode":
        return later("the model is called in {a} | {b} mode while it is trained", **values)
    if key == "is_accumulated":
        return later("gradients are {a} | {b} before a step", **values)
    if key == "is_scheduled":
        return later("the scheduler is {a} | {b} after each step", **values)
    if key == "clip_norm":
        return later("all gradients are cut to the norm {a} | {b}", **values)
    return later("½·λ·‖w‖² is added to the loss with λ = {a} | {b}", **values)


def _word(key: str, value: Any) -> Any:
    if key == "mode":
        return later("training") if value == "training" else later("inference")
    if key == "is_accumulated":
        return later("never set to zero") if value else later("set to zero")
    if key == "is_scheduled":
        return later("advanced") if value else later("not advanced")
    return value or "–"
