"""Keras's documentation of GRU: the formula of older models."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((7, 5))
    x = layers.GRU(4, reset_after=False)(x)
    return keras.Model(inputs, layers.Dense(2)(x))
