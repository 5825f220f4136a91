"""What is watched, for good: public functions, layers, signs of tensors; and what says float32 made float64."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.operation import Operation
from tensorflow.python.ops import resource_variable_ops

from lockstep.exchange.models.keras.roles import OPERATORS, THROUGH, parameters_of, tensors_in


class _Current:
    """What the watched functions of this process ask: there is one model at work in it, or none."""

    def __init__(self) -> None:
        self.owner: Any = None
        self.recorder: Any = None
        self.is_masked = False  # no value is dropped
        self.is_wide = False  # whatever says float32 means float64
        self.n_closed = 0  # calls that are being made whose insides are of no interest
        self.n_narrow = 0  # calls so far that were done in float32 all the same


CURRENT = _Current()


@contextlib.contextmanager
def closed() -> Iterator[None]:
    """Inside, the calls that are made are of no interest."""
    CURRENT.n_closed += 1
    try:
        yield
    finally:
        CURRENT.n_closed -= 1


@functools.cache
def watch() -> None:
    """From now on each public function and each layer of TensorFlow and Keras asks `CURRENT` before it works.

    A person's file may bind them at its import, so they are watched before it, and never let go.
    """
    wrappers = {id(function): (function, _watched(function, name)) for name, function in _public()}
    for name, module in list(sys.modules.items()):
        if module is not None and (name in ("keras", "tensorflow") or name.startswith(("keras.", "tensorflow._api."))):
            for key, value in list(vars(module).items()):
                if id(value) in wrappers and wrappers[id(value)][0] is value:
                    setattr(module, key, wrappers[id(value)][1])
    known = keras.src.activations.ALL_OBJECTS_DICT
    for key, value in list(known.items()):
        known[key] = wrappers.get(id(value), (value, value))[1]
    for cls in (*tf.Tensor.__mro__, *tf.Variable.__mro__, *resource_variable_ops.ResourceVariable.__mro__):
        for name in OPERATORS if cls.__module__.startswith("tensorflow.") else ():
            method = cls.__dict__.get(name)
            if isinstance(method, types.FunctionType) and not hasattr(method, "is_watched"):
                setattr(cls, name, _watched(method, f"tf.Tensor.{name}"))
    Operation.__new__ = staticmethod(_noted(Operation.__new__))
    Operation.__call__ = _called(Operation.__call__, is_layer=False)
    keras.Layer.__call__ = _called(keras.Layer.__call__, is_layer=True)
    for cls in (keras.Layer, keras.layers.InputLayer):
        cls.__init__ = _widened(cls.__init__)
    for cls in (keras.losses.Loss, keras.optimizers.Optimizer, keras.optimizers.schedules.LearningRateSchedule):
        cls.__init__ = _placed(cls.__init__)


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, function) of all that a person may call with tensors, each once, under its plainest name."""
    rooms = {"keras.ops": keras.ops, "keras.activations": keras.activations, "keras.random": keras.random,
             "keras.losses": keras.losses,
             "keras.random.": sys.modules["keras.src.backend.tensorflow.random"], "tf.nn": tf.nn,
             "tf.nn.experimental": tf.nn.experimental, "tf": tf, "tf.math": tf.math, "tf.linalg": tf.linalg,
             "tf.image": tf.image, "tf.signal": tf.signal, "tf.random": tf.random}  # fmt: skip
    seen: set[int] = set()
    for room, module in rooms.items():
        for name, function in list(vars(module).items()):
            is_ours = isinstance(function, types.FunctionType) and not name.startswith("_") and name not in THROUGH
            if is_ours and id(function) not in seen:
                seen.add(id(function))
                yield f"{room.rstrip('.')}.{name}", function


