"""A call, written into a jaxpr: two primitives of our own around it; and who writes them while a model is traced."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from lockstep.errors import did_you_mean
from lockstep.exchange.models import side
from lockstep.exchange.models.records import Layer, Where

try:  # a model of plain functions needs no Flax
    import flax
    from flax import linen, nnx
except ImportError:
    flax = linen = nnx = None  # type: ignore[assignment]

from lockstep.exchange.models.jax.roles import FUNCTIONS, KINDS, LAYERS, Array, Arrays
from lockstep.language import later


class Site(NamedTuple):
    """A call of a layer or a function as it was traced."""

    function: str
    kind: str
    path: str
    where: Where
    names: tuple[str, ...] = ()  # of the arguments that its arrays are, one each
    keys: tuple[str, ...] = ()  # of the arrays that it keeps
    arguments: Mapping[str, Any] = {}
    # other arguments → (arrays taken and kept → arrays given, and kept if they are others then)
    remade: Callable[[dict[str, Any]], Callable[..., list[Array]]] | None = None
    is_layer: bool = False


enter_p, leave_p = Primitive("lockstep_enter"), Primitive("lockstep_leave")
for _each in (enter_p, leave_p):
    _each.multiple_results = True
enter_p.def_impl(lambda *values, site: [])
enter_p.def_abstract_eval(lambda *values, site: [])
leave_p.def_impl(lambda *values, n, **_rest: list(values[n:]))
leave_p.def_abstract_eval(lambda *values, n, **_rest: list(values[n:]))
mlir.register_lowering(enter_p, lambda context, *values, site: [])
mlir.register_lowering(leave_p, lambda context, *values, n, **_rest: values[n:])


def _leave_jvp(primals: Any, tangents: Any, *, n: int, **rest: Any) -> tuple[list[Array], list[Array]]:
    return leave_p.bind(*primals, n=n, **rest), list(tangents[n:])


def _leave_batched(values: Any, dims: Any, *, n: int, axes: Any, **rest: Any) -> tuple[list[Array], list[Any]]:
    return leave_p.bind(*values, n=n, axes=(*axes, tuple(dims)), **rest), list(dims[n:])


def _enter_jvp(primals: Any, tangents: Any, *, site: int) -> tuple[list[Array], list[Array]]:
    return enter_p.bind(*primals, site=site), []


def _enter_batched(values: Any, dims: Any, *, site: int) -> tuple[list[Array], list[Any]]:
    return enter_p.bind(*values, site=site), []


ad.primitive_jvps[enter_p] = _enter_jvp
batching.primitive_batchers[enter_p] = _enter_batched
ad.primitive_jvps[leave_p] = _leave_jvp
batching.primitive_batchers[leave_p] = _leave_batched


def is_array(value: Any) -> bool:
    """Whether this holds numbers."""
    return isinstance(value, jax.Array | np.ndarray)


def _is_opaque(value: Any) -> bool:
    return value is None or (
        nnx is not None and isinstance(value, nnx.Module | nnx.Rngs | nnx.RngStream | nnx.Variable)
    )


class Form(NamedTuple):
    """A call's arguments without its arrays, to be filled again."""

    bound: inspect.BoundArguments
    leaves: list[Any]
    tree: Any

    @classmethod
    def of(cls, function: Any, args: Any, kwargs: Any) -> Form:
        """Of a call as it was written."""
        try:
            bound = inspect.signature(function).bind(*args, **kwargs)
        except (TypeError, ValueError):
            bound = inspect.signature(lambda *args, **kwargs: None).bind(*args, **kwargs)
        bound.apply_defaults()
        leaves, tree = jax.tree.flatten(dict(bound.arguments), is_leaf=_is_opaque)
        return cls(bound, leaves, tree)

    @property
    def arrays(self) -> list[Array]:
        """The arrays among the arguments."""
        return [leaf for leaf in self.leaves if is_array(leaf)]

    @property
    def names(self) -> tuple[str, ...]:
        """The argument that each of them is, or is in."""
        numbered = self.tree.unflatten(range(len(self.leaves)))
        of = {place: name for name, value in numbered.items() for place in jax.tree.leaves(value)}
        return tuple(of[place] for place, leaf in enumerate(self.leaves) if leaf is _HOLE or is_array(leaf))

    def plain(self) -> dict[str, Any]:
        """All other arguments."""
        held = set(self.names)
        return {
            name: value
            for name, value in self.bound.arguments.items()
            if name not in held and (value is None or not _is_opaque(value))
        }

    def without_arrays(self) -> Form:
        """The same, keeping no array alive and no random state."""
        return self._replace(
            leaves=[_HOLE if is_array(leaf) else None if _is_opaque(leaf) else leaf for leaf in self.leaves]
        )

    def filled(self, arrays: Iterable[Array], changes: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """With these arrays, and with some arguments changed: what the call takes."""
        given = iter(arrays)
        named = self.tree.unflatten([next(given) if leaf is _HOLE else leaf for leaf in self.leaves])
        parameters = self.bound.signature.parameters
        takes_all = [name for name, each in parameters.items() if each.kind is each.VAR_KEYWORD]
        for name, value in changes.items():
            if name in parameters:
                named[name] = shaped_like(named.get(name), value)
            elif takes_all:
                named[takes_all[0]][name] = shaped_like(None, value)
            else:
                raise side.UserError(
                    later("there is no argument {name}", name=name), hint=did_you_mean(name, parameters)
                )
        bound = inspect.BoundArguments(self.bound.signature, named)
        return bound.args, bound.kwargs


_HOLE = object()


def shaped_like(old: Any, new: Any) -> Any:
    """An argument that came as JSON, as the one before it was: a function by its name, a tuple for a list."""
    if isinstance(new, list):
        return tuple(shaped_like(None, item) for item in new)
    if isinstance(new, str) and callable(old) and not isinstance(old, type):
        return next((getattr(room, new) for room in (jax.nn, jnp, lax) if hasattr(room, new)), new)
    return new


class Watch:
    """Writes calls into what is traced while it is on, and notes what layers are made of."""

    def __init__(self) -> None:
        packages = [jax, np, *([flax] if flax else []), *_installed("jaxlib", "optax")]
        self.lines = side.Lines(packages)
        self.made: dict[int, tuple[str, Where, dict[str, Any], dict[str, Any]]] = {}
        self.keep: list[Any] = []  # what ids stand for
        self.sites: list[Site] = []
        self.paths: dict[int, str] = {}
        self.path: list[str] = [""]
        self.layers: dict[str, Layer] = {}
        self.options: dict[str, tuple[str, dict[str, Any]]] = {}
        self.dtype = jnp.float32
        self.is_on = False

    # ----------------------------------------------------------------------------------------------- names put in place

    @contextlib.contextmanager
    def names(self) -> Iterator[None]:
        """Inside, functions and constructors that are looked up are those that this sees."""
        before: list[tuple[Any, str, Any]] = []
        for room, name, new in (*self._functions(), *self._constructors()):
            before.append((room, name, vars(room)[name]))
            setattr(room, name, new)
        try:
            yield
        finally:
            for room, name, old in reversed(before):
                setattr(room, name, old)

    def _functions(self) -> Iterator[tuple[ModuleType, str, Any]]:
        for room, names in _watched_functions():
            for name, function in names.items():
                yield room, name, self._function(function)

    @functools.cache  # noqa: B019
    def _function(self, function: Any) -> Any:
        name = function.__name__
        module = next(room.__name__ for room, names in _watched_functions() if function in names.values())

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.is_on:
                return function(*args, **kwargs)
            form = Form.of(function, args, kwargs)
            where = self.lines.here()
            kind = KINDS.get(name, name)
            window = form.bound.arguments.get("window_shape")
            kind += f"{len(window)}d" if window is not None and "pool" in name else ""
            bare = form.without_arrays()

            def remade(changes: dict[str, Any]) -> Callable[..., list[Array]]:
                def again(*arrays: Array) -> list[Array]:
                    given, named = bare.filled(arrays, changes)
                    return arrays_in(function(*given, **named))

                return again

            def site() -> Site:
                arguments = {key: side.plain(value) for key, value in form.plain().items()}
                return Site(f"{module}.{name}", kind, self.path[-1], where, form.names, (), arguments, remade)

            return self.between(form.arrays, dict, lambda: function(*args, **kwargs), site)

        return call

    def _constructors(self) -> Iterator[tuple[type, str, Any]]:
        for each in _layers_of_flax():
            if "__init__" in each.__dict__:
                yield each, "__init__", self._constructor(each.__dict__["__init__"])
        if linen is not None:
            yield linen.Module, "clone", self._clone(linen.Module.clone)

    def _constructor(self, init: Any) -> Any:
        @functools.wraps(init)
        def note(module: Any, *args: Any, **kwargs: Any) -> None:
            if id(module) not in self.made:
                raw = _bound(init, module, args, kwargs)
                given = {key: side.plain(value) for key, value in raw.items() if key != "rngs"}
                self.made[id(module)] = (type(module).__name__, self.lines.here(), given, raw)
                self.keep.append(module)
            init(module, *args, **kwargs)
            if linen is not None and isinstance(module, linen.Module):  # what a cell carries is made before any call
                compute_in(module, self.dtype, object.__setattr__)

        return note

    def _clone(self, clone: Any) -> Any:
        @functools.wraps(clone)
        def note(module: Any, *args: Any, **kwargs: Any) -> Any:
            new = clone(module, *args, **kwargs)
            if id(module) in self.made:
                self.made[id(new)] = self.made[id(module)]
                self.keep.append(new)
            return new

        return note

    # ------------------------------------------------------------------------------------------------------ calls

    def between(self, arrays: list[Array], kept: Callable[[], Arrays], call: Callable[[], Any],
                site: Callable[[], Site], store: Callable[[Arrays], None] = lambda new: None) -> Any:  # fmt: skip
        """What a call gives, its equations standing between `enter` and `leave`."""
        number = len(self.sites)
        self.sites.append(Site("", "", self.path[-1], Where()))
        before = kept()
        # It takes what `leave` takes, so that a transform that parts what is known from what is not parts them alike.
        enter_p.bind(*arrays, *before.values(), site=number)
        output = call()
        after = {key: value for key, value in kept().items() if value is not before.get(key)}
        self.sites[number] = site()._replace(keys=tuple(before))
        leaves, tree = jax.tree.flatten(output, is_leaf=_is_opaque)
        places = [place for place, leaf in enumerate(leaves) if is_array(leaf)]
        taken = [*arrays, *before.values()]
        given = leave_p.bind(*taken, *(leaves[place] for place in places), *after.values(),
                             site=number, n=len(taken), n_kept=len(after), axes=())  # fmt: skip
        store(dict(zip(after, given[len(places) :], strict=True)))
        for place, value in zip(places, given, strict=False):
            leaves[place] = value
        return jax.tree.unflatten(tree, leaves)

    @contextlib.contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """Inside, the layer at this path is at work."""
        self.path.append(path)
        try:
            yield
        finally:
            self.path.pop()

    def layer(self, module: Any, path: str, call: Any, args: Any, kwargs: Any, kept: Callable[[], Arrays],
              store: Callable[[Arrays], None], remade: Callable[[Form, dict[str, Any]], Any]) -> Any:  # fmt: skip
        """The call of a module: one of Flax is a call of its own, one of the person's says only where its calls are."""
        name = name_of_layer(module)
        if name is None:
            with self.inside(path):
                given = arrays_in((args, kwargs))
                return self.between(given, dict, lambda: call(*args, **kwargs), lambda: Site("", "", path, Where()))
        if "deterministic" in side.signature_of(call):
            kwargs = kwargs | {"deterministic": True}  # masks are off
        form = Form.of(call, args, kwargs)
        where = self.lines.here()
        of, made_at, options, raw = self.made.get(id(module)) or self._made_at(path, module)
        self.layers.setdefault(path, Layer(path, of, made_at, options))
        self.options.setdefault(path, (name, raw))
        bare = form.without_arrays()
        room = type(module).__module__.partition(".")[2].partition(".")[0]

        def site() -> Site:
            own = {
                key: side.plain(value) for key, value in form.plain().items() if value is not None or key not in options
            }
            kind = LAYERS.get(name, ("", {}))[0]
            return Site(f"flax.{room}.{name}", kind, path, where, form.names, (), {**options, **own},
                        functools.partial(remade, bare), True)  # fmt: skip

        with self.inside(path):
            if name == "Dropout":
                return self.between(form.arrays, kept, lambda: form.arrays[0], site)
            return self.between(form.arrays, kept, lambda: call(*args, **kwargs), site, store)

    def _made_at(self, path: str, module: Any) -> tuple[str, Where, dict[str, Any], dict[str, Any]]:
        found = self.layers.get(path)
        if found is None:
            return type(module).__name__, Where(), {}, {}
        return found.name, found.where, found.arguments, self.options[path][1]


def _installed(*names: str) -> list[ModuleType]:
    found = []
    for name in names:
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module(name))
    return found


