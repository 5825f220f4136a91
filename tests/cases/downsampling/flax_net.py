"""github.com/huggingface/diffusers 5137: the Flax block, zeros on all four sides."""

from flax import linen as nn


class Downsample(nn.Module):
    """Normalised in groups, SiLU, a strided convolution."""

    @nn.compact
    def __call__(self, x):
        x = nn.swish(nn.GroupNorm(num_groups=2, epsilon=1e-5)(x))
        return nn.Conv(5, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))(x)