def _watched(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    word = name.rpartition(".")[2]
    is_dropout = "dropout" in word

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        target = as_it_is if is_dropout and CURRENT.is_masked else function
        if CURRENT.recorder is not None and not CURRENT.n_closed:
            return CURRENT.recorder.function(target, function, name, args, kwargs)
        return wide(target, word, args, kwargs) if CURRENT.is_wide else target(*args, **kwargs)

    call.is_watched = True  # type: ignore[attr-defined]
    return call


def as_it_is(*args: Any, **kwargs: Any) -> Any:
    """What a dropout gives that drops nothing."""
    return next(tensors_in([*args, *kwargs.values()]))


def _noted(new: Callable[..., Any]) -> Callable[..., Any]:
    """It is noted with what, and where, each layer and operation is made."""

    @functools.wraps(new)
    def note(cls: type, *args: Any, **kwargs: Any) -> Any:
        made = new(cls, *args, **kwargs)
        if CURRENT.owner is not None:
            CURRENT.owner.note(made, args, kwargs)
        return made

    return note


def _placed(init: Callable[..., None]) -> Callable[..., None]:
    """It is noted where a loss, an optimizer or a schedule is made; what with, its configuration says."""

    @functools.wraps(init)
    def placed(self: Any, *args: Any, **kwargs: Any) -> None:
        if CURRENT.owner is not None:
            CURRENT.owner.note(self, (), {})
        init(self, *args, **kwargs)

    placed.__signature__ = inspect.signature(init)  # type: ignore[attr-defined]
    return placed


def _called(call: Callable[..., Any], *, is_layer: bool) -> Callable[..., Any]:
    @functools.wraps(call)
    def watched(self: Operation, *args: Any, **kwargs: Any) -> Any:
        # A layer's own `__call__` comes here a second time, as an operation's.
        if CURRENT.recorder is None or CURRENT.n_closed or isinstance(self, keras.Layer) != is_layer:
            return call(self, *args, **kwargs)
        if is_layer:
            return CURRENT.recorder.layer(functools.partial(call, self), self, args, kwargs)
        return CURRENT.recorder.operation(functools.partial(call, self), self, args, kwargs)

    return watched


def _widened(init: Callable[..., None]) -> Callable[..., None]:
    """A layer that is made for float32, in a model of float64, is of float64 too."""

    @functools.wraps(init)
    def widened(self: Any, *args: Any, **kwargs: Any) -> None:
        if CURRENT.is_wide and _is_narrow(kwargs.get("dtype")):
            kwargs["dtype"] = None
        init(self, *args, **kwargs)

    widened.__signature__ = inspect.signature(init)  # type: ignore[attr-defined]  # Keras looks no wrapper through
    return widened


def _is_narrow(value: Any) -> bool:
    return value is tf.float32 or value is np.float32 or (isinstance(value, str) and value == "float32")


def wide(function: Callable[..., Any], word: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call in a model of float64: TensorFlow's functions make float32 of numbers, and say so in their defaults."""
    args = tuple(tf.float64 if _is_narrow(value) else value for value in args)
    kwargs = {key: tf.float64 if _is_narrow(value) else value for key, value in kwargs.items()}
    if word == "cast" and args and isinstance(args[0], float):
        args = (np.float64(args[0]), *args[1:])
    parameters = parameters_of(function)
    if "dtype" in parameters and "dtype" not in kwargs and list(parameters).index("dtype") >= len(args):
        values = [*args, *kwargs.values()][:1]
        is_number = word in ("constant", "convert_to_tensor", "zeros_like", "ones_like") and _is_of_floats(values)
        if parameters["dtype"].default is tf.float32 or is_number:
            kwargs["dtype"] = tf.float64
    try:
        output = function(*args, **kwargs)
    except (tf.errors.NotFoundError, tf.errors.UnimplementedError, tf.errors.InvalidArgumentError) as error:
        if not any(words in str(error) for words in NO_FLOAT64):
            raise
        output = function(
            *_cast(args, tf.float64, tf.float32),
            **{key: _cast(value, tf.float64, tf.float32) for key, value in kwargs.items()},
        )
    if any(each.dtype == tf.float64 for each in tensors_in([args, kwargs])):
        CURRENT.n_narrow += any(each.dtype == tf.float32 for each in tensors_in(output))
    return _cast(output, tf.float32, tf.float64)


# What TensorFlow says of a function that it has not for float64: such a one is done in float32.
NO_FLOAT64 = ("ould not find device", "No registered", "not in the list of allowed values")


def _is_of_floats(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_of_floats, value))
    return isinstance(value, float) or getattr(value, "dtype", None) == np.float32


CAST = tf.cast  # as it is before it is watched


def _cast(value: Any, old: Any, new: Any) -> Any:
    if isinstance(value, tf.Tensor):
        return CAST(value, new) if value.dtype == old else value
    if isinstance(value, tf.Variable | keras.Variable):
        return CAST(tf.convert_to_tensor(value), new) if value.dtype in (old, old.name) and new == tf.float32 else value
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_cast(item, old, new) for item in value)
    return value


def wide_variable(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """A variable of plain TensorFlow, in a model of float64."""
    value = kwargs.get("initial_value")
    if _is_narrow(kwargs.get("dtype")):
        kwargs["dtype"] = tf.float64
    if callable(value):
        kwargs["initial_value"] = lambda: _cast(tf.convert_to_tensor(value()), tf.float32, tf.float64)
    elif _is_of_floats(value) or getattr(value, "dtype", None) == tf.float32:
        kwargs["initial_value"] = np.asarray(value, np.float64)
    return next_creator(**kwargs)
