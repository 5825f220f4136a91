"""A backend's gradients beside central differences of its loss: `python -m lockstep.proof.derivatives FOLDER THREADS`.

Nothing is compared with another backend here: a gradient is right where it is the slope of the loss that the same
backend computes. The slope is measured in float64 at some parameters of each layer, (L(w + h) − L(w − h)) / 2h, with h
and with h/2, from which Richardson's combination is better than either by two orders and their difference says how far
off they may be. What the loss leaves out is put back: L2's λ·w, and the sum where the recipe minimises that.

Two things make a slope of the loss something else than a gradient, and are kept away. At a kink (relu at 0, a tie of
max-pooling) there is no slope: the start is moved off zero biases, where blank images lie exactly on one, and a place
where h and h/2 disagree is left out and another drawn. And an image's parameters with gradient 0 prove little, so half
of the places are drawn among those with the largest gradients and half among all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lockstep import backends, randomness, store
from lockstep.backends.contract import Model
from lockstep.backends.plan import Arrays, Plan
from lockstep.machine.clocks import Clocks
from lockstep.spec import Run
from lockstep.store.documents.gradients import Derivatives, Parameter
from lockstep.store.documents.proof import Verdict
from lockstep.training import inputs, loop, worker
from lockstep.training.environment import environment

FILE = "derivatives.json"
N_IMAGES = 16
DRAWN = 6  # places of each parameter
TRIES = 4  # times as many are drawn where some lie at kinks
STEP = 1e-4  # h, where a parameter is about 1 or less
SPREAD = 0.05  # of the noise that moves the start off kinks
SMOOTH = 1e-5  # h and h/2 disagree by no more than this part of the slope, or the place is at a kink
RELATIVE = 1e-7  # of a gradient: its own rounding, summed over thousands of products
ROUNDINGS = 64  # of the loss, which a difference divides by h


class Slope(NamedTuple):
    """The slope of the loss at one place, beside the gradient there; `room` is the tolerance that rounding gives it."""

    at: tuple[int, ...]
    gradient: float
    slope: float
    off: float
    room: float


def check(model: Model, images: np.ndarray, labels: np.ndarray, run: Run, seed: int = 0) -> list[Parameter]:
    """A row for each parameter of a model in float64, its weights moved off kinks first."""
    plan: Plan = model.plan
    weights, state = _moved(model.weights(), seed), model.state()
    model.restore(weights, state)
    _loss, gradients, _back, _outputs = model.gradients(images, labels)
    scale = len(images) if run.recipe.loss_reduction == "sum" else 1

    def loss(name: str, index: tuple[int, ...], value: float) -> float:
        moved = weights[name].copy()
        moved[index] = value
        model.restore({**weights, name: moved}, state)
        return float(model.gradients(images, labels)[0])

    rows = []
    for number, (name, value) in enumerate(weights.items()):
        decay = run.recipe.l2 if name in plan.decayed else 0.0
        rows.append(_parameter(name, value, gradients[name], loss, scale, decay, (seed, number)))
    model.restore(weights, state)
    return rows


def _moved(weights: Arrays, seed: int) -> Arrays:
    """The weights with a little noise, so that no bias is exactly 0."""
    return {
        name: value + SPREAD * randomness.normal(value.size, seed, "gradients", number, 1).reshape(value.shape)
        for number, (name, value) in enumerate(weights.items())
    }


def _parameter(
    name: str, value: np.ndarray, gradient: np.ndarray, loss: Callable[[str, tuple[int, ...], float], float],
    scale: int, decay: float, position: tuple[int, int],
) -> Parameter:  # fmt: skip
    compared: list[Slope] = []
    left_out = 0
    for index in _places(gradient, *position):
        h = STEP * max(abs(float(value[index])), 1.0)
        pairs = [[loss(name, index, float(value[index]) + side * h / part) for side in (1, -1)] for part in (1, 2)]
        wide, narrow = ((up - down) / (2 * h / part) for (up, down), part in zip(pairs, (1, 2), strict=True))
        rounding = ROUNDINGS * np.finfo(np.float64).eps * max(abs(pairs[0][0]), 1.0) / h
        found = float(gradient[index])
        if not abs(wide - narrow) <= SMOOTH * max(abs(narrow), abs(found) / scale) + rounding:
            left_out += 1
            continue
        slope = scale * (4 * narrow - wide) / 3 + decay * float(value[index])
        room = scale * (abs(wide - narrow) + rounding) + RELATIVE * max(abs(slope), abs(found))
        compared.append(Slope(index, found, slope, abs(found - slope), room))
        if len(compared) == DRAWN:
            break
    worst = max(compared, key=lambda one: _ratio(one.off, one.room), default=None)
    facts = worst._asdict() if worst else {}
    seen = min((one.room / abs(one.slope) for one in compared if one.slope), default=None)
    return Parameter(parameter=name, gradients=len(compared), left_out=left_out, **facts, seen=seen)


def _ratio(off: float, room: float) -> float:
    return off / room if np.isfinite(off) else np.inf


def _places(gradient: np.ndarray, seed: int, number: int) -> Iterator[tuple[int, ...]]:
    """Indices to look at, by turns from the tenth with the largest gradients and from all; none comes twice."""
    order = randomness.permutation(gradient.size, seed, "gradients", number)
    largest = set(np.argsort(-np.abs(gradient.ravel()), kind="stable")[: max(gradient.size // 10, 1)].tolist())
    steep, any_of = (item for item in order if int(item) in largest), iter(order)
    taken: dict[int, None] = {}
    while len(taken) < min(DRAWN * TRIES, gradient.size):
        for source in (steep, any_of):
            flat = next((int(item) for item in source if int(item) not in taken), None)
            if flat is not None:
                taken[flat] = None
                yield tuple(int(part) for part in np.unravel_index(flat, gradient.shape))


def verdict(rows: Sequence[Parameter]) -> Verdict:
    """EQUAL where every gradient is its slope, DIVERGED where one is not, INCONCLUSIVE where one was not seen."""
    if any(row.is_wrong for row in rows):
        return "DIVERGED"
    return "EQUAL" if rows and all(row.gradients for row in rows) else "INCONCLUSIVE"


# ---------------------------------------------------------------------------------------------------------- the worker


def look(run: Run, folder: Path, threads: int, tell: loop.Tell) -> None:
    """Check the backend of a run; the rows go into its folder's derivatives.json."""
    backend = backends.load(run.backend)
    examples = inputs.Examples(inputs.load(run.dataset), run)
    device = backend.device_name(run.device)
    store.write_json(folder / "environment.json", environment(run, examples, threads, device).document())
    model = loop.make_model(backend, run, examples, threads, Clocks())
    tell({"event": "phase", "phase": "gradients"})
    images, labels = (values[:N_IMAGES] for values in examples.train)
    found = Derivatives(rows=tuple(check(model, images, labels, run, run.seed)))
    store.write_json(folder / FILE, found.document())


def main(folder: Path, threads: int) -> int:
    """Check the backend of the run of this folder; returns the exit code."""
    return worker.work(folder, lambda run, tell: look(run, folder, threads, tell))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
