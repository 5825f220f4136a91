"""The judge: NumPy in float64, which works every part of a trace out again and says how far off it is.

Isolation: each part is fed what the backend itself fed it (its own input of that layer, its own gradient, its own
weights before the step), so a part is guilty if and only if its inputs are given and its output is wrong, and no
guilt is passed on. A chain of parts that are each right is a step that is right; a chain of such steps is training,
whatever float32's rounding later makes of two trainings that started alike.

The judge follows the canonical meaning, or any other that a `Run` describes: that is how a cause is tried.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import data
from lockstep.backends import numpy as reference
from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.plan import Arrays, Plan, Taken
from lockstep.language import joined, later
from lockstep.proof import tolerances, update
from lockstep.proof.findings import AND, RANGE, TO, UPDATE, Finding, compare, present, rows_of
from lockstep.proof.passes import FAR, Whole
from lockstep.proof.traces import Trace, part, predicted, reported_loss, under
from lockstep.spec import INPUT, LayerFacts, Run
from lockstep.training import inputs


class Judge:
    """Judges traces by one meaning, that of `run`."""

    def __init__(self, run: Run, plan: Plan, examples: inputs.Examples | None) -> None:
        """`plan` is the run's on its dataset; `examples` are None where the dataset is not on this machine."""
        self.run, self.examples, self.dtype = run, examples, plan.dtype
        self._augmented: tuple[int, np.ndarray] = -1, np.empty(0)
        self.plan = dataclasses.replace(plan, dtype="float64", device="cpu", threads=1)
        self.start = inputs.start(run, plan.input_shape)
        self._updates: dict[tuple[Path, int], list[Finding]] = {}
        self._last: tuple[Path, int, Whole] | None = None
        self._passes_of: Judge = self

    @property
    def exact(self) -> reference.Model:
        return self._exactly[0]

    @cached_property
    def single(self) -> reference.Model:
        return self._model("float32")

    def _model(self, dtype: str) -> reference.Model:
        weights = {name: value.astype(dtype) for name, value in self.start.items()}
        return reference.build(dataclasses.replace(self.plan, dtype=dtype), weights, as_trained=False)

    @property
    def start_state(self) -> Arrays:
        """Running statistics and slots before any step."""
        return self._exactly[1]

    @cached_property
    def _exactly(self) -> tuple[reference.Model, Arrays]:
        model = self._model("float64")
        return model, model.state()

    # ---- everything of a trace, in order

    def findings(self, trace: Trace) -> Iterator[Finding]:
        """Every comparison that this trace allows."""
        if wrong := self._contradictions(trace):
            yield Finding("data", "manifest", None, problem=wrong)
            return
        yield from self.starting_weights(trace)
        for step, arrays in trace.each_step():
            yield from self.batch(trace, step, arrays)
            if self._leaves_range(trace, step, arrays):
                if step >= trace.steps:
                    break  # a late step, which no other follows
                yield Finding(RANGE, "recipe", step, is_beyond=True)
                return
            yield from self.step(trace, step, arrays)
        yield from self.reported_losses(trace)
        yield from self.predictions(trace)

    def again(self, trace: Trace, place: tuple[str, str], steps: Collection[int | None]) -> list[Finding]:
        """The findings of one place at some steps alone: what a cause is tried on."""
        stage, where = place
        if stage in ("training", "whole epoch"):  # of all of training: no part of it is at one step
            return []
        if stage == "starting weights":
            found = self.starting_weights(trace)
        elif stage == "reported loss":
            found = self.reported_losses(trace)
        elif stage == "predictions":
            found = self.predictions(trace, where)
        else:
            found = itertools.chain.from_iterable(
                itertools.islice(self._again(trace, place, step), 1)
                for step in sorted(step for step in steps if step is not None)
            )
        return [finding for finding in found if finding.place == place and finding.step in steps]

    def beside(self, trace: Trace, stage: str, step: int | None) -> Iterator[Finding]:
        """All findings of the step of one, or of the stage where it is of no step."""
        if stage == "starting weights":
            yield from self.starting_weights(trace)
        elif stage == "predictions" or step is None:
            yield from self.predictions(trace)
        elif stage == "reported loss":
            yield from self.reported_losses(trace)
        else:
            arrays = trace.arrays(f"step-{step}")
            yield from self.batch(trace, step, arrays)
            yield from self.step(trace, step, arrays)

    def _again(self, trace: Trace, place: tuple[str, str], step: int) -> Iterator[Finding]:
        """The finding of this place at this step, of which there is one at most; what comes after it is not judged."""
        arrays = trace.arrays(f"step-{step}")
        if place[0] == "data":
            found = self.batch(trace, step, arrays)
        elif place[0] in UPDATE:  # one pass through the network for all of its parameters and slots
            if (trace.folder, step) not in self._updates:
                all_of_it = self.step(trace, step, arrays, (place[0], ""))
                self._updates[trace.folder, step] = [finding for finding in all_of_it if finding.stage in UPDATE]
            found = iter(self._updates[trace.folder, step])
        else:
            found = self.step(trace, step, arrays, place)
        return (finding for finding in found if finding.place == place)

    def _contradictions(self, trace: Trace) -> str:
        """What the trace says of itself that does not follow from its own run and data."""
        if self.examples is None:
            return ""
        plan = inputs.make_plan(trace.run, inputs.Examples(self.examples.data, trace.run), 1)
        wanted = {
            "n_train": len(self.examples.train[0]), "steps_per_epoch": plan.steps_per_epoch, "dtype": plan.dtype,
            "mean": plan.mean.tolist(), "scale": plan.scale.tolist(), "input_shape": list(plan.input_shape),
        }  # fmt: skip
        manifest = trace.manifest.document()
        said = {name: manifest[name] for name in wanted}
        wrong = [name for name in wanted if said[name] != wanted[name]]
        rows = ({"name": name, "found": said[name], "wanted": wanted[name]} for name in wrong)
        return joined((later("{name} is {found} and not {wanted}", **row) for row in rows), "; ")

    # ---- data and starting weights

    def starting_weights(self, trace: Trace) -> Iterator[Finding]:
        """Drawn once in NumPy, so they are equal bit for bit."""
        found = part(trace.arrays("start"), "weights")
        for name, value in self.start.items():
            yield compare("starting weights", name, None, found.get(name), value, 0.0, self.dtype)
        state = part(trace.arrays("start"), "state")
        for name, value in self.start_state.items():  # slots and running statistics
            yield compare("starting weights", name, None, state.get(name), value, 0.0)

    def batch(self, trace: Trace, step: int, arrays: Arrays) -> Iterator[Finding]:
        """Which images came, and whether they are the dataset's."""
        n, recipe = trace.manifest.n_train, self.run.recipe
        epoch, within = divmod(step, self.plan.steps_per_epoch)
        order = data.epoch_order(n, recipe, self.run.seed, epoch)
        indices = order[within * recipe.batch_size : (within + 1) * recipe.batch_size]
        yield compare("data", "order", step, arrays.get("indices"), indices)
        if self.examples is None or "indices" not in arrays or len(arrays["indices"]) == 0:
            return
        images, labels = self._pixels(self.examples, epoch), self.examples.train[1]
        taken = np.clip(arrays["indices"], 0, len(images) - 1)
        if step in trace.manifest.kept:
            yield compare("data", "images", step, arrays.get("images"), images[taken])
        yield compare("data", "labels", step, arrays.get("labels"), labels[taken])

    def _pixels(self, examples: inputs.Examples, epoch: int) -> np.ndarray:
        """The training images of one epoch, augmented; the last epoch's are kept."""
        images = examples.train[0]
        if not self.run.recipe.augmentation:
            return images
        if self._augmented[0] != epoch:
            self._augmented = epoch, data.augment(images, self.run.recipe.augmentation, self.run.seed, epoch)
        return self._augmented[1]

    # ---- one step

    def step(
        self, trace: Trace, step: int, arrays: Arrays, only: tuple[str, str] | None = None
    ) -> Iterator[Finding]:  # fmt: skip
        """Every part of one step; with `only`, at least what that place needs."""
        manifest = trace.manifest
        kept, observed = step in manifest.kept, step in manifest.observed
        shapes = self._shapes(len(arrays.get("labels", ())), kept, observed)
        told = arrays if kept else {name: arrays[name] for name in shapes if name in arrays}
        if wrong := self._wrong(told, shapes):
            yield Finding("data", "names", step, problem=wrong)
            return
        before = self._before(trace, step)
        if before is None or not kept:
            return
        whole = None
        if only is None or not observed or only[0] not in ("forward", "backward", "gradients"):
            whole = self._passes(trace, step, arrays)
        self._stand(*before, step)
        if observed:
            yield from self._layers(step, arrays, whole, only)
            yield from self._loss(step, arrays, whole)
        elif whole:
            yield from self._whole(step, arrays, whole)
        if whole and (only is None or only[0] in UPDATE):
            yield from self._update(step, arrays, before, whole)

    def _before(self, trace: Trace, step: int) -> tuple[Arrays, Arrays] | None:
        """(weights, state) that a step began with, where they are known, whole and finite.

        What came wrong out of the step before was named there.
        """
        if (before := trace.before(step)) is None:
            return None
        weights, state = part(before, "weights"), part(before, "state")
        if self._wrong(under("weights", weights) | under("state", state), self._state_shapes()):
            return None
        is_finite = all(np.isfinite(value).all() for value in (*weights.values(), *state.values()))
        return (weights, state) if is_finite else None

    def _passes(self, trace: Trace, step: int, arrays: Arrays) -> Whole:
        """The references' own passes of one step from where the backend stood; those of the last step are kept."""
        if self._passes_of is not self:
            return self._passes_of._passes(trace, step, arrays)
        if self._last is None or self._last[:2] != (trace.folder, step):
            self._stand(*(self._before(trace, step) or ({}, {})), step)
            whole = Whole(self.exact, self.single, self.dtype, arrays["images"], arrays["labels"])
            self._last = trace.folder, step, whole
        return self._last[2]

    def share_passes(self, other: Judge) -> None:
        """From here on take another judge's passes, whose meaning is the same up to the gradients."""
        self._passes_of = other

    def _leaves_range(self, trace: Trace, step: int, arrays: Arrays) -> bool:
        """Whether this step's numbers, or those that it leaves, are not finite in NumPy either, in the trace's dtype.

        Then nothing can be said of a backend from here on: its sums may overflow in another order.
        """
        before = self._before(trace, step)
        if before is None or step not in trace.manifest.kept or self._lacks(arrays):
            return False
        whole = self._passes(trace, step, arrays)
        if not whole.is_finite:
            return True
        self._stand(*before, step)
        model, passage = (self.single, whole.singles[0]) if self.dtype == "float32" else (self.exact, whole.exact)
        model.apply(model.clipped(passage.on.gradients))
        return not all(
            (np.abs(value) <= FAR * np.finfo(self.dtype).max).all()
            for value in (model.weights() | model.state()).values()
        )

    def _lacks(self, arrays: Arrays) -> bool:
        """Whether a step's batch cannot be run."""
        shapes = {"images": (len(arrays.get("labels", ())), *self.plan.input_shape)}
        return bool(self._wrong({name: arrays[name] for name in shapes if name in arrays}, shapes))

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        """ "weights/…" and "state/…" → shape."""
        state = {f"state/{name}": value.shape for name, value in self.start_state.items()}
        return {f"weights/{name}": value.shape for name, value in self.start.items()} | state

    def _shapes(self, n: int, kept: bool, observed: bool) -> dict[str, tuple[int, ...]]:
        """Every array of a step of `n` examples → its shape."""
        shapes: dict[str, tuple[int, ...]] = {"labels": (n,), "indices": (n,), "loss": (1,), "correct": (1,)}
        if kept:
            shapes |= {"images": (n, *self.plan.input_shape)} | self._state_shapes()
            shapes |= {f"gradient/{name}": value.shape for name, value in self.start.items()}
        if observed:
            shapes |= {"observed_loss": (), "activation/input": shapes["images"]}
            for row in self.plan.rows:
                shapes |= {f"{what}/{row.name}": (n, *row.output_shape) for what in ("activation", "sent_back")}
        return shapes

    def _wrong(self, arrays: Arrays, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What arrays lack, have too much of, or have of another shape, if anything."""
        told = {
            later("missing: {names}"): sorted(shapes.keys() - arrays.keys()),
            later("unexpected: {names}"): sorted(arrays.keys() - shapes.keys()),
            later("of another shape: {names}"): sorted(
                f"{name} {value.shape}, not {shapes[name]}"
                for name, value in arrays.items()
                if name in shapes and value.shape != shapes[name]
            ),
        }
        return joined((later(what, names=", ".join(names)) for what, names in told.items() if names), "; ")

    def _stand(self, weights: Arrays, state: Arrays, step: int) -> None:
        """Put both references where the backend stood before the step."""
        for model, dtype in ((self.exact, "float64"), (self.single, "float32")):
            here = {name: value.astype(dtype) for name, value in state.items() if name != "step"}
            here = model.state() | here | {"step": np.array(step)}
            model.restore({name: value.astype(dtype) for name, value in weights.items()}, here)

    def _layers(
        self, step: int, arrays: Arrays, whole: Whole | None, only: tuple[str, str] | None
    ) -> Iterator[Finding]:
        """Each layer by itself, forward and back, and the statistics that it leaves."""
        outputs, sent, n = part(arrays, "activation"), part(arrays, "sent_back"), len(arrays["labels"])
        after = part(arrays, "state")
        exact, single = (model.observer(n, self.plan.in_training) for model in (self.exact, self.single))
        yield self._input("forward", step, arrays, outputs)
        tolerance_of: dict[str, Any] = {INPUT: tolerances.of(self.dtype, 0.0)}  # of each value, by name
        back = SentBack(self.plan.rows, sent)
        for row in self.plan.rows:
            taken = [outputs[name] for name in row.inputs if name in outputs]
            y, dy = outputs.get(row.name), sent.get(row.name)
            concerned = only is None or only[1] == "" or row.name in rows_of(only[1])
            if (
                len(taken) < len(row.inputs)
                or y is None
                or dy is None
                or not all(np.isfinite(value).all() for value in (*taken, y))
            ):
                yield present("forward", row.name, step, y, (n, *row.output_shape), self.dtype)
                yield present("backward", row.name, step, dy, (n, *row.output_shape), self.dtype)
                return
            of_output: Any = tolerances.of(self.dtype, np.abs(y))
            if concerned:
                # What is not finite in what was sent back was named where it came from; the way there may be right.
                is_sent = bool(np.isfinite(dy).all())
                dy = dy if is_sent else np.zeros_like(dy)
                x = tuple(taken) if len(taken) > 1 else taken[0]
                wants_dx = is_sent and any(name in sent for name in row.inputs)
                work = Isolated(self, row, x, dy, exact, single, wants_dx)
                of_output = work.tolerance
                yield compare("forward", row.name, step, y, work.y, of_output, self.dtype)
                # `Model.gradients` promises that x, y, dy and the gradients are of one pass: nothing has drifted.
                if wants_dx:
                    known = tuple(tolerance_of[name] for name in row.inputs)
                    known = known if len(known) > 1 else known[0]
                    extra = tolerances.fragile(row, converted(x, "float64"), work.y, known, dy)
                    for name, where, dx, tolerance in back.completed(row, work, extra, self.dtype):
                        yield compare("backward", where, step, sent[name], dx, tolerance, self.dtype)
                for name, (gradient, tolerance) in work.gradients.items() if is_sent else ():
                    yield compare(
                        "gradients", name, step, arrays.get(f"gradient/{name}"), gradient, tolerance, self.dtype
                    )
                if whole and work.statistics:  # but training took these from a pass of its own
                    moved = tolerances.moved(
                        taken[0].astype(np.float64), work.statistics, whole.drift(row.inputs[0], taken[0])
                    )
                    for name, (value, tolerance) in work.statistics.items():
                        tolerance = tolerance + work.momentum * moved[name]
                        yield compare("statistics", name, step, after.get(name), value, tolerance, self.dtype)
            tolerance_of[row.name] = of_output

    def _input(self, stage: str, step: int | None, arrays: Arrays, outputs: Arrays) -> Finding:
        """(pixel − mean) · scale."""
        images = arrays["images"].astype(np.float64)
        size = (images + np.abs(self.plan.mean)) * self.plan.scale
        wanted = (images - self.plan.mean) * self.plan.scale
        return compare(stage, "input", step, outputs.get("input"), wanted, tolerances.of(self.dtype, size), self.dtype)

    def _loss(self, step: int, arrays: Arrays, whole: Whole | None) -> Iterator[Finding]:
        """The loss of the backend's own logits."""
        last = self.plan.rows[-1].name
        logits, sent = arrays.get(f"activation/{last}"), arrays.get(f"sent_back/{last}")
        if logits is None or not np.isfinite(logits).all():
            return
        n, results = len(logits), []
        for model, dtype in ((self.exact, "float64"), (self.single, "float32")):
            on = model.observer(n, self.plan.in_training)
            losses, dz = model.losses(logits.astype(dtype), model.targets(arrays["labels"]), on)
            results.append((losses.mean(), dz / n if self.run.recipe.loss_reduction == "mean" else dz))
        (loss, dz), (loss32, dz32) = results
        targets = self.exact.targets(arrays["labels"])
        size, each = tolerances.loss_sizes(self.plan.loss, logits.astype(np.float64), targets)
        each = each / n if self.run.recipe.loss_reduction == "mean" else each
        terms = n * n if self.plan.loss == ALL_PAIRS else n  # every output with every target
        tolerance = tolerances.of(self.dtype, size, terms, tolerances.measured(loss32, loss, size))
        tolerance_dz = tolerances.of(self.dtype, each, logits.shape[1], tolerances.measured(dz32, dz, each))
        yield compare("loss", "loss", step, arrays.get("observed_loss"), loss, tolerance)
        yield compare("loss", "gradient of the logits", step, sent, dz, tolerance_dz, self.dtype)
        if whole:  # training reports the loss of its own pass, whose logits differ in rounding
            tolerance = tolerance + whole.loss_drift(logits, dz)
            yield compare("loss", "reported by the step", step, arrays["loss"][0], loss, tolerance)
            # Training counted the correct answers in its own pass, where two nearly equal logits may change places.
            drift = 2 * whole.drift(last, logits)
            right = int((logits.argmax(axis=1) == arrays["labels"]).sum())
            best = np.partition(logits.astype(np.float64), -2, axis=1)[:, -2:] if logits.shape[1] > 1 else None
            close = int((best[:, 1] - best[:, 0] <= drift).sum()) if best is not None else 0
            yield compare("loss", "correct answers", step, arrays["correct"][0], right, close)

    # ---- through the whole network, where layers were not observed, and for what the update may be off

    def _whole(self, step: int, arrays: Arrays, whole: Whole) -> Iterator[Finding]:
        """Loss, gradients and statistics of the whole network from the backend's own weights."""
        for name, tolerance in whole.tolerances(part(arrays, "gradient")).items():
            found = arrays.get(f"gradient/{name}")
            yield compare("gradients", name, step, found, whole.gradients[name], tolerance, self.dtype, whole=True)
        size = float(np.abs(whole.exact.values[self.plan.rows[-1].name]).max())
        tolerance = whole.loss_drift(None, None) + tolerances.of(self.dtype, size, whole.n)
        yield compare("loss", "reported by the step", step, arrays["loss"][0], whole.exact.loss, tolerance, whole=True)
        after = part(arrays, "state")
        for name, (value, tolerance) in whole.statistics().items():
            yield compare("statistics", name, step, after.get(name), value, tolerance, self.dtype, whole=True)

    # ---- the update

    def _update(self, step: int, arrays: Arrays, before: tuple[Arrays, Arrays], whole: Whole) -> Iterator[Finding]:
        """Slots from the backend's own gradients, weights from its own new slots; see `update`."""
        seen = part(arrays, "gradient")
        gradients = {name: seen[name].astype(np.float64) for name in self.start if name in seen}
        if gradients.keys() != before[0].keys() or not all(np.isfinite(value).all() for value in gradients.values()):
            return
        state, weights = part(arrays, "state"), part(arrays, "weights")
        tolerance_of, is_rounding = whole.tolerances(gradients), {name: whole.is_rounding(name) for name in gradients}
        for half in update.halves(self.plan, self.dtype, step, before, state, gradients, tolerance_of, is_rounding):
            found = (state if half.stage == "optimizer slots" else weights).get(half.name)
            finding = compare(half.stage, half.name, step, found, half.wanted, half.tolerance, self.dtype)
            if half.effect is not None and (effect := float(np.linalg.norm(half.effect))):
                unseen = np.minimum(
                    half.tolerance, np.abs(half.effect)
                )  # a number may be missing, and not more than that
                within = float(np.linalg.norm(unseen)) / effect
                finding = dataclasses.replace(finding, within=within)
            yield finding

    # ---- what is reported and predicted

    def reported_losses(self, trace: Trace) -> Iterator[Finding]:
        """The loss of each whole epoch, from the losses of its steps."""
        losses, sizes = [], []
        reported = trace.manifest.reported_losses
        for step in range(trace.steps):
            arrays = trace.arrays(f"step-{step}")
            losses.append(reported_loss(arrays))
            sizes.append(len(arrays.get("labels", ())))
            epoch, within = divmod(len(losses), trace.manifest.steps_per_epoch)
            if within == 0 and epoch <= len(reported):
                start = -trace.manifest.steps_per_epoch
                weights = None if "last_batch_unweighted" in self.run.recipe.mistakes else sizes[start:]
                wanted = float(np.average(losses[start:], weights=weights))  # the mean over examples
                found = reported[epoch - 1]
                where = later("epoch {n}", n=epoch)
                yield compare("reported loss", where, step, np.nan if found is None else found, wanted,
                              tolerances.of("float64", abs(wanted), len(losses)))  # fmt: skip

    def predictions(self, trace: Trace, only: str = "") -> Iterator[Finding]:
        """Each layer in inference mode, and the logits that are predicted."""
        arrays, after = trace.arrays("end"), trace.state(trace.steps)
        if after is None:
            return
        weights, state, images = part(after, "weights"), part(after, "state"), arrays.get("images")
        if self._wrong(under("weights", weights) | under("state", state), self._state_shapes()):
            return  # it was named at its step
        shown = predicted(self.examples.test[0]) if self.examples else images
        same = compare("data", "test images", None, images, np.zeros(0) if shown is None else shown)
        yield same
        if images is None or not same.agrees:
            return
        if not all(np.isfinite(value).all() for value in (*weights.values(), *state.values())):
            return
        outputs = part(arrays, "inference")
        few = images[: len(outputs.get("input", images))]
        is_shown = yield from self.inference(outputs, few, weights, state, trace.steps, only)
        if is_shown and only in ("", "logits"):
            yield self.logits(arrays.get("logits"), images, weights, state, trace.steps)

    def inference(
        self, outputs: Arrays, images: np.ndarray, weights: Arrays, state: Arrays, steps: int, only: str = ""
    ) -> Generator[Finding, None, bool]:
        """Each layer in inference mode, fed what was put out before it, after so many updates; with `only`, that one.

        `outputs`: layer name, or "input" for the pixels as they enter → (n, …) in the canonical layout. Returns whether
        all of them could be judged. The names and shapes of weights and state are those of this network.
        """
        self._stand(weights, state, steps)
        exact, single = (model.observer(len(images), self.plan.in_prediction) for model in (self.exact, self.single))
        entered = self._input("predictions", None, {"images": images}, outputs)
        yield entered
        if entered.problem:
            return False
        for row in self.plan.rows:
            taken, y = [outputs[name] for name in row.inputs if name in outputs], outputs.get(row.name)
            fit = [y is not None and y.shape == (len(x), *row.output_shape) and np.isfinite(x).all() for x in taken]
            if y is None or len(taken) < len(row.inputs) or not all(fit):
                yield present("predictions", row.name, None, y, (len(images), *row.output_shape), self.dtype)
                return False
            if only in ("", row.name):
                x = tuple(taken) if len(taken) > 1 else taken[0]
                work = Isolated(self, row, x, np.zeros_like(y), exact, single, wants_dx=False)
                yield compare("predictions", row.name, None, y, work.y, work.tolerance, self.dtype)
        return True

    def logits(self, found: Any, images: np.ndarray, weights: Arrays, state: Arrays, steps: int) -> Finding:
        """What is predicted of images (n, height, width, channels) with these weights, `steps` updates from the start.

        The names and shapes of weights and state are those of this network.
        """
        self._stand(weights, state, steps)
        wanted, singly = self.exact.predict(images), self.single.predict(images)
        unit = tolerances.eps(self.dtype) / tolerances.eps("float32")
        off = float(np.abs(singly - wanted).max()) * unit
        terms = max(tolerances.terms(row, 1)[0] for row in self.plan.rows)
        tolerance = tolerances.FACTOR * off + tolerances.of(self.dtype, np.abs(wanted).max(), terms)
        return compare("predictions", "logits", None, found, wanted, tolerance, self.dtype, whole=True)

    def unfit(self, weights: Arrays, state: Arrays) -> str:
        """What weights and state lack, have too much of, or have wrongly for a model of this network, if anything."""
        both = under("weights", weights) | under("state", state)
        strange = sorted(name for name, value in both.items() if not np.isfinite(value).all())
        return self._wrong(both, self._state_shapes()) or (
            later("not finite: {name}", name=strange[0]) if strange else ""
        )


class SentBack:
    """What rows send back to the values that they take in, until all that is sent to a value is there.

    Only the sum was seen where several rows take a value in, so it is judged as their common work.
    """

    def __init__(self, rows: Sequence[LayerFacts], sent: Collection[str]) -> None:
        """`sent` are the values to which something is sent back."""
        self.takers = {name: [row for row in rows if name in row.inputs] for name in sent}
        self.parts: dict[str, list[tuple[np.ndarray, Any]]] = {}

    def completed(
        self, row: LayerFacts, work: Isolated, extra: Any, dtype: str
    ) -> Iterator[tuple[str, str, np.ndarray, Any]]:  # fmt: skip
        """(value, its takers, what they send back to it, how far that may be off) where `row` was the last of them."""
        more = extra if isinstance(extra, tuple) else (extra,)
        for name, dx, tolerance, fragile in zip(row.inputs, work.dx, work.tolerances_dx, more, strict=True):
            if name not in self.takers:
                continue
            parts = self.parts.setdefault(name, [])
            parts.append((dx, tolerance + fragile))
            if len(parts) == len(self.takers[name]):
                total, off = parts[0]
                for another, its in parts[1:]:  # the sum is rounded, too
                    off = off + its + tolerances.of(dtype, np.abs(total) + np.abs(another))
                    total = total + another
                yield name, self._where(name), total, off

    def _where(self, name: str) -> str:
        """The rows; and the value, where one of them takes in others too."""
        takers = self.takers[name]
        rows = AND.join(row.name for row in takers)
        return f"{rows}{TO}{name}" if any(len(row.inputs) > 1 for row in takers) else rows


def converted(x: Taken, dtype: str) -> Any:
    """What a row takes in, in another dtype."""
    return tuple(one.astype(dtype) for one in x) if isinstance(x, tuple) else x.astype(dtype)


def each(found: Any) -> tuple[Any, ...]:
    """One for each input, of what is one for a layer and a tuple for a join."""
    return found if isinstance(found, tuple) else (found,)


class Isolated:
    """One layer on the backend's own input and gradient: the exact answers and what each may be off.

    `dx` and `tolerances_dx` have one for each input; they are empty unless `wants_dx`.
    """

    def __init__(
        self, judge: Judge, row: Any, x: Taken, dy: np.ndarray, exact: reference.Pass, single: reference.Pass,
        wants_dx: bool,
    ) -> None:  # fmt: skip
        """Run the layer in float64 and float32, there and back, and measure it."""
        dtype, kind, n = judge.dtype, row.layer.kind, len(dy)
        x64, dy64 = converted(x, "float64"), dy.astype(np.float64)
        terms_y, terms_dx, terms_dw = tolerances.terms(row, n)
        old = {name: value.copy() for name, value in exact.statistics.items()}
        self.y, back = reference.LAYERS[kind](row, x64, exact)
        y32, back32 = reference.LAYERS[kind](row, converted(x, "float32"), single)
        dx, dx32 = back(dy64, wants_dx), back32(dy.astype(np.float32), wants_dx)
        self.dx: tuple[np.ndarray, ...] = tuple(map(np.asarray, each(dx))) if wants_dx else ()
        statistics: Arrays = {}
        if kind in tolerances.LINEAR:
            (size, size_back), sizes = tolerances.absolute(row, x64, exact, dtype=dtype)
            size_dx = size_back(np.abs(dy64).astype(dtype), wants_dx)
        elif kind == "max_pool2d":  # where windows overlap, gradients of both signs are added up
            size, sizes = np.abs(self.y), {}
            size_dx = back(np.abs(dy64), True) if wants_dx else None
        elif kind in tolerances.NORMS:
            kept, exact.statistics = exact.statistics, old
            size, backward_sizes = tolerances.norm_sizes(row, x64, exact)
            statistics = tolerances.statistics_sizes(row, x64, exact, dtype) if row.layer.has_state else {}
            exact.statistics = kept
            size_dx, sizes = backward_sizes(dy64)
        else:
            size, sizes = tolerances.FORWARD[kind](x64, self.y, row.layer), {}
            size_dx = np.abs(self.dx[0]) + tolerances.BACKWARD[kind](x64, dy64, row.layer) if wants_dx else None
        self.tolerance = tolerances.of(dtype, size, terms_y, tolerances.measured(y32, self.y, size))
        has_kink = kind in tolerances.JUMPS or kind == "max_pool2d"  # float32 there is no measure of its rounding
        self.tolerances_dx = tuple(
            tolerances.of(dtype, size, terms_dx, 1.0 if has_kink else tolerances.measured(single_dx, exact_dx, size))
            for size, single_dx, exact_dx in zip(*map(each, (size_dx, dx32, self.dx)), strict=True)
        ) if wants_dx else ()  # fmt: skip
        for on, model in ((exact, judge.exact), (single, judge.single)):
            decayed = [name for name in model.plan.decayed if name.startswith(f"{row.name}/")]
            for name in decayed:
                on.gradients[name] += model.plan.recipe.l2 * model.parameters[name]
        self.gradients: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, size_dw in sizes.items():
            size_dw = size_dw + judge.run.recipe.l2 * np.abs(exact.parameters[name])
            c = tolerances.measured(single.gradients[name], exact.gradients[name], size_dw)
            is_sum = name.rpartition("/")[2] in tolerances.PLAIN_SUMS
            tolerance = tolerances.of(dtype, size_dw, terms_dw, c, is_sum)
            self.gradients[name] = exact.gradients[name].copy(), tolerance
        self.statistics: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self.momentum = getattr(row.layer, "momentum", 0.0)
        for name, size_s in statistics.items():
            c = tolerances.measured(single.statistics[name], exact.statistics[name], size_s)
            self.statistics[name] = exact.statistics[name], tolerances.of(dtype, size_s, terms_y, c)
