"""Keras as its guides teach it: Sequential, compile, fit. After "Simple MNIST convnet" of Keras's documentation."""

from __future__ import annotations

import time

import keras
import numpy as np
import tensorflow as tf

from lockstep.benchmark.baselines import Images, Trained
from lockstep.spec import Run


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.start = 0.0

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def network(run: Run, input_shape: tuple[int, ...]) -> keras.Sequential:
    """The layers, with Keras's own defaults for what the spec leaves to a framework."""
    layers: list[keras.layers.Layer] = [keras.Input(input_shape)]
    for layer in run.network.layers:
        if layer.kind == "conv2d":
            padding = "same" if layer.padding == "same" else "valid"
            layers.append(keras.layers.Conv2D(layer.filters, layer.kernel, layer.stride, padding, use_bias=layer.bias))
        elif layer.kind == "max_pool2d":
            layers.append(keras.layers.MaxPooling2D(layer.size, layer.stride))
        elif layer.kind == "flatten":
            layers.append(keras.layers.Flatten())
        elif layer.kind == "dense":
            layers.append(keras.layers.Dense(layer.units, use_bias=layer.bias))
        elif layer.kind == "batch_norm":
            layers.append(keras.layers.BatchNormalization())
        elif layer.kind == "dropout":
            layers.append(keras.layers.Dropout(layer.rate))
        else:
            layers.append(keras.layers.ReLU())
    return keras.Sequential(layers)


def train(run: Run, images: Images, threads: int, fault: str = "") -> Trained:
    start = time.perf_counter()
    keras.utils.set_random_seed(run.seed)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    recipe = run.recipe
    model = network(run, images.train.shape[1:])
    adam = recipe.optimizer.kind == "adam"
    optimizer = (keras.optimizers.Adam if adam else keras.optimizers.SGD)(recipe.optimizer.learning_rate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"])
    clock = Clock()
    built = time.perf_counter() - start
    model.fit(
        images.train, images.train_labels, batch_size=recipe.batch_size, epochs=recipe.epochs, verbose=0,
        callbacks=[clock],
    )  # fmt: skip

    def predict(test: np.ndarray) -> np.ndarray:
        return np.asarray(model.predict(test, batch_size=recipe.batch_size, verbose=0)).argmax(axis=1)

    return Trained(clock.seconds, len(images.train), predict, built)
