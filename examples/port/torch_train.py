"""How torch_net.py is trained; keras_train.py trains its port, and goes another way from the first step on."""

import torch
import torch.nn.functional as F
from torch_net import Net

__all__ = ["Net", "loss", "optimizer", "train_step"]


def loss(outputs, labels):
    """The mean cross-entropy of a batch."""
    return F.cross_entropy(outputs, labels)


def optimizer(parameters):
    """Stochastic gradient descent with momentum."""
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


def train_step(model, optimizer, images, labels):
    """One step; its loss."""
    optimizer.zero_grad()
    value = loss(model(images), labels)
    value.backward()
    optimizer.step()
    return value
