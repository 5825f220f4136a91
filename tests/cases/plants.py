"""`python -m cases.plants [--pairs N] [--seed S] [FRAMEWORK …]`: alternatives, planted where a framework has them.

One network for each framework; a plant changes one call of it. The unchanged network against itself must be EQUAL, each
plant must be named at its line, and pairs of plants, drawn by a seed, must both be. A plant whose cause has no name of
its own is "unexplained", at its line.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cases import name_of
from cases.processes import kept
from lockstep.errors import LockstepError
from lockstep.proof.pair import difference
from lockstep.store.documents.difference import Difference

TORCH = """\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=1, padding=1)
        self.norm = nn.BatchNorm2d(4, eps=1e-5, momentum=0.1)
        self.act = nn.LeakyReLU(0.1)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.group = nn.GroupNorm(2, 4, eps=1e-5)
        self.deep = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.average = nn.AvgPool2d(3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1)
        self.fc = nn.Linear(4 * 10 * 14, 6)
        self.layer = nn.LayerNorm(6, eps=1e-5)
        self.lstm = nn.LSTM(2, 4, batch_first=True)
        self.q = nn.Linear(4, 4)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        x = self.act(self.norm(self.stem(x)))
        x = self.deep(self.group(self.pool(x)))
        x = torch.relu(self.up(self.average(x)))
        x = F.interpolate(x, size=(10, 14), mode="bilinear", align_corners=False)
        x = F.gelu(self.layer(self.fc(x.flatten(1))))
        x = self.lstm(x.reshape(-1, 3, 2))[0]
        x = F.scaled_dot_product_attention(self.q(x), x, x)
        return F.softmax(self.out(x), dim=2)
"""
KERAS = """\
import keras
from keras import layers


