"""Layers as Keras's.

Its BatchNormalization and Dropout mean other things than the canonical ones (a biased running variance, another mask),
so these two are written here in TensorFlow's own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lockstep.backends.plan import Plan, pool_counts, window_padding
from lockstep.spec import GELU, Add, AvgPool2D, Concat, Conv2D, Dense, Flatten, LayerFacts, LayerNorm, MaxPool2D


class BatchNorm(keras.layers.Layer):
    """The canonical batch normalisation: Keras's own averages the biased variance."""

    def __init__(self, row: LayerFacts, plan: Plan) -> None:
        super().__init__(dtype=plan.dtype)
        self.row = row

    def build(self, shape: Any) -> None:
        """Make scale, shift and the running statistics."""
        channels = (shape[-1],)
        self.scale = self.add_weight(shape=channels, initializer="ones", name="scale")
        self.shift = self.add_weight(shape=channels, initializer="zeros", name="shift")
        self.running_mean = self.add_weight(shape=channels, initializer="zeros", trainable=False, name="mean")
        self.running_variance = self.add_weight(shape=channels, initializer="ones", trainable=False, name="variance")

    def call(self, x: tf.Tensor, training: bool, learning: bool) -> tf.Tensor:
        """Normalise; only a step that is `learning` changes the running statistics."""
        mean, variance = self.running_mean.value, self.running_variance.value
        if training:
            axes = list(range(len(x.shape) - 1))
            batch_mean, batch_variance = tf.nn.moments(x, axes)
            if learning:
                n = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
                biased = self.row.layer.running_variance == "biased"
                seen = batch_variance if biased else batch_variance * (n / tf.maximum(n - 1, 1))
                mean.assign_add(self.row.layer.momentum * (batch_mean - mean))
                variance.assign_add(self.row.layer.momentum * (seen - variance))
            mean, variance = batch_mean, batch_variance
        inverse = self.scale.value * tf.math.rsqrt(variance + self.row.layer.epsilon)
        return (x - mean) * inverse + self.shift.value


class Masked(keras.layers.Layer):
    """Dropout by a mask that was decided outside: Keras's own would draw another one."""

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Multiply by the mask where there is one."""
        return x if mask is None else x * mask


class RoundedDense(keras.layers.Dense):
    """Keras's own, with the factors of its products rounded."""

    def __init__(self, row: LayerFacts, plan: Plan) -> None:
        super().__init__(row.layer.units, use_bias=row.layer.bias, dtype=plan.dtype)
        self.product = product_of(plan.fraction_bits)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """R(x)·R(w) + b."""
        y = self.product(tf.matmul)(x, tf.convert_to_tensor(self.kernel))
        return y if self.bias is None else y + self.bias


