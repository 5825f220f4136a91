"""github.com/google/flax 4188: a depthwise convolution of one axis; equal outputs, other gradients were reported."""

from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(6, 12, 3, padding=1, groups=6)

    def forward(self, x):
        return self.conv(x)
