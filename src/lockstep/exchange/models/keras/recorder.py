"""Notes every call of a pass, at three depths: layers, public functions, operations."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.ops.operation import Operation
from tensorflow.python.framework import op_callbacks, op_def_registry

from lockstep.exchange.models import records, side
from lockstep.exchange.models.keras.alternatives import changed
from lockstep.exchange.models.keras.parameters import is_frameworks
from lockstep.exchange.models.keras.roles import (
    ATTENTION,
    EMPTY,
    FUNCTIONS,
    HANDED_ON,
    LAYERS,
    NUMBERED,
    OPEN,
    PASSED_OVER,
    SHAPED,
    Kept,
    Seen,
    arguments_of,
    array_of,
    depthwise,
    kind_of,
    parameters_of,
    snake,
    tensors_in,
)
from lockstep.exchange.models.keras.watch import CURRENT, closed, wide
from lockstep.exchange.models.records import Call, Change, Where
from lockstep.language import later


class Recorder:
    """Inside, every call that takes tensors and gives some is noted with its numbers."""

    def __init__(self, owner: Any, changes: Sequence[Change], is_training: bool) -> None:
        self.owner, self.is_training = owner, is_training
        self.keep: list[Any] = []  # what ids stand for
        self.by_call, self.by_path = records.by_call_and_path(changes)
        self.calls: list[Call] = []
        self.values: dict[int, np.ndarray] = {}
        self.live: dict[int, Any] = {}
        self.numbers: dict[int, int] = {}
        self.seen: dict[int, Seen] = {}
        self.ends: dict[int, int] = {}
        self.units: dict[int, str] = {}  # of tensors that are a variable's numbers, read or turned
        self.rooted: set[int] = set()  # of tensors that were made of variables alone
        self.path: list[str] = [""]
        self.parents: list[int] = [-1]
        self.wheres: list[Where] = [Where()]
        self.stand_ins: list[tuple[str, Any]] = []  # (a variable's name, the variable in its place)
        self.new: dict[tuple[int, int], tuple[Any, list[tuple[Any, Any]]]] = {}

    def number(self, tensor: Any) -> int:
        """The id of a tensor."""
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = number = len(self.values)
            self.values[number] = array_of(tensor)
            if isinstance(tensor, tf.Tensor):
                self.live[number] = tensor
            self.keep.append(tensor)
        return self.numbers[id(tensor)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, calls are seen."""
        CURRENT.recorder, CURRENT.is_masked, CURRENT.n_closed = self, True, 0
        callback = self.heard
        op_callbacks.add_op_callback(callback)
        try:
            with self._modules():
                yield
        finally:
            op_callbacks.remove_op_callback(callback)
            CURRENT.recorder, CURRENT.is_masked, CURRENT.n_closed = None, False, 0

    @contextlib.contextmanager
    def _modules(self) -> Iterator[None]:
        """Inside, it is known which module of plain TensorFlow is at work."""
        before: dict[Any, Any] = {}
        for _path, node, _holder in self.owner.nodes:
            for cls in type(node).__mro__:
                if not isinstance(node, keras.Layer) and "__call__" in cls.__dict__ and cls not in before:
                    before[cls] = cls.__dict__["__call__"]
        for cls, call in before.items():
            cls.__call__ = self._of_module(call)
        try:
            yield
        finally:
            for cls, call in before.items():
                cls.__call__ = call

    def _of_module(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def within(module: Any, *args: Any, **kwargs: Any) -> Any:
            with self._at(self.owner.paths.get(id(module), self.path[-1])):
                return call(module, *args, **kwargs)

        return within

    @contextlib.contextmanager
    def _at(self, path: str) -> Iterator[None]:
        self.path.append(path)
        try:
            yield
        finally:
            self.path.pop()

    # ------------------------------------------------------------------------------------------ what is heard of a call

    def layer(self, call: Callable[..., Any], layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A layer's call: of Keras's own it is noted, of others the inside alone."""
        with self._at(self.owner.paths.get(id(layer), self.path[-1])):
            if not is_frameworks(layer):
                return call(*args, **kwargs)
            if LAYERS.get(type(layer).__name__) == "dropout":
                kwargs = {**kwargs, "training": False}
            context = global_state.get_global_attribute("current_call_ctx")
            mode = getattr(context, "training", None)
            is_training = self.is_training if mode is None else bool(mode)
            seen = Seen(layer, f"keras.layers.{type(layer).__name__}", args, kwargs, self.path[-1], is_training)
            return self._noted(seen, call, is_open=True)

    def operation(self, call: Callable[..., Any], target: Operation, args: Any, kwargs: dict[str, Any]) -> Any:
        """A node of a functional model that is no layer: a function of `keras.ops`."""
        word = snake(type(target).__name__)
        return self._noted(Seen(target, f"keras.ops.{word}", args, kwargs, self.path[-1]), call, is_open=word in OPEN)

    def function(self, target: Any, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A public function's call."""
        word = name.rpartition(".")[2]

        def call(*args: Any, **kwargs: Any) -> Any:
            return wide(target, word, args, kwargs) if CURRENT.is_wide else target(*args, **kwargs)

        return self._noted(Seen(function, name, args, kwargs, self.path[-1]), call, is_open=word in OPEN)

    def heard(self, op: Any, inputs: Any, attributes: Any, outputs: Any, op_name: Any = None, graph: Any = None) -> Any:
        """An operation that TensorFlow has done, called by none of the functions that are watched."""
        if CURRENT.n_closed:
            return None
        op = op.decode() if isinstance(op, bytes) else op
        with closed():
            if op == "ReadVariableOp":
                self._read(inputs[0], outputs[0])
                return None
            if op in PASSED_OVER:
                return None
            try:
                named = _named(op, list(inputs), attributes)
            except (KeyError, ValueError, AttributeError):
                return None
            if len(self.calls) in self.by_call:  # TensorFlow has done it, and takes nothing in its place
                raise side.UserError(
                    later("tf.raw_ops.{op} cannot be changed within a pass", op=op), self.owner.lines.here()
                )
            seen = Seen(getattr(tf.raw_ops, op), f"tf.raw_ops.{op}", (), named, self.path[-1])
            self._noted(seen, lambda **kwargs: list(outputs), is_open=False)
            return None

    def _read(self, handle: Any, value: Any) -> None:
        name = self.owner.names.get(id(handle))
        if name is not None:
            self.units[id(value)] = name
            self.keep.append(value)

    # -------------------------------------------------------------------------------------------------- a call is noted

    def _noted(self, seen: Seen, call: Callable[..., Any], *, is_open: bool) -> Any:
        """What a call gives, under its change if it has one; noted where it takes what comes from the batch."""
        word = seen.name.rpartition(".")[2]
        taken = [each for each in tensors_in([seen.args, seen.kwargs]) if not self._unit_of(each)]
        is_of_the_batch = any(id(each) in self.numbers or id(each) in self.rooted for each in taken)
        if not is_of_the_batch or word in HANDED_ON or word in PASSED_OVER:
            with contextlib.nullcontext() if is_open else closed():
                output = call(*seen.args, **seen.kwargs)
            if word not in PASSED_OVER:
                self._derive(word, [seen.args, seen.kwargs], output)
            return output
        index = len(self.calls)
        change = self.by_call.get(index) or self._by_path(seen)
        where, n_narrow = self._where(seen), CURRENT.n_narrow
        self.calls.append(EMPTY)
        self.parents.append(index)
        self.wheres.append(where)
        try:
            with closed() if change is not None or not is_open else contextlib.nullcontext():
                output = call(*seen.args, **seen.kwargs) if change is None else self._under(seen, change)
        finally:
            self.parents.pop()
            self.wheres.pop()
        given = [each for each in tensors_in(output) if isinstance(each, tf.Tensor) and each.dtype.name in NUMBERED]
        is_new = any(id(each) not in {id(one) for one in taken} for each in given)
        call_ = self._call(index, seen, given, where, CURRENT.n_narrow > n_narrow)
        if not is_new and call_.kind != "dropout" and len(self.calls) == index + 1:
            self.calls.pop()
            return output
        self.calls[index], self.seen[index] = call_, seen
        end = self.owner.ends.get(index, 0) if change is not None else 0
        while len(self.calls) < end:  # calls keep their numbers: those that the change did away with are empty ones
            self.calls.append(dataclasses.replace(EMPTY, index=len(self.calls), path=seen.path, parent=index))
        self.ends[index] = len(self.calls)
        return output

    def _by_path(self, seen: Seen) -> Change | None:
        """The change of a layer, which is none of the functions that it calls where it is a call itself."""
        is_there = self.owner.paths.get(id(seen.target)) == seen.path
        if seen.name.startswith("tf.raw_ops."):
            return None
        return self.by_path.get(seen.path) if is_there or self.parents[-1] < 0 else None

    def _where(self, seen: Seen) -> Where:
        """The line of a call; where a functional model calls a layer, that at which the layer was made."""
        where = self.owner.lines.here()
        if not where.file and id(seen.target) in self.owner.made:
            where = self.owner.made[id(seen.target)][1]
        return where if where.file else self.wheres[-1]

    def _under(self, seen: Seen, change: Change) -> Any:
        """What a call gives under a change; a layer's weights stand in for the model's."""
        if change.result:
            return self.owner.tensor_of(self.owner.results[change.result])
        if change.function or not isinstance(seen.target, Operation):
            return changed(seen, change)
        key = (id(seen.target), id(change))
        if key not in self.new:
            _new, pairs = self.new[key] = self.owner.anew(seen.target, change, seen)
            self.stand_ins += [(self.owner.names[id(was)], now) for was, now in pairs if id(was) in self.owner.names]
        return changed(seen._replace(target=self.new[key][0]), change)

    def _call(self, index: int, seen: Seen, given: list[Any], where: Where, is_narrow: bool) -> Call:
        tensors, units = self._taken(
            snake(seen.name.rpartition(".")[2]), arguments_of(seen.target, seen.args, seen.kwargs)
        )
        if isinstance(seen.target, keras.Layer):
            units = self._of_layer(seen.target)
        first = next((each for each in tensors_in([seen.args, seen.kwargs]) if id(each) in self.numbers), None)
        kind = kind_of(seen.name, seen.target, 0 if first is None else len(first.shape))
        arguments = self.owner.arguments(seen.target, seen.args, seen.kwargs)
        if is_narrow:
            arguments["computed_in"] = "float32"
        return Call(
            index, seen.name, kind, seen.path, where, tensors, units, arguments,
            tuple(self.number(each) for each in given), self.parents[-1],
        )  # fmt: skip

    def _unit_of(self, tensor: Any) -> str | None:
        return self.owner.names.get(id(tensor)) or self.units.get(id(tensor))

    def _derive(self, word: str, inputs: Any, outputs: Any) -> None:
        """What was made of variables alone: one of them still, where only its shape is another."""
        taken, given = list(tensors_in(inputs)), list(tensors_in(outputs))
        names = {self._unit_of(each) for each in taken}
        self.keep.append(given)
        for tensor in given:
            if snake(word) in HANDED_ON and id(taken[0] if taken else None) in self.numbers:
                self.numbers.setdefault(id(tensor), self.numbers[id(taken[0])])
            elif snake(word) in SHAPED and len(names - {None}) == 1:
                self.units.setdefault(id(tensor), next(iter(names - {None})) or "")
            elif names - {None} or any(id(each) in self.rooted for each in taken):
                self.rooted.add(id(tensor))

    def _taken(self, word: str, named: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """(argument → ids of tensors, role → unit) of a call."""
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for key, value in named.items():
            for tensor in tensors_in(value):
                name = self._unit_of(tensor)
                if name is None and tensor.dtype.name in NUMBERED:
                    tensors[key] = (*tensors.get(key, ()), self.number(tensor))
                elif name is not None:
                    kept = _held(word, key, named, tuple(self.owner.variables[name].shape))
                    if kept is not None:
                        self.owner.learn(name, kept)
                    for unit in self.owner.units_in(name):
                        role = self.owner.holders[unit][1].role
                        units[role if role not in units else f"{role}.{key}"] = unit
        return tensors, units

    def _of_layer(self, layer: Any) -> dict[str, str]:
        """Role → unit of all weights of a layer, those of its parts among them."""
        letters = {
            id(variable): letter
            for attribute, letter in ATTENTION.items()
            for variable in getattr(getattr(layer, attribute, None), "variables", ())
        }
        units: dict[str, str] = {}
        for variable in layer.variables:
            for unit in self.owner.units_in(self.owner.names.get(id(variable), "")):
                role = self.owner.holders[unit][1].role
                suffix = letters.get(id(variable), "") or (unit.rpartition("/")[2] if role in units else "")
                key = f"{role}.{suffix}" if suffix else role
                units[key if key not in units else unit] = unit
        return units


def _held(word: str, argument: str, named: dict[str, Any], shape: tuple[int, ...]) -> Kept | None:
    """How an argument of a function holds a variable of this shape; None where nobody knows."""
    kind, holds = FUNCTIONS.get(word, (word, {}))
    if kind == "conv" and "depthwise" in word and argument in holds:
        return depthwise(shape)
    if kind == "matmul" and len(shape) == 2 and word not in ("tensordot", "einsum", "dot"):
        is_turned = bool(named.get("transpose_b") or named.get("adj_y"))
        return Kept("kernel", np.transpose, np.transpose) if is_turned else Kept("kernel")
    if (kind == "add" and len(shape) != 1) or (kind == "embedding" and len(shape) != 2):
        return None
    return holds.get(argument)


def _named(op: str, inputs: list[Any], attributes: Sequence[Any]) -> dict[str, Any]:
    """Inputs and attributes of an operation by the names under which `tf.raw_ops` takes them."""
    known = dict(zip(attributes[::2], attributes[1::2], strict=True))
    named: dict[str, Any] = {}
    for argument in op_def_registry.get(op).input_arg:
        if argument.number_attr or argument.type_list_attr:
            n = int(known[argument.number_attr]) if argument.number_attr else len(known[argument.type_list_attr])
            named[argument.name], inputs = inputs[:n], inputs[n:]
        else:
            named[argument.name], inputs = inputs[0], inputs[1:]
    takes = parameters_of(getattr(tf.raw_ops, op))
    for key, value in known.items():
        if key in takes and key not in named and value is not None:
            named[key] = value.decode() if isinstance(value, bytes) else value
    return named
