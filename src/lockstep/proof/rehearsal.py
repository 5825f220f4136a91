"""The training loop without a framework: taken with a model that only takes notes, and held against what is promised.

A proof's steps are those of the backends. What stands around them is the worker's: which images and labels are placed,
in which order each epoch comes, what is put back after the warm-up, which numbers are reported, when early stopping
ends a run and to which weights it goes back, what a checkpoint brings back, and what NumPy does with runs that are
trained together. All backends share that loop, so checking it needs no backend: here it is run once, in a moment, by
the very functions that training calls.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lockstep import data, store
from lockstep.backends import numpy as reference
from lockstep.backends.numpy import stack
from lockstep.backends.plan import Arrays, Plan
from lockstep.language import later
from lockstep.machine.clocks import Clocks
from lockstep.proof import audit
from lockstep.proof.audit import Doubt
from lockstep.spec import EarlyStopping, Recipe, Run, Study
from lockstep.spec.records import changed
from lockstep.spec.toml import resolved_toml
from lockstep.training import checkpoints, inputs, loop, metrics

# What is no stage of a proof's steps and may be doubted all the same.
STOPPING, RESUMING, TOGETHER = later("early stopping"), later("resuming"), later("trained together")
PATIENCE, EPOCHS = 2, 8
# What the logits of each epoch's predictions are multiplied by: a loss that falls, rises, falls a little, and rises.
FEW = 64  # images of each set that the loop is gone through with
SCALES = (1.0, 0.1, 0.5, 0.09, 2.0, 4.0, 8.0, 9.0)


@np.errstate(all="ignore")  # a recipe may leave the range of its numbers
def doubts(run: Run, examples: inputs.Examples) -> list[Doubt]:
    """Where the loop does not do what is promised; `run` and `examples` are those of a proof."""
    few = copy.copy(examples)
    few.train_part, few.validation, few.test = (
        (images[:FEW], labels[:FEW]) for images, labels in (examples.train_part, examples.validation, examples.test)
    )
    found = [*_loop(run, few), *_data(run, examples), *_metrics(run.recipe), *_resumed(run, examples)]
    return [doubt for doubt in [*found, *_together(run, examples)] if not doubt.size <= doubt.tolerance]


def _same(stage: str, where: str, found: Any, wanted: Any, tolerance: float = 0.0) -> Doubt:
    """Bit for bit, or within `tolerance` of the largest number; what is not finite by itself is not compared."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if tolerance and wanted.size and not np.isfinite(wanted.astype(np.float64)).all():
        return Doubt(stage, where, 0.0, 0.0)
    if found.shape != wanted.shape:
        return Doubt(stage, where, np.inf, 0.0)
    if np.array_equal(found, wanted):
        return Doubt(stage, where, 0.0, 0.0)
    off = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
    return Doubt(stage, where, float(off.max(initial=0.0)), tolerance * float(np.abs(wanted).max(initial=0.0)))


