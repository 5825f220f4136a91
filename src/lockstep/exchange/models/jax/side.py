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
import importlib
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Jaxpr, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from lockstep.exchange.models import records, side
from lockstep.exchange.models.records import Call, Change, Layer, Model, Trace, Unit, Where

try:  # a model of plain functions needs no Flax
    import flax
    from flax import linen, nnx
except ImportError:
    flax = linen = nnx = None  # type: ignore[assignment]

Array = Any  # jax.Array, or what stands for one while something is traced
Arrays = dict[str, Array]

# ------------------------------------------------------------------------------------ what a call is in every framework

# layer → (kind, its own array → role)
NORM = {"scale": "scale", "bias": "shift"}
DENSE = {"kernel": "kernel", "bias": "bias"}
LAYERS: dict[str, tuple[str, dict[str, str]]] = {
    "Linear": ("dense", DENSE), "Dense": ("dense", DENSE), "LinearGeneral": ("dense", DENSE),
    "DenseGeneral": ("dense", DENSE), "Einsum": ("einsum", {}), "Conv": ("conv", DENSE),
    "ConvLocal": ("conv_local", {}), "ConvTranspose": ("conv_transpose", DENSE),
    "BatchNorm": ("batch_norm", NORM | {"mean": "mean", "var": "variance"}), "LayerNorm": ("layer_norm", NORM),
    "GroupNorm": ("group_norm", NORM), "InstanceNorm": ("instance_norm", NORM), "RMSNorm": ("rms_norm", NORM),
    "Embed": ("embedding", {"embedding": "table"}), "PReLU": ("prelu", {}), "Dropout": ("dropout", {}),
    "LSTMCell": ("lstm_cell", {}), "OptimizedLSTMCell": ("lstm_cell", {}), "GRUCell": ("gru_cell", {}),
    "SimpleCell": ("rnn_cell", {}), "RNN": ("rnn", {}), "Bidirectional": ("bidirectional", {}),
    **{name: ("multi_head_attention", {}) for name in
       ("MultiHeadAttention", "MultiHeadDotProductAttention", "SelfAttention")},
}  # fmt: skip
# cell → its gates in the canonical order, as the names of its dense layers end
GATES = {"LSTMCell": "ifgo", "OptimizedLSTMCell": "ifgo", "GRUCell": "rzn", "SimpleCell": " "}

# Functions that are seen as such, with their arguments: module → names; of jax.nn all.
FUNCTIONS = {
    "jax.numpy": ("mean", "var", "std", "pad", "clip", "concatenate", "reshape", "ravel", "matmul", "einsum", "tanh"),
    "jax.image": ("resize", "scale_and_translate"),
    "flax.linen": ("avg_pool", "max_pool", "min_pool", "dot_product_attention"),
    "flax.nnx": ("dot_product_attention",),
}
KINDS = {
    "swish": "silu", "hard_swish": "hardswish", "hard_silu": "hardswish", "hard_sigmoid": "hardsigmoid",
    "dot_product_attention": "scaled_dot_product_attention", "concatenate": "cat", "reshape": "flatten",
    "ravel": "flatten", "resize": "interpolate",
    # primitives
    "conv_general_dilated": "conv", "dot_general": "matmul", "logistic": "sigmoid", "reduce_window_max": "max_pool",
}  # fmt: skip
OPERANDS = {"conv_general_dilated": ("lhs", "rhs"), "dot_general": ("lhs", "rhs"), "gather": ("operand", "indices")}
NOT_ARGUMENTS = {"sharding", "out_sharding", "jaxpr", "call_jaxpr", "jvp", "fwd_jaxpr_thunk", "bwd", "branches"}


class Held(NamedTuple):
    """A unit: the arrays that it is made of, its role, and the way to and from its canonical layout."""

    arrays: tuple[str, ...]
    role: str
    to: Callable[[list[np.ndarray]], np.ndarray] = lambda values: values[0]
    back: Callable[[np.ndarray], list[np.ndarray]] = lambda value: [value]
    layer: str = ""


