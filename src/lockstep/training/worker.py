"""One run in a process of its own: `python -m lockstep.training.worker FOLDER THREADS [STEPS]`.

The one training loop. It knows the contract and no framework; `backends.load` imports one, in a worker alone. What the
run is stands in the folder's spec.toml; what comes out goes into the folder; progress goes to the parent as one JSON
object a line. The process ends when its parent does. With STEPS it leaves a trace for a proof instead. Runs that are
trained together have one process for all: see `lockstep.training.crew`.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TextIO, TypeVar

import numpy as np

from lockstep import backends, data, randomness, store
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights, transposed
from lockstep.errors import LockstepError, Problem, is_want_of_memory
from lockstep.machine import processes, timing
from lockstep.proof import trace
from lockstep.spec import Recipe, Run, Shape
from lockstep.training import checkpoints, metrics
from lockstep.version import version

Report = Callable[[dict[str, Any]], None]


# --------------------------------------------------------------------------------------- what is decided before a run


class Examples:
    """A run's images and labels: training, validation and test, and what a pixel becomes.

    `train_part` is the part of the training images, without augmentation, on which the network is evaluated as it is on
    the test images: of the two accuracies the gap of overfitting is the difference.
    """

    def __init__(self, loaded: data.Data, run: Run) -> None:
        """Hold the validation images out, then keep `train_size` of the rest."""
        kept, held_out = data.split(len(loaded.train_images), run.recipe.validation, run.seed)
        if run.train_size:
            kept = data.part_of(kept, loaded.train_labels, run.train_size, run.format)
        whole = len(kept) == len(loaded.train_images)
        self.data = loaded
        self.train = (loaded.train_images, loaded.train_labels) if whole else _some(loaded, kept)
        self.validation = _some(loaded, held_out)
        self.test = (loaded.test_images, loaded.test_labels)
        self.train_part = _part(*self.train, min(len(self.test[0]), MOST_EVALUATED))
        self.mean, self.scale = _scaling(self.train[0], run.recipe)

    @property
    def shape(self) -> Shape:
        """(height, width, channels) of an image."""
        return tuple(self.train[0].shape[1:])


MOST_EVALUATED = 10_000  # training images that are evaluated at an epoch's end, as the test images are


def _part(images: np.ndarray, labels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """So many of the training images, or all: the same ones in every epoch, backend and seed.

    Drawn and not the first ones, because many a folder of images is sorted by class.
    """
    if len(images) <= most:
        return images, labels
    places = np.sort(randomness.permutation(len(images), 0, "evaluated")[:most])
    return images[places], labels[places]


def _some(loaded: data.Data, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return loaded.train_images[indices], loaded.train_labels[indices]


def _scaling(images: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """(mean, scale) of each channel: a pixel enters the network as (pixel − mean) · scale."""
    channels = images.shape[3]
    if "scaling_missing" in recipe.mistakes:
        return np.zeros(channels), np.ones(channels)
    if recipe.scaling == "unit":
        return np.zeros(channels), np.full(channels, 1 / 255)
    levels = np.arange(256.0)
    counts = np.stack([np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(channels)])
    mean = counts @ levels / counts.sum(axis=1)
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / counts.sum(axis=1)
    return mean, 1 / np.sqrt(np.maximum(variance, 1.0))


def make_plan(run: Run, examples: Examples, threads: int) -> Plan:
    """Everything decided, for a backend to compute."""
    n, batch = len(examples.train[0]), run.recipe.batch_size
    return Plan(
        run.network, examples.shape, run.recipe, run.seed, examples.mean, examples.scale,
        -(-len(data.epoch_order(n, run.recipe, run.seed, 0)) // batch), computed_dtype(run), run.device, threads,
    )  # fmt: skip


def computed_dtype(run: Run) -> str:
    """The dtype that is computed in: the one asked for, unless the recipe makes a mistake of it."""
    return "float32" if "computed_in_float32" in run.recipe.mistakes else run.dtype


def start(run: Run, shape: Shape) -> dict[str, np.ndarray]:
    """The run's starting weights for images of this shape, with its recipe's mistakes."""
    mistakes = run.recipe.mistakes
    seed = run.seed + ("weights_of_another_seed" in mistakes)
    weights = initial_weights(run.network, shape, seed, computed_dtype(run), run.format)
    return transposed(weights) if "kernels_transposed" in mistakes else weights


# ------------------------------------------------------------------------------------------------------------ the run


class Taken(NamedTuple):
    """What an epoch came to: each step's loss and correct answers, and its seconds."""

    losses: np.ndarray
    correct: np.ndarray
    seconds: float
    is_asked_to_end: Callable[[], bool] = lambda: False  # once it is saved


