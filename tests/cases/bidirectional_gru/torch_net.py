"""discuss.pytorch.org 36268: bidirectional GRUs that Keras trains and PyTorch does not."""

import torch
from torch import nn


class Net(nn.Module):
    """Two bidirectional GRUs and a dense layer over the last step."""

    def __init__(self):
        super().__init__()
        self.first = nn.GRU(5, 4, batch_first=True, bidirectional=True)
        self.second = nn.GRU(8, 3, batch_first=True, bidirectional=True)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        x, _ = self.first(x)
        x, _ = self.second(x)
        return torch.sigmoid(self.out(x[:, -1]))
