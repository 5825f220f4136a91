"""github.com/google/flax 963: the stem in Flax, padded as TensorFlow does."""

from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (7, 7), (2, 2), padding="SAME", use_bias=False)(x)
        return nn.max_pool(nn.relu(x), (3, 3), strides=(2, 2), padding="SAME")
