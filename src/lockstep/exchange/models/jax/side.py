"""JAX's side: a call is traced to its jaxpr, which is read equation by equation with numbers.

A jaxpr has no layers and no functions any more, so they are written into it: while a model is traced, the call of every
Flax layer, and of every function of `jax.nn` and its like, stands between two primitives of our own. `enter` says that
it begins; through `leave` goes all that it took and gave. They survive jit, scan, vmap and grad, and a layer that is
made again with another argument needs no other place than `leave` to put its numbers into.

The reader itself is traced and compiled once for a pass, because JAX compiles every equation of its own that is
evaluated alone. A branch and the turns of a loop are taken as a pass equation by equation takes them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lockstep.exchange.models import side
from lockstep.exchange.models.jax.kinds import Functions, Linen, Nnx
from lockstep.exchange.models.jax.recorder import Cell, Recorder, Seen
from lockstep.exchange.models.jax.roles import Array, Arrays, Held, held_by_layer
from lockstep.exchange.models.jax.watch import Watch, arrays_in, flax, linen, nnx
from lockstep.exchange.models.records import Call, Change, Model, Trace, Unit
from lockstep.language import later

# XLA would keep more digits than a model in bfloat16 has; and a pass is compiled for one batch.
COMPILED: dict[str, Any] = {"xla_allow_excess_precision": False, "xla_backend_optimization_level": 0}


class Jax:
    """See `side.Side`."""

    def __init__(self) -> None:
        self.watch = Watch()
        self.n_loaded = self.n_traced = 0
        self.holders: dict[str, Held] = {}
        self.results: Mapping[str, np.ndarray] = {}  # what calls give instead, by the key in a change
        self.is_wide = False
        self.seen: dict[int, Seen] = {}
        self.compiled: dict[str, Any] = {}
        self.values: dict[str, dict[int, Array]] = {"tensor": {}, "slot": {}}

    # ------------------------------------------------------------------------------------------------------- building

    def load(self, file: Path, name: str, dtype: str) -> Model:
        """See `side.Side`."""
        # Off for float32: what a file makes without a type would be float64 there, which it isn't where it comes from.
        self.is_wide = dtype == "float64"
        jax.config.update("jax_enable_x64", self.is_wide)
        self.watch = Watch()
        self.watch.dtype = jnp.dtype(dtype)
        with self.watch.names():
            self.module = side.imported(file, self.n_loaded)
            self.n_loaded += 1
            found = side.named(self.module, name)
            kind, model = self._kind(found, name)
            self.model: Nnx | Linen | Functions = kind(self.watch, model, self.module)
        self.holders, self.compiled = {}, {}
        self.by_key: dict[Any, Any] = {}
        self._hold()
        return self.description()

    def _kind(self, found: Any, name: str) -> tuple[Any, Any]:
        """(the kind of a model, the model) that is named."""
        # The metaclass of nnx hides what a class takes.
        made: Any = found
        takes = side.signature_of(functools.partial(made.__init__, None) if isinstance(found, type) else found)
        is_module = flax is not None and isinstance(found, nnx.Module | linen.Module)
        if (
            not is_module
            and not isinstance(found, type)
            and callable(found)
            and next(iter(takes), "") in ("parameters", "params")
        ):
            return Functions, found
        if not is_module:
            needs_rngs = flax is not None and "rngs" in takes and takes["rngs"].default is inspect.Parameter.empty
            found = side.made(_Factory(found, takes, {"rngs": nnx.Rngs(0)} if needs_rngs else {}))
        if flax is not None and isinstance(found, nnx.Module):
            return Nnx, found
        if flax is not None and isinstance(found, linen.Module):
            return Linen, found
        raise side.UserError(
            later("{name} gives {type}, which is no module of Flax", name=name, type=type(found).__name__),
            hint=later("return the nnx or linen module, or name a function forward(parameters, x) beside parameters()"),
        )

    def description(self) -> Model:
        """What is known of the model now."""
        units = tuple(
            Unit(name, self.holders[name].role, value.shape, set(self.holders[name].arrays) <= self.model.trained,
                 self.holders[name].layer or name.rpartition(".")[0], self.holders[name].is_turned_round)
            for name, value in self.units().items()
        )  # fmt: skip
        has = tuple(each for each in ("loss", "optimizer", "batch", "train_step") if hasattr(self.module, each))
        return Model(self.model.framework, jax.__version__, units, tuple(self.watch.layers.values()), has)

    # ---------------------------------------------------------------------------------------------------------- units

    @property
    def arrays(self) -> Arrays:
        """All that the model keeps, in its own layout."""
        return self.model.arrays

    def _hold(self, learned: Mapping[str, Held] | None = None) -> None:
        """Find out which units the arrays are: by their layer, by the call that used them, or as they are."""
        shapes = {key: np.shape(value) for key, value in self.arrays.items()}
        found: dict[str, Held] = {}
        taken: set[str] = set()
        # A cell before the dense layers that it is made of.
        for path, (name, options) in sorted(
            self.watch.options.items(), key=lambda item: (len(item[0].split(".")), item)
        ):
            lead = f"{path}." if path else ""
            own = {key: shape for key, shape in shapes.items() if key.startswith(lead) and key not in taken}
            for unit, held in held_by_layer(name, path, own, options).items():
                if all(self._fits(held, key) for key in held.arrays):
                    found[unit] = held
                    taken.update(held.arrays)
        for key in shapes:
            if key not in taken:
                found[key] = (
                    (learned or {}).get(key)
                    or self.holders.get(key)
                    or Held((key,), "raw", layer=key.rpartition(".")[0])
                )
        self.holders = found
        self.by_key = {key: unit for unit, held in found.items() for key in held.arrays}

    def _fits(self, held: Held, key: str) -> bool:
        """Whether an array is one layer's; several layers' can lie in one."""
        of = {"kernel": (2, 5), "table": (2, 2), "recurrent": (2, 2)}.get(held.role, (0, 9))
        return of[0] <= np.ndim(self.arrays[key]) <= of[1]

    def unit_of(self, key: str) -> tuple[str, Held]:
        """The unit that an array is, or is part of."""
        name = self.by_key.get(key, "")
        return name, self.holders.get(name, Held((key,), "raw"))

    def units(self) -> dict[str, np.ndarray]:
        """See `side.Side`."""
        own = {key: np.asarray(value) for key, value in self.arrays.items()}
        return {
            name: np.ascontiguousarray(held.to([own[key] for key in held.arrays]))
            for name, held in self.holders.items()
        }

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """See `side.Side`."""
        for name, value in values.items():
            held = self.holders[name]
            for key, part in zip(held.arrays, held.back(np.asarray(value)), strict=True):
                old = self.arrays[key]
                if np.shape(part) != old.shape:
                    raise side.UserError(
                        later("{name} is {shape} and was given {given}", name=name, shape=str(self.units()[name].shape),
                              given=str(np.shape(value)))
                    )  # fmt: skip
                self.arrays[key] = jnp.asarray(np.ascontiguousarray(part), old.dtype)

    # ---------------------------------------------------------------------------------------------------------- a pass

    def trace(
        self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change] = (), designed: np.ndarray | None = None
    ) -> Trace:
        """See `side.Side`."""
        given = [self._placed(value) for value in batch]
        closed, n_outputs, turns = self.read_call(given, mode, changes)
        recorder, numbers, gradients = self._passed(closed, given, changes, turns, n_outputs, designed)
        self._hold(recorder.learned)
        self.seen = recorder.seen
        self.values = {"tensor": numbers["tensor"], "slot": dict(enumerate(numbers["slot"]))}
        after = dict(zip(sorted(self.arrays), numbers["after"], strict=True))
        state = self._in_layout(
            {name: held for name, held in self.holders.items() if held.role in ("mean", "variance")}, after
        )
        used = {name: held for name, held in self.holders.items()
                if set(held.arrays) <= recorder.used & self.model.trained}  # fmt: skip
        reached = _reaching(recorder.calls, recorder.outputs) - recorder.dark
        return Trace(
            self._named(recorder.calls), {number: np.asarray(value) for number, value in numbers["tensor"].items()},
            recorder.inputs, recorder.outputs,
            {number: np.asarray(value) for number, value in gradients[1].items() if number in reached},
            self._in_layout(used, gradients[0]) if designed is not None else {}, state,
        )  # fmt: skip

    def read_call(self, given: list[Array], mode: str, changes: Sequence[Change]) -> tuple[Any, int, list[Any]]:
        """(the jaxpr of a call, how many arrays it gives, what its branches and loops decide)."""
        with self._watching():
            self.model.begin(given)
            self._hold()
            closed, shape = jax.make_jaxpr(functools.partial(self._call, mode=mode), return_shape=True)(
                self.arrays, given
            )
        self._hold()
        return closed, len(shape[0]), self._turns(closed, given, changes)

    def read(self, closed: Any, arrays: Arrays, given: Sequence[Array], changes: Sequence[Change], turns: list[Any],
             n: int) -> Recorder:  # fmt: skip
        """The jaxpr of a call with these numbers, or with what stands for them."""
        return self._read(closed, arrays, given, changes, None, turns, n, self.results)

    def _placed(self, value: np.ndarray) -> Array:
        return jnp.asarray(value, self.watch.dtype if np.issubdtype(value.dtype, np.floating) else None)

    def _call(self, arrays: Arrays, given: Sequence[Array], mode: str) -> tuple[list[Array], list[Array]]:
        output, after = self.model.call(arrays, given, mode)
        return arrays_in(output), [after[key] for key in sorted(arrays)]

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Inside, calls are written into what is traced; nothing is taken that was traced without them before."""
        self.n_traced += 1
        with self.watch.names(), _CONTEXT(self.n_traced):
            self.watch.is_on = True
            try:
                yield
            finally:
                self.watch.is_on = False

    def _read(self, closed: Any, arrays: Arrays, given: Sequence[Array], changes: Sequence[Change],
              added: Mapping[int, Array] | None, turns: list[Any], n: int, put: Mapping[str, Any],
              is_deciding: bool = False) -> Recorder:  # fmt: skip
        """The jaxpr of a call, read with these numbers."""
        recorder = Recorder(self, changes, added, turns)
        recorder.is_deciding, recorder.put = is_deciding, put
        held = [Cell(arrays[key], key=key, axes=tuple(range(arrays[key].ndim))) for key in sorted(arrays)]
        cells = [Cell(value) for value in given]
        recorder.inputs = tuple(map(recorder.number, cells))
        found = recorder.run(closed.jaxpr, closed.consts, [*held, *cells])
        recorder.outputs = tuple(map(recorder.number, found[:n]))
        recorder.after = [cell.value for cell in found[n:]]
        recorder.results = [cell.value for cell in found[:n]]
        return recorder

    def _turns(self, closed: Any, given: Sequence[Array], changes: Sequence[Change]) -> list[Any]:
        """What branches and loops decide, by a pass equation by equation, which only they need."""
        turns: list[Any] = []
        if _has_branches(closed.jaxpr):
            self._read(closed, self.arrays, given, changes, None, turns, 0, self.results, is_deciding=True)
        return turns

    def _passed(self, closed: Any, given: Sequence[Array], changes: Sequence[Change], turns: list[Any], n: int,
                designed: np.ndarray | None,
                ) -> tuple[Recorder, dict[str, Any], tuple[Arrays, dict[int, Array]]]:  # fmt: skip
        """One compiled pass: (what was noted, its numbers, gradients by the model's arrays and by tensors)."""
        kept: list[Recorder] = []

        def weighed(arrays: Arrays, added: dict[int, Array], batch: Any, put: Any, weights: Any) -> tuple[Array, dict[str, Any]]:  # fmt: skip # noqa: E501
            recorder = self._read(closed, arrays, batch, changes, added, turns, n, put)
            kept.append(recorder)
            output = recorder.results[0]
            total = (output * (0.0 if weights is None else weights.astype(output.dtype))).sum()
            return total, {"tensor": recorder.live, "slot": recorder.slots, "after": recorder.after}

        rest = (list(given), dict(self.results), designed)
        if designed is None:
            _total, numbers = self._compiled(weighed, {}, *rest)
            return kept[-1], numbers, ({}, {})
        _total, shapes = jax.eval_shape(weighed, self.arrays, {}, *rest)
        added = {number: np.zeros(each.shape, each.dtype) for number, each in shapes["tensor"].items()
                 if jnp.issubdtype(each.dtype, jnp.floating)}  # fmt: skip
        (_total, numbers), gradients = self._compiled(
            jax.value_and_grad(weighed, argnums=(0, 1), has_aux=True), added, *rest
        )
        return kept[-1], numbers, gradients

    def _compiled(self, function: Any, *given: Any) -> Any:
        """What a pass gives; one that was compiled before, with other numbers, is not compiled again."""
        lowered = jax.jit(function, keep_unused=True).lower(self.arrays, *given)
        text = hashlib.sha256(lowered.as_text().encode()).hexdigest()
        if text not in self.compiled:
            self.compiled[text] = lowered.compile(compiler_options=COMPILED)
        return self.compiled[text](self.arrays, *given)

    def _in_layout(self, holders: Mapping[str, Held], arrays: Arrays) -> dict[str, np.ndarray]:
        return {name: np.ascontiguousarray(held.to([np.asarray(arrays[key]) for key in held.arrays]))
                for name, held in holders.items()}  # fmt: skip

    def _named(self, calls: Sequence[Call]) -> tuple[Call, ...]:
        """The calls with the roles that were learned from them."""
        return tuple(dataclasses.replace(call, units=self._roles(call.units)) for call in calls)

    def _roles(self, units: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for role, name in units.items():
            held = self.holders.get(name)
            if role.partition(".")[0] == "raw" and held is not None and held.role != "raw":
                role = held.role if held.role not in found else f"{held.role}.{name.rpartition('.')[2]}"
            found[role] = name
        return found

    # --------------------------------------------------------------------------------------------------- the laboratory

    def again(self, call: int, change: Change) -> list[np.ndarray]:
        """See `side.Side`."""
        seen = self.seen[call]
        if change.result:
            return [np.asarray(self.results[change.result])]
        values = [each if where == "value" else self.values[where][each] for where, each in seen.operands]
        given = seen.remade(change)(*values)
        return [np.asarray(value) for value in given]

    def evaluated(self, function: Callable[..., list[Array]], values: Sequence[Array]) -> list[Array]:
        """What a function gives, in float64 all through where the model is."""
        if not self.is_wide:
            return function(*values)
        closed = jax.make_jaxpr(function)(*values)
        return [cell.value for cell in self._silent().run(closed.jaxpr, closed.consts, list(map(Cell, values)))]

    def read_one(self, equation: Any, values: Sequence[Array]) -> list[Array]:
        """What an equation gives."""
        return [cell.value for cell in self._silent().equation(equation, list(map(Cell, values)))]

    def _silent(self) -> Recorder:
        recorder = Recorder(self, (), None, [])
        recorder.is_deciding = True
        return recorder

    def signature(self, call: int) -> dict[str, Any]:
        """See `side.Side`."""
        return {key: side.plain(value) for key, value in self.seen[call].arguments.items()}


_CONTEXT = jax.make_user_context(0) if hasattr(jax, "make_user_context") else contextlib.nullcontext


class _Factory:
    """A class or a function that gives a model, with the signature that it has."""

    def __init__(self, factory: Any, takes: Mapping[str, inspect.Parameter], given: dict[str, Any]) -> None:
        self.factory, self.given = factory, given
        self.__name__ = getattr(factory, "__name__", str(factory))
        self.__signature__ = inspect.Signature([each for name, each in takes.items() if name not in given])

    def __call__(self) -> Any:
        return self.factory(**self.given)


def _has_branches(jaxpr: Any) -> bool:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("cond", "while"):
            return True
        for value in equation.params.values():
            for inner in value if isinstance(value, list | tuple) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns") and _has_branches(inner):
                    return True
    return False


def _reaching(calls: Sequence[Call], outputs: Iterable[int]) -> set[int]:
    """The tensors that an output was made of."""
    makers: dict[int, list[Call]] = {}
    for call in calls:
        for number in call.outputs:
            makers.setdefault(number, []).append(call)
    found, waiting = set(outputs), list(outputs)
    while waiting:
        for call in makers.get(waiting.pop(), ()):
            for number in call.inputs:
                if number not in found:
                    found.add(number)
                    waiting.append(number)
    return found
