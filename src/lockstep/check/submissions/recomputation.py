"""What NumPy gives for a run again: its predictions from its weights, and its first losses from seed, recipe and data.

The losses of the first steps follow from everything that a run is: the starting weights, the images of each batch and
their order, augmentation and masks, the recipe. NumPy trains them anew in float64, and D(k), how far its own twins in
the run's dtype have parted from it by step k, says what rounding can have done (`growth`). Whoever trained under
another seed or recipe, on other data, or on the test images too, is further off from the first steps on.

A whole epoch parts further: one relu on the other side of its kink, and batches differ by more than any D that a
twin's luck shows. So the twins of a whole epoch start where FACTOR roundings of each of its steps would lie all
together, and what they come to, FACTOR times, is allowed: enough to tell one seed, recipe or dataset from another, and
not enough to tell two machines.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lockstep import data, store
from lockstep.backends import numpy as reference
from lockstep.backends.plan import Arrays, Numbers
from lockstep.check.submissions.consistency import FEW, shown
from lockstep.language import later
from lockstep.proof import growth, tolerances
from lockstep.spec import Run
from lockstep.spec.records import changed, digest
from lockstep.training import inputs, metrics, replay

FIRST_STEPS = 10
OTHER_SEEDS = 20  # seeds tried where the losses do not follow from the run's own,
MOST_TO_TRY = 2**29  # unless a batch takes more multiply-adds than this

# ------------------------------------------------------------------------------------------------- the training, again


@dataclasses.dataclass(frozen=True)
class Trained:
    """The first steps of a training: losses and correct answers (n,), and how far another of the same may be."""

    losses: np.ndarray
    correct: np.ndarray
    loss_tolerance: np.ndarray
    correct_tolerance: np.ndarray
    models: tuple[Any, ...] = ()  # where they stand after these steps, the exact one first

    def wrong(self, losses: np.ndarray, correct: np.ndarray) -> np.ndarray:
        """Which of these steps (n,) bool are not this training's."""
        n = len(self.losses)
        with np.errstate(invalid="ignore"):
            fits = np.abs(np.asarray(losses[:n], np.float64) - self.losses) <= self.loss_tolerance
            right = np.abs(np.asarray(correct[:n], np.float64) - self.correct) <= self.correct_tolerance
        undecided = ~np.isfinite(self.losses) | ~np.isfinite(self.loss_tolerance)  # no number to hold another against
        return np.asarray(~(fits & right) & ~undecided)


@np.errstate(all="ignore")
def first_steps(run: Run, examples: inputs.Examples, steps: int) -> Trained:
    """The first steps again, with the tolerance that `growth` measures."""
    exact, twins = _models(run, examples, 2 * tolerances.eps(run.dtype))
    found = [_take(model, run, examples, steps) for model in (exact, *twins)]
    (losses, correct), others = found[0], found[1:]
    apart = np.max([np.abs(one[0] - losses) for one in others], axis=0)
    parting = growth.Parting(run.dtype, min(run.recipe.batch_size, len(examples.train[0])))
    parting.D_loss, parting.size = apart.tolist(), (1 + np.abs(losses)).tolist()
    flips = np.max([np.abs(one[1] - correct) for one in others], axis=0)
    return Trained(losses, correct, parting.loss_tolerance, FEW + tolerances.FACTOR * np.maximum.accumulate(flips))