class Notes:
    """A model that computes nothing and remembers what it was asked."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        self.plan, self.epochs = plan, 0
        self.start = {name: value.copy() for name, value in weights.items()}
        self._weights, self._state = dict(self.start), {"step": np.array(0)}
        self.placed: list[tuple[np.ndarray, np.ndarray]] = []

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Take note of what training has before it."""
        self.placed.append((images.copy(), labels.copy()))

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Every weight and the state are others after each epoch, and say of which they are."""
        self.epochs += 1
        self._weights = {name: np.full_like(value, self.epochs) for name, value in self.start.items()}
        self._state = {"step": np.array(self.epochs * 1000)}
        steps = -(-len(order) // self.plan.recipe.batch_size)
        losses = np.random.default_rng(self.epochs).uniform(1, 2, steps)
        return np.stack([losses, np.minimum(np.arange(steps) % 3, 1)])

    def wait(self) -> None:
        """Nothing is under way."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits that follow from the image and the epoch."""
        return SCALES[min(self.epochs, len(SCALES)) - 1] * _features(images, self.plan.classes)

    def weights(self) -> Arrays:
        """The number of the epoch that they are of, everywhere."""
        return dict(self._weights)

    def state(self) -> Arrays:
        """A thousand times that."""
        return dict(self._state)

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Go back to that epoch."""
        self._weights, self._state = dict(weights), dict(state)
        self.epochs = int(state["step"]) // 1000


def _features(images: np.ndarray, classes: int) -> np.ndarray:
    flat = images.reshape(len(images), -1).astype(np.float64) / 255
    return flat @ np.random.default_rng(1).normal(size=(flat.shape[1], classes))


def _loop(run: Run, examples: inputs.Examples) -> Iterator[Doubt]:
    """Warm-up, epochs, evaluation and early stopping, as `worker.train` goes through them."""
    stopping = run.recipe.early_stopping
    if stopping:
        stopping = changed(stopping, patience=min(stopping.patience, PATIENCE))
    elif len(examples.validation[0]):
        stopping = EarlyStopping("validation_loss", PATIENCE)
    run = changed(run, recipe=changed(run.recipe, epochs=EPOCHS, early_stopping=stopping))
    backend: Any = SimpleNamespace(build=Notes)
    model: Any = loop.make_model(backend, run, examples, 1, Clocks())
    (images, labels), shape = examples.train, examples.shape
    for name, value in inputs.start(run, shape).items():
        yield _same("starting weights", f"{name} after the warm-up", model.weights()[name], value)
    yield _same("starting weights", "updates after the warm-up", model.state()["step"], 0)
    yield _same("data", "images after the warm-up", model.placed[-1][0], images)
    yield _same("data", "labels after the warm-up", model.placed[-1][1], labels)
    rows: list[dict[str, Any]] = []
    training, told = loop.train_epochs(model, run, examples, Clocks(), rows.append), None
    orders = []
    try:
        _model, order = next(training)
        while True:
            orders.append((order, *model.placed[-1]))
            losses, correct = told = model.train_epoch(order)
            yield _same("data", f"steps of epoch {len(rows) + 1}", model.plan.steps_per_epoch, len(losses))
            _model, order = training.send(loop.Taken(losses, correct, 0.0))
            yield from _row(run, examples, model, rows, order, *told)
    except StopIteration:
        if told is not None:
            yield from _row(run, examples, model, rows, orders[-1][0], *told)
    for epoch, (order, placed, answers) in enumerate(orders):
        wanted = data.augment(images, run.recipe.augmentation, run.seed, epoch) if run.recipe.augmentation else images
        yield _same(
            "data", f"order of epoch {epoch + 1}", order, data.epoch_order(len(images), run.recipe, run.seed, epoch)
        )
        yield _same("data", f"images of epoch {epoch + 1}", placed, wanted)
        yield _same("data", f"labels of epoch {epoch + 1}", answers, labels)
    yield from _stopped(run, model, rows)


def _row(
    run: Run, examples: inputs.Examples, model: Notes, rows: list[dict[str, Any]], order: np.ndarray,
    losses: np.ndarray, correct: np.ndarray,
) -> Iterator[Doubt]:  # fmt: skip
    """What an epoch reports: training's own numbers over all examples, and those of each set of images."""
    row, batch = rows[-1], run.recipe.batch_size
    sizes = np.array([len(order[start : start + batch]) for start in range(0, len(order), batch)])
    weights = None if "last_batch_unweighted" in run.recipe.mistakes else sizes
    where = f"epoch {row['epoch']}"
    yield _same("reported loss", where, row["train_loss"], np.average(losses, weights=weights), 1e-12)
    yield _same("reported loss", f"{where}, accuracy", row["train_accuracy"], correct.sum() / sizes.sum(), 1e-12)
    last = row["epoch"] * model.plan.steps_per_epoch - 1
    rate = audit.rate_of(run.recipe, last, model.plan.steps_per_epoch)
    yield _same("reported loss", f"{where}, learning rate", row["learning_rate"], rate, 1e-9)
    sets = {"train_inference": examples.train_part, "validation": examples.validation, "test": examples.test}
    for name, (images, labels) in sets.items():
        if len(images):
            logits = SCALES[row["epoch"] - 1] * _features(images, model.plan.classes)
            loss = audit.loss_of(run.recipe.loss, logits, np.eye(model.plan.classes)[labels])
            yield _same("reported loss", f"{where}, {name}", row[f"{name}_loss"], loss, 1e-9)
            right = np.mean(np.argmax(logits, axis=1) == labels)
            yield _same("reported loss", f"{where}, {name} accuracy", row[f"{name}_accuracy"], right, 1e-12)


