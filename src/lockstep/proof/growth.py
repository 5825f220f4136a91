"""How trainings that started alike part from each other, and what of that rounding alone cannot have done.

A rounding of the start grows to D(k) in k steps; D is measured by NumPy's own trainings, in float32 or in another order
of summation, against its float64. Every step adds a rounding of its own, so by step k all of them together may have
grown to FACTOR · (D(0) + … + D(k)).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lockstep import data
from lockstep.backends import numpy as reference
from lockstep.backends.plan import Arrays
from lockstep.proof import tolerances
from lockstep.proof.cases import Case
from lockstep.proof.findings import Finding, compare
from lockstep.proof.judge import Judge
from lockstep.proof.traces import Trace, part, reported_loss
from lockstep.store.documents.proof import Growth

WITHOUT_SHORT = " without the short batch"  # said of an epoch's full batches in one call
DETERMINED = 1e-3  # relative: beyond this, a parameter follows rounding and not the training


def batches(case: Case, judge: Judge, steps: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(step, images, labels) of the first steps of a run, as they should come."""
    recipe, seed = judge.run.recipe, judge.run.seed
    images, labels = case.examples.train
    number = epoch = 0
    while number < steps:
        pixels = data.augment(images, recipe.augmentation, seed, epoch) if recipe.augmentation else images
        order = data.epoch_order(len(images), recipe, seed, epoch)
        for start in range(0, len(order), recipe.batch_size):
            if number == steps:
                return
            indices = order[start : start + recipe.batch_size]
            yield number, pixels[indices], labels[indices]
            number += 1
        epoch += 1


def relative(found: Arrays, wanted: Arrays, names: Iterable[str]) -> float:
    """The largest |difference| of these parameters, relative to the network's largest number; NaN is infinite."""
    worst = 0.0
    size = max(float(np.abs(value).max(initial=0.0)) for value in wanted.values())
    for name in names:
        value = wanted[name]
        if name not in found or found[name].shape != value.shape:
            return float("inf")
        off = float(np.abs(found[name].astype(np.float64) - value).max(initial=0.0))
        worst = max(worst, off / size if size else off, key=lambda x: np.inf if np.isnan(x) else x)
    return worst if np.isfinite(worst) else float("inf")


@dataclass
class Parting:
    """How far trainings of one case were from the judge's after each step.

    `loss` and `weights`: name → one number per step, relative to the judge's loss and to its largest weight; of weights
    None where they were not kept. `D_loss`, not relative, and `D_weights`, relative, are what rounding alone was seen
    to do; `size` is that of a loss's rounding. `D_state` is the same of statistics and slots, by what they are called
    ("running_mean", "first_moment"). `undetermined` are parameters left out, with their slots, because rounding alone
    moves them by more than DETERMINED: the bias before a batch normalisation has gradient 0, of which Adam makes steps
    of full length.
    """

    dtype: str
    n_train: int
    loss: dict[str, list[float]] = field(default_factory=dict)
    weights: dict[str, list[float | None]] = field(default_factory=dict)
    D_loss: list[float] = field(default_factory=list)
    D_weights: list[float] = field(default_factory=list)
    D_state: dict[str, list[float]] = field(default_factory=dict)
    size: list[float] = field(default_factory=list)
    undetermined: set[str] = field(default_factory=set)

    @property
    def document(self) -> Growth:
        """What a proof keeps of it, and draws."""
        return Growth(
            steps=len(self.D_loss), loss=_lines(self.loss), weights=_lines(self.weights),
            undetermined=tuple(sorted(self.undetermined)),
        )  # fmt: skip

    @property
    def loss_tolerance(self) -> np.ndarray:
        """How far a loss may be from another of the same training, after each step."""
        return self._tolerance(self.D_loss, self.size)

    @property
    def weights_tolerance(self) -> np.ndarray:
        """How far weights may be from others of the same training, after each step, relative to the largest."""
        return self._tolerance(self.D_weights, 1.0)

    def state_tolerance(self, kind: str) -> np.ndarray:
        """The same for one kind of state, relative to its largest number."""
        return self._tolerance(self.D_state[kind], 1.0)

    def is_determined(self, name: str) -> bool:
        """Whether a parameter, one of its slots or a statistic follows the training, and not rounding."""
        return name not in self.undetermined and name.rpartition("/")[0] not in self.undetermined

    def _tolerance(self, seen: list[float], size: Any) -> np.ndarray:
        own = tolerances.of(self.dtype, np.asarray(size), self.n_train)  # what one step rounds by itself
        return np.asarray(tolerances.FACTOR * np.cumsum(np.asarray(seen) + own))


def _lines(rows: Mapping[str, Iterable[float | None]]) -> dict[str, tuple[float | None, ...]]:
    return {name: tuple(row) for name, row in rows.items()}


