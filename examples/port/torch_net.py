"""A small network in PyTorch, as a tutorial has it; keras_net.py is its port, which gives other numbers."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """Two convolutions with batch normalisation, and a dense layer."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(6)
        self.out = nn.Linear(6 * 14 * 14, 10)

    def forward(self, x):
        """(batch, 1, 28, 28) → (batch, 10)."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.leaky_relu(self.norm2(self.conv2(x)))
        return self.out(x.flatten(1))
