"""Stack Overflow, threads on LeakyReLU's alpha and negative_slope: PyTorch's 0.01."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(F.leaky_relu(self.fc(x)))
