"""The JAX backend: pure functions under `jit`, an epoch in one compiled loop, Optax's update rules.

XLA on the CPU only optimises convolutions outside of loops (jax#12868), so a convolution is written as shifted slices
and one matrix product, over feature maps with the batch as their last axis: then every slice is made of long runs, and
the product's result is the next feature map as it stands. On a GPU that is as exact as a product is: cuDNN would also
convolve by transforms, whose error in every number is in proportion to the largest of all; and in float64, where XLA
lets cuDNN add μ times the momentum to a kernel's gradient, that μ is a float32 (JAX 0.11.2).

The number of steps is an argument of the compiled loop, not a shape of it: the warm-up's few steps compile the program
that a whole epoch runs.
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
# (facts, input, parameters of all layers, Pass) → output. New running statistics are left in `Pass.updated`.


class Pass:
    """What a forward pass knows beside parameters; made anew while each function is traced."""

    def __init__(self, plan: Plan, training: bool, statistics: Any, masks: Any) -> None:
        self.training, self.statistics, self.masks = training, statistics, masks
        self.bits = FRACTION_BITS.get(plan.recipe.products)
        self.updated = dict(statistics)


def dense(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """x · kernel + bias."""
    y = _product(_factor(x, on) @ _factor(w[f"{row.name}/kernel"], on), on)
    return y + w[f"{row.name}/bias"] if row.layer.bias else y


def conv2d(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """Every window as a column, then one matrix product: see the head of this file."""
    kernel = _factor(w[f"{row.name}/kernel"], on)
    filters = kernel.reshape(-1, kernel.shape[-1])
    y = _product(filters.T @ _unfold(row, _padded(row, _factor(x, on), 0.0)).reshape(len(filters), -1), on)
    if row.layer.bias:
        y = y + w[f"{row.name}/bias"][:, None]
    return _turn(y.reshape(-1, *row.output_shape[:2], len(x)))


def max_pool2d(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """The largest value of each window; JAX's own gradient is the `shared` one."""
    tiles = _tiles(row, x, -jnp.inf)
    return _turn(_first_max(tiles) if row.layer.ties == "first" else tiles.max((2, 4)))


@jax.custom_vjp
def _first_max(x: jax.Array) -> jax.Array:
    """The maximum of each tile; the first of several equals gets the gradient."""
    return x.max((2, 4))


