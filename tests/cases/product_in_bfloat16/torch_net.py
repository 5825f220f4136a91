"""github.com/Physical-Intelligence/openpi 824, of its kind: a block whose products are taken in bfloat16."""

import torch
from torch import nn


class Net(nn.Module):
    """A dense layer in bfloat16 between two others."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        weight, bias = self.second.weight.to(torch.bfloat16), self.second.bias.to(torch.bfloat16)
        y = nn.functional.linear(x.to(torch.bfloat16), weight, bias)
        return self.third(y.to(x.dtype))
