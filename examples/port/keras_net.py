"""The network of torch_net.py in Keras, with Keras's own defaults: six differences that no shape shows."""

import keras
from keras import layers


def build():
    """The model, with inputs (28, 28, 1)."""
    x = inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(6, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.LeakyReLU()(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))
