"""discuss.pytorch.org 183856: the Keras model."""

import keras
from keras import layers


def net():
    """The model."""
    x = inputs = keras.Input((6, 8, 10, 1))
    x = layers.Conv3D(4, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    y = layers.Conv3D(4, 3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling3D()(x)
    return keras.Model(inputs, layers.Dense(2)(x))