@functools.cache
def _watched_functions() -> list[tuple[ModuleType, dict[str, Any]]]:
    """(module, name → function) wherever a function that is watched is looked up."""
    wanted = {id(value): value for name, value in vars(jax.nn).items() if _is_function(name, value)}
    for module, names in FUNCTIONS.items():
        for room in _installed(module):
            wanted |= {id(vars(room)[name]): vars(room)[name] for name in names if name in vars(room)}
    rooms = _installed("jax.nn", "jax.numpy", "jax.image", "flax.linen", "flax.nnx")
    return [(room, {name: value for name, value in vars(room).items() if id(value) in wanted}) for room in rooms]


def _is_function(name: str, value: Any) -> bool:
    return callable(value) and not isinstance(value, type) and not name.startswith("_") and name != "identity"


def _layers_of_flax() -> Iterator[type]:
    for root in (nnx.Module, linen.Module) if flax else ():
        waiting = [root]
        while waiting:
            each = waiting.pop()
            waiting += each.__subclasses__()
            if each is not root and each.__module__.startswith("flax."):
                yield each


def name_of_layer(module: Any) -> str | None:
    """The name of the layer of Flax that this is; None for a module of the person's own."""
    return next((each.__name__ for each in type(module).__mro__ if each.__name__ in LAYERS
                 and each.__module__.startswith("flax.")),
                type(module).__name__ if type(module).__module__.startswith("flax.") else None)  # fmt: skip


