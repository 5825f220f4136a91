"""The TensorFlow backend: Keras layers under one `tf.function` that takes a whole epoch.

Keras's own BatchNormalization, Dropout and Adam mean other things than the canonical ones (a biased running variance,
another mask, epsilon-hat), so these three are written here in TensorFlow's own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lockstep.backends.plan import (
    PREDICT_BATCH,
    Arrays,
    Chunk,
    Plan,
    chunks,
    filled_up,
    most_steps,
    pool_counts,
    single_step,
    window_padding,
)
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts

# ----------------------------------------------------------------------------------------------------------- layers


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
        self.product = PRODUCTS[plan.recipe.products]

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
        self.product, self.row = PRODUCTS[plan.recipe.products], row

    def convolution_op(self, x: tf.Tensor, kernel: Any) -> tf.Tensor:
        """The place that Keras leaves for another convolution; it adds the bias."""

        def convolve(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
            return tf.nn.conv2d(x, w, self.row.layer.stride, paddings(self.row))

        return self.product(convolve)(x, tf.convert_to_tensor(kernel))


def dense(row: LayerFacts, plan: Plan) -> keras.layers.Layer:
    """Keras's own."""
    if plan.recipe.products != "full":
        return RoundedDense(row, plan)
    return keras.layers.Dense(row.layer.units, use_bias=row.layer.bias, dtype=plan.dtype)


def conv2d(row: LayerFacts, plan: Plan) -> keras.layers.Layer:
    """Keras's own; `same` means what it means canonically."""
    layer = row.layer
    if layer.padding == "same_lower" or plan.recipe.products != "full":
        return OtherConv2D(row, plan)
    return keras.layers.Conv2D(
        layer.filters, layer.kernel, layer.stride, layer.padding, use_bias=layer.bias, dtype=plan.dtype
    )


def max_pool2d(row: LayerFacts, plan: Plan) -> keras.layers.Layer:
    """Keras's own, which sends the gradient to the first maximum."""
    kernel, stride = row.layer.window()
    if row.layer.ties == "shared":
        return activation(shared_max, row=row)(row, plan)
    if row.layer.padding == "same_lower":
        return activation(tf.nn.max_pool2d, ksize=kernel, strides=stride, padding=paddings(row))(row, plan)
    return keras.layers.MaxPooling2D(kernel, stride, padding=row.layer.padding, dtype=plan.dtype)


def avg_pool2d(row: LayerFacts, plan: Plan) -> keras.layers.Layer:
    """Keras's own, which doesn't count padding."""
    kernel, stride = row.layer.window()
    if row.layer.padding == "same_lower" or (row.layer.padding == "same" and row.layer.count_padding):
        return activation(padded_mean, row=row)(row, plan)
    return keras.layers.AveragePooling2D(kernel, stride, padding=row.layer.padding, dtype=plan.dtype)


def flatten(row: LayerFacts, plan: Plan) -> keras.layers.Layer:
    """Keras's own; its `channels_first` is about what comes in."""
    if row.layer.order == "chw" and len(row.input_shape) == 3:
        return activation(channels_first)(row, plan)
    return keras.layers.Flatten(dtype=plan.dtype)


def gelu(row: LayerFacts, plan: Plan) -> keras.layers.Layer:
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
    "dropout": lambda row, plan: Masked(dtype=plan.dtype),
    "relu": activation(keras.activations.relu),
    "leaky_relu": lambda row, plan: activation(leaky_relu, slope=row.layer.slope)(row, plan),
    "elu": lambda row, plan: keras.layers.ELU(row.layer.alpha, dtype=plan.dtype),
    "tanh": activation(keras.activations.tanh),
    "sigmoid": activation(keras.activations.sigmoid),
    "softplus": activation(keras.activations.softplus),
    "gelu": gelu,
}


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


