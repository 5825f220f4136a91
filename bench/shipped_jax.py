"""MNIST as JAX's tutorials train it: pure functions, Optax, one jitted step at a time, lax.conv in NHWC."""

import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import report, training_data
from jax import lax

DENSE = {"mlp": [784, 100, 100, 100, 10], "cnn": [800, 500, 10]}
KERNELS = {"mlp": [], "cnn": [(5, 5, 1, 20), (5, 5, 20, 50)]}


def initial(network, key):
    shapes = KERNELS[network] + list(zip(DENSE[network], DENSE[network][1:], strict=False))
    keys = jax.random.split(key, len(shapes))
    draw = jax.nn.initializers.he_normal()
    return [(draw(k, shape), jnp.zeros(shape[-1])) for k, shape in zip(keys, shapes, strict=True)]


def forward(parameters, x):
    for w, b in parameters:
        if w.ndim == 4:
            x = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.nn.relu(x + b)
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        else:
            x = x.reshape(len(x), -1) @ w + b
            x = jax.nn.relu(x) if w.shape[1] != 10 else x
    return x


def main(network: str, epochs: int) -> None:
    images, labels = training_data()
    images = (images / 255).astype(np.float32)
    parameters = initial(network, jax.random.key(0))
    optimizer = optax.adam(0.001)
    state = optimizer.init(parameters)

    @jax.jit
    def step(parameters, state, x, y):
        def loss_function(parameters):
            return optax.softmax_cross_entropy_with_integer_labels(forward(parameters, x), y).mean()

        loss, gradients = jax.value_and_grad(loss_function)(parameters)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(parameters, updates), state, loss

    generator, seconds = np.random.default_rng(0), []
    for _ in range(epochs):
        start = time.perf_counter()
        order = generator.permutation(len(images))
        for first in range(0, len(images), 128):
            batch = order[first : first + 128]
            parameters, state, loss = step(parameters, state, images[batch], labels[batch])
        jax.block_until_ready(parameters)
        seconds.append(time.perf_counter() - start)
    report(seconds, float(loss))


main(sys.argv[1], int(sys.argv[2]))