def moved(key: str, role: str, shape: tuple[int, ...], order: Sequence[int], into: tuple[int, ...], layer: str,
          flipped: tuple[int, ...] = ()) -> Held:  # fmt: skip
    """A unit of one array, whose axes are put into an order and taken together; `flipped` are axes of the result."""
    turned = tuple(shape[axis] for axis in order)
    return Held(
        (key,), role,
        lambda values: np.flip(values[0].transpose(order).reshape(into), flipped),
        lambda value: [np.flip(value, flipped).reshape(turned).transpose(np.argsort(order))],
        layer,
    )  # fmt: skip


def held_by_layer(
    name: str, path: str, arrays: Mapping[str, tuple[int, ...]], options: Mapping[str, Any]
) -> dict[str, Held]:
    """Unit → how a layer of Flax holds it; `arrays` are all that lie below its path: key → shape."""
    inside = {key.removeprefix(f"{path}." if path else ""): key for key in arrays}
    if name in GATES:
        return _held_by_cell(GATES[name], path, inside, arrays)
    found = {}
    for own, role in LAYERS.get(name, ("", {}))[1].items():
        if own not in inside:
            continue
        key = inside[own]
        shape = arrays[key]
        n = len(shape)
        if role == "kernel" and name in ("LinearGeneral", "DenseGeneral"):
            n_in = _n_contracted(options)
            into = (math.prod(shape[:n_in]), math.prod(shape[n_in:]))
            found[key] = moved(key, role, shape, range(n), into, path)
        elif own == "bias" and name in ("LinearGeneral", "DenseGeneral"):
            found[key] = moved(key, role, shape, range(n), (math.prod(shape),), path)
        elif role == "kernel" and name == "ConvTranspose":
            # Flax's correlates where others convolve; with transpose_kernel it does as they, and holds (…, out, in).
            swapped = bool(options.get("transpose_kernel"))
            order = [*range(n - 2), n - 1, n - 2] if swapped else [*range(n)]
            into = tuple(shape[axis] for axis in order)
            found[key] = moved(key, role, shape, order, into, path, () if swapped else tuple(range(n - 2)))
        else:
            found[key] = Held((key,), role, layer=path)
    return found


def _n_contracted(options: Mapping[str, Any]) -> int:
    """How many axes a general dense layer sums over: nnx names their sizes, linen the axes."""
    given = options.get("in_features", options.get("axis", -1))
    return len(given) if isinstance(given, list | tuple) else 1