def _stopped(run: Run, model: Notes, rows: list[dict[str, Any]]) -> Iterator[Doubt]:
    """When early stopping ends, and whose weights it leaves."""
    rule, last, best = run.recipe.early_stopping, EPOCHS, None
    if rule:
        sign = -1 if rule.monitor.endswith("loss") else 1
        value = -np.inf
        for row in rows:
            if best is None or sign * row[rule.monitor] > value + rule.min_delta:
                value, best = sign * row[rule.monitor], row["epoch"]
            if row["epoch"] - best >= rule.patience:
                last = row["epoch"]
                break
    yield _same(STOPPING, "epochs taken", len(rows), last)
    ends_with = best if rule and rule.restore_best and best else last
    yield _same(STOPPING, "updates at the end", model.state()["step"], ends_with * 1000)
    for name, left in model.weights().items():
        yield _same(STOPPING, name, left, np.full_like(left, ends_with))


def _shares(kept: np.ndarray, labels: np.ndarray, n: int, format: int) -> np.ndarray:
    """So many of the images that are kept: one after the other from the class that has least of its own (Webster)."""
    if format == 1 or n == len(kept):
        return kept[:n]
    of_class = {label: kept[labels[kept] == label] for label in np.unique(labels[kept])}
    taken = dict.fromkeys(of_class, 0)

    def need(label: int) -> tuple[float, int]:
        return (taken[label] + 0.5) / len(of_class[label]) if taken[label] else 0.0, label

    for _turn in range(n):
        taken[min((label for label in taken if taken[label] < len(of_class[label])), key=need)] += 1
    return np.sort(np.concatenate([indices[: taken[label]] for label, indices in of_class.items()]))


def _data(run: Run, examples: inputs.Examples) -> Iterator[Doubt]:
    """No image is held out and trained on; scaling is that of the training images; augmentation does what it says."""
    loaded = examples.data
    kept, held = data.split(len(loaded.train_images), run.recipe.validation, run.seed)
    both = np.concatenate([kept, held])
    yield _same("data", "training and validation images", np.sort(both), np.arange(len(loaded.train_images)))
    yield _same("data", "validation images", examples.validation[0], loaded.train_images[held])
    part = _shares(kept, loaded.train_labels, len(examples.train[0]), run.format)
    yield _same("data", "training images", examples.train[0], loaded.train_images[part])
    yield _same("data", "training labels", examples.train[1], loaded.train_labels[part])
    if "scaling_missing" not in run.recipe.mistakes:
        flat = examples.train[0].reshape(-1, examples.shape[2]).astype(np.float64)
        is_unit = run.recipe.scaling == "unit"
        mean = np.zeros(examples.shape[2]) if is_unit else flat.mean(axis=0)
        spread = np.full(examples.shape[2], 255.0) if is_unit else np.maximum(flat.std(axis=0), 1.0)
        yield _same("forward", "input: mean", examples.mean, mean, 1e-9)
        yield _same("forward", "input: scale", examples.scale, 1 / spread, 1e-9)
    yield from _augmented(run, examples)


