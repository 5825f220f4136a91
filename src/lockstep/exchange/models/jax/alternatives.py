"""A call made once more under a change: at the place of a layer or function, or of one equation."""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from lockstep.exchange.models.jax.roles import OPERANDS, Array, letter_of
from lockstep.exchange.models.jax.watch import Site, arrays_in, shaped_like
from lockstep.exchange.models.records import Change


def _prepared(change: Change, values: list[Array], is_max: bool) -> list[Array]:
    """The values of a call with the first one's entries in another order, or with a border of its own."""
    first = values[0]
    if change.order:
        first = first.reshape(len(first), -1)[:, np.array(change.order)].reshape(first.shape)
    if change.pads:
        widths = [(0, 0), *change.pads, *[(0, 0)] * (first.ndim - 1 - len(change.pads))]
        first = jnp.pad(first, widths, constant_values=-np.inf if is_max else 0.0)
    return [first, *values[1:]]


def again_at_site(owner: Any, site: Site, axes: tuple[Any, ...], change: Change) -> Callable[..., list[Array]]:
    """A layer or a function under a change: (arrays taken and kept → arrays given and kept)."""
    n = len(site.names)
    changes = dict(change.arguments) | ({"padding": "VALID"} if change.pads else {})
    assert site.remade is not None  # noqa: S101 - every site that is a call has one
    call = functools.partial(_call, change.function, change.arguments) if change.function else site.remade(changes)

    is_up = bool(change.pads) and site.kind == "conv_transpose"

    def again(*values: Array) -> list[Array]:
        given = _prepared(
            dataclasses.replace(change, pads=()) if is_up else change, list(values), "max_pool" in site.kind
        )
        found = owner.evaluated(call, given[:n] if change.function else given)
        if is_up:  # all of it was made, and is cut off here
            around = [(0, 0, 0), *((*pair, 0) for pair in change.pads), (0, 0, 0)]
            found = [lax.pad(found[0], jnp.zeros((), found[0].dtype), around), *found[1:]]
        return found

    for dims in axes:  # of vmap, the innermost first
        again = _mapped(again, dims)
    return again


def _mapped(function: Callable[..., list[Array]], dims: tuple[Any, ...]) -> Callable[..., list[Array]]:
    def mapped(*values: Array) -> list[Array]:
        given = dims[: len(values)]
        if all(dim is None for dim in given):
            return function(*values)
        found = jax.vmap(function, in_axes=given)(*values)
        late = dims[len(values) :]
        return [
            value if dim in (0, None) else jnp.moveaxis(value, 0, dim) for value, dim in zip(found, late, strict=False)
        ]

    return mapped


def _call(name: str, arguments: Mapping[str, Any], *values: Array) -> list[Array]:
    """What a function of this full name gives."""
    module, _dot, last = name.rpartition(".")
    return arrays_in(getattr(importlib.import_module(module), last)(*values, **arguments))


def again_at_equation(owner: Any, equation: Any, change: Change) -> Callable[..., list[Array]]:
    """An equation under a change."""
    params, name = dict(equation.params), equation.primitive.name
    for key, value in change.arguments.items():
        if key in params:
            params[key] = shaped_like(params[key], value)
    if change.pads and "padding" in params:
        params["padding"] = ((0, 0),) * len(params["padding"])

    def again(*values: Array) -> list[Array]:
        given = _prepared(change, list(values), "max" in name)
        for place, word in enumerate(OPERANDS.get(name) or map(letter_of, range(len(given)))):
            if word in change.arguments:  # a number that was written into it
                given[place] = jnp.asarray(change.arguments[word], given[place].dtype)
        if change.function:
            return owner.evaluated(functools.partial(_call, change.function, change.arguments), given)
        return owner.read_one(equation.replace(params=params), given)

    return again


def again_by(function: Any, change: Change) -> Callable[..., list[Array]]:
    """A function made again, with what a change says put over its arguments."""

    def again(*values: Array) -> list[Array]:
        given = _prepared(change, list(values), False)
        if change.function:
            return _call(change.function, change.arguments, *given)
        return [function(*given)]

    return again
