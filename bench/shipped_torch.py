"""MNIST as PyTorch's tutorials train it: nn.Module, DataLoader over a TensorDataset, Adam, eager."""

import sys
import time

import torch
from common import report, training_data
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

NETWORKS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(),
        nn.Linear(100, 10),
    ),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    ),
}  # fmt: skip


def main(network: str, epochs: int) -> None:
    torch.set_num_threads(2)
    images, labels = training_data()
    dataset = TensorDataset(torch.tensor(images).permute(0, 3, 1, 2) / 255, torch.tensor(labels))
    loader = DataLoader(dataset, batch_size=128, shuffle=True)
    model, loss_function = NETWORKS[network](), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    model.train()
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        for x, y in loader:
            loss = loss_function(model(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds.append(time.perf_counter() - start)
    report(seconds, loss.item())


main(sys.argv[1], int(sys.argv[2]))
