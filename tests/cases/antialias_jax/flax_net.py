"""The same in JAX, which smooths unasked."""

import jax
from flax import linen as nn


class Net(nn.Module):
    """The model."""

    @nn.compact
    def __call__(self, x):
        x = jax.image.resize(x, (x.shape[0], 8, 10, 3), "bilinear")
        return nn.Conv(4, (3, 3), padding=1)(x)
