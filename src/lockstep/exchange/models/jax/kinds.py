"""The three kinds of models: of Flax's nnx, of linen, and plain functions beside parameters()."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lockstep.errors import did_you_mean
from lockstep.exchange.models import side
from lockstep.exchange.models.jax.roles import Array, Arrays
from lockstep.exchange.models.jax.watch import (
    Form,
    Watch,
    arrays_in,
    compute_in,
    flax,
    in_mode,
    is_array,
    linen,
    name_of_layer,
    nnx,
    shaped_like,
)
from lockstep.exchange.models.records import Layer
from lockstep.language import later


class Nnx:
    """A Flax nnx module: taken apart into arrays, and put together from what stands for them."""

    framework = "nnx"

    def __init__(self, watch: Watch, model: Any, module: ModuleType) -> None:
        self.watch, self.model = watch, model
        self.at_work: list[int] = []  # ids of modules, the innermost last
        for _path, each in nnx.iter_modules(model):
            compute_in(each, watch.dtype, setattr)
        self.graph, state = nnx.split(model)
        self.flat = dict(nnx.to_flat_state(state))
        self.arrays: Arrays = {}
        self.trained: set[str] = set()
        for path, leaf in self.flat.items():
            value = value_of(leaf)
            if _is_number(value) and not isinstance(leaf, nnx.RngState):
                self.arrays[dotted(path)] = jnp.asarray(value, watch.dtype)
                if isinstance(leaf, nnx.Param):
                    self.trained.add(dotted(path))
        for path, each in nnx.iter_modules(model):
            if id(each) in watch.made and name_of_layer(each):
                name, where, given, raw = watch.made[id(each)]
                watch.layers[dotted(path)] = Layer(dotted(path), name, where, given)
                watch.options[dotted(path)] = (str(name_of_layer(each)), raw)

    def begin(self, given: Sequence[Array]) -> None:
        """Nothing is missing."""

    def call(self, arrays: Arrays, given: Sequence[Array], mode: str) -> tuple[Any, Arrays]:
        """What the model gives, and its arrays afterwards."""
        flat = [(path, with_value(leaf, arrays.get(dotted(path)))) for path, leaf in self.flat.items()]
        model = nnx.merge(self.graph, nnx.from_flat_state(flat))
        (model.train if mode == "training" else model.eval)()
        self.watch.paths = {id(each): dotted(path) for path, each in nnx.iter_modules(model)}
        self.watch.keep.append(model)
        with self._watched(model):
            output = model(*given, **in_mode(model.__call__, mode))
        after = {dotted(path): value_of(leaf) for path, leaf in nnx.to_flat_state(nnx.state(model))}
        return output, {key: after.get(key, value) for key, value in arrays.items()}

    @contextlib.contextmanager
    def _watched(self, model: Any) -> Iterator[None]:
        """Inside, each module's call is seen; a class that has none of its own is seen where its parent has it."""
        classes = {each for _path, module in nnx.iter_modules(model) for each in type(module).__mro__
                   if "__call__" in each.__dict__ and each is not object}  # fmt: skip
        before = {each: each.__dict__["__call__"] for each in classes}
        for each, call in before.items():
            each.__call__ = self._seen(call)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for each, call in before.items():
                each.__call__ = call  # type: ignore[method-assign]

    def _seen(self, call: Any) -> Any:
        at_work = self.at_work

        @functools.wraps(call)
        def seen(module: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.watch.is_on or not isinstance(module, nnx.Module):
                return call(module, *args, **kwargs)
            path = self._path(module)
            if at_work and at_work[-1] == id(module):  # super().__call__
                return call(module, *args, **kwargs)
            at_work.append(id(module))
            try:
                return self.watch.layer(
                    module, path, functools.partial(call, module), args, kwargs, lambda: self._kept(module, path),
                    lambda new: self._store(module, path, new), functools.partial(self._remade, module, path),
                )  # fmt: skip
            finally:
                at_work.pop()

        return seen

    def _path(self, module: Any) -> str:
        """A module that a transform has put together anew is told by its class, below the layer at work."""
        if id(module) not in self.watch.paths:
            here = self.watch.path[-1]
            like = [path for path, (name, _raw) in self.watch.options.items()
                    if path.startswith(here) and path != here and name == name_of_layer(module)]  # fmt: skip
            root = min(like, key=len) if like else here
            for path, each in nnx.iter_modules(module):
                self.watch.paths[id(each)] = ".".join(part for part in (root, dotted(path)) if part)
                self.watch.keep.append(each)
        return self.watch.paths[id(module)]

    @staticmethod
    def _kept(module: Any, path: str) -> Arrays:
        lead = f"{path}." if path else ""
        flat = nnx.to_flat_state(nnx.state(module))
        return {lead + dotted(place): value_of(leaf) for place, leaf in flat if not isinstance(leaf, nnx.RngState)}

    @staticmethod
    def _store(module: Any, path: str, new: Arrays) -> None:
        lead = f"{path}." if path else ""
        for place, _leaf in nnx.to_flat_state(nnx.state(module)):
            if lead + dotted(place) in new:
                attribute = functools.reduce(_item, place, module)
                attribute.set_value(new[lead + dotted(place)])

    def _remade(self, module: Any, path: str, form: Form, changes: dict[str, Any]) -> Callable[..., list[Array]]:
        """A layer made again by its constructor, with copies of what it keeps."""
        kind, raw = type(module), dict(self.watch.options.get(path, ("", {}))[1])
        flags = {
            name: getattr(module, name) for name in ("deterministic", "use_running_average") if hasattr(module, name)
        }
        of_call = {name: value for name, value in changes.items() if name in form.bound.signature.parameters}
        of_layer = {name: shaped_like(raw.get(name), value) for name, value in changes.items() if name not in of_call}
        if unknown := [name for name in of_layer if name not in raw]:
            raise side.UserError(
                later("{name} has no argument {argument}", name=kind.__name__, argument=unknown[0]),
                hint=did_you_mean(unknown[0], raw),
            )
        needs_rngs = raw.pop("rngs", None) is not None
        dtype = self.watch.dtype

        def built() -> Any:
            given = {name: nnx.clone(value) if isinstance(value, nnx.Module) else value for name, value in raw.items()}
            new = kind(**given | of_layer, **({"rngs": nnx.Rngs(0)} if needs_rngs else {}))
            for _path, each in nnx.iter_modules(new):
                compute_in(each, dtype, setattr)
            for name, value in flags.items():
                setattr(new, name, of_layer.get(name, value))
            return new

        def again(*values: Array) -> list[Array]:
            n = len(form.names)
            new = nnx.eval_shape(built)  # draws no values
            if nnx.to_flat_state(nnx.state(new, nnx.RngState)):
                new = built()
            graph, state = nnx.split(new)
            flat = list(nnx.to_flat_state(state))
            kept = [place for place, leaf in flat if not isinstance(leaf, nnx.RngState)]
            if len(kept) != len(values) - n:
                raise side.UserError(
                    later(
                        "{name} would keep {n} arrays and not {wanted}",
                        name=kind.__name__,
                        n=len(kept),
                        wanted=len(values) - n,
                    )
                )
            own = dict(zip(kept, values[n:], strict=True))
            new = nnx.merge(
                graph, nnx.from_flat_state([(place, with_value(leaf, own.get(place))) for place, leaf in flat])
            )
            args, kwargs = form.filled(values[:n], of_call)
            output = args[0] if kind.__name__ == "Dropout" else new(*args, **kwargs)
            after = [
                value_of(leaf)
                for _place, leaf in nnx.to_flat_state(nnx.state(new))
                if not isinstance(leaf, nnx.RngState)
            ]
            return [
                *arrays_in(output),
                *(late for late, early in zip(after, values[n:], strict=True) if late is not early),
            ]

        return again


class Linen:
    """A Flax linen module: its variables are made by the first batch."""

    framework = "linen"

    def __init__(self, watch: Watch, model: Any, module: ModuleType) -> None:
        self.watch, self.model = watch, model
        self.arrays: Arrays = {}
        self.trained: set[str] = set()
        self.variables: dict[str, Any] = {}
        self.places: dict[str, tuple[str, ...]] = {}

    def begin(self, given: Sequence[Array]) -> None:
        """Make the variables, once."""
        if self.variables:
            return
        keys = {name: jax.random.PRNGKey(0) for name in ("params", "dropout", "carry")}
        init = functools.partial(self.model.init, **in_mode(self.model.__call__, "inference"))
        with linen.intercept_methods(self._in_dtype):
            made = jax.jit(init)(keys, *given)
        self.variables = linen.meta.unbox(made)
        for path, value in flax.traverse_util.flatten_dict(self.variables).items():
            if _is_number(value) and path[0] != "intermediates":
                key = ".".join(path[1:])
                key = key if key not in self.arrays else f"{path[0]}:{key}"
                self.arrays[key] = jnp.asarray(value, self.watch.dtype)
                self.places[key] = path
                if path[0] == "params":
                    self.trained.add(key)

    def call(self, arrays: Arrays, given: Sequence[Array], mode: str) -> tuple[Any, Arrays]:
        """What the model gives, and its arrays afterwards."""
        flat = flax.traverse_util.flatten_dict(self.variables)
        variables = flax.traverse_util.unflatten_dict(flat | {self.places[key]: value for key, value in arrays.items()})
        with linen.intercept_methods(self._seen):
            output, changed = self.model.apply(
                variables, *given, rngs={"dropout": jax.random.PRNGKey(0)},
                mutable=[each for each in variables if each != "params"], **in_mode(self.model.__call__, mode),
            )  # fmt: skip
        after = flax.traverse_util.flatten_dict(changed)
        return output, {key: after.get(self.places[key], value) for key, value in arrays.items()}

    def _in_dtype(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        compute_in(context.module, self.watch.dtype, object.__setattr__)
        return call(*args, **kwargs)

    def _seen(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        compute_in(module, self.watch.dtype, object.__setattr__)
        if context.method_name != "__call__" or not self.watch.is_on:
            return call(*args, **kwargs)
        path = ".".join(module.path)
        signed = functools.wraps(type(module).__call__)(lambda _self, *args, **kwargs: call(*args, **kwargs))
        return self.watch.layer(
            module, path, functools.partial(signed, module), args, kwargs, lambda: self._kept(module),
            lambda new: self._store(module, path, new), functools.partial(self._remade, module),
        )  # fmt: skip

    @staticmethod
    def _variables(module: Any) -> dict[tuple[str, ...], tuple[str, Array]]:
        """Place in the variables of a module that stands alone → (key, value).

        A module that was handed to its constructor can belong to its parent: alone, it is the module's own.
        """
        found = {}
        handed = {each.name: getattr(module, each.name) for each in dataclasses.fields(module) if each.name != "parent"}
        for lead, each in (("", module), *handed.items()):
            if isinstance(each, linen.Module) and each.scope is not None:
                for place, value in flax.traverse_util.flatten_dict(linen.meta.unbox(dict(each.variables))).items():
                    inside = (place[0], *([lead] if lead else []), *place[1:])
                    found[inside] = (".".join((*each.path, *place[1:])), value)
        return found

    def _kept(self, module: Any) -> Arrays:
        return dict(self._variables(module).values())

    @staticmethod
    def _store(module: Any, path: str, new: Arrays) -> None:
        lead = f"{path}." if path else ""
        for place in flax.traverse_util.flatten_dict(dict(module.variables)):
            name = ".".join(place[1:])
            if lead + name in new and len(place) == 2:
                module.put_variable(place[0], place[1], new[lead + name])

    def _remade(self, module: Any, form: Form, changes: dict[str, Any]) -> Callable[..., list[Array]]:
        """A layer cloned with other arguments, which keeps what it kept."""
        own = {each.name for each in dataclasses.fields(module)} - {"parent", "name"}
        of_call = {name: value for name, value in changes.items() if name in form.bound.signature.parameters}
        of_layer = {
            name: shaped_like(getattr(module, name, None), value)
            for name, value in changes.items()
            if name not in of_call
        }
        if unknown := [name for name in of_layer if name not in own]:
            raise side.UserError(
                later("{name} has no argument {argument}", name=type(module).__name__, argument=unknown[0]),
                hint=did_you_mean(unknown[0], own),
            )
        new = module.clone(parent=None, _deep_clone=True, **of_layer)
        places = tuple({key: place for place, (key, _value) in self._variables(module).items()}.values())

        def again(*values: Array) -> list[Array]:
            n = len(form.names)
            args, kwargs = form.filled(values[:n], of_call)
            if type(module).__name__ == "Dropout":
                return [values[0]]
            variables = flax.traverse_util.unflatten_dict(dict(zip(places, values[n:], strict=True)))
            with linen.intercept_methods(self._in_dtype):
                output, changed = new.apply(
                    variables, *args, **kwargs, mutable=[each for each in variables if each != "params"],
                    rngs={"dropout": jax.random.PRNGKey(0)},
                )  # fmt: skip
            after = flax.traverse_util.flatten_dict(changed)
            kept = dict(zip(places, values[n:], strict=True))
            return [*arrays_in(output), *(value for place, value in after.items() if value is not kept.get(place))]

        return again


class Functions:
    """`forward(parameters, x)` and `parameters()` of a file."""

    framework = "jax"

    def __init__(self, watch: Watch, model: Any, module: ModuleType) -> None:
        if not hasattr(module, "parameters"):
            raise side.UserError(
                later("{file} has no parameters()", file=module.__file__),
                hint=later("write a function that returns them"),
            )
        self.watch, self.model = watch, model
        leaves, self.tree = jax.tree_util.tree_flatten_with_path(module.parameters())
        self.leaves = [(jax.tree_util.keystr(path, simple=True, separator="."), value) for path, value in leaves]
        self.arrays: Arrays = {key: jnp.asarray(value, watch.dtype) for key, value in self.leaves if _is_number(value)}
        self.trained = set(self.arrays)

    def begin(self, given: Sequence[Array]) -> None:
        """Nothing is missing."""

    def call(self, arrays: Arrays, given: Sequence[Array], mode: str) -> tuple[Any, Arrays]:
        """What the function gives; it keeps nothing."""
        parameters = jax.tree.unflatten(self.tree, [arrays.get(key, value) for key, value in self.leaves])
        return self.model(parameters, *given, **in_mode(self.model, mode)), arrays


def _is_number(value: Any) -> bool:
    return is_array(value) and jnp.issubdtype(value.dtype, jnp.floating) and np.ndim(value) > 0


def dotted(path: Iterable[Any]) -> str:
    """A path as one word."""
    return ".".join(map(str, path))


def _item(of: Any, part: Any) -> Any:
    return getattr(of, part) if isinstance(part, str) and hasattr(of, part) else of[part]


def value_of(leaf: Any) -> Any:
    """What a leaf of a state holds."""
    return leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf


def with_value(leaf: Any, value: Any) -> Any:
    """A new leaf, which belongs to what is traced now."""
    value = value_of(leaf) if value is None else value
    return leaf.replace(value) if isinstance(leaf, nnx.Variable) else value
