"""Which unit of one model is which of the other: by the call that uses it and what feeds that call, never by name."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from lockstep.exchange.models.records import Call, Model, Trace, Unit

MAIN = ("kernel", "recurrent", "table", "scale", "raw")  # by which a call is known; what is left goes with them


@dataclasses.dataclass(frozen=True)
class Pair:
    """A unit of each side, and how the second one holds what the first one does: its axes in an order, in a shape."""

    a: str
    b: str
    axes: tuple[int, ...] = ()
    shape: tuple[int, ...] | None = None
    gates: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())  # their orders, in the first one's array and the second's

    def there(self, value: np.ndarray) -> np.ndarray:
        """The first one's array as the second one holds it."""
        value = _in_order(value, self.gates[0])
        turned = value.transpose(self.axes) if self.axes else value
        return _in_order(turned if self.shape is None else turned.reshape(self.shape), self.gates[1])


def _in_order(value: np.ndarray, gates: tuple[int, ...]) -> np.ndarray:
    return value[..., list(gates), :] if gates else value


@dataclasses.dataclass
class Pairing:
    """All pairs, and what is left over on each side."""

    pairs: tuple[Pair, ...]
    left_a: tuple[str, ...]
    left_b: tuple[str, ...]
    again: Callable[[], None] = lambda: (
        None
    )  # pairs all units anew, of the models as they are now, and gives them weights

    def partner(self, side: int, call: Call, other: Trace) -> Call | None:
        """The other side's call that uses the units that this side's call uses."""
        there = {(pair.a, pair.b)[side]: (pair.b, pair.a)[side] for pair in self.pairs}
        names = {there[name] for name in call.units.values() if name in there}
        return next((each for each in other.calls if names & set(each.units.values())), None) if names else None

    def regate(self, side: int, names: Collection[str], order: tuple[int, ...]) -> None:
        """From here on, these units of a side hold their gates in this order of what they held."""
        inverse = tuple(int(place) for place in np.argsort(order))
        self.pairs = tuple(
            dataclasses.replace(pair, gates=(pair.gates[0], order) if side else (inverse, pair.gates[1]))
            if (pair.a, pair.b)[side] in names else pair
            for pair in self.pairs
        )  # fmt: skip


class Uses:
    """The calls of a trace that use units, and which of these feed which."""

    def __init__(self, trace: Trace, units: Mapping[str, Unit]) -> None:
        self.trace, self.units = trace, units
        calls = {call.index: call for call in trace.calls}
        self.calls = [call for call in trace.calls if call.units and not self._is_inside(call, calls)]
        self.owner: dict[int, int] = {}  # tensor → the unit call that gave it
        self.producer: dict[int, Call] = {}
        own = {call.index for call in self.calls}
        for call in trace.calls:
            outer = call
            while outer.index not in own and outer.parent >= 0:
                outer = calls[outer.parent]
            for number in call.outputs:
                if outer.index in own:
                    self.owner.setdefault(number, outer.index)
                if number not in call.inputs:
                    self.producer.setdefault(number, call)

    @staticmethod
    def _is_inside(call: Call, calls: Mapping[int, Call]) -> bool:
        """Whether a call around it uses the same units."""
        while call.parent >= 0:
            outer = calls[call.parent]
            if set(call.units.values()) <= set(outer.units.values()):
                return True
            call = outer
        return False

    def fed_by(self, call: Call) -> frozenset[int]:
        """The nearest unit calls upstream; −1 stands for the model's input."""
        found: set[int] = set()
        waiting, seen = [*call.inputs], set(call.inputs)
        while waiting:
            number = waiting.pop()
            if (owner := self.owner.get(number)) is not None and owner != call.index:
                found.add(owner)
                continue
            maker = self.producer.get(number)
            if maker is None:
                if number in self.trace.inputs:
                    found.add(-1)
                continue
            for other in maker.inputs:
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)
        return frozenset(found)

    def known_by(self, call: Call) -> tuple[object, ...]:
        """The roles and sizes of its main units: what a partner must have too."""
        shapes = []
        for role, name in call.units.items():
            base = role.partition(".")[0]
            if base in MAIN and name in self.units:
                shape = self.units[name].shape
                shapes.append((base if base in ("table", "scale") else "", math.prod(shape)))
        return tuple(sorted(shapes))


