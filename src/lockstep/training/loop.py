"""The one training loop: epochs, their evaluation, and what a run leaves in its folder.

It knows the contract and no framework. Who takes the epochs, one run alone or several together, is not its business:
see `Training`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lockstep import backends, data, randomness, store
from lockstep.backends.contract import Backend, Model, Predictor, Trainable
from lockstep.data import mistakes
from lockstep.machine import memory
from lockstep.machine.clocks import Clocks
from lockstep.spec import Recipe, Run
from lockstep.store.documents.part import but
from lockstep.store.documents.run import Metrics, Timing
from lockstep.training import checkpoints, early_stopping, inputs, metrics
from lockstep.training.environment import environment

Tell = Callable[[dict[str, Any]], None]


class Taken(NamedTuple):
    """What an epoch came to: each step's loss and correct answers, and its seconds."""

    losses: np.ndarray
    correct: np.ndarray
    seconds: float
    is_asked_to_end: Callable[[], bool] = lambda: False  # once it is saved


T = TypeVar("T")
# A training asks for one epoch after the other, with its model and the order of the examples, and is sent what each
# came to. Who takes the epochs, alone or together with others', is not its business.
Training = Generator[tuple[Trainable, np.ndarray], Taken, T]


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


def train(
    run: Run, folder: Path, threads: int, tell: Tell, together: int = 1,
    load: Callable[[str], data.Data] = inputs.load,
) -> Training[None]:  # fmt: skip
    """Do the run and leave its facts in the folder; `together` with others, so many in all, or alone."""
    clocks = Clocks()
    with clocks.measure("import"):
        backend = backends.load(run.backend)
    with clocks.measure("load"):
        examples = inputs.Examples(load(run.dataset), run)
    memory.keep_freed_memory()  # from here on: what was freed while loading goes back
    with clocks.measure("build"):
        device = backend.device_name(run.device)  # which starts it, where it is a GPU
    around = environment(run, examples, threads, device, store.read_status(folder).get("threads"))
    keeper = checkpoints.Keeper(folder, but(around, trained_together=together).document())
    described = keeper.described()
    store.write_json(folder / "environment.json", described)
    if resumed := keeper.announce():
        tell(resumed)
    store.write_npz(
        folder / "samples.npz", images=examples.test[0][: store.SAMPLES], labels=examples.test[1][: store.SAMPLES]
    )
    tell({"event": "phase", "phase": "build"})
    model = make_model(backend, run, examples, threads, clocks)
    keeper.resume(model, clocks)
    tell({"event": "phase", "phase": "train"})
    history, steps, best = yield from train_epochs(model, run, examples, clocks, tell, keeper)
    with clocks.measure("evaluate"):
        logits = model.predict(examples.test[0])
    keeper.note_peak()
    seconds = {**clocks.seconds, "total": clocks.total()}
    epoch = best if best and run.recipe.early_stopping and run.recipe.early_stopping.restore_best else len(history)
    keeper.finish(epoch, model)
    store.write_npz(folder / "steps.npz", **steps)
    store.write_npz(folder / "predictions.npz", logits=logits, labels=examples.test[1])
    store.write_npz(folder / "hardest.npz", **hardest(examples.test[0], examples.test[1], logits, run.recipe))
    facts: dict[str, Any] = {"test": metrics.evaluate(logits, examples.test[1], run.recipe)}
    at_end = history[epoch - 1]  # whose weights these are; an epoch of an earlier version did not evaluate its images
    if "train_inference_accuracy" in at_end:
        train = {name: at_end[f"train_inference_{name}"] for name in ("accuracy", "loss")}
        facts["train"] = {**train, "images": len(examples.train_part[0])}
    found = Metrics(
        epochs=len(history), best_epoch=best, stopped_early=len(history) < run.recipe.epochs, weights_of_epoch=epoch,
        **facts, **run.network.summary(examples.shape),
    )  # fmt: skip
    store.write_json(folder / "metrics.json", found.document())
    epochs = tuple(row["train_seconds"] for row in history)
    parts = [described, *described.get("resumed", ())]
    most = max(together, *(part.get("trained_together", 1) for part in parts))
    times = Timing(
        seconds=seconds,
        epochs=epochs,
        peak_memory_bytes=keeper.peak or None,
        parts=keeper.progress.parts,
        together=most,
    )
    store.write_json(folder / "timing.json", times.document())
    store.write_manifest(folder)


HARDEST, HARDEST_BYTES = 200, 2**21  # test images that are kept to be looked at, and their size, where they are large


def hardest(images: np.ndarray, labels: np.ndarray, logits: np.ndarray, recipe: Recipe) -> dict[str, np.ndarray]:
    """The test images with the largest loss, for people to look at: {"indices": (k,), "images": (k, …) uint8}."""
    n = max(min(HARDEST, HARDEST_BYTES // images[0].nbytes), 25)
    indices = metrics.hardest(logits, labels, recipe, n)
    return {"indices": indices, "images": images[indices]}


def make_model(backend: Backend, run: Run, examples: inputs.Examples, threads: int, clocks: Clocks) -> Model:
    """A model with the data placed and everything compiled, and nothing learned.

    The warm-up takes a few full steps and the short last one on random labels, then puts the start back.
    """
    weights = inputs.start(run, examples.shape)
    images, labels = examples.train
    with clocks.measure("build"):
        model = backend.build(inputs.make_plan(run, examples, threads), weights)
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
    model: Trainable, run: Run, examples: inputs.Examples, clocks: Clocks, tell: Tell,
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
    stopping = early_stopping.Stopping(recipe, model)
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
        tell(row)
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
    right = float(losses @ sizes / sizes.sum())
    return mistakes.mean_of_steps(right, losses, recipe) if recipe.mistakes else right


def _evaluate(model: Predictor, part: tuple[np.ndarray, np.ndarray], name: str, recipe: Recipe) -> dict[str, Any]:
    images, labels = part
    if not len(images):
        return {f"{name}_loss": None, f"{name}_accuracy": None}
    logits = model.predict(images)
    return {
        f"{name}_loss": metrics.mean_loss(logits, labels, recipe),
        f"{name}_accuracy": metrics.accuracy(logits, labels),
    }