def net():
    x = inputs = keras.Input((16, 24, 3))
    x = layers.Conv2D(4, 3, strides=1, padding="same")(x)
    x = layers.BatchNormalization(epsilon=1e-3, momentum=0.99)(x)
    x = layers.LeakyReLU(negative_slope=0.125)(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.GroupNormalization(2, epsilon=1e-3)(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(6, activation="gelu")(layers.Flatten()(x))
    x = layers.LayerNormalization(epsilon=1e-3)(x)
    x = layers.LSTM(4, return_sequences=True, recurrent_activation="sigmoid")(layers.Reshape((3, 2))(x))
    x = layers.GRU(4, return_sequences=True, reset_after=True)(x)
    x = layers.Softmax(axis=-1)(layers.Dense(3)(x))
    return keras.Model(inputs, x)
"""
FLAX = """\
import jax
from flax import linen as nn


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(4, (3, 3), strides=1, padding="SAME")(x)
        x = nn.BatchNorm(use_running_average=not train, epsilon=1e-5, momentum=0.9)(x)
        x = nn.leaky_relu(x, 0.125)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        x = nn.GroupNorm(num_groups=2, epsilon=1e-6)(x)
        x = nn.Conv(4, (3, 3), padding="SAME", feature_group_count=4)(x)
        x = nn.avg_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        x = nn.relu(nn.ConvTranspose(4, (3, 3), strides=(2, 2), padding="SAME")(x))
        x = jax.image.resize(x, (x.shape[0], 7, 9, 4), "bilinear", antialias=True)
        x = nn.gelu(nn.Dense(6)(x.reshape(len(x), -1)), approximate=True)
        x = nn.LayerNorm(epsilon=1e-6)(x)
        return nn.softmax(nn.Dense(4)(x.reshape(-1, 3, 2)), axis=-1)
"""
NUMPY = """\
import numpy as np


def parameters():
    numbers = np.random.default_rng(0)
    return {
        "first": numbers.normal(size=(8, 6)), "bias": numbers.normal(size=6), "scale": numbers.uniform(0.5, 1.5, 6),
        "out": numbers.normal(size=(6, 4)),
    }


def forward(parameters, x):
    x = x @ parameters["first"] + parameters["bias"]
    mean = np.mean(x, axis=1, keepdims=True)
    variance = np.var(x, axis=1, keepdims=True)
    x = (x - mean) / np.sqrt(variance + 1e-5) * parameters["scale"]
    x = np.maximum(x, 0.1 * x)
    x = np.exp(x @ parameters["out"])
    return x / np.sum(x, axis=1, keepdims=True)
"""


@dataclasses.dataclass(frozen=True)
class Plant:
    """A change of one call, and by which of these names it is right to call it."""

    old: str
    new: str
    names: tuple[str, ...]
    stage: str = ""

    def planted(self, source: str) -> str:
        assert source.count(self.old) == 1, self.old
        return source.replace(self.old, self.new)


@dataclasses.dataclass(frozen=True)
class Bed:
    """A framework's network, and what is planted in it."""

    framework: str
    name: str
    shape: tuple[int, ...]
    source: str
    plants: tuple[Plant, ...]


def plants(*rows: tuple[str, str, str]) -> tuple[Plant, ...]:
    return tuple(Plant(old, new, tuple(names.split("|"))) for old, new, names in rows)


BEDS = {
    bed.framework: bed
    for bed in (
        Bed("torch", "Net", (3, 16, 24), TORCH, plants(
            ("self.stem = nn.Conv2d(3, 4, 3, stride=1, padding=1)", "self.stem = nn.Conv2d(3, 4, 3, stride=1, padding=1, padding_mode=\"circular\")", "padding_mode"),
            ("stride=1, padding=1)", "stride=1, padding=2, dilation=2)", "dilation|pads"),
            ("eps=1e-5, momentum=0.1", "eps=1e-3, momentum=0.1", "epsilon"),
            ("eps=1e-5, momentum=0.1", "eps=1e-5, momentum=0.01", "momentum"),
            ("nn.LeakyReLU(0.1)", "nn.LeakyReLU(0.01)", "slope"),
            ("nn.LeakyReLU(0.1)", "nn.ELU()", "function"),
            ("nn.GroupNorm(2, 4, eps=1e-5)", "nn.GroupNorm(2, 4, eps=1e-6)", "epsilon"),
            ("nn.GroupNorm(2, 4, eps=1e-5)", "nn.GroupNorm(4, 4, eps=1e-5)", "num_groups"),
            ("nn.AvgPool2d(3, stride=2, padding=1)", "nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)", "counted"),
            ("self.pool = nn.MaxPool2d(3, stride=2, padding=1)", "self.pool = nn.MaxPool2d(3, stride=2, padding=0, ceil_mode=True)", "pads|ceiling"),
            ("padding=1, output_padding=1)", "padding=1, output_padding=1, dilation=1, bias=False)", "bias"),
            ("align_corners=False", "align_corners=True", "corners"),
            ('mode="bilinear", align_corners=False', 'mode="nearest"', "method"),
            ("nn.LayerNorm(6, eps=1e-5)", "nn.LayerNorm(6, eps=1e-12)", "epsilon"),
            ("x.flatten(1)", "x.permute(0, 2, 3, 1).flatten(1)", "flatten"),
            ("F.gelu(self.layer", "F.gelu(approximate=\"tanh\", input=self.layer", "exact"),
            ("F.scaled_dot_product_attention(self.q(x), x, x)", "F.scaled_dot_product_attention(self.q(x), x, x, is_causal=True)", "causal"),
            ("F.scaled_dot_product_attention(self.q(x), x, x)", "F.scaled_dot_product_attention(self.q(x), x, x, scale=1.0)", "scale"),
            ("batch_first=True", "batch_first=False", "batch first"),
            ("dim=2", "dim=1", "axis"),
            ("return F.softmax(self.out(x), dim=2)", "return F.softmax(self.out(x), dim=2).flip(1)", "order"),
            ("torch.relu(", "F.silu(", "function"),
            ("self.fc(x.flatten(1))", "self.fc(x.flip(3).flatten(1))", "order"),
        )),
        Bed("keras", "net", (16, 24, 3), KERAS, plants(
            ('strides=1, padding="same")', 'strides=1, padding="same", dilation_rate=2)', "dilation"),
            ("epsilon=1e-3, momentum=0.99", "epsilon=1e-5, momentum=0.99", "epsilon"),
            ("epsilon=1e-3, momentum=0.99", "epsilon=1e-3, momentum=0.9", "momentum"),
            ("negative_slope=0.125", "negative_slope=0.25", "slope"),
            ("layers.LeakyReLU(negative_slope=0.125)", 'layers.Activation("elu")', "function|activation"),
            ("layers.GroupNormalization(2, epsilon=1e-3)", "layers.GroupNormalization(2, epsilon=1e-5)", "epsilon"),
            ("layers.GroupNormalization(2,", "layers.GroupNormalization(4,", "groups"),
            ("layers.AveragePooling2D(3, strides=2, padding=\"same\")(x)", "layers.AveragePooling2D(3, strides=2)(layers.ZeroPadding2D(((0, 1), (0, 1)))(x))", "counted"),
            ('interpolation="bilinear"', 'interpolation="nearest"', "method"),
            ('activation="gelu"', 'activation="silu"', "activation"),
            ("layers.LayerNormalization(epsilon=1e-3)", "layers.LayerNormalization(epsilon=1e-6)", "epsilon"),
            ('recurrent_activation="sigmoid"', 'recurrent_activation="hard_sigmoid"', "gates"),
            ("reset_after=True", "reset_after=False", "reset"),
            ("layers.Flatten()(x)", "layers.Flatten()(layers.Permute((3, 1, 2))(x))", "flatten"),
            ("layers.Softmax(axis=-1)", "layers.Softmax(axis=1)", "axis"),
            ('padding="same", activation="relu")', 'padding="same", activation="relu", use_bias=False)', "bias"),
        )),
        Bed("jax", "Net", (16, 24, 3), FLAX, plants(
            ('nn.Conv(4, (3, 3), strides=1, padding="SAME")', 'nn.Conv(4, (3, 3), strides=1, padding=((2, 0), (2, 0)))', "pads"),
            ('strides=1, padding="SAME"', 'strides=1, padding="SAME", kernel_dilation=2', "dilation"),
            ("epsilon=1e-5, momentum=0.9", "epsilon=1e-3, momentum=0.9", "epsilon"),
            ("epsilon=1e-5, momentum=0.9", "epsilon=1e-5, momentum=0.99", "momentum"),
            ("0.125", "0.25", "slope"),
            ('strides=(2, 2), padding="SAME")\n        x = nn.GroupNorm', 'strides=(2, 2), padding=((1, 0), (1, 0)))\n        x = nn.GroupNorm', "pads"),
            ("num_groups=2, epsilon=1e-6", "num_groups=2, epsilon=1e-5", "epsilon"),
            ("num_groups=2, epsilon=1e-6", "num_groups=4, epsilon=1e-6", "num_groups"),
            ('x = nn.avg_pool(x, (3, 3), strides=(2, 2), padding="SAME")', 'x = nn.avg_pool(x, (3, 3), strides=(2, 2), padding="SAME", count_include_pad=False)', "counted"),
            ("antialias=True", "antialias=False", "antialias"),
            ('"bilinear", antialias', '"nearest", antialias', "method"),
            ("approximate=True", "approximate=False", "exact"),
            ("nn.LayerNorm(epsilon=1e-6)", "nn.LayerNorm(epsilon=1e-3)", "epsilon"),
            ("axis=-1", "axis=1", "axis"),
            ("x.reshape(len(x), -1)", "x.transpose(0, 3, 1, 2).reshape(len(x), -1)", "flatten"),
            ("nn.relu(nn.ConvTranspose", "nn.silu(nn.ConvTranspose", "function"),
        )),
        Bed("numpy", "forward", (8,), NUMPY, plants(
            ("1e-5", "1e-3", "y|epsilon"),
            ("np.maximum(x, 0.1 * x)", "np.maximum(x, 0.2 * x)", "x|y|slope"),
            ("mean = np.mean(x, axis=1, keepdims=True)", "mean = np.mean(x, axis=0, keepdims=True)", "axis"),
            ("np.sum(x, axis=1", "np.sum(x, axis=0", "axis"),
            ("np.var(x, axis=1, keepdims=True)", "np.var(x, axis=1, keepdims=True, ddof=1)", "ddof"),
        )),
    )
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """What came out of a comparison."""

    framework: str
    planted: tuple[Plant, ...]
    found: Difference | None
    error: str = ""

    @property
    def problems(self) -> list[str]:
        if self.found is None:
            return [self.error]
        names = [name_of(finding) for finding in self.found.findings]
        rights = {name for plant in self.planted for name in plant.names}
        wrong = [f"wrong name: {name}" for name in names if name not in rights and name != "unexplained"]
        missing = [f"not named: {plant.names[0]}" for plant in self.planted if not set(plant.names) & set(names)]
        return wrong + missing + ([] if self.planted or self.found.equal else [self.found.verdict])

    def __str__(self) -> str:
        planted = ", ".join(plant.names[0] for plant in self.planted) or "nothing"
        found = ", ".join(map(name_of, self.found.findings)) if self.found is not None else "–"
        return f"{self.framework} | {planted} | {found or '–'} | {'; '.join(self.problems) or 'right'}"


def compared(bed: Bed, planted: tuple[Plant, ...], folder: Path) -> Row:
    """The network beside the one with these plants."""
    source = bed.source
    for plant in planted:
        source = plant.planted(source)
    files = [folder / f"{name}_{bed.framework}.py" for name in ("plain", "planted")]
    for file, text in zip(files, (bed.source, source), strict=True):
        file.write_text(text, encoding="utf-8")
    try:
        return Row(
            bed.framework, planted, difference.compare(*(f"{file}:{bed.name}" for file in files), input_shape=bed.shape)
        )
    except LockstepError as error:
        return Row(bed.framework, planted, None, str(error))


def pairs(bed: Bed, n: int, seed: int) -> Iterator[tuple[Plant, ...]]:
    """Pairs of plants of other lines, drawn."""
    both = [
        (one, other)
        for one, other in itertools.combinations(bed.plants, 2)
        if one.old not in other.old and other.old not in one.old and _can_be_both(bed, one, other)
    ]
    numbers = np.random.default_rng(seed)
    yield from (both[index] for index in numbers.permutation(len(both))[:n])


def _can_be_both(bed: Bed, one: Plant, other: Plant) -> bool:
    return one.planted(bed.source).count(other.old) == 1


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cases.plants", description=__doc__)
    parser.add_argument("frameworks", nargs="*", default=[*BEDS], metavar="FRAMEWORK")
    parser.add_argument("--pairs", type=int, default=6, help="how many pairs of each framework")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(words)
    rows = []
    print("framework | planted | found | right?")
    with tempfile.TemporaryDirectory() as folder, kept():
        for framework in asked.frameworks:
            bed = BEDS[framework]
            chosen = [(), *((plant,) for plant in bed.plants), *pairs(bed, asked.pairs, asked.seed)]
            for planted in chosen:
                rows.append(compared(bed, planted, Path(folder)))
                print(rows[-1], flush=True)
    n_right = sum(not row.problems for row in rows)
    print(f"{n_right} of {len(rows)} right")
    return 0 if n_right == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
