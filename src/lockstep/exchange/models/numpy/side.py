"""NumPy's side: an array that notes every function and every operator that takes it.

A person's file has `forward(parameters, x)` and `parameters()`. There is no way back: gradients stay empty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lockstep.errors import did_you_mean
from lockstep.exchange.models import records, side
from lockstep.exchange.models.records import Call, Change, Model, Trace, Unit, Where
from lockstep.language import later

# ------------------------------------------------------------------------------------ what a call is in every framework

KINDS = {"dot": "matmul", "concatenate": "cat", "reshape": "flatten", "ravel": "flatten", "subtract": "sub",
         "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg", "power": "pow"}  # fmt: skip
# What hands an array on as it is, or only looks at it.
PASSED_OVER = {"shape", "ndim", "size", "copy", "array_equal", "allclose", "isnan", "isfinite", "result_type"}
ROLES = {"add": "bias", "multiply": "scale"}  # of one axis


class Seen(NamedTuple):
    """A call as it was made, to be made again."""

    function: Any
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Held(NamedTuple):
    """A unit: its role, and whether its canonical layout is the other way round."""

    role: str
    is_turned: bool = False


class Noted(np.ndarray):
    """An array whose functions are noted by the recorder at work."""

    recorder: Recorder | None
    unit: str
    is_turned: bool

    def __array_finalize__(self, source: Any) -> None:
        self.recorder = getattr(source, "recorder", None)
        is_same = source is not None and self.shape == source.shape
        self.unit = getattr(source, "unit", "") if is_same else ""
        self.is_turned = getattr(source, "is_turned", False)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        return _recorder(args, kwargs).noted(ufunc, method, args, kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return _recorder(args, kwargs).noted(function, "", args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        if self.recorder is None:
            return super().__getitem__(key)
        return self.recorder.noted(_taken, "", (self, key), {})

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        """A method of its own, which no function sees."""
        shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int | np.integer) else shape
        return np.reshape(self, shape, **kwargs)

    def transpose(self, *axes: Any) -> Any:
        """A method of its own, which no function sees."""
        axes = axes[0] if len(axes) == 1 and not isinstance(axes[0], int | np.integer) else axes
        return np.transpose(self, axes or None)

    @property
    def T(self) -> Any:  # noqa: N802 - NumPy's name
        """An attribute, which no function sees."""
        return np.transpose(self)

    def flatten(self, *_order: Any) -> Any:
        """A method of its own, which no function sees."""
        return np.ravel(self)

    def copy(self, *_order: Any) -> Any:
        """The same numbers: the same tensor."""
        return _recorder(self).same(self, np.array(self.view(np.ndarray)))

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        """The same tensor where it has that type, else another one."""
        if self.dtype == np.dtype(dtype):
            return self.copy()
        return _recorder(self).noted(_cast, "", (self, np.dtype(dtype).name), {})


def _method(name: str) -> Any:
    function = getattr(np, name)

    def method(array: Noted, *args: Any, **kwargs: Any) -> Any:
        return function(array, *args, **kwargs)

    return method


for _name in ("sum", "mean", "max", "min", "var", "std", "prod", "ravel", "squeeze", "swapaxes", "clip", "dot",
              "cumsum", "argmax", "argmin", "repeat", "take"):  # fmt: skip
    setattr(Noted, _name, _method(_name))


def _taken(x: Any, key: Any) -> Any:
    """`x[key]`."""
    return np.asarray(x)[key]


_taken.__name__ = "__getitem__"


def _cast(x: Any, dtype: str) -> Any:
    """`x.astype(dtype)`."""
    return np.asarray(x).astype(dtype)


_cast.__name__ = "astype"


def _arrays(value: Any) -> Iterator[Noted]:
    if isinstance(value, Noted):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _arrays(item)


def _recorder(*values: Any) -> Recorder:
    return next(each.recorder for each in _arrays(values) if each.recorder is not None)


def _bare(value: Any) -> Any:
    """The same without anything that is noted."""
    if isinstance(value, Noted):
        return value.view(np.ndarray)
    if isinstance(value, list | tuple):
        return type(value)(_bare(item) for item in value)
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items()}
    return value


def arguments_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by name, defaults among them; operands of an operator are x, y, z."""
    if isinstance(function, np.ufunc):
        return {**dict(zip("xyz", args, strict=False)), **kwargs}
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{f"argument {index}" if index else "x": value for index, value in enumerate(args)}, **kwargs}
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if value is not np._NoValue}


