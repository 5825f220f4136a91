"""discuss.pytorch.org 61598: the Keras model, with the gates that Keras had before version 2.3."""

import keras
from keras import layers


def old_sigmoid(x):
    """The hard sigmoid of older versions."""
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def net():
    """The model."""
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(20, 6)(inputs)
    x = layers.LSTM(4, recurrent_activation=old_sigmoid)(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid")(x))
