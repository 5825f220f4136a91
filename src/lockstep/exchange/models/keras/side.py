"""The side of Keras 3 on TensorFlow, and of plain TensorFlow: everything runs eagerly and is watched at three depths.

No mode sees every function here, as PyTorch has one. So the layers' `__call__`, the public functions and the signs of
tensors are watched, whatever module holds them; and TensorFlow's own callback hears each operation that none of them
has spoken of. A layer is a call; what happens inside it are calls too, with the layer's as their parent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.ops.operation import Operation
from tensorflow.python.framework import op_callbacks, op_def_registry
from tensorflow.python.ops import resource_variable_ops

from lockstep.exchange.models import records, side
from lockstep.exchange.models.records import Call, Change, Layer, Model, Trace, Unit, Where

# ------------------------------------------------------------------------------------ what a call is in every framework


class Kept(NamedTuple):
    """How an argument of a function, or a weight, holds a unit: its role, to and from the canonical layout."""

    role: str
    to: Callable[[np.ndarray], np.ndarray] = lambda value: value
    back: Callable[[np.ndarray], np.ndarray] = lambda value: value


def _swapped(value: np.ndarray) -> np.ndarray:
    """(…window, out, in) of a transposed convolution ↔ (…window, in, out); neither framework flips the window."""
    return np.swapaxes(value, -1, -2)


def _depthwise(shape: tuple[int, ...]) -> Kept:
    """(…window, in, multiplier) ↔ (…window, 1, in · multiplier): a channel's outputs side by side, as in groups."""
    return Kept("kernel", lambda value: value.reshape(*value.shape[:-2], 1, -1), lambda value: value.reshape(shape))


def _gated(role: str, gates: int, order: Sequence[int], shape: tuple[int, ...]) -> Kept:
    """(in, gates · units) ↔ (in, gates, units), a bias (gates · units,) ↔ (gates, units); canonical gate ← Keras's."""
    back = list(np.argsort(order))
    lead = () if role == "bias" else (shape[0],)
    return Kept(
        role,
        lambda value: value.reshape(*lead, gates, -1)[..., list(order), :],
        lambda value: value[..., back, :].reshape(shape),
    )


def _einsum(equation: str, shape: tuple[int, ...]) -> Kept:
    """The kernel of an equation as "abc,cde->abde" ↔ (in, out): what is summed over, then what comes out."""
    _inputs, kernel, outputs = re.split(",|->", equation)
    summed = [axis for axis, letter in enumerate(kernel) if letter not in outputs]
    order = [*summed, *(axis for axis in range(len(kernel)) if axis not in summed)]
    n_in, back = int(np.prod([shape[axis] for axis in summed])), list(np.argsort(order))
    turned = tuple(shape[axis] for axis in order)
    return Kept(
        "kernel",
        lambda value: value.transpose(order).reshape(n_in, -1),
        lambda value: value.reshape(turned).transpose(back),
    )


def _flat(role: str, shape: tuple[int, ...]) -> Kept:
    return Kept(role, np.ravel, lambda value: value.reshape(shape))


# The roles of weights by their names in Keras's layers, where they lie in the canonical layout.
WEIGHTS = {"kernel": "kernel", "bias": "bias", "gamma": "scale", "scale": "scale", "beta": "shift",
           "moving_mean": "mean", "moving_variance": "variance", "embeddings": "table",
           "pointwise_kernel": "kernel"}  # fmt: skip
# cell → (gates, the place of each canonical one among Keras's): i f c o are i f g o, z r h are r z n
GATES = {"LSTMCell": (4, (0, 1, 2, 3)), "GRUCell": (3, (1, 0, 2)), "SimpleRNNCell": (1, (0,))}
ATTENTION = {"_query_dense": "q", "_key_dense": "k", "_value_dense": "v", "_output_dense": "out"}

