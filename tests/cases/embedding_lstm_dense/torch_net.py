"""discuss.pytorch.org 61598: embedding, LSTM, dense; Keras learns and the port does not."""

import torch
from torch import nn


class Net(nn.Module):
    """Embedding, LSTM over what it takes for time, a dense layer over the last step."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 4)
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        x, _ = self.lstm(self.embedding(x))
        return torch.sigmoid(self.out(x[:, -1]))


def batch():
    """Nine sentences of seven words."""
    return torch.randint(0, 20, (9, 7), generator=torch.Generator().manual_seed(0))
