"""The contract of a backend: what training and a proof call, and nothing else.

A backend is a package of this name with two functions, and with the tables LAYERS, LOSSES and OPTIMIZERS, which have a
row for each kind of the specification. It computes; it decides nothing: what two backends would have to agree on stands
in its `Plan`.

Arrays at the border are NumPy arrays in the canonical layout: images (batch, height, width, channels) uint8, labels
(batch,) int64, kernels (height, width, in, out) or (in, out). Parameters are named `"<index>_<kind>/<parameter>"`,
optimizer slots `"<parameter's name>/<slot>"`, running statistics `"<index>_<kind>/running_mean"` and
`"…/running_variance"`, the number of updates taken `"step"`.

`Trainable` is what training needs and `Observable` what a proof looks at: a model that somebody else has trained can
answer the second without the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from lockstep.backends.plan import Arrays, Plan, Taken


class Predictor(Protocol):
    """What every model answers."""

    @property
    def plan(self) -> Plan:
        """What was decided before it was built."""

    def weights(self) -> Arrays:
        """Every parameter."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits (n, classes) in inference mode, for images (n, height, width, channels) uint8."""


class Trainable(Predictor, Protocol):
    """What training calls. The stopwatch is around `train_epoch` and `wait` alone."""

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

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update from this batch; returns its loss."""

    def state(self) -> Arrays:
        """Running statistics, optimizer slots and `step`: with the weights, all that training goes on from."""

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put back what `weights` and `state` gave."""


class Observable(Predictor, Protocol):
    """What a proof calls beside the steps: nothing here changes the model."""

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """ "input" → the pixels as they enter, then layer name → its output, in the canonical layout and the order
        written; changes nothing. `training` is whether a training step or a prediction is looked at.
        """

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        """(loss, parameter → gradient, layer name → gradient of its output, what `activations` gives in training mode);
        changes nothing. All of it is of one pass, in which each layer was fed what is returned here of the one before.

        A parameter's gradient includes L2 and is before clipping. The loss is the mean, whatever is minimised.
        """

    def layer(self, name: str, x: Taken, dy: np.ndarray) -> tuple[np.ndarray, Taken, Arrays]:
        """One layer alone, as a training step runs it: (y, dx, parameter → gradient) for its input and its output's
        gradient, all in the canonical layout; changes nothing. What joins branches takes in a tuple and gives one back.
        """


class Model(Trainable, Observable, Protocol):
    """What a backend builds."""


class Backend(Protocol):
    """A backend's package. Training asks for the functions, the conformance tests for the tables too."""

    @property
    def LAYERS(self) -> Mapping[str, Any]:  # noqa: N802 - a table's name
        """kind of layer, or of `spec.JOINS` → what computes it."""

    @property
    def LOSSES(self) -> Mapping[str, Any]:  # noqa: N802
        """`Plan.loss` → what computes it."""

    @property
    def OPTIMIZERS(self) -> Mapping[str, Any]:  # noqa: N802
        """kind of optimizer → what takes its step."""

    def device_name(self, name: str, /) -> str:
        """What "cpu" or "cuda" is here, as a record says it."""

    def build(self, plan: Plan, weights: Arrays, /) -> Model:
        """A model ready to train from these weights. Raises LockstepError (LS-404) without the plan's device."""
