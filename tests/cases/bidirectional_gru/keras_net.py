"""discuss.pytorch.org 36268: the Keras model, whose second GRU gives its last states alone."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((7, 5))
    x = layers.Bidirectional(layers.GRU(4, return_sequences=True))(x)
    x = layers.Bidirectional(layers.GRU(3))(x)
    return keras.Model(inputs, layers.Dense(2, activation="sigmoid")(x))