class OtherConv2D(keras.layers.Conv2D):
    """Keras's own, with paddings that it has no word for and the factors of its products rounded where asked."""

    def __init__(self, row: LayerFacts, plan: Plan) -> None:
        layer = row.layer
        padding = layer.padding.removesuffix("_lower")  # for the output's shape, which is the same
        super().__init__(layer.filters, layer.kernel, layer.stride, padding, use_bias=layer.bias, dtype=plan.dtype)
        self.product, self.row = product_of(plan.fraction_bits), row

    def convolution_op(self, x: tf.Tensor, kernel: Any) -> tf.Tensor:
        """The place that Keras leaves for another convolution; it adds the bias."""

        def convolve(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv2d(x, w, self.row.layer.stride, paddings(self.row))

        return self.product(convolve)(x, tf.convert_to_tensor(kernel))


def add(row: LayerFacts[Add], plan: Plan) -> keras.layers.Layer:
    """Keras's own; scaled and rectified sums are written out."""
    layer = row.layer
    if layer == Add():
        return keras.layers.Add(dtype=plan.dtype)

    def total(taken: tuple[tf.Tensor, ...]) -> tf.Tensor:
        x, *others = taken
        return layer.first * (tf.nn.relu(x) if layer.rectified else x) + layer.others * tf.add_n(others)

    return Joined(total, plan)


def concat(row: LayerFacts[Concat], plan: Plan) -> keras.layers.Layer:
    """Keras's own along the channels; along another axis, what it gives is read as if along these."""
    layer = row.layer
    if layer == Concat():
        return keras.layers.Concatenate(dtype=plan.dtype)

    def laid(taken: tuple[tf.Tensor, ...]) -> tf.Tensor:
        axis = {"channels": -1, "height": 1, "width": 2}[layer.axis]
        y = tf.concat(taken[::-1] if layer.order == "reversed" else taken, axis)
        return y if layer.axis == "channels" else tf.reshape(y, (-1, *row.output_shape))

    return Joined(laid, plan)


class Joined(keras.layers.Layer):
    """Branches joined by a function."""

    def __init__(self, function: Callable[[Any], tf.Tensor], plan: Plan) -> None:
        super().__init__(dtype=plan.dtype)
        self.function = function

    def call(self, taken: Any) -> tf.Tensor:
        """Join what is taken in."""
        return self.function(tuple(taken))


def dense(row: LayerFacts[Dense], plan: Plan) -> keras.layers.Layer:
    """Keras's own."""
    if plan.fraction_bits:
        return RoundedDense(row, plan)
    return keras.layers.Dense(row.layer.units, use_bias=row.layer.bias, dtype=plan.dtype)


def conv2d(row: LayerFacts[Conv2D], plan: Plan) -> keras.layers.Layer:
    """Keras's own; `same` means what it means canonically."""
    layer = row.layer
    if layer.padding == "same_lower" or plan.fraction_bits:
        return OtherConv2D(row, plan)
    return keras.layers.Conv2D(
        layer.filters, layer.kernel, layer.stride, layer.padding, use_bias=layer.bias, dtype=plan.dtype
    )


def max_pool2d(row: LayerFacts[MaxPool2D], plan: Plan) -> keras.layers.Layer:
    """Keras's own, which sends the gradient to the first maximum."""
    kernel, stride = row.layer.window()
    if row.layer.ties == "shared":
        return activation(shared_max, row=row)(row, plan)
    if row.layer.padding == "same_lower":
        return activation(tf.nn.max_pool2d, ksize=kernel, strides=stride, padding=paddings(row))(row, plan)
    return keras.layers.MaxPooling2D(kernel, stride, padding=row.layer.padding, dtype=plan.dtype)


def avg_pool2d(row: LayerFacts[AvgPool2D], plan: Plan) -> keras.layers.Layer:
    """Keras's own, which doesn't count padding."""
    kernel, stride = row.layer.window()
    if row.layer.padding == "same_lower" or (row.layer.padding == "same" and row.layer.count_padding):
        return activation(padded_mean, row=row)(row, plan)
    return keras.layers.AveragePooling2D(kernel, stride, padding=row.layer.padding, dtype=plan.dtype)


def layer_norm(row: LayerFacts[LayerNorm], plan: Plan) -> keras.layers.Layer:
    """Keras's own; over a whole example it is its group normalisation of one group."""
    if row.layer.over == "channels":
        return keras.layers.LayerNormalization(epsilon=row.layer.epsilon, dtype=plan.dtype)
    return keras.layers.GroupNormalization(1, epsilon=row.layer.epsilon, dtype=plan.dtype)


def flatten(row: LayerFacts[Flatten], plan: Plan) -> keras.layers.Layer:
    """Keras's own; its `channels_first` is about what comes in."""
    if row.layer.order == "chw" and len(row.input_shape) == 3:
        return activation(channels_first)(row, plan)
    return keras.layers.Flatten(dtype=plan.dtype)


def gelu(row: LayerFacts[GELU], plan: Plan) -> keras.layers.Layer:
    """The exact function or the tanh formula."""
    return activation(tanh_gelu if row.layer.form == "tanh" else exact_gelu)(row, plan)


def activation(function: Callable[..., tf.Tensor], **named: Any) -> Callable[[LayerFacts, Plan], keras.layers.Layer]:
    """A Keras layer around a function."""
    return lambda row, plan: keras.layers.Activation(lambda x: function(x, **named), dtype=plan.dtype)


def paddings(row: LayerFacts) -> list[tuple[int, int]]:
    """The padding of a layer that slides a window, for every axis."""
    return [(0, 0), *window_padding(row), (0, 0)]


def shared_max(x: tf.Tensor, row: LayerFacts) -> tf.Tensor:
    """The maximum over the places of a window: `reduce_max` shares its gradient among equals, pooling does not."""
    (high, wide), (down, across) = row.layer.window()
    rows, columns, _ = row.output_shape
    x = tf.pad(x, paddings(row), constant_values=-np.inf)
    places = [
        x[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * across + 1 : across]
        for i, j in np.ndindex(high, wide)
    ]
    return tf.reduce_max(tf.stack(places), 0)


def padded_mean(x: tf.Tensor, row: LayerFacts) -> tf.Tensor:
    """Pool over the zeros too, then divide by what counts: TensorFlow's own has neither another padding nor count."""
    kernel, stride = row.layer.window()
    mean = tf.nn.avg_pool2d(tf.pad(x, paddings(row)), kernel, stride, "VALID")
    return mean * tf.constant(np.prod(kernel) / pool_counts(row), x.dtype)


def channels_first(x: tf.Tensor) -> tf.Tensor:
    """(batch, height, width, channels) → (batch, channels · height · width)."""
    return tf.reshape(tf.transpose(x, (0, 3, 1, 2)), (-1, np.prod(x.shape[1:])))


def leaky_relu(x: tf.Tensor, slope: float) -> tf.Tensor:
    """TensorFlow's own rounds the slope to float32 whatever the dtype."""
    return tf.where(x > 0, x, slope * x)


def exact_gelu(x: tf.Tensor) -> tf.Tensor:
    """TensorFlow's own rounds √2 to float32 whatever the dtype."""
    return 0.5 * x * (1 + tf.math.erf(x / tf.constant(np.sqrt(2.0), x.dtype)))


def tanh_gelu(x: tf.Tensor) -> tf.Tensor:
    """½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))); TensorFlow's own rounds 0.044715 to float32 whatever the dtype."""
    return 0.5 * x * (1 + tf.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x * x * x)))


