"""The JAX backend: pure functions under `jit`, an epoch in one compiled loop, Optax's update rules.

The number of steps is an argument of the compiled loop, not a shape of it: the warm-up's few steps compile the program
that a whole epoch runs.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lockstep.backends import contract
from lockstep.backends.chunks import (
    PREDICT_BATCH,
    Chunk,
    chunks,
    filled_up,
    most_steps,
    prediction_batches,
    single_step,
)
from lockstep.backends.jax.layers import LAYERS, Pass
from lockstep.backends.jax.losses import LOSSES
from lockstep.backends.jax.optimizers import OPTIMIZERS
from lockstep.backends.plan import Arrays, Plan, Taken
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts

# What is looked at is compiled without fusion: else XLA would work a layer's output out a second time, in other
# rounding, where the next layer takes it, and what is seen would not be what was used. It runs a few times at most, so
# LLVM need not optimise it: that is about a third of its compiling. (XLA's older emitters would compile it in a tenth
# of the time, and added an L2 penalty to a kernel's gradient wrongly: a proof found them.)
TO_LOOK_AT = {"xla_disable_hlo_passes": "fusion", "xla_backend_optimization_level": 0}
# On a GPU bits repeat as far as it is up to XLA. Its fusions stay there: what is looked at may differ from what is used
# by their rounding.
ON_GPU = {"xla_gpu_deterministic_ops": True}


class Model:
    """See `lockstep.backends.contract`. `carry` is (parameters, running statistics, Optax's state)."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Put the parameters on the device; nothing is compiled yet."""
        jax.config.update("jax_enable_x64", plan.dtype == "float64")  # else float64 silently becomes float32
        jax.config.update("jax_default_matmul_precision", "highest")  # float32 means float32, on a GPU too
        self.plan, self.device, self.dtype = plan, _device(plan.device), jnp.dtype(plan.dtype)
        self.mean, self.scale = plan.mean.astype(plan.dtype), plan.scale.astype(plan.dtype)
        self.slots, make = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.optimizer = optax.with_extra_args_support(make(plan.recipe.optimizer))
        self.loss = LOSSES[plan.loss]
        parameters = jax.device_put(weights, self.device)
        statistics = jax.device_put(plan.initial_statistics(), self.device)
        self.carry = (parameters, statistics, jax.device_put(self.optimizer.init(parameters), self.device))
        self.taken = 0
        to_use, to_look_at = (ON_GPU, ON_GPU) if plan.device == "cuda" else (None, TO_LOOK_AT)
        self.compiled_epoch = jax.jit(self._steps, donate_argnums=0, compiler_options=to_use)
        self._infer = jax.jit(self._logits, compiler_options=to_use)
        self._layer = jax.jit(self._alone, static_argnums=0, compiler_options=to_use)
        self._outputs = jax.jit(self._observe, static_argnums=4, compiler_options=to_look_at)
        self._gradients = jax.jit(self._differentiate, compiler_options=to_look_at)

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Move the training data to the device."""
        self.images, self.labels = jax.device_put((images, labels.astype(np.int32)), self.device)

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch, as few calls as the masks' memory allows."""
        results = [self._run(chunk) for chunk in chunks(self.plan, order, self.taken)]
        return np.concatenate([np.asarray(result, np.float64) for result in results], axis=1)

    def wait(self) -> None:
        """JAX answers before it is done."""
        jax.block_until_ready(self.carry)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits in inference mode; the last part is filled up, so that one program serves all."""
        parts = []
        for part in prediction_batches(images):
            room = 0 if self.plan.in_prediction else PREDICT_BATCH - len(part)  # statistics must not see the filling
            filled = np.concatenate([part, np.zeros((room, *part.shape[1:]), np.uint8)])
            masks = self._masks(len(part), self.plan.in_prediction)
            parts.append(np.asarray(self._infer(*self.carry[:2], filled, masks))[: len(part)])
        return np.concatenate(parts)

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        placed = getattr(self, "images", None), getattr(self, "labels", None)
        self.place(images, labels)
        losses = self._run(single_step(self.plan, len(images), self.taken))
        self.images, self.labels = placed
        return float(losses[0, 0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """The input and every layer's output."""
        training = self.plan.in_training if training else self.plan.in_prediction
        outputs = self._outputs(*self.carry[:2], images, self._masks(len(images), training), training)
        return self._named(outputs)

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        masks = self._masks(len(images), self.plan.in_training)
        loss, parameters, sent_back, outputs = self._gradients(*self.carry[:2], images, labels, masks)
        return (
            float(loss),
            {name: np.asarray(value) for name, value in parameters.items()},
            {row.name: np.asarray(sent_back[row.name]) for row in self.plan.rows},
            self._named(outputs),
        )

    def layer(self, name: str, x: Taken, dy: np.ndarray) -> tuple[np.ndarray, Taken, Arrays]:
        masks = self._masks(len(dy), self.plan.in_training)
        x, dy = jax.tree.map(lambda value: value.astype(self.dtype), (x, dy))
        y, gradients, dx = self._layer(name, *self.carry[:2], x, dy, masks)
        arrays: tuple[np.ndarray, Taken, Arrays] = jax.tree.map(np.asarray, (y, dx, gradients))
        return arrays

    def weights(self) -> Arrays:
        return {name: np.array(value) for name, value in self.carry[0].items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: np.array(value) for name, value in self.carry[1].items()}
        for slot, theirs in self.slots.items():
            held = getattr(self.carry[2], theirs)
            arrays |= {f"{name}/{slot}": np.array(value) for name, value in held.items()}
        return arrays | {"step": np.array(self.taken)}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        self.taken = int(state["step"])
        parameters, statistics, slots = self.carry
        held: dict[str, Any] = {
            theirs: {name: state[f"{name}/{slot}"].astype(self.dtype) for name in parameters}
            for slot, theirs in self.slots.items()
        }
        if "count" in getattr(slots, "_fields", ()):
            held["count"] = np.asarray(self.taken, np.int32)
        slots = slots._replace(**held) if held else slots
        carry = ({name: weights[name] for name in parameters}, {name: state[name] for name in statistics}, slots)
        self.carry = jax.device_put(carry, self.device)

    # ---- one step

    def _run(self, chunk: Chunk) -> np.ndarray:
        """Fill the chunk up, so that one program serves all of this batch size."""
        n, decided = len(chunk.indices), chunk.numbers
        numbers = decided.rate, decided.epsilon, decided.buffer_factor
        masks = chunk.masks if self.plan.in_training else {}
        room = most_steps(self.plan, chunk, len(self.labels)) - n
        steps = jax.tree.map(
            lambda value: filled_up(value, room),
            (chunk.indices, *(number.astype(self.plan.dtype) for number in numbers), masks),
        )
        self.carry, results = self.compiled_epoch(self.carry, self.images, self.labels, n, steps)
        self.taken += n
        return results[:, :n]

    def _steps(self, carry: Any, images: Any, labels: Any, n: Any, steps: Any) -> Any:
        """The first `n` steps of a chunk inside one compiled loop."""

        def body(i: Any, state: Any) -> Any:
            carry, results = state
            indices, *rest = jax.tree.map(lambda value: value[i], steps)
            carry, result = self._train_step(carry, images[indices], labels[indices], *rest)
            return carry, results.at[:, i].set(result)

        return jax.lax.fori_loop(0, n, body, (carry, jnp.zeros((2, len(steps[0])), self.dtype)))

    def _train_step(
        self, carry: Any, images: Any, labels: Any, rate: Any, epsilon: Any, buffer_factor: Any, masks: Any
    ) -> Any:
        o, (w, statistics, slots) = self.plan.recipe.optimizer, carry

        def objective(w: Any) -> Any:
            logits, updated = self._forward(w, statistics, images, masks, self.plan.in_training)
            loss = self.loss(logits, self._targets(labels))
            return self.plan.minimised(loss, len(images)), (loss, logits, updated)

        (_, (loss, logits, statistics)), gradients = jax.value_and_grad(objective, has_aux=True)(w)
        gradients = self._clip(self._add_l2(gradients, w))
        numbers = {"epsilon": epsilon, "buffer_factor": buffer_factor}
        direction, slots = self.optimizer.update(gradients, slots, w, **numbers)
        if o.kind == "adamw":
            direction = {k: d + o.weight_decay * w[k] if k in self.plan.decayed else d for k, d in direction.items()}
        w = jax.tree.map(lambda value, d: value - rate * d, w, direction)
        right = (logits.argmax(axis=1) == labels).sum()
        return (w, statistics, slots), jnp.stack([loss, right.astype(self.dtype)])

    def _forward(self, w: Any, statistics: Any, images: Any, masks: Any, training: bool) -> Any:
        """(logits, new running statistics)."""
        on = Pass(self.plan, training, statistics, masks)
        logits = self.plan.fast_walk.through(
            self._prepare(images), lambda row, x: LAYERS[row.layer.kind](row, x, w, on)
        )
        return logits, on.updated

    def _prepare(self, images: Any) -> Any:
        return (images.astype(self.dtype) - self.mean) * self.scale

    def _logits(self, w: Any, statistics: Any, images: Any, masks: Any) -> Any:
        return self._forward(w, statistics, images, masks, self.plan.in_prediction)[0]

    def _observe(self, w: Any, statistics: Any, images: Any, masks: Any, training: bool, shifts: Any = None) -> Any:
        """The input and every layer's output in the order written, to which a layer's shift is added where given.

        As a list: in what is compiled a dictionary would lose its order.
        """
        on = Pass(self.plan, training, statistics, masks)

        def there(row: LayerFacts, x: Any) -> Any:
            y = LAYERS[row.layer.kind](row, x, w, on)
            return y if shifts is None else y + shifts[row.name]

        return [*self.plan.walk.values(self._prepare(images), there).values()]

    def _differentiate(self, w: Any, statistics: Any, images: Any, labels: Any, masks: Any) -> Any:
        """A layer's output's gradient is that of a zero added to it."""
        shifts = {row.name: jnp.zeros((len(images), *row.output_shape), self.dtype) for row in self.plan.rows}

        def objective(w: Any, shifts: Any) -> Any:
            outputs = self._observe(w, statistics, images, masks, self.plan.in_training, shifts)
            loss = self.loss(outputs[-1], self._targets(labels))
            return self.plan.minimised(loss, len(images)), (loss, outputs)

        (_, (loss, outputs)), (gradients, sent_back) = jax.value_and_grad(objective, (0, 1), has_aux=True)(w, shifts)
        return loss, self._add_l2(gradients, w), sent_back, outputs

    def _named(self, outputs: list[Any]) -> Arrays:
        """The input and the layers' outputs by name."""
        names = ["input", *(row.name for row in self.plan.rows)]
        return {name: np.asarray(y) for name, y in zip(names, outputs, strict=True)}

    def _alone(self, name: str, w: Any, statistics: Any, x: Any, dy: Any, masks: Any) -> Any:
        """(y, parameter → gradient, dx) of one layer."""
        row = self.plan.row(name)
        on = Pass(self.plan, self.plan.in_training, statistics, masks)
        own = {f"{name}/{parameter}": w[f"{name}/{parameter}"] for parameter in row.parameter_shapes}
        y, backward = jax.vjp(lambda w, x: LAYERS[row.layer.kind](row, x, w, on), own, x)
        return y, *backward(dy)

    def _masks(self, n: int, wanted: bool) -> Arrays:
        return self.plan.masks(self.taken, n) if wanted else {}

    def _targets(self, labels: Any) -> Any:
        s = self.plan.recipe.label_smoothing
        return jax.nn.one_hot(labels, self.plan.classes, dtype=self.dtype) * (1 - s) + s / self.plan.classes

    def _add_l2(self, gradients: Any, w: Any) -> Any:
        """The gradient of ½·λ·‖kernel‖²."""
        if not self.plan.recipe.l2:
            return gradients
        return {k: g + self.plan.recipe.l2 * w[k] if k in self.plan.decayed else g for k, g in gradients.items()}

    def _clip(self, gradients: Any) -> Any:
        """g ← g·min(1, c/‖g‖) with the norm over all parameters together, or each one's own."""
        limit: Any = self.plan.recipe.clip_norm

        def clipped(part: Any) -> Any:
            # optax.global_norm, which Optax gives up for a name that its earlier versions do not have
            norm = jnp.sqrt(sum((jnp.vdot(g, g) for g in jax.tree.leaves(part)), jnp.zeros((), self.dtype)))
            factor = jnp.minimum(1.0, limit / norm)
            return jax.tree.map(lambda g: g * factor, part)

        if limit is None:
            return gradients
        if self.plan.recipe.clip_scope == "tensor":
            return {name: clipped(g) for name, g in gradients.items()}
        return clipped(gradients)


def device_name(name: str) -> str:
    """What computes: "cpu", or "cuda (NVIDIA H100 PCIe)"; without a GPU what was asked for, which `build` refuses."""
    try:
        return f"cuda ({_device(name).device_kind})" if name == "cuda" else name
    except LockstepError:
        return name


def _device(name: str) -> Any:
    try:
        return jax.devices("gpu" if name == "cuda" else "cpu")[0]
    except RuntimeError:
        hint = 'use device = "cpu", or install jax[cuda]'
        raise LockstepError("LS-404", "JAX finds no CUDA device", where="backend jax", hint=hint) from None


def build(plan: Plan, weights: Arrays) -> contract.Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)
