"""Stack Overflow, threads on PReLU's shared_axes: one slope a channel in PyTorch."""

from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.prelu = nn.PReLU(4)

    def forward(self, x):
        return self.prelu(self.conv(x))
