"""Stack Overflow 63177631: focus, convolution and batch normalisation, ported from PyTorch; the outputs differ."""

import torch
from torch import nn


class Focus(nn.Module):
    """Every second pixel into channels, a convolution, batch normalisation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(12, 5, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(5)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x):
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        return self.act(self.bn(self.conv(x)))


def net():
    """The model."""
    return Focus()
