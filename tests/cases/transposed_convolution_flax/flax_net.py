"""Flax's guide "Convert PyTorch models to Flax", transposed convolutions: transpose_kernel is False unasked."""

from flax import linen as nn


class Net(nn.Module):
    """A convolution and a transposed one."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), padding="VALID")(x))
        return nn.ConvTranspose(5, (2, 2), strides=(2, 2), padding="VALID")(x)
