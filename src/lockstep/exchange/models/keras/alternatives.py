"""A call made once more under a change: of arguments, of what it takes, of the function itself."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.operation import Operation

from lockstep.exchange.models import side
from lockstep.exchange.models.keras.roles import (
    LAYERS,
    Seen,
    arguments_of,
    holds_a_tensor,
    kind_of,
    parameters_of,
    tensors_in,
)
from lockstep.exchange.models.keras.watch import CURRENT, as_it_is, wide
from lockstep.exchange.models.records import Change
from lockstep.language import later


def changed(seen: Seen, change: Change) -> Any:
    """What a call gives under a change; a layer is one that was made anew for it."""
    target, args, kwargs = seen.target, seen.args, dict(seen.kwargs)
    own = arguments_of(target, args, kwargs)
    settings = {**vars(target), **own} if isinstance(target, Operation) else own
    if change.order:
        order = tf.constant(change.order)
        args, kwargs = with_first(
            args, kwargs, lambda x: tf.reshape(tf.gather(tf.reshape(x, (x.shape[0], -1)), order, axis=1), x.shape)
        )
    is_up = kind_of(seen.name, target, 4) == "conv_transpose"
    if change.pads and not is_up:
        is_first = str(settings.get("data_format")).startswith(("channels_first", "NC"))
        is_max = "max_pool" in kind_of(seen.name, target, 4)
        args, kwargs = with_first(args, kwargs, functools.partial(padded, change.pads, is_first, is_max))
    if change.function:
        return _instead(change, args, kwargs)
    given = {key: value for key, value in change.arguments.items() if key in parameters_of(function_of(target))}
    if change.pads and "padding" in parameters_of(function_of(target)) and not isinstance(target, Operation):
        old = own.get("padding")
        given["padding"] = (
            "VALID" if (isinstance(old, str) and old.isupper()) or seen.name.startswith("tf.") else "valid"
        )
    if given:
        named = arguments_of(target, args, kwargs) | given
        if isinstance(target, Operation):
            n = len(args)
            args, kwargs = tuple(named.values())[:n], kwargs | given
        else:
            args, kwargs = (), {key: value for key, value in named.items() if key in parameters_of(target)}
    if isinstance(target, keras.Layer):
        kwargs = _in_mode(target, kwargs, seen.is_training)
    if "dropout" in seen.name and not isinstance(target, Operation):
        target = as_it_is
    if "mask" in change.arguments and not change.arguments["mask"]:
        args, kwargs = with_first(args, {**kwargs, "mask": None}, tf.identity)  # a mask hangs on its tensor
    if CURRENT.is_wide and not isinstance(target, Operation):
        return wide(target, seen.name.rpartition(".")[2], args, kwargs)
    output = target(*args, **kwargs)
    if change.pads and is_up:  # all of it was made, and is cut off here
        is_first = str(settings.get("data_format")).startswith(("channels_first", "NC"))
        return _cut(change.pads, is_first, output)
    return output


def _cut(pads: Sequence[tuple[int, int]], is_first: bool, x: Any) -> Any:
    """What is left where the border of an image is cut off, or zeros are put behind it."""
    around = [(0, 0), (0, 0), *pads] if is_first else [(0, 0), *pads, (0, 0)]
    x = tf.pad(x, [(max(first, 0), max(last, 0)) for first, last in around])
    return x[tuple(slice(-min(first, 0), min(last, 0) or None) for first, last in around)]


def function_of(target: Any) -> Any:
    """What is called, of a layer or an operation."""
    return type(target).call if isinstance(target, Operation) else target


def _in_mode(layer: Any, kwargs: dict[str, Any], is_training: bool) -> dict[str, Any]:
    """The arguments of a layer's call outside of its model, which would have said the mode."""
    if "training" not in layer.call_signature_parameters:
        return kwargs
    if LAYERS.get(type(layer).__name__) == "dropout":
        is_training = False
    return {**kwargs, "training": is_training if kwargs.get("training") is None else kwargs["training"]}


def with_first(args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Any], Any]) -> Any:
    """Arguments with their first tensor changed."""
    first = next(tensors_in([*args, *kwargs.values()]))

    def exchanged(value: Any) -> Any:
        if value is first:
            return change(tf.convert_to_tensor(value))
        return type(value)(map(exchanged, value)) if type(value) in (list, tuple) else value

    return tuple(map(exchanged, args)), {key: exchanged(value) for key, value in kwargs.items()}


def padded(pads: Sequence[tuple[int, int]], is_first: bool, is_max: bool, x: Any) -> Any:
    """An image with a border: of zeros, or of what no maximum takes."""
    around = [(0, 0), (0, 0), *pads] if is_first else [(0, 0), *pads, (0, 0)]
    return tf.pad(x, around, constant_values=tf.constant(-np.inf if is_max else 0.0, x.dtype))


def _instead(change: Change, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Another function, or a new layer of another class, called with the same tensors."""
    root, _dot, rest = change.function.partition(".")
    try:
        function = functools.reduce(getattr, rest.split("."), {"keras": keras, "tf": tf, "tensorflow": tf}[root])
    except (KeyError, AttributeError) as error:
        raise side.UserError(later('there is no "{name}" in Keras or TensorFlow', name=change.function)) from error
    tensors = [value for value in args if holds_a_tensor(value)]
    tensors += [value for value in kwargs.values() if holds_a_tensor(value)]
    if isinstance(function, type) and issubclass(function, keras.Layer):
        return function(**change.arguments)(*tensors)
    return function(*tensors, **change.arguments)
