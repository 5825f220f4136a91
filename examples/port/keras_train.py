"""The training of torch_train.py in Keras, with Keras's own defaults: what differs shows in no shape."""

import keras
import tensorflow as tf
from keras_net import build

__all__ = ["build", "loss", "optimizer", "train_step"]

loss = keras.losses.SparseCategoricalCrossentropy()
optimizer = keras.optimizers.SGD(learning_rate=0.01, momentum=0.9, nesterov=True)


def train_step(model, optimizer, batch):
    """One step; its loss."""
    images, labels = batch
    with tf.GradientTape() as tape:
        value = loss(labels, model(images))
    gradients = tape.gradient(value, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return value