# layer → kind
LAYERS = {
    "Dense": "dense", "EinsumDense": "dense", "BatchNormalization": "batch_norm", "LayerNormalization": "layer_norm",
    "GroupNormalization": "group_norm", "RMSNormalization": "rms_norm", "Embedding": "embedding", "LSTM": "lstm",
    "GRU": "gru", "MultiHeadAttention": "multi_head_attention_forward", "Flatten": "flatten", "Reshape": "flatten",
    "ReLU": "relu", "LeakyReLU": "leaky_relu", "PReLU": "prelu", "ELU": "elu", "Softmax": "softmax", "Add": "add",
    "Subtract": "sub", "Multiply": "mul", "Concatenate": "cat", "UpSampling1D": "interpolate",
    "UpSampling2D": "interpolate", "Attention": "scaled_dot_product_attention", "Permute": "permute",
    **{f"Conv{n}D": "conv" for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": "conv" for n in (1, 2)},
    **{f"Conv{n}DTranspose": "conv_transpose" for n in (1, 2, 3)},
    **{f"MaxPooling{n}D": f"max_pool{n}d" for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": f"avg_pool{n}d" for n in (1, 2, 3)},
    **{f"GlobalAveragePooling{n}D": f"adaptive_avg_pool{n}d" for n in (1, 2, 3)},
    **{f"GlobalMaxPooling{n}D": f"adaptive_max_pool{n}d" for n in (1, 2, 3)},
    **{f"ZeroPadding{n}D": "pad" for n in (1, 2, 3)},
    **{name: "dropout" for name in (
        "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "GaussianNoise",
        "AlphaDropout",
    )},
}  # fmt: skip
CONV = {key: Kept("kernel") for key in ("filters", "filter", "kernel")}
UP = {key: Kept("kernel", _swapped, _swapped) for key in CONV}
BIAS = {key: Kept("bias") for key in ("bias", "x", "y", "x1", "x2", "value")}
NORM = {"mean": Kept("mean"), "variance": Kept("variance"), "offset": Kept("shift"), "beta": Kept("shift"),
        "scale": Kept("scale"), "gamma": Kept("scale")}  # fmt: skip
TABLE = {"params": Kept("table"), "x": Kept("table")}
# the last word of a function's name, or of an operation's → (kind, argument → how it holds a unit)
FUNCTIONS: dict[str, tuple[str, dict[str, Kept]]] = {
    **{name: ("conv", CONV) for name in ("conv", "convolution", "conv1d", "conv2d", "conv3d")},
    **{name: ("conv", CONV) for name in ("depthwise_conv", "depthwise_conv2d", "depthwise_conv2d_native")},
    **{name: ("conv_transpose", UP) for name in (
        "conv_transpose", "conv1d_transpose", "conv2d_transpose", "conv3d_transpose")},
    **{name: ("matmul", {}) for name in ("matmul", "mat_mul", "batch_mat_mul_v2", "dot", "tensordot", "einsum")},
    **{name: ("add", BIAS) for name in ("add", "add_v2", "bias_add")},
    **{name: ("batch_norm", NORM) for name in (
        "batch_normalization", "batch_norm_with_global_normalization", "fused_batch_norm_v3")},
    "layer_normalization": ("layer_norm", NORM), "rms_normalization": ("rms_norm", NORM),
    **{name: ("embedding", TABLE) for name in ("embedding_lookup", "gather", "gather_v2", "take")},
    **{name: (kind, {}) for name, kind in {
        "swish": "silu", "hard_silu": "hardswish", "hard_swish": "hardswish", "hard_sigmoid": "hardsigmoid",
        "reshape": "flatten", "concat": "cat", "concat_v2": "cat", "concatenate": "cat", "resize": "interpolate",
        "dot_product_attention": "scaled_dot_product_attention", "subtract": "sub", "multiply": "mul",
        "real_div": "div", "truediv": "div", "divide": "div", "reduce_mean": "mean", "reduce_sum": "sum",
        "reduce_max": "max", "pad_v2": "pad", "strided_slice": "getitem", "get_item": "getitem",
        "stateless_dropout": "dropout", "alpha_dropout": "dropout", "spatial_dropout": "dropout",
        "average_pool": "avg_pool", "relu_6": "relu6",
        "exponential": "exp",
    }.items()},
}  # fmt: skip
POOLS = re.compile(r"(max|avg)_pool(?:ing)?(?:[123]d)?(?:_v2)?$")
# What a person writes with signs, and what it is; turned round too.
SIGNS = {"add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floordiv", "mod": "mod",
         "pow": "pow", "matmul": "matmul", "neg": "neg", "abs": "abs", "getitem": "getitem"}  # fmt: skip
OPERATORS = [f"__{turn}{word}__" for word in SIGNS for turn in ("", "r")]
# What does not change what a unit is, only how it lies.
SHAPED = {"reshape", "expand_dims", "squeeze", "cast", "identity", "convert_to_tensor", "broadcast_to", "broadcast"}
# Functions in which the calls are of interest too: a stage of theirs is a call of its own elsewhere.
OPEN = {"dot_product_attention"}
# Functions that are looked through: they call what they are given, or are a chain of two known ones.
THROUGH = {"separable_conv", "separable_conv2d", "function", "while_loop", "cond", "case", "switch", "switch_case",
           "map_fn", "map", "scan", "associative_scan", "foldl", "foldr", "fori_loop", "vectorized_map", "vectorize",
           "py_function", "numpy_function", "custom_gradient", "recompute_grad", "remat", "grad_pass_through",
           "init_scope", "executing_eagerly", "is_tensor", "name_scope", "dtype", "device", "get_item", "bitcast",
           "stop_recording", "no_op", "group", "tuple", "serialize", "deserialize", "get", "is_symbolic_tensor",
           "linear", "print", "Assert", "type_spec_from_value", "variable_creator_scope", "is_nested"}  # fmt: skip
# Arguments that change no number of a call, but of another time.
ASIDE = re.compile(
    r"name$|trainable$|dtype$|seed$|build_config$|quantization_config$|.*_(initializer|regularizer|constraint)$|autocast$"
)


class Seen(NamedTuple):
    """A call as it was made, to be made again: of a function, a layer or an operation."""

    target: Any
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    path: str
    is_training: bool = False


@functools.cache
def _parameters(function: Any) -> dict[str, inspect.Parameter]:
    return side.signature_of(function)


def arguments_of(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument by name, defaults among them; by number where nobody knows the names."""
    function = target.call if isinstance(target, Operation) else target
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**{f"argument {index}" if index else "input": value for index, value in enumerate(args)}, **kwargs}
    bound.apply_defaults()
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


def _tensors(value: Any) -> Iterator[Any]:
    """Eager tensors and variables, at whatever depth."""
    if isinstance(value, tf.Tensor | tf.Variable | keras.Variable):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)


def _holds_a_tensor(value: Any) -> bool:
    return next(_tensors(value), None) is not None


def _array(tensor: Any) -> np.ndarray:
    """The numbers of a tensor; of bfloat16 as float32."""
    value = tensor.numpy()
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else np.array(value)


# -------------------------------------------------------------------------------------------- what is watched, for good


class _Current:
    """What the watched functions of this process ask: there is one model at work in it, or none."""

    def __init__(self) -> None:
        self.owner: Keras | None = None
        self.recorder: Recorder | None = None
        self.is_masked = False  # no value is dropped
        self.is_wide = False  # whatever says float32 means float64
        self.n_closed = 0  # calls that are being made whose insides are of no interest
        self.n_narrow = 0  # calls so far that were done in float32 all the same


CURRENT = _Current()


@contextlib.contextmanager
def _closed() -> Iterator[None]:
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


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, function) of all that a person may call with tensors, each once, under its plainest name."""
    rooms = {"keras.ops": keras.ops, "keras.activations": keras.activations, "keras.random": keras.random,
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
        target = _as_it_is if is_dropout and CURRENT.is_masked else function
        if CURRENT.recorder is not None and not CURRENT.n_closed:
            return CURRENT.recorder.function(target, function, name, args, kwargs)
        return _wide(target, word, args, kwargs) if CURRENT.is_wide else target(*args, **kwargs)

    call.is_watched = True  # type: ignore[attr-defined]
    return call


def _as_it_is(*args: Any, **kwargs: Any) -> Any:
    """What a dropout gives that drops nothing."""
    return next(_tensors([*args, *kwargs.values()]))


def _noted(new: Callable[..., Any]) -> Callable[..., Any]:
    """It is noted with what, and where, each layer and operation is made."""

    @functools.wraps(new)
    def note(cls: type, *args: Any, **kwargs: Any) -> Any:
        made = new(cls, *args, **kwargs)
        if CURRENT.owner is not None:
            CURRENT.owner.note(made, args, kwargs)
        return made

    return note


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


def _wide(function: Callable[..., Any], word: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call in a model of float64: TensorFlow's functions make float32 of numbers, and say so in their defaults."""
    args = tuple(tf.float64 if _is_narrow(value) else value for value in args)
    kwargs = {key: tf.float64 if _is_narrow(value) else value for key, value in kwargs.items()}
    if word == "cast" and args and isinstance(args[0], float):
        args = (np.float64(args[0]), *args[1:])
    parameters = _parameters(function)
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
    if any(each.dtype == tf.float64 for each in _tensors([args, kwargs])):
        CURRENT.n_narrow += any(each.dtype == tf.float32 for each in _tensors(output))
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


def _wide_variable(next_creator: Callable[..., Any], **kwargs: Any) -> Any:
    """A variable of plain TensorFlow, in a model of float64."""
    value = kwargs.get("initial_value")
    if _is_narrow(kwargs.get("dtype")):
        kwargs["dtype"] = tf.float64
    if callable(value):
        kwargs["initial_value"] = lambda: _cast(tf.convert_to_tensor(value()), tf.float32, tf.float64)
    elif _is_of_floats(value) or getattr(value, "dtype", None) == tf.float32:
        kwargs["initial_value"] = np.asarray(value, np.float64)
    return next_creator(**kwargs)


# ------------------------------------------------------------------------------------------------------------- the side


class Keras:
    """See `side.Side`."""

    def __init__(self) -> None:
        tf.config.run_functions_eagerly(True)
        watch()
        packages = [keras, tf, *(sys.modules[name] for name in ("optree", "tree", "wrapt") if name in sys.modules)]
        self.lines = side.Lines(packages)
        self.made: dict[int, tuple[str, Where, dict[str, Any]]] = {}
        self.making: dict[int, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.keep: list[Any] = []  # what ids stand for
        self.recorder: Recorder | None = None  # keeps what the last trace saw
        self.n_loaded = 0
        self.model: Any = None
        self.dtype = "float32"
        self.is_built = False
        self.paths: dict[int, str] = {}
        self.nodes: list[tuple[str, Any, Any]] = []  # (path, layer or module, what holds it)
        self.variables: dict[str, Any] = {}
        self.names: dict[int, str] = {}  # of a variable, of what is inside it, and of its handle
        self.holders: dict[str, tuple[Any, Kept, tuple[int, int] | None]] = {}
        self.seen: dict[int, Seen] = {}
        self.ends: dict[int, int] = {}  # call → the index behind all that is part of it

    # ------------------------------------------------------------------------------------------------------- building

    def load(self, file: Path, name: str, dtype: str) -> Model:
        """See `side.Side`."""
        keras.utils.clear_session(free_memory=False)
        keras.config.disable_traceback_filtering()  # which would put Keras's words around the person's error
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        self.dtype = dtype
        self.made, self.making, self.names, self.keep = {}, {}, {}, []
        with self._at_work():
            self.module = side.imported(file, self.n_loaded)
            self.n_loaded += 1
            found = side.named(self.module, name)
            is_made = isinstance(found, keras.Layer | tf.Module) or not callable(found)
            self.model = found if is_made else side.made(found)
        if not (isinstance(self.model, keras.Layer | tf.Module) and callable(self.model)):
            kind = type(self.model).__name__
            raise side.UserError(
                f"{name} gives {kind}, which is neither a Keras model nor a tf.Module that can be called",
                hint="return the model",
            )
        self.is_built = False
        self.seen, self.ends, self.holders = {}, {}, {}
        self._look()
        return self.description()

    def description(self) -> Model:
        """What is known of the model now."""
        layers = tuple(
            Layer(path, *self.made[id(node)])
            for path, node, holder in self.nodes
            if id(node) in self.made and _is_frameworks(node) and not _is_frameworks(holder)
        )
        owners = {name: path for path, node, _holder in self.nodes for name in self._own(path, node)}
        units = tuple(
            Unit(name, kept.role, value.shape, bool(variable.trainable), owners[self.names[id(variable)]])
            for (name, value), (variable, kept, _part) in zip(self.units().items(), self.holders.values(), strict=True)
        )
        has = {each for each in ("loss", "optimizer", "batch", "train_step") if hasattr(self.module, each)}
        if getattr(self.model, "compiled", False):
            has |= {each for each in ("loss", "optimizer") if getattr(self.model, each, None) is not None}
        shape = getattr(self.model, "input_shape", None) if isinstance(self.model, keras.Model) else None
        is_one = isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape)
        version = f"{keras.__version__} on TensorFlow {tf.__version__}"
        return Model(
            "keras", version, units, layers, tuple(sorted(has)), tuple(shape[1:]) if shape and is_one else None
        )

    def note(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """With what a layer or an operation is made, and where."""
        self.keep.append(made)
        self.making[id(made)] = (args, kwargs)
        given = {key: side.plain(value) for key, value in _bound(type(made), args, kwargs).items()}
        self.made[id(made)] = (type(made).__name__, self.lines.here(), given)

    @contextlib.contextmanager
    def _at_work(self) -> Iterator[None]:
        """Inside, what is made is noted, and made for the dtype of this load."""
        CURRENT.owner, CURRENT.is_wide = self, self.dtype == "float64"
        creator = _wide_variable if CURRENT.is_wide else lambda next_creator, **kwargs: next_creator(**kwargs)
        try:
            with tf.variable_creator_scope(creator):
                yield
        finally:
            CURRENT.owner, CURRENT.is_wide, CURRENT.is_masked = None, False, False

    # ---------------------------------------------------------------------------------------------------------- units

    def units(self) -> dict[str, np.ndarray]:
        """See `side.Side`."""
        return {name: _unit(entry, _array(entry[0])) for name, entry in self.holders.items()}

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """See `side.Side`."""
        for name, value in values.items():
            variable, kept, part = self.holders[name]
            whole = _array(variable)
            new = kept.back(np.asarray(value))
            if part is not None:
                whole[part[0] : part[1]] = new
            variable.assign(np.asarray(new if part is None else whole, whole.dtype).reshape(whole.shape))

    def learn(self, name: str, kept: Kept) -> None:
        """Which call uses a variable says what it is, where its layer does not."""
        held = self.holders.get(name)
        if held is not None and held[1].role == "raw":
            self.holders[name] = (held[0], kept, None)

    def units_in(self, name: str) -> list[str]:
        """The units that a variable holds."""
        return [unit for unit, entry in self.holders.items() if self.names[id(entry[0])] == name]

    def _look(self) -> None:
        """Find all layers, modules and variables of the model."""
        self.nodes = list(_walked(self.model))
        self.paths = {id(node): path for path, node, _holder in self.nodes}
        self.variables = {}
        for path, node, _holder in self.nodes:
            for name, variable in self._own(path, node).items():
                if id(variable) in {id(each) for each in self.variables.values()}:
                    continue
                self.variables[name] = variable
                inside = getattr(variable, "_value", variable)
                self.names |= {id(variable): name, id(inside): name, id(inside.handle): name}
                self.keep += [variable, inside, inside.handle]
                if "float" in str(variable.dtype):
                    for suffix, kept, part in _units_of(node, variable):
                        self.holders.setdefault(name + suffix, (variable, kept, part))

    def _own(self, path: str, node: Any) -> dict[str, Any]:
        """The variables of a layer or module that are no part's, by their names."""
        found: dict[str, Any] = {}
        own = [*node._trainable_variables, *node._non_trainable_variables] if isinstance(node, keras.Layer) else []
        pairs = [(variable.name, variable) for variable in own]
        pairs += [(key, value) for key, value in _kept_in(node) if isinstance(value, tf.Variable)]
        for key, variable in pairs:
            found[_free(f"{path}/{key}" if path else key, found)] = variable
        return found

    # ---------------------------------------------------------------------------------------------------------- a pass

    def trace(
        self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change] = (), designed: np.ndarray | None = None
    ) -> Trace:
        """See `side.Side`."""
        given = [self._tensor(value) for value in batch]
        with self._at_work():
            if not self.is_built:
                CURRENT.is_masked = True
                self._pass(given, False)
                self._look()
                self.is_built = True
            recorder = Recorder(self, changes, mode == "training")
            inputs = tuple(recorder.number(value) for value in given)
            with self._as_before(), tf.GradientTape() as tape:
                tape.watch([value for value in given if value.dtype.is_floating])
                with recorder.watching():
                    output = self._pass(given, mode == "training")
                outputs = list(_tensors(output))
                if not outputs:
                    raise side.UserError(f"the model gives {type(output).__name__}, in which no tensor is")
                weights = None if designed is None else tf.cast(designed, outputs[0].dtype)
                total = None if weights is None else tf.reduce_sum(outputs[0] * weights)
                with tape.stop_recording():
                    gradients, by_unit = ({}, {}) if total is None else self._gradients(tape, total, recorder)
                    state = self._state(recorder)
            self.recorder, self.seen = recorder, recorder.seen
            if not changes:
                self.ends = recorder.ends
        return Trace(
            tuple(recorder.calls), recorder.values, inputs, tuple(recorder.number(each) for each in outputs),
            gradients, by_unit, state,
        )  # fmt: skip

    @contextlib.contextmanager
    def _as_before(self) -> Iterator[None]:
        """Afterwards, every variable is what it was."""
        before = {name: _array(variable) for name, variable in self.variables.items()}
        try:
            yield
        finally:
            for name, value in before.items():
                self.variables[name].assign(value)

    def _tensor(self, value: np.ndarray) -> Any:
        is_float = np.issubdtype(value.dtype, np.floating)
        return tf.constant(value, dtype=self.dtype if is_float else value.dtype)

    def _pass(self, given: list[Any], is_training: bool) -> Any:
        """The model's output, its inputs given in the form in which it takes them."""
        model = self.model
        if isinstance(model, keras.Layer):
            struct = getattr(model, "_inputs_struct", None)
            if isinstance(struct, dict):
                return model(dict(zip(struct, given, strict=True)), training=is_training)
            places = [key for key in _parameters(type(model).call) if key not in ("self", "training", "mask")]
            if len(given) > 1 and (struct is not None or len(places) < len(given)):
                return model(given, training=is_training)
            return model(*given, training=is_training)
        named = {key: is_training for key in ("training", "is_training") if key in _parameters(type(model).__call__)}
        return model(*given, **named)

    def _gradients(
        self, tape: Any, total: Any, recorder: Recorder
    ) -> tuple[dict[int, np.ndarray], dict[str, np.ndarray]]:
        live = {number: value for number, value in recorder.live.items() if value.dtype.is_floating}
        trained = {name: each for name, each in self.variables.items() if each.trainable and id(each) in self.names}
        stand_ins = [(name, new) for name, new in recorder.stand_ins if name in trained]
        variables = [*trained.items(), *stand_ins]
        sources = [*live.values(), *(getattr(each, "_value", each) for _name, each in variables)]
        found = tape.gradient(total, sources) if sources else []
        gradients = {
            number: _array(tf.convert_to_tensor(value))
            for number, value in zip(live, found[: len(live)], strict=True)
            if value is not None
        }
        sums: dict[str, np.ndarray] = {}
        for (name, _variable), value in zip(variables, found[len(live) :], strict=True):
            if value is not None:
                sums[name] = sums.get(name, 0) + _array(tf.convert_to_tensor(value))
        by_unit = {
            unit: _unit(entry, sums[self.names[id(entry[0])]])
            for unit, entry in self.holders.items()
            if self.names[id(entry[0])] in sums
        }
        return gradients, by_unit

    def _state(self, recorder: Recorder) -> dict[str, np.ndarray]:
        """The statistics after a pass, of the layers that stood in for others too."""
        new = {name: _array(variable) for name, variable in recorder.stand_ins}
        return {
            unit: _unit(entry, new.get(self.names[id(entry[0])], _array(entry[0])))
            for unit, entry in self.holders.items()
            if entry[1].role in ("mean", "variance")
        }

    # --------------------------------------------------------------------------------------------------- the laboratory

    def again(self, call: int, change: Change) -> list[np.ndarray]:
        """See `side.Side`."""
        seen = self.seen[call]
        with self._at_work(), _closed():
            CURRENT.owner, CURRENT.is_masked = None, True
            target = self.anew(seen.target, change, seen)[0] if isinstance(seen.target, Operation) else seen.target
            output = changed(seen._replace(target=target), change)
            return [_array(tensor) for tensor in _tensors(output)]

    def signature(self, call: int) -> dict[str, Any]:
        """See `side.Side`."""
        seen = self.seen[call]
        return self.arguments(seen.target, seen.args, seen.kwargs)

    def arguments(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Everything that decides what a call gives and is no tensor: a layer's own, and those of the call."""
        own: dict[str, Any] = {}
        if isinstance(target, Operation):
            try:
                own = target.get_config()
            except NotImplementedError:
                own = self.made.get(id(target), ("", None, {}))[2]
        own = {key: _name_of(value) for key, value in own.items() if not ASIDE.match(key)}
        called = arguments_of(target, args, kwargs)
        called = {key: value for key, value in called.items() if key != "name" and not _holds_a_tensor(value)}
        return {key: side.plain(value) for key, value in {**own, **called}.items()}

    def anew(self, old: Operation, change: Change, seen: Seen) -> tuple[Any, list[tuple[Any, Any]]]:
        """A layer as this one under a change, with its weights, and (its weight, the new one's) of all of them."""
        called = _parameters(_function(old))
        other = {key: value for key, value in change.arguments.items() if key not in called}
        if change.pads and hasattr(old, "padding"):
            other["padding"] = "valid"
        if not isinstance(old, keras.Layer):
            return (self._made_again(old, other) if other else old), []
        new = self._made_again(old, other)
        if not old.variables:
            return new, []
        changed(seen._replace(target=new), change)  # builds it
        pairs = [(was, now) for was, now in zip(old.variables, new.variables, strict=False) if was.name == now.name]
        if len(pairs) < len(new.variables):
            rest = {variable.name: variable for variable in old.variables}
            pairs = [(rest[now.name], now) for now in new.variables if now.name in rest]
        for was, now in pairs:
            now.assign(_fitted(_array(was), tuple(now.shape), now.name))
        return new, pairs

    def _made_again(self, old: Operation, other: dict[str, Any]) -> Any:
        """From its configuration; from what its constructor was given where it has none that can be read back."""
        try:
            return type(old).from_config({**old.get_config(), **other})
        except (NotImplementedError, ValueError, TypeError):
            args, kwargs = self.making[id(old)]
            return type(old)(**{**_bound(type(old), args, kwargs), **other})


def _bound(cls: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
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


def _name_of(value: Any) -> Any:
    """An object of a configuration by its name: its own arguments are told where it is called."""
    if isinstance(value, dict) and "class_name" in value:
        return value["config"] if value["class_name"] == "function" else value["class_name"]
    return value


def _fitted(value: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    """A weight in the shape that it has under a change: two biases are one, their sum, and one is two, the other 0."""
    if value.shape == shape:
        return value
    if value.shape[1:] == shape:
        return value.sum(0)
    if value.shape == shape[1:]:
        return np.concatenate([value[None], np.zeros((shape[0] - 1, *shape[1:]), value.dtype)])
    raise ValueError(f"{name} has the shape {value.shape}, and {shape} under this change")


def _is_frameworks(node: Any) -> bool:
    """Whether this is a layer of Keras's own, and no model: what a person wrote is looked into instead."""
    is_layer = isinstance(node, keras.Layer) and not isinstance(node, keras.Model)
    return is_layer and type(node).__module__.startswith("keras.")


def _kept_in(node: Any) -> Iterator[tuple[str, Any]]:
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


def _free(name: str, taken: Iterable[str]) -> str:
    number, free = 0, name
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _walked(model: Any) -> Iterator[tuple[str, Any, Any]]:
    """(path, node, holder) of a model and of all layers and modules in it, each once and under a path of its own."""
    seen: set[int] = {id(model)}
    taken: set[str] = set()
    root = str(model.name) if isinstance(model, keras.Layer) else ""
    rest: list[tuple[str, Any, Any]] = [(root, model, None)]
    while rest:
        path, node, holder = rest.pop(0)
        path = _free(path, taken)
        taken.add(path)
        yield path, node, holder
        parts = [(part.name, part) for part in node._layers] if isinstance(node, keras.Layer) else []
        parts += [(key, value) for key, value in _kept_in(node) if isinstance(value, keras.Layer | tf.Module)]
        inside = []
        for name, part in parts:
            if id(part) not in seen:
                seen.add(id(part))
                inside.append((f"{path}/{name}" if path else name, part, node))
        rest = inside + rest


def _unit(entry: tuple[Any, Kept, tuple[int, int] | None], whole: np.ndarray) -> np.ndarray:
    """A unit out of the array that holds it."""
    _variable, kept, part = entry
    return np.ascontiguousarray(kept.to(whole if part is None else whole[part[0] : part[1]]))


def _units_of(node: Any, variable: Any) -> list[tuple[str, Kept, tuple[int, int] | None]]:
    """(suffix, how, part) of the units in a weight, by the layer that holds it."""
    name, shape, cls = str(variable.name), tuple(variable.shape), type(node).__name__
    if not _is_frameworks(node):
        return [("", Kept("raw"), None)]
    if cls in GATES:
        gates, order = GATES[cls]
        role = {"kernel": "kernel", "recurrent_kernel": "recurrent", "bias": "bias"}[name]
        if len(shape) == 2 and role == "bias":  # one of the input and one of the state
            kept = _gated(role, gates, order, (1, shape[1]))
            return [("/input", kept, (0, 1)), ("/recurrent", kept, (1, 2))]
        return [("", _gated(role, gates, order, shape), None)]
    if cls == "EinsumDense" and name in ("kernel", "bias"):
        return [("", _einsum(node.equation, shape) if name == "kernel" else _flat("bias", shape), None)]
    if (cls.startswith("DepthwiseConv") and name == "kernel") or name == "depthwise_kernel":
        return [("", _depthwise(shape), None)]
    if cls.endswith("Transpose") and name == "kernel":
        return [("", Kept("kernel", _swapped, _swapped), None)]
    is_known = name in WEIGHTS and cls in {*LAYERS, *(f"SeparableConv{n}D" for n in (1, 2))}
    return [("", Kept(WEIGHTS[name] if is_known else "raw"), None)]


def changed(seen: Seen, change: Change) -> Any:
    """What a call gives under a change; a layer is one that was made anew for it."""
    target, args, kwargs = seen.target, seen.args, dict(seen.kwargs)
    own = arguments_of(target, args, kwargs)
    settings = {**vars(target), **own} if isinstance(target, Operation) else own
    if change.order:
        order = tf.constant(change.order)
        args, kwargs = _with_first(
            args, kwargs, lambda x: tf.reshape(tf.gather(tf.reshape(x, (x.shape[0], -1)), order, axis=1), x.shape)
        )
    if change.pads:
        is_first = str(settings.get("data_format")).startswith(("channels_first", "NC"))
        is_max = "max_pool" in kind_of(seen.name, target, 4)
        args, kwargs = _with_first(args, kwargs, functools.partial(_padded, change.pads, is_first, is_max))
    if change.function:
        return _instead(change, args, kwargs)
    given = {key: value for key, value in change.arguments.items() if key in _parameters(_function(target))}
    if change.pads and "padding" in _parameters(_function(target)) and not isinstance(target, Operation):
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
            args, kwargs = (), {key: value for key, value in named.items() if key in _parameters(target)}
    if isinstance(target, keras.Layer):
        kwargs = _in_mode(target, kwargs, seen.is_training)
    if "dropout" in seen.name and not isinstance(target, Operation):
        target = _as_it_is
    if CURRENT.is_wide and not isinstance(target, Operation):
        return _wide(target, seen.name.rpartition(".")[2], args, kwargs)
    return target(*args, **kwargs)


def _function(target: Any) -> Any:
    return type(target).call if isinstance(target, Operation) else target


def _in_mode(layer: Any, kwargs: dict[str, Any], is_training: bool) -> dict[str, Any]:
    """The arguments of a layer's call outside of its model, which would have said the mode."""
    if "training" not in layer.call_signature_parameters:
        return kwargs
    if LAYERS.get(type(layer).__name__) == "dropout":
        is_training = False
    return {**kwargs, "training": is_training if kwargs.get("training") is None else kwargs["training"]}


def _with_first(args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Any], Any]) -> Any:
    """Arguments with their first tensor changed."""
    first = next(_tensors([*args, *kwargs.values()]))

    def exchanged(value: Any) -> Any:
        if value is first:
            return change(tf.convert_to_tensor(value))
        return type(value)(map(exchanged, value)) if type(value) in (list, tuple) else value

    return tuple(map(exchanged, args)), {key: exchanged(value) for key, value in kwargs.items()}


def _padded(pads: Sequence[tuple[int, int]], is_first: bool, is_max: bool, x: Any) -> Any:
    around = [(0, 0), (0, 0), *pads] if is_first else [(0, 0), *pads, (0, 0)]
    return tf.pad(x, around, constant_values=tf.constant(-np.inf if is_max else 0.0, x.dtype))


def _instead(change: Change, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Another function, or a new layer of another class, called with the same tensors."""
    root, _dot, rest = change.function.partition(".")
    try:
        function = functools.reduce(getattr, rest.split("."), {"keras": keras, "tf": tf, "tensorflow": tf}[root])
    except (KeyError, AttributeError) as error:
        raise side.UserError(f'there is no "{change.function}" in Keras or TensorFlow') from error
    tensors = [value for value in args if _holds_a_tensor(value)]
    tensors += [value for value in kwargs.values() if _holds_a_tensor(value)]
    if isinstance(function, type) and issubclass(function, keras.Layer):
        return function(**change.arguments)(*tensors)
    return function(*tensors, **change.arguments)


# --------------------------------------------------------------------------------------------------------- the recorder

PASSED_OVER = {"Shape", "ShapeN", "Size", "Rank", "ReadVariableOp", "AssignVariableOp", "AssignAddVariableOp",
               "AssignSubVariableOp", "VarHandleOp", "DestroyResourceOp", "Assert", "IsVariableInitializedOp",
               "VariableShape", "Const", "NoOp", "ZerosLike", "OnesLike", "EagerPyFunc", "shape", "shape_n", "size",
               "rank", "ndim", "zeros_like", "ones_like"}  # fmt: skip
HANDED_ON = {"Identity", "identity", "convert_to_tensor"}
EMPTY = Call(0, "", "", "", Where(), {}, {}, {}, ())
NUMBERED = {"bool", "uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "bfloat16",
            "float32", "float64", "complex64", "complex128"}  # fmt: skip


def kind_of(name: str, target: Any, rank: int) -> str:
    """What a call is in every framework; `rank` is of the tensor that it takes."""
    word = name.rpartition(".")[2]
    if isinstance(target, keras.Layer):
        kind = LAYERS.get(word, _snake(word))
        if word == "ReLU" and target.negative_slope:
            return "leaky_relu"
        if word == "Activation":
            word = getattr(target.activation, "__name__", "")
        elif word != "SimpleRNN":
            return kind
        else:
            return f"rnn_{getattr(target.activation, '__name__', '')}"
    word = _snake(word)
    pool = POOLS.match(word)
    if pool:
        return f"{pool[1]}_pool{rank - 2}d"
    return FUNCTIONS.get(word, (word, {}))[0]


def _snake(word: str) -> str:
    """The word of a function, an operation, a class or an operator, as `FUNCTIONS` has it."""
    if word in OPERATORS:
        word = word.strip("_")
        return SIGNS.get(word) or SIGNS[word[1:]]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word).lower().replace("conv2_d", "conv2d")


class Recorder:
    """Inside, every call that takes tensors and gives some is noted with its numbers."""

    def __init__(self, owner: Keras, changes: Sequence[Change], is_training: bool) -> None:
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
            self.values[number] = _array(tensor)
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
            if not _is_frameworks(layer):
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
        word = _snake(type(target).__name__)
        return self._noted(Seen(target, f"keras.ops.{word}", args, kwargs, self.path[-1]), call, is_open=word in OPEN)

    def function(self, target: Any, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A public function's call."""
        word = name.rpartition(".")[2]

        def call(*args: Any, **kwargs: Any) -> Any:
            return _wide(target, word, args, kwargs) if CURRENT.is_wide else target(*args, **kwargs)

        return self._noted(Seen(function, name, args, kwargs, self.path[-1]), call, is_open=word in OPEN)

    def heard(self, op: Any, inputs: Any, attributes: Any, outputs: Any, op_name: Any = None, graph: Any = None) -> Any:
        """An operation that TensorFlow has done, called by none of the functions that are watched."""
        if CURRENT.n_closed:
            return None
        op = op.decode() if isinstance(op, bytes) else op
        with _closed():
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
                raise side.UserError(f"tf.raw_ops.{op} cannot be changed within a pass", self.owner.lines.here())
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
        taken = [each for each in _tensors([seen.args, seen.kwargs]) if not self._unit_of(each)]
        is_of_the_batch = any(id(each) in self.numbers or id(each) in self.rooted for each in taken)
        if not is_of_the_batch or word in HANDED_ON or word in PASSED_OVER:
            with contextlib.nullcontext() if is_open else _closed():
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
            with _closed() if change is not None or not is_open else contextlib.nullcontext():
                output = call(*seen.args, **seen.kwargs) if change is None else self._under(seen, change)
        finally:
            self.parents.pop()
            self.wheres.pop()
        given = [each for each in _tensors(output) if isinstance(each, tf.Tensor) and each.dtype.name in NUMBERED]
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
        if change.function or change.result or not isinstance(seen.target, Operation):
            return changed(seen, change)
        key = (id(seen.target), id(change))
        if key not in self.new:
            _new, pairs = self.new[key] = self.owner.anew(seen.target, change, seen)
            self.stand_ins += [(self.owner.names[id(was)], now) for was, now in pairs if id(was) in self.owner.names]
        return changed(seen._replace(target=self.new[key][0]), change)

    def _call(self, index: int, seen: Seen, given: list[Any], where: Where, is_narrow: bool) -> Call:
        tensors, units = self._taken(
            _snake(seen.name.rpartition(".")[2]), arguments_of(seen.target, seen.args, seen.kwargs)
        )
        if isinstance(seen.target, keras.Layer):
            units = self._of_layer(seen.target)
        first = next((each for each in _tensors([seen.args, seen.kwargs]) if id(each) in self.numbers), None)
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
        taken, given = list(_tensors(inputs)), list(_tensors(outputs))
        names = {self._unit_of(each) for each in taken}
        self.keep.append(given)
        for tensor in given:
            if _snake(word) in HANDED_ON and id(taken[0] if taken else None) in self.numbers:
                self.numbers.setdefault(id(tensor), self.numbers[id(taken[0])])
            elif _snake(word) in SHAPED and len(names - {None}) == 1:
                self.units.setdefault(id(tensor), next(iter(names - {None})) or "")
            elif names - {None} or any(id(each) in self.rooted for each in taken):
                self.rooted.add(id(tensor))

    def _taken(self, word: str, named: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
        """(argument → ids of tensors, role → unit) of a call."""
        tensors: dict[str, tuple[int, ...]] = {}
        units: dict[str, str] = {}
        for key, value in named.items():
            for tensor in _tensors(value):
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
        return _depthwise(shape)
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
    takes = _parameters(getattr(tf.raw_ops, op))
    for key, value in known.items():
        if key in takes and key not in named and value is not None:
            named[key] = value.decode() if isinstance(value, bytes) else value
    return named
