"""The program that JAX makes of an epoch, as text: `python -m support.xla_program [textbook]`, in its own process.

With `textbook` a convolution is what JAX's documentation offers, `lax.conv_general_dilated`.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np

from lockstep.backends import jax as backend
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.spec import LayerFacts, Network, Recipe

SHAPE, BATCH = (12, 12, 1), 8
NETWORK = Network(
    ["conv2d 6 3", "relu", "max_pool2d", "conv2d 16 3 padding=same", "relu", "max_pool2d", "flatten", "dense 10"]
)


def textbook(row: LayerFacts, x: Any, w: Any, on: Any) -> Any:
    """The convolution of JAX's own."""
    y = jax.lax.conv_general_dilated(
        x,
        w[f"{row.name}/kernel"],
        row.layer.window()[1],
        row.layer.padding.upper(),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + w[f"{row.name}/bias"]


def main() -> None:
    plan = Plan(NETWORK, SHAPE, Recipe("adam", 1, BATCH), 0, np.zeros(1), np.ones(1) / 255, 2, "float32", "cpu", 2)
    model: Any = backend.build(plan, initial_weights(NETWORK, SHAPE, 0, "float32"))
    model.place(np.zeros((2 * BATCH, *SHAPE), np.uint8), np.zeros(2 * BATCH, np.int64))
    compiled = model.compiled_epoch

    def shown(*arguments: Any) -> Any:
        print(compiled.lower(*arguments).compile().as_text())
        return compiled(*arguments)

    model.compiled_epoch = shown
    model.train_epoch(np.arange(2 * BATCH))


if __name__ == "__main__":
    if sys.argv[1:] == ["textbook"]:
        backend.LAYERS["conv2d"] = textbook
    main()
