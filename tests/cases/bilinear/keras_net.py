"""github.com/pytorch/pytorch 10604: the same with Keras's layer, whose pixels are squares with a centre."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((12, 10, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))
