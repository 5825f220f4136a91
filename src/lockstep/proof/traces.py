"""Traces: what one backend computed, step by step, kept so that it can be judged later and elsewhere.

A trace is a run folder whose worker watched instead of training to the end. The model is made, warmed up and put back
as for training, over images in another order and random labels. Steps are taken by `train_epoch`, the very call that
training makes, one batch at a time; around some of them the worker looks at everything that can be seen. Half way
weights and state are taken out, the start is put in and taken further, and they are put back, as a resumed run does.

    status.json  spec.toml  environment.json  worker.log      as in every run folder
    start.safetensors           "weights/<parameter>", "state/<name>" before the first step
    step-<k>.safetensors        "labels", "indices" of the batch; "loss", "correct" as training reported them; of a kept
                                step also the batch's "images", "gradient/<parameter>" and, after the step,
                                "weights/…" and "state/…"; of an observed step also "activation/<layer>",
                                "sent_back/<layer>" (the gradient of a layer's output) and "observed_loss", all in
                                training mode
    end.safetensors             "images", N_PREDICTED test images (from the first again where there are fewer), "logits"
                                that are predicted for them, and of the first of them "inference/<layer>"
    late.safetensors            what the last two steps of the whole schedule begin with: weights and state as they are
                                after the first steps, the last kernel enlarged until the network is as sure of itself
                                as at the end of a training, and their number; the two are step-<k>.safetensors
    epoch.safetensors           the first epoch once more, from the start, in one call as training takes it: "loss" and
                                "correct" of its steps and, after it, "weights/…" and "state/…"
    full.safetensors            the same without the short last batch, where there is one behind full ones
    manifest.json               format, sizes, which steps were kept and observed, SHA-256 of every file; written last,
                                with those of spec.toml and environment.json under "described_by"

Every array is in the canonical layout. A trace of fewer steps than an epoch has no epoch.safetensors; one that reaches
the end of the schedule takes its late steps behind that. The same run on the same machine writes the same bytes. A
trace stays below about BUDGET: half of it is for observed steps (the first, the last, the first epoch's last, then in
order), half for kept ones (the same); losses and the order of the examples are there for every step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import store
from lockstep.backends.chunks import PREDICT_BATCH
from lockstep.backends.contract import Model, Observable, Trainable
from lockstep.backends.plan import Arrays, Plan
from lockstep.errors import LockstepError
from lockstep.files import intake
from lockstep.language import later
from lockstep.spec import Run
from lockstep.spec.toml import read_study
from lockstep.store.documents.run import Environment
from lockstep.store.documents.traces import FILE, FORMAT, Listed, Manifest

BUDGET = 2**28  # bytes
N_PREDICTED = PREDICT_BATCH + 64  # test images: a full call of inference and a part of one
DESCRIPTIONS = ("spec.toml", "environment.json")
N_LAYERS_PREDICTED = 64  # those of them whose every layer is kept


# ------------------------------------------------------------------------------------------------------------ writing


def kept_and_observed(plan: Plan, steps: int, n_train: int) -> tuple[list[int], list[int]]:
    """Which of the steps fit the budget, sorted: (those whose update is kept, those of them that are observed).

    A batch has no more images than the `n_train` that there are, whatever its size was asked to be.
    """
    batch = min(plan.recipe.batch_size, n_train)
    itemsize = np.dtype(plan.dtype).itemsize
    learned = sum(row.parameters for row in plan.rows) * itemsize
    outputs = sum(math.prod(row.output_shape) for row in plan.rows) * batch * itemsize
    pixels = math.prod(plan.input_shape) * batch
    order = list(dict.fromkeys([0, steps - 1, min(plan.steps_per_epoch, steps) - 1, *range(steps)]))
    kept = order[: max(BUDGET // 2 // (4 * learned + pixels), 3)]  # weights, up to two slots, gradient
    observed = order[: max(BUDGET // 2 // (2 * outputs or 1), 2)]  # outputs and their gradients
    # After a step that is not kept nothing is known of the state, so a kept step needs the one before it.
    before = {step - 1 for step in kept if step and step - 1 not in kept}
    return sorted({*kept, *before}), sorted(set(observed) & set(kept))


class Writer:
    """Writes one trace; `finish` makes it count."""

    def __init__(self, folder: Path, plan: Plan, steps: int, n_train: int) -> None:
        """Decide what is looked at; `n_train` images are trained on."""
        self.folder, self.plan, self.steps = folder, plan, steps
        self.kept, self.observed = kept_and_observed(plan, steps, n_train)
        self.taken = 0
        self.late: list[int] = []
        self.files: dict[str, Listed] = {}
        self.reported: list[float] = []

    def start(self, model: Trainable) -> None:
        """Keep what training starts from."""
        self._write("start", _state(model))

    def step(self, model: Model, images: np.ndarray, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Take one step of training on the placed `images` at `indices`, looking as closely as was decided."""
        number, self.taken = self.taken, self.taken + 1
        return self._look(number, model, images, labels, indices)

    def late_step(
        self, number: int, model: Model, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> None:  # fmt: skip
        """Take one of the last steps of the schedule; before the first of them the model was put there."""
        if not self.late:
            self._write("late", _state(model))
        self.late.append(number)
        self._look(number, model, images, labels, indices)

    def _look(
        self, number: int, model: Model, images: np.ndarray, labels: np.ndarray, indices: np.ndarray
    ) -> np.ndarray:  # fmt: skip
        batch = {"images": images[indices], "labels": labels[indices]}
        arrays: Arrays = {"labels": batch["labels"], "indices": indices}
        is_kept, is_observed = number in (*self.kept, *self.late), number in (*self.observed, *self.late)
        if is_kept:
            arrays["images"] = batch["images"]
            loss, gradients, sent_back, outputs = model.gradients(**batch)
            arrays |= under("gradient", gradients)
            if is_observed:
                arrays |= under("activation", outputs)
                arrays |= under("sent_back", sent_back)
                arrays["observed_loss"] = np.array(loss)
        result = model.train_epoch(indices)
        model.wait()
        arrays |= {"loss": result[0], "correct": result[1]}
        if is_kept:
            arrays |= _state(model)
        self._write(f"step-{number}", arrays)
        return np.asarray(result)

    def end(self, model: Observable, images: np.ndarray) -> None:
        """Keep some predictions."""
        images = predicted(images)
        inference = under("inference", model.activations(images[:N_LAYERS_PREDICTED], False))
        self._write("end", {"images": images, "logits": model.predict(images), **inference})

    def epoch(self, model: Trainable, order: np.ndarray, name: str = "epoch") -> None:
        """Take the first epoch in one call, whole or its full batches; the model stands at the start, images placed."""
        losses, correct = model.train_epoch(order)
        model.wait()
        self._write(name, {"loss": losses, "correct": correct, **_state(model)})

    def finish(self, n_train: int) -> None:
        plan = self.plan
        described_by = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (self.folder / name for name in DESCRIPTIONS)
            if path.exists()
        }
        manifest = Manifest(
            format=FORMAT, steps=self.steps, kept=(*self.kept, *self.late), observed=(*self.observed, *self.late),
            late=tuple(self.late), dtype=plan.dtype, input_shape=plan.input_shape, mean=tuple(plan.mean.tolist()),
            scale=tuple(plan.scale.tolist()),
            n_train=n_train, steps_per_epoch=plan.steps_per_epoch, reported_losses=tuple(self.reported),
            files=self.files, described_by=described_by,
        )  # fmt: skip
        store.write_json(self.folder / FILE, manifest.document())

    def _write(self, name: str, arrays: Arrays) -> None:
        from safetensors.numpy import save

        content = save({key: np.asarray(value, order="C") for key, value in sorted(arrays.items())})
        store.write_bytes(self.folder / f"{name}.safetensors", content)
        self.files[f"{name}.safetensors"] = Listed(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


def predicted(images: np.ndarray) -> np.ndarray:
    """N_PREDICTED of these images, from the first again where there are fewer: more than one call of inference."""
    return images[np.arange(N_PREDICTED) % len(images)]


def under(prefix: str, arrays: Arrays) -> Arrays:
    """The arrays with a prefix before their names."""
    return {f"{prefix}/{name}": np.asarray(value) for name, value in arrays.items()}


def _state(model: Trainable) -> Arrays:
    return under("weights", model.weights()) | under("state", model.state())


# ------------------------------------------------------------------------------------------------------------ reading

MOST_KEPT, MOST_KEPT_BYTES = 20, 4 * 2**20  # files of one trace in memory, and of each


@dataclass(frozen=True)
class Trace:
    """A trace on disk. Every file is checked against the manifest before it is believed."""

    folder: Path

    @cached_property
    def manifest(self) -> Manifest:
        """manifest.json; raises LockstepError (LS-505) for one that is missing, damaged or of another format."""
        path = self.folder / FILE
        manifest = store.read_json(path)
        if manifest.get("format") != FORMAT:
            message = later(
                "this trace has format {format!r}, this version reads format {known}",
                format=manifest.get("format"),
                known=FORMAT,
            )
            raise LockstepError(
                "LS-505", message, where=str(self.folder), hint=later("prove it again with this version")
            )
        return Manifest.made_of(path, manifest)

    @cached_property
    def run(self) -> Run:
        """What was run, from its spec.toml."""
        self._check("spec.toml", self.manifest.described_by.get("spec.toml"))
        runs = read_study(self.folder / "spec.toml").runs()
        if len(runs) != 1:
            raise store.damaged(self.folder / "spec.toml", later("it holds {n} runs instead of one", n=len(runs)))
        return runs[0]

    @cached_property
    def environment(self) -> Environment:
        self._check("environment.json", self.manifest.described_by.get("environment.json"))
        return Environment.read(self.folder / "environment.json")

    @property
    def steps(self) -> int:
        return self.manifest.steps

    @property
    def backend(self) -> str:
        return self.run.backend

    def arrays(self, name: str) -> Arrays:
        """The arrays of "start", "step-<k>" or "end".

        The last small files are kept, because every cause is tried on the same few steps; a step may be large.
        """
        if name in self._read:
            return dict(self._read[name])
        file = f"{name}.safetensors"
        listed = self.manifest.files.get(file)
        arrays = store.read_tensors(self.folder / file, listed and listed.document())
        if sum(value.nbytes for value in arrays.values()) <= MOST_KEPT_BYTES:
            self._read[name] = arrays
            if len(self._read) > MOST_KEPT:
                del self._read[next(iter(self._read))]
        return dict(arrays)

    @cached_property
    def _read(self) -> dict[str, Arrays]:
        return {}

    def _check(self, name: str, known: Any) -> None:
        """Compare a description with the manifest."""
        try:
            intake.compare(self.folder / name, {"sha256": known}, intake.LARGEST_JSON)
        except (OSError, ValueError) as error:
            raise store.damaged(self.folder / name, error) from error

    def has(self, name: str) -> bool:
        """Whether there are arrays of this name."""
        return f"{name}.safetensors" in self.manifest.files

    def state(self, number: int) -> Arrays | None:
        """Weights and state after so many updates, where they were kept."""
        if number and number - 1 not in self.manifest.kept:
            return None
        return self.arrays(f"step-{number - 1}" if number else "start")

    def before(self, step: int) -> Arrays | None:
        """What a step began with: what the one before it left, or for the first of the late ones what was put there."""
        return self.arrays("late") if step in self.manifest.late[:1] else self.state(step)

    def each_step(self) -> Iterator[tuple[int, Arrays]]:
        """Every step's number and arrays, in order, the late ones last."""
        for number in (*range(self.steps), *self.manifest.late):
            yield number, self.arrays(f"step-{number}")


def part(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays below a prefix, by their own names."""
    return {name.removeprefix(f"{prefix}/"): value for name, value in arrays.items() if name.startswith(f"{prefix}/")}


def reported_loss(arrays: Arrays) -> float:
    """The loss that training reported of a step; NaN where the trace lacks it."""
    loss = arrays.get("loss", np.empty(0)).ravel()
    return float(loss[0]) if loss.size else math.nan
