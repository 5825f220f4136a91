"""PyTorch's side: every function that takes a tensor is seen by a `TorchFunctionMode`, whatever code calls it."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode, get_testing_overrides, resolve_name

from lockstep.exchange.models import records, side
from lockstep.exchange.models.records import Call, Change, Layer, Model, Trace, Unit, Where
from lockstep.language import later

# ------------------------------------------------------------------------------------ what a call is in every framework


class Kept(NamedTuple):
    """How an argument of a function holds a unit: its role, to and from the canonical layout."""

    role: str
    to: Callable[[np.ndarray], np.ndarray] = lambda value: value
    back: Callable[[np.ndarray], np.ndarray] = lambda value: value


def _kernel(value: np.ndarray) -> np.ndarray:
    """(out, in, …window) → (…window, in, out)."""
    return np.moveaxis(value, (0, 1), (-1, -2))


def _kernel_back(value: np.ndarray) -> np.ndarray:
    return np.moveaxis(value, (-1, -2), (0, 1))


def _up(value: np.ndarray) -> np.ndarray:
    """(in, out, …window) of a transposed convolution → (…window, in, out)."""
    return np.moveaxis(value, (0, 1), (-2, -1))


def _up_back(value: np.ndarray) -> np.ndarray:
    return np.moveaxis(value, (-2, -1), (0, 1))


CONV = {"weight": Kept("kernel", _kernel, _kernel_back), "bias": Kept("bias")}
UP = {"weight": Kept("kernel", _up, _up_back), "bias": Kept("bias")}
NORM = {"weight": Kept("scale"), "bias": Kept("shift")}
STATISTICS = {"running_mean": Kept("mean"), "running_var": Kept("variance")}

# function → (kind, argument → how it holds a unit)
FUNCTIONS: dict[str, tuple[str, dict[str, Kept]]] = {
    **{f"conv{n}d": ("conv", CONV) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": ("conv_transpose", UP) for n in (1, 2, 3)},
    "linear": ("dense", {"weight": Kept("kernel", np.transpose, np.transpose), "bias": Kept("bias")}),
    "batch_norm": ("batch_norm", NORM | STATISTICS),
    "instance_norm": ("instance_norm", NORM | STATISTICS),
    "layer_norm": ("layer_norm", NORM),
    "group_norm": ("group_norm", NORM),
    "embedding": ("embedding", {"weight": Kept("table")}),
    "prelu": ("prelu", {"weight": Kept("raw")}),
    **{name: (name, {}) for name in (
        "relu", "gelu", "elu", "selu", "silu", "softplus", "leaky_relu", "tanh", "sigmoid", "softmax", "log_softmax",
        "hardswish", "hardsigmoid", "relu6", "mish", "dropout", "max_pool1d", "max_pool2d", "max_pool3d",
        "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "interpolate",
        "scaled_dot_product_attention", "pad", "flatten", "matmul", "cat",
    )},
}  # fmt: skip
ALIASES = {"relu_": "relu", "_max_pool2d": "max_pool2d", "boolean_dispatch": "max_pool2d", "view": "flatten",
           "reshape": "flatten", "__matmul__": "matmul", "mm": "matmul", "addmm": "dense", "concat": "cat"}  # fmt: skip
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


class Seen(NamedTuple):
    """A call as it was made, to be made again."""

    function: Callable[..., Any]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str


SIGNATURES: dict[Any, Any] = {}


def _attention(
    query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, is_causal: bool = False,
    scale: float | None = None,
) -> None:  # fmt: skip
    """A signature that PyTorch's tests write down without its last arguments."""


WHOLE: dict[Any, Any] = {F.scaled_dot_product_attention: _attention}
# What PyTorch's tests write down for another form of these.
NAMES = {name: ("input", "hx", "params", "has_biases", "num_layers", "dropout", "train", "bidirectional", "batch_first")
         for name in GATES}  # fmt: skip


