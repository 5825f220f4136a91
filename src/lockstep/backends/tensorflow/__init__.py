"""The TensorFlow backend: Keras layers under one `tf.function` that takes a whole epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lockstep.backends import contract
from lockstep.backends.chunks import Chunk, chunks, filled_up, most_steps, prediction_batches, single_step
from lockstep.backends.plan import Arrays, Plan, Taken
from lockstep.backends.tensorflow.layers import LAYERS, PARAMETERS
from lockstep.backends.tensorflow.losses import LOSSES
from lockstep.backends.tensorflow.optimizers import OPTIMIZERS, Numbers
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts


class Model:
    """See `lockstep.backends.contract`."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Make the layers, the slots and the functions; nothing is traced yet."""
        keras.config.set_image_data_format("channels_last")  # a user's keras.json may say otherwise
        tf.config.experimental.enable_tensor_float_32_execution(False)  # float32 means float32, on a GPU too
        self.plan, self.device, self.dtype = plan, _device(plan.device), tf.as_dtype(plan.dtype)
        self.slot_names, self.optimizer = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.loss = LOSSES[plan.loss]
        with tf.device(self.device):
            self.mean, self.scale = tf.constant(plan.mean, self.dtype), tf.constant(plan.scale, self.dtype)
            self.layers = {row.name: LAYERS[row.layer.kind](row, plan) for row in plan.rows}
            for row in plan.rows:
                shapes = [(None, *shape) for shape in row.input_shapes]
                self.layers[row.name].build(shapes if len(shapes) > 1 else shapes[0])
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
            lambda images: self._logits(images, training=False, masks={}),
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
        parts = prediction_batches(images)
        infer = self._infer_by_mistake if self.plan.in_prediction else self._infer
        with tf.device(self.device):
            return np.concatenate([infer(tf.constant(part)).numpy() for part in parts])

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        placed = getattr(self, "images", None), getattr(self, "labels", None)
        self.place(images, labels)
        losses = self._run(single_step(self.plan, len(images), self.taken))
        self.images, self.labels = placed
        return float(losses[0, 0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        on = self.plan.in_training if training else self.plan.in_prediction
        return {name: y.numpy() for name, y in self._observe(images, on).items()}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        with tf.GradientTape() as tape:
            entered, *seen = self._observe(images, self.plan.in_training, watch=tape.watch).items()
            logits = seen[-1][1]
            loss = self.loss(logits, self._targets(tf.constant(labels)))
            minimised = self.plan.minimised(loss, len(labels))
        parameters, outputs = tape.gradient(minimised, (list(self.parameters.values()), [y for _, y in seen]))
        parameters = self._add_l2(dict(zip(self.parameters, parameters, strict=True)))
        return (
            float(loss),
            {name: value.numpy() for name, value in parameters.items()},
            {name: value.numpy() for (name, _), value in zip(seen, outputs, strict=True)},
            {name: y.numpy() for name, y in (entered, *seen)},
        )

    def layer(self, name: str, x: Taken, dy: np.ndarray) -> tuple[np.ndarray, Taken, Arrays]:
        row, training = self.plan.row(name), self.plan.in_training
        parameters = {key: value for key, value in self.parameters.items() if key.startswith(f"{name}/")}
        with tf.device(self.device), tf.GradientTape() as tape:
            taken_in = tf.nest.map_structure(lambda value: tf.constant(value, self.dtype), x)
            tape.watch(taken_in)
            y = self._apply(row, taken_in, training, self._masks(len(dy), training))
            output_gradient = tf.constant(dy, self.dtype)
        dx, found = tape.gradient(y, (taken_in, list(parameters.values())), output_gradient)
        sent = tf.nest.map_structure(lambda value: value.numpy(), dx)
        return y.numpy(), sent, {key: value.numpy() for key, value in zip(parameters, found, strict=True)}

    def weights(self) -> Arrays:
        return {name: value.numpy().copy() for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: value.numpy().copy() for name, value in (self.statistics | self.slots).items()}
        return arrays | {"step": np.array(self.taken)}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        for name, value in self.parameters.items():
            value.assign(weights[name])
        for name, value in (self.statistics | self.slots).items():
            value.assign(state[name])
        self.taken = int(state["step"])

    # ---- one step

    def _run(self, chunk: Chunk) -> np.ndarray:
        o: Any = self.plan.recipe.optimizer
        decided = chunk.numbers
        first = root_of_second = np.ones(len(decided.t))
        if "first_moment" in self.slot_names:
            first, root_of_second = 1 / (1 - o.beta1**decided.t), 1 / np.sqrt(1 - o.beta2**decided.t)
        kept = getattr(o, "momentum", 0.0) * decided.buffer_factor
        numbers = Numbers(decided.rate, first, root_of_second, decided.epsilon, kept)
        table = np.stack(numbers, axis=1).astype(self.plan.dtype)
        n, room = len(chunk.indices), 0
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
            logits = self._logits(images, self.plan.in_training, masks, learning=True)
            loss = self.loss(logits, self._targets(labels))
            minimised = self.plan.minimised(loss, labels.shape[0])
        found = tape.gradient(minimised, list(self.parameters.values()))
        gradients = self._clip(self._add_l2(dict(zip(self.parameters, found, strict=True))))
        self._update(gradients, Numbers(*tf.unstack(numbers)))
        right = tf.reduce_sum(tf.cast(tf.argmax(logits, 1, tf.int32) == labels, tf.int32))
        return loss, right

    def _logits(self, images: Any, training: bool, masks: dict[str, Any], learning: bool = False) -> Any:
        return self.plan.fast_walk.through(
            self._prepare(images), lambda row, x: self._apply(row, x, training, masks, learning)
        )

    def _apply(self, row: LayerFacts, x: Any, training: bool, masks: dict[str, Any], learning: bool = False) -> Any:
        """One layer's output; the running statistics stay as they are unless `learning`."""
        layer = self.layers[row.name]
        if row.layer.kind == "batch_norm":
            return layer.call(x, training, learning)
        if row.layer.kind == "dropout":
            return layer.call(x, masks.get(row.name) if training else None)
        return layer(list(x) if isinstance(x, tuple) else x)

    def _observe(self, images: np.ndarray, training: bool, watch: Callable[[Any], None] = lambda y: None) -> Any:
        """The input and every layer's output by name, in the order written."""
        masks = self._masks(len(images), training)

        def there(row: LayerFacts, x: Any) -> Any:
            y = self._apply(row, x, training, masks)
            watch(y)
            return y

        with tf.device(self.device):
            return self.plan.walk.values(self._prepare(tf.constant(images)), there)

    def _infer_by_mistake(self, images: Any) -> Any:
        """Logits as a training step computes them; not compiled, for the masks are no argument of `_infer`."""
        return self._logits(images, True, self._masks(len(images), True))

    def _masks(self, n: int, training: bool) -> dict[str, Any]:
        """The masks of the next update for `n` images, where any are used."""
        return {name: tf.constant(mask) for name, mask in self.plan.masks(self.taken, n).items()} if training else {}

    def _prepare(self, images: Any) -> Any:
        return (tf.cast(images, self.dtype) - self.mean) * self.scale

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
        kind = self.plan.row(layer).layer.kind
        return getattr(self.layers[layer], PARAMETERS.get((kind, parameter), parameter)).value


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


def build(plan: Plan, weights: Arrays) -> contract.Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)