# ------------------------------------------------------------------------------------------------------------ the side


class NumPy:
    """See `side.Side`."""

    def __init__(self) -> None:
        self.lines = side.Lines([np])
        self.n_loaded = 0
        self.holders: dict[str, Held] = {}
        self.seen: dict[int, Seen] = {}
        self.results: Mapping[str, np.ndarray] = {}  # what calls give instead, by the key in a change

    def load(self, file: Path, name: str, dtype: str) -> Model:
        """See `side.Side`."""
        self.dtype = np.dtype(dtype)
        self.module = side.imported(file, self.n_loaded)
        self.n_loaded += 1
        self.model = side.named(self.module, name)
        if not hasattr(self.module, "parameters"):
            raise side.UserError(
                later("{file} has no parameters()", file=file), hint=later("write a function that returns them")
            )
        if not callable(self.model) or len(side.signature_of(self.model)) < 2:
            raise side.UserError(
                later("{name} is no function of parameters and a batch", name=name), hint="forward(parameters, x)"
            )
        self.parameters = self.module.parameters()
        self.values = {
            path: np.array(value, self.dtype) for path, value in leaves(self.parameters) if _is_number(value)
        }
        self.holders = {path: Held("raw") for path in self.values}
        return self.description()

    def description(self) -> Model:
        """What is known of the model now."""
        units = tuple(
            Unit(name, self.holders[name].role, value.shape, True, name.rpartition(".")[0])
            for name, value in self.units().items()
        )
        has = tuple(each for each in ("loss", "optimizer", "batch", "train_step") if hasattr(self.module, each))
        return Model("numpy", np.__version__, units, (), has)

    def units(self) -> dict[str, np.ndarray]:
        """See `side.Side`."""
        return {
            name: np.ascontiguousarray(value.T if self.holders[name].is_turned else value)
            for name, value in self.values.items()
        }

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """See `side.Side`."""
        for name, value in values.items():
            new = np.asarray(value).T if self.holders[name].is_turned else np.asarray(value)
            if new.shape != self.values[name].shape:
                raise side.UserError(
                    later("{name} is {shape} and was given {given}", name=name, shape=str(self.units()[name].shape),
                          given=str(np.shape(value)))
                )  # fmt: skip
            self.values[name] = np.array(new, self.dtype)

    def trace(
        self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change] = (), designed: np.ndarray | None = None
    ) -> Trace:
        """See `side.Side`; gradients stay empty."""
        recorder = Recorder(self, changes)
        given = [
            recorder.watched(value.astype(self.dtype) if value.dtype.kind == "f" else value.copy()) for value in batch
        ]
        inputs = tuple(map(recorder.number, given))
        held = {name: recorder.watched(value.copy(), name) for name, value in self.values.items()}
        output = self.model(filled(self.parameters, held), *given, **_in_mode(self.model, mode))
        outputs = list(_arrays(list(output.values()) if isinstance(output, dict) else output))
        if not outputs:
            raise side.UserError(
                later("{name} gives {type}, and no array made of its batch", name=self.model.__name__,
                      type=type(output).__name__)
            )  # fmt: skip
        self.seen = recorder.seen
        self.holders |= {name: role for name, role in recorder.learned.items() if self.holders[name].role == "raw"}
        calls = tuple(dataclasses.replace(call, units=self._roles(call.units)) for call in recorder.calls)
        return Trace(calls, recorder.values, inputs, tuple(map(recorder.number, outputs)))

    def _roles(self, units: Mapping[str, str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in units.values():
            role = self.holders[name].role
            found[role if role not in found else f"{role}.{name.rpartition('.')[2]}"] = name
        return found

    def again(self, call: int, change: Change) -> list[np.ndarray]:
        """See `side.Side`."""
        given = changed(self.seen[call], change, self.results)
        return [np.asarray(each) for each in (given if isinstance(given, tuple | list) else [given])]

    def signature(self, call: int) -> dict[str, Any]:
        """See `side.Side`."""
        seen = self.seen[call]
        named = arguments_of(seen.function, seen.args, seen.kwargs)
        return {key: side.plain(value) for key, value in named.items() if not isinstance(value, np.ndarray)}


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, value) of all that a tree of dictionaries and lists holds."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list | tuple) else None
    if items is None:
        yield path, tree
        return
    for key, value in items:
        yield from leaves(value, f"{path}.{key}" if path else str(key))


def filled(tree: Any, values: Mapping[str, Any], path: str = "") -> Any:
    """The tree with these values at their paths."""

    def below(key: Any) -> str:
        return f"{path}.{key}" if path else str(key)

    if isinstance(tree, dict):
        return type(tree)({key: filled(value, values, below(key)) for key, value in tree.items()})
    if isinstance(tree, list | tuple):
        items = [filled(value, values, below(key)) for key, value in enumerate(tree)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return values.get(path, tree)


def _is_number(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0


def _in_mode(function: Any, mode: str) -> dict[str, bool]:
    parameters = side.signature_of(function)
    found = {name: mode == "training" for name in ("train", "training", "is_training") if name in parameters}
    return found | {name: mode != "training" for name in ("deterministic",) if name in parameters}


def changed(seen: Seen, change: Change, results: Mapping[str, np.ndarray]) -> Any:
    """What a call gives under a change."""
    if change.result:
        return results[change.result]
    function, args, kwargs = seen.function, list(_copied(seen.args)), dict(_copied(seen.kwargs))
    first = next((index for index, value in enumerate(args) if isinstance(value, np.ndarray)), 0)
    if change.order:
        args[first] = args[first].reshape(len(args[first]), -1)[:, list(change.order)].reshape(args[first].shape)
    if change.pads:
        args[first] = np.pad(args[first], [(0, 0), *change.pads, *[(0, 0)] * (args[first].ndim - 1 - len(change.pads))])
    if change.function:
        other: Any = functools.reduce(getattr, change.function.split(".")[1:], np)
        return other(*args, **change.arguments)
    if change.arguments:
        named = arguments_of(function, tuple(args), kwargs)
        if unknown := [
            name for name in change.arguments if name not in named and name not in side.signature_of(function)
        ]:
            raise side.UserError(
                later("there is no argument {name}", name=unknown[0]), hint=did_you_mean(unknown[0], named)
            )
        named |= {key: tuple(value) if isinstance(value, list) else value for key, value in change.arguments.items()}
        if isinstance(function, np.ufunc):
            args = [named.pop(letter) for letter in "xyz"[: len(args)]]
            kwargs = named
        else:
            names = list(side.signature_of(function))[: len(args)]
            args = [named.pop(name) for name in names]
            kwargs = {
                **kwargs,
                **{key: value for key, value in named.items() if key in kwargs or key in change.arguments},
            }
    return (getattr(function, seen.method) if seen.method not in ("", "__call__") else function)(*args, **kwargs)


def _copied(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value)
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value


# --------------------------------------------------------------------------------------------------------- the recorder


class Recorder:
    """Notes every call that takes an array of its own."""

    def __init__(self, owner: NumPy, changes: Sequence[Change]) -> None:
        self.owner = owner
        self.by_call, _by_path = records.by_call_and_path(changes)
        self.calls: list[Call] = []
        self.values: dict[int, np.ndarray] = {}
        self.numbers: dict[int, int] = {}
        self.keep: list[Any] = []  # what ids stand for
        self.seen: dict[int, Seen] = {}
        self.learned: dict[str, Held] = {}
        self.is_at_work = False

    def watched(self, value: Any, unit: str = "") -> Noted:
        """An array whose calls are noted here."""
        new = np.asarray(value).view(Noted)
        new.recorder, new.unit, new.is_turned = self, unit, False
        return new

    def number(self, array: Noted) -> int:
        """The id of an array with the numbers that it has now: changed in place it is another one."""
        known = self.numbers.get(id(array))
        bare = array.view(np.ndarray)
        if known is None or not np.array_equal(self.values[known], bare, equal_nan=bare.dtype.kind == "f"):
            self.numbers[id(array)] = known = len(self.values)
            self.values[known] = bare.copy()
            self.keep.append(array)
        return known

    def same(self, array: Noted, value: np.ndarray) -> Noted:
        """A copy, which is the tensor or the unit that it was made of."""
        new = self.watched(value, array.unit)
        new.is_turned = array.is_turned
        if not array.unit:
            self.numbers[id(new)] = self.number(array)
            self.keep.append(new)
        return new

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        self.is_at_work = True
        try:
            yield
        finally:
            self.is_at_work = False

    def noted(self, function: Any, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function gives, and a note of it."""
        name = getattr(function, "__name__", str(function))
        into = kwargs.get("out")
        bare = Seen(function, method, _bare(args), {key: _bare(value) for key, value in kwargs.items() if key != "out"})
        call = getattr(function, method) if method not in ("", "__call__") else function
        if self.is_at_work or name in PASSED_OVER:
            return call(*bare.args, **bare.kwargs)
        unit = self._still_a_unit(name, args, bare)
        if unit is not None:
            return unit
        index = len(self.calls)
        named = arguments_of(function, args, {key: value for key, value in kwargs.items() if key != "out"})
        tensors, units = self._taken(name, named)
        seen = bare._replace(args=_copied(bare.args), kwargs=_copied(bare.kwargs))
        change = self.by_call.get(index)
        with self._working():
            output = changed(seen, change, self.owner.results) if change else call(*bare.args, **bare.kwargs)
        given = self._given(output, into)
        if not list(_arrays(given)):
            return given
        rest = {key: side.plain(value) for key, value in named.items() if not list(_arrays(value))}
        self.seen[index] = seen
        self.calls.append(Call(
            index, f"numpy.{name}{'.' + method if method not in ('', '__call__') else ''}", KINDS.get(name, name), "",
            self.where(), tensors, units, rest, tuple(map(self.number, _arrays(given))),
        ))  # fmt: skip
        return given

    def where(self) -> Where:
        """The person's line."""
        return self.owner.lines.here()

    def _still_a_unit(self, name: str, args: tuple[Any, ...], bare: Seen) -> Noted | None:
        """A matrix of the model's with its axes exchanged is what it was."""
        if (
            name not in ("transpose", "swapaxes")
            or not isinstance(args[0], Noted)
            or not args[0].unit
            or args[0].ndim != 2
        ):
            return None
        new = self.watched(bare.function(*bare.args, **bare.kwargs), args[0].unit)
        new.is_turned = not args[0].is_turned
        return new

    def _given(self, output: Any, into: Any) -> Any:
        """Outputs that are noted in their turn; written into an array, where one was named."""
        if into is not None:
            target = into[0] if isinstance(into, tuple) else into
            np.copyto(target.view(np.ndarray), output)
            return target
        if isinstance(output, np.ndarray | np.floating):
            return self.watched(output)
        if isinstance(output, list | tuple):
            return type(output)(self._given(item, None) for item in output)
        return output

    def _taken(self, name: str, named: Mapping[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """(argument → ids of tensors, role → unit) of a call."""
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for place, (key, value) in enumerate(named.items()):
            for array in _arrays(value):
                if not array.unit:
                    tensors[key] = (*tensors.get(key, ()), self.number(array))
                    continue
                units["raw" if "raw" not in units else f"raw.{key}"] = array.unit
                if held := self._role(name, place, array):
                    self.learned.setdefault(array.unit, held)
        return tensors, units

    @staticmethod
    def _role(name: str, place: int, array: Noted) -> Held | None:
        """What a unit is, by the function that uses it."""
        if name in ("matmul", "dot") and array.ndim == 2:  # as the second, (in, out); as the first, (out, in)
            return Held("kernel", array.is_turned != (place == 0))
        if name in ("__getitem__", "take") and place == 0 and array.ndim == 2:
            return Held("table", array.is_turned)
        return Held(ROLES[name]) if name in ROLES and array.ndim == 1 else None
