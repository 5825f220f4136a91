"""Flax's documentation of BatchNorm: the mode is an argument; the PyTorch model is in eval()."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, momentum=0.01)

    def forward(self, x):
        return F.relu(self.norm(self.conv(x)))
