"""github.com/huggingface/diffusers 5137: the down-sampling block, zeros on the right and the bottom alone."""

import torch.nn.functional as F
from torch import nn


class Downsample(nn.Module):
    """Normalised in groups, SiLU, padded on two sides, a strided convolution."""

    def __init__(self):
        super().__init__()
        self.norm = nn.GroupNorm(2, 4, eps=1e-6)
        self.conv = nn.Conv2d(4, 5, 3, stride=2, padding=0)

    def forward(self, x):
        x = F.silu(self.norm(x))
        x = F.pad(x, (0, 1, 0, 1))
        return self.conv(x)
