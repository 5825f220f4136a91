"""The Keras model: the kernel lies otherwise, the numbers are the same."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((9, 11, 3))
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
    return keras.Model(inputs, layers.Conv2D(4, 1)(layers.ReLU(6.0)(x)))
