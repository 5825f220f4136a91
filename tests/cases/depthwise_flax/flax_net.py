"""github.com/google/flax 4188: the same in Flax."""

from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        return nn.Conv(12, (3,), padding=1, feature_group_count=6)(x)