T = TypeVar("T")
# A training asks for one epoch after the other, with its model and the order of the examples, and is sent what each
# came to. Who takes the epochs, alone or together with others', is not its business.
Training = Generator[tuple[Any, np.ndarray], Taken, T]


def alone(training: Training[T]) -> T:
    """Take every epoch that a training asks for; what it returns."""
    try:
        model, order = next(training)
        with ending_later() as is_asked_to_end:
            while True:
                start = time.perf_counter()
                losses, correct = model.train_epoch(order)
                model.wait()
                taken = Taken(losses, correct, time.perf_counter() - start, is_asked_to_end)
                model, order = training.send(taken)
    except StopIteration as end:
        return end.value


def load(dataset: str) -> data.Data:
    """A dataset that is on this machine."""
    return data.load(dataset, offline=True)


def train(
    run: Run, folder: Path, threads: int, report: Report, together: int = 1,
    load: Callable[[str], data.Data] = load,
) -> Training[None]:  # fmt: skip
    """Do the run and leave its facts in the folder; `together` with others, so many in all, or alone."""
    clocks = timing.Clocks()
    with clocks.measure("import"):
        backend = backends.load(run.backend)
    with clocks.measure("load"):
        examples = Examples(load(run.dataset), run)
    timing.keep_freed_memory()  # from here on: what was freed while loading goes back
    with clocks.measure("build"):
        device = backend.device_name(run.device)  # which starts it, where it is a GPU
    around = environment(run, examples, threads, device, store.read_status(folder).get("threads"))
    keeper = checkpoints.Keeper(folder, {**around, "trained_together": together})
    described = keeper.described()
    store.write_json(folder / "environment.json", described)
    if resumed := keeper.announce():
        report(resumed)
    store.write_npz(
        folder / "samples.npz", images=examples.test[0][: store.SAMPLES], labels=examples.test[1][: store.SAMPLES]
    )
    report({"event": "phase", "phase": "build"})
    model = make_model(backend, run, examples, threads, clocks)
    keeper.resume(model, clocks)
    report({"event": "phase", "phase": "train"})
    history, steps, best = yield from train_epochs(model, run, examples, clocks, report, keeper)
    with clocks.measure("evaluate"):
        logits = model.predict(examples.test[0])
    keeper.note_peak()
    seconds = {**clocks.seconds, "total": clocks.total()}
    epoch = best if best and run.recipe.early_stopping and run.recipe.early_stopping.restore_best else len(history)
    keeper.finish(epoch, model)
    store.write_npz(folder / "steps.npz", **steps)
    store.write_npz(folder / "predictions.npz", logits=logits, labels=examples.test[1])
    store.write_npz(folder / "hardest.npz", **hardest(examples.test[0], examples.test[1], logits, run.recipe))
    facts = {"epochs": len(history), "best_epoch": best, "stopped_early": len(history) < run.recipe.epochs}
    facts |= {"weights_of_epoch": epoch}
    quality: dict[str, Any] = {"test": metrics.evaluate(logits, examples.test[1], run.recipe)}
    at_end = history[epoch - 1]  # whose weights these are; an epoch of an earlier version did not evaluate its images
    if "train_inference_accuracy" in at_end:
        train = {name: at_end[f"train_inference_{name}"] for name in ("accuracy", "loss")}
        quality["train"] = {**train, "images": len(examples.train_part[0])}
    store.write_json(folder / "metrics.json", {**quality, **facts, **run.network.summary(examples.shape)})
    epochs = [row["train_seconds"] for row in history]
    times = {"seconds": seconds, "epochs": epochs, "peak_memory_bytes": keeper.peak or None}
    parts = [described, *described.get("resumed", ())]
    most = max(together, *(part.get("trained_together", 1) for part in parts))
    store.write_json(folder / "timing.json", {**times, "parts": keeper.progress.parts, "together": most})
    store.write_manifest(folder)


