"""What Keras and TensorFlow do when nothing more is asked for, in raw numbers; `differences` says what they mean.

Subject → what is run → the function that runs it on what the subject gives (canonical layout), or a sentence: why they
have no such thing. A function returns numbers, or what TensorFlow says where it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Seen = dict[str, Any] | str


def _seeded(function: Callable[[], Any]) -> Any:
    keras.utils.set_random_seed(0)
    return function()


def _built(layer: keras.layers.Layer, *shape: int) -> keras.layers.Layer:
    layer.build(shape)
    return layer


def _updates(
    make: Callable[[], keras.optimizers.Optimizer], w: np.ndarray, gradients: Any, rates: Any = None
) -> np.ndarray:
    """The weights after each update with these gradients, at these learning rates where any are given."""
    weight = keras.Variable(w)
    optimizer, seen = make(), []
    for step, gradient in enumerate(gradients):
        if rates is not None:
            optimizer.learning_rate = rates[step]
        optimizer.apply([tf.constant(gradient)], [weight])
        seen.append(weight.numpy())
    return np.stack(seen)


def _derivative(function: Callable[[Any], Any], x: np.ndarray) -> Any:
    """d Σ function / dx."""
    enters = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(enters)
        y = tf.reduce_sum(function(enters))
    return tape.gradient(y, enters)


def _batch_norm(x: np.ndarray, *wanted: str, frozen: bool = False) -> Seen:
    made = keras.layers.BatchNormalization()
    made.trainable = not frozen
    y = made(x, training=True)
    seen = {"y": y, "mean": made.moving_mean, "variance": made.moving_variance}
    return {name: seen[name] for name in wanted}


def _same(x: np.ndarray, kernel: np.ndarray, stride: int) -> Seen:
    made = _built(keras.layers.Conv2D(1, kernel.shape[0], stride, "same"), *x.shape)
    made.kernel.assign(kernel)
    return {"y": made(x)}


def _reduced_max(x: Any, size: int) -> Any:
    """The maximum of each window by `tf.reduce_max`."""
    return tf.reduce_max(tf.reshape(x, (-1, size, x.shape[2] // size, size)), (1, 3))


def _clipped(gradients: list[np.ndarray], limit: float) -> Seen:
    weights = [keras.Variable(np.zeros_like(gradient)) for gradient in gradients]
    keras.optimizers.SGD(1.0, clipnorm=limit).apply([tf.constant(gradient) for gradient in gradients], weights)
    return {str(index): -weight.numpy() for index, weight in enumerate(weights)}


def _clipped_together(gradients: list[np.ndarray], limit: float) -> Seen:
    clipped, _ = tf.clip_by_global_norm([tf.constant(gradient) for gradient in gradients], limit)
    return {str(index): gradient for index, gradient in enumerate(clipped)}


def _decayed(kernel: np.ndarray, bias: np.ndarray, rate: float) -> Seen:
    weights = {"kernel": keras.Variable(kernel, name="kernel"), "bias": keras.Variable(bias, name="bias")}
    optimizer = keras.optimizers.AdamW(rate)
    optimizer.apply([tf.zeros_like(weight.value) for weight in weights.values()], list(weights.values()))
    return {name: weight.numpy() for name, weight in weights.items()}


class Watched(keras.Model):
    """Learns nothing and keeps what `fit` gives it."""

    def train_step(self, data: Any) -> dict[str, Any]:
        self.given = [*getattr(self, "given", []), data[0].numpy()]
        return {"seen": tf.size(data[0])}  # Keras breaks without a number to show


def _fitted(n: int, batch: int) -> list[np.ndarray]:
    """The batches of `fit`'s one epoch."""

    def fit() -> list[np.ndarray]:
        model = Watched()
        model.compile(run_eagerly=True)
        model.fit(np.arange(n), np.arange(n), batch, verbose=0)
        return model.given

    return _seeded(fit)


def _reported_loss(x: np.ndarray, targets: np.ndarray, batch: int, rate: float) -> Seen:
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(rate), "mean_squared_error")
    return {"loss": model.fit(x, targets, batch, shuffle=False, verbose=0).history["loss"]}