def _held_by_cell(
    gates: str, path: str, inside: dict[str, str], arrays: Mapping[str, tuple[int, ...]]
) -> dict[str, Held]:
    """A cell's kernels lie in one dense layer a gate, or all in one: (in, gates, units) either way."""
    found = {}
    n = len(gates)
    lead = f"{path}." if path else ""
    for letter, leaf, role, name in (("i", "kernel", "kernel", "kernel"), ("h", "kernel", "recurrent", "recurrent"),
                                     ("i", "bias", "bias", "bias"),
                                     ("h", "bias", "bias", "recurrent_bias")):  # fmt: skip
        whole = next(
            (inside[f"{each}.{leaf}"] for each in (f"dense_{letter}", letter) if f"{each}.{leaf}" in inside), ""
        )
        parts = [
            inside[each]
            for gate in gates
            for each in (f"{letter}{gate}.{leaf}", f"{letter}{gate}_.{leaf}")
            if each in inside
        ]
        if whole:
            shape = arrays[whole]
            into = (*shape[:-1], n, shape[-1] // n)
            found[f"{lead}{name}"] = moved(whole, role, shape, range(len(shape)), into, path)
        elif parts:
            found[f"{lead}{name}"] = Held(
                tuple(parts), role,
                functools.partial(np.stack, axis=-2), lambda value: list(np.moveaxis(value, -2, 0)), path,
            )  # fmt: skip
    return found


# ----------------------------------------------------------------------------------------- a call, written into a jaxpr


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


def _is_array(value: Any) -> bool:
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
        return [leaf for leaf in self.leaves if _is_array(leaf)]

    @property
    def names(self) -> tuple[str, ...]:
        """The argument that each of them is, or is in."""
        numbered = self.tree.unflatten(range(len(self.leaves)))
        of = {place: name for name, value in numbered.items() for place in jax.tree.leaves(value)}
        return tuple(of[place] for place, leaf in enumerate(self.leaves) if leaf is _HOLE or _is_array(leaf))

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
            leaves=[_HOLE if _is_array(leaf) else None if _is_opaque(leaf) else leaf for leaf in self.leaves]
        )

    def filled(self, arrays: Iterable[Array], changes: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """With these arrays, and with some arguments changed: what the call takes."""
        given = iter(arrays)
        named = self.tree.unflatten([next(given) if leaf is _HOLE else leaf for leaf in self.leaves])
        parameters = self.bound.signature.parameters
        takes_all = [name for name, each in parameters.items() if each.kind is each.VAR_KEYWORD]
        for name, value in changes.items():
            if name in parameters:
                named[name] = _like(named.get(name), value)
            elif takes_all:
                named[takes_all[0]][name] = _like(None, value)
            else:
                raise side.UserError(f"there is no argument {name}", hint=side.near(name, parameters))
        bound = inspect.BoundArguments(self.bound.signature, named)
        return bound.args, bound.kwargs


_HOLE = object()


def _like(old: Any, new: Any) -> Any:
    """An argument that came as JSON, as the one before it was: a function by its name, a tuple for a list."""
    if isinstance(new, list):
        return tuple(_like(None, item) for item in new)
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
                    return _arrays_in(function(*given, **named))

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
                _compute_in(module, self.dtype, object.__setattr__)

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
        places = [place for place, leaf in enumerate(leaves) if _is_array(leaf)]
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
        name = _name_of_layer(module)
        if name is None:
            with self.inside(path):
                given = _arrays_in((args, kwargs))
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


def _name_of_layer(module: Any) -> str | None:
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


def _arrays_in(value: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(value, is_leaf=_is_opaque) if _is_array(leaf)]


MODES = {**dict.fromkeys(("train", "training", "is_training"), True),
         **dict.fromkeys(("deterministic", "evaluation", "use_running_average"), False)}  # fmt: skip


def _in_mode(function: Any, mode: str) -> dict[str, bool]:
    """The argument of a call that says whether it trains, where it has one."""
    parameters = side.signature_of(function)
    return {name: (mode == "training") is is_true for name, is_true in MODES.items() if name in parameters}


# ------------------------------------------------------------------------------------------------ three kinds of models


class Nnx:
    """A Flax nnx module: taken apart into arrays, and put together from what stands for them."""

    framework = "nnx"

    def __init__(self, watch: Watch, model: Any, module: ModuleType) -> None:
        self.watch, self.model = watch, model
        self.at_work: list[int] = []  # ids of modules, the innermost last
        for _path, each in nnx.iter_modules(model):
            _compute_in(each, watch.dtype, setattr)
        self.graph, state = nnx.split(model)
        self.flat = dict(nnx.to_flat_state(state))
        self.arrays: Arrays = {}
        self.trained: set[str] = set()
        for path, leaf in self.flat.items():
            value = _value_of(leaf)
            if _is_number(value) and not isinstance(leaf, nnx.RngState):
                self.arrays[_dotted(path)] = jnp.asarray(value, watch.dtype)
                if isinstance(leaf, nnx.Param):
                    self.trained.add(_dotted(path))
        for path, each in nnx.iter_modules(model):
            if id(each) in watch.made and _name_of_layer(each):
                name, where, given, raw = watch.made[id(each)]
                watch.layers[_dotted(path)] = Layer(_dotted(path), name, where, given)
                watch.options[_dotted(path)] = (str(_name_of_layer(each)), raw)

    def begin(self, given: Sequence[Array]) -> None:
        """Nothing is missing."""

    def call(self, arrays: Arrays, given: Sequence[Array], mode: str) -> tuple[Any, Arrays]:
        """What the model gives, and its arrays afterwards."""
        flat = [(path, _with_value(leaf, arrays.get(_dotted(path)))) for path, leaf in self.flat.items()]
        model = nnx.merge(self.graph, nnx.from_flat_state(flat))
        (model.train if mode == "training" else model.eval)()
        self.watch.paths = {id(each): _dotted(path) for path, each in nnx.iter_modules(model)}
        self.watch.keep.append(model)
        with self._watched(model):
            output = model(*given, **_in_mode(model.__call__, mode))
        after = {_dotted(path): _value_of(leaf) for path, leaf in nnx.to_flat_state(nnx.state(model))}
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
                    if path.startswith(here) and path != here and name == _name_of_layer(module)]  # fmt: skip
            root = min(like, key=len) if like else here
            for path, each in nnx.iter_modules(module):
                self.watch.paths[id(each)] = ".".join(part for part in (root, _dotted(path)) if part)
                self.watch.keep.append(each)
        return self.watch.paths[id(module)]

    @staticmethod
    def _kept(module: Any, path: str) -> Arrays:
        lead = f"{path}." if path else ""
        flat = nnx.to_flat_state(nnx.state(module))
        return {lead + _dotted(place): _value_of(leaf) for place, leaf in flat if not isinstance(leaf, nnx.RngState)}

    @staticmethod
    def _store(module: Any, path: str, new: Arrays) -> None:
        lead = f"{path}." if path else ""
        for place, _leaf in nnx.to_flat_state(nnx.state(module)):
            if lead + _dotted(place) in new:
                attribute = functools.reduce(_item, place, module)
                attribute.set_value(new[lead + _dotted(place)])

    def _remade(self, module: Any, path: str, form: Form, changes: dict[str, Any]) -> Callable[..., list[Array]]:
        """A layer made again by its constructor, with copies of what it keeps."""
        kind, raw = type(module), dict(self.watch.options.get(path, ("", {}))[1])
        flags = {
            name: getattr(module, name) for name in ("deterministic", "use_running_average") if hasattr(module, name)
        }
        of_call = {name: value for name, value in changes.items() if name in form.bound.signature.parameters}
        of_layer = {name: _like(raw.get(name), value) for name, value in changes.items() if name not in of_call}
        if unknown := [name for name in of_layer if name not in raw]:
            raise side.UserError(f"{kind.__name__} has no argument {unknown[0]}", hint=side.near(unknown[0], raw))
        needs_rngs = raw.pop("rngs", None) is not None
        dtype = self.watch.dtype

        def built() -> Any:
            given = {name: nnx.clone(value) if isinstance(value, nnx.Module) else value for name, value in raw.items()}
            new = kind(**given | of_layer, **({"rngs": nnx.Rngs(0)} if needs_rngs else {}))
            for _path, each in nnx.iter_modules(new):
                _compute_in(each, dtype, setattr)
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
                raise side.UserError(f"{kind.__name__} would keep {len(kept)} arrays and not {len(values) - n}")
            own = dict(zip(kept, values[n:], strict=True))
            new = nnx.merge(
                graph, nnx.from_flat_state([(place, _with_value(leaf, own.get(place))) for place, leaf in flat])
            )
            args, kwargs = form.filled(values[:n], of_call)
            output = args[0] if kind.__name__ == "Dropout" else new(*args, **kwargs)
            after = [
                _value_of(leaf)
                for _place, leaf in nnx.to_flat_state(nnx.state(new))
                if not isinstance(leaf, nnx.RngState)
            ]
            return [
                *_arrays_in(output),
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
        init = functools.partial(self.model.init, **_in_mode(self.model.__call__, "inference"))
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
                mutable=[each for each in variables if each != "params"], **_in_mode(self.model.__call__, mode),
            )  # fmt: skip
        after = flax.traverse_util.flatten_dict(changed)
        return output, {key: after.get(self.places[key], value) for key, value in arrays.items()}

    def _in_dtype(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        _compute_in(context.module, self.watch.dtype, object.__setattr__)
        return call(*args, **kwargs)

    def _seen(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        _compute_in(module, self.watch.dtype, object.__setattr__)
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
            name: _like(getattr(module, name, None), value) for name, value in changes.items() if name not in of_call
        }
        if unknown := [name for name in of_layer if name not in own]:
            raise side.UserError(
                f"{type(module).__name__} has no argument {unknown[0]}", hint=side.near(unknown[0], own)
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
            return [*_arrays_in(output), *(value for place, value in after.items() if value is not kept.get(place))]

        return again


class Functions:
    """`forward(parameters, x)` and `parameters()` of a file."""

    framework = "jax"

    def __init__(self, watch: Watch, model: Any, module: ModuleType) -> None:
        if not hasattr(module, "parameters"):
            raise side.UserError(f"{module.__file__} has no parameters()", hint="write a function that returns them")
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
        return self.model(parameters, *given, **_in_mode(self.model, mode)), arrays


def _is_number(value: Any) -> bool:
    return _is_array(value) and jnp.issubdtype(value.dtype, jnp.floating) and np.ndim(value) > 0


def _dotted(path: Iterable[Any]) -> str:
    return ".".join(map(str, path))


def _item(of: Any, part: Any) -> Any:
    return getattr(of, part) if isinstance(part, str) and hasattr(of, part) else of[part]


def _value_of(leaf: Any) -> Any:
    return leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf


def _with_value(leaf: Any, value: Any) -> Any:
    """A new leaf, which belongs to what is traced now."""
    value = _value_of(leaf) if value is None else value
    return leaf.replace(value) if isinstance(leaf, nnx.Variable) else value


def _compute_in(module: Any, dtype: Any, put: Callable[[Any, str, Any], None]) -> None:
    """Layers pin the type that they compute in when they are made: in float64 all compute in that."""
    if dtype != jnp.float64 or not _name_of_layer(module):
        return
    for name in ("dtype", "param_dtype"):
        old = getattr(module, name, None)
        if old is not None and jnp.issubdtype(old, jnp.floating):
            put(module, name, dtype)


# ------------------------------------------------------------------------------------------------------- the recorder

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
        self, owner: Jax, changes: Sequence[Change], added: Mapping[int, Array] | None, turns: list[Any]
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
        remade = functools.partial(_again_at_site, self.owner, here, axes)
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
            arguments["float32_only"] = True
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
                self.take(cell, _letter(place), None, tensors, units)
        if all(cell.is_constant or cell.key for cell in given):
            return given
        remade = functools.partial(_again_at_equation, self.owner, equation)
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
        remade = functools.partial(_again_by, function)
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
        raise side.UserError(f"a while loop takes more than {MOST_TURNS} turns", self.where(equation),
                             "write it as a scan, or give a smaller batch")  # fmt: skip

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
        remade = functools.partial(_again_at_equation, self.owner, equation)
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        arguments = {key: side.plain(value) for key, value in params.items() if key not in NOT_ARGUMENTS}
        names = OPERANDS.get(name, ())
        for place, (cell, atom) in enumerate(zip(cells, equation.invars, strict=True)):
            word = names[place] if place < len(names) else _letter(place)
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


def _letter(place: int) -> str:
    return "xyz"[place] if place < 3 else f"x{place}"


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


# ----------------------------------------------------------------------------------------------------- made once more


def _prepared(change: Change, values: list[Array], is_max: bool) -> list[Array]:
    """The values of a call with the first one's entries in another order, or with a border of its own."""
    first = values[0]
    if change.order:
        first = first.reshape(len(first), -1)[:, np.array(change.order)].reshape(first.shape)
    if change.pads:
        widths = [(0, 0), *change.pads, *[(0, 0)] * (first.ndim - 1 - len(change.pads))]
        first = jnp.pad(first, widths, constant_values=-np.inf if is_max else 0.0)
    return [first, *values[1:]]


def _again_at_site(owner: Jax, site: Site, axes: tuple[Any, ...], change: Change) -> Callable[..., list[Array]]:
    """A layer or a function under a change: (arrays taken and kept → arrays given and kept)."""
    n = len(site.names)
    changes = dict(change.arguments) | ({"padding": "VALID"} if change.pads else {})
    assert site.remade is not None  # noqa: S101 - every site that is a call has one
    call = functools.partial(_call, change.function, change.arguments) if change.function else site.remade(changes)

    def again(*values: Array) -> list[Array]:
        given = _prepared(change, list(values), "max_pool" in site.kind)
        return owner.evaluated(call, given[:n] if change.function else given)

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
    return _arrays_in(getattr(importlib.import_module(module), last)(*values, **arguments))


def _again_at_equation(owner: Jax, equation: Any, change: Change) -> Callable[..., list[Array]]:
    """An equation under a change."""
    params, name = dict(equation.params), equation.primitive.name
    for key, value in change.arguments.items():
        if key in params:
            params[key] = _like(params[key], value)
    if change.pads and "padding" in params:
        params["padding"] = ((0, 0),) * len(params["padding"])

    def again(*values: Array) -> list[Array]:
        given = _prepared(change, list(values), "max" in name)
        for place, word in enumerate(OPERANDS.get(name) or map(_letter, range(len(given)))):
            if word in change.arguments:  # a number that was written into it
                given[place] = jnp.asarray(change.arguments[word], given[place].dtype)
        if change.function:
            return owner.evaluated(functools.partial(_call, change.function, change.arguments), given)
        return owner.read_one(equation.replace(params=params), given)

    return again


def _again_by(function: Any, change: Change) -> Callable[..., list[Array]]:
    def again(*values: Array) -> list[Array]:
        given = _prepared(change, list(values), False)
        if change.function:
            return _call(change.function, change.arguments, *given)
        return [function(*given)]

    return again


# ------------------------------------------------------------------------------------------------------------- the side

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
            f"{name} gives {type(found).__name__}, which is no module of Flax",
            hint="return the nnx or linen module, or name a function forward(parameters, x) beside parameters()",
        )

    def description(self) -> Model:
        """What is known of the model now."""
        units = tuple(
            Unit(name, self.holders[name].role, value.shape, set(self.holders[name].arrays) <= self.model.trained,
                 self.holders[name].layer or name.rpartition(".")[0])
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
                    raise side.UserError(f"{name} is {self.units()[name].shape} and was given {np.shape(value)}")
                self.arrays[key] = jnp.asarray(np.ascontiguousarray(part), old.dtype)

    # ---------------------------------------------------------------------------------------------------------- a pass

    def trace(
        self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change] = (), designed: np.ndarray | None = None
    ) -> Trace:
        """See `side.Side`."""
        given = [self._placed(value) for value in batch]
        with self._watching():
            self.model.begin(given)
            self._hold()
            closed, shape = jax.make_jaxpr(functools.partial(self._call, mode=mode), return_shape=True)(
                self.arrays, given
            )
        self._hold()
        n_outputs = len(shape[0])
        turns = self._turns(closed, given, changes)
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

    def _placed(self, value: np.ndarray) -> Array:
        return jnp.asarray(value, self.watch.dtype if np.issubdtype(value.dtype, np.floating) else None)

    def _call(self, arrays: Arrays, given: Sequence[Array], mode: str) -> tuple[list[Array], list[Array]]:
        output, after = self.model.call(arrays, given, mode)
        return _arrays_in(output), [after[key] for key in sorted(arrays)]

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