def arguments_of(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by name, defaults among them; by number where nobody knows the names."""
    names = NAMES.get(getattr(function, "__name__", ""))
    if names and len(args) == len(names):
        return {**dict(zip(names, args, strict=False)), **kwargs}
    if not SIGNATURES:  # built-in functions have no signature; PyTorch's tests keep one for each, as a lambda
        SIGNATURES.update(get_testing_overrides() | WHOLE)
    try:
        known = SIGNATURES.get(function)
    except TypeError:
        known = None
    return side.arguments_of(function, args, kwargs, known)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    return side.items_of(value, torch.Tensor)


def _array(tensor: torch.Tensor) -> np.ndarray:
    """The numbers of a tensor; of bfloat16, which NumPy has not, as float32."""
    value = tensor.detach()
    return np.array((value.float() if value.dtype == torch.bfloat16 else value).numpy())


def _holds_a_tensor(value: Any) -> bool:
    return next(_tensors(value), None) is not None


# ------------------------------------------------------------------------------------------------------------- the side


class Torch:
    """See `side.Side`."""

    def __init__(self) -> None:
        self.lines = side.Lines([torch])
        self.made: dict[int, tuple[str, Where, dict[str, Any]]] = {}
        self.keep: list[Any] = []  # what ids stand for
        self.n_loaded = 0
        self.model: nn.Module = nn.Identity()
        self.holders: dict[str, tuple[torch.Tensor, Kept, tuple[int, int] | None]] = {}
        self.seen: dict[int, Seen] = {}
        self.results: Mapping[str, np.ndarray] = {}  # what calls give instead, by the key in a change

    # ------------------------------------------------------------------------------------------------------- building

    def load(self, file: Path, name: str, dtype: str) -> Model:
        """See `side.Side`."""
        torch.set_default_dtype(getattr(torch, dtype))
        torch.set_grad_enabled(True)
        self.made.clear()
        with self.watching():
            self.module = side.imported(file, self.n_loaded)
            self.n_loaded += 1
            found = side.named(self.module, name)
            self.model = found if isinstance(found, nn.Module) else side.made(found)
        if not isinstance(self.model, nn.Module):
            kind = type(self.model).__name__
            raise side.UserError(
                later("{name} gives {type}, which is no torch.nn.Module", name=name, type=kind),
                hint=later("return the module"),
            )
        self.model.to(getattr(torch, dtype))
        self.paths = {id(module): path for path, module in self.model.named_modules()}
        self.lines_of = {path: self.made[key][1] for key, path in self.paths.items() if key in self.made}
        self.holders = {}
        return self.description()

    def description(self) -> Model:
        """What is known of the model now."""
        layers = tuple(
            Layer(path, *self.made[id(module)])
            for path, module in self.model.named_modules()
            if id(module) in self.made
        )
        values = self.units()
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        units = tuple(
            Unit(name, self.holders[name][1].role, value.shape, name.partition("/")[0] in trained,
                 name.partition("/")[0].rpartition(".")[0])
            for name, value in values.items()
        )  # fmt: skip
        has = tuple(each for each in ("loss", "optimizer", "batch", "train_step") if hasattr(self.module, each))
        return Model("torch", torch.__version__, units, layers, has)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, it is noted with what, and where, each of PyTorch's layers is made."""
        classes = [each for each in _below(nn.Module) if each.__module__.startswith("torch.")]
        before = {each: each.__dict__["__init__"] for each in classes if "__init__" in each.__dict__}

        def watched(init: Callable[..., None]) -> Callable[..., None]:
            @functools.wraps(init)
            def note(module: nn.Module, *args: Any, **kwargs: Any) -> None:
                if id(module) not in self.made:
                    given = {key: side.plain(value) for key, value in _bound(init, module, args, kwargs).items()}
                    self.made[id(module)] = (type(module).__name__, self.lines.here(), given)
                    self.keep.append(module)
                init(module, *args, **kwargs)

            return note

        for each, init in before.items():
            if each is not nn.Module:
                each.__init__ = watched(init)  # type: ignore[misc]
        try:
            yield
        finally:
            for each, init in before.items():
                each.__init__ = init  # type: ignore[misc]

    # ---------------------------------------------------------------------------------------------------------- units

    def units(self) -> dict[str, np.ndarray]:
        """See `side.Side`."""
        self._hold_what_no_call_uses()
        found = {}
        for name, (tensor, kept, part) in self.holders.items():
            value = tensor.detach().numpy()
            found[name] = np.array(kept.to(value if part is None else value[part[0] : part[1]]), order="C")
        return found

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """See `side.Side`."""
        with torch.no_grad():
            for name, value in values.items():
                tensor, kept, part = self.holders[name]
                new = torch.from_numpy(np.array(kept.back(value), order="C")).to(tensor.dtype)
                (tensor if part is None else tensor[part[0] : part[1]]).copy_(new)

    def _hold_what_no_call_uses(self) -> None:
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            is_number = tensor.is_floating_point() and tensor.ndim > 0
            if is_number and not any(held.partition("/")[0] == name for held in self.holders):
                self.holders[name] = (tensor, Kept("raw"), None)

    # ---------------------------------------------------------------------------------------------------------- a pass

    def trace(
        self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change] = (), designed: np.ndarray | None = None
    ) -> Trace:
        """See `side.Side`."""
        self.model.train(mode == "training")
        dtype = torch.get_default_dtype()
        given = [torch.from_numpy(np.ascontiguousarray(value)) for value in batch]
        given = [value.to(dtype) if value.is_floating_point() else value for value in given]
        names = {id(tensor): name for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers())}
        before = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        recorder = Recorder(self, names, changes)
        inputs = tuple(recorder.number(value) for value in given)
        with self._otherwise(changes), recorder.hooks(), recorder, torch.set_grad_enabled(True):
            output = self.model(*given)
        outputs = list(_tensors(list(output.values()) if isinstance(output, dict) else output))
        self.seen = recorder.seen
        self._learn(recorder)
        gradients: dict[int, np.ndarray] = {}
        by_unit: dict[str, np.ndarray] = {}
        if designed is not None:
            total = (outputs[0] * torch.from_numpy(np.ascontiguousarray(designed)).to(dtype)).sum()
            gradients, by_unit = self._gradients(total, recorder)
        state = {
            name: value for name, value in self.units().items() if self.holders[name][1].role in ("mean", "variance")
        }
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(before[name])
        return Trace(
            tuple(recorder.calls), recorder.values, inputs, tuple(recorder.number(each) for each in outputs),
            gradients, by_unit, state,
        )  # fmt: skip

    @contextlib.contextmanager
    def _otherwise(self, changes: Sequence[Change]) -> Iterator[None]:
        """Inside, layers keep other arguments of their constructors, by the names under which they keep them."""
        modules = dict(self.model.named_modules())
        before: list[tuple[nn.Module, str, Any]] = []
        for change in changes:
            for name, value in change.arguments.items() if change.of == records.CONSTRUCTOR else ():
                if not hasattr(modules[change.path], name):
                    raise side.UserError(
                        later("{type} keeps no {name} that could be changed", type=change.path, name=name)
                    )
                before.append((modules[change.path], name, getattr(modules[change.path], name)))
                setattr(modules[change.path], name, value)
        try:
            yield
        finally:
            for module, name, value in reversed(before):
                setattr(module, name, value)

    def _learn(self, recorder: Recorder) -> None:
        """Which call uses a unit says what it is."""
        for name, (tensor, kept, part) in recorder.used.items():
            self.holders.pop(name.partition("/")[0], None) if "/" in name else None
            self.holders[name] = (tensor, kept, part)

    def _gradients(
        self, total: torch.Tensor, recorder: Recorder
    ) -> tuple[dict[int, np.ndarray], dict[str, np.ndarray]]:
        of = {number: value for number, value in recorder.live.items() if value.requires_grad}
        held = {name: entry for name, entry in self.holders.items() if entry[0].requires_grad}
        tensors = [*of.values(), *(entry[0] for entry in held.values())]
        found = torch.autograd.grad(total, tensors, allow_unused=True) if tensors else ()
        gradients = {
            number: value.numpy() for number, value in zip(of, found[: len(of)], strict=True) if value is not None
        }
        by_unit = {}
        for (name, (_tensor, kept, part)), value in zip(held.items(), found[len(of) :], strict=True):
            if value is not None:
                array = value.numpy()
                by_unit[name] = np.ascontiguousarray(kept.to(array if part is None else array[part[0] : part[1]]))
        return gradients, by_unit

    # --------------------------------------------------------------------------------------------------- the laboratory

    def again(self, call: int, change: Change) -> list[np.ndarray]:
        """See `side.Side`."""
        seen = self.seen[call]
        args, kwargs = _copied(seen.args), _copied(seen.kwargs)
        with torch.no_grad():
            output = changed(seen._replace(args=args, kwargs=kwargs), change)
        return [_array(tensor) for tensor in _tensors(output)]

    def signature(self, call: int) -> dict[str, Any]:
        """See `side.Side`."""
        seen = self.seen[call]
        found = arguments_of(seen.function, seen.args, seen.kwargs)
        return {key: side.plain(value) for key, value in found.items() if not _holds_a_tensor(value)}


