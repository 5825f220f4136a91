"""What a call of Keras or TensorFlow is in every framework, and how a weight of it holds a unit."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras.src.ops.operation import Operation

from lockstep.exchange.models import side
from lockstep.exchange.models.records import Call, Where


class Kept(NamedTuple):
    """How an argument of a function, or a weight, holds a unit: its role, to and from the canonical layout."""

    role: str
    to: Callable[[np.ndarray], np.ndarray] = lambda value: value
    back: Callable[[np.ndarray], np.ndarray] = lambda value: value


def swapped(value: np.ndarray) -> np.ndarray:
    """(…window, out, in) of a transposed convolution ↔ (…window, in, out); neither framework flips the window."""
    return np.swapaxes(value, -1, -2)


def depthwise(shape: tuple[int, ...]) -> Kept:
    """(…window, in, multiplier) ↔ (…window, 1, in · multiplier): a channel's outputs side by side, as in groups."""
    return Kept("kernel", lambda value: value.reshape(*value.shape[:-2], 1, -1), lambda value: value.reshape(shape))


def gated(role: str, gates: int, order: Sequence[int], shape: tuple[int, ...]) -> Kept:
    """(in, gates · units) ↔ (in, gates, units), a bias (gates · units,) ↔ (gates, units); canonical gate ← Keras's."""
    back = list(np.argsort(order))
    lead = () if role == "bias" else (shape[0],)
    return Kept(
        role,
        lambda value: value.reshape(*lead, gates, -1)[..., list(order), :],
        lambda value: value[..., back, :].reshape(shape),
    )


def einsum(equation: str, shape: tuple[int, ...]) -> Kept:
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


def flattened(role: str, shape: tuple[int, ...]) -> Kept:
    """A unit without the axes that its layer gives it."""
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
UP = {key: Kept("kernel", swapped, swapped) for key in CONV}
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
def parameters_of(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function, looked up once."""
    return side.signature_of(function)


def arguments_of(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument of a function's or a layer's call by name, defaults among them."""
    return side.arguments_of(target.call if isinstance(target, Operation) else target, args, kwargs)


def tensors_in(value: Any) -> Iterator[Any]:
    """Eager tensors and variables, at whatever depth."""
    return side.items_of(value, (tf.Tensor, tf.Variable, keras.Variable))


def holds_a_tensor(value: Any) -> bool:
    """Whether there is a tensor in it."""
    return next(tensors_in(value), None) is not None


def array_of(tensor: Any) -> np.ndarray:
    """The numbers of a tensor; of bfloat16 as float32."""
    value = tensor.numpy()
    return value.astype(np.float32) if value.dtype.name == "bfloat16" else np.array(value)


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
        kind = LAYERS.get(word, snake(word))
        if word == "ReLU" and target.negative_slope:
            return "leaky_relu"
        if word == "Activation":
            word = getattr(target.activation, "__name__", "")
        elif word != "SimpleRNN":
            return kind
        else:
            return f"rnn_{getattr(target.activation, '__name__', '')}"
    word = snake(word)
    pool = POOLS.match(word)
    if pool:
        return f"{pool[1]}_pool{rank - 2}d"
    return FUNCTIONS.get(word, (word, {}))[0]


def snake(word: str) -> str:
    """The word of a function, an operation, a class or an operator, as `FUNCTIONS` has it."""
    if word in OPERATORS:
        word = word.strip("_")
        return SIGNS.get(word) or SIGNS[word[1:]]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", word).lower().replace("conv2_d", "conv2d")
