"""The Keras block."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((8, 10, 4))
    x = layers.GroupNormalization(2)(x)
    return keras.Model(inputs, layers.Conv2D(5, 3, padding="same")(layers.Activation("silu")(x)))
