"""The layers, modules and variables of a model, and the units that its variables hold."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lockstep.exchange.models.keras.roles import (
    GATES,
    LAYERS,
    WEIGHTS,
    Kept,
    depthwise,
    einsum,
    flattened,
    gated,
    swapped,
)


def bound_arguments(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a constructor by name, defaults among them."""
    try:
        bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)
    except (TypeError, ValueError):
        return dict(kwargs)
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        elif bound.signature.parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL:
            found[name] = value
    return found


def fitted(value: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A weight in the shape that it has under a change: two biases are one, their sum, and one is two, the other 0."""
    if value.shape == shape:
        return value
    if value.shape[1:] == shape:
        return value.sum(0)
    if value.shape == shape[1:]:
        return np.concatenate([value[None], np.zeros((shape[0] - 1, *shape[1:]), value.dtype)])
    raise ValueError(f"{name} has the shape {value.shape}, and {shape} under this change")


def is_frameworks(node: Any) -> bool:
    """Whether this is a layer of Keras's own, and no model: what a person wrote is looked into instead."""
    is_layer = isinstance(node, keras.Layer) and not isinstance(node, keras.Model)
    return is_layer and type(node).__module__.startswith("keras.")


def kept_in(node: Any) -> Iterator[tuple[str, Any]]:
    """(name, value) of what an object keeps in its own attributes, in lists and dictionaries too."""
    for key, value in list(vars(node).items()):
        is_private = key.startswith("_") and isinstance(node, keras.Layer)
        if is_private or key.startswith(("_self_", "_tf_", "__")):
            continue
        if isinstance(value, list | tuple):
            yield from ((f"{key}_{index}", item) for index, item in enumerate(value))
        elif isinstance(value, dict):
            yield from ((f"{key}_{name}", item) for name, item in value.items())
        else:
            yield key, value


def free_name(name: str, taken: Iterable[str]) -> str:
    """This name, with a number where it is taken."""
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def walked(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(path, node, holder) of a model and of all layers and modules in it, each once and under a path of its own."""
    seen: set[int] = {id(model)}
    taken: set[str] = set()
    root = str(model.name) if isinstance(model, keras.Layer) else ""
    rest: list[tuple[str, Any, Any]] = [(root, model, None)]
    while rest:
        path, node, holder = rest.pop(0)
        path = free_name(path, taken)
        taken.add(path)
        yield path, node, holder
        parts = [(part.name, part) for part in node._layers] if isinstance(node, keras.Layer) else []
        parts += [(key, value) for key, value in kept_in(node) if isinstance(value, keras.Layer | tf.Module)]
        inside = []
        for name, part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                inside.append((f"{path}/{name}" if path else name, part, node))
        rest = inside + rest


def unit_of(entry: tuple[Any, Kept, tuple[int, int] | None], whole: np.ndarray) -> np.ndarray:
    """A unit out of the array that holds it."""
    _variable, kept, part = entry
    return np.ascontiguousarray(kept.to(whole if part is None else whole[part[0] : part[1]]))


def units_of(node: Any, variable: Any) -> list[tuple[str, Kept, tuple[int, int] | None]]:
    """(suffix, how, part) of the units in a weight, by the layer that holds it."""
    name, shape, cls = str(variable.name), tuple(variable.shape), type(node).__name__
    if not is_frameworks(node):
        return [("", Kept("raw"), None)]
    if cls in GATES:
        gates, order = GATES[cls]
        role = {"kernel": "kernel", "recurrent_kernel": "recurrent", "bias": "bias"}[name]
        if len(shape) == 2 and role == "bias":  # one of the input and one of the state
            kept = gated(role, gates, order, (1, shape[1]))
            return [("/input", kept, (0, 1)), ("/recurrent", kept, (1, 2))]
        return [("", gated(role, gates, order, shape), None)]
    if cls == "EinsumDense" and name in ("kernel", "bias"):
        return [("", einsum(node.equation, shape) if name == "kernel" else flattened("bias", shape), None)]
    if (cls.startswith("DepthwiseConv") and name == "kernel") or name == "depthwise_kernel":
        return [("", depthwise(shape), None)]
    if cls.endswith("Transpose") and name == "kernel":
        return [("", Kept("kernel", swapped, swapped), None)]
    is_known = name in WEIGHTS and cls in {*LAYERS, *(f"SeparableConv{n}D" for n in (1, 2))}
    return [("", Kept(WEIGHTS[name] if is_known else "raw"), None)]
