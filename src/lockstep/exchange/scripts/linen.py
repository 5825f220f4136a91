"""A network as a module of Flax (linen): what its layers are called there, for scripts and for files."""

from __future__ import annotations

from collections.abc import Callable

from lockstep.backends.plan import window_padding
from lockstep.exchange.scripts import jax
from lockstep.exchange.scripts.given import Code, Given
from lockstep.spec import LayerFacts


def attribute(name: str) -> str:
    """What a layer is called in the module: 0_conv2d → conv2d_0."""
    number, _, kind = name.partition("_")
    return f"{kind}_{number}" if number.isdecimal() else name


def _sides(row: LayerFacts) -> str:
    """Padding as Flax takes it: its own word, or the pixels of each side."""
    return {"valid": '"VALID"', "same": '"SAME"'}.get(row.layer.padding, str(list(window_padding(row))))


def conv2d(row: LayerFacts, given: Given) -> Code:
    """Its own; Flax's default is "SAME"."""
    layer = row.layer
    arguments = [str(layer.filters), str(layer.kernel)]
    arguments += [str(layer.stride)] if layer.stride != (1, 1) else []
    arguments += [f"padding={_sides(row)}"] if layer.padding != "same" else []
    arguments += ["use_bias=False"] if not layer.bias else []
    return Code(f'nn.Conv({", ".join(arguments)}, name="{attribute(row.name)}")({{x}})')


def max_pool2d(row: LayerFacts, given: Given) -> Code:
    """Its own gives a window's gradient to its first maximum."""
    if row.layer.ties == "shared":
        return jax.LAYERS["max_pool2d"](row, given)
    kernel, stride = row.layer.window()
    return Code(f"nn.max_pool({{x}}, {kernel}, {stride}{_padding(row)})")


def _padding(row: LayerFacts) -> str:
    return "" if row.layer.padding == "valid" else f", {_sides(row)}"


def avg_pool2d(row: LayerFacts, given: Given) -> Code:
    """Its own counts padding unless it is told not to."""
    kernel, stride = row.layer.window()
    counted = "" if row.layer.count_padding or row.layer.padding == "valid" else ", count_include_pad=False"
    remark = "padding does not count; Flax's own counts it" if counted else ""
    return Code(f"nn.avg_pool({{x}}, {kernel}, {stride}{_padding(row)}{counted})", remark=remark)


def dense(row: LayerFacts, given: Given) -> Code:
    """Its own."""
    bias = "" if row.layer.bias else ", use_bias=False"
    return Code(f'nn.Dense({row.layer.units}{bias}, name="{attribute(row.name)}")({{x}})')


def batch_norm(row: LayerFacts, given: Given) -> Code:
    """Its own, whose running variance is the biased one, or one of a script's."""
    layer = row.layer
    if layer.running_variance == "unbiased" and not given.is_own:
        made = f'BatchNorm({layer.momentum!r}, {layer.epsilon!r}, name="{attribute(row.name)}")({{x}}, training)'
        return Code(made)
    numbers = f"momentum={1 - layer.momentum!r}" + (f", epsilon={layer.epsilon!r}" if layer.epsilon != 1e-5 else "")
    numbers += ", use_fast_variance=False"
    made = f'nn.BatchNorm(not training, {numbers}, name="{attribute(row.name)}")({{x}})'
    remark = "" if layer.running_variance == "biased" else "Flax's own averages the biased variance"
    return Code(made, remark=remark)


def layer_norm(row: LayerFacts, given: Given) -> Code:
    """Its own over the channels; over a whole example the group norm of one group. Flax's ε is 1e-6."""
    name, epsilon = attribute(row.name), f"epsilon={row.layer.epsilon!r}"
    kind = f"nn.LayerNorm({epsilon}, " if row.layer.over == "channels" else f"nn.GroupNorm(1, {epsilon}, "
    return Code(f'{kind}use_fast_variance=False, name="{name}")({{x}})')


def dropout(row: LayerFacts, given: Given) -> Code:
    """Its own, which draws its own masks, or one that is given."""
    if row.name not in given.masked:
        return Code("{x}")
    if given.is_own:
        return Code(f"nn.Dropout({row.layer.rate!r}, deterministic=not training)({{x}})")
    return Code(f'{{x}} * masks["{row.name}"] if masks else {{x}}', remark="nn.Dropout would draw its own")


LAYERS: dict[str, Callable[[LayerFacts, Given], Code]] = jax.LAYERS | {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": dropout,
}
