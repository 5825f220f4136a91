"""github.com/google/flax 2993: the same in Flax, whose padding is "SAME" unasked."""

from flax import linen as nn


class Net(nn.Module):
    """Two strided convolutions."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        return nn.Conv(5, (3, 3), strides=2)(x)
