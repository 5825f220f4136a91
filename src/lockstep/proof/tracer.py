"""The first steps of a run, looked at closely, in a worker: `python -m lockstep.proof.tracer FOLDER THREADS STEPS`.

The model is that of training; what is seen of it becomes a trace (`traces`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends, data, store
from lockstep.backends.contract import Backend, Trainable
from lockstep.language import later
from lockstep.machine.clocks import Clocks
from lockstep.proof import traces
from lockstep.spec import Run
from lockstep.training import inputs, loop, worker
from lockstep.training.environment import environment


def watch(run: Run, folder: Path, threads: int, tell: loop.Tell, steps: int) -> None:
    """Take the run's first steps and leave a trace of them in the folder, instead of training to the end."""
    backend = backends.load(run.backend)
    examples = inputs.Examples(inputs.load(run.dataset), run)
    around = environment(run, examples, threads, backend.device_name(run.device))
    store.write_json(folder / "environment.json", around.document())
    take_steps(backend, run, examples, folder, threads, tell, steps)


def take_steps(
    backend: Backend,
    run: Run,
    examples: inputs.Examples,
    folder: Path,
    threads: int,
    tell: loop.Tell,
    steps: int,
) -> None:
    """The trace of the run's first steps in one backend, on these images."""
    model = loop.make_model(backend, run, examples, threads, Clocks())
    plan, (images, labels) = model.plan, examples.train
    writer = traces.Writer(folder, plan, steps, len(images))
    writer.start(model)
    start_of_all = model.weights(), model.state()
    epoch = 0
    while writer.taken < steps:
        tell({"event": "phase", "phase": later("step {n} of {all}", n=writer.taken + 1, all=steps)})
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
            writer.reported.append(loop.mean_of_steps(losses, sizes, run.recipe))
        epoch += 1
    writer.end(model, examples.test[0])
    tell({"event": "phase", "phase": "the last steps of the schedule"})
    late = max(run.recipe.epochs * plan.steps_per_epoch - 2, steps)
    logits = model.predict(examples.test[0][:64])
    model.restore(stretched(model.weights(), logits), model.state() | {"step": np.array(late)})
    for number in (late, late + 1):
        epoch, within = divmod(number, plan.steps_per_epoch)
        pixels, batches = epoch_of(run, images, epoch)
        model.place(pixels, labels)
        writer.late_step(number, model, pixels, labels, batches[within])
    if steps >= plan.steps_per_epoch:
        tell({"event": "phase", "phase": "a whole epoch"})
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


def put_back(model: Trainable, elsewhere: tuple[Any, Any], batch: np.ndarray) -> None:
    """Take the model's weights and state out, let it stand and train elsewhere, and put them back."""
    kept = model.weights(), model.state()
    model.restore(*elsewhere)
    model.train_epoch(batch)
    model.restore(*kept)


def main(folder: Path, threads: int, steps: int) -> int:
    """Leave a trace of so many steps of the run of this folder; returns the exit code."""
    return worker.work(folder, lambda run, tell: watch(run, folder, threads, tell, steps))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
