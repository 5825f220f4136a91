"""One of two models that are compared: its two processes, its batch, and what was put right in it."""

from __future__ import annotations

import dataclasses

import numpy as np

from lockstep.exchange.models.records import Change, Model, Trace
from lockstep.proof.pair import alignment, rewrites
from lockstep.proof.pair.client import Side


@dataclasses.dataclass
class Party:
    """One model, in float64 and in float32, with what was put right in it."""

    exact: Side
    rough: Side
    model: Model
    batch: list[np.ndarray]
    changes: list[Change] = dataclasses.field(default_factory=list)
    loose: float = 0.0  # the share of a value that numbers of float32 inside of a call may move it by
    of_mode: dict[str, list[Change]] = dataclasses.field(default_factory=dict)  # put right in passes of this mode alone
    results: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # what calls give instead
    edits: list[rewrites.Edit] = dataclasses.field(default_factory=list)  # of its file

    def changes_in(self, mode: str) -> list[Change]:
        """All that was put right in a pass of this mode."""
        return [*self.changes, *self.of_mode.get(mode, ())]

    def numbers(self, mode: str, designed: np.ndarray | None = None) -> tuple[Trace, dict[int, alignment.Tensor]]:
        """A pass in float64 and what its tensors may be off, by the same pass in float32."""
        changes, results = self.changes_in(mode), self.results
        trace = self.exact.trace(self.batch, mode, changes, designed, results)
        rounded = {key: as_float32(value) for key, value in results.items()}
        beside = self.rough.trace([as_float32(value) for value in self.batch], mode, changes, designed, rounded)
        tensors = alignment.tensors(trace, beside)
        return trace, {number: tensor.within(self.loose) for number, tensor in tensors.items()}


Parties = tuple[Party, Party]


def as_float32(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32) if np.issubdtype(value.dtype, np.floating) else value
