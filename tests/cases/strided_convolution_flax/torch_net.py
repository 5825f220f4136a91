"""github.com/google/flax 2993: a strided convolution, carried over from PyTorch, gives other numbers."""

from torch import nn


def net():
    """The model."""
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2, padding=1))
