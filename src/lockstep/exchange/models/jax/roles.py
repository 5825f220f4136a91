"""What a call is in every framework, by Flax's layers and cells, and how their arrays hold units."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any  # jax.Array, or what stands for one while something is traced
Arrays = dict[str, Array]


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
    is_turned_round: bool = False


def moved(key: str, role: str, shape: tuple[int, ...], order: Sequence[int], into: tuple[int, ...], layer: str,
          flipped: tuple[int, ...] = ()) -> Held:  # fmt: skip
    """A unit of one array, whose axes are put into an order and taken together; `flipped` are axes of the result."""
    turned = tuple(shape[axis] for axis in order)
    return Held(
        (key,), role,
        lambda values: np.flip(values[0].transpose(order).reshape(into), flipped),
        lambda value: [np.flip(value, flipped).reshape(turned).transpose(np.argsort(order))],
        layer, bool(flipped),
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


def letter_of(place: int) -> str:
    """What an operand without a name is called."""
    return "xyz"[place] if place < 3 else f"x{place}"
