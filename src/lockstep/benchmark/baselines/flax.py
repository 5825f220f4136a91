"""JAX as Flax's MNIST example teaches it: a linen module, Optax, one jitted step at a time."""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from lockstep.benchmark.baselines import Images, Trained
from lockstep.spec import Run


class Network(nn.Module):
    """The layers, with Flax's own defaults for what the spec leaves to a framework."""

    run: Run

    @nn.compact
    def __call__(self, x: Any, training: bool) -> Any:
        for layer in self.run.network.layers:
            if layer.kind == "conv2d":
                padding = "SAME" if layer.padding == "same" else "VALID"
                x = nn.Conv(layer.filters, layer.kernel, layer.stride, padding, use_bias=layer.bias)(x)
            elif layer.kind == "max_pool2d":
                x = nn.max_pool(x, layer.size, layer.stride)
            elif layer.kind == "flatten":
                x = x.reshape((x.shape[0], -1))
            elif layer.kind == "dense":
                x = nn.Dense(layer.units, use_bias=layer.bias)(x)
            elif layer.kind == "batch_norm":
                x = nn.BatchNorm(use_running_average=not training)(x)
            elif layer.kind == "dropout":
                x = nn.Dropout(layer.rate, deterministic=not training)(x)
            else:
                x = nn.relu(x)
        return x


def train(run: Run, images: Images, threads: int, fault: str = "") -> Trained:
    """Every epoch of the run; with "no_wait" a clock stops before the work is done (`lockstep.benchmark.mistakes`)."""
    start = time.perf_counter()
    recipe = run.recipe
    model = Network(run)
    key = jax.random.key(run.seed)
    variables = model.init(key, jnp.zeros((1, *images.train.shape[1:])), training=False)
    parameters, statistics = variables["params"], variables.get("batch_stats", {})
    optimizer = (optax.adam if recipe.optimizer.kind == "adam" else optax.sgd)(recipe.optimizer.learning_rate)
    state = optimizer.init(parameters)

    def loss_of(parameters: Any, statistics: Any, pixels: Any, labels: Any, key: Any) -> Any:
        logits, changed = model.apply(
            {"params": parameters, "batch_stats": statistics}, pixels, training=True, rngs={"dropout": key},
            mutable=["batch_stats"],
        )  # fmt: skip
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, changed.get("batch_stats", {})

    @jax.jit
    def step(parameters: Any, statistics: Any, state: Any, pixels: Any, labels: Any, key: Any) -> Any:
        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            parameters, statistics, pixels, labels, key
        )
        updates, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, updates), statistics, state, loss

    @jax.jit
    def logits_of(parameters: Any, statistics: Any, pixels: Any) -> Any:
        return model.apply({"params": parameters, "batch_stats": statistics}, pixels, training=False)

    built = time.perf_counter() - start
    n, batch, epochs = len(images.train), recipe.batch_size, []
    generator = np.random.default_rng(run.seed)
    for _ in range(recipe.epochs):
        start = time.perf_counter()
        order = generator.permutation(n)
        for first in range(0, n - batch + 1, batch):  # the example leaves the short last batch out
            chosen = order[first : first + batch]
            key, one = jax.random.split(key)
            parameters, statistics, state, _ = step(
                parameters, statistics, state, images.train[chosen], images.train_labels[chosen], one
            )
        if fault != "no_wait":
            jax.block_until_ready(parameters)
        epochs.append(time.perf_counter() - start)
        jax.block_until_ready(parameters)

    def predict(test: np.ndarray) -> np.ndarray:
        parts = [logits_of(parameters, statistics, test[i : i + 1000]) for i in range(0, len(test), 1000)]
        return np.concatenate([np.asarray(part).argmax(axis=1) for part in parts])

    return Trained(epochs, n // batch * batch, predict, built)
