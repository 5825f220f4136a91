"""Stack Overflow, threads on carrying a kernel to nn.Linear: carried over and not transposed."""

import numpy as np
import written_numpy


def parameters():
    """The weights of the other file."""
    return written_numpy.parameters()


def forward(parameters, x):
    """(batch, 5) → (batch, 3)."""
    x = np.maximum(x @ parameters["kernel"].T + parameters["bias"], 0)
    return x @ parameters["out"]
