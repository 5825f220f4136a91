"""What JAX, Optax and Flax do when nothing more is asked for, in raw numbers; `differences` says what they mean.

Subject → what is run → the function that runs it on what the subject gives (canonical layout), or a sentence: why they
have no such thing. A function returns numbers, or what JAX says where it refuses.

JAX itself has no layers. Flax's are measured where Flax is installed; nothing else of Lockstep needs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Seen = dict[str, Any] | str
NO_LOOP = "JAX, Optax and Flax have no training loop of their own"
NO_RATE = "Optax has no default: the learning rate must be given"


def _flax(part: str) -> Any:
    return importlib.import_module(f"flax.{part}")


def _layer(kind: str, *numbers: Any, **options: Any) -> Any:
    """A layer of Flax's newer interface, with the random numbers of seed 0."""
    nnx = _flax("nnx")
    return getattr(nnx, kind)(*numbers, **options, rngs=nnx.Rngs(0))


def _updates(make: Callable[[], Any], w: np.ndarray, gradients: Any) -> np.ndarray:
    """The weights after each update with these gradients."""
    optimizer, seen = make(), []
    state = optimizer.init(jnp.asarray(w))
    for gradient in gradients:
        updates, state = optimizer.update(jnp.asarray(gradient), state, jnp.asarray(w))
        seen.append(w := np.asarray(optax.apply_updates(jnp.asarray(w), updates)))
    return np.stack(seen)


def _derivative(function: Callable[[Any], Any], x: np.ndarray) -> Any:
    """d Σ function / dx."""
    return jax.grad(lambda x: function(x).sum())(jnp.asarray(x))


def _batch_norm(x: np.ndarray, *wanted: str) -> Seen:
    made = _layer("BatchNorm", x.shape[-1])
    y = made(jnp.asarray(x))
    seen = {"y": y, "mean": made.mean[...], "variance": made.var[...]}
    return {name: seen[name] for name in wanted}


def _same(x: np.ndarray, kernel: np.ndarray, stride: int) -> Seen:
    layout = ("NHWC", "HWIO", "NHWC")
    arrays = jnp.asarray(x), jnp.asarray(kernel)
    return {"y": jax.lax.conv_general_dilated(*arrays, (stride, stride), "SAME", dimension_numbers=layout)}


def _reduced_max(x: Any, size: int) -> Any:
    """The maximum of each window by `reshape` and `max`."""
    return x.reshape(-1, size, x.shape[2] // size, size).max((1, 3))


def _mode_of_linen(x: np.ndarray, rate: float) -> Seen:
    try:
        return {"dropout": _flax("linen").Dropout(rate).apply({}, x, rngs={"dropout": jax.random.key(0)})}
    except ValueError as error:
        return str(error)


def _squared_error(z: np.ndarray, targets: np.ndarray) -> Seen:
    try:
        return {"loss": optax.squared_error(z, targets).mean()}
    except ValueError as error:
        return str(error)


def _clipped(gradients: list[np.ndarray], limit: float) -> Seen:
    clip = optax.clip_by_global_norm(limit)
    clipped, _ = clip.update(gradients, clip.init(gradients))
    return {str(index): gradient for index, gradient in enumerate(clipped)}


def _decayed(kernel: np.ndarray, bias: np.ndarray, rate: float) -> Seen:
    weights = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
    optimizer = optax.adamw(rate)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, weights), optimizer.init(weights), weights)
    return dict(optax.apply_updates(weights, updates))