@np.errstate(all="ignore")
def whole_epoch(run: Run, examples: inputs.Examples) -> Trained:
    """The first epoch again, with twins that start from all the roundings of its steps at once."""
    n = len(data.epoch_order(len(examples.train[0]), run.recipe, run.seed, 0))
    steps = -(-n // run.recipe.batch_size)
    exact, twins = _models(run, examples, 2 * tolerances.FACTOR * steps * tolerances.eps(run.dtype))
    found = [_take(model, run, examples, steps) for model in (exact, *twins)]
    (losses, correct), others = found[0], found[1:]
    apart = np.maximum.accumulate(np.max([np.abs(one[0] - losses) for one in others], axis=0))
    own = tolerances.of(run.dtype, 1 + np.abs(losses), run.recipe.batch_size) * np.arange(1, steps + 1)
    flips = np.maximum.accumulate(np.max([np.abs(one[1] - correct) for one in others], axis=0))
    tolerance = tolerances.FACTOR * (apart + own)
    return Trained(losses, correct, tolerance, FEW + tolerances.FACTOR * flips, (exact, *twins))


def _models(run: Run, examples: inputs.Examples, nudge: float) -> tuple[Any, list[Any]]:
    """NumPy's model in float64, and twins of the run's dtype: one that rounds otherwise, one nudged at the start."""
    canonical = changed(run, backend="numpy", device="cpu")
    plan = inputs.make_plan(canonical, examples, 1)
    start = inputs.start(canonical, examples.shape)

    def built(dtype: str, threads: int, weights: Arrays) -> Any:
        own = {name: value.astype(dtype) for name, value in weights.items()}
        return reference.build(dataclasses.replace(plan, dtype=dtype, threads=threads), own, as_trained=False)

    twins = [built(plan.dtype, 3, _nudged(start, nudge, plan.dtype))]
    if plan.dtype == "float32":  # in float64 it would be the judge itself
        twins.append(built("float32", 1, start))
    return built("float64", 1, start), twins


def _nudged(start: Arrays, by: float, dtype: str) -> Arrays:
    """The starting weights with every other number moved by so many parts of itself."""
    found = {}
    for name, value in start.items():
        moved = value.astype(dtype)
        moved.reshape(-1)[::2] *= np.asarray(1 + by, dtype)
        found[name] = moved
    return found


def _take(model: Any, run: Run, examples: inputs.Examples, steps: int) -> np.ndarray:
    """(losses, correct answers) of a model's first steps: (2, steps), float64."""
    images, labels = examples.train
    recipe, found, taken, epoch = run.recipe, [], 0, 0
    while taken < steps:
        order = data.epoch_order(len(images), recipe, run.seed, epoch)[: (steps - taken) * recipe.batch_size]
        pixels = data.augment(images, recipe.augmentation, run.seed, epoch) if recipe.augmentation else images
        model.place(pixels, labels)
        found.append(np.asarray(model.train_epoch(order), np.float64))
        taken, epoch = taken + found[-1].shape[1], epoch + 1
    return np.concatenate(found, axis=1)


# ------------------------------------------------------------------------------------------------- held against the run


def training(record: store.Record, run: Run, examples: inputs.Examples) -> Iterator[str]:
    """The first losses and correct answers of steps.npz, from seed, recipe and data."""
    steps = record.arrays("steps")
    losses, correct = (np.asarray(steps.get(key, np.zeros(0)), np.float64) for key in ("loss", "correct"))
    n = min(FIRST_STEPS, len(losses), len(correct))
    if not n:
        yield later("steps.npz: it holds no losses")
        return
    trained = first_steps(run, examples, n)
    wrong = np.flatnonzero(trained.wrong(losses, correct))
    if not wrong.size:
        return
    step = int(wrong[0])
    facts = {
        "step": step + 1,
        "n": len(wrong),
        "all": n,
        "found": float(losses[step]),
        "tolerance": trained.loss_tolerance[step],
    }
    facts["wanted"] = float(trained.losses[step])
    if abs(facts["found"] - facts["wanted"]) <= facts["tolerance"]:
        facts |= {"found": float(correct[step]), "wanted": float(trained.correct[step])}
        facts["tolerance"] = trained.correct_tolerance[step]
        yield later(
            "steps.npz: not what seed {seed}, recipe and data give: {n} of the first {all} steps are off, step {step} "
            "has {found:.0f} right answers instead of {wanted:.0f}",
            seed=run.seed,
            **facts,
        )
        return
    said = later(
        "steps.npz: not what seed {seed}, recipe and data give: {n} of the first {all} losses are off, that of step "
        "{step} is {found:.6g} instead of {wanted:.6g}, where rounding allows {tolerance:.2g}",
        seed=run.seed,
        **facts,
    )
    other = None if step else _seed_of(losses, run, examples)
    if other is not None:
        said = later("{said}; the first loss is that of seed {other}", said=said, other=other)
    elif step:
        said = later("{said}; the first loss fits, so the weights that it started from are the seed's", said=said)
    yield said


@np.errstate(all="ignore")
def _seed_of(losses: np.ndarray, run: Run, examples: inputs.Examples) -> int | None:
    """Another small seed that gives this first loss, if there is one."""
    if run.network.summary(examples.shape)["multiply_adds"] * run.recipe.batch_size > MOST_TO_TRY:
        return None
    for seed in range(OTHER_SEEDS):
        if seed == run.seed:
            continue
        other = changed(run, seed=seed)
        own = inputs.Examples(examples.data, other) if run.recipe.validation else examples
        canonical = changed(other, backend="numpy", device="cpu")
        plan = dataclasses.replace(inputs.make_plan(canonical, own, 1), dtype="float64")
        start = {name: value.astype("float64") for name, value in inputs.start(canonical, own.shape).items()}
        found = _take(reference.build(plan, start, as_trained=False), other, own, 1)[0, 0]
        if abs(found - losses[0]) <= tolerances.FACTOR**2 * tolerances.of(run.dtype, 1 + abs(found), 2**10):
            return seed
    return None


def deep(record: store.Record, run: Run, examples: inputs.Examples) -> Iterator[str]:
    """Every loss of the first epoch, and what its weights come to on validation and test images."""
    steps, history = record.arrays("steps"), record.history
    trained = whole_epoch(run, examples)
    n = len(trained.losses)
    losses, correct = (np.asarray(steps.get(key, np.zeros(0)), np.float64) for key in ("loss", "correct"))
    if min(len(losses), len(correct)) < n:
        yield later("steps.npz: it holds {n} steps, an epoch has {all}", n=min(len(losses), len(correct)), all=n)
        return
    wrong = np.flatnonzero(trained.wrong(losses, correct))
    if wrong.size:
        step = int(wrong[0])
        facts = {"n": len(wrong), "all": n, "step": step + 1, "found": losses[step], "wanted": trained.losses[step]}
        yield later(
            "steps.npz: the first epoch, trained again: {n} of {all} losses are off, that of step {step} is "
            "{found:.6g} instead of {wanted:.6g}",
            **facts,
        )
    row = history[0] if history else {}
    for part, (images, labels) in (("validation", examples.validation), ("test", examples.test)):
        if len(images):
            yield from _evaluated_again(row, part, images, labels, run, trained)


def _evaluated_again(
    row: dict[str, Any], part: str, images: np.ndarray, labels: np.ndarray, run: Run, trained: Trained
) -> Iterator[str]:
    logits = [model.predict(images) for model in trained.models]
    for what, measure, least in (
        (
            "loss",
            lambda z: metrics.mean_loss(z, labels, run.recipe),
            float(trained.loss_tolerance[-1]) / tolerances.FACTOR,
        ),
        ("accuracy", lambda z: metrics.accuracy(z, labels), FEW / len(images)),
    ):
        wanted, *others = (measure(one) for one in logits)
        tolerance = tolerances.FACTOR * max(least, *(abs(other - wanted) for other in others))
        told = row.get(f"{part}_{what}")
        if not np.isfinite(wanted) or not np.isfinite(tolerance):
            continue
        if not isinstance(told, int | float) or abs(told - wanted) > tolerance:
            facts = {"key": f"{part}_{what}", "told": shown(told), "wanted": wanted, "tolerance": tolerance}
            yield later(
                "events.jsonl: epoch 1.{key}: it says {told}, trained again {wanted:.6g}, where rounding allows "
                "{tolerance:.2g}",
                **facts,
            )


# ---------------------------------------------------------------------------------------------- the last step, undone
# What the checkpoint holds is where the last step led to. The slots of Adam, AdamW and momentum say how long that step
# was, so its start is known, and with it the loss that steps.npz must end with: weights of another training do not have
# it. The other optimizers go by a gradient that nobody kept. Looking for its place by going back and forth was tried:
# four honest runs in a hundred came to rest at another one, beyond a kink, from which the step leads to the same
# weights.


def _adam(o: Any, now: Numbers, slots: Arrays) -> np.ndarray:
    m, v = slots["first_moment"], slots["second_moment"]
    corrected = np.sqrt(v / (1 - o.beta2**now.t)) + now.epsilon
    return np.asarray(now.rate / (1 - o.beta1**now.t) * m / corrected)


# kind → (record, numbers of the update, the parameter's slots after it) → what was taken off.
TAKEN_OFF: dict[str, Callable[[Any, Numbers, Arrays], np.ndarray]] = {
    "momentum": lambda o, now, slots: now.rate * slots["momentum"],
    "adam": _adam,
    "adamw": _adam,
}


def last_step(record: store.Record, run: Run, examples: inputs.Examples) -> Iterator[str]:
    """The loss of the last step before the weights that were kept, from these weights and the optimizer's slots."""
    found = replay.learned(record)
    epoch, taken = record.metrics.get("weights_of_epoch", len(record.history)), int(found.state.get("step", 0))
    losses = record.arrays("steps").get("loss", np.zeros(0))
    n = len(data.epoch_order(len(examples.train[0]), run.recipe, run.seed, 0))
    if taken != epoch * -(-n // run.recipe.batch_size) or not 0 < taken <= len(losses):
        facts = {"taken": taken, "epoch": shown(epoch)}
        yield later("the checkpoint: it is after {taken} steps, epoch {epoch} ends otherwise", **facts)
        return
    if run.recipe.optimizer.kind not in TAKEN_OFF or run.recipe.mistakes:
        return
    if list(_slots(found, run, examples)):  # wrong slots are reported elsewhere
        return
    wanted, tolerance = _undone(found, run, examples, epoch, taken)
    told = float(losses[taken - 1])
    if np.isfinite([wanted, tolerance]).all() and not abs(told - wanted) <= tolerance:
        yield later(
            "steps.npz: the last step, undone from the weights and the optimizer's slots, has the loss {wanted:.6g}; "
            "it says {told:.6g}, where rounding allows {tolerance:.2g}: these weights do not come from these steps",
            wanted=wanted,
            told=told,
            tolerance=tolerance,
        )


@np.errstate(all="ignore")
def _undone(
    found: replay.Learned, run: Run, examples: inputs.Examples, epoch: int, taken: int
) -> tuple[float, float]:  # fmt: skip
    """(loss at the start of the last step, what rounding may do to it)."""
    plan = inputs.make_plan(changed(run, backend="numpy", device="cpu"), examples, 1)
    batch = _last_batch(run, examples, epoch)
    exact = reference.build(dataclasses.replace(plan, dtype="float64"), found.weights, as_trained=False)
    before = _before(exact, found, taken)
    wanted = float(exact.gradients(*batch)[0])
    seen = []
    for moved in (before, _nudged(before, 2 * tolerances.eps(run.dtype), run.dtype)):
        own = {name: value.astype(run.dtype) for name, value in moved.items()}
        twin = reference.build(dataclasses.replace(plan, dtype=run.dtype, threads=3), own, as_trained=False)
        twin.restore(own, {**twin.state(), "step": np.array(taken - 1)})
        seen.append(abs(float(twin.gradients(*batch)[0]) - wanted))
    parting = growth.Parting(run.dtype, len(batch[0]))
    parting.D_loss, parting.size = [max(seen)], [1 + abs(wanted)]
    return wanted, float(parting.loss_tolerance[0])


def _last_batch(run: Run, examples: inputs.Examples, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) of an epoch's last step."""
    (images, labels), recipe = examples.train, run.recipe
    order = data.epoch_order(len(images), recipe, run.seed, epoch - 1)
    last = order[(len(order) - 1) // recipe.batch_size * recipe.batch_size :]
    pixels = data.augment(images, recipe.augmentation, run.seed, epoch - 1) if recipe.augmentation else images
    return pixels[last], labels[last]


def _before(model: Any, found: replay.Learned, taken: int) -> Arrays:
    """Set the model back to the weights before the last step, and return them."""
    plan, o = model.plan, model.plan.recipe.optimizer
    state = {name: value.astype(np.float64) for name, value in found.state.items()}
    now = plan.numbers(taken - 1)
    before = {}
    for name, value in found.weights.items():
        slots = {key.rpartition("/")[2]: slot for key, slot in state.items() if key.rpartition("/")[0] == name}
        before[name] = value.astype(np.float64) + TAKEN_OFF[o.kind](o, now, slots)
        if o.kind == "adamw" and name in plan.decayed:
            before[name] /= 1 - now.rate * o.weight_decay
    model.restore(before, {**state, "step": np.array(taken - 1)})
    return before


# ----------------------------------------------------------------------------------------- predictions from the weights


def weights(
    record: store.Record, run: Run, examples: inputs.Examples, logits: np.ndarray, limit: int | None
) -> Iterator[str]:
    """The predictions from the weights, by NumPy in float64; they may be FACTOR times as far off as NumPy's in float32.

    The same measure as that of the proof's predictions (docs/proof.md). The evaluations of the epoch that these weights
    are of follow from them too.
    """
    found = replay.learned(record)
    if digest(found.run.network) != digest(run.network):
        yield later("the weights are of another network")
        return
    exact, single = (
        replay.model(found, examples.shape, examples.mean, examples.scale, dtype) for dtype in ("float64", "float32")
    )
    yield from _slots(found, run, examples)
    images = examples.test[0][:limit]
    wanted, tolerance = _predicted(exact, single, images, run)
    if not np.isfinite(logits).all():
        if np.isfinite(wanted).all():
            yield later("predictions.npz: not what the weights give: they have values that are not finite")
        return
    apart = np.abs(logits[: len(wanted)].astype(np.float64) - wanted)
    if logits.shape[1] != wanted.shape[1] or len(logits) < len(wanted) or not apart.max() <= tolerance:
        worst = int(apart.max(axis=1).argmax())
        n = int((apart.max(axis=1) > tolerance).sum())
        yield later(
            "predictions.npz: not what the weights give: {n:,} of {all:,} images are off, image {worst} by {off:.3g}, "
            "where rounding allows {tolerance:.3g}",
            n=n,
            all=len(wanted),
            worst=worst,
            off=float(apart.max()),
            tolerance=tolerance,
        )
        return
    yield from _last_row(record, run, "test", logits, examples.test[1], tolerance)
    if len(examples.validation[0]) and limit is None:
        held_out, tolerance = _predicted(exact, single, examples.validation[0], run)
        yield from _last_row(record, run, "validation", held_out, examples.validation[1], tolerance)
    if record.metrics.get("train") and limit is None:  # older runs did not compute it
        learned, tolerance = _predicted(exact, single, examples.train_part[0], run)
        yield from _last_row(record, run, "train_inference", learned, examples.train_part[1], tolerance)


def _predicted(exact: Any, single: Any, images: np.ndarray, run: Run) -> tuple[np.ndarray, float]:
    """(logits, how far another computation's may be from them)."""
    wanted = exact.predict(images)
    off = float(np.abs(single.predict(images) - wanted).max()) * tolerances.eps(run.dtype) / tolerances.eps("float32")
    terms = max(tolerances.terms(row, 1)[0] for row in exact.plan.rows)
    largest = np.abs(wanted).max()
    tolerance = tolerances.FACTOR * off + float(tolerances.of(run.dtype, largest, terms))
    return wanted, tolerance + 2 * tolerances.of_factors(exact.plan.fraction_bits) * float(largest)


def _slots(found: replay.Learned, run: Run, examples: inputs.Examples) -> Iterator[str]:
    """The optimizer's memory in the checkpoint is that of the recipe's optimizer, after as many steps."""
    plan = inputs.make_plan(changed(run, backend="numpy", device="cpu"), examples, 1)
    wanted = reference.build(plan, found.weights, as_trained=False).state()
    shapes = [{name: np.shape(value) for name, value in state.items()} for state in (found.state, wanted)]
    if wrong := sorted(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name)):
        yield later(
            "the checkpoint: its state is not that of this recipe's optimizer: {names}", names=", ".join(wrong[:3])
        )


def _last_row(
    record: store.Record, run: Run, part: str, logits: np.ndarray, labels: np.ndarray, tolerance: float
) -> Iterator[str]:
    """What events.jsonl says of the epoch that the weights are of; a loss moves by twice as much as its logits."""
    epoch = record.metrics.get("weights_of_epoch", len(record.history))
    rows = [row for row in record.history if row.get("epoch") == epoch]
    if not rows or run.recipe.mistakes or not np.isfinite(logits).all():
        return
    wanted = metrics.mean_loss(logits, labels, run.recipe)
    size = max(float(np.abs(logits).max()), 1.0) if run.recipe.loss == "mean_squared_error" else 1.0
    told, of_mean = rows[0].get(f"{part}_loss"), 4 * tolerance * size + 1e-9 * abs(wanted)
    if not isinstance(told, int | float) or abs(told - wanted) > of_mean:
        facts = {"epoch": epoch, "key": f"{part}_loss", "told": shown(told), "wanted": shown(wanted)}
        yield later("events.jsonl: epoch {epoch}.{key}: it says {told}, the weights give {wanted}", **facts)
    ranked = np.sort(logits, axis=1)
    unsure = int((ranked[:, -1] - ranked[:, -2] <= 2 * tolerance).sum()) if logits.shape[1] > 1 else 0
    told, wanted = rows[0].get(f"{part}_accuracy"), metrics.accuracy(logits, labels)
    if not isinstance(told, int | float) or abs(told - wanted) * len(labels) > FEW + unsure + 1e-6:
        facts = {"epoch": epoch, "key": f"{part}_accuracy", "told": shown(told), "wanted": shown(wanted)}
        yield later("events.jsonl: epoch {epoch}.{key}: it says {told}, the weights give {wanted}", **facts)
