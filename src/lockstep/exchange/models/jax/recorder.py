"""Reads a jaxpr with numbers, or with what stands for them, and notes every call."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Literal

from lockstep.exchange.models import records, side
from lockstep.exchange.models.jax.alternatives import again_at_equation, again_at_site, again_by
from lockstep.exchange.models.jax.roles import KINDS, NOT_ARGUMENTS, OPERANDS, Array, Held, letter_of, moved
from lockstep.exchange.models.jax.watch import Site, enter_p, leave_p
from lockstep.exchange.models.records import Call, Change, Where
from lockstep.language import later

MOST_TURNS = 1000  # of a loop that is taken turn by turn
SAME = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "copy_p", "convert_element_type"}
CUSTOM = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}
INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
           "checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr", "custom_lin": "call_jaxpr"}  # fmt: skip


class Cell:
    """A number in the reader: its value, its id as a tensor, the array of the model that it is."""

    __slots__ = ("axes", "is_constant", "key", "number", "slot", "value")

    def __init__(
        self, value: Array, *, is_constant: bool = False, key: str = "", axes: tuple[int, ...] | None = None
    ) -> None:
        self.value, self.is_constant = value, is_constant
        self.key, self.axes = key, axes  # the model's array, and which of its axes each axis is
        self.number = self.slot = -1


class Seen(NamedTuple):
    """A call as it was made, to be made again."""

    remade: Callable[[Change], Callable[..., list[Array]]]
    operands: tuple[tuple[str, Any], ...]  # ("tensor", id), ("slot", place) or ("value", itself)
    arguments: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Frame:
    """A call that is being read."""

    index: int
    path: str
    site: int = -1
    name: str = ""
    where: Where | None = None  # of all that is inside: what JAX has traced once has the line of its first call


class Recorder:
    """Reads a jaxpr with numbers, or with what stands for them, and notes every call."""

    def __init__(
        self, owner: Any, changes: Sequence[Change], added: Mapping[int, Array] | None, turns: list[Any]
    ) -> None:
        self.owner = owner
        self.by_call, self.by_path = records.by_call_and_path(changes)
        self.added = added or {}  # zeros, by which is differentiated
        self.turns, self.taken = turns, iter(turns)
        self.is_deciding = False
        self.inputs: tuple[int, ...] = ()
        self.outputs: tuple[int, ...] = ()
        self.results: list[Array] = []
        self.put: Mapping[str, Any] = {}
        self.after: list[Array] = []
        self.calls: list[Call] = []
        self.live: dict[int, Array] = {}
        self.slots: list[Array] = []
        self.seen: dict[int, Seen] = {}
        self.frames = [Frame(-1, "")]
        self.used: set[str] = set()
        self.dark: set[int] = set()  # tensors of calls whose result is put in by other means
        self.in_dark = 0
        self.learned: dict[str, Held] = {}

    # ------------------------------------------------------------------------------------------------------------ ids

    def number(self, cell: Cell) -> int:
        """The id of a tensor."""
        if cell.number < 0:
            cell.number = number = len(self.live)
            self.live[number] = cell.value
            if self.in_dark:
                self.dark.add(number)
            if number in self.added:
                cell.value = cell.value + self.added[number]
        return cell.number

    def operand(self, cell: Cell) -> tuple[str, Any]:
        """Where the value of an operand is found after the pass."""
        if cell.number >= 0:
            return "tensor", cell.number
        if cell.is_constant and isinstance(cell.value, np.generic | int | float | bool):
            return "value", cell.value
        if cell.slot < 0:
            cell.slot = len(self.slots)
            self.slots.append(cell.value)
        return "slot", cell.slot

    # -------------------------------------------------------------------------------------------------------- reading

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], given: Sequence[Cell]) -> list[Cell]:
        """Read all equations of a jaxpr."""
        known: dict[Any, Cell] = {}
        known |= zip(
            jaxpr.constvars,
            (each if isinstance(each, Cell) else Cell(each, is_constant=True) for each in consts),
            strict=True,
        )
        known |= zip(jaxpr.invars, given, strict=True)

        def read(atom: Any) -> Cell:
            return Cell(atom.val, is_constant=True) if isinstance(atom, Literal) else known[atom]

        depth = len(self.frames)
        for equation in jaxpr.eqns:
            cells = [read(atom) for atom in equation.invars]
            with equation.ctx.manager:
                known |= zip(equation.outvars, self.equation(equation, cells), strict=True)
        del self.frames[depth:]
        return [read(atom) for atom in jaxpr.outvars]

    def equation(self, equation: Any, cells: list[Cell]) -> list[Cell]:
        """Read one."""
        name = equation.primitive.name
        if equation.primitive is enter_p:
            return self.enter(equation.params["site"])
        if equation.primitive is leave_p:
            return self.leave(cells, **equation.params)
        if name in INLINED:
            return self.inlined(equation, cells, equation.params[INLINED[name]])
        if name in CUSTOM:
            return self.custom(equation, cells, equation.params[CUSTOM[name]])
        if name == "scan" and equation.params["length"] <= MOST_TURNS:
            return self.scan(equation, cells)
        if name == "cond":
            return self.branch(equation, cells)
        if name == "while":
            return self.loop(equation, cells)
        return self.plain(equation, cells)

    def where(self, equation: Any) -> Where:
        """The innermost line of the person's that made it."""
        return self.frames[-1].where or self.owner.watch.lines.of(
            (frame.file_name, frame.line_num) for frame in _frames(equation)
        )

    # --------------------------------------------------------------------------------------------- layers and functions

    def begin(self, path: str, site: int = -1, name: str = "", where: Where | None = None) -> int:
        """A call that others will be parts of."""
        index = len(self.calls)
        self.calls.append(Call(index, name, "", path, where or Where(), {}, {}, {}, (), self.frames[-1].index))
        self.frames.append(Frame(index, path, site, name, self.frames[-1].where or where))
        return index

    def enter(self, number: int) -> list[Cell]:
        """A layer or a function begins."""
        site = self.owner.watch.sites[number]
        if not site.function:
            self.frames.append(Frame(self.frames[-1].index, site.path, number, where=self.frames[-1].where))
        else:
            name = site.function.rpartition(".")[2]
            index = self.begin(site.path, number, name, None if site.is_layer else site.where)
            self.in_dark += self.change_of(index, site) is not None
        return []

    def change_of(self, index: int, site: Site) -> Change | None:
        """The change that a call is made with."""
        return self.by_call.get(index) or (self.by_path.get(site.path) if site.is_layer else None)

    def leave(self, cells: list[Cell], site: int, n: int, n_kept: int, axes: tuple[Any, ...]) -> list[Cell]:
        """A layer or a function has given its output."""
        here = self.owner.watch.sites[site]
        taken, given = cells[:n], cells[n:]
        if all(frame.site != site for frame in self.frames):
            return given
        while self.frames[-1].site != site:
            self.frames.pop()
        frame = self.frames.pop()
        if not here.function:
            return given
        index = frame.index
        change = self.change_of(index, here)
        self.in_dark -= change is not None
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for name, cell in zip(here.names, taken, strict=False):
            self.take(cell, name, None, tensors, units)
        if not tensors and len(self.calls) == index + 1:  # a bias was given another shape
            self.calls.pop()
            return given
        for key in here.keys:
            self.use(key, units)
        remade = functools.partial(again_at_site, self.owner, here, axes)
        operands = tuple(map(self.operand, taken))
        if change is not None:
            made = self.changed(remade, change, [cell.value for cell in taken])
            given = [*map(Cell, made), *given[len(made) :]]
        outputs = tuple(self.number(cell) for cell in given[: len(given) - n_kept])
        self.seen[index] = Seen(remade, operands, dict(here.arguments))
        self.calls[index] = Call(index, here.function, here.kind, here.path, here.where, tensors, units,
                                 self.marked(dict(here.arguments), given), outputs,
                                 self.calls[index].parent)  # fmt: skip
        return given

    def changed(self, remade: Any, change: Change, values: list[Array]) -> list[Array]:
        """What a call gives under a change."""
        if change.result:
            return [jnp.asarray(self.put[change.result])]
        return remade(change)(*values)

    # ------------------------------------------------------------------------------------------------ what a call takes

    def take(self, cell: Cell, name: str, role: str | None, tensors: dict[str, Any], units: dict[str, str]) -> None:
        """An operand is one of the model's arrays, or a tensor."""
        if cell.key:
            self.use(cell.key, units, role)
        else:
            tensors[name] = (*tensors.get(name, ()), self.number(cell))

    def use(self, key: str, units: dict[str, str], role: str | None = None) -> None:
        """A call uses one of the model's arrays."""
        name, held = self.owner.unit_of(key)
        self.used.add(key)
        role = held.role if held.role != "raw" else role or "raw"
        if name not in units.values() and name:
            last = [part for part in key.split(".") if part not in ("kernel", "bias", "scale")][-1:] or [key]
            units[role if role not in units else f"{role}.{last[0]}"] = name

    def marked(self, arguments: dict[str, Any], given: Sequence[Cell]) -> dict[str, Any]:
        """In a float64 model it is said which calls gave float32 alone."""
        if self.owner.is_wide and any(_is_narrow(cell.value) for cell in given):
            arguments["computed_in"] = "float32"
        return arguments

    # ----------------------------------------------------------------------------------------- equations that hold some

    def inlined(self, equation: Any, cells: list[Cell], inner: Any) -> list[Cell]:
        """A jitted function: one of JAX's own is a call, one of the person's is not."""
        jaxpr, consts = _opened(inner)
        source = str(getattr(jaxpr.debug_info, "func_src_info", "") or "")
        name = str(equation.params.get("name", "")).lstrip("_")
        is_known = self.owner.watch.lines.is_others(source.partition(" at ")[2])
        if not is_known or name == self.frames[-1].name or all(cell.is_constant or cell.key for cell in cells):
            return self.run(jaxpr, consts, cells)
        index = self.begin(self.frames[-1].path, name=name, where=self.where(equation))
        self.in_dark += index in self.by_call
        given = self.run(jaxpr, consts, cells)
        self.in_dark -= index in self.by_call
        self.frames.pop()
        operands = tuple(map(self.operand, cells))
        return self.composed(equation, index, name, cells, given, operands)

    def composed(
        self, equation: Any, index: int, name: str, cells: list[Cell], given: list[Cell], operands: Any
    ) -> list[Cell]:
        """Note a function that is made of equations."""
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for place, cell in enumerate(cells):
            if not cell.is_constant:
                self.take(cell, letter_of(place), None, tensors, units)
        if all(cell.is_constant or cell.key for cell in given):
            return given
        remade = functools.partial(again_at_equation, self.owner, equation)
        if change := self.by_call.get(index):
            made = self.changed(remade, change, [cell.value for cell in cells])
            given = [*map(Cell, made), *given[len(made) :]]
        self.seen[index] = Seen(remade, operands, {})
        room = "jax.nn" if hasattr(jax.nn, name) else "jax.numpy"
        self.calls[index] = Call(
            index, f"{room}.{name}", KINDS.get(name, name), self.frames[-1].path, self.where(equation), tensors, units,
            self.marked({}, given), tuple(map(self.number, given)), self.frames[-1].index,
        )  # fmt: skip
        return given

    def custom(self, equation: Any, cells: list[Cell], inner: Any) -> list[Cell]:
        """A function with a derivative of its own: its parts are noted, and it is evaluated whole."""
        jaxpr, consts = _opened(inner)
        name = str(equation.params.get("name") or jaxpr.debug_info.func_name).lstrip("_")
        is_lifted = self.owner.is_wide and any(map(_is_lifted, equation.invars, cells))
        is_call = name != self.frames[-1].name and not all(cell.is_constant or cell.key for cell in cells)
        index = self.begin(self.frames[-1].path, name=name, where=self.where(equation)) if is_call else -1
        self.in_dark += not is_lifted
        given = self.run(jaxpr, consts, cells)
        self.in_dark -= not is_lifted
        if is_call:
            self.frames.pop()
        operands = tuple(map(self.operand, cells)) if is_call else ()
        if not is_lifted and not all(cell.is_constant for cell in cells):
            values = _bind(equation.primitive, equation.params, [cell.value for cell in cells])
            given = [self.whole(cell, value) for cell, value in zip(given, values, strict=True)]
        return self.composed(equation, index, name, cells, given, operands) if is_call else given

    def whole(self, part: Cell, value: Array) -> Cell:
        """The output of a function, which its last part gave too: one tensor."""
        cell = Cell(value, key=part.key, axes=part.axes)
        if part.number >= 0 and not part.key:
            cell.number = part.number
            self.dark.discard(part.number)
            self.live[part.number] = value
            if part.number in self.added:
                cell.value = value + self.added[part.number]
        return cell

    def scan(self, equation: Any, cells: list[Cell]) -> list[Cell]:
        """A scan, turn by turn."""
        made = equation.params
        n_consts, n_carry, length = made["num_consts"], made["num_carry"], made["length"]
        jaxpr, consts = _opened(made["jaxpr"])
        fixed, carry, over = cells[:n_consts], cells[n_consts : n_consts + n_carry], cells[n_consts + n_carry :]
        rows: list[list[Cell]] = [[] for _ in equation.outvars[n_carry:]]
        order = range(length - 1, -1, -1) if made["reverse"] else range(length)
        for turn in order:
            parts = [self.sliced(equation, cell, turn) for cell in over]
            given = self.run(jaxpr, consts, [*fixed, *carry, *parts])
            carry = given[:n_carry]
            for row, cell in zip(rows, given[n_carry:], strict=True):
                row.append(cell)
        if made["reverse"]:
            rows = [row[::-1] for row in rows]
        return [
            *carry,
            *(
                self.stacked(equation, row, atom.aval)
                for row, atom in zip(rows, equation.outvars[n_carry:], strict=True)
            ),
        ]

    def sliced(self, equation: Any, cell: Cell, turn: int) -> Cell:
        """What one turn of a scan takes of an array."""
        return self.computed(equation, "slice", [cell], lambda value: value[turn], {"index": turn})

    def stacked(self, equation: Any, cells: list[Cell], aval: Any) -> Cell:
        """What all turns of a scan gave."""
        if not cells:
            return Cell(jnp.zeros(aval.shape, aval.dtype), is_constant=True)
        return self.computed(equation, "stack", cells, lambda *values: jnp.stack(values), {})

    def computed(self, equation: Any, name: str, cells: list[Cell], function: Any, arguments: dict[str, Any]) -> Cell:
        """A call that the reader makes in place of an equation."""
        value = function(*(cell.value for cell in cells))
        if all(cell.is_constant for cell in cells):
            return Cell(value, is_constant=True)
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for cell in cells:
            self.take(cell, "x", None, tensors, units)
        if len(cells) == 1 and cells[0].key:  # one of several layers' arrays, which lie in one
            return Cell(value)
        remade = functools.partial(again_by, function)
        if change := self.by_call.get(len(self.calls)):
            value = self.changed(remade, change, [cell.value for cell in cells])[0]
        given = Cell(value)
        self.note(equation, f"jax.lax.{name}", name, cells, [given], tensors, units, arguments, remade)
        return given

    def branch(self, equation: Any, cells: list[Cell]) -> list[Cell]:
        """The branch that was taken."""
        branches = equation.params["branches"]
        taken = self.decided(lambda: int(np.clip(int(cells[0].value), 0, len(branches) - 1)))
        return self.run(*_opened(branches[taken]), cells[1:])

    def loop(self, equation: Any, cells: list[Cell]) -> list[Cell]:
        """A loop, turn by turn, until its condition is false."""
        made = equation.params
        n_test, n_body = made["cond_nconsts"], made["body_nconsts"]
        test, body, carry = cells[:n_test], cells[n_test : n_test + n_body], cells[n_test + n_body :]
        for _turn in range(MOST_TURNS + 1):

            def goes_on(carry: list[Cell] = carry) -> bool:
                values = [cell.value for cell in (*test, *carry)]
                return bool(jax.core.eval_jaxpr(made["cond_jaxpr"].jaxpr, made["cond_jaxpr"].consts, *values)[0])

            if not self.decided(goes_on):
                return carry
            carry = self.run(*_opened(made["body_jaxpr"]), [*body, *carry])
        raise side.UserError(later("a while loop takes more than {n} turns", n=MOST_TURNS), self.where(equation),
                             later("write it as a scan, or give a smaller batch"))  # fmt: skip

    def decided(self, value: Callable[[], Any]) -> Any:
        """What the pass with numbers decided: taken from it where there are none now."""
        if self.is_deciding:
            self.turns.append(value())
            return self.turns[-1]
        return next(self.taken)

    # ------------------------------------------------------------------------------------------------------ an equation

    def plain(self, equation: Any, cells: list[Cell]) -> list[Cell]:
        """An equation that holds no others."""
        primitive, name = equation.primitive, equation.primitive.name
        params, values = self.lifted(equation, cells)
        if all(cell.is_constant for cell in cells):
            return [Cell(value, is_constant=True) for value in _bind(primitive, params, values)]
        if (
            name in ("convert_element_type", "copy", "copy_p")
            and params.get("new_dtype", values[0].dtype) == values[0].dtype
        ):
            return [cells[0]]
        if cells[0].key and name in SAME and all(cell.is_constant for cell in cells[1:]):
            given = _bind(primitive, params, values)[0]
            return [Cell(given, key=cells[0].key, axes=_axes_after(name, params, cells[0].axes))]
        index = len(self.calls)
        change = self.by_call.get(index)
        remade = functools.partial(again_at_equation, self.owner, equation)
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        arguments = {key: side.plain(value) for key, value in params.items() if key not in NOT_ARGUMENTS}
        names = OPERANDS.get(name, ())
        for place, (cell, atom) in enumerate(zip(cells, equation.invars, strict=True)):
            word = names[place] if place < len(names) else letter_of(place)
            if isinstance(atom, Literal) or (
                cell.is_constant and np.ndim(cell.value) == 0 and isinstance(cell.value, np.generic | int | float)
            ):
                arguments[word] = side.plain(np.asarray(cell.value).item()) if np.ndim(cell.value) == 0 else None
            else:
                self.learn(equation, place, cell)
                self.take(cell, word, None, tensors, units)
        operands = tuple(map(self.operand, cells))
        made = self.changed(remade, change, values) if change else _bind(primitive, params, values)
        given = [Cell(value) for value in made]
        kind = KINDS.get(name, name)
        kind = "dense" if kind == "matmul" and units else "embedding" if name == "gather" and units else kind
        if name == "conv_general_dilated" and max(params["lhs_dilation"], default=1) > 1:
            kind = "conv_transpose"
        self.note(equation, f"jax.lax.{name}", kind, cells, given, tensors, units, arguments, remade, operands)
        return given

    def note(self, equation: Any, function: str, kind: str, cells: list[Cell], given: list[Cell], tensors: Any,
             units: Any, arguments: dict[str, Any], remade: Any, operands: Any = None) -> None:  # fmt: skip
        """Write down a call that is made of no others."""
        index, frame = len(self.calls), self.frames[-1]
        self.seen[index] = Seen(remade, operands or tuple(map(self.operand, cells)), arguments)
        self.calls.append(Call(index, function, kind, frame.path, self.where(equation), tensors, units, dict(arguments),
                               tuple(map(self.number, given)), frame.index))  # fmt: skip
        self.marked(self.calls[index].arguments, given)

    def lifted(self, equation: Any, cells: list[Cell]) -> tuple[dict[str, Any], list[Array]]:
        """(what an equation is made with, its values): float32 only where the person asked for it.

        Flax and JAX cast down inside of attention. What is not cast down there is float64 where the jaxpr has float32,
        and so is all that it meets.
        """
        params, values = dict(equation.params), [cell.value for cell in cells]
        if not self.owner.is_wide:
            return params, values
        is_wider = any(map(_is_lifted, equation.invars, cells))
        if is_wider:
            values = [value.astype(np.float64) if _is_narrow(value) else value for value in values]
        for name in ("new_dtype", "preferred_element_type", "dtype", "accumulation_type"):
            wanted = params.get(name)
            if wanted is None or not jnp.issubdtype(wanted, jnp.floating) or wanted == jnp.float64:
                continue
            is_cast = equation.primitive.name == "convert_element_type" and values[0].dtype == jnp.float64
            is_sum = name == "preferred_element_type" and any(
                getattr(value, "dtype", None) == np.float64 for value in values
            )
            if is_wider or is_sum or (is_cast and self.is_cast_inside(equation)):
                params[name] = np.dtype(np.float64)
        return params, values

    def is_cast_inside(self, equation: Any) -> bool:
        """Whether a function of the framework made this, and not a line of the person's that asked for it."""
        lines = self.owner.watch.lines
        for frame in _frames(equation):
            if not lines.is_others(frame.file_name):
                return False
            if "/flax/" in frame.file_name or "/jax/_src/nn/" in frame.file_name:
                return True
        return False

    def learn(self, equation: Any, place: int, cell: Cell) -> None:
        """What an array of a plain function is, by the equation that uses it."""
        name, key = equation.primitive.name, cell.key
        if not key or key in self.learned or self.owner.unit_of(key)[1].role != "raw":
            return
        shape, axes = np.shape(self.owner.arrays[key]), cell.axes
        if axes is None:
            role = {"add": "bias", "mul": "scale"}.get(name)
            if role and len(shape) == 1:
                self.learned[key] = Held((key,), role)
            return
        if name == "dot_general":
            contracted, batched = (each[place] for each in equation.params["dimension_numbers"])
            if not batched and len(shape) > 1:
                rest = [axis for axis in range(len(shape)) if axis not in contracted]
                order = [axes[axis] for axis in (*contracted, *rest)]
                into = (
                    math.prod(shape[axes[axis]] for axis in contracted),
                    math.prod(shape[axes[axis]] for axis in rest),
                )
                self.learned[key] = moved(key, "kernel", shape, order, into, "")
        elif name == "conv_general_dilated" and place == 1:
            out, into_, *window = equation.params["dimension_numbers"].rhs_spec
            order = [axes[axis] for axis in (*window, into_, out)]
            flipped = tuple(range(len(window))) if max(equation.params["lhs_dilation"], default=1) > 1 else ()
            self.learned[key] = moved(key, "kernel", shape, order, tuple(shape[axis] for axis in order), "", flipped)
        elif name == "gather" and place == 0 and len(shape) == 2 and axes == (0, 1):
            self.learned[key] = Held((key,), "table")


def _opened(inner: Any) -> tuple[Jaxpr, Sequence[Any]]:
    return (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, ())


def _frames(equation: Any) -> Sequence[Any]:
    traceback = equation.source_info.traceback
    return traceback.frames if traceback else ()


def _is_narrow(value: Any) -> bool:
    dtype = getattr(value, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating) and dtype != np.float64


def _is_lifted(atom: Any, cell: Cell) -> bool:
    return (
        getattr(cell.value, "dtype", None) == np.float64
        and jnp.issubdtype(atom.aval.dtype, jnp.floating)
        and atom.aval.dtype != np.float64
    )


def _axes_after(name: str, params: Mapping[str, Any], axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if axes is None or name in ("convert_element_type", "copy", "copy_p"):
        return axes
    return tuple(axes[axis] for axis in params["permutation"]) if name == "transpose" else None


def _bind(primitive: Any, params: Mapping[str, Any], values: Sequence[Any]) -> list[Array]:
    found = primitive.get_bind_params(dict(params))
    functions, rest = found if isinstance(found, tuple) else ((), found)  # a pair until JAX 0.9
    given = primitive.bind(*functions, *values, **rest)
    return list(given) if primitive.multiple_results else [given]