def _below(kind: type) -> set[type]:
    kinds: set[type] = {kind}
    return kinds.union(*map(_below, kind.__subclasses__()))


def _bound(init: Callable[..., None], module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    try:
        bound = inspect.signature(init).bind(module, *args, **kwargs)
    except TypeError:
        return dict(kwargs)
    bound.apply_defaults()
    found = dict(bound.arguments)
    found.pop("self", None)
    return found


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return type(value)(_copied(item) for item in value) if not hasattr(value, "_fields") else value
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return value


def changed(seen: Seen, change: Change) -> Any:
    """What a call gives under a change."""
    function, args, kwargs = seen.function, seen.args, dict(seen.kwargs)
    if change.function:
        found: Any = torch
        for part in change.function.split(".")[1:]:
            found = getattr(found, part)
        tensors = [value for value in (*args, *kwargs.values()) if _holds_a_tensor(value)]
        return found(*tensors, **change.arguments)
    if change.arguments or change.pads or change.order:
        named = arguments_of(seen.function, args, kwargs)
        first = next((key for key, value in named.items() if isinstance(value, torch.Tensor)), "")
        if change.order:
            flat = named[first].flatten(1)
            named[first] = flat[:, torch.tensor(change.order)].reshape(named[first].shape)
        if change.pads and "conv_transpose" in seen.name:
            named |= {"padding": 0, "output_padding": 0}
        elif change.pads:
            flat_pads = [side_ for pair in reversed(change.pads) for side_ in pair]
            fill = -torch.inf if "max_pool" in seen.name else 0.0
            named[first] = F.pad(named[first], flat_pads, value=fill)
            named["padding"] = 0
        named |= change.arguments
        if "batch_first" in change.arguments and "hx" in named:
            named["hx"] = _states(named)
        args, kwargs = _by_place(seen, named)
    output = function(*args, **kwargs)
    if change.pads and "conv_transpose" in seen.name:  # all of it was made, and is cut off here
        return F.pad(output, [side_ for pair in reversed(change.pads) for side_ in pair])
    return output


def _states(named: dict[str, Any]) -> Any:
    """A recurrent layer's first states, of as many examples as there are when the batch lies on the other axis."""
    n = named["input"].shape[0 if named["batch_first"] else 1]
    states = [
        tensor if tensor.shape[1] == n else tensor[:, :1].expand(-1, n, -1).contiguous()
        for tensor in _tensors(named["hx"])
    ]
    return tuple(states) if isinstance(named["hx"], tuple) else states[0]


def _by_place(seen: Seen, named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by name as a call takes them: built-in functions take the first ones by their place alone."""
    try:
        parameters = side.told(seen.function).parameters
        return (), {key: value for key, value in named.items() if key in parameters}
    except (TypeError, ValueError):
        n = len(seen.args)
        values = list(named.items())
        return tuple(value for _key, value in values[:n]), {
            key: value for key, value in values[n:] if key in seen.kwargs or value is not None
        }


# --------------------------------------------------------------------------------------------------------- the recorder

PASSED_OVER = {"dim", "size", "numel", "is_floating_point", "data_ptr", "stride", "requires_grad_", "backward",
               "is_contiguous", "element_size", "storage_offset", "__format__", "__repr__", "__len__", "__bool__",
               "__int__", "__float__", "item", "tolist", "numpy", "detach", "clone", "contiguous", "to"}  # fmt: skip


class Recorder(TorchFunctionMode):
    """Inside, every call that gives a tensor is noted with its numbers."""

    def __init__(self, owner: Torch, names: dict[int, str], changes: Sequence[Change]) -> None:
        super().__init__()
        self.owner, self.names = owner, names
        self.kept = {name: tensor for name, tensor in (*owner.model.named_parameters(), *owner.model.named_buffers())}
        self.changes = changes
        self.calls: list[Call] = []
        self.values: dict[int, np.ndarray] = {}
        self.live: dict[int, torch.Tensor] = {}
        self.numbers: dict[tuple[int, int], int] = {}
        self.seen: dict[int, Seen] = {}
        self.used: dict[str, tuple[torch.Tensor, Kept, tuple[int, int] | None]] = {}
        self.path: list[str] = [""]

    def number(self, tensor: torch.Tensor) -> int:
        """The id of a tensor as it is now: changed in place it is another one."""
        key = (id(tensor), tensor._version)
        if key not in self.numbers:
            self.numbers[key] = number = len(self.numbers)
            self.values[number] = _array(tensor)
            if tensor._version == 0 and tensor.is_floating_point():
                self.live[number] = tensor
            self.owner.keep.append(tensor)
        return self.numbers[key]

    @contextlib.contextmanager
    def hooks(self) -> Iterator[None]:
        """Inside, it is known which layer is at work."""

        def enter(module: nn.Module, args: Any) -> None:
            self.path.append(self.owner.paths.get(id(module), self.path[-1]))

        def leave(module: nn.Module, args: Any, output: Any) -> None:
            self.path.pop()

        before = nn.modules.module.register_module_forward_pre_hook(enter)
        after = nn.modules.module.register_module_forward_hook(leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(resolve_name(func) or getattr(func, "__name__", func))
        word = name.rpartition(".")[2]
        if word in PASSED_OVER or name.endswith("__get__") or word.startswith("is_"):
            output = func(*args, **kwargs)
            if word not in ("detach", "contiguous", "to"):
                return output
            self._same(output, args)
            if not self._is_cast(output, args):
                return output
        index, path = len(self.calls), self.path[-1]
        named = arguments_of(func, args, kwargs)
        tensors, units = self._taken(word, named)
        seen = Seen(func, name, args, kwargs, path)
        if word == "dropout" and "training" in named:  # masks are off
            seen = seen._replace(args=(), kwargs=named | {"training": False})
        change = records.merged(self.changes, index, path, name) if tensors else None
        copies = seen._replace(args=_copied(seen.args), kwargs=_copied(seen.kwargs)) if word.endswith("_") else seen
        output = self._under(seen, change) if change else seen.function(*seen.args, **seen.kwargs)
        given = list(_tensors(output))
        if given and tensors:
            kind = FUNCTIONS.get(ALIASES.get(word, word), (ALIASES.get(word, word), {}))[0]
            rest = {key: side.plain(value) for key, value in named.items() if not _holds_a_tensor(value)}
            where = self._where(path)
            self.seen[index] = copies
            self.calls.append(
                Call(
                    index, name, kind, path, where, tensors, units, rest, tuple(map(self.number, given)),
                    names=tuple(named),
                )
            )  # fmt: skip
        return output

    def _where(self, path: str) -> Where:
        """The line of a call; where PyTorch's own container calls a layer, that at which the layer was made."""
        where = self.owner.lines.here()
        return where if where.file else self.owner.lines_of.get(path, where)

    def _under(self, seen: Seen, change: Change) -> Any:
        """What a call gives under a change."""
        if change.result:
            return torch.from_numpy(np.array(self.owner.results[change.result])).to(torch.get_default_dtype())
        return changed(seen, change)

    def _is_cast(self, output: Any, args: Any) -> bool:
        """Whether a tensor of the pass is one of another type now, which is a call; a unit that is cast stays one."""
        before: Any = args[0] if args else None
        if not isinstance(before, torch.Tensor) or output.dtype == before.dtype:
            return False
        name = self.names.get(id(before))
        if name is not None:
            self.names[id(output)] = name
            self.owner.keep.append(output)
        return name is None

    def _same(self, output: Any, args: Any) -> Any:
        """What is handed on unchanged keeps its id."""
        before: Any = args[0] if args else None
        is_same = isinstance(output, torch.Tensor) and isinstance(before, torch.Tensor)
        if is_same and (output.dtype, output.shape) == (before.dtype, before.shape):
            self.numbers[id(output), output._version] = self.number(before)
            self.owner.keep.append(output)
        return output

    def _taken(self, word: str, named: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """(argument → ids of tensors, role → unit) of a call."""
        word = ALIASES.get(word, word)
        _kind, holds = FUNCTIONS.get(word, ("", {}))
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        if word in GATES:
            return self._of_gates(word, named)
        if word == "multi_head_attention_forward":
            return self._of_attention(named)
        for key, value in named.items():
            ids = []
            for tensor in _tensors(value):
                unit = self.names.get(id(tensor))
                if unit is None:
                    ids.append(self.number(tensor))
                    continue
                kept = holds.get(key) or (Kept("kernel") if word == "matmul" and tensor.ndim == 2 else Kept("raw"))
                units[kept.role if kept.role not in units else f"{kept.role}.{key}"] = unit
                if tensor.is_floating_point() and tensor.ndim:  # and no count of batches
                    self.used[unit] = (self.kept.get(unit, tensor), kept, None)
            if ids:
                tensors[key] = tuple(ids)
        return tensors, units

    def _of_gates(self, word: str, named: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """A recurrent layer's flat list of weights, (gates · units, in) each: kernel, recurrent, and two biases."""
        gates = GATES[word]
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for key, value in named.items():
            held = [tensor for tensor in _tensors(value) if id(tensor) in self.names]
            ids = tuple(self.number(tensor) for tensor in _tensors(value) if id(tensor) not in self.names)
            if ids:
                tensors[key] = ids
            for tensor in held:
                name = self.names[id(tensor)]
                role = _role_in_gates(name)
                self.used[name] = (tensor, _gated(role, gates), None)
                units[f"{role}.{name.rpartition('.')[2]}"] = name
        return tensors, units

    def _of_attention(self, named: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """Three projections in one array are three units."""
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for key, value in named.items():
            for tensor in _tensors(value):
                name = self.names.get(id(tensor))
                if name is None:
                    tensors[key] = (*tensors.get(key, ()), self.number(tensor))
                    continue
                role = "bias" if tensor.ndim == 1 else "kernel"
                kept = Kept(role) if tensor.ndim == 1 else Kept(role, np.transpose, np.transpose)
                if key.startswith("in_proj"):
                    third = len(tensor) // 3
                    for place, letter in enumerate("qkv"):
                        part = (place * third, (place + 1) * third)
                        self.used[f"{name}/{letter}"] = (tensor, kept, part)
                        units[f"{role}.{letter}"] = f"{name}/{letter}"
                else:
                    self.used[name] = (tensor, kept, None)
                    units[f"{role}.{'out' if key.startswith('out_proj') else key[0]}"] = name
        return tensors, units


def _role_in_gates(name: str) -> str:
    last = name.rpartition(".")[2]
    return "kernel" if "weight_ih" in last else "recurrent" if "weight_hh" in last else "bias"


def _gated(role: str, gates: int) -> Kept:
    """(gates · units, in) ↔ (in, gates, units); a bias (gates · units,) ↔ (gates, units)."""
    if role == "bias":
        return Kept(role, lambda value: value.reshape(gates, -1), lambda value: value.reshape(-1))
    return Kept(
        role,
        lambda value: value.reshape(gates, -1, value.shape[1]).transpose(2, 0, 1),
        lambda value: value.transpose(1, 2, 0).reshape(-1, value.shape[0]),
    )