def _bound(init: Any, module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        bound = inspect.signature(init).bind(module, *args, **kwargs)
    except TypeError:
        return dict(kwargs)
    bound.apply_defaults()
    return {key: value for key, value in bound.arguments.items() if key not in ("self", "parent", "name")}


def arrays_in(value: Any) -> list[Array]:
    """All arrays of a value, at whatever depth."""
    return [leaf for leaf in jax.tree.leaves(value, is_leaf=_is_opaque) if is_array(leaf)]


MODES = {**dict.fromkeys(("train", "training", "is_training"), True),
         **dict.fromkeys(("deterministic", "evaluation", "use_running_average"), False)}  # fmt: skip


def in_mode(function: Any, mode: str) -> dict[str, bool]:
    """The argument of a call that says whether it trains, where it has one."""
    parameters = side.signature_of(function)
    return {name: (mode == "training") is is_true for name, is_true in MODES.items() if name in parameters}


def compute_in(module: Any, dtype: Any, put: Callable[[Any, str, Any], None]) -> None:
    """Layers pin the type that they compute in when they are made: in float64 all compute in that."""
    if dtype != jnp.float64 or not name_of_layer(module):
        return
    for name in ("dtype", "param_dtype"):
        old = getattr(module, name, None)
        if old is not None and jnp.issubdtype(old, jnp.floating):
            put(module, name, dtype)
