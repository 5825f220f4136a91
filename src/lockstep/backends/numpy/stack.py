"""Many small networks trained together: every array has one more axis, the first, along which the members lie.

A small network's step is short work between long waits: for the interpreter, and for the other thread. Stacked, one
call of NumPy's does for a few members what each would call for, and every thread has members of its own, so that none
waits for another until the epoch is over. A member's numbers never meet another's: each product of matrices, each sum
and each update is the one that `backends.numpy` does for it alone, so it ends with the same bits.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from lockstep.backends import numpy as alone
from lockstep.backends.chunks import batches
from lockstep.backends.numpy import speed
from lockstep.language import later
from lockstep.spec import Flatten, LayerFacts, Network, Recipe, Shape

Layer = tuple[np.ndarray, speed.Backward]


def dense(row: LayerFacts, x: np.ndarray, on: Any) -> Layer:
    """`speed.dense` for x (members, n, in): y = x·w + b;  dx = dy·wᵀ, dw = xᵀ·dy, db = Σ dy."""
    w, b = on.parameters[f"{row.name}/kernel"], on.parameters.get(f"{row.name}/bias")
    y = np.matmul(x, w, out=on.space(f"{row.name} y", (*x.shape[:2], w.shape[2])))
    if b is not None:
        y += b[:, None]

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        if b is not None:
            dy.sum(axis=1, out=on.gradients[f"{row.name}/bias"])
        np.matmul(x.transpose(0, 2, 1), dy, out=on.gradients[f"{row.name}/kernel"])
        return np.matmul(dy, w.transpose(0, 2, 1), out=on.space(f"{row.name} dx", x.shape)) if wants_dx else None

    return y, backward


def flatten(row: LayerFacts[Flatten], x: np.ndarray, on: Any) -> Layer:
    """(members, n, height, width, channels) → (members, n, height · width · channels), or with the channels first."""
    if x.ndim == 5 and row.layer.order == "chw":
        x = x.transpose(0, 1, 4, 2, 3)
    return x.reshape(*x.shape[:2], -1), lambda dy, wants_dx: dy  # the first layer with parameters comes later


# Layers that compute each number by itself, or each row by itself, whatever lies around it.
BY_NUMBER = ("dropout", "leaky_relu", "elu", "tanh", "sigmoid", "softplus", "silu", "gelu")
LAYERS: dict[str, Callable[[LayerFacts, np.ndarray, Any], Layer]] = {
    **{kind: alone.LAYERS[kind] for kind in BY_NUMBER},
    "relu": speed.relu,
    "dense": dense,
    "flatten": flatten,
}


def why_not(network: Network, input_shape: Shape, recipe: Recipe, threads: int) -> str:
    """Why a network is not trained together with others, as part of a sentence; nothing where it can be."""
    rows = network.facts(input_shape)
    if recipe.mistakes or recipe.products != "full":
        return later("its recipe is not computed by the fast forms")
    if kinds := sorted({row.layer.kind for row in rows} - set(LAYERS)):
        return later("it has {layer}, and only dense layers gain from it", layer=kinds[0])
    if alone.n_slices(rows, recipe, max(threads, 2)) > 1:  # on one thread it saves the processes, which are small here
        return later("it is large enough to keep all threads busy by itself")
    return ""


STACK = 3  # members: more would no longer lie in the cache, fewer would not be worth a call


class Together:
    """Models of one network and one recipe, but for the optimizer's numbers and what follows from the seed.

    From here on the models' parameters and gradients are parts of larger arrays; all that a model can do alone it still
    can. Raises ValueError where the models cannot be trained together.
    """

    def __init__(self, models: Sequence[alone.Model]) -> None:
        """Divide the models between the threads."""
        for plan in (model.plan for model in models):
            if reason := why_not(plan.network, plan.input_shape, plan.recipe, plan.threads):
                raise ValueError(f"a model cannot be trained with others: {reason}")
        threads = models[0].plan.threads
        n = min(threads * -(-len(models) // (threads * STACK)), len(models))
        edges = [round(i * len(models) / n) for i in range(n + 1)]
        self.stacks = [Stack(models[start:stop]) for start, stop in pairwise(edges)]
        self.pool = ThreadPoolExecutor(threads)

    def train_epoch(self, orders: Sequence[np.ndarray]) -> list[np.ndarray]:
        """An epoch of every model, each in its own order: what each model's own `train_epoch` would give."""
        waiting = list(orders)
        # np.errstate is of a context, and a thread of a pool begins with another one.
        under_way = [
            self.pool.submit(contextvars.copy_context().run, stack.train_epoch, [waiting.pop(0) for _ in stack.models])
            for stack in self.stacks
        ]
        return [result for stack in under_way for result in stack.result()]


