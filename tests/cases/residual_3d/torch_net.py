"""discuss.pytorch.org 183856: a residual network of volumes with batch normalisation; the port trains worse."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv3d(1, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm3d(4)
        self.conv = nn.Conv3d(4, 4, 3, padding=1)
        self.bn2 = nn.BatchNorm3d(4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x = F.relu(self.bn1(self.stem(x)))
        x = F.relu(x + self.bn2(self.conv(x)))
        return self.out(x.mean((2, 3, 4)))
