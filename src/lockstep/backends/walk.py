"""The one walk over a network's layers, there and back, over values by name.

A row says by name what it takes in (`LayerFacts.inputs`): the pixels are "input", every other value is what the row of
its name puts out. Which row comes when, which value is still needed and whose gradient is wanted is decided here, for
the four backends, the judge and its passes; what a layer does with a value is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lockstep.spec import INPUT, LayerFacts

There = Callable[[LayerFacts, Any], Any]  # (row, what it takes in: a value, or a tuple of several) → what it puts out
Back = Callable[[LayerFacts, Any, bool], Any]  # (row, dL/dy, is dL/dx wanted?) → dL/dx, or one for each input
Total = Callable[[str, Any, Any], Any]  # (name, two parts of what is sent back to that value) → their sum


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
        before = [INPUT, *(row.name for row in rows)]
        self.is_chain = all(row.inputs == (name,) for row, name in zip(rows, before, strict=False))
        learning = set[str]()
        for row in rows:
            if row.parameter_shapes or not learning.isdisjoint(row.inputs):
                learning.add(row.name)
        self._through_all, self._through_learning = self._way_back(set(before) - {INPUT}), self._way_back(learning)

    def _way_back(self, wanted: set[str]) -> list[tuple[LayerFacts, list[tuple[int, str]]]]:
        """From the last row on those in `wanted`, each with the inputs whose gradients are wanted: (place, name)."""
        return [
            (row, [(place, name) for place, name in enumerate(row.inputs) if name in wanted])
            for row in reversed(self.rows)
            if row.name in wanted
        ]

    def through(self, entering: Any, there: There) -> Any:
        """What the last row puts out; every other value is let go after its last use."""
        if self.is_chain:  # the same in less time, of which a small network has little
            for row in self.rows:
                entering = there(row, entering)
            return entering
        values = {INPUT: entering}
        del entering
        for row, names, released in self._steps:
            y = there(row, _taken_in(values, names))
            for name in released:
                del values[name]
            values[row.name] = y
        return y

    def values(self, entering: Any, there: There) -> dict[str, Any]:
        """Every value by name, "input" first, in the order of the rows."""
        values = {INPUT: entering}
        for row, names, _ in self._steps:
            values[row.name] = there(row, _taken_in(values, names))
        return values

    def back(
        self, dy: Any, back: Back, everything: bool = False, total: Total = lambda name, one, other: one + other
    ) -> dict[str, Any]:  # fmt: skip
        """From the gradient of the last row's output that of each output, or only where something learns before it.

        What is sent back to a value from several rows is added up by `total`. None stands for nothing.
        """
        sent: dict[str, Any] = {self.rows[-1].name: dy}
        for row, wanted in self._through_all if everything else self._through_learning:
            dx = back(row, sent.get(row.name), bool(wanted))
            for place, name in wanted:
                part = dx[place] if len(row.inputs) > 1 and dx is not None else dx
                if part is not None:
                    before = sent.get(name)
                    sent[name] = part if before is None else total(name, before, part)
        return sent


def _taken_in(values: dict[str, Any], names: tuple[str, ...]) -> Any:
    return values[names[0]] if len(names) == 1 else tuple(values[name] for name in names)
