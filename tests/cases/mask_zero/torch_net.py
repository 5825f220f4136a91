"""Stack Overflow, threads on mask_zero: PyTorch goes on over the padding."""

from torch import nn


class Net(nn.Module):
    """The model."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 6, padding_idx=0)
        self.lstm = nn.LSTM(6, 4, batch_first=True)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        x, _ = self.lstm(self.embedding(x))
        return self.out(x[:, -1])
