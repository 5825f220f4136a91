"""NumPy as HIPS autograd's examples teach it: plain functions of arrays, gradients by `autograd.grad`.

After its examples `neural_net.py` and `convnet.py`: convolution by `autograd.scipy.signal.convolve`, a pooling as a
reshape, Adam from `autograd.misc.optimizers`. So slow with convolutions that it trains on few images; per image it is
the same.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

import autograd.numpy as np
import autograd.numpy.random as npr
import numpy
from autograd import grad
from autograd.misc.optimizers import adam, sgd
from autograd.scipy.signal import convolve
from autograd.scipy.special import logsumexp

from lockstep.benchmark.baselines import Images, Trained
from lockstep.spec import Run

MOST = 1024  # images, with convolutions


def train(run: Run, images: Images, threads: int, fault: str = "") -> Trained:
    """Every epoch of the run, with convolutions on the first MOST images."""
    start = time.perf_counter()
    recipe, rows = run.recipe, run.network.facts(images.train.shape[1:])
    n = min(len(images.train), MOST) if any(row.layer.kind == "conv2d" for row in rows) else len(images.train)
    pixels = np.array(images.train[:n]).transpose(0, 3, 1, 2)
    targets = np.eye(len(numpy.unique(images.train_labels)))[images.train_labels[:n]]
    generator = npr.RandomState(run.seed)
    parameters: list[Any] = []
    for row in rows:
        if row.layer.kind == "conv2d":
            shape = (row.input_shape[2], row.layer.filters, *row.layer.kernel)
            parameters.append((0.1 * generator.randn(*shape), np.zeros((1, row.layer.filters, 1, 1))))
        elif row.layer.kind == "dense":
            shape = (row.input_shape[0], row.layer.units)
            parameters.append((0.1 * generator.randn(*shape), np.zeros(row.layer.units)))

    def log_probabilities(parameters: Any, x: Any) -> Any:
        place = 0
        for row in rows:
            layer = row.layer
            if layer.kind == "conv2d":
                weights, bias = parameters[place]
                x = convolve(x, weights, axes=([2, 3], [2, 3]), dot_axes=([1], [0]), mode="valid") + bias
                place += 1
            elif layer.kind == "max_pool2d":
                (height, width), (_, channels, h, w) = layer.size, x.shape
                x = x[:, :, : h // height * height, : w // width * width]
                x = x.reshape(-1, channels, h // height, height, w // width, width).max(axis=3).max(axis=4)
            elif layer.kind == "flatten":
                x = x.reshape(len(x), -1)
            elif layer.kind == "dense":
                weights, bias = parameters[place]
                x, place = np.dot(x, weights) + bias, place + 1
            else:
                x = np.maximum(x, 0.0)
        return x - logsumexp(x, axis=1, keepdims=True)

    batches = -(-n // recipe.batch_size)

    def objective(parameters: Any, step: int) -> Any:
        chosen = slice(step % batches * recipe.batch_size, (step % batches + 1) * recipe.batch_size)
        return -(log_probabilities(parameters, pixels[chosen]) * targets[chosen]).sum() / len(pixels[chosen])

    built = time.perf_counter() - start
    update = adam if recipe.optimizer.kind == "adam" else sgd
    ends = [time.perf_counter()]

    def callback(parameters: Any, step: int, gradient: Any) -> None:
        if (step + 1) % batches == 0:
            ends.append(time.perf_counter())

    parameters = update(
        grad(objective), parameters, step_size=recipe.optimizer.learning_rate, num_iters=recipe.epochs * batches,
        callback=callback,
    )  # fmt: skip
    epochs = [after - before for before, after in itertools.pairwise(ends)]

    def predict(test: numpy.ndarray) -> numpy.ndarray:
        few = np.array(test[: MOST if n <= MOST else len(test)]).transpose(0, 3, 1, 2)
        return numpy.asarray(log_probabilities(parameters, few).argmax(axis=1))

    return Trained(epochs, n, predict, built)
