"""One batch through the whole network and back, in float64 and in float32: what rounding does over all its depth.

Layers by themselves are judged on what they were fed. But an update is made from gradients that training worked out in
a pass of its own, which nobody saw; it had the same weights and images, and other rounding. How far such a pass may
be from another is measured here by NumPy's own two, and where a value lies on a kink within that distance, the other
branch is followed down to the parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from lockstep import randomness
from lockstep.backends import numpy as reference
from lockstep.backends.numpy import layers
from lockstep.backends.plan import Arrays, Plan
from lockstep.proof import tolerances
from lockstep.spec import LayerFacts

FAR = 1e-3  # of a dtype's largest number: what is summed beyond may overflow in one order and not in another
OF_ONE = 8.0  # by how much one shaking in float64 may understate the others; what it measures is far below any fault
CANCELLED = 1024  # roundings of float64: what is no larger is none of the training's


@dataclass
class Passage:
    """One pass of a reference over a batch: what went into each layer, what came out, and back."""

    on: reference.Pass
    loss: float = 0.0
    values: Arrays = field(default_factory=dict)  # by name: the input and each layer's output
    backwards: dict[str, layers.Backward] = field(default_factory=dict)
    sent: Arrays = field(default_factory=dict)  # the gradient of each layer's output

    def taken_in(self, row: LayerFacts) -> Any:
        """What went into a layer; of a join, a tuple."""
        return self.values[row.inputs[0]] if len(row.inputs) == 1 else tuple(self.values[name] for name in row.inputs)


def there_and_back(
    model: reference.Model, images: np.ndarray, labels: np.ndarray, shaken: bool = False
) -> Passage:  # fmt: skip
    """The pass of a training step; parameters' gradients, with L2, are left in `on.gradients`.

    A pass that is `shaken` adds to what each layer puts out and sends back a rounding of the size that `rounding`
    allows it, up or down at random (stochastic arithmetic, Vignes 1993): a framework's own functions round so or so.
    """
    plan = model.plan
    passage = Passage(model.observer(len(labels), plan.in_training))
    # A model's own parameters move on with it, and what is asked of a passage later is asked of this place.
    passage.on.parameters = {name: value.copy() for name, value in passage.on.parameters.items()}
    place = {row.name: index for index, row in enumerate(plan.rows)}

    def there(row: LayerFacts, x: Any) -> np.ndarray:
        y, passage.backwards[row.name] = reference.LAYERS[row.layer.kind](row, x, passage.on)
        return _shaken(row, y, _forward_size(row, x, y, passage.on), place[row.name]) if shaken else y

    def back(row: LayerFacts, dy: np.ndarray, wants_dx: bool) -> Any:
        dx = passage.backwards[row.name](dy, wants_dx)
        if dx is None or not (shaken and wants_dx) or isinstance(dx, tuple):  # a join sends on what it is sent
            return dx
        size = _backward_size(row, passage.taken_in(row), dy, dx, passage.on)
        return _shaken(row, dx, size, len(plan.rows) + place[row.name])

    passage.values = plan.walk.values(model.prepare(images), there)
    logits = passage.values[plan.rows[-1].name]
    losses, dx = model.losses(logits, model.targets(labels), passage.on)
    passage.loss = float(losses.mean())
    if plan.recipe.loss_reduction == "mean":
        dx = dx / len(labels)
    passage.sent = plan.walk.back(dx, back, everything=True)
    model.add_l2(passage.on.gradients)
    return passage


def _forward_size(row: LayerFacts, x: Any, y: np.ndarray, on: reference.Pass) -> np.ndarray:
    if row.layer.kind in tolerances.NORMS:  # its statistics are sums over many
        return tolerances.norm_sizes(row, x, on)[0] * max(1.0, 0.5 * math.sqrt(tolerances.terms(row, len(x))[0]))
    return tolerances.FORWARD.get(row.layer.kind, lambda x, y, layer: np.abs(y))(x, y, row.layer)


def _backward_size(row: LayerFacts, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, on: reference.Pass) -> np.ndarray:
    if row.layer.kind in tolerances.NORMS:
        return tolerances.norm_sizes(row, x, on)[1](dy)[0]
    return np.asarray(np.abs(dx) + tolerances.BACKWARD.get(row.layer.kind, lambda x, dy, layer: 0.0)(x, dy, row.layer))


def _shaken(row: LayerFacts, value: np.ndarray, size: np.ndarray, place: int) -> np.ndarray:
    """The value with a rounding of this size added or taken off.

    A mean and a variance are the same for all that is normalised by them, and so is the rounding that they bring.
    """
    shape = value.shape
    if row.layer.kind in tolerances.NORMS:
        axes = tolerances.norm_axes(row.layer, value.ndim)
        shape = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    up = (randomness.bits(int(np.prod(shape)), place, "rounding") % np.uint64(2)).reshape(shape).astype(value.dtype)
    return np.asarray(value + (2 * up - 1) * tolerances.eps(str(value.dtype)) * size, value.dtype)


class Whole:
    """The passes of one step, and what follows from their difference for a trace of the given dtype.

    In float32 there are two, one of them shaken: how far the step's own conditioning carries a rounding is measured by
    both, for one alone may by luck come out right. For a trace in float64 one more is shaken in float64: where float32
    is at its end (a batch normalisation of numbers a million times their spread), what it was off says too little.
    """

    def __init__(
        self, exact: reference.Model, single: reference.Model, dtype: str, images: np.ndarray, labels: np.ndarray
    ) -> None:
        """Take the passes; the models stand where the backend stood before the step."""
        self.plan: Plan = exact.plan
        self.dtype, self.n = dtype, len(labels)
        self.unit = tolerances.eps(dtype) / tolerances.eps("float32")
        self.exact = there_and_back(exact, images, labels)
        self.singles = [there_and_back(single, images, labels, shaken) for shaken in (False, True)]
        self.rounded = [(passage, self.unit) for passage in self.singles]
        if dtype == "float64":
            self.rounded.append((there_and_back(exact, images, labels, shaken=True), OF_ONE))

    @property
    def gradients(self) -> Arrays:
        """Every parameter's gradient, exactly."""
        return self.exact.on.gradients

    @cached_property
    def is_finite(self) -> bool:
        """Whether every number of these passes is one, and far enough from the end of its range to be added up."""
        return all(
            bool((np.abs(value) <= FAR * np.finfo(value.dtype).max).all())
            for passage in (self.exact, *(self.singles if self.dtype == "float32" else ()))
            for arrays in (passage.values, passage.sent, passage.on.gradients, passage.on.statistics,
                           {"loss": np.asarray(passage.loss)})
            for value in arrays.values()
        )  # fmt: skip

    def is_rounding(self, name: str) -> bool:
        """Whether a parameter's gradient is exactly 0 but for rounding, as that of a bias before batch normalisation.

        So is what cancels to the last digits of float64: what is left of it is in no two programs the same.
        """
        gradient, eps = np.abs(self.gradients[name]), tolerances.eps("float64")
        through_norms = self._cancelled.get(name, 0.0) / tolerances.eps(self.dtype)
        return bool((gradient <= CANCELLED * eps * (self._terms_of_gradient[name] + through_norms)).all())

    @cached_property
    def _terms_of_gradient(self) -> Arrays:
        """parameter → the sum of the absolute values of what its gradient adds up."""
        found: Arrays = {}
        for row in self.plan.rows:
            x, dy = self.exact.taken_in(row), self.exact.sent[row.name]
            if row.layer.kind in tolerances.NORMS:
                found |= tolerances.norm_sizes(row, x, self.exact.on)[1](dy)[1]
            elif row.parameter_shapes:
                (_, back), sizes = tolerances.absolute(row, x, self.exact.on)
                back(np.abs(dy).astype(np.float32), False)
                found |= sizes
        l2 = self.plan.recipe.l2
        return {
            name: size + (l2 * np.abs(self.exact.on.parameters[name]) if name in self.plan.decayed else 0.0)
            for name, size in found.items()
        }

    def _off(self, of: Callable[[Passage, Any], np.ndarray], what: Any = None) -> float:
        """How far rounding was off in something of a passage, as that of the trace's dtype would be."""
        exact = of(self.exact, what)
        found = [float(np.abs(of(one, what) - exact).max(initial=0.0)) * unit for one, unit in self.rounded]
        # Numbers of float64 may be beyond float32, whose passes say nothing then.
        measured = [off for off in found if np.isfinite(off)] if self.dtype == "float64" else found
        return max(measured, default=float("inf"))

    def drift(self, name: str, seen: np.ndarray | None = None) -> float:
        """How far another pass may be from the one that was seen, in the input or a layer's output of this name.

        Relative to the largest value, so that it also holds for a pass whose numbers are larger than the judge's.
        """
        largest = float(np.abs(self.exact.values[name]).max(initial=0.0))
        off = self._off(lambda passage, name: passage.values[name], name)
        tolerance = tolerances.FACTOR * off + float(tolerances.of(self.dtype, largest))
        return tolerance * (
            max(float(np.abs(seen).max(initial=0.0)) / largest, 1.0) if seen is not None and largest else 1.0
        )

    def loss_drift(self, logits: np.ndarray | None, sent: np.ndarray | None) -> float:
        """How far the loss of another pass may be: what its logits may be off, along the loss's own slope."""
        dz = self.exact.sent[self.plan.rows[-1].name] if sent is None else sent.astype(np.float64)
        scale = self.n if self.plan.recipe.loss_reduction == "sum" else 1
        off = self._off(lambda passage, _: np.asarray(passage.loss))
        return tolerances.FACTOR * off + 2 * float(np.abs(dz).sum()) / scale * self.drift(
            self.plan.rows[-1].name, logits
        )

    def statistics(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Every running mean and variance after the step, and how far another pass's may be from it."""
        found = {}
        for row in self.plan.rows:
            if not row.layer.has_state:
                continue
            x = self.exact.taken_in(row)
            sizes = tolerances.statistics_sizes(row, x, self.exact.on, self.dtype)
            moved = tolerances.moved(x, sizes, self.drift(row.inputs[0]))
            for name, size in sizes.items():
                value = self.exact.on.statistics[name]
                off = self._off(lambda passage, name: passage.on.statistics[name], name)
                tolerance = tolerances.FACTOR * off + tolerances.of(self.dtype, size, tolerances.terms(row, self.n)[0])
                found[name] = value, tolerance + row.layer.momentum * moved[name]
        return found

    def tolerances(self, found: Arrays) -> Arrays:
        """parameter → how far another pass's gradient may be from `found`, the one that was seen."""
        spread, noise = self._fragile(), self._cancelled
        tolerance_of = {}
        for name, gradient in self.gradients.items():
            largest = float(np.abs(gradient).max(initial=0.0))
            off = self._off(lambda passage, name: passage.on.gradients[name], name)
            layer, _, what = name.partition("/")
            terms = tolerances.terms(self.plan.row(layer), self.n)[2]
            tolerance = tolerances.FACTOR * off + tolerances.of(self.dtype, largest, terms)
            if what in tolerances.PLAIN_SUMS:  # it may cancel: a bias before batch normalisation does
                dy = self.exact.sent[layer]
                size = np.abs(dy).sum(axis=tuple(range(dy.ndim - 1)))
                tolerance = tolerance + tolerances.of(self.dtype, size, terms, is_sum=True)
            # Of factors that keep few bits, some lie so near a tie that two passes round them to either side.
            tolerance = tolerance + 2 * tolerances.of_factors(self.plan.fraction_bits) * largest
            # The gradient that was seen is at most `largest + tolerance` if its pass is one of these; a larger one is
            # of a pass whose numbers are larger, and so are its roundings. Where the exact gradient cancels to 0,
            # `largest` says nothing of its pass, and the tolerance does.
            if name in found and (at_most := largest + float(np.max(tolerance))):
                tolerance = tolerance * max(float(np.abs(found[name]).max(initial=0.0)) / at_most, 1.0)
            tolerance_of[name] = np.asarray(tolerance + spread.get(name, 0.0) + noise.get(name, 0.0))
        return tolerance_of

    @cached_property
    def _cancelled(self) -> Arrays:
        """parameter → how far its gradient may be off because of what a normalisation cancels on the way back.

        What it sends back is a difference, for two examples of nearly all there is: then the gradients below it are
        rounding alone, and NumPy's own two passes may by luck agree in them. The roundings are independent, so it is
        their variance that is followed down.
        """
        on, found = self.exact.on, dict[str, np.ndarray]()

        def back(row: LayerFacts, variance: Any, wants: bool) -> Any:
            x, dy = self.exact.taken_in(row), self.exact.sent[row.name]
            if row.layer.kind in tolerances.NORMS:
                return cancelled(row, x, dy, variance) if wants else None
            if variance is None:
                return None
            if row.layer.kind not in tolerances.LINEAR:
                return np.abs(np.asarray(self.exact.backwards[row.name](variance, True)))
            (_, through), sizes = tolerances.absolute(row, x, on, power=2)
            peak = float(np.max(variance)) or 1.0  # what follows is linear in it, and float32 ends at 3e38
            sent = through((variance / peak).astype(np.float32), wants)
            found.update(
                {name: tolerances.FACTOR * np.sqrt(peak * size.astype(np.float64)) for name, size in sizes.items()}
            )
            if isinstance(sent, tuple):
                return tuple(one.astype(np.float64) * peak for one in sent)
            return None if sent is None else sent.astype(np.float64) * peak

        def cancelled(row: LayerFacts, x: np.ndarray, dy: np.ndarray, variance: Any) -> np.ndarray:
            _, backward = tolerances.norm_sizes(row, x, on)
            own = np.square(tolerances.eps(self.dtype) * backward(dy)[0])
            if variance is None:
                return own
            off, sizes = backward(np.sqrt(variance))
            found.update({name: tolerances.FACTOR * size for name, size in sizes.items()})
            return own + np.square(off)

        self.plan.walk.back(None, back, everything=True)
        return found

    def _fragile(self) -> Arrays:
        """parameter → by how much its gradient may differ because some values lie on a kink within rounding.

        A branch taken the other way changes what is sent back there by up to all of it; from there down to the
        parameters the change is followed through absolute values. Empty where nothing lies on a kink, as in float64.
        """
        found: Arrays = {}

        def back(row: LayerFacts, change: Any, wants: bool) -> Any:
            x, y = self.exact.taken_in(row), self.exact.values[row.name]
            if change is not None:
                change, sizes = self._followed(row, x, change, wants)
                found.update(sizes)
            if not wants:
                return None
            drifts = tuple(map(self.drift, row.inputs))
            known = drifts if len(drifts) > 1 else drifts[0]
            here = tolerances.fragile(row, x, y, known, self.exact.sent[row.name])
            if isinstance(here, tuple):
                changes = (0.0,) * len(here) if change is None else change
                found_here = tuple(one + other for one, other in zip(changes, here, strict=True))
                return found_here if change is not None or any(map(np.any, here)) else None
            if not np.any(here):
                return change
            return here if change is None else change + here

        self.plan.walk.back(None, back, everything=True)
        return found

    def _followed(self, row: LayerFacts, x: np.ndarray, change: np.ndarray, wants: bool) -> tuple[Any, Arrays]:
        """A change of a layer's output's gradient as (that of its input's, those of its parameters'), in size."""
        on = self.exact.on
        if row.layer.kind in tolerances.LINEAR:
            (_, back), sizes = tolerances.absolute(row, x, on)
            return back(change.astype(np.float32), wants), sizes
        if row.layer.kind in tolerances.NORMS:
            _, back_sizes = tolerances.norm_sizes(row, x, on)
            return back_sizes(change)
        return np.abs(np.asarray(self.exact.backwards[row.name](change, True))), {}
