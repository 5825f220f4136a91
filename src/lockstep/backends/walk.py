"""The one walk over a network's layers, there and back, over values by name.

A row says by name what it takes in (`LayerFacts.inputs`): the pixels are "input", every other value is what the row of
its name puts out. Which row comes when, which value is still needed and whose gradient is wanted is decided here, for
the four backends, the judge and its passes; what a layer does with a value is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from lockstep.spec import INPUT, LayerFacts

There = Callable[..., Any]  # (row, what it takes in …) → what it puts out
Back = Callable[[LayerFacts, Any, bool], Any]  # (row, dL/dy, is dL/dx wanted?) → dL/dx, or one for each input


class Walk:
    """The way through some rows, in their order; the last one's output is the network's."""

    def __init__(self, rows: Sequence[LayerFacts]) -> None:
        """Find out after which row each value is needed no more, and which rows learn or lie behind one that does."""
        self.rows = rows
        last = {name: index for index, row in enumerate(rows) for name in row.inputs}
        self._steps = [
            (row, row.inputs, tuple(name for name in dict.fromkeys(row.inputs) if last[name] == index))
            for index, row in enumerate(rows)
        ]
        self.everything = frozenset(row.name for row in rows)
        learning = set[str]()
        for row in rows:
            if row.parameter_shapes or not learning.isdisjoint(row.inputs):
                learning.add(row.name)
        self.learning = frozenset(learning)

    def through(self, entering: Any, there: There) -> Any:
        """What the last row puts out; every other value is let go after its last use."""
        values = {INPUT: entering}
        del entering
        for row, names, released in self._steps:
            y = there(row, *[values[name] for name in names])
            for name in released:
                del values[name]
            values[row.name] = y
        return y

    def values(self, entering: Any, there: There) -> dict[str, Any]:
        """Every value by name, "input" first, in the order of the rows."""
        values = {INPUT: entering}
        for row, names, _ in self._steps:
            values[row.name] = there(row, *[values[name] for name in names])
        return values

    def back(self, dy: Any, back: Back, wanted: Collection[str]) -> dict[str, Any]:
        """From the gradient of the last row's output that of each output in `wanted`; no other is worked out.

        What is sent back to a value from several rows is added up. None stands for nothing.
        """
        sent: dict[str, Any] = {self.rows[-1].name: dy}
        for row in reversed(self.rows):
            if row.name not in wanted:
                continue
            names = row.inputs
            wants = any(name in wanted for name in names)
            dx = back(row, sent.get(row.name), wants)
            for name, part in zip(names, dx if len(names) > 1 else (dx,), strict=True):
                if name in wanted and part is not None:
                    before = sent.get(name)
                    sent[name] = part if before is None else before + part
        return sent
