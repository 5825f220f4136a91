"""The optimizers' steps, as Optax's update rules: what turns gradients into a direction; w ← w − lr·direction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


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