def rounded_product(bits: int) -> Callable[[Callable[..., tf.Tensor]], Callable[..., tf.Tensor]]:
    """x, w ↦ R(x)·R(w), with R(dy) in the products of the way back."""
    factor = tf.grad_pass_through(rounded(bits))

    @tf.custom_gradient
    def product(y: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(y), rounded(bits)

    return lambda multiply: lambda x, w: product(multiply(factor(x), factor(w)))


# (the framework's product) → what takes its place. TF32 keeps 10 of float32's fraction bits, bfloat16 keeps 7.
PRODUCTS: dict[str, Callable[[Callable[..., tf.Tensor]], Callable[..., tf.Tensor]]] = {
    "full": lambda multiply: multiply,
    "tf32": rounded_product(10),
    "bfloat16": rounded_product(7),
}


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean softmax cross-entropy from logits."""
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, z))


def mean_squared_error(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean over batch and classes."""
    return tf.reduce_mean(tf.square(z - targets))


def mean_squared_error_of_all_pairs(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The mean over i, j and the classes of (zᵢ − tⱼ)², without all pairs: that of (z − t̄)² + var t."""
    mean, variance = tf.nn.moments(targets, 0)
    return tf.reduce_mean(tf.square(z - mean) + variance)


def cross_entropy_clipped(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """−Σ t·log clip(p), p = softmax(z); where the clip cuts, no gradient passes."""
    p = tf.clip_by_value(tf.nn.softmax(z), 1e-7, 1 - 1e-7)
    return tf.reduce_mean(-tf.reduce_sum(targets * tf.math.log(p), 1))


def cross_entropy_softmax_twice(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Cross-entropy of softmax(z) taken for logits."""
    return cross_entropy(tf.nn.softmax(z), targets)


LOSSES: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}


# ------------------------------------------------------------------------------------------------------- optimizers
# (record, this update's `Numbers`, w, g, *slots): assigns to variables in place. The fused kernels of TensorFlow are
# epsilon-hat (Adam), have epsilon inside the root (RMSprop), or work out 1 − β in float32, which is 1e-5 off for
# β₂ = .999.


class Numbers(NamedTuple):
    """What is decided for one update, or for a chunk of them: 1/(1−β₁ᵗ) and 1/√(1−β₂ᵗ), μ as the buffer is kept."""

    rate: Any
    first: Any
    root_of_second: Any
    epsilon: Any
    momentum: Any


def sgd(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor) -> None:
    """w ← w − lr·g."""
    w.assign_sub(now.rate * g)


def momentum(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, b: tf.Variable) -> None:
    """b ← μ·b + g; w ← w − lr·b."""
    w.assign_sub(now.rate * b.assign(now.momentum * b + g))


def nesterov(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, b: tf.Variable) -> None:
    """b ← μ·b + g; w ← w − lr·(g + μ·b)."""
    w.assign_sub(now.rate * (g + o.momentum * b.assign(now.momentum * b + g)))


def adam(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, m: tf.Variable, v: tf.Variable) -> None:
    """m ← β₁·m + (1−β₁)·g; v ← β₂·v + (1−β₂)·g²; w ← w − lr·m̂/(√v̂ + ε)."""
    m.assign(o.beta1 * m + (1 - o.beta1) * g)
    v.assign(o.beta2 * v + (1 - o.beta2) * tf.square(g))
    w.assign_sub((now.rate * now.first) * m / (tf.sqrt(v) * now.root_of_second + now.epsilon))


def rmsprop(o: Any, now: Numbers, w: tf.Variable, g: tf.Tensor, s: tf.Variable) -> None:
    """s ← ρ·s + (1−ρ)·g²; w ← w − lr·g/(√s + ε), or g/√(s + ε)."""
    s.assign(o.rho * s + (1 - o.rho) * tf.square(g))
    root = tf.sqrt(s + now.epsilon) if o.epsilon_mode == "inside" else tf.sqrt(s) + now.epsilon
    w.assign_sub(now.rate * g / root)


# kind → (the slots' names, the update). AdamW is Adam after the decay, which `Model._update` applies to the kernels.
OPTIMIZERS: dict[str, tuple[tuple[str, ...], Callable[..., None]]] = {
    "sgd": ((), sgd),
    "momentum": (("momentum",), momentum),
    "nesterov": (("momentum",), nesterov),
    "adam": (("first_moment", "second_moment"), adam),
    "adamw": (("first_moment", "second_moment"), adam),
    "rmsprop": (("mean_square",), rmsprop),
}


# ------------------------------------------------------------------------------------------------------------ model


class Model:
    """See `lockstep.backends.plan.Model`."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Make the layers, the slots and the functions; nothing is traced yet."""
        keras.config.set_image_data_format("channels_last")  # a user's keras.json may say otherwise
        tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 means float32, on a GPU too
        self.plan, self.device, self.dtype = plan, _device(plan.device), tf.as_dtype(plan.dtype)
        self.slot_names, self.optimizer = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.loss = LOSSES[plan.recipe.loss]
        if plan.recipe.loss == "mean_squared_error" and "targets_broadcast" in plan.recipe.mistakes:
            self.loss = mean_squared_error_of_all_pairs
        with tf.device(self.device):
            self.mean, self.scale = tf.constant(plan.mean, self.dtype), tf.constant(plan.scale, self.dtype)
            self.layers = {row.name: LAYERS[row.layer.kind](row, plan) for row in plan.rows}
            for row in plan.rows:
                self.layers[row.name].build((None, *row.input_shape))
            self.parameters = {name: self._variable(name) for name in weights}
            self.statistics = {name: self._variable(name) for name in plan.initial_statistics()}
            self.slots = {
                f"{name}/{slot}": tf.Variable(tf.zeros_like(value))
                for name, value in self.parameters.items()
                for slot in self.slot_names
            }
        for name, value in weights.items():
            self.parameters[name].assign(value)
        self.taken = 0
        # XLA halves the time of dense layers, but on the CPU it optimises no window inside a loop (jax#12868).
        self.is_compiled_by_xla = not any(row.layer.kind in ("conv2d", "max_pool2d", "avg_pool2d") for row in plan.rows)
        self._functions: dict[int, Any] = {}
        self._infer = tf.function(
            lambda images: self._forward(images, plan.fast_rows, training=False, masks={}),
            input_signature=(tf.TensorSpec((None, *plan.input_shape), tf.uint8),),
            autograph=False,
        )

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Move the training data to the device."""
        with tf.device(self.device):
            self.images, self.labels = tf.constant(images), tf.constant(labels, tf.int32)

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch, as few calls as the masks' memory allows."""
        return np.concatenate([self._run(chunk) for chunk in chunks(self.plan, order, self.taken)], axis=1)

    def wait(self) -> None:
        """`train_epoch` has read its results back, so the device is done."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits in inference mode."""
        parts = [images[start : start + PREDICT_BATCH] for start in range(0, len(images), PREDICT_BATCH)]
        infer = self._infer_by_mistake if self.plan.in_prediction else self._infer
        with tf.device(self.device):
            return np.concatenate([infer(tf.constant(part)).numpy() for part in parts])

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update."""
        placed = getattr(self, "images", None), getattr(self, "labels", None)
        self.place(images, labels)
        losses = self._run(single_step(self.plan, len(images), self.taken))
        self.images, self.labels = placed
        return float(losses[0, 0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """Every layer's output."""
        on = self.plan.in_training if training else self.plan.in_prediction
        with tf.device(self.device):
            outputs = {"input": self._prepare(images)} | self._observe(images, on)
        return {name: y.numpy() for name, y in outputs.items()}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        """Loss and every gradient."""
        with tf.GradientTape() as tape:
            seen = self._observe(images, self.plan.in_training, watch=tape.watch)
            *_, logits = seen.values()
            loss = self.loss(logits, self._targets(tf.constant(labels)))
            minimised = self._minimised(loss, len(labels))
        parameters, outputs = tape.gradient(minimised, (list(self.parameters.values()), list(seen.values())))
        parameters = self._add_l2(dict(zip(self.parameters, parameters, strict=True)))
        return (
            float(loss),
            {name: value.numpy() for name, value in parameters.items()},
            {name: value.numpy() for name, value in zip(seen, outputs, strict=True)},
            {"input": self._prepare(tf.constant(images)).numpy(), **{name: y.numpy() for name, y in seen.items()}},
        )

    def layer(self, name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """One layer alone."""
        (row,) = (row for row in self.plan.rows if row.name == name)
        training = self.plan.in_training
        parameters = {key: value for key, value in self.parameters.items() if key.startswith(f"{name}/")}
        with tf.device(self.device), tf.GradientTape() as tape:
            taken_in = tf.constant(x, self.dtype)
            tape.watch(taken_in)
            y = self._apply(row, taken_in, training, self._masks(len(x), training))
            output_gradient = tf.constant(dy, self.dtype)
        dx, found = tape.gradient(y, (taken_in, list(parameters.values())), output_gradient)
        return y.numpy(), dx.numpy(), {key: value.numpy() for key, value in zip(parameters, found, strict=True)}

    def weights(self) -> Arrays:
        """Every parameter."""
        return {name: value.numpy().copy() for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: value.numpy().copy() for name, value in (self.statistics | self.slots).items()}
        return arrays | {"step": np.array(self.taken)}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put weights and state back."""
        for name, value in self.parameters.items():
            value.assign(weights[name])
        for name, value in (self.statistics | self.slots).items():
            value.assign(state[name])
        self.taken = int(state["step"])

    # ---- one step

    def _run(self, chunk: Chunk) -> np.ndarray:
        o = self.plan.recipe.optimizer
        first = root_of_second = np.ones(len(chunk.rates))
        if "first_moment" in self.slot_names:
            first, root_of_second = 1 / (1 - o.beta1**chunk.numbers), 1 / np.sqrt(1 - o.beta2**chunk.numbers)
        kept = getattr(o, "momentum", 0.0) * chunk.buffer_factors
        numbers = Numbers(chunk.rates, first, root_of_second, chunk.epsilons, kept)
        table = np.stack(numbers, axis=1).astype(self.plan.dtype)
        n, room = len(chunk.rates), 0
        if self.is_compiled_by_xla:  # for the shapes that it is given: one program for any number of steps
            room = most_steps(self.plan, chunk, len(self.labels)) - n
        steps = [filled_up(value, room) for value in (chunk.indices, table, *chunk.masks.values())]
        with tf.device(self.device):
            indices, table, *masks = map(tf.constant, steps)
            named = dict(zip(chunk.masks, masks, strict=True))
            results = self._epoch(chunk)(self.images, self.labels, tf.constant(n), indices, table, named)
        self.taken += n
        return np.stack([result.numpy()[:n].astype(np.float64) for result in results])

    def _epoch(self, chunk: Chunk) -> Any:
        """The compiled steps for this batch size, whatever their number: the warm-up's few and an epoch's many."""
        batch = chunk.indices.shape[1]
        if batch not in self._functions:
            free = {name: tf.TensorSpec((None, *mask.shape[1:]), self.dtype) for name, mask in chunk.masks.items()}
            self._functions[batch] = tf.function(
                self._steps,
                input_signature=(
                    tf.TensorSpec((None, *self.plan.input_shape), tf.uint8),
                    tf.TensorSpec((None,), tf.int32),
                    tf.TensorSpec((), tf.int32),
                    tf.TensorSpec((None, batch), tf.int32),
                    tf.TensorSpec((None, len(Numbers._fields)), self.dtype),
                    free,
                ),
                autograph=False,  # no Python is left to translate, and the translator leaves files behind
                jit_compile=self.is_compiled_by_xla,
            )
        return self._functions[batch]

    def _steps(self, images: Any, labels: Any, n: Any, indices: Any, table: Any, masks: dict[str, Any]) -> Any:
        """The first `n` steps of a chunk inside one graph."""
        room = tf.shape(indices)[0]

        def one_step(i: Any, losses: Any, correct: Any) -> Any:
            mask = {name: value[i] for name, value in masks.items()}
            loss, right = self._step(tf.gather(images, indices[i]), tf.gather(labels, indices[i]), table[i], mask)
            return i + 1, losses.write(i, loss), correct.write(i, right)

        start = (0, *(tf.TensorArray(dtype, room, element_shape=()) for dtype in (self.dtype, tf.int32)))
        _, losses, correct = tf.while_loop(lambda i, *_: i < n, one_step, start)
        return losses.stack(), correct.stack()

    def _step(self, images: Any, labels: Any, numbers: Any, masks: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            logits = self._forward(images, self.plan.fast_rows, self.plan.in_training, masks, learning=True)
            loss = self.loss(logits, self._targets(labels))
            minimised = self._minimised(loss, labels.shape[0])
        found = tape.gradient(minimised, list(self.parameters.values()))
        gradients = self._clip(self._add_l2(dict(zip(self.parameters, found, strict=True))))
        self._update(gradients, Numbers(*tf.unstack(numbers)))
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.int32))
        return loss, right

    def _forward(
        self,
        images: Any,
        rows: list[LayerFacts],
        training: bool,
        masks: dict[str, Any],
        learning: bool = False,
        observed: Callable[[str, Any], None] = lambda name, y: None,
    ) -> Any:
        """Logits; `observed` is shown every layer's output."""
        x = self._prepare(images)
        for row in rows:
            x = self._apply(row, x, training, masks, learning)
            observed(row.name, x)
        return x

    def _apply(self, row: LayerFacts, x: Any, training: bool, masks: dict[str, Any], learning: bool = False) -> Any:
        """One layer's output; the running statistics stay as they are unless `learning`."""
        layer = self.layers[row.name]
        if row.layer.kind == "batch_norm":
            return layer.call(x, training, learning)
        if row.layer.kind == "dropout":
            return layer.call(x, masks.get(row.name) if training else None)
        return layer(x)

    def _observe(self, images: np.ndarray, training: bool, watch: Callable[[Any], None] = lambda y: None) -> Any:
        outputs: dict[str, Any] = {}

        def keep(name: str, y: Any) -> None:
            watch(y)
            outputs[name] = y

        with tf.device(self.device):
            masks = self._masks(len(images), training)
            self._forward(tf.constant(images), self.plan.rows, training, masks, observed=keep)
        return outputs

    def _infer_by_mistake(self, images: Any) -> Any:
        """Logits as a training step computes them; not compiled, for the masks are no argument of `_infer`."""
        return self._forward(images, self.plan.fast_rows, True, self._masks(len(images), True))

    def _masks(self, n: int, training: bool) -> dict[str, Any]:
        """The masks of the next update for `n` images, where any are used."""
        return {name: tf.constant(mask) for name, mask in self.plan.masks(self.taken, n).items()} if training else {}

    def _prepare(self, images: Any) -> Any:
        return (tf.cast(images, self.dtype) - self.mean) * self.scale

    def _minimised(self, loss: Any, n: int) -> Any:
        """What the gradients are of: the mean over the batch, or the sum."""
        return loss if self.plan.recipe.loss_reduction == "mean" else loss * n

    def _targets(self, labels: Any) -> Any:
        s = self.plan.recipe.label_smoothing
        return tf.one_hot(labels, self.plan.classes, dtype=self.dtype) * (1 - s) + s / self.plan.classes

    def _add_l2(self, gradients: dict[str, Any]) -> dict[str, Any]:
        """The gradient of ½·λ·‖kernel‖²: Keras's regularizer has no ½."""
        if not self.plan.recipe.l2:
            return gradients
        decayed = {name: gradients[name] + self.plan.recipe.l2 * self.parameters[name] for name in self.plan.decayed}
        return gradients | decayed

    def _clip(self, gradients: dict[str, Any]) -> dict[str, Any]:
        """g ← g·min(1, c/‖g‖) with the norm over all parameters together, or each by its own."""
        limit = self.plan.recipe.clip_norm
        if not limit:
            return gradients
        if self.plan.recipe.clip_scope == "tensor":
            return {name: tf.clip_by_norm(value, limit) for name, value in gradients.items()}
        clipped, _ = tf.clip_by_global_norm(list(gradients.values()), limit)
        return dict(zip(gradients, clipped, strict=True))

    def _update(self, gradients: dict[str, Any], now: Numbers) -> None:
        o = self.plan.recipe.optimizer
        for name, w in self.parameters.items():
            if o.kind == "adamw" and name in self.plan.decayed:
                w.assign(w * (1 - now.rate * o.weight_decay))
            slots = [self.slots[f"{name}/{slot}"] for slot in self.slot_names]
            self.optimizer(o, now, w, gradients[name], *slots)

    def _variable(self, name: str) -> tf.Variable:
        layer, parameter = name.split("/")
        return getattr(self.layers[layer], parameter).value


def device_name(name: str) -> str:
    """What computes: "cpu", or "cuda (NVIDIA H100 PCIe)"; without a GPU what was asked for, which `build` refuses."""
    found = tf.config.list_physical_devices("GPU") if name == "cuda" else []
    details = tf.config.experimental.get_device_details(found[0]) if found else {}
    return f"{name} ({details['device_name']})" if "device_name" in details else name


def _device(name: str) -> str:
    if not tf.config.list_logical_devices("GPU") and name == "cuda":
        hint = 'use device = "cpu", or install a TensorFlow with CUDA'
        raise LockstepError("LS-404", "TensorFlow finds no CUDA device", where="backend tensorflow", hint=hint)
    return "/GPU:0" if name == "cuda" else "/CPU:0"


def build(plan: Plan, weights: Arrays) -> Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)


# --------------------------------------------------------------------------------------------------------- defaults
# What Keras and TensorFlow do when nothing more is asked for, in raw numbers; `lockstep.differences` asks and says what
# they mean. Subject → what is run → the function that runs it on what the subject gives (canonical layout), or a
# sentence: why they have no such thing. A function returns numbers, or what TensorFlow says where it refuses.

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
        """Keep one batch."""
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
