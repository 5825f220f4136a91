"""A whole model of Keras: of its own layers alone, so that whoever loads it needs no class of ours.

The text of the model is written here; a program builds it, puts the weights in and saves it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from lockstep.backends.plan import Arrays, pool_counts, window_padding
from lockstep.exchange.files.modules import PROGRAMS
from lockstep.exchange.scripts.given import in_order, kept
from lockstep.exchange.scripts.lines import pair
from lockstep.exchange.trained import Form, Trained
from lockstep.spec import INPUT, JOINS, LayerFacts

OURS = {
    "kernel": "kernel", "bias": "bias", "scale": "gamma", "shift": "beta", "running_mean": "moving_mean",
    "running_variance": "moving_variance",
}  # fmt: skip
LOWEST = float(np.finfo("float32").min)


def _layer(kind: str, row: LayerFacts, *arguments: str) -> str:
    return f"x = keras.layers.{kind}({', '.join([*arguments, f'name={row.name!r}'])})(x)"


def _named(row: LayerFacts, expression: str) -> list[str]:
    """An operation without a layer of its own, and after it one of the layer's name."""
    return [f"x = {expression}", _layer("Identity", row)]


def _padded(row: LayerFacts, value: float = 0.0) -> list[str]:
    """Padding that is written out where there is any."""
    sides = window_padding(row)
    if not any(map(any, sides)):
        return []
    if not value:
        return [f"x = keras.layers.ZeroPadding2D({sides})(x)"]
    return [f"x = keras.ops.pad(x, {((0, 0), *sides, (0, 0))}, constant_values={value!r})"]


def conv2d(row: LayerFacts) -> list[str]:
    """Its own; `same` means the odd row and column at the end, here as there."""
    layer, is_lower = row.layer, row.layer.padding == "same_lower"
    word = "valid" if is_lower else layer.padding
    arguments = (str(layer.filters), pair(layer.kernel), f"strides={pair(layer.stride)}", f"padding={word!r}")
    return [*(_padded(row) if is_lower else []), _layer("Conv2D", row, *arguments, f"use_bias={layer.bias}")]


def _window(row: LayerFacts) -> tuple[str, str]:
    kernel, stride = row.layer.window()
    return pair(kernel), f"strides={pair(stride)}"


def max_pool2d(row: LayerFacts) -> list[str]:
    """Its own; what is padded is never the largest."""
    if row.layer.padding == "same_lower":
        return [*_padded(row, LOWEST), _layer("MaxPooling2D", row, *_window(row))]
    return [_layer("MaxPooling2D", row, *_window(row), f"padding={row.layer.padding!r}")]


def avg_pool2d(row: LayerFacts) -> list[str]:
    """Its own does not count padding; where that is not what is meant, zeros are padded."""
    layer = row.layer
    if layer.padding == "valid" or (layer.padding == "same" and not layer.count_padding):
        return [_layer("AveragePooling2D", row, *_window(row), f"padding={layer.padding!r}")]
    if layer.count_padding:
        return [*_padded(row), _layer("AveragePooling2D", row, *_window(row))]
    share = (math.prod(layer.size) / pool_counts(row)).astype("float32")[None]
    mean = f"x = keras.layers.AveragePooling2D({', '.join(_window(row))})(x)"
    return [*_padded(row), mean, *_named(row, f"keras.ops.multiply(x, np.array({share.tolist()}, 'float32'))")]


def flatten(row: LayerFacts) -> list[str]:
    """Channels last, as they lie, unless they are meant to lie first."""
    is_turned = row.layer.order == "chw" and len(row.input_shape) == 3
    return [*(["x = keras.layers.Permute((3, 1, 2))(x)"] if is_turned else []), _layer("Flatten", row)]


def batch_norm(row: LayerFacts) -> list[str]:
    """Its own, which averages the biased variance where training goes on."""
    layer = row.layer
    return [_layer("BatchNormalization", row, f"momentum={1 - layer.momentum!r}", f"epsilon={layer.epsilon!r}")]


