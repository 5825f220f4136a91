"""discuss.pytorch.org, threads on output_padding and Keras's Conv2DTranspose: the decoder in PyTorch."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)

    def forward(self, x):
        return self.up(F.relu(self.conv(x)))