@np.errstate(all="ignore")
def measured(case: Case, traces: Sequence[Trace], steps: int) -> Parting:
    """Train the judge, its twins that only round otherwise, and compare the traces with it at every step.

    The first twin, "NumPy in float32" or in float64 "the judge in another order of summation", is drawn beside the
    backends; a second one starts from weights that differ by one rounding. D is the larger of the two.
    """
    judge = case.judge
    found = Parting(judge.dtype, len(case.examples.train[0]))
    measure = "NumPy in float32" if judge.dtype == "float32" else "the judge in another order of summation"
    # Three slices of each batch are added up in another order than one, so every step rounds otherwise.
    other = dataclasses.replace(judge.plan, threads=3, dtype=judge.dtype)
    nudged = reference.build(other, _nudged(judge.start, judge.dtype), as_trained=False)
    twins = [judge.single, nudged] if judge.dtype == "float32" else [nudged]
    names = [measure, *(trace.backend for trace in traces)]
    found.loss, found.weights = {name: [] for name in names}, {name: [] for name in names}
    for number, images, labels in batches(case, judge, steps):
        wanted = judge.exact.step(images, labels)
        losses = [twin.step(images, labels) for twin in twins]
        exact, rounded = judge.exact.weights(), [twin.weights() for twin in twins]
        found.undetermined |= {
            name for name in exact if any(relative({name: one[name]}, exact, [name]) > DETERMINED for one in rounded)
        }
        compared = [name for name in exact if found.is_determined(name)]
        states = judge.exact.state(), [twin.state() for twin in twins]
        for kind, pieces in _kinds(states[0], found).items():
            own = {name: states[0][name] for name in pieces}
            found.D_state.setdefault(kind, []).append(max(relative(one, own, pieces) for one in states[1]))
        off = [abs(loss - wanted) for loss in losses]
        apart = [relative(one, exact, compared) for one in rounded]
        found.D_loss.append(max(off))
        found.D_weights.append(max(apart))
        found.size.append(1 + abs(wanted))
        found.loss[measure].append(off[0] / max(abs(wanted), 1e-300))
        found.weights[measure].append(apart[0])
        for trace in traces:
            loss, state = reported_loss(trace.arrays(f"step-{number}")), trace.state(number + 1)
            found.loss[trace.backend].append(abs(loss - wanted) / max(abs(wanted), 1e-300))
            found.weights[trace.backend].append(relative(part(state, "weights"), exact, compared) if state else None)
    return found


def _kinds(state: Arrays, parting: Parting) -> dict[str, list[str]]:
    """What a piece of state is called → all pieces of that name that follow the training."""
    kinds: dict[str, list[str]] = {}
    for name in sorted(state):
        kind = name.rpartition("/")[2]
        if name != "step" and parting.is_determined(name):
            kinds.setdefault(kind, []).append(name)
    return kinds


def _nudged(start: Arrays, dtype: str) -> Arrays:
    """The starting weights with every other number moved by one rounding."""
    found = {}
    for name, value in start.items():
        moved = value.astype(dtype)
        moved.reshape(-1)[::2] *= np.asarray(1 + 2 * tolerances.eps(dtype), dtype)
        found[name] = moved
    return found


def training(parting: Parting, trace: Trace) -> Iterator[Finding]:
    """In float64, where two trainings stay together: the weights after every step that was kept, from the start."""
    if parting.dtype != "float64":
        return
    for step, (size, tolerance) in enumerate(
        zip(parting.weights[trace.backend], parting.weights_tolerance, strict=True)
    ):
        if size is not None:
            yield _apart("training", "all weights", step, size, tolerance, 1)


def whole_epoch(parting: Parting, trace: Trace) -> Iterator[Finding]:
    """The first epoch taken in one call, against the same backend's steps one by one, which were judged.

    Both are the same arithmetic, if not always the same program: a compiled loop over steps may round otherwise. Once
    more without the short last batch: a loop over full batches ends otherwise where nothing comes behind it.
    """
    steps = trace.manifest.steps_per_epoch
    if trace.has("epoch"):
        yield from _in_one_call(parting, trace, "epoch", steps, "")
    if trace.has("full"):
        yield from _in_one_call(parting, trace, "full", steps - 1, WITHOUT_SHORT)


def _in_one_call(parting: Parting, trace: Trace, name: str, steps: int, which: str) -> Iterator[Finding]:
    """So many steps in one call: losses, where the first that is off gives the step; weights, statistics and slots."""
    arrays, last = trace.arrays(name), steps - 1
    one_by_one = [trace.arrays(f"step-{step}") for step in range(steps)]
    losses, tolerance = np.array([reported_loss(step) for step in one_by_one]), parting.loss_tolerance[:steps]
    found = compare("whole epoch", f"losses{which}", last, arrays.get("loss"), losses, tolerance, whole=True)
    if not found.agrees and not found.problem:
        off = np.abs(arrays["loss"] - losses) > tolerance
        found = dataclasses.replace(found, step=int(off.argmax()))
    yield found
    updates = one_by_one[-1].get("state/step", np.array(steps))
    yield compare("whole epoch", f"updates taken{which}", last, arrays.get("state/step"), updates, whole=True)
    if (after := trace.state(steps)) is None:
        return
    exact, state = part(after, "weights"), part(after, "state")
    names = [name for name in exact if parting.is_determined(name)]
    parts = [("all weights", "weights", exact, names, parting.weights_tolerance)]
    for kind, pieces in _kinds(state, parting).items():
        if len(parting.D_state.get(kind, ())) > last:
            own = {name: state[name] for name in pieces}
            parts.append((kind, "state", own, pieces, parting.state_tolerance(kind)))
    for where, prefix, wanted, compared, tolerance in parts:
        found_here, n = part(arrays, prefix), sum(map(np.size, wanted.values()))
        has_all = all(name in found_here and found_here[name].shape == wanted[name].shape for name in wanted)
        size = relative(found_here, wanted, compared) if has_all else np.inf  # undetermined ones must be there, too
        yield _apart("whole epoch", f"{where}{which}", last, size, float(tolerance[last]), n)


def _apart(stage: str, where: str, step: int, size: float, tolerance: float, n: int) -> Finding:
    """A finding of many arrays at once, by their largest difference; nothing where the tolerance is not finite."""
    if not np.isfinite(tolerance):
        return Finding(stage, where, step, whole=True, is_beyond=True)
    return Finding(stage, where, step, size / tolerance, size, tolerance, n=n, whole=True)
