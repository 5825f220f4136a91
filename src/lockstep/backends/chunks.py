"""The contract of a backend, and everything that is decided before one starts.

A backend is one file with two functions: `build(plan, weights) -> Model`, and `device_name(device) -> str`, which says
what "cpu" or "cuda" is here. It computes; it decides nothing. Whatever two backends would have to agree on (learning
rates, dropout masks, scaling, the order in which layers are run, how many pixels an average pools over) stands here,
once, as NumPy arrays.

Arrays at the border are NumPy arrays in the canonical layout: images (batch, height, width, channels) uint8, labels
(batch,) int64, kernels (height, width, in, out) or (in, out). Parameters are named `"<index>_<kind>/<parameter>"`,
optimizer slots `"<parameter's name>/<slot>"`, running statistics `"<index>_<kind>/running_mean"` and
`"…/running_variance"`, the number of updates taken `"step"`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from lockstep import randomness
from lockstep.spec import LayerFacts, Network, Recipe, Shape, same_padding

Arrays = dict[str, np.ndarray]
MASK_BYTES = 2**25  # of dropout masks in one chunk of steps
PREDICT_BATCH = 500  # images in one inference call: large enough to be fast, small enough for unfolded convolutions


@dataclass(frozen=True)
class Plan:
    """Everything that was decided before the backend starts.

    `mean` and `scale` (channels,): a pixel enters the network as (pixel − mean) · scale. `steps_per_epoch` counts
    updates, the short last batch among them.
    """

    network: Network
    input_shape: Shape
    recipe: Recipe
    seed: int
    mean: np.ndarray
    scale: np.ndarray
    steps_per_epoch: int
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1

    @cached_property
    def rows(self) -> list[LayerFacts]:
        """Every layer in its place, as the network was written."""
        return self.network.facts(self.input_shape)

    @cached_property
    def fast_rows(self) -> list[LayerFacts]:
        """The same layers in the order in which they are trained.

        relu after max-pooling does a quarter of the work and gives the same values and gradients bit for bit: relu is
        monotone, and where it would create ties (values ≤ 0) its gradient is 0 whoever gets it (alone, not shared).
        """
        rows = list(self.rows)
        for first, second in zip(range(len(rows)), range(1, len(rows)), strict=False):
            kinds = (rows[first].layer.kind, rows[second].layer.kind)
            if kinds == ("relu", "max_pool2d") and rows[second].layer.ties == "first":
                rows[first], rows[second] = rows[second], rows[first]
        return rows

    @cached_property
    def classes(self) -> int:
        """How many values the network puts out."""
        return int(self.rows[-1].output_shape[0])

    @cached_property
    def decayed(self) -> frozenset[str]:
        """The parameters that L2 and AdamW's decay act on: the kernels."""
        names = self.network.parameter_shapes(self.input_shape)
        if "decay_on_all" in self.recipe.mistakes:
            return frozenset(names)
        return frozenset(name for name in names if name.endswith("/kernel"))

    @cached_property
    def dropouts(self) -> list[tuple[int, LayerFacts]]:
        """(index, facts) of each dropout layer that drops anything."""
        return [(index, row) for index, row in enumerate(self.rows) if row.layer.kind == "dropout" and row.layer.rate]

    def masks(self, step: int, n: int) -> Arrays:
        """Layer name → what each value is multiplied by (n, …): 0, or 1/keep where it is kept, in the run's dtype."""
        mistakes = self.recipe.mistakes
        seed = self.seed + ("dropout_of_another_seed" in mistakes)
        masks = {}
        for index, row in self.dropouts:
            rate = 1 - row.layer.rate if "dropout_rate_kept" in mistakes else row.layer.rate
            kept = randomness.dropout_mask((n, *row.output_shape), rate, seed, step, index)
            factor = 1.0 if "dropout_not_scaled" in mistakes else 1 / (1 - rate)
            masks[row.name] = kept.astype(self.dtype) * np.asarray(factor, self.dtype)
        return masks

    def learning_rate(self, step: int) -> float:
        """The learning rate of update number `step`, from 0; after the last epoch the last one goes on."""
        total = self.recipe.epochs * self.steps_per_epoch
        step = min(step, total - 1)
        if "rate_late" in self.recipe.mistakes:
            step = max(step - 1, 0)
        return float(
            self.recipe.optimizer.learning_rate
            * self.recipe.schedule.factor(step / total, step // self.steps_per_epoch)
        )

    def epsilon(self, step: int) -> float:
        """The optimizer's ε at update number `step`, from 0, as it stands after bias correction; 0 without one."""
        o = self.recipe.optimizer
        if getattr(o, "epsilon_mode", "") == "hat":
            return float(o.epsilon / math.sqrt(1 - o.beta2 ** (step + 1)))
        return float(getattr(o, "epsilon", 0.0))

    def buffer_factor(self, step: int) -> float:
        """What the momentum buffer is multiplied by before update number `step`.

        1, but where the velocity v = −lr·b is what stays as it is when the rate changes (to another one than 0, at
        which no b could stand for v).
        """
        rate = self.learning_rate(step)
        if getattr(self.recipe.optimizer, "form", "") != "velocity" or step == 0 or rate == 0:
            return 1.0
        return self.learning_rate(step - 1) / rate

    @cached_property
    def in_training(self) -> bool:
        """Whether a training step uses the batch's statistics and dropout, as it should."""
        return "training_in_inference_mode" not in self.recipe.mistakes

    @cached_property
    def in_prediction(self) -> bool:
        """Whether a prediction uses the batch's statistics and dropout, as it should not."""
        return "prediction_in_training_mode" in self.recipe.mistakes

    def initial_statistics(self) -> Arrays:
        """Running mean 0 and variance 1 for every batch normalisation."""
        return {
            f"{row.name}/running_{what}": np.full(row.output_shape[-1], value, self.dtype)
            for row in self.rows
            if row.layer.has_state
            for what, value in (("mean", 0), ("variance", 1))
        }


def batches(order: np.ndarray, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """(full batches (steps, batch_size), the short last one (possibly empty)) of one epoch's order."""
    full = len(order) // batch_size * batch_size
    return order[:full].reshape(-1, batch_size), order[full:]


@dataclass(frozen=True)
class Chunk:
    """Some consecutive steps of one epoch, for a backend that takes them all in one compiled call.

    `indices` (steps, batch) int32; `rates`, `epsilons` and `buffer_factors` (steps,) float64; `numbers` (steps,) int64,
    how many updates there will have been after each; `masks` layer name → (steps, batch, …).
    """

    indices: np.ndarray
    rates: np.ndarray
    epsilons: np.ndarray
    buffer_factors: np.ndarray
    numbers: np.ndarray
    masks: Arrays


def _chunk(plan: Plan, indices: np.ndarray, taken: int) -> Chunk:
    """The chunk of these batches, (steps, batch), after so many updates."""
    steps = range(taken, taken + len(indices))
    masks = [plan.masks(step, indices.shape[1]) for step in steps]
    rates, epsilons, factors = (
        np.array([number(step) for step in steps]) for number in (plan.learning_rate, plan.epsilon, plan.buffer_factor)
    )
    stacked = {name: np.stack([mask[name] for mask in masks]) for name in masks[0]}
    return Chunk(indices.astype(np.int32), rates, epsilons, factors, np.arange(taken + 1, steps.stop + 1), stacked)


def chunks(plan: Plan, order: np.ndarray, taken: int) -> Iterator[Chunk]:
    """An epoch's steps in as few chunks as the masks' memory allows; the short last batch is a chunk of its own."""
    for part in batches(order, plan.recipe.batch_size):
        if not len(part):
            continue
        part = np.atleast_2d(part)
        size = chunk_steps(plan, part.shape[1], len(part))
        for start in range(0, len(part), size):
            yield _chunk(plan, part[start : start + size], taken)
            taken += len(part[start : start + size])


def single_step(plan: Plan, n: int, taken: int) -> Chunk:
    """The chunk of one step on `n` images, all of those that are placed."""
    return _chunk(plan, np.arange(n)[None], taken)


def chunk_steps(plan: Plan, batch: int, steps: int) -> int:
    """How many steps of this batch size one chunk holds at most: all of them where nothing is dropped."""
    values = sum(math.prod(row.output_shape) for _, row in plan.dropouts)
    return max(min(steps, MASK_BYTES // (values * batch * np.dtype(plan.dtype).itemsize or 1)), 1)


def most_steps(plan: Plan, chunk: Chunk, n_images: int) -> int:
    """The most steps that any chunk of an epoch of so many images has, of those with this one's batch size.

    A compiler that makes a program for given shapes makes one for all of them, where each is filled up to as many.
    """
    n, batch = chunk.indices.shape
    most = max(n_images // batch, 1) if batch == plan.recipe.batch_size else 1
    return max(chunk_steps(plan, batch, most), n)


def filled_up(value: np.ndarray, room: int) -> np.ndarray:
    """(steps, …) → (steps + room, …), with zeros for the steps that are not taken."""
    return np.pad(value, ((0, room), *[(0, 0)] * (value.ndim - 1))) if room else value


def window_padding(row: LayerFacts) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) of the padding of a layer that slides a window."""
    if row.layer.padding == "valid":
        return (0, 0), (0, 0)
    kernel, stride = row.layer.window()
    high, wide = (
        same_padding(n, k, s, row.layer.padding) for n, k, s in zip(row.input_shape[:2], kernel, stride, strict=True)
    )
    return high, wide


def pool_counts(row: LayerFacts) -> np.ndarray:
    """By what each window of an average pooling is divided: (output height, output width, 1) float64.

    Its number of real pixels, or with `count_padding` its size.
    """
    kernel, stride = row.layer.window()
    if row.layer.count_padding:
        return np.full((*row.output_shape[:2], 1), float(math.prod(kernel)))
    counts = []
    for size, k, s, (before, _), n in zip(
        row.input_shape[:2], kernel, stride, window_padding(row), row.output_shape[:2], strict=True
    ):
        starts = np.arange(n) * s - before
        counts.append(np.minimum(starts + k, size) - np.maximum(starts, 0))
    return np.asarray(counts[0][:, None, None] * counts[1][None, :, None], dtype=np.float64)


class Model(Protocol):
    """What a backend's `build(plan, weights)` returns. The stopwatch is around `train_epoch` and `wait` alone."""

    plan: Plan

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Move the training data to the device: images (n, height, width, channels) uint8, labels (n,) int64."""

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch.

        `order` (n,) int64 indexes the placed data; each `batch_size` of it is one step, the last may be short. The
        masks and the learning rate follow from the number of updates taken so far, which is part of the state.
        Returns (2, steps) float64: each step's loss and its number of correct answers, as they were taken.
        """

    def wait(self) -> None:
        """Return when the device has done all that was asked of it."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, classes) in inference mode, for images (n, height, width, channels) uint8."""

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update from this batch; returns its loss."""

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """ "input" → the pixels as they enter, then layer name → its output, in the canonical layout and the order
        written; changes nothing. `training` is whether a training step or a prediction is looked at.
        """

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        """(loss, parameter → gradient, layer name → gradient of its output, what `activations` gives in training mode);
        changes nothing. All of it is of one pass, in which each layer was fed what is returned here of the one before.

        A parameter's gradient includes L2 and is before clipping. The loss is the mean, whatever is minimised.
        """

    def layer(self, name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """One layer alone, as a training step runs it: (y, dx, parameter → gradient) for its input and its output's
        gradient, all in the canonical layout; changes nothing.
        """

    def weights(self) -> Arrays:
        """Every parameter."""

    def state(self) -> Arrays:
        """Running statistics, optimizer slots and `step`: with the weights, all that training goes on from."""

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put back what `weights` and `state` gave."""
