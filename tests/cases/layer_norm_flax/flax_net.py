"""github.com/google/flax 2195: the same in Flax."""

from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(4)(nn.LayerNorm()(x))