class Stack:
    """A few of the models, which one thread trains."""

    def __init__(self, models: Sequence[alone.Model]) -> None:
        self.models, first = models, models[0]
        self.dtype = first.dtype
        self.space = speed.Space(self.dtype)
        flat = np.stack([model.flat for model in models])
        gradient = np.stack([model.slices[0][0] for model in models])
        shapes = {name: value.shape for name, value in first.parameters.items()}
        self.parameters, self.gradients = alone.cut(flat, shapes), alone.cut(gradient, shapes)
        for index, model in enumerate(models):
            model.lay_in(flat[index], gradient[index])
        self.walk = first.plan.fast_walk

    def train_epoch(self, orders: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each model's (2, steps): losses and correct answers."""
        taken = [self.train_step(indices) for indices in self._batches(orders)]
        return [np.array([step[index] for step in taken]).T for index in range(len(self.models))]

    def _batches(self, orders: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
        size = self.models[0].plan.recipe.batch_size
        full, short = zip(*(batches(order, size) for order in orders), strict=True)
        for step in range(len(full[0])):
            yield [indices[step] for indices in full]
        if len(short[0]):
            yield list(short)

    def train_step(self, indices: Sequence[np.ndarray]) -> list[tuple[float, int]]:
        models, n = self.models, len(indices[0])
        images, labels = self.gathered(indices)
        on = self.begin_pass(n)
        now = [model.count_update() for model in models]
        backwards: dict[str, speed.Backward] = {}

        def there(row: LayerFacts, x: np.ndarray) -> np.ndarray:
            y, backwards[row.name] = LAYERS[row.layer.kind](row, x, on)
            return y

        x = self.walk.through(images, there)
        dx, results = self.space("dz", x.shape), []
        for index, model in enumerate(models):
            losses, slope = model.losses(x[index], model.targets(labels[index]), on)
            dx[index] = slope / n if model.plan.recipe.loss_reduction == "mean" else slope
            results.append((float(losses.sum()) / n, int((x[index].argmax(axis=1) == labels[index]).sum())))
        self.walk.back(dx, lambda row, dy, wants_dx: backwards[row.name](dy, wants_dx))
        for model, numbers in zip(models, now, strict=True):
            model.update(numbers)
        return results

    def gathered(self, indices: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
        """Each model's pixels as they enter, (members, n, height, width, channels), and labels."""
        x = self.space("input", (len(indices), len(indices[0]), *self.models[0].images.shape[1:]))
        for index, model in enumerate(self.models):
            model.pixels(model.images[indices[index]], x[index])
        return x, [model.labels[chosen] for model, chosen in zip(self.models, indices, strict=True)]

    def begin_pass(self, n: int) -> alone.Pass:
        training = self.models[0].plan.in_training
        masks = [model.plan.masks(model.taken, n) if training else {} for model in self.models]
        stacked = {name: np.stack([mask[name] for mask in masks]) for name in masks[0]}
        return alone.Pass(
            training, self.parameters, self.gradients, {}, stacked, n, lambda value: value, True, space=self.space
        )
