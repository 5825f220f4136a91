"""Both models as graphs, from their last passes: the calls in their order, and which of them give the same numbers.

Only the outermost calls are told: what a layer is made of inside is its framework's affair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lockstep.exchange.models.records import Call, Trace, roots
from lockstep.store.documents import difference as document
from lockstep.store.documents.difference import Graph

MOST_CALLS = 4000  # that a document holds of a model


class Drawn:
    """One model's outermost calls that give tensors, with their places."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self._known = {call.index: call for call in trace.calls}
        self.calls = [call for call in roots(trace.calls) if _gives(call)][:MOST_CALLS]
        self.places = {call.index: place for place, call in enumerate(self.calls)}
        self.makers: dict[int, int] = {}  # tensor → the place of the call that gave it
        for call in trace.calls:
            root = self.root_of(call.index)
            if root.index in self.places:
                for number in call.outputs:
                    if number not in root.inputs:
                        self.makers.setdefault(number, self.places[root.index])

    def root_of(self, index: int) -> Call:
        """The outermost call around a call of the trace."""
        call = self._known[index]
        while call.parent >= 0:
            call = self._known[call.parent]
        return call

    def find(self, call: Call) -> int | None:
        """The place of an outermost call, perhaps of another pass: by its number, else by its names and its line."""
        own = self._known.get(call.index)
        if own is not None and _named(own) == _named(call):
            return self.places.get(call.index)
        return next((place for place, other in enumerate(self.calls) if _named(other) == _named(call)), None)

    def told(self, call: Call) -> document.Call:
        """A call as the document has it."""
        value = next((self.trace.tensors[n] for n in call.outputs if n in self.trace.tensors), None)
        known = [-1 if n in self.trace.inputs else self.makers.get(n) for n in call.inputs]
        inputs = dict.fromkeys(place for place in known if place is not None and place < self.places[call.index])
        return document.Call(
            kind=call.kind or call.function.rpartition(".")[2], function=call.function, layer=call.path,
            line=str(call.where), shape=() if value is None else value.shape, inputs=tuple(inputs),
        )  # fmt: skip


def _named(call: Call) -> tuple[object, ...]:
    return call.function, call.path, call.where


def _gives(call: Call) -> bool:
    return any(number not in call.inputs for number in call.outputs)


def graph(a: Drawn, b: Drawn, matched: Mapping[int, Sequence[int]]) -> Graph:
    """Both models' calls, joined where an output of the one is one of the other (`matched`: tensor of a → those of b).

    Several calls in a row may give the same numbers in another shape; a partner of the same kind is taken first, then
    the next one in order.
    """
    givers = {number: place for number, place in b.makers.items() if number in b.calls[place].outputs}
    free, joined = set(range(len(b.calls))), []
    for place, call in enumerate(a.calls):
        there = {givers[n] for number in call.outputs for n in matched.get(number, ()) if givers.get(n) in free}
        if not there:
            continue
        partner = min(there, key=lambda other: (b.calls[other].kind != call.kind or not call.kind, other))
        free.remove(partner)
        joined.append((place, partner))
    return Graph(a=tuple(map(a.told, a.calls)), b=tuple(map(b.told, b.calls)), joined=tuple(joined))