DEFAULTS: dict[str, dict[str, Callable[..., Seen]] | str] = {
    "dense_kernel": {
        "flax.nnx.Linear(inputs, units)": lambda inputs, units: {"kernel": _layer("Linear", inputs, units).kernel[...]}
    },
    "conv_kernel": {
        "flax.nnx.Conv(channels, filters, size)": lambda channels, filters, size: {
            "kernel": _layer("Conv", channels, filters, size).kernel[...]
        }
    },
    "bias": {
        "flax.nnx.Linear(inputs, units)": lambda inputs, units: {"bias": _layer("Linear", inputs, units).bias[...]}
    },
    "he_normal": {
        "jax.nn.initializers.he_normal()": lambda inputs, units: {
            "kernel": jax.nn.initializers.he_normal()(jax.random.key(0), (inputs, units))
        }
    },
    "random_numbers": {
        "jax.random.uniform(jax.random.key(0), n)": lambda n: {"u": jax.random.uniform(jax.random.key(0), n)}
    },
    "kernel_layout": {
        "flax.nnx.Conv, flax.nnx.Linear": lambda channels, filters, size: {
            "conv": _layer("Conv", channels, filters, size).kernel[...].shape,
            "dense": _layer("Linear", channels, filters).kernel[...].shape,
        }
    },
    "order": NO_LOOP,
    "last_batch": NO_LOOP,
    "resize": {
        'jax.image.resize(x, shape, "bilinear")': lambda x, size: {
            "y": jax.image.resize(x, (len(x), *size, x.shape[3]), "bilinear")
        }
    },
    "conv_padding": {
        "flax.nnx.Conv(1, 1, size)": lambda x, size: {"y": _layer("Conv", 1, 1, (size, size))(jnp.asarray(x))}
    },
    "same_padding": {'jax.lax.conv_general_dilated(x, w, stride, "SAME")': _same},
    "pool_stride": {
        "flax.nnx.max_pool(x, size)": lambda x, size: {"y": _flax("nnx").max_pool(jnp.asarray(x), (size, size))}
    },
    "avg_pool": {
        'flax.nnx.avg_pool(x, size, stride, "SAME")': lambda x, size, stride: {
            "y": _flax("nnx").avg_pool(jnp.asarray(x), (size, size), (stride, stride), "SAME")
        }
    },
    "flatten": {"jax.numpy.reshape(x, (len(x), -1))": lambda x: {"y": jnp.reshape(jnp.asarray(x), (len(x), -1))}},
    "leaky_relu": {"jax.nn.leaky_relu": lambda x: {"y": jax.nn.leaky_relu(x)}},
    "gelu": {"jax.nn.gelu": lambda x: {"y": jax.nn.gelu(x)}},
    "hard_sigmoid": {"jax.nn.hard_sigmoid": lambda x: {"y": jax.nn.hard_sigmoid(x)}},
    "batch_norm_epsilon": {"flax.nnx.BatchNorm(features)": lambda x: _batch_norm(x, "y")},
    "layer_norm_epsilon": {
        "flax.nnx.LayerNorm(features)": lambda x: {"y": _layer("LayerNorm", x.shape[-1])(jnp.asarray(x))},
        "jax.nn.standardize": lambda x: {"y": jax.nn.standardize(x)},
    },
    "dropout": {"flax.nnx.Dropout(rate)": lambda x, rate: {"y": _layer("Dropout", rate)(jnp.asarray(x))}},
    "call_mode": {
        "flax.nnx.Dropout(rate)(x), flax.nnx.BatchNorm(features)(x)": lambda x, rate: {
            "dropout": _layer("Dropout", rate)(jnp.asarray(x)),
            "batch_norm": _layer("BatchNorm", x.shape[-1])(jnp.asarray(x)),
        },
        "flax.linen.Dropout(rate)(x)": _mode_of_linen,
    },
    "float64": {"jax.numpy.asarray(x)": lambda x: {"bits": 8 * jnp.asarray(x).itemsize}},
    "cross_entropy": {
        "optax.softmax_cross_entropy_with_integer_labels": lambda p, labels: {
            "loss": optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(p), jnp.asarray(labels))
        }
    },
    "cross_entropy_of_nothing": "Optax's losses take logits",
    "squared_error": {
        "optax.squared_error": lambda z, targets: {"loss": optax.squared_error(z, targets)},
        "optax.l2_loss": lambda z, targets: {"loss": optax.l2_loss(z, targets)},
    },
    "targets_broadcast": {
        "jax.numpy.mean((z - targets) ** 2)": lambda z, targets: {"loss": jnp.mean((jnp.asarray(z) - targets) ** 2)},
        "optax.squared_error(z, targets).mean()": _squared_error,
    },
    "label_smoothing": {
        "optax.smooth_labels(labels, s)": lambda z, labels, smoothing: {
            "loss": optax.softmax_cross_entropy(
                z, optax.smooth_labels(jax.nn.one_hot(labels, z.shape[1]), smoothing)
            ).mean()
        }
    },
    "max_pool_ties": {
        "flax.nnx.max_pool(x, size, stride)": lambda x, size: {
            "dx": _derivative(lambda x: _flax("nnx").max_pool(x, (size, size), (size, size)), x)
        },
        "jax.numpy.max over each window": lambda x, size: {"dx": _derivative(lambda x: _reduced_max(x, size), x)},
    },
    "leaky_relu_at_zero": {"jax.nn.leaky_relu": lambda x: {"dx": _derivative(jax.nn.leaky_relu, x)}},
    "clip_at_ends": {"jax.numpy.clip": lambda x, low, high: {"dx": _derivative(lambda x: jnp.clip(x, low, high), x)}},
    "l2": {
        "optax.add_decayed_weights(λ)": lambda w, factor: {
            "gradient": -(w - _updates(lambda: optax.add_decayed_weights(factor), w, [np.zeros_like(w)])[0])
        }
    },
    "adam_weight_decay": "optax.adam takes no weight_decay; optax.adamw does",
    "batch_norm_momentum": {"flax.nnx.BatchNorm(features)": lambda x: _batch_norm(x, "mean")},
    "batch_norm_variance": {"flax.nnx.BatchNorm(features)": lambda x: _batch_norm(x, "mean", "variance")},
    "frozen_batch_norm": "Flax freezes in the optimizer; statistics follow use_running_average alone",
    "clip_norm": {"optax.clip_by_global_norm(limit)": _clipped},
    "sgd_rate": NO_RATE,
    "adam_rate": NO_RATE,
    "rmsprop_rate": NO_RATE,
    "adam": {"optax.adam(1e-3)": lambda w, gradients: {"w": _updates(lambda: optax.adam(1e-3), w, gradients)}},
    "adamw_decay": {
        "optax.adamw(rate)": lambda w, gradients, rates: {
            "w": [_updates(partial(optax.adamw, rate), w, gradients)[0] for rate in rates]
        }
    },
    "decay_reach": {"optax.adamw(rate)": _decayed},
    "rmsprop": {"optax.rmsprop(1e-3)": lambda w, gradients: {"w": _updates(lambda: optax.rmsprop(1e-3), w, gradients)}},
    "adagrad_start": {
        "optax.adagrad(1e-2)": lambda w, gradients: {"w": _updates(lambda: optax.adagrad(1e-2), w, gradients)}
    },
    "adagrad_epsilon": {
        "optax.adagrad(1e-2, initial_accumulator_value=0)": lambda w, gradients: {
            "w": _updates(lambda: optax.adagrad(1e-2, initial_accumulator_value=0.0), w, gradients)
        }
    },
    "momentum": {
        "optax.sgd(schedule, momentum=μ)": lambda w, gradients, rates, mu: {
            "w": _updates(lambda: optax.sgd(lambda step: jnp.asarray(rates)[step], mu), w, gradients)
        }
    },
    "nesterov": {
        "optax.sgd(schedule, momentum=μ, nesterov=True)": lambda w, gradients, rates, mu: {
            "w": _updates(lambda: optax.sgd(lambda step: jnp.asarray(rates)[step], mu, nesterov=True), w, gradients)
        }
    },
    "reported_loss": NO_LOOP,
}