LAYERS: dict[str, Callable[[LayerFacts, Plan], keras.layers.Layer]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, plan: keras.layers.GlobalAveragePooling2D(dtype=plan.dtype),
    "flatten": flatten,
    "dense": dense,
    "batch_norm": BatchNorm,
    "layer_norm": layer_norm,
    "dropout": lambda row, plan: Masked(dtype=plan.dtype),
    "relu": activation(keras.activations.relu),
    "leaky_relu": lambda row, plan: activation(leaky_relu, slope=row.layer.slope)(row, plan),
    "elu": lambda row, plan: keras.layers.ELU(row.layer.alpha, dtype=plan.dtype),
    "tanh": activation(keras.activations.tanh),
    "sigmoid": activation(keras.activations.sigmoid),
    "softplus": activation(keras.activations.softplus),
    "gelu": gelu,
    "add": add,
    "concat": concat,
}
PARAMETERS = {("layer_norm", "scale"): "gamma", ("layer_norm", "shift"): "beta"}  # where Keras's name is another one


# --------------------------------------------------------------------------------------------------------- products


def rounded(bits: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """float32 with only so many fraction bits (of 23), to nearest, ties to even.

    On the bits themselves: there and back through another dtype is what a compiler may leave out.
    """
    dropped = 23 - bits

    def function(x: tf.Tensor) -> tf.Tensor:
        words = tf.bitcast(x, tf.uint32)
        odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(words, np.uint32(dropped)), np.uint32(1))
        words = words + np.uint32((1 << (dropped - 1)) - 1) + odd
        return tf.bitcast(tf.bitwise.bitwise_and(words, np.uint32(2**32 - (1 << dropped))), tf.float32)

    return function


def rounded_product(bits: int) -> Callable[[Product], Product]:
    """x, w ↦ R(x)·R(w), with R(dy) in the products of the way back."""
    factor = tf.grad_pass_through(rounded(bits))

    @tf.custom_gradient
    def product(y: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(y), rounded(bits)

    return lambda multiply: lambda x, w: product(multiply(factor(x), factor(w)))


Product = Callable[..., tf.Tensor]


def product_of(bits: int | None) -> Callable[[Product], Product]:
    """(The framework's product) → what takes its place."""
    return rounded_product(bits) if bits else lambda multiply: multiply
