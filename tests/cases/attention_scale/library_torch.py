"""The same with the function of the library, which divides."""

import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))
