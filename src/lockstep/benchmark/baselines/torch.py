"""PyTorch as its tutorials teach it: nn.Sequential, a DataLoader over a TensorDataset, one step at a time.

After "Training with PyTorch" and "Quickstart" of PyTorch's documentation. The tutorials' datasets turn each image into
a tensor at every access, which takes several times longer still; here they are tensors before.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from lockstep.benchmark.baselines import Images, Trained
from lockstep.spec import Run


def network(run: Run, input_shape: tuple[int, ...]) -> nn.Sequential:
    """The layers, with PyTorch's own defaults for what the spec leaves to a framework."""
    layers: list[nn.Module] = []
    for row in run.network.facts(input_shape):
        layer, channels = row.layer, row.input_shape[-1]
        if layer.kind == "conv2d":
            padding = "same" if layer.padding == "same" and layer.stride == (1, 1) else 0
            layers.append(nn.Conv2d(channels, layer.filters, layer.kernel, layer.stride, padding, bias=layer.bias))
        elif layer.kind == "max_pool2d":
            layers.append(nn.MaxPool2d(layer.size, layer.stride))
        elif layer.kind == "flatten":
            layers.append(nn.Flatten())
        elif layer.kind == "dense":
            layers.append(nn.Linear(channels, layer.units, bias=layer.bias))
        elif layer.kind == "batch_norm":
            layers.append(nn.BatchNorm2d(channels) if len(row.input_shape) == 3 else nn.BatchNorm1d(channels))
        elif layer.kind == "dropout":
            layers.append(nn.Dropout(layer.rate))
        else:
            layers.append(nn.ReLU())
    return nn.Sequential(*layers)


class Transformed(Dataset[Any]):
    """What torchvision's MNIST with ToTensor does: an image becomes a tensor each time that it is asked for."""

    def __init__(self, images: Images) -> None:
        self.pixels, self.labels = (images.train * 255).astype(np.uint8), images.train_labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        pixels = torch.from_numpy(self.pixels[index]).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        return pixels, int(self.labels[index])


def train(run: Run, images: Images, threads: int, fault: str = "") -> Trained:
    """Every epoch of the run; `fault` is "item", "transforms" or "bfloat16" (see `lockstep.benchmark.mistakes`)."""
    start = time.perf_counter()
    torch.set_num_threads(threads)
    torch.manual_seed(run.seed)
    recipe = run.recipe
    dataset: Dataset[Any] = TensorDataset(
        torch.from_numpy(images.train).permute(0, 3, 1, 2), torch.from_numpy(images.train_labels)
    )
    if fault == "transforms":
        dataset = Transformed(images)
    loader = DataLoader(dataset, batch_size=recipe.batch_size, shuffle=True)
    model = network(run, images.train.shape[1:])
    loss_function = nn.CrossEntropyLoss()
    rate = recipe.optimizer.learning_rate
    adam = recipe.optimizer.kind == "adam"
    optimizer = torch.optim.Adam(model.parameters(), lr=rate) if adam else torch.optim.SGD(model.parameters(), lr=rate)
    built = time.perf_counter() - start

    epochs, total = [], 0.0
    for _ in range(recipe.epochs):
        start = time.perf_counter()
        model.train()
        for pixels, labels in loader:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fault == "bfloat16"):
                loss = loss_function(model(pixels), labels)
            loss.backward()
            optimizer.step()
            if fault == "item":
                total += loss.item()
        epochs.append(time.perf_counter() - start)

    def predict(test: np.ndarray) -> np.ndarray:
        model.eval()
        with torch.no_grad():
            pixels = torch.from_numpy(test).permute(0, 3, 1, 2)
            parts = DataLoader(TensorDataset(pixels), batch_size=recipe.batch_size)
            return torch.cat([model(part).argmax(1) for (part,) in parts]).numpy()

    return Trained(epochs, len(images.train), predict, built)
