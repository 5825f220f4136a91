"""PyTorch's side: the model's passes (`side`), and how it is trained (`training`)."""

from lockstep.exchange.models.torch.side import Torch as Torch
