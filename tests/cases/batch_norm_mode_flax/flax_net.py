"""The Flax model with use_running_average=False for good."""

from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), padding=1)(x)
        return nn.relu(nn.BatchNorm(use_running_average=False)(x))
