"""The Keras model with shared axes: equal."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((8, 9, 2))
    return keras.Model(inputs, layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(4, 3)(x)))
