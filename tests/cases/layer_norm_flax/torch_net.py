"""github.com/google/flax 2195: layer normalisation that is not PyTorch's."""

from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        return self.out(self.norm(x))
