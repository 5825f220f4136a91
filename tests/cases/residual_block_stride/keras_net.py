"""github.com/keras-team/keras PR 16363: the block of keras.applications, whose first 1×1 convolution has the stride."""

import keras
from keras import layers


def net():
    """The model."""
    inputs = keras.Input((15, 17, 8))
    short = layers.Conv2D(12, 1, strides=2, name="0_conv")(inputs)
    short = layers.BatchNormalization(epsilon=1.001e-5, name="0_bn")(short)
    x = layers.Conv2D(4, 1, strides=2, name="1_conv")(inputs)
    x = layers.BatchNormalization(epsilon=1.001e-5, name="1_bn")(x)
    x = layers.Activation("relu")(x)
    x = layers.Conv2D(4, 3, padding="same", name="2_conv")(x)
    x = layers.BatchNormalization(epsilon=1.001e-5, name="2_bn")(x)
    x = layers.Activation("relu")(x)
    x = layers.Conv2D(12, 1, name="3_conv")(x)
    x = layers.BatchNormalization(epsilon=1.001e-5, name="3_bn")(x)
    x = layers.Activation("relu")(layers.Add()([short, x]))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
