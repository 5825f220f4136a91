"""The NumPy backend: the reference, the judge and the textbook.

It imports NumPy only, so what stands here is all there is. Training takes the forms of `speed` for the layers on which
it spends its time: the same sums in another order.

Both cores work in every phase: a batch is cut into slices, one per thread, each slice goes through the whole network,
and each thread updates its part of the parameters. Two look across the slices: batch normalisation, through
`Pass.total`, and the gradients of large dense kernels (`Model.kernels_left`). NumPy's matrix products run
single-threaded then (the worker sets this), because two levels of threads would fight.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from lockstep.backends.chunks import batches, prediction_batches
from lockstep.backends.numpy import speed
from lockstep.backends.numpy.layers import LAYERS, Backward, Layer, Pass, rounding
from lockstep.backends.numpy.losses import LOSSES
from lockstep.backends.numpy.optimizers import OPTIMIZERS
from lockstep.backends.plan import Arrays, Numbers, Plan, Taken
from lockstep.backends.walk import Total, Walk
from lockstep.errors import LockstepError
from lockstep.spec import INPUT, LayerFacts, Recipe

Layers = dict[str, Callable[[LayerFacts, Any, Pass], Layer]]  # by the layer's name
INFER_BATCH = 64  # images in one inference call of a thread: few enough for the cache
CHUNK = 131_072  # numbers updated at a time: few, so that passes stay in the cache, but worth the call of each


class Slices:
    """Sums over the slices of one batch, each of which runs in its own thread."""

    def __init__(self, n: int) -> None:
        self.barrier = threading.Barrier(n)
        self.parts: list[Any] = [None] * n

    def total(self, index: int, value: np.ndarray) -> np.ndarray:
        """The sum of every slice's value, added in the order of the slices; all slices must call this."""
        if len(self.parts) == 1:
            return value
        self.parts[index] = value
        self.wait()
        result = sum(self.parts[1:], self.parts[0])
        self.wait()  # nobody may overwrite a part before everyone has read it
        return np.asarray(result)

    def wait(self) -> None:
        """Go on when every slice has come to here."""
        if len(self.parts) > 1:
            self.barrier.wait()


