"""A run as a user of Flax writes it: a module of linen's layers; steps are those of plain JAX."""

from __future__ import annotations

from collections.abc import Iterator

from lockstep.exchange.scripts import jax, linen, updates
from lockstep.exchange.scripts.given import Given, Target, forward
from lockstep.exchange.scripts.lines import indented
from lockstep.spec import JOINS


def imports(given: Given) -> list[str]:
    """The framework's own lines."""
    return ["import jax", "import jax.numpy as jnp", "from flax import linen as nn"]


BATCH_NORM = '''
class BatchNorm(nn.Module):
    """Flax's own averages the biased variance of each batch; here it is the unbiased one."""

    momentum: float
    epsilon: float

    @nn.compact
    def __call__(self, x, training):
        own = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, own)
        bias = self.param("bias", nn.initializers.zeros, own)
        means = self.variable("batch_stats", "mean", jnp.zeros, own)
        variances = self.variable("batch_stats", "var", jnp.ones, own)
        mean, variance = means.value, variances.value
        if training:
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
            seen = variance * (x.size / max(x.size - x.shape[-1], 1))
            means.value += self.momentum * (mean - means.value)
            variances.value += self.momentum * (seen - variances.value)
        return scale * (x - mean) / jnp.sqrt(variance + self.epsilon) + bias
'''
TREE = '''
def tree(weights):
    """Lockstep's names → Flax's tree: 0_conv2d/kernel is conv2d_0/kernel."""
    found, theirs = {}, {"shift": "bias", "running_mean": "mean", "running_variance": "var"}
    for name, value in weights.items():
        layer, part = name.split("/")
        number, kind = layer.split("_", 1)
        found.setdefault(f"{kind}_{number}", {})[theirs.get(part, part)] = value
    return found
'''
PLAIN_TREE = '''
def tree(weights):
    """Lockstep's names → Flax's tree: 0_conv2d/kernel is conv2d_0/kernel."""
    found = {}
    for name, value in weights.items():
        layer, part = name.split("/")
        number, kind = layer.split("_", 1)
        found.setdefault(f"{kind}_{number}", {})[part] = value
    return found
'''


def network(given: Given) -> Iterator[str]:
    """The module, the forward pass by Lockstep's names, and its values out and in."""
    rows = given.plan.rows
    codes = {row.name: linen.LAYERS[row.layer.kind](row, given) for row in rows if row.layer.kind not in JOINS}
    yield from jax.helpers(list(codes.values()))
    if any("BatchNorm(" in code.apply and "nn.BatchNorm(" not in code.apply for code in codes.values()):
        yield BATCH_NORM
    arguments = ["x", *(["masks=None"] if given.masked else []), *(["training=False"] if given.normalised else [])]
    *lines, last = forward(rows, codes, jax.joined)
    lines.append(f"return {last.removeprefix('x = ')}")
    yield "\n".join([
        "class Network(nn.Module):", "    @nn.compact", f"    def __call__(self, {', '.join(arguments)}):",
        *(f"        {line}" for line in lines),
    ])  # fmt: skip
    yield TREE if given.has("batch_norm", "layer_norm") else PLAIN_TREE
    yield _forward(given, arguments)
    stopping = given.recipe.early_stopping
    if stopping and stopping.restore_best:
        yield jax.PUT
    yield jax.VALUES


def _forward(given: Given, arguments: list[str]) -> str:
    passed = [argument.partition("=")[0] for argument in arguments]
    names = ["weights", *(["statistics"] if given.normalised else []), *arguments]
    if not given.normalised:
        lines = ['"""Logits; images are (n, height, width, channels)."""']
        lines += [f'return Network().apply({{"params": tree(weights)}}, {", ".join(passed)})']
    else:
        lines = ['"""Logits, and new running statistics; images are (n, height, width, channels)."""']
        lines += ['variables = {"params": tree(weights), "batch_stats": tree(statistics)}']
        lines += [f'x, new = Network().apply(variables, {", ".join(passed)}, mutable=["batch_stats"])']
        lines += ['return x, {name: running(new["batch_stats"], name) for name in statistics}']
    body = f"def forward({', '.join(names)}):\n" + indented("\n".join(lines))
    return f"{OF}\n\n\n{body}" if given.normalised else body


OF = '''def running(statistics, name):
    """What Flax's tree has under one of Lockstep's names."""
    layer, part = name.split("/running_")
    number, kind = layer.split("_", 1)
    return statistics[f"{kind}_{number}"][{"mean": "mean", "variance": "var"}[part]]'''
TARGET = Target(
    "Flax", "flax", ("jax", "flax"), "Flax's own would draw kernels by LeCun's normal distribution.", imports, network,
    jax.updating, jax.stepping, jax.begin, jax.take, linen.LAYERS | dict.fromkeys(JOINS, jax.joined), jax.LOSSES,
    updates.OPTIMIZERS,
)  # fmt: skip
