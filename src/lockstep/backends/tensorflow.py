"""The TensorFlow backend: Keras layers under one `tf.function` that takes a whole epoch.

Keras's own BatchNormalization, Dropout and Adam mean other things than the canonical ones (a biased running variance,
another mask, epsilon-hat), so these three are written here in TensorFlow's own operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lockstep.backends.base import PREDICT_BATCH, Arrays, Chunk, Plan, chunks, single_step
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts

# ----------------------------------------------------------------------------------------------------------- layers


class BatchNorm(keras.layers.Layer):
    """The canonical batch normalisation: Keras's own averages the biased variance."""

    def __init__(self, row: LayerFacts, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.row = row

    def build(self, shape: Any) -> None:
        """Make scale, shift and the running statistics."""
        channels = (shape[-1],)
        self.scale = self.add_weight(shape=channels, initializer="ones", name="scale")
        self.shift = self.add_weight(shape=channels, initializer="zeros", name="shift")
        self.running_mean = self.add_weight(shape=channels, initializer="zeros", trainable=False, name="mean")
        self.running_variance = self.add_weight(shape=channels, initializer="ones", trainable=False, name="variance")

    def call(self, x: tf.Tensor, training: bool, observed: bool) -> tf.Tensor:
        """Normalise; `observed` leaves the running statistics as they are."""
        mean, variance = self.running_mean.value, self.running_variance.value
        if training:
            axes = list(range(len(x.shape) - 1))
            batch_mean, batch_variance = tf.nn.moments(x, axes)
            n = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
            unbiased = batch_variance * (n / tf.maximum(n - 1, 1))
            if not observed:
                mean.assign_add(self.row.layer.momentum * (batch_mean - mean))
                variance.assign_add(self.row.layer.momentum * (unbiased - variance))
            mean, variance = batch_mean, batch_variance
        inverse = self.scale.value * tf.math.rsqrt(variance + self.row.layer.epsilon)
        return (x - mean) * inverse + self.shift.value


class Masked(keras.layers.Layer):
    """Dropout by a mask that was decided outside: Keras's own would draw another one."""

    def call(self, x: tf.Tensor, mask: tf.Tensor | None = None) -> tf.Tensor:
        """Multiply by the mask where there is one."""
        return x if mask is None else x * mask


def conv2d(row: LayerFacts, dtype: str) -> keras.layers.Layer:
    """Keras's own; `same` means what it means canonically."""
    layer = row.layer
    return keras.layers.Conv2D(
        layer.filters, layer.kernel, layer.stride, layer.padding, use_bias=layer.bias, dtype=dtype
    )


def pool(made: type) -> Callable[[LayerFacts, str], keras.layers.Layer]:
    """Keras's own pooling layer for a record."""
    return lambda row, dtype: made(*row.layer.window(), padding=row.layer.padding, dtype=dtype)


def activation(function: Callable[..., tf.Tensor], **named: Any) -> Callable[[LayerFacts, str], keras.layers.Layer]:
    """A Keras layer around a function."""
    return lambda row, dtype: keras.layers.Activation(lambda x: function(x, **named), dtype=dtype)


def leaky_relu(x: tf.Tensor, slope: float) -> tf.Tensor:
    """TensorFlow's own rounds the slope to float32 whatever the dtype."""
    return tf.where(x > 0, x, slope * x)


def gelu(x: tf.Tensor) -> tf.Tensor:
    """TensorFlow's own rounds √2 to float32 whatever the dtype."""
    return 0.5 * x * (1 + tf.math.erf(x / tf.constant(np.sqrt(2.0), x.dtype)))


LAYERS: dict[str, Callable[[LayerFacts, str], keras.layers.Layer]] = {
    "conv2d": conv2d,
    "max_pool2d": pool(keras.layers.MaxPooling2D),
    "avg_pool2d": pool(keras.layers.AveragePooling2D),
    "global_avg_pool": lambda row, dtype: keras.layers.GlobalAveragePooling2D(dtype=dtype),
    "flatten": lambda row, dtype: keras.layers.Flatten(dtype=dtype),
    "dense": lambda row, dtype: keras.layers.Dense(row.layer.units, use_bias=row.layer.bias, dtype=dtype),
    "batch_norm": lambda row, dtype: BatchNorm(row, dtype),
    "dropout": lambda row, dtype: Masked(dtype=dtype),
    "relu": activation(keras.activations.relu),
    "leaky_relu": lambda row, dtype: activation(leaky_relu, slope=row.layer.slope)(row, dtype),
    "elu": lambda row, dtype: keras.layers.ELU(row.layer.alpha, dtype=dtype),
    "tanh": activation(keras.activations.tanh),
    "sigmoid": activation(keras.activations.sigmoid),
    "softplus": activation(keras.activations.softplus),
    "gelu": activation(gelu),
}


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean softmax cross-entropy from logits."""
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, z))


def mean_squared_error(z: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean over batch and classes."""
    return tf.reduce_mean(tf.square(z - targets))


LOSSES = {"cross_entropy": cross_entropy, "mean_squared_error": mean_squared_error}


# ------------------------------------------------------------------------------------------------------- optimizers
# (record, learning rate, 1/√(1−β₂ᵗ) and 1/(1−β₁ᵗ) of this update, w, g, *slots): assigns to variables in place. The
# fused kernels of TensorFlow are epsilon-hat (Adam), have epsilon inside the root (RMSprop), or work out 1 − β in
# float32, which is 1e-5 off for β₂ = .999.


def sgd(o: Any, rate: tf.Tensor, corrections: Any, w: tf.Variable, g: tf.Tensor) -> None:
    """w ← w − lr·g."""
    w.assign_sub(rate * g)


def momentum(o: Any, rate: tf.Tensor, corrections: Any, w: tf.Variable, g: tf.Tensor, b: tf.Variable) -> None:
    """b ← μ·b + g; w ← w − lr·b."""
    w.assign_sub(rate * b.assign(o.momentum * b + g))


def nesterov(o: Any, rate: tf.Tensor, corrections: Any, w: tf.Variable, g: tf.Tensor, b: tf.Variable) -> None:
    """b ← μ·b + g; w ← w − lr·(g + μ·b)."""
    w.assign_sub(rate * (g + o.momentum * b.assign(o.momentum * b + g)))


def adam(
    o: Any, rate: tf.Tensor, corrections: Any, w: tf.Variable, g: tf.Tensor, m: tf.Variable, v: tf.Variable
) -> None:
    """m ← β₁·m + (1−β₁)·g; v ← β₂·v + (1−β₂)·g²; w ← w − lr·m̂/(√v̂ + ε)."""
    first, root_of_second = corrections
    m.assign(o.beta1 * m + (1 - o.beta1) * g)
    v.assign(o.beta2 * v + (1 - o.beta2) * tf.square(g))
    w.assign_sub((rate * first) * m / (tf.sqrt(v) * root_of_second + o.epsilon))


def rmsprop(o: Any, rate: tf.Tensor, corrections: Any, w: tf.Variable, g: tf.Tensor, s: tf.Variable) -> None:
    """s ← ρ·s + (1−ρ)·g²; w ← w − lr·g/(√s + ε)."""
    s.assign(o.rho * s + (1 - o.rho) * tf.square(g))
    w.assign_sub(rate * g / (tf.sqrt(s) + o.epsilon))


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
    """See `lockstep.backends.base.Model`."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Make the layers, the slots and the functions; nothing is traced yet."""
        keras.config.set_image_data_format("channels_last")  # a user's keras.json may say otherwise
        tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 means float32, on a GPU too
        self.plan, self.device, self.dtype = plan, _device(plan.device), tf.as_dtype(plan.dtype)
        self.slot_names, self.optimizer = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.loss = LOSSES[plan.recipe.loss]
        with tf.device(self.device):
            self.mean, self.scale = tf.constant(plan.mean, self.dtype), tf.constant(plan.scale, self.dtype)
            self.layers = {row.name: LAYERS[row.layer.kind](row, plan.dtype) for row in plan.rows}
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
        self._compiled: dict[int, Any] = {}
        self._infer = tf.function(
            lambda images: self._forward(images, plan.fast_rows, training=False),
            input_signature=(tf.TensorSpec((None, *plan.input_shape), tf.uint8),),
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
        starts = range(0, len(images), PREDICT_BATCH)
        with tf.device(self.device):
            return np.concatenate([self._infer(tf.constant(images[i : i + PREDICT_BATCH])).numpy() for i in starts])

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update."""
        placed = getattr(self, "images", None), getattr(self, "labels", None)
        self.place(images, labels)
        losses = self._run(single_step(self.plan, len(images), self.taken))
        self.images, self.labels = placed
        return float(losses[0, 0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """Every layer's output."""
        return {name: y.numpy() for name, y in self._observe(images, training).items()}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays]:
        """Loss and every gradient."""
        with tf.GradientTape() as tape:
            seen = self._observe(images, training=True, watch=tape.watch)
            *_, logits = seen.values()
            loss = self.loss(logits, self._targets(tf.constant(labels)))
        parameters, outputs = tape.gradient(loss, (list(self.parameters.values()), list(seen.values())))
        parameters = self._add_l2(dict(zip(self.parameters, parameters, strict=True)))
        return (
            float(loss),
            {name: value.numpy() for name, value in parameters.items()},
            {name: value.numpy() for name, value in zip(seen, outputs, strict=True)},
        )

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
        o, dtype = self.plan.recipe.optimizer, self.plan.dtype
        corrections = np.ones((2, len(chunk.rates)))
        if "first_moment" in self.slot_names:
            corrections = np.stack([1 / (1 - o.beta1**chunk.numbers), 1 / np.sqrt(1 - o.beta2**chunk.numbers)])
        table = np.concatenate([chunk.rates[None], corrections]).T.astype(dtype)
        with tf.device(self.device):
            masks = {name: tf.constant(mask) for name, mask in chunk.masks.items()}
            indices = tf.constant(chunk.indices)
            losses, correct = self._epoch(chunk)(self.images, self.labels, indices, tf.constant(table), masks)
        self.taken += len(chunk.rates)
        return np.stack([losses.numpy().astype(np.float64), correct.numpy().astype(np.float64)])

    def _epoch(self, chunk: Chunk) -> Any:
        """The compiled steps for this batch size, whatever their number: the warm-up's few and an epoch's many."""
        batch = chunk.indices.shape[1]
        if batch not in self._compiled:
            free = {name: tf.TensorSpec((None, *mask.shape[1:]), self.dtype) for name, mask in chunk.masks.items()}
            self._compiled[batch] = tf.function(
                self._steps,
                input_signature=(
                    tf.TensorSpec((None, *self.plan.input_shape), tf.uint8),
                    tf.TensorSpec((None,), tf.int32),
                    tf.TensorSpec((None, batch), tf.int32),
                    tf.TensorSpec((None, 3), self.dtype),
                    free,
                ),
            )
        return self._compiled[batch]

    def _steps(self, images: Any, labels: Any, indices: Any, table: Any, masks: dict[str, Any]) -> Any:
        """All steps of a chunk inside one graph."""
        n = tf.shape(indices)[0]
        losses = tf.TensorArray(self.dtype, n)
        correct = tf.TensorArray(tf.int32, n)
        for i in tf.range(n):
            mask = {name: value[i] for name, value in masks.items()}
            loss, right = self._step(tf.gather(images, indices[i]), tf.gather(labels, indices[i]), table[i], mask)
            losses, correct = losses.write(i, loss), correct.write(i, right)
        return losses.stack(), correct.stack()

    def _step(self, images: Any, labels: Any, numbers: Any, masks: dict[str, Any]) -> Any:
        with tf.GradientTape() as tape:
            logits = self._forward(images, self.plan.fast_rows, True, masks)
            loss = self.loss(logits, self._targets(labels))
        found = tape.gradient(loss, list(self.parameters.values()))
        gradients = self._clip(self._add_l2(dict(zip(self.parameters, found, strict=True))))
        self._update(gradients, numbers[0], (numbers[1], numbers[2]))
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.int32))
        return loss, right

    def _forward(
        self,
        images: Any,
        rows: list[LayerFacts],
        training: bool,
        masks: dict[str, Any] | None = None,
        observed: Callable[[str, Any], None] | None = None,
    ) -> Any:
        """Logits; `observed` is shown every layer's output, and then the running statistics stay as they are."""
        x = (tf.cast(images, self.dtype) - self.mean) * self.scale
        for row in rows:
            layer = self.layers[row.name]
            if row.layer.kind == "batch_norm":
                x = layer.call(x, training, observed is not None)
            elif row.layer.kind == "dropout":
                x = layer.call(x, (masks or {}).get(row.name))
            else:
                x = layer(x)
            if observed:
                observed(row.name, x)
        return x

    def _observe(self, images: np.ndarray, training: bool, watch: Callable[[Any], None] = lambda y: None) -> Any:
        outputs: dict[str, Any] = {}

        def keep(name: str, y: Any) -> None:
            watch(y)
            outputs[name] = y

        masks = {name: tf.constant(mask) for name, mask in self.plan.masks(self.taken, len(images)).items()}
        with tf.device(self.device):
            self._forward(tf.constant(images), self.plan.rows, training, masks if training else None, keep)
        return outputs

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
        """g ← g·min(1, c/‖g‖) with the norm over all parameters together."""
        if limit := self.plan.recipe.clip_norm:
            clipped, _ = tf.clip_by_global_norm(list(gradients.values()), limit)
            return dict(zip(gradients, clipped, strict=True))
        return gradients

    def _update(self, gradients: dict[str, Any], rate: Any, corrections: Any) -> None:
        o = self.plan.recipe.optimizer
        for name, w in self.parameters.items():
            if o.kind == "adamw" and name in self.plan.decayed:
                w.assign(w * (1 - rate * o.weight_decay))
            slots = [self.slots[f"{name}/{slot}"] for slot in self.slot_names]
            self.optimizer(o, rate, corrections, w, gradients[name], *slots)

    def _variable(self, name: str) -> tf.Variable:
        layer, parameter = name.split("/")
        return getattr(self.layers[layer], parameter).value


def _device(name: str) -> str:
    if not tf.config.list_logical_devices("GPU") and name == "cuda":
        hint = 'use device = "cpu", or install a TensorFlow with CUDA'
        raise LockstepError("LS-404", "TensorFlow finds no CUDA device", where="backend tensorflow", hint=hint)
    return "/GPU:0" if name == "cuda" else "/CPU:0"


def build(plan: Plan, weights: Arrays) -> Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)
