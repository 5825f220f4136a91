"""discuss.pytorch.org, threads on the implicit dimension of softmax: over the words, not over the classes."""

from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(5, 4)
        self.softmax = nn.Softmax(dim=1)

    def forward(self, x):
        return self.softmax(self.out(x))
