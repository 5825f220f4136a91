"""`python -m cases.equals [--seeds N] [NAME …]`: pairs that compute the same and must be EQUAL: no false alarm.

Each row is one small model, written once for every framework that has it, with all that the frameworks choose otherwise
unasked said. Every two of them are a pair, and so are the two ways of writing it in PyTorch where there are two.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cases.processes import kept
from lockstep.errors import LockstepError
from lockstep.language import say
from lockstep.proof.pair import difference

HOUSE = """\
import numpy as np
{framework}
from lockstep.backends import {backend} as backend
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.spec import Network, Recipe

SHAPE = 11, 13, 3


def Net():
    dtype = {dtype}
    network = Network([
        "conv2d 4 3", "relu", "max_pool2d 2", "conv2d 5 3 padding=same", "gelu", "avg_pool2d 2", "flatten", "dense 6",
        "tanh", "dense 3",
    ])
    plan = Plan(network, SHAPE, Recipe("adam", 1, 4), 0, np.zeros(1), np.ones(1), 3, dtype, "cpu", 1)
    model = backend.build(plan, initial_weights(network, SHAPE, 0, dtype))
    return {model}
"""
HEADS = {
    "house_torch": "",
    "house_keras": "",
    "torch": "import torch\nimport torch.nn.functional as F\nfrom torch import nn\n\n\n",
    "keras": "import keras\nfrom keras import layers, ops\n\n\n",
    "flax": "import jax\nimport jax.numpy as jnp\nfrom flax import linen as nn\n\n\n",
    "numpy": "import numpy as np\n\n\n",
}


def torch(init: str, forward: str) -> str:
    return (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"{_lines(init, 8)}\n    def forward(self, x):\n{_lines(forward, 8)}"
    )


def keras(shape: str, body: str) -> str:
    return f"def Net():\n    x = inputs = keras.Input({shape})\n{_lines(body, 4)}    return keras.Model(inputs, x)\n"


def flax(body: str, train: bool = False) -> str:
    given = "self, x, train=False" if train else "self, x"
    return f"class Net(nn.Module):\n    @nn.compact\n    def __call__({given}):\n{_lines(body, 8)}"


def numpy(parameters: str, body: str) -> str:
    return (
        "def parameters():\n    numbers = np.random.default_rng(0)\n"
        f"    return {{{parameters}}}\n\n\ndef Net(p, x):\n{_lines(body, 4)}"
    )


def _lines(text: str, n: int) -> str:
    return "".join(" " * n + line + "\n" for line in text.strip().splitlines())


@dataclasses.dataclass(frozen=True)
class Model:
    """One model in every framework that has it; `shape` is of one example as the first of them takes it."""

    name: str
    shape: tuple[int, ...]
    written: dict[str, str]  # framework, with a digit behind it for another way → its text

    def pairs(self) -> Iterator[tuple[str, str]]:
        yield from itertools.combinations(self.written, 2)

    def files(self, folder: Path) -> dict[str, Path]:
        found = {}
        for way, text in self.written.items():
            found[way] = folder / f"{self.name}_{way}.py"
            found[way].write_text(HEADS[way.rstrip("0123456789")] + text, encoding="utf-8")
        return found


MODELS = (
    Model("dense", (6,), {
        "torch": torch("self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)", "return self.b(torch.relu(self.a(x)))"),
        "torch2": torch("self.all = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))", "return self.all(x)"),
        "keras": keras("(6,)", 'x = layers.Dense(3)(layers.Dense(8, activation="relu")(x))'),
        "flax": flax("return nn.Dense(3)(nn.relu(nn.Dense(8)(x)))"),
        "numpy": numpy('"a": numbers.normal(size=(6, 8)), "c": numbers.normal(size=8), "b": numbers.normal(size=(8, 3)), "d": numbers.normal(size=3)',
                       'return np.maximum(x @ p["a"] + p["c"], 0) @ p["b"] + p["d"]'),
    }),
    Model("convolution", (3, 9, 11), {
        "torch": torch("self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, stride=2)", "return self.b(F.silu(self.a(x)))"),
        "torch2": torch("self.b, self.a = nn.Conv2d(4, 5, 3, stride=2), nn.Conv2d(3, 4, 3, padding='same')",
                        "y = self.a(x)\nreturn F.conv2d(y * y.sigmoid(), self.b.weight, self.b.bias, stride=2)"),
        "keras": keras("(9, 11, 3)", 'x = layers.Conv2D(4, 3, padding="same", activation="silu")(x)\nx = layers.Conv2D(5, 3, strides=2)(x)'),
        "flax": flax('return nn.Conv(5, (3, 3), strides=2, padding="VALID")(nn.silu(nn.Conv(4, (3, 3))(x)))'),
    }),
    Model("normalised", (3, 8, 10), {
        "torch": torch("self.a, self.n = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-4)", "return F.relu6(self.n(self.a(x)))"),
        "torch2": torch("self.a, self.n = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, eps=1e-4)", "return self.n(self.a(x)).clamp(0, 6)"),
    }),
    Model("layer_norm", (5, 6), {
        "torch": torch("self.n, self.a = nn.LayerNorm(6, eps=1e-4), nn.Linear(6, 4)", "return F.gelu(self.a(self.n(x)))"),
        "torch2": torch("self.n, self.a = nn.LayerNorm(6, eps=1e-4), nn.Linear(6, 4)",
                        "y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-4).sqrt()\n"
                        "return F.gelu(F.linear(y * self.n.weight + self.n.bias, self.a.weight, self.a.bias))"),
        "keras": keras("(5, 6)", 'x = layers.Dense(4, activation="gelu")(layers.LayerNormalization(epsilon=1e-4)(x))'),
        "flax": flax("return nn.gelu(nn.Dense(4)(nn.LayerNorm(epsilon=1e-4)(x)), approximate=False)"),
    }),
    Model("group_norm", (4, 6, 8), {
        "torch": torch("self.n = nn.GroupNorm(2, 4, eps=1e-4)", "return F.elu(self.n(x))"),
        "keras": keras("(6, 8, 4)", 'x = layers.Activation("elu")(layers.GroupNormalization(2, epsilon=1e-4)(x))'),
        "flax": flax("return nn.elu(nn.GroupNorm(num_groups=2, epsilon=1e-4)(x))"),
    }),
    Model("pooled", (3, 12, 14), {
        "torch": torch("self.a = nn.Conv2d(3, 4, 3)", "x = F.max_pool2d(torch.tanh(self.a(x)), 2)\nreturn F.avg_pool2d(x, 2).mean((2, 3))"),
        "torch2": torch("self.all = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())",
                        "return self.all(x)"),
        "keras": keras("(12, 14, 3)", 'x = layers.MaxPooling2D()(layers.Conv2D(4, 3, activation="tanh")(x))\nx = layers.GlobalAveragePooling2D()(layers.AveragePooling2D()(x))'),
        "flax": flax('x = nn.max_pool(jnp.tanh(nn.Conv(4, (3, 3), padding="VALID")(x)), (2, 2), strides=(2, 2))\nreturn nn.avg_pool(x, (2, 2), strides=(2, 2)).mean((1, 2))'),
    }),
    Model("residual", (4, 7, 9), {
        "torch": torch("self.a, self.b, self.s = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(4, 6, 1)",
                       "return F.relu(self.s(x) + self.b(F.relu(self.a(x))))"),
        "torch2": torch("self.s, self.a, self.b = nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)",
                        "y = self.s(x)\ny += self.b(self.a(x).relu())\nreturn y.relu()"),
        "keras": keras("(7, 9, 4)", 's = layers.Conv2D(6, 1)(x)\ny = layers.Conv2D(6, 3, padding="same", activation="relu")(x)\n'
                       'y = layers.Conv2D(6, 3, padding="same")(y)\nx = layers.ReLU()(layers.Add()([s, y]))'),
        "flax": flax("s = nn.Conv(6, (1, 1))(x)\ny = nn.Conv(6, (3, 3))(nn.relu(nn.Conv(6, (3, 3))(x)))\nreturn nn.relu(s + y)"),
    }),
    Model("attention", (5, 6), {
        "torch": torch("self.q, self.k, self.v = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)",
                       "return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x))"),
        "torch2": torch("self.q, self.k, self.v = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)",
                        "s = self.q(x) @ self.k(x).transpose(1, 2) / 6 ** 0.5\nreturn s.softmax(-1) @ self.v(x)"),
        "keras": keras("(5, 6)", "q, k, v = layers.Dense(6)(x), layers.Dense(6)(x), layers.Dense(6)(x)\n"
                       "s = ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 6 ** 0.5\nx = ops.matmul(ops.softmax(s), v)"),
        "flax": flax("q, k, v = nn.Dense(6)(x), nn.Dense(6)(x), nn.Dense(6)(x)\n"
                     "return nn.softmax(q @ k.swapaxes(1, 2) / 6 ** 0.5) @ v"),
    }),
    Model("recurrent", (7, 4), {
        "torch": torch("self.a, self.b = nn.LSTM(4, 5, batch_first=True), nn.Linear(5, 3)", "return self.b(self.a(x)[0][:, -1])"),
        "torch2": torch("self.a, self.b = nn.LSTM(4, 5), nn.Linear(5, 3)", "return self.b(self.a(x.transpose(0, 1))[1][0][0])"),
        "keras": keras("(7, 4)", "x = layers.Dense(3)(layers.LSTM(5)(x))"),
    }),
    Model("gated", (7, 4), {
        "torch": torch("self.a = nn.GRU(4, 5, batch_first=True)", "return self.a(x)[0]"),
        "keras": keras("(7, 4)", "x = layers.GRU(5, return_sequences=True)(x)"),
    }),
    Model("depthwise", (3, 8, 9), {
        "torch": torch("self.a, self.b = nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.Conv2d(6, 4, 1)", "return self.b(F.leaky_relu(self.a(x), 0.25))"),
        "keras": keras("(8, 9, 3)", 'x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)\nx = layers.Conv2D(4, 1)(layers.LeakyReLU(negative_slope=0.25)(x))'),
        "flax": flax("return nn.Conv(4, (1, 1))(nn.leaky_relu(nn.Conv(6, (3, 3), feature_group_count=3)(x), 0.25))"),
    }),
    Model("two_towers", (6,), {
        "torch": torch("self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(16, 3)",
                       "return self.c(torch.cat([self.a(x).tanh(), self.b(x).sigmoid()], 1))"),
        "torch2": torch("self.c, self.b, self.a = nn.Linear(16, 3), nn.Linear(6, 8), nn.Linear(6, 8)",
                        "a, b = torch.tanh(self.a(x)), torch.sigmoid(self.b(x))\nreturn self.c(torch.hstack((a, b)))"),
        "keras": keras("(6,)", 'x = layers.Dense(3)(layers.Concatenate()([layers.Dense(8, activation="tanh")(x), layers.Dense(8, activation="sigmoid")(x)]))'),
        "flax": flax("a, b = nn.tanh(nn.Dense(8)(x)), nn.sigmoid(nn.Dense(8)(x))\nreturn nn.Dense(3)(jnp.concatenate([a, b], 1))"),
        "numpy": numpy('"a": numbers.normal(size=(6, 8)), "d": numbers.normal(size=8), "b": numbers.normal(size=(6, 8)), "e": numbers.normal(size=8), "c": numbers.normal(size=(16, 3)), "f": numbers.normal(size=3)',
                       'a, b = np.tanh(x @ p["a"] + p["d"]), 1 / (1 + np.exp(-(x @ p["b"] + p["e"])))\nreturn np.concatenate([a, b], 1) @ p["c"] + p["f"]'),
    }),
    Model("backends", (3, 11, 13), {
        "house_torch": HOUSE.format(
            framework="import torch", backend="torch", dtype='str(torch.get_default_dtype()).removeprefix("torch.")',
            model="torch.nn.Sequential(*model.modules)",
        ),
        "house_keras": HOUSE.format(
            framework="import keras", backend="tensorflow", dtype="keras.config.floatx()",
            model="keras.Sequential([keras.Input(SHAPE), *model.layers.values()])",
        ),
    }),
    Model("shared", (6,), {
        "torch": torch("self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)", "return self.b(self.a(self.a(x).relu()).relu())"),
        "torch2": torch("self.b, self.a = nn.Linear(6, 3), nn.Linear(6, 6)", "for _ in range(2):\n    x = torch.relu(self.a(x))\nreturn self.b(x)"),
        "keras": keras("(6,)", 'a = layers.Dense(6, activation="relu")\nx = layers.Dense(3)(a(a(x)))'),
        "flax": flax("a = nn.Dense(6)\nreturn nn.Dense(3)(nn.relu(a(nn.relu(a(x)))))"),
    }),
)  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cases.equals", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args(words)
    n = wrong = n_pairs = 0
    with tempfile.TemporaryDirectory() as folder, kept():
        for model in MODELS:
            if asked.names and model.name not in asked.names:
                continue
            files = model.files(Path(folder))
            for one, other in model.pairs():
                n_pairs += 1
                for seed in range(asked.seeds):
                    n += 1
                    told = compared(files[one], files[other], model.shape, seed)
                    wrong += bool(told)
                    if told or seed == asked.seeds - 1:
                        print(f"{model.name} | {one} | {other} | {told or 'EQUAL'}", flush=True)
                    if told:
                        break
    print(f"{n_pairs} pairs, {n} comparisons, {wrong} not equal")
    return 1 if wrong else 0


def compared(a: Path, b: Path, shape: tuple[int, ...], seed: int = 0) -> str:
    """What is told of a pair that is equal; "" where that is so."""
    try:
        found = difference.compare(f"{a}:Net", f"{b}:Net", input_shape=_as_taken(a, shape), seed=seed)
    except LockstepError as error:
        return f"ERROR {error}"
    causes = "; ".join(str(say(finding.cause or "unexplained")) for finding in found.findings)
    return "" if found.equal else f"{found.verdict} {causes or '; '.join(map(str, map(say, found.doubts)))}"


def _as_taken(file: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    """An example's shape as a file takes it: PyTorch has the channels of an image first."""
    is_last = "torch" not in file.stem and len(shape) == 3
    return (*shape[1:], shape[0]) if is_last else shape


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