def layer_norm(row: LayerFacts) -> list[str]:
    """Its own over the channels; over a whole example the group norm of one group."""
    layer = row.layer
    if layer.over == "channels" or len(row.input_shape) == 1:
        return [_layer("LayerNormalization", row, f"epsilon={layer.epsilon!r}")]
    return [_layer("GroupNormalization", row, "groups=1", f"epsilon={layer.epsilon!r}")]


def _activation(word: str) -> Callable[[LayerFacts], list[str]]:
    return lambda row: [_layer("Activation", row, repr(word))]


LAYERS: dict[str, Callable[[LayerFacts], list[str]]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row: [_layer("GlobalAveragePooling2D", row)],
    "flatten": flatten,
    "dense": lambda row: [_layer("Dense", row, str(row.layer.units), f"use_bias={row.layer.bias}")],
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": lambda row: [_layer("Dropout", row, repr(row.layer.rate))],
    "relu": lambda row: [_layer("ReLU", row)],
    "leaky_relu": lambda row: [_layer("LeakyReLU", row, f"negative_slope={row.layer.slope!r}")],
    "elu": lambda row: [_layer("ELU", row, f"alpha={row.layer.alpha!r}")],
    "tanh": _activation("tanh"),
    "sigmoid": _activation("sigmoid"),
    "softplus": _activation("softplus"),
    "gelu": lambda row: _named(row, f"keras.ops.gelu(x, approximate={row.layer.form == 'tanh'})"),
}


def tensors(trained: Trained) -> Arrays:
    """Every variable under its layer's name and Keras's own; layouts are the canonical ones, of a single group too."""
    return {
        f"{row.name}/{OURS[part]}": np.ascontiguousarray(value)
        for row in trained.given.plan.rows
        for part, value in trained.of(row.name).items()
    }


def text(trained: Trained) -> str:
    """A function that builds the model."""
    mean, scale = trained.scaling
    offset = -mean * scale
    numbers = ", ".join(repr(value.tolist() if len(value) > 1 else float(value[0])) for value in (scale, offset))
    body = "\n".join(f"    {line}" for line in _lines(trained.given.plan.rows))
    return f"""import keras
import numpy as np

def build():
    images = keras.Input({trained.given.plan.input_shape}, dtype="uint8", name="images")
    x = keras.layers.Rescaling({numbers}, name="input")(images)
{body}
    return keras.Model(images, x, name={trained.given.run.network_name!r})
"""


def _lines(rows: Sequence[LayerFacts]) -> Iterator[str]:
    """Every layer applied, with what is needed later in variables of its own."""
    variables, last = kept(rows), INPUT
    if INPUT in variables:
        yield f"{variables[INPUT]} = x"
    for row in rows:
        names = [variables[name] for name in row.inputs if name in variables]
        if row.layer.kind in JOINS:
            kind, names = ("Add", names) if row.layer.kind == "add" else ("Concatenate", in_order(row, names))
            yield f"x = keras.layers.{kind}(name={row.name!r})([{', '.join(names)}])"
        else:
            if row.inputs != (last,):
                yield f"x = {names[0]}"
            yield from LAYERS[row.layer.kind](row)
        if row.name in variables:
            yield f"{variables[row.name]} = x"
        last = row.name


def prepare(trained: Trained, place: Path, stem: str) -> Arrays:
    """Leave the model's text, its weights and the facts where the program finds them."""
    found = tensors(trained)
    (place / "model.py").write_text(text(trained), encoding="utf-8")
    (place / "facts.json").write_text(json.dumps(dict(trained.facts), ensure_ascii=False), encoding="utf-8")
    np.savez(place / "tensors.npz", **found)  # type: ignore[arg-type]  # numpy's own stub takes names for options
    return found


FORM = Form(
    "Keras", "tensorflow", ("tensorflow", "keras"), ("tensorflow", "tensorflow-cpu", "keras"), "tensorflow",
    lambda stem: (f"{stem}.keras",), prepare, PROGRAMS / "check_keras.py", PROGRAMS / "build_keras.py",
)  # fmt: skip
