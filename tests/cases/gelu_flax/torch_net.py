"""github.com/huggingface/transformers PR 11364: the feed-forward block of BERT in PyTorch."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(6, 12)
        self.down = nn.Linear(12, 6)
        self.norm = nn.LayerNorm(6, eps=1e-12)

    def forward(self, x):
        return self.norm(x + self.down(F.gelu(self.up(x))))
