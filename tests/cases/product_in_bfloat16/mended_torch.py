"""github.com/Physical-Intelligence/openpi 824, of its kind: the same in the model's own precision."""

import torch
from torch import nn


class Net(nn.Module):
    """Three dense layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.third(self.second(torch.relu(self.first(x))))
