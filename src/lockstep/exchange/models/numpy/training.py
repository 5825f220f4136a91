"""How a NumPy model is trained: loss(outputs, labels), train_step(parameters, …), and what it is not asked for.

There is no optimizer to be asked: what updates the parameters is the person's own function, seen in their steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.exchange.models import side, training
from lockstep.exchange.models.numpy.side import NumPy, filled, leaves
from lockstep.exchange.models.records import Change, Trace
from lockstep.exchange.models.training import Batches, Drop, Part, Steps, Way
from lockstep.language import later


class Training:
    """See `training.Training`."""

    def __init__(self, owner: NumPy) -> None:
        self.owner = owner
        self.asked: dict[str, str] = {}

    # ------------------------------------------------------------------------------------------------ what there is

    def parts(self, asked: Mapping[str, str]) -> dict[str, Part]:
        """See `training.Training`."""
        self.asked = dict(asked)
        found = training.found(self.owner.module, asked)
        return {part: Part(name, getattr(value, "__name__", ""), training.line_of(self.owner.module, name))
                for part, (name, value) in found.items() if part not in ("optimizer", "schedule")}  # fmt: skip

    def _part(self, part: str) -> Any:
        return training.needed(training.found(self.owner.module, self.asked), part)[1]

    # -------------------------------------------------------------------------------------------------------- the loss

    def loss(self, outputs: np.ndarray, labels: np.ndarray, changes: Sequence[Change]) -> Trace:
        """See `training.Training`; the gradient is left out: what a person's file has of it is in their steps."""
        function = self._part("loss")
        given = self._array(outputs)
        offered = {"outputs": given, "labels": self._array(labels)}
        value = np.asarray(training.called(function, offered, ("outputs", "labels")), np.float64)
        return Trace((), {0: value}, (), (0,), loss=float(value.mean()))

    def _array(self, value: np.ndarray) -> np.ndarray:
        return value.astype(self.owner.dtype) if value.dtype.kind == "f" else value.copy()

    # --------------------------------------------------------------------------------------------------- the optimizer

    def optimize(self, gradients: Sequence[Mapping[str, np.ndarray]], changed: Mapping[str, Any]) -> Steps:
        """See `training.Training`."""
        raise side.UserError(
            later("a file in NumPy has no optimizer that could be asked"), hint=later("compare its steps: --steps")
        )

    # -------------------------------------------------------------------------------------------------------- the steps

    def train(self, batches: Sequence[Sequence[np.ndarray]], way: Way) -> Steps:
        """See `training.Training`; the step gets the parameters as the file has them, and gives new ones or none."""
        function, values, losses = self._part("train_step"), [], []
        held = {name: value.copy() for name, value in self.owner.values.items()}
        parameters = filled(self.owner.parameters, held)
        for batch in batches:
            x, y = (self._array(np.asarray(value)) for value in batch)
            offered = {"parameters": parameters, "model": self.owner.model, "batch": (x, y), "inputs": x, "labels": y}
            given = training.called(function, offered, ("parameters", "batch"))
            parameters = _parameters_in(given, self.owner.parameters, parameters)
            loss = training.loss_in(given)
            losses.append(None if loss is None else float(loss))
            values.append(self._units(dict(leaves(parameters))))
        return Steps(tuple(values), tuple(losses), tuple([None] * len(values)))

    def _units(self, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
        return {
            name: np.ascontiguousarray(np.asarray(values[name]).T if held.is_turned else values[name])
            for name, held in self.owner.holders.items()
        }

    # -------------------------------------------------------------------------------------------------------- the masks

    def drops(self, batch: Sequence[np.ndarray]) -> list[Drop]:
        """See `training.Training`: no function of NumPy's is a dropout."""
        return []

    # --------------------------------------------------------------------------------------------------------- the data

    def batches(self, n: int) -> Batches:
        """See `training.Training`."""
        loader = self._part("data")
        told = [training.arrays_of(batch, np.asarray) for batch in training.pairs_in(loader, n)]
        n_all = len(loader) if hasattr(loader, "__len__") and not inspect.isfunction(loader) else None
        return Batches(
            tuple(tuple(value for value, _type in each) for each in told),
            tuple(tuple(kind for _value, kind in each) for each in told), n_all,
        )  # fmt: skip


def _parameters_in(given: Any, like: Any, before: Any) -> Any:
    """The parameters in what a step gives back; those that it got where it changed them in place."""
    paths = [path for path, _value in leaves(like)]
    for each in (given, *(given if isinstance(given, list | tuple) else ())):
        if type(each) is type(like) and [path for path, _value in leaves(each)] == paths:
            return each
    return before
