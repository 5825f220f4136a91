"""Starting weights, drawn once in NumPy, in the canonical layout: dense (in, out), convolution (h, w, in, out)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lockstep import randomness
from lockstep.spec import FORMAT, Network, Shape


def fans(shape: Shape) -> tuple[int, int]:
    """(fan_in, fan_out) of a kernel: how many inputs feed one output, how many outputs one input feeds."""
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


# kind → (distribution, its size from the record, fan_in and fan_out): a standard deviation or a limit ±.
DISTRIBUTIONS = {
    "he_normal": (randomness.normal, lambda given, fan_in, fan_out: math.sqrt(2 / fan_in)),
    "he_uniform": (randomness.uniform, lambda given, fan_in, fan_out: math.sqrt(6 / fan_in)),
    "glorot_normal": (randomness.normal, lambda given, fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out))),
    "glorot_uniform": (randomness.uniform, lambda given, fan_in, fan_out: math.sqrt(6 / (fan_in + fan_out))),
    "lecun_normal": (randomness.normal, lambda given, fan_in, fan_out: math.sqrt(1 / fan_in)),
    "lecun_uniform": (randomness.uniform, lambda given, fan_in, fan_out: math.sqrt(3 / fan_in)),
    "normal": (randomness.normal, lambda given, fan_in, fan_out: given.std),
    "uniform": (randomness.uniform, lambda given, fan_in, fan_out: given.limit),
    "torch_default": (randomness.uniform, lambda given, fan_in, fan_out: 1 / math.sqrt(fan_in)),
    "flax_default": (
        randomness.truncated_normal,
        lambda given, fan_in, fan_out: math.sqrt(1 / fan_in) / randomness.TRUNCATED_STD,
    ),
    "zeros": (randomness.uniform, lambda given, fan_in, fan_out: 0.0),
}


def initial_weights(
    network: Network, input_shape: Shape, seed: int, dtype: str = "float32", format: int = FORMAT
) -> dict[str, np.ndarray]:
    """Every parameter by canonical name `"<index>_<kind>/<parameter>"`, a pure function of (seed, layer, parameter).

    The layer counts by its number among those with a kernel, so that a network with dropout or batch normalisation and
    the same one without start from the same weights; in format 1 (`spec.FORMATS`) by that among all layers.

    Rounded to float32 whatever the `dtype`, so that a float64 run starts from exactly the numbers of its float32 twin.
    Batch normalisation starts with scale 1 and shift 0.
    """
    weights: dict[str, np.ndarray] = {}
    n_kernels = 0
    for index, row in enumerate(network.facts(input_shape)):
        number = index if format == 1 else n_kernels
        n_kernels += "kernel" in row.parameter_shapes
        for position, (parameter, shape) in enumerate(row.parameter_shapes.items()):
            if parameter in ("scale", "shift"):
                value = np.full(shape, float(parameter == "scale"))
            else:
                own = row.layer.initializer or network.initializer
                chosen = own if parameter == "kernel" else row.layer.bias_initializer
                value = _draw(chosen, shape, fans(row.parameter_shapes["kernel"]), (seed, "weights", number, position))
            weights[f"{row.name}/{parameter}"] = value.astype("float32").astype(dtype)
    return weights


def _draw(chosen: Any, shape: Shape, fan: tuple[int, int], place: tuple[Any, ...]) -> np.ndarray:
    distribution, size_of = DISTRIBUTIONS[chosen.kind]
    values = distribution(math.prod(shape), *place).reshape(shape)
    if distribution is randomness.uniform:
        values = 2.0 * values - 1.0
    return values * size_of(chosen, *fan)
