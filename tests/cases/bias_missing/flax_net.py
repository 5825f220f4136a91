"""The port has none in its first layer."""

from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, use_bias=False)(x))
        return nn.Dense(3)(x)