def paired(a: Model, trace_a: Trace, b: Model, trace_b: Trace, given: Iterable[tuple[str, str]] = ()) -> Pairing:
    """The pairs of units of two models; `given` are pairs of names that somebody asked for."""
    units_a, units_b = ({unit.name: unit for unit in model.units} for model in (a, b))
    found: dict[str, Pair] = {}
    for name_a, name_b in given:
        _pair(units_a.get(name_a), units_b.get(name_b), found)
    uses_a, uses_b = Uses(trace_a, units_a), Uses(trace_b, units_b)
    partner: dict[int, int] = {-1: -1}
    free = list(uses_b.calls)
    for call in uses_a.calls:
        known, feeders = uses_a.known_by(call), uses_a.fed_by(call)
        same = [other for other in free if uses_b.known_by(other) == known]
        wanted = frozenset(partner[index] for index in feeders if index in partner)
        fitting = [other for other in same if uses_b.fed_by(other) == wanted] or same
        if not fitting:
            continue
        other = fitting[0]
        free.remove(other)
        partner[call.index] = other.index
        for one, two in _by_role(call, other):
            _pair(units_a.get(one), units_b.get(two), found)
    _by_size(units_a, units_b, found)
    taken = {pair.b for pair in found.values()}
    return Pairing(
        tuple(found.values()),
        tuple(name for name in units_a if name not in found),
        tuple(name for name in units_b if name not in taken),
    )


def _by_role(a: Call, b: Call) -> list[tuple[str, str]]:
    """Units of two calls, role by role, in their order."""
    by_role: dict[str, list[str]] = defaultdict(list)
    for role, name in b.units.items():
        by_role[_base(role)].append(name)
    found = []
    for role, name in a.units.items():
        if others := by_role[_base(role)]:
            found.append((name, others.pop(0)))
    return found


def _base(role: str) -> str:
    base = role.partition(".")[0]
    return {"raw": "kernel"}.get(base, base)


def _pair(a: Unit | None, b: Unit | None, found: dict[str, Pair]) -> None:
    """Pair two units, where one can hold what the other does."""
    if a is None or b is None or a.name in found or math.prod(a.shape) != math.prod(b.shape):
        return
    if a.shape == b.shape:
        found[a.name] = Pair(a.name, b.name)
    elif a.shape == b.shape[::-1]:
        found[a.name] = Pair(a.name, b.name, tuple(reversed(range(len(a.shape)))))
    else:  # gates or heads side by side in one axis
        found[a.name] = Pair(a.name, b.name, (), b.shape)


def _by_size(a: Mapping[str, Unit], b: Mapping[str, Unit], found: dict[str, Pair]) -> None:
    """What no call has paired (one call here, two hundred there): by role and size, then by size, in their order."""
    for key in (_role_and_size, _size):
        taken = {pair.b for pair in found.values()}
        left_b: dict[object, list[Unit]] = defaultdict(list)
        for unit in b.values():
            if unit.name not in taken:
                left_b[key(unit)].append(unit)
        for unit in a.values():
            if unit.name not in found and left_b[key(unit)]:
                _pair(unit, left_b[key(unit)].pop(0), found)


def _role_and_size(unit: Unit) -> tuple[str, int]:
    return unit.role, math.prod(unit.shape)


def _size(unit: Unit) -> int:
    return math.prod(unit.shape)


def drawn(model: Model, seed: int) -> dict[str, np.ndarray]:
    """Units drawn so that nothing hides: no 0, no 1, no two alike; numbers of float32, in float64.

    He et al. (2015)'s scale for kernels, so that values neither vanish nor grow.
    """
    found = {}
    for index, unit in enumerate(model.units):
        numbers = np.random.default_rng([seed, index])  # of tests of models, in no stream of a training
        shape = unit.shape
        if unit.role in ("scale", "variance"):
            value = numbers.uniform(0.5, 1.5, shape)
        elif unit.role in ("bias", "shift", "mean"):
            value = numbers.normal(0.0, 0.3, shape)
        else:
            # A kernel's last axis is what it gives, that of gates the last two.
            out = (
                int(np.prod(shape[-2:]))
                if unit.role == "recurrent" or len(shape) == 3
                else int(shape[-1] if shape else 1)
            )
            fan_in = max(int(np.prod(shape)) // max(out, 1), 1)
            value = numbers.normal(0.0, 1.0 if unit.role == "table" else (2.0 / fan_in) ** 0.5, shape)
        found[unit.name] = value.astype(np.float32).astype(np.float64)
    return found


def carried(values: Mapping[str, np.ndarray], mapping: Pairing) -> dict[str, np.ndarray]:
    """The first model's units as the second one holds them."""
    return {pair.b: np.ascontiguousarray(pair.there(values[pair.a])) for pair in mapping.pairs if pair.a in values}