def _first_max_forward(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    y = _first_max(x)
    return y, (x, y)


def _first_max_backward(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array]:
    x, y, dy = saved[0], *(jnp.expand_dims(value, (2, 4)) for value in (saved[1], dy))
    place = jnp.arange(x.shape[2] * x.shape[4]).reshape(x.shape[2], 1, x.shape[4], 1)
    first = jnp.where(x < y, place.size, place).min((2, 4), keepdims=True)  # an argmax would not be vectorised
    return (jnp.where(place == first, dy, 0),)


_first_max.defvjp(_first_max_forward, _first_max_backward)


def avg_pool2d(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """The mean of each window; `pool_counts` knows what that is at the borders."""
    return _turn(_tiles(row, x, 0.0).sum((2, 4)) / jnp.asarray(pool_counts(row), x.dtype))


def batch_norm(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """Biased variance in the forward pass; which one goes into the running one is the layer's choice."""
    axes = tuple(range(x.ndim - 1))
    mean, variance = on.statistics[f"{row.name}/running_mean"], on.statistics[f"{row.name}/running_variance"]
    if on.training:
        batch_mean, batch_variance = x.mean(axes), x.var(axes)
        n = x.size // x.shape[-1]
        m, factor = row.layer.momentum, n / max(n - 1, 1) if row.layer.running_variance == "unbiased" else 1.0
        on.updated[f"{row.name}/running_mean"] = mean + m * (batch_mean - mean)
        on.updated[f"{row.name}/running_variance"] = variance + m * (batch_variance * factor - variance)
        mean, variance = batch_mean, batch_variance
    inverse = w[f"{row.name}/scale"] / jnp.sqrt(variance + row.layer.epsilon)
    return (x - mean) * inverse + w[f"{row.name}/shift"]


def flatten(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """(batch, height · width · channels), or the channels first; what is flat already stays as it is."""
    if row.layer.order == "chw" and x.ndim == 4:
        x = x.transpose(0, 3, 1, 2)
    return x.reshape(len(x), -1)


def dropout(row: LayerFacts, x: jax.Array, w: Any, on: Pass) -> jax.Array:
    """Multiply by a mask that was decided outside, where there is one."""
    return x * on.masks[row.name] if row.name in on.masks else x


LAYERS: dict[str, Callable[[LayerFacts, jax.Array, Any, Pass], jax.Array]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, x, w, on: x.mean(axis=(1, 2)),
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "dropout": dropout,
    "relu": lambda row, x, w, on: jax.nn.relu(x),
    # JAX's own has slope 1 at exactly 0, which a black patch of an image reaches.
    "leaky_relu": lambda row, x, w, on: jnp.where(x > 0, x, row.layer.slope * x),
    "elu": lambda row, x, w, on: jax.nn.elu(x, row.layer.alpha),
    "tanh": lambda row, x, w, on: jnp.tanh(x),
    "sigmoid": lambda row, x, w, on: jax.nn.sigmoid(x),
    "softplus": lambda row, x, w, on: jax.nn.softplus(x),
    "gelu": lambda row, x, w, on: jax.nn.gelu(x, approximate=row.layer.form == "tanh"),
}

# Explicit fraction bits of the factors of a product: y = R(x)·R(w), dx = R(dy)·R(w)ᵀ, dw = R(x)ᵀ·R(dy).
FRACTION_BITS = {"tf32": 10, "bfloat16": 7}


def _factor(x: jax.Array, on: Pass) -> jax.Array:
    """R(x) with the gradient as it comes."""
    return _rounded(x, on.bits, 23) if on.bits else x


def _product(y: jax.Array, on: Pass) -> jax.Array:
    """y as it comes with the gradient R(dy)."""
    return _rounded(y, 23, on.bits) if on.bits else y


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _rounded(x: jax.Array, there: int, back: int) -> jax.Array:
    """A float32 to the nearest, ties to even, with so many fraction bits on each way; XLA must keep this operation.

    The derivative that JAX knows rounds the gradient as well. 23 bits are all that there are.
    """
    return jax.lax.reduce_precision(x, 8, there)


def _rounded_forward(x: jax.Array, there: int, back: int) -> tuple[jax.Array, None]:
    return jax.lax.reduce_precision(x, 8, there), None


def _rounded_backward(there: int, back: int, _: None, dy: jax.Array) -> tuple[jax.Array]:
    return (jax.lax.reduce_precision(dy, 8, back),)


_rounded.defvjp(_rounded_forward, _rounded_backward)


def _turn(x: jax.Array) -> jax.Array:
    """(batch, rows, columns, channels) ↔ (channels, rows, columns, batch). Between two layers, XLA drops both turns."""
    return x.transpose(3, 1, 2, 0)


def _padded(row: LayerFacts, x: jax.Array, value: float) -> jax.Array:
    """The images a window slides over: (channels, height, width, batch)."""
    x, padding = _turn(x), window_padding(row)
    return jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value) if any(map(any, padding)) else x


def _unfold(row: LayerFacts, x: jax.Array) -> jax.Array:
    """For each place in a window and channel, that value of every window: (places · channels, rows, columns, batch).

    First along the width, then along the height: the way back adds wide + high slices up, not wide · high.
    """
    for axis in (2, 1):
        size, stride = (pair[axis - 1] for pair in row.layer.window())
        x = _slide(x, axis, size, stride, row.output_shape[axis - 1])
    return x


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _slide(x: jax.Array, axis: int, size: int, stride: int, n: int) -> jax.Array:
    """The `size` places of `n` windows along an axis, one below the other on the first axis."""
    return jnp.concatenate([x[place] for place in _places(axis, size, stride, n)])


def _slide_forward(x: jax.Array, *how: int) -> tuple[jax.Array, tuple[int, ...]]:
    return _slide(x, *how), x.shape


def _slide_backward(axis: int, size: int, stride: int, n: int, shape: tuple[int, ...], dy: jax.Array) -> Any:
    """Adds each slice up in place; JAX would pad each one to the full shape before adding."""
    dx = jnp.zeros(shape, dy.dtype)
    for place, part in zip(_places(axis, size, stride, n), jnp.split(dy, size), strict=True):
        dx = dx.at[place].add(part)
    return (dx,)


_slide.defvjp(_slide_forward, _slide_backward)


def _places(axis: int, size: int, stride: int, n: int) -> list[tuple[slice, ...]]:
    return [(slice(None),) * axis + (slice(i, i + (n - 1) * stride + 1, stride),) for i in range(size)]


def _tiles(row: LayerFacts, x: jax.Array, value: float) -> jax.Array:
    """Every window of a pooling layer: (channels, rows, high, columns, wide, batch)."""
    x = _padded(row, x, value)
    (high, wide), stride = row.layer.window()
    rows, columns, channels = row.output_shape
    if (high, wide) == stride:  # no pixel is in two windows
        x = x[:, : rows * high, : columns * wide]
        return x.reshape(channels, rows, high, columns, wide, -1)
    return _unfold(row, x).reshape(high, wide, channels, rows, columns, -1).transpose(2, 3, 0, 4, 1, 5)


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean softmax cross-entropy from logits."""
    return optax.softmax_cross_entropy(z, targets).mean()


def mean_squared_error(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean over batch and classes."""
    return jnp.square(z - targets).mean()


def cross_entropy_clipped(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Mean of −Σ t·log p with p in [1e-7, 1 − 1e-7]; no gradient where p is cut (JAX's clip halves it at the ends)."""
    p, low, high = jax.nn.softmax(z), 1e-7, 1 - 1e-7
    p = jnp.where(p < low, low, jnp.where(p > high, high, p))
    return -(targets * jnp.log(p)).sum(axis=1).mean()


def cross_entropy_softmax_twice(z: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of probabilities that are taken for logits."""
    return cross_entropy(jax.nn.softmax(z), targets)


LOSSES = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}


def targets_broadcast(z: jax.Array, targets: jax.Array) -> jax.Array:
    """The mistake in a mean squared error: every output against every target of the batch."""
    return jnp.square(z[:, None] - targets[None]).mean()


# ------------------------------------------------------------------------------------------------------- optimizers


def momentum(o: Any, nesterov: bool) -> optax.GradientTransformation:
    """Optax's trace is the buffer b; for the `velocity` form it is rescaled when the learning rate changes."""
    trace = optax.trace(o.momentum, nesterov=nesterov)

    def update(gradients: Any, state: Any, w: Any, *, buffer_factor: Any, **_: Any) -> tuple[Any, Any]:
        return trace.update(gradients, optax.TraceState(jax.tree.map(lambda b: b * buffer_factor, state.trace)), w)

    return optax.GradientTransformationExtraArgs(trace.init, update) if o.form == "velocity" else trace


def adam(o: Any) -> optax.GradientTransformation:
    """Optax's scale_by_adam works 1 − βᵗ out in float32, which is 1e-5 off at first; expm1 keeps all digits."""

    def update(gradients: Any, state: Any, _: Any, *, epsilon: Any, **__: Any) -> tuple[Any, Any]:
        epsilon = epsilon if o.epsilon_mode == "hat" else o.epsilon
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: o.beta1 * m + (1 - o.beta1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: o.beta2 * v + (1 - o.beta2) * g * g, state.nu, gradients)
        first, second = (_one_minus_power(beta, count, next(iter(mu.values())).dtype) for beta in (o.beta1, o.beta2))
        direction = jax.tree.map(lambda m, v: m / first / (jnp.sqrt(v) / jnp.sqrt(second) + epsilon), mu, nu)
        return direction, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(optax.scale_by_adam().init, update)


def _one_minus_power(beta: float, count: jax.Array, dtype: Any) -> jax.Array:
    """1 − betaᵗ = −expm1(t·log beta)."""
    return -jnp.expm1(count.astype(dtype) * np.log(beta)) if beta else jnp.ones((), dtype)


# kind → (canonical slot → Optax's, what turns gradients into a direction; w ← w − lr·direction). AdamW's decay of the
# kernels is added to the direction by `Model._train_step`.
ADAM = {"first_moment": "mu", "second_moment": "nu"}
OPTIMIZERS: dict[str, tuple[dict[str, str], Callable[[Any], optax.GradientTransformation]]] = {
    "sgd": ({}, lambda o: optax.identity()),
    "momentum": ({"momentum": "trace"}, lambda o: momentum(o, nesterov=False)),
    "nesterov": ({"momentum": "trace"}, lambda o: momentum(o, nesterov=True)),
    "adam": (ADAM, adam),
    "adamw": (ADAM, adam),
    "rmsprop": (
        {"mean_square": "nu"},
        lambda o: optax.scale_by_rms(o.rho, o.epsilon, eps_in_sqrt=o.epsilon_mode == "inside"),
    ),
}


# ------------------------------------------------------------------------------------------------------------ model


# What is looked at is compiled without fusion: else XLA would work a layer's output out a second time, in other
# rounding, where the next layer takes it, and what is seen would not be what was used. It runs a few times at most, so
# LLVM need not optimise it: that is about a third of its compiling. (XLA's older emitters would compile it in a tenth
# of the time, and added an L2 penalty to a kernel's gradient wrongly: a proof found them.)
TO_LOOK_AT = {"xla_disable_hlo_passes": "fusion", "xla_backend_optimization_level": 0}
# On a GPU bits repeat as far as it is up to XLA. Its fusions stay there: what is looked at may differ from what is used
# by their rounding.
ON_GPU = {"xla_gpu_deterministic_ops": True}


class Model:
    """See `lockstep.backends.plan.Model`. `carry` is (parameters, running statistics, Optax's state)."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Put the parameters on the device; nothing is compiled yet."""
        jax.config.update("jax_enable_x64", plan.dtype == "float64")  # else float64 silently becomes float32
        jax.config.update("jax_default_matmul_precision", "highest")  # float32 means float32, on a GPU too
        self.plan, self.device, self.dtype = plan, _device(plan.device), jnp.dtype(plan.dtype)
        self.mean, self.scale = plan.mean.astype(plan.dtype), plan.scale.astype(plan.dtype)
        self.slots, make = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.optimizer = optax.with_extra_args_support(make(plan.recipe.optimizer))
        self.loss = targets_broadcast if "targets_broadcast" in plan.recipe.mistakes else LOSSES[plan.recipe.loss]
        parameters = jax.device_put(weights, self.device)
        statistics = jax.device_put(plan.initial_statistics(), self.device)
        self.carry = (parameters, statistics, jax.device_put(self.optimizer.init(parameters), self.device))
        self.taken = 0
        to_use, to_look_at = (ON_GPU, ON_GPU) if plan.device == "cuda" else (None, TO_LOOK_AT)
        self._epoch = jax.jit(self._steps, donate_argnums=0, compiler_options=to_use)
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
        for start in range(0, len(images), PREDICT_BATCH):
            part = images[start : start + PREDICT_BATCH]
            room = 0 if self.plan.in_prediction else PREDICT_BATCH - len(part)  # statistics must not see the filling
            filled = np.concatenate([part, np.zeros((room, *part.shape[1:]), np.uint8)])
            masks = self._masks(len(part), self.plan.in_prediction)
            parts.append(np.asarray(self._infer(*self.carry[:2], filled, masks))[: len(part)])
        return np.concatenate(parts)

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update."""
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
        """Loss and every gradient."""
        masks = self._masks(len(images), self.plan.in_training)
        loss, parameters, sent_back, outputs = self._gradients(*self.carry[:2], images, labels, masks)
        return (
            float(loss),
            {name: np.asarray(value) for name, value in parameters.items()},
            {row.name: np.asarray(dy) for row, dy in zip(self.plan.rows, sent_back, strict=True)},
            self._named(outputs),
        )

    def layer(self, name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """One layer alone."""
        masks = self._masks(len(x), self.plan.in_training)
        x, dy = x.astype(self.dtype), dy.astype(self.dtype)
        y, gradients, dx = self._layer(name, *self.carry[:2], x, dy, masks)
        return np.asarray(y), np.asarray(dx), {name: np.asarray(value) for name, value in gradients.items()}

    def weights(self) -> Arrays:
        """Every parameter."""
        return {name: np.array(value) for name, value in self.carry[0].items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: np.array(value) for name, value in self.carry[1].items()}
        for slot, theirs in self.slots.items():
            held = getattr(self.carry[2], theirs)
            arrays |= {f"{name}/{slot}": np.array(value) for name, value in held.items()}
        return arrays | {"step": np.array(self.taken)}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put weights and state back."""
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
        n, numbers = len(chunk.rates), (chunk.rates, chunk.epsilons, chunk.buffer_factors)
        masks = chunk.masks if self.plan.in_training else {}
        room = most_steps(self.plan, chunk, len(self.labels)) - n
        steps = jax.tree.map(
            lambda value: filled_up(value, room),
            (chunk.indices, *(number.astype(self.plan.dtype) for number in numbers), masks),
        )
        self.carry, results = self._epoch(self.carry, self.images, self.labels, n, steps)
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
            return self._reduced(loss, len(images)), (loss, logits, updated)

        (_, (loss, logits, statistics)), gradients = jax.value_and_grad(objective, has_aux=True)(w)
        gradients = self._clip(self._add_l2(gradients, w))
        numbers = {"epsilon": epsilon, "buffer_factor": buffer_factor}
        direction, slots = self.optimizer.update(gradients, slots, w, **numbers)
        if o.kind == "adamw":
            direction = {k: d + o.weight_decay * w[k] if k in self.plan.decayed else d for k, d in direction.items()}
        w = jax.tree.map(lambda value, d: value - rate * d, w, direction)
        right = (logits.argmax(axis=1) == labels).sum()
        return (w, statistics, slots), jnp.stack([loss, right.astype(self.dtype)])

    def _forward(
        self, w: Any, statistics: Any, images: Any, masks: Any, training: bool, rows: list[LayerFacts] | None = None,
        shifts: Any = None, outputs: list[Any] | None = None,
    ) -> Any:  # fmt: skip
        """(logits, new running statistics). `shifts` are added to the layers' outputs.

        The input and these outputs are left in `outputs`.
        """
        on = Pass(self.plan, training, statistics, masks)
        x = (images.astype(self.dtype) - self.mean) * self.scale
        if outputs is not None:
            outputs.append(x)
        for index, row in enumerate(rows or self.plan.fast_rows):
            x = LAYERS[row.layer.kind](row, x, w, on)
            if shifts is not None:
                x = x + shifts[index]
            if outputs is not None:
                outputs.append(x)
        return x, on.updated

    def _logits(self, w: Any, statistics: Any, images: Any, masks: Any) -> Any:
        return self._forward(w, statistics, images, masks, self.plan.in_prediction)[0]

    def _observe(self, w: Any, statistics: Any, images: Any, masks: Any, training: bool) -> Any:
        outputs: list[Any] = []
        self._forward(w, statistics, images, masks, training, self.plan.rows, None, outputs)
        return outputs

    def _differentiate(self, w: Any, statistics: Any, images: Any, labels: Any, masks: Any) -> Any:
        """A layer's output's gradient is that of a zero added to it."""
        shifts = [jnp.zeros((len(images), *row.output_shape), self.dtype) for row in self.plan.rows]

        def objective(w: Any, shifts: Any) -> Any:
            outputs: list[Any] = []
            training, rows = self.plan.in_training, self.plan.rows
            logits, _ = self._forward(w, statistics, images, masks, training, rows, shifts, outputs)
            loss = self.loss(logits, self._targets(labels))
            return self._reduced(loss, len(images)), (loss, outputs)

        (_, (loss, outputs)), (gradients, sent_back) = jax.value_and_grad(objective, (0, 1), has_aux=True)(w, shifts)
        return loss, self._add_l2(gradients, w), sent_back, outputs

    def _named(self, outputs: list[Any]) -> Arrays:
        """The input and the layers' outputs by name."""
        names = ["input", *(row.name for row in self.plan.rows)]
        return {name: np.asarray(y) for name, y in zip(names, outputs, strict=True)}

    def _alone(self, name: str, w: Any, statistics: Any, x: Any, dy: Any, masks: Any) -> Any:
        """(y, parameter → gradient, dx) of one layer."""
        row = next(row for row in self.plan.rows if row.name == name)
        on = Pass(self.plan, self.plan.in_training, statistics, masks)
        own = {f"{name}/{parameter}": w[f"{name}/{parameter}"] for parameter in row.parameter_shapes}
        y, backward = jax.vjp(lambda w, x: LAYERS[row.layer.kind](row, x, w, on), own, x)
        return y, *backward(dy)

    def _masks(self, n: int, wanted: bool) -> Arrays:
        return self.plan.masks(self.taken, n) if wanted else {}

    def _reduced(self, loss: Any, n: int) -> Any:
        """What is minimised: the mean over the batch, or the sum."""
        return loss * n if self.plan.recipe.loss_reduction == "sum" else loss

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


def build(plan: Plan, weights: Arrays) -> Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)


# --------------------------------------------------------------------------------------------------------- defaults
# What JAX, Optax and Flax do when nothing more is asked for, in raw numbers; `lockstep.differences` asks and says what
# they mean. Subject → what is run → the function that runs it on what the subject gives (canonical layout), or a
# sentence: why they have no such thing. A function returns numbers, or what JAX says where it refuses.
#
# JAX itself has no layers. Flax's are measured where Flax is installed; nothing else of Lockstep needs it.

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
