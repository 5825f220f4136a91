"""Gates that a recurrent layer written by hand has in another order than a library's: how weights are carried over.

Which of a kernel's quarters is which gate is said by no shape and no name. With weights that both models are given it
is no difference of theirs, so the order is looked for, told, and kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lockstep.exchange.models.records import Call, Model, Trace
from lockstep.proof.pair.alignment import Tensor, is_equal

MOST_GATES = 4


def gated(model: Model, calls: Sequence[Call]) -> tuple[Call, list[str], int] | None:
    """The recurrent call of a place, the units that it keeps, and its gates; None where there is none."""
    units = {unit.name: unit for unit in model.units}
    for call in calls:
        names = [name for name in call.units.values() if name in units]
        recurrent = [units[name] for role, name in call.units.items() if role.partition(".")[0] == "recurrent"]
        if recurrent and len(recurrent[0].shape) == 3 and 1 < recurrent[0].shape[1] <= MOST_GATES:
            return call, names, recurrent[0].shape[1]
    return None


def found(
    call: Call, names: Sequence[str], n: int, values: Mapping[str, np.ndarray], wanted: Mapping[int, Tensor],
    tried: Callable[[Mapping[str, np.ndarray]], Trace],
) -> tuple[tuple[int, ...], dict[str, np.ndarray]] | None:  # fmt: skip
    """The order of gates with which a call gives one of the wanted tensors, and the units in it."""
    for order in itertools.permutations(range(n)):
        if order == tuple(range(n)):
            continue
        units = {name: np.ascontiguousarray(values[name][..., list(order), :]) for name in names}
        trace = tried(units)
        same = next((each for each in trace.calls if each.index == call.index), None)
        for number in same.outputs if same else ():
            ordered = np.sort(trace.tensors[number].ravel())
            for tensor in wanted.values():
                if tensor.ordered.shape == ordered.shape and is_equal(tensor.ordered, ordered, 64 * tensor.tolerance):
                    return order, units
    return None