class Model:
    """See `lockstep.backends.contract`."""

    def __init__(self, plan: Plan, weights: Arrays, as_trained: bool = True) -> None:
        """Lay the parameters, each slice's gradients and the optimizer's slots out in flat buffers.

        Unless `as_trained` every layer is computed as its plain function says: by the judge, for example, whose slices
        of a batch are as many as the plan's threads.
        """
        self.plan = plan
        self.dtype = np.dtype(plan.dtype)
        self.mean, self.scale = plan.mean.astype(self.dtype), plan.scale.astype(self.dtype)
        self.slot_names, self.optimizer = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.losses, self.factor = LOSSES[plan.loss], rounding(plan.fraction_bits)
        shapes = {name: value.shape for name, value in weights.items()}
        self.flat, self.parameters = _flat(shapes, self.dtype)
        self.n_slices = n_slices(plan.rows, plan.recipe, plan.threads) if as_trained else plan.threads
        self.slices = [_flat(shapes, self.dtype) for _ in range(self.n_slices)]
        self.slots = {slot: _flat(shapes, self.dtype) for slot in self.slot_names}
        self.spaces = [speed.Space(self.dtype) for _ in range(self.n_slices)]
        self.batch_space = speed.Space(self.dtype)
        self.is_plain = not as_trained or plan.fraction_bits is not None  # the fast forms do not round their factors
        self.is_batch_last = not self.is_plain and any(
            INPUT in row.inputs and row.layer.kind != "flatten" for row in plan.rows
        )
        plain: Layers = {row.name: LAYERS[row.layer.kind] for row in plan.fast_rows}
        self.fast_layers = plain if self.is_plain else speed.forms(plan.fast_rows, plain, self.is_batch_last)
        self.statistics = plan.initial_statistics()
        self.taken = 0
        self.pool = ThreadPoolExecutor(max(self.n_slices - 1, 1))
        for name, value in weights.items():
            self.parameters[name][...] = value

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch."""
        full, short = batches(order, self.plan.recipe.batch_size)
        steps = [*full, short] if len(short) else list(full)
        return np.array([self.train_step(self.images[indices], self.labels[indices]) for indices in steps]).T

    def wait(self) -> None:
        """NumPy is done when it returns."""

    def predict(self, images: np.ndarray) -> np.ndarray:

        if self.plan.in_prediction:  # the batch's statistics belong to the whole of what is predicted at once
            return np.concatenate([self._infer(part, 0) for part in prediction_batches(images)])

        def infer(index: int, part: slice, sums: Slices) -> np.ndarray:
            starts = range(part.start, part.stop, INFER_BATCH)
            return np.concatenate(
                [self._infer(images[start : min(start + INFER_BATCH, part.stop)], index) for start in starts]
            )

        return np.concatenate(self._sliced(images, infer))

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        return self.train_step(images, labels)[0]

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        on = self.observer(len(images), self.plan.in_training if training else self.plan.in_prediction)
        return self.plan.walk.values(self.prepare(images), lambda row, x: LAYERS[row.layer.kind](row, x, on)[0])

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        on = self.observer(len(images), self.plan.in_training)
        seen: tuple[Arrays, Arrays] = ({}, {})
        layers = {row.name: LAYERS[row.layer.kind] for row in self.plan.rows}
        losses, _ = self._differentiate(self.plan.walk, layers, self.prepare(images), labels, on, seen)
        self.add_l2(on.gradients)
        return float(losses) / len(images), on.gradients, *seen

    def layer(self, name: str, x: Taken, dy: np.ndarray) -> tuple[np.ndarray, Taken, Arrays]:
        row = self.plan.row(name)
        on = self.observer(len(dy), self.plan.in_training)
        taken = tuple(one.astype(self.dtype) for one in x) if isinstance(x, tuple) else x.astype(self.dtype)
        y, backward = LAYERS[row.layer.kind](row, taken, on)
        dx = backward(dy.astype(self.dtype), True)
        sent = tuple(map(np.asarray, dx)) if isinstance(dx, tuple) else np.asarray(dx)
        return y, sent, {key: value for key, value in on.gradients.items() if key.startswith(f"{name}/")}

    def weights(self) -> Arrays:
        return {name: value.copy() for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        slots = {f"{name}/{slot}": value for slot, (_, views) in self.slots.items() for name, value in views.items()}
        arrays = {**self.statistics, **slots, "step": np.array(self.taken)}
        return {name: value.copy() for name, value in arrays.items()}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        for name, value in weights.items():
            self.parameters[name][...] = value
        for slot, (_, views) in self.slots.items():
            for name, view in views.items():
                view[...] = state[f"{name}/{slot}"]
        for name, value in self.statistics.items():
            value[...] = state[name]
        self.taken = int(state["step"])

    def clipped(self, gradients: Arrays) -> Arrays:
        """What `gradients` gave, as it goes into the optimizer."""
        flat, views = self._filled(gradients)
        self._clip(flat, views)
        return {name: value.copy() for name, value in views.items()}

    def apply(self, gradients: Arrays) -> None:
        """The optimizer's part of a step alone, from clipped gradients."""
        gradient, now = self._filled(gradients)[0], self.count_update()
        self.decay(now)
        self.update_part(now, gradient, slice(0, gradient.size), self.spaces[0])

    def _filled(self, gradients: Arrays) -> tuple[np.ndarray, Arrays]:
        flat, views = self.slices[0]
        for name, value in gradients.items():
            views[name][...] = value
        return flat, views

    # ---- one step

    def train_step(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, int]:
        n, training = len(images), self.plan.in_training
        masks = self.plan.masks(self.taken, n) if training else {}
        now, left = self.count_update(), self.kernels_left(n)

        def work(index: int, part: slice, sums: Slices) -> tuple[float, int]:
            on = Pass(
                training, self.parameters, self.slices[index][1], self.statistics,
                {name: mask[part] for name, mask in masks.items()}, n,
                lambda value: sums.total(index, value), index == 0, self.factor, self.spaces[index],
                {name: (x[part], dy[part]) for name, (x, dy) in left.items()},
            )  # fmt: skip
            x = self._prepare_fast(images[part], self.spaces[index])
            result = self._differentiate(self.plan.fast_walk, self.fast_layers, x, labels[part], on, None)
            sums.wait()
            self.finish(index, sums, now, left)
            return result

        results = self._sliced(images, work)
        return sum(loss for loss, _ in results) / n, sum(correct for _, correct in results)

    def update(self, now: Numbers) -> None:
        """Take the step that the gradients of one slice, the whole batch, ask for."""
        self.finish(0, Slices(1), now, {})

    def lay_in(self, flat: np.ndarray, gradient: np.ndarray) -> None:
        """From here on keep the parameters and one slice's gradients in these arrays, which hold the same numbers."""
        shapes = {name: value.shape for name, value in self.parameters.items()}
        self.flat, self.parameters = flat, cut(flat, shapes)
        self.slices[0] = gradient, cut(gradient, shapes)

    def kernels_left(self, n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Dense layer → where its slices put x and dy of the whole batch of `n`, and with that leave dw = xᵀ·dy.

        Where the kernel is larger than these, it takes less time to multiply the batch once, each thread for some rows
        of dw, than to multiply every slice and to add up.
        """
        if self.is_plain or min(self.n_slices, n) == 1:
            return {}
        shapes = {row.name: self.parameters[f"{row.name}/kernel"].shape for row in self.plan.rows
                  if row.layer.kind == "dense"}  # fmt: skip
        return {
            name: (self.batch_space(f"{name} x", (n, inputs)), self.batch_space(f"{name} dy", (n, units)))
            for name, (inputs, units) in shapes.items()
            if inputs * units > n * (inputs + units)
        }

    def finish(self, index: int, sums: Slices, now: Numbers, left: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """A thread's part of the update, once every slice has its gradients, or has left them."""
        n, (gradient, views) = len(sums.parts), self.slices[0]
        mine, others = self.parts_of(index, n, left), [flat for flat, _ in self.slices[1:n]]
        for part, name, rows in mine:
            if name:
                x, dy = left[name]
                np.matmul(x[:, rows].T, dy, out=views[f"{name}/kernel"][rows])
            else:
                for other in others:
                    gradient[part] += other[part]
        recipe = self.plan.recipe
        if recipe.l2 or recipe.clip_norm or recipe.optimizer.kind == "adamw":  # what goes by parameter, not by part
            sums.wait()
            if index == 0:
                self.add_l2(views)
                self._clip(gradient, views)
                self.decay(now)
            sums.wait()
        for part, _, _ in mine:
            self.update_part(now, gradient, part, self.spaces[index])

    def parts_of(self, index: int, n: int, left: dict[str, Any]) -> list[tuple[slice, str, slice]]:
        """What the index-th of `n` threads updates of the flat buffers: its share of the rows of each kernel that was
        left (the layer's name, the rows), and of what lies between two of these ("")."""

        def share(size: int) -> slice:
            return slice(size * index // n, size * (index + 1) // n)

        def between(start: int, end: int) -> tuple[slice, str, slice]:
            part = share(end - start)
            return slice(start + part.start, start + part.stop), "", part

        parts: list[tuple[slice, str, slice]] = []
        start = end = 0
        for name, value in self.parameters.items():
            layer, _, what = name.partition("/")
            if layer in left and what == "kernel":
                rows, units = share(len(value)), value.shape[1]
                flat = slice(end + rows.start * units, end + rows.stop * units)
                parts += [between(start, end), (flat, layer, rows)]
                start = end + value.size
            end += value.size
        return [*parts, between(start, end)]

    def _differentiate(
        self, walk: Walk, layers: Layers, x: np.ndarray, labels: np.ndarray, on: Pass,
        seen: tuple[Arrays, Arrays] | None,
    ) -> tuple[float, int]:  # fmt: skip
        """Forward, loss and backward of one slice: its summed loss and correct answers; gradients go into `on`.

        `seen` takes the gradient of each layer's output, and the input and each output.
        """
        backwards: dict[str, Backward] = {}

        def there(row: LayerFacts, x: np.ndarray) -> np.ndarray:
            y, backwards[row.name] = layers[row.name](row, x, on)
            if seen is not None:
                seen[1][row.name] = y
            return y

        def back(row: LayerFacts, dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
            if seen is not None:
                seen[0][row.name] = np.array(dy)
            return backwards[row.name](dy, wants_dx)

        if seen is not None:
            seen[1][INPUT] = x
        x = walk.through(x, there)
        losses, dx = self.losses(x, self.targets(labels), on)
        correct = int((x.argmax(axis=1) == labels).sum())
        if self.plan.recipe.loss_reduction == "mean":
            dx /= on.n
        walk.back(dx, back, everything=seen is not None, total=self._total(on))
        return float(losses.sum()), correct

    def _total(self, on: Pass) -> Total:
        """How what comes back by several ways is added up: into an array that is used again, where there are such."""
        if (space := on.space) is None:
            return lambda name, one, other: one + other
        return lambda name, one, other: np.add(one, other, out=space(f"{name} sum", one.shape))

    def _infer(self, images: np.ndarray, index: int) -> np.ndarray:
        x = self._prepare_fast(images, self.spaces[index])
        training = self.plan.in_prediction
        masks = self.plan.masks(self.taken, len(images)) if training else {}
        on = Pass(
            training, self.parameters, {}, self.statistics, masks, len(images), lambda value: value, False,
            self.factor, self.spaces[index],
        )  # fmt: skip
        layers = self.fast_layers
        x = self.plan.fast_walk.through(x, lambda row, x: layers[row.name](row, x, on)[0])
        return x.copy()  # the next images are written over it

    def _sliced(self, images: np.ndarray, work: Callable[[int, slice, Slices], Any]) -> list[Any]:
        """Run `work` on every slice of a batch, each in its own thread, the first in this one."""
        n = min(self.n_slices, len(images))
        sums = Slices(n)
        edges = [round(i * len(images) / n) for i in range(n + 1)]
        parts = [slice(start, stop) for start, stop in pairwise(edges)]

        def guarded(index: int) -> Any:
            try:
                return work(index, parts[index], sums)
            except BaseException:
                sums.barrier.abort()  # the other slices must not wait for this one
                raise

        # np.errstate is of a context, and a thread of a pool begins with another one.
        others = [self.pool.submit(contextvars.copy_context().run, guarded, index) for index in range(1, n)]
        return [guarded(0), *(other.result() for other in others)]

    def observer(self, n: int, training: bool) -> Pass:
        """A pass over a whole batch of `n` that changes nothing."""
        gradients = _flat({name: value.shape for name, value in self.parameters.items()}, self.dtype)[1]
        statistics = {name: value.copy() for name, value in self.statistics.items()}
        masks = self.plan.masks(self.taken, n) if training else {}
        return Pass(training, self.parameters, gradients, statistics, masks, n, lambda value: value, True, self.factor)

    def prepare(self, images: np.ndarray) -> np.ndarray:
        """Pixels as they enter the first layer."""
        return (images.astype(self.dtype) - self.mean) * self.scale

    def _prepare_fast(self, images: np.ndarray, space: speed.Space) -> np.ndarray:
        """The same for the fast layers, in an array that is used again."""
        if not self.is_batch_last:
            return self.pixels(images, space("input", images.shape))
        images = speed.batch_last(images)
        return self.pixels(images, space("input", images.shape), axis=1)

    def pixels(self, images: np.ndarray, x: np.ndarray, axis: int = 3) -> np.ndarray:
        """Write the pixels into `x` as they enter the first layer; their channels lie along `axis`."""
        shape = (-1,) + (1,) * (3 - axis)
        mean, scale = self.mean.reshape(shape), self.scale.reshape(shape)
        np.subtract(images, mean, out=x) if mean.any() else np.copyto(x, images)
        x *= scale
        return x

    def targets(self, labels: np.ndarray) -> np.ndarray:
        """One-hot rows, smoothed."""
        smoothing, classes = self.plan.recipe.label_smoothing, self.plan.classes
        rows = np.full((len(labels), classes), smoothing / classes, self.dtype)
        rows[np.arange(len(labels)), labels] += 1 - smoothing
        return rows

    def add_l2(self, gradients: Arrays) -> None:
        """The gradient of ½·λ·‖kernel‖²."""
        if self.plan.recipe.l2:
            for name in self.plan.decayed:
                gradients[name] += self.plan.recipe.l2 * self.parameters[name]

    def _clip(self, gradient: np.ndarray, views: Arrays) -> None:
        """g ← g·min(1, c/‖g‖) with the norm over all parameters together, or each by its own."""
        if limit := self.plan.recipe.clip_norm:
            for part in [gradient] if self.plan.recipe.clip_scope == "all" else [v.reshape(-1) for v in views.values()]:
                norm = math.sqrt(float(np.dot(part, part)))
                if norm > limit:
                    part *= limit / norm

    def count_update(self) -> Numbers:
        """What is decided for the next update, which is counted with that."""
        self.taken += 1
        return self.plan.numbers(self.taken - 1)

    def decay(self, now: Numbers) -> None:
        """AdamW's: w ← w·(1 − lr·λ) for the kernels, before the update."""
        o = self.plan.recipe.optimizer
        if o.kind == "adamw":
            for name in self.plan.decayed:
                self.parameters[name] *= 1 - now.rate * o.weight_decay

    def update_part(self, now: Numbers, gradient: np.ndarray, part: slice, space: speed.Space) -> None:
        """Bring a part of the flat buffers up to date, in pieces that stay in the cache."""
        for start in range(part.start, part.stop, CHUNK):
            chunk = slice(start, min(start + CHUNK, part.stop))
            slots = [flat[chunk] for flat, _ in self.slots.values()]
            w = self.flat[chunk]
            scratch = space("scratch", w.shape)
            self.optimizer(self.plan.recipe.optimizer, now, w, gradient[chunk], scratch, *slots)


# Of a batch, forward: below it a thread of Python waits for its turn longer than it computes. Measured: a CNN of 18
# million takes 1.7 times as long on two threads as on one, of 30 million 0.9 times.
FEW_MULTIPLY_ADDS, FEW_OF_CONVOLUTIONS = 2**25, 3 * 2**23


def n_slices(rows: Sequence[LayerFacts], recipe: Recipe, threads: int) -> int:
    """How many slices a batch is trained in, each in a thread: one, where there are only small products of matrices."""
    few = FEW_OF_CONVOLUTIONS if any(row.layer.kind == "conv2d" for row in rows) else FEW_MULTIPLY_ADDS
    return 1 if recipe.batch_size * sum(row.multiply_adds for row in rows) < few else threads


def _flat(shapes: dict[str, tuple[int, ...]], dtype: np.dtype) -> tuple[np.ndarray, Arrays]:
    """One buffer of zeros for all parameters, and a view of each."""
    flat = np.zeros(sum(math.prod(shape) for shape in shapes.values()), dtype)
    return flat, cut(flat, shapes)


def cut(flat: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> Arrays:
    """Each array in the buffer that holds them all, which may be stacked: (…, numbers) → (…, *shape)."""
    views, start = {}, 0
    for name, shape in shapes.items():
        views[name] = flat[..., start : start + math.prod(shape)].reshape(*flat.shape[:-1], *shape)
        start += math.prod(shape)
    return views


def device_name(name: str) -> str:
    return name


def build(plan: Plan, weights: Arrays, as_trained: bool = True) -> Model:
    """A model ready to train from these weights."""
    if plan.device != "cpu":
        hint = 'use device = "cpu", or leave numpy out: --backends torch,tensorflow,jax'
        raise LockstepError("LS-404", "NumPy computes on the CPU only", where="backend numpy", hint=hint)
    return Model(plan, weights, as_trained)
