"""Stack Overflow, threads on DepthwiseConv2D's kernel: a convolution in groups."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.deep = nn.Conv2d(3, 6, 3, padding=1, groups=3)
        self.wide = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.wide(F.relu6(self.deep(x)))
