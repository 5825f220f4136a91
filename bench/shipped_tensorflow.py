"""MNIST as Keras's tutorials train it: Sequential, compile, fit, defaults."""

import sys
import time

import keras
from common import report, training_data
from keras import layers

NETWORKS = {
    "mlp": lambda: [
        layers.Flatten(), layers.Dense(100, "relu"), layers.Dense(100, "relu"), layers.Dense(100, "relu"),
        layers.Dense(10, "softmax"),
    ],
    "cnn": lambda: [
        layers.Conv2D(20, 5, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(50, 5, activation="relu"),
        layers.MaxPooling2D(), layers.Flatten(), layers.Dense(500, "relu"), layers.Dense(10, "softmax"),
    ],
}  # fmt: skip


class EpochSeconds(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def main(network: str, epochs: int) -> None:
    images, labels = training_data()
    model = keras.Sequential([keras.Input((28, 28, 1)), *NETWORKS[network]()])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = EpochSeconds()
    history = model.fit(images / 255, labels, batch_size=128, epochs=epochs, verbose=0, callbacks=[clock])
    report(clock.seconds, history.history["loss"][-1])


main(sys.argv[1], int(sys.argv[2]))
