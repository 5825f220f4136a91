"""github.com/huggingface/transformers PR 11364: the block in Flax, whose GELU is an approximation unasked."""

from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.Dense(12)(x))
        return nn.LayerNorm(epsilon=1e-12)(x + nn.Dense(6)(y))
