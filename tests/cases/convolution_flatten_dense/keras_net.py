"""discuss.pytorch.org 184306: the Keras model, whose images have their channels last."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((14, 12, 3))
    x = layers.Conv2D(4, 3, activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(8, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(x))