DEFAULTS: dict[str, dict[str, Callable[..., Seen]] | str] = {
    "dense_kernel": {
        "keras.layers.Dense(units)": lambda inputs, units: {
            "kernel": _seeded(lambda: _built(keras.layers.Dense(units), 1, inputs).kernel)
        }
    },
    "conv_kernel": {
        "keras.layers.Conv2D(filters, size)": lambda channels, filters, size: {
            "kernel": _seeded(lambda: _built(keras.layers.Conv2D(filters, size), 1, 9, 9, channels).kernel)
        }
    },
    "bias": {
        "keras.layers.Dense(units)": lambda inputs, units: {
            "bias": _seeded(lambda: _built(keras.layers.Dense(units), 1, inputs).bias)
        }
    },
    "he_normal": {
        "keras.initializers.HeNormal()": lambda inputs, units: {
            "kernel": _seeded(lambda: keras.initializers.HeNormal()((inputs, units)))
        }
    },
    "random_numbers": {
        "keras.random.uniform((n,), seed=0)": lambda n: {"u": keras.random.uniform((n,), seed=0)},
        "tensorflow.random.set_seed(0); tensorflow.random.uniform((n,))": lambda n: {
            "u": _seeded(lambda: tf.random.uniform((n,)))
        },
    },
    "kernel_layout": {
        "keras.layers.Conv2D, keras.layers.Dense": lambda channels, filters, size: {
            "conv": _built(keras.layers.Conv2D(filters, size), 1, 9, 9, channels).kernel.shape,
            "dense": _built(keras.layers.Dense(filters), 1, channels).kernel.shape,
        }
    },
    "order": {"keras.Model.fit(x, y)": lambda n: {"order": np.concatenate(_fitted(n, 1))}},
    "last_batch": {
        "keras.Model.fit(x, y, batch)": lambda n, batch: {"sizes": [len(part) for part in _fitted(n, batch)]},
        "tensorflow.data.Dataset.range(n).batch(batch)": lambda n, batch: {
            "sizes": [len(part) for part in tf.data.Dataset.range(n).batch(batch)]
        },
    },
    "resize": {
        "keras.layers.Resizing(*size)": lambda x, size: {"y": keras.layers.Resizing(*size)(x)},
        "tensorflow.image.resize(x, size)": lambda x, size: {"y": tf.image.resize(x, size)},
    },
    "conv_padding": {"keras.layers.Conv2D(1, size)": lambda x, size: {"y": keras.layers.Conv2D(1, size)(x)}},
    "same_padding": {'keras.layers.Conv2D(1, size, stride, padding="same")': _same},
    "pool_stride": {"keras.layers.MaxPooling2D(size)": lambda x, size: {"y": keras.layers.MaxPooling2D(size)(x)}},
    "avg_pool": {
        'keras.layers.AveragePooling2D(size, stride, padding="same")': lambda x, size, stride: {
            "y": keras.layers.AveragePooling2D(size, stride, "same")(x)
        }
    },
    "flatten": {"keras.layers.Flatten()": lambda x: {"y": keras.layers.Flatten()(x)}},
    "leaky_relu": {
        "keras.layers.LeakyReLU()": lambda x: {"y": keras.layers.LeakyReLU()(x)},
        "keras.activations.leaky_relu": lambda x: {"y": keras.activations.leaky_relu(tf.constant(x))},
        "tensorflow.nn.leaky_relu": lambda x: {"y": tf.nn.leaky_relu(x)},
    },
    "gelu": {
        "keras.activations.gelu": lambda x: {"y": keras.activations.gelu(tf.constant(x))},
        "tensorflow.nn.gelu": lambda x: {"y": tf.nn.gelu(x)},
    },
    "hard_sigmoid": {"keras.activations.hard_sigmoid": lambda x: {"y": keras.activations.hard_sigmoid(tf.constant(x))}},
    "batch_norm_epsilon": {"keras.layers.BatchNormalization()": lambda x: _batch_norm(x, "y")},
    "layer_norm_epsilon": {"keras.layers.LayerNormalization()": lambda x: {"y": keras.layers.LayerNormalization()(x)}},
    "dropout": {
        "keras.layers.Dropout(rate)": lambda x, rate: {
            "y": _seeded(lambda: keras.layers.Dropout(rate)(x, training=True))
        }
    },
    "call_mode": {
        "keras.layers.Dropout(rate)(x), keras.layers.BatchNormalization()(x)": lambda x, rate: {
            "dropout": _seeded(lambda: keras.layers.Dropout(rate)(x)),
            "batch_norm": keras.layers.BatchNormalization()(x),
        }
    },
    "float64": {
        "tensorflow.constant(x)": lambda x: {"bits": 8 * tf.constant(x).dtype.size},
        "keras.layers.Dense(1)(x)": lambda x: {"bits": 8 * keras.layers.Dense(1)(x[None]).dtype.size},
    },
    "cross_entropy": {
        "keras.losses.CategoricalCrossentropy()": lambda p, labels: {
            "loss": keras.losses.CategoricalCrossentropy()(np.eye(p.shape[1], dtype=p.dtype)[labels], p)
        },
        "tensorflow.nn.sparse_softmax_cross_entropy_with_logits": lambda p, labels: {
            "loss": tf.nn.sparse_softmax_cross_entropy_with_logits(labels, p)
        },
    },
    "cross_entropy_of_nothing": {
        "keras.losses.CategoricalCrossentropy()": lambda p: {
            "losses": [
                keras.losses.CategoricalCrossentropy()(tf.constant([[1.0, 0.0]]), tf.constant([[v, 1 - v]])) for v in p
            ]
        }
    },
    "squared_error": {
        "keras.losses.MeanSquaredError()": lambda z, targets: {"loss": keras.losses.MeanSquaredError()(targets, z)},
        "tensorflow.nn.l2_loss(z - targets)": lambda z, targets: {"loss": tf.nn.l2_loss(z - targets)},
    },
    "targets_broadcast": {
        "keras.losses.MeanSquaredError()": lambda z, targets: {"loss": keras.losses.MeanSquaredError()(targets, z)},
        "tensorflow.reduce_mean((z - targets) ** 2)": lambda z, targets: {
            "loss": tf.reduce_mean(tf.square(tf.constant(z) - targets))
        },
    },
    "label_smoothing": {
        "keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=s)": lambda z, labels, smoothing: {
            "loss": keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)(
                np.eye(z.shape[1], dtype=z.dtype)[labels], z
            )
        }
    },
    "max_pool_ties": {
        "keras.layers.MaxPooling2D(size)": lambda x, size: {"dx": _derivative(keras.layers.MaxPooling2D(size), x)},
        "tensorflow.reduce_max over each window": lambda x, size: {
            "dx": _derivative(lambda x: _reduced_max(x, size), x)
        },
    },
    "leaky_relu_at_zero": {"keras.layers.LeakyReLU()": lambda x: {"dx": _derivative(keras.layers.LeakyReLU(), x)}},
    "clip_at_ends": {
        "tensorflow.clip_by_value": lambda x, low, high: {
            "dx": _derivative(lambda x: tf.clip_by_value(x, low, high), x)
        }
    },
    "l2": {
        "keras.regularizers.L2(λ)": lambda w, factor: {"gradient": _derivative(keras.regularizers.L2(factor), w)},
        "tensorflow.nn.l2_loss(w) * λ": lambda w, factor: {
            "gradient": _derivative(lambda w: tf.nn.l2_loss(w) * factor, w)
        },
    },
    "adam_weight_decay": {
        "keras.optimizers.Adam(rate, weight_decay=λ)": lambda w, gradients, rate, factor: {
            "w": _updates(lambda: keras.optimizers.Adam(rate, weight_decay=factor), w, gradients)
        }
    },
    "batch_norm_momentum": {"keras.layers.BatchNormalization()": lambda x: _batch_norm(x, "mean")},
    "batch_norm_variance": {"keras.layers.BatchNormalization()": lambda x: _batch_norm(x, "mean", "variance")},
    "frozen_batch_norm": {
        "keras.layers.BatchNormalization() with trainable=False": lambda x: _batch_norm(x, "mean", frozen=True)
    },
    "clip_norm": {
        "keras.optimizers.SGD(1, clipnorm=limit)": _clipped,
        "tensorflow.clip_by_global_norm(gradients, limit)": _clipped_together,
    },
    "sgd_rate": {"keras.optimizers.SGD()": lambda w, gradients: {"w": _updates(keras.optimizers.SGD, w, gradients)}},
    "adam_rate": {"keras.optimizers.Adam()": lambda w, gradients: {"w": _updates(keras.optimizers.Adam, w, gradients)}},
    "rmsprop_rate": {
        "keras.optimizers.RMSprop()": lambda w, gradients: {"w": _updates(keras.optimizers.RMSprop, w, gradients)}
    },
    "adam": {"keras.optimizers.Adam()": lambda w, gradients: {"w": _updates(keras.optimizers.Adam, w, gradients)}},
    "adamw_decay": {
        "keras.optimizers.AdamW(rate)": lambda w, gradients, rates: {
            "w": [_updates(partial(keras.optimizers.AdamW, rate), w, gradients)[0] for rate in rates]
        }
    },
    "decay_reach": {"keras.optimizers.AdamW(rate)": _decayed},
    "rmsprop": {
        "keras.optimizers.RMSprop()": lambda w, gradients: {"w": _updates(keras.optimizers.RMSprop, w, gradients)}
    },
    "adagrad_start": {
        "keras.optimizers.Adagrad()": lambda w, gradients: {"w": _updates(keras.optimizers.Adagrad, w, gradients)}
    },
    "adagrad_epsilon": {
        "keras.optimizers.Adagrad(initial_accumulator_value=0)": lambda w, gradients: {
            "w": _updates(lambda: keras.optimizers.Adagrad(initial_accumulator_value=0.0), w, gradients)
        }
    },
    "momentum": {
        "keras.optimizers.SGD(rate, momentum=μ)": lambda w, gradients, rates, mu: {
            "w": _updates(lambda: keras.optimizers.SGD(momentum=mu), w, gradients, rates)
        }
    },
    "nesterov": {
        "keras.optimizers.SGD(rate, momentum=μ, nesterov=True)": lambda w, gradients, rates, mu: {
            "w": _updates(lambda: keras.optimizers.SGD(momentum=mu, nesterov=True), w, gradients, rates)
        }
    },
    "reported_loss": {'keras.Model.fit(x, y)["loss"]': _reported_loss},
}
