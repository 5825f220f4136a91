"""Flax's guide "Convert PyTorch models to Flax", transposed convolutions: the PyTorch decoder."""

from torch import nn


def net():
    """The model."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 5, 2, stride=2))