HARDEST, HARDEST_BYTES = 200, 2**21  # test images that are kept to be looked at, and their size, where they are large


def hardest(images: np.ndarray, labels: np.ndarray, logits: np.ndarray, recipe: Recipe) -> dict[str, np.ndarray]:
    """The test images with the largest loss, for people to look at: {"indices": (k,), "images": (k, …) uint8}."""
    n = max(min(HARDEST, HARDEST_BYTES // images[0].nbytes), 25)
    indices = metrics.hardest(logits, labels, recipe, n)
    return {"indices": indices, "images": images[indices]}


def watch(run: Run, folder: Path, threads: int, report: Report, steps: int) -> None:
    """Take the run's first steps and leave a trace of them in the folder, instead of training to the end."""
    backend = backends.load(run.backend)
    examples = Examples(load(run.dataset), run)
    store.write_json(folder / "environment.json", environment(run, examples, threads, backend.device_name(run.device)))
    take_steps(backend, run, examples, folder, threads, report, steps)


def take_steps(
    backend: ModuleType, run: Run, examples: Examples, folder: Path, threads: int, report: Report, steps: int
) -> None:
    """The trace of the run's first steps in one backend, on these images."""
    model = make_model(backend, run, examples, threads, timing.Clocks())
    plan, (images, labels) = model.plan, examples.train
    writer = trace.Writer(folder, plan, steps, len(images))
    writer.start(model)
    start_of_all = model.weights(), model.state()
    epoch = 0
    while writer.taken < steps:
        report({"event": "phase", "phase": f"step {writer.taken + 1} of {steps}"})
        pixels, batches = epoch_of(run, images, epoch)
        if epoch == 0 or run.recipe.augmentation:  # when training does
            model.place(pixels, labels)
        results = []
        for batch in batches[: steps - writer.taken]:
            if writer.taken == max(steps // 2, 1):
                put_back(model, start_of_all, batch)
            results.append(writer.step(model, pixels, labels, batch))
        if len(results) == len(batches):
            losses = np.concatenate(results, axis=1)[0]
            sizes = np.array([len(batch) for batch in batches])
            writer.reported.append(mean_of_steps(losses, sizes, run.recipe))
        epoch += 1
    writer.end(model, examples.test[0])
    report({"event": "phase", "phase": "the last steps of the schedule"})
    late = max(run.recipe.epochs * plan.steps_per_epoch - 2, steps)
    logits = model.predict(examples.test[0][:64])
    model.restore(stretched(model.weights(), logits), model.state() | {"step": np.array(late)})
    for number in (late, late + 1):
        epoch, within = divmod(number, plan.steps_per_epoch)
        pixels, batches = epoch_of(run, images, epoch)
        model.place(pixels, labels)
        writer.late_step(number, model, pixels, labels, batches[within])
    if steps >= plan.steps_per_epoch:
        report({"event": "phase", "phase": "a whole epoch"})
        pixels, batches = epoch_of(run, images, 0)
        full = [batch for batch in batches if len(batch) == run.recipe.batch_size]
        model.place(pixels, labels)
        for name, taken in (("epoch", batches), ("full", full)):
            if name == "epoch" or 0 < len(full) < len(batches):
                model.restore(*start_of_all)
                writer.epoch(model, np.concatenate(taken), name)
    writer.finish(len(images))


def epoch_of(run: Run, images: np.ndarray, epoch: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """(the training images of an epoch, augmented; the indices of its batches)."""
    recipe = run.recipe
    pixels = data.augment(images, recipe.augmentation, run.seed, epoch) if recipe.augmentation else images
    taken = data.epoch_order(len(images), recipe, run.seed, epoch)
    return pixels, [taken[i : i + recipe.batch_size] for i in range(0, len(taken), recipe.batch_size)]


LARGEST_LOGIT = 60.0  # of the late steps: some probabilities are so small that what cuts them shows


def stretched(weights: dict[str, np.ndarray], logits: np.ndarray) -> dict[str, np.ndarray]:
    """The weights with the last kernel enlarged until logits such as these are as large as those of a long training."""
    largest = float(np.abs(logits).max(initial=0.0))
    kernels = [name for name in weights if name.endswith("/kernel")]
    if not kernels or not 0 < largest < LARGEST_LOGIT:
        return weights
    last = max(kernels, key=lambda name: int(name.partition("_")[0]))
    return weights | {last: (weights[last] * (LARGEST_LOGIT / largest)).astype(weights[last].dtype)}


def put_back(model: Any, elsewhere: tuple[Any, Any], batch: np.ndarray) -> None:
    """Take the model's weights and state out, let it stand and train elsewhere, and put them back."""
    kept = model.weights(), model.state()
    model.restore(*elsewhere)
    model.train_epoch(batch)
    model.restore(*kept)


def make_model(backend: ModuleType, run: Run, examples: Examples, threads: int, clocks: timing.Clocks) -> Any:
    """A model with the data placed and everything compiled, and nothing learned.

    The warm-up takes a few full steps and the short last one on random labels, then puts the start back.
    """
    weights = start(run, examples.shape)
    images, labels = examples.train
    with clocks.measure("build"):
        model = backend.build(make_plan(run, examples, threads), weights)
    state = model.state()
    n, batch = len(images), run.recipe.batch_size
    few = np.arange(min(n // batch, 2) * batch + n % batch)
    random_labels = randomness.bits(n, run.seed, "warm_up") % np.uint64(examples.data.n_classes)
    model.place(images[::-1], random_labels.astype(np.int64))
    with clocks.measure("compile"):
        model.train_epoch(few)
        model.predict(examples.test[0][: 2 * len(few)])
        model.wait()
    model.restore(weights, state)
    model.place(images, labels)
    model.wait()
    return model


def train_epochs(
    model: Any, run: Run, examples: Examples, clocks: timing.Clocks, report: Report,
    keeper: checkpoints.Keeper | None = None,
) -> Training[tuple[list[dict[str, Any]], dict[str, np.ndarray], int | None]]:  # fmt: skip
    """Every epoch: (history, one number per step of everything, the best epoch where one was looked for).

    With a keeper the epochs that it has are not taken again, and an epoch that is reported is saved. Raises Ended after
    an epoch by whose end somebody has asked for it.
    """
    recipe, (images, labels) = run.recipe, examples.train
    batch, n = recipe.batch_size, len(data.epoch_order(len(images), recipe, run.seed, 0))
    sizes = np.minimum(batch, n - np.arange(0, n, batch))
    progress = keeper.progress if keeper else checkpoints.Progress()
    stopping = Stopping(recipe, model)
    stopping.best_epoch, stopping.best, stopping.kept = progress.best_epoch, progress.best, progress.kept
    for epoch in range(progress.epoch, recipe.epochs):
        if stopping.is_over(epoch):
            break
        if recipe.augmentation:
            with clocks.measure("augment"):
                model.place(data.augment(images, recipe.augmentation, run.seed, epoch), labels)
                model.wait()
        order = data.epoch_order(len(images), recipe, run.seed, epoch)
        losses, correct, train_seconds, is_asked_to_end = yield model, order
        clocks.add("train", train_seconds)
        progress.steps = np.concatenate([progress.steps, np.stack([losses, correct, sizes])], axis=1)
        with clocks.measure("evaluate"):
            row = {
                "event": "epoch", "epoch": epoch + 1,
                "train_loss": mean_of_steps(losses, sizes, recipe), "train_accuracy": float(correct.sum() / n),
                **_evaluate(model, examples.train_part, "train_inference", recipe),
                **_evaluate(model, examples.validation, "validation", recipe),
                **_evaluate(model, examples.test, "test", recipe),
                "learning_rate": model.plan.learning_rate((epoch + 1) * len(sizes) - 1), "train_seconds": train_seconds,
            }  # fmt: skip
        progress.history.append(row)
        stopping.stops(epoch + 1, row)
        progress.best_epoch, progress.best, progress.kept = stopping.best_epoch, stopping.best, stopping.kept
        if keeper:
            keeper.save(model, clocks)
        report(row)
        if is_asked_to_end():
            raise Ended
    stopping.restore()
    return progress.history, dict(zip(checkpoints.STEPS, progress.steps, strict=True)), stopping.best_epoch


class Ended(BaseException):
    """The run was asked to end, and what it has done is saved."""


@contextlib.contextmanager
def ending_later() -> Iterator[Callable[[], bool]]:
    """Inside, SIGTERM and SIGHUP wait until the epoch under way is saved; gives whether one has come."""
    asked: list[int] = []
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    for name in names:
        if before[name] != signal.SIG_IGN:  # nohup
            signal.signal(getattr(signal, name), lambda number, frame: asked.append(number))
    try:
        yield lambda: bool(asked)
    finally:
        for name in names:
            signal.signal(getattr(signal, name), before[name] or signal.SIG_DFL)


def mean_of_steps(losses: np.ndarray, sizes: np.ndarray, recipe: Recipe) -> float:
    """The training loss that is reported: the mean over examples of the steps' losses as they were taken."""
    return float(losses.mean() if "last_batch_unweighted" in recipe.mistakes else losses @ sizes / sizes.sum())


def _evaluate(model: Any, part: tuple[np.ndarray, np.ndarray], name: str, recipe: Recipe) -> dict[str, Any]:
    images, labels = part
    if not len(images):
        return {f"{name}_loss": None, f"{name}_accuracy": None}
    logits = model.predict(images)
    return {
        f"{name}_loss": metrics.mean_loss(logits, labels, recipe),
        f"{name}_accuracy": metrics.accuracy(logits, labels),
    }


class Stopping:
    """Early stopping: when to stop, and the best epoch's weights to go back to."""

    def __init__(self, recipe: Recipe, model: Any) -> None:
        """Look for nothing where the recipe asks for nothing."""
        self.rule, self.model = recipe.early_stopping, model
        self.best_epoch: int | None = None
        self.best = -np.inf
        self.kept: tuple[Any, Any] | None = None

    def stops(self, epoch: int, row: dict[str, Any]) -> bool:
        """Whether training ends after this epoch."""
        if self.rule is None:
            return False
        value = row[self.rule.monitor] * (-1 if self.rule.monitor.endswith("loss") else 1)
        value = -np.inf if np.isnan(value) else value
        if self.best_epoch is None or value > self.best + self.rule.min_delta:
            self.best, self.best_epoch = value, epoch
            self.kept = (self.model.weights(), self.model.state()) if self.rule.restore_best else None
        return self.is_over(epoch)

    def is_over(self, epoch: int) -> bool:
        """Whether training has ended, with so many epochs done."""
        return self.rule is not None and self.best_epoch is not None and epoch - self.best_epoch >= self.rule.patience

    def restore(self) -> None:
        """Go back to the best epoch, where the recipe asks for it."""
        if self.kept is not None:
            self.model.restore(*self.kept)


# ----------------------------------------------------------------------------------------------------- what is noted


def environment(
    run: Run, examples: Examples, threads: int, device: str, asked: int | None = None
) -> dict[str, Any]:  # fmt: skip
    """Everything around the run that its numbers depend on; `device` is what the backend calls it.

    `asked` is how many threads were asked for, where it may be more than the run takes.
    """
    loaded, classes = examples.data, examples.data.n_classes
    known = data.DATASETS.get(loaded.name)
    return {
        "lockstep": version(),
        "git_revision": timing.git_revision(),
        "lockstep_sources": timing.own_sources(),
        "python": platform.python_version(),
        "versions": backends.versions(run.backend),
        **timing.machine(),
        "device": device,
        "threads": timing.obtained_threads(asked or threads, threads),
        "dataset": {
            "name": loaded.name, "title": known.title if known else loaded.name, "origin": loaded.origin,
            "hashes": dict(loaded.hashes), "notes": list(loaded.notes),
            "shape": list(examples.shape), "class_names": list(loaded.class_names),
            "class_counts": np.bincount(examples.train[1], minlength=classes),
            "n_train": len(examples.train[0]), "n_validation": len(examples.validation[0]),
            "n_test": len(examples.test[0]), "n_test_in_training": loaded.n_test_in_training(),
            "pixel_mean": examples.mean.tolist(), "pixel_scale": examples.scale.tolist(),
        },
    }  # fmt: skip


def failure(error: BaseException, log: Path | None = None) -> dict[str, Any]:
    """What status.json says of a run that came to this end; `log` is where its traceback stands."""
    if isinstance(error, LockstepError):
        return {"code": error.code, "reason": str(error)}
    if is_want_of_memory(error):
        hint = "a smaller network or recipe.batch_size takes less"
        return {"code": "LS-503", "reason": str(Problem("LS-503", f"not enough memory: {error}"[:1000], "", hint))}
    message = f"{type(error).__name__}: {error}".strip()[:1500]
    return {
        "code": "LS-403",
        "reason": str(Problem("LS-403", message, "", f"the traceback is in {log}" if log else "")),
    }


def main(folder: Path, threads: int, steps: int | None = None) -> int:
    """Do the run of this folder, or with `steps` leave a trace of so many; its status says how it ended.

    Returns the exit code.
    """
    report = reporter(folder, begin())
    try:
        (run,) = store.read_asked(folder).runs()
        if steps is None:
            alone(train(run, folder, threads, report))
        else:
            watch(run, folder, threads, report, steps)
    except BaseException as error:
        end(folder, error, folder / "worker.log")
        return 1
    end(folder)
    return 0


def begin() -> TextIO:
    """Make this process a worker. What it tells its parent goes into the file returned, all else into the log."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a framework prints goes to the log
    processes.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches parent and worker alike: the parent decides
    return channel


def reporter(folder: Path, channel: TextIO, **which: Any) -> Report:
    """Who hears of a run's events: its folder, and the parent, who is told `which` run it is."""

    def report(event: dict[str, Any]) -> None:
        store.append_event(folder / "events.jsonl", event)
        channel.write(json.dumps(store.finite({**event, **which})) + "\n")

    return report


def end(folder: Path, error: BaseException | None = None, log: Path | None = None) -> None:
    """Say in a run's folder how it ended; the traceback of an error goes into the log."""
    if error is None:
        store.write_status(folder, "finished")
        checkpoints.leave_last(folder)  # not before: whoever is killed here goes on from the newest
    elif isinstance(error, Ended):
        store.write_status(folder, "failed", "LS-402", store.INTERRUPTED)
    else:
        traceback.print_exception(error)
        store.write_status(folder, "failed", **failure(error, log))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