def _augmented(run: Run, examples: inputs.Examples) -> Iterator[Doubt]:
    """Shifts reach as far as they should in every direction; a flip swaps left and right, of about half."""
    asked, n = run.recipe.augmentation, 256
    height, width, _channels = examples.shape
    if not asked:
        return
    if 0 < asked.shift < min(height, width) // 2:
        images = np.zeros((n, height, width, 1), np.uint8)
        images[:, height // 2, width // 2] = 255
        moved = data.augment(images, changed(asked, rotation=0.0, flip=False), run.seed, 0)
        yield _same("data", "images that are not shifted ones", ((moved == 255).sum(axis=(1, 2, 3)) != 1).sum(), 0)
        yield _same("data", "what a shift brings in", moved.sum(), images.sum())
        places = np.argwhere(moved[..., 0])[:, 1:] - (height // 2, width // 2)
        for axis, name in enumerate(("down", "right")):
            yield _same(
                "data", f"shifts {name} beyond the border of them", (np.abs(places[:, axis]) > asked.shift).sum(), 0
            )
            missing = {*range(-asked.shift, asked.shift + 1)} - {*places[:, axis].tolist()}
            if asked.shift < 10:  # of more some may be missing by chance
                yield _same("data", f"shifts {name} that never come", len(missing), 0)
    if asked.flip and width > 1:
        picture = np.arange(1, height * width + 1).reshape(height, width, 1) % 251 + 1
        images = np.repeat(picture[None], n, axis=0).astype(np.uint8)
        flipped = data.augment(images, changed(asked, rotation=0.0, shift=0), run.seed, 0)
        turned = [bool(np.array_equal(one, images[0, :, ::-1])) for one in flipped]
        others = sum(
            not (is_turned or np.array_equal(one, images[0])) for one, is_turned in zip(flipped, turned, strict=True)
        )
        yield _same("data", "images that are no mirror images", others, 0)
        yield Doubt("data", "share of mirror images", abs(float(np.mean(turned)) - 0.5), 6 * 0.5 / n**0.5)


def _metrics(recipe: Recipe) -> Iterator[Doubt]:
    """Loss and accuracy of predictions, beside SciPy's softmax and a plain count."""
    generator = np.random.default_rng(3)
    logits, labels = 3 * generator.normal(size=(64, 5)), generator.integers(0, 5, 64)
    wanted = audit.loss_of(recipe.loss, logits, np.eye(5)[labels])
    yield _same("reported loss", "loss of predictions", metrics.mean_loss(logits, labels, recipe), wanted, 1e-9)
    right = sum(int(row.argmax() == label) for row, label in zip(logits, labels, strict=True)) / 64
    yield _same("reported loss", "accuracy of predictions", metrics.accuracy(logits, labels), right, 1e-12)


def _resumed(run: Run, examples: inputs.Examples) -> Iterator[Doubt]:
    """What a run that was interrupted after its first epoch goes on from: all that it had."""
    plan = dataclasses.replace(inputs.make_plan(run, examples, 1), dtype="float64", device="cpu")
    weights = {name: value.astype("float64") for name, value in inputs.start(run, examples.shape).items()}
    generator, model = np.random.default_rng(13), reference.build(plan, weights)
    state = {name: value + generator.uniform(0.5, 1, value.shape) for name, value in model.state().items()}
    state["step"] = np.array(plan.steps_per_epoch)
    model.restore({name: value + generator.uniform(0.5, 1, value.shape) for name, value in weights.items()}, state)
    environment: dict[str, Any] = dict.fromkeys(checkpoints.DECIDES)
    environment["dataset"] = {"name": run.dataset, "hashes": dict(examples.data.hashes)}
    with tempfile.TemporaryDirectory(prefix="lockstep-rehearsal-") as name:
        folder = Path(name) / "run"  # a name that ends in eight hexadecimal signs would be taken for a run's hash
        store.make_folder(folder)
        asked = Study(networks={run.network_name: run.network}, dataset=(run.dataset,), backends=("numpy",),
                      seeds=(run.seed,), recipe=run.recipe, name=run.study, format=run.format)  # fmt: skip
        store.write_bytes(folder / "spec.toml", resolved_toml(asked).encode())
        keeper = checkpoints.Keeper(folder, environment)
        keeper.progress.steps = np.ones((3, plan.steps_per_epoch))
        keeper.progress.history = [{"event": "epoch", "epoch": 1}]
        checkpoints.save(folder, keeper.spec, environment, keeper.progress, model.weights(), model.state())
        other = reference.build(plan, weights)
        checkpoints.Keeper(folder, environment).resume(other, Clocks())
    for name, value in model.weights().items():
        yield _same(RESUMING, name, other.weights()[name], value)
    for name, value in model.state().items():
        yield _same(RESUMING, name, other.state()[name], value)


def _together(run: Run, examples: inputs.Examples) -> Iterator[Doubt]:
    """Two runs of NumPy trained together, of another seed and rate, end an epoch with what each has alone."""
    if run.dtype == "float64" or stack.why_not(run.network, examples.shape, run.recipe, 2):
        return
    images, labels = examples.train
    slower = changed(run.recipe.optimizer, learning_rate=run.recipe.optimizer.learning_rate / 2)
    runs = [run, changed(run, seed=run.seed + 1, recipe=changed(run.recipe, optimizer=slower))]
    models: list[list[reference.Model]] = [[], []]
    for one in runs:
        for found in models:
            plan = dataclasses.replace(inputs.make_plan(one, examples, 1), device="cpu")
            found.append(reference.build(plan, inputs.start(one, examples.shape)))
            found[-1].place(images, labels if one is run else np.roll(labels, 1))
    orders = [data.epoch_order(len(images), one.recipe, one.seed, 0) for one in runs]
    alone = [model.train_epoch(order) for model, order in zip(models[0], orders, strict=True)]
    together = stack.Together(models[1]).train_epoch(orders)
    for index, (by_itself, with_others) in enumerate(zip(alone, together, strict=True)):
        yield _same(TOGETHER, f"losses of member {index + 1}", with_others[0], by_itself[0], 1e-5)
        for name, value in models[0][index].weights().items():
            yield _same(
                "trained together", f"{name} of member {index + 1}", models[1][index].weights()[name], value, 1e-4
            )
