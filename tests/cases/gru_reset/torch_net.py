"""Keras's documentation of GRU: reset_after is False in models of Keras 1 and 2; PyTorch has the other formula."""

from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(5, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x, _ = self.gru(x)
        return self.out(x[:, -1])
