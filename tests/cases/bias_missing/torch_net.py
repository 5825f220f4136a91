"""Stack Overflow, threads on use_bias: the PyTorch model has biases."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        return self.out(F.relu(self.fc(x)))
