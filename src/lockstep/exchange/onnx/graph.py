"""A trained network as nodes of ONNX, on plain data: names, operators, attributes. `build.py` makes the file of them.

Every layer's output has the layer's name, so that a reader can ask for it. Images enter as they lie in files, uint8 and
channels last, and are scaled inside; between there and a flatten they lie channels first, as ONNX's operators take
them, and are turned back before it, so that the weights behind it keep their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from lockstep.backends.plan import Arrays, window_padding
from lockstep.exchange.trained import Trained
from lockstep.spec import INPUT, LayerFacts

OPSET, IR = 20, 10
IMAGES, LOGITS, PROBABILITIES = "images", "logits", "probabilities"
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # to channels first; and back


class Node(NamedTuple):
    """An operator of ONNX, and what it takes and gives by name."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


Made = Iterator[Node]
Written = Callable[[LayerFacts, str], Made]  # (row, the name of what it takes) → nodes


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 3


def _pads(row: LayerFacts) -> list[int]:
    """Zeros as ONNX lists them: top, left, bottom, right."""
    (top, bottom), (left, right) = window_padding(row)
    return [top, left, bottom, right]


def _learned(row: LayerFacts) -> list[str]:
    """Kernel and bias, in this order."""
    return [f"{row.name}/{part}" for part in row.parameter_shapes]


def _window(row: LayerFacts) -> dict[str, Any]:
    kernel, stride = row.layer.window()
    return {"kernel_shape": list(kernel), "strides": list(stride), "pads": _pads(row)}


def conv2d(row: LayerFacts, x: str) -> Made:
    """A cross-correlation here as there; a depthwise one has as many groups as channels."""
    groups = row.input_shape[2] if row.layer.kind == "depthwise" else 1
    yield Node("Conv", (x, *_learned(row)), row.name, _window(row) | {"dilations": [1, 1], "group": groups})


def max_pool2d(row: LayerFacts, x: str) -> Made:
    """Padding is never the largest; lopsided, it is written out: the reference of onnx 1.23 mixes sides up."""
    window = _window(row)
    top, left, bottom, right = window["pads"]
    if (top, left) != (bottom, right):
        sides, lowest, padded = (f"{row.name}/{part}" for part in ("sides", "lowest", "padded"))
        yield Node("Constant", (), sides, {"int64": [0, 0, top, left, 0, 0, bottom, right]})
        yield Node("Constant", (), lowest, {"float32": float(np.finfo("float32").min)})
        yield Node("Pad", (x, sides, lowest), padded, {"mode": "constant"})
        x, window = padded, window | {"pads": [0, 0, 0, 0]}
    yield Node("MaxPool", (x,), row.name, window | {"ceil_mode": 0})


def avg_pool2d(row: LayerFacts, x: str) -> Made:
    """Whether padding counts is said."""
    counted = int(row.layer.count_padding)
    yield Node("AveragePool", (x,), row.name, _window(row) | {"ceil_mode": 0, "count_include_pad": counted})


def global_avg_pool(row: LayerFacts, x: str) -> Made:
    """Which leaves two axes of 1."""
    yield Node("GlobalAveragePool", (x,), f"{row.name}/pooled", {})
    yield Node("Flatten", (f"{row.name}/pooled",), row.name, {"axis": 1})


def flatten(row: LayerFacts, x: str) -> Made:
    """Channels last first, unless they are meant to lie first."""
    if not _is_image(row.input_shape):
        yield Node("Identity", (x,), row.name, {})
        return
    if row.layer.order == "hwc":
        yield Node("Transpose", (x,), f"{row.name}/channels_last", {"perm": LAST})
        x = f"{row.name}/channels_last"
    yield Node("Flatten", (x,), row.name, {"axis": 1})


def dense(row: LayerFacts, x: str) -> Made:
    """x · kernel + bias."""
    yield Node("Gemm" if row.layer.bias else "MatMul", (x, *_learned(row)), row.name, {})


def batch_norm(row: LayerFacts, x: str) -> Made:
    """By running statistics."""
    names = (f"{row.name}/{part}" for part in ("scale", "shift", "running_mean", "running_variance"))
    yield Node("BatchNormalization", (x, *names), row.name, {"epsilon": row.layer.epsilon, "training_mode": 0})


def layer_norm(row: LayerFacts, x: str) -> Made:
    """Over the last axis, or over all but the first; an image's channels are brought to the end for it."""
    names = (f"{row.name}/scale", f"{row.name}/shift")
    attributes = {"epsilon": row.layer.epsilon}
    if not _is_image(row.input_shape):
        yield Node("LayerNormalization", (x, *names), row.name, attributes | {"axis": -1})
    elif row.layer.over == "example":
        yield Node("LayerNormalization", (x, *names), row.name, attributes | {"axis": 1})
    else:
        turned, normal = f"{row.name}/channels_last", f"{row.name}/normalised"
        yield Node("Transpose", (x,), turned, {"perm": LAST})
        yield Node("LayerNormalization", (turned, *names), normal, attributes | {"axis": -1})
        yield Node("Transpose", (normal,), row.name, {"perm": FIRST})


def _alone(operator: str, **fields: str) -> Written:
    """An operator without weights; `fields`: attribute → the record's field."""

    def made(row: LayerFacts, x: str) -> Made:
        yield Node(operator, (x,), row.name, {name: getattr(row.layer, field) for name, field in fields.items()})

    return made


def silu(row: LayerFacts, x: str) -> Made:
    """x · sigmoid(x); ONNX has no word for it before opset 24."""
    yield Node("Sigmoid", (x,), f"{row.name}/share", {})
    yield Node("Mul", (x, f"{row.name}/share"), row.name, {})


def gelu(row: LayerFacts, x: str) -> Made:
    """Exact, or by the tanh formula."""
    yield Node("Gelu", (x,), row.name, {"approximate": "tanh" if row.layer.form == "tanh" else "none"})


# kind → its nodes
LAYERS: dict[str, Written] = {
    "conv2d": conv2d,
    "depthwise": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": global_avg_pool,
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": _alone("Identity"),  # drops nothing where nobody trains
    "relu": _alone("Relu"),
    "leaky_relu": _alone("LeakyRelu", alpha="slope"),
    "elu": _alone("Elu", alpha="alpha"),
    "tanh": _alone("Tanh"),
    "sigmoid": _alone("Sigmoid"),
    "softplus": _alone("Softplus"),
    "silu": silu,
    "gelu": gelu,
}


def joined(row: LayerFacts) -> Made:
    """A sum, or a concatenation along the channels, which lie first as features do."""
    taken = tuple(f"{INPUT}/channels_first" if name == INPUT else name for name in row.inputs)
    layer = row.layer
    if layer.kind == "concat":
        yield Node("Concat", taken[::-1] if layer.order == "reversed" else taken, row.name, {"axis": 1})
        return
    first, *others = taken
    if layer.rectified:
        yield Node("Relu", (first,), f"{row.name}/rectified", {})
        first = f"{row.name}/rectified"
    scaled = []
    for place, (x, factor) in enumerate([(first, layer.first), *((x, layer.others) for x in others)]):
        if factor != 1:
            yield Node("Constant", (), f"{row.name}/factor{place}", {"float32": factor})
            yield Node("Mul", (x, f"{row.name}/factor{place}"), f"{row.name}/scaled{place}", {})
        scaled.append(x if factor == 1 else f"{row.name}/scaled{place}")
    yield Node("Sum", tuple(scaled), row.name, {})


def nodes(trained: Trained) -> list[Node]:
    """The whole graph, from uint8 images to logits and probabilities."""
    rows = trained.given.plan.rows
    made = list(_entering(trained))
    for row in rows:
        if len(row.inputs) > 1:
            made += joined(row)
            continue
        (before,) = row.inputs
        x = f"{INPUT}/channels_first" if before == INPUT and row.layer.kind != "flatten" else before
        if before == INPUT and row.layer.kind == "flatten":
            made += _flatten_of_input(row)
        else:
            made += LAYERS[row.layer.kind](row, x)
    made += [
        Node("Identity", (rows[-1].name,), LOGITS, {}),
        Node("Softmax", (LOGITS,), PROBABILITIES, {"axis": -1}),
    ]
    read = {name for node in made for name in node.inputs}
    return [node for node in made if node.output in read or not node.output.endswith("/channels_first")]


def _entering(trained: Trained) -> Made:
    """(pixel − mean) · scale."""
    yield Node("Cast", (IMAGES,), "pixels", {"to": 1})  # TensorProto.FLOAT
    x = "pixels"
    if trained.scaling[0].any():
        yield Node("Sub", (x, "pixel_mean"), "centred", {})
        x = "centred"
    yield Node("Mul", (x, "pixel_scale"), INPUT, {})
    yield Node("Transpose", (INPUT,), f"{INPUT}/channels_first", {"perm": FIRST})


def _flatten_of_input(row: LayerFacts) -> Made:
    """Pixels lie channels last already."""
    if row.layer.order == "chw":
        yield from LAYERS["flatten"](row, f"{INPUT}/channels_first")
    else:
        yield Node("Flatten", (INPUT,), row.name, {"axis": 1})


def tensors(trained: Trained) -> Arrays:
    """Every initializer by name, in ONNX's layout."""
    mean, scale = trained.scaling
    found: Arrays = {"pixel_scale": scale} | ({"pixel_mean": mean} if mean.any() else {})
    for row in trained.given.plan.rows:
        for part, value in trained.of(row.name).items():
            if value.ndim == 4:
                value = value.transpose(3, 2, 0, 1)
            elif row.layer.kind == "layer_norm" and _is_image(row.input_shape) and row.layer.over == "example":
                height, width, channels = row.input_shape
                value = np.broadcast_to(value[:, None, None], (channels, height, width))
            found[f"{row.name}/{part}"] = np.ascontiguousarray(value, "float32")
    return found


def document(trained: Trained) -> dict[str, Any]:
    """Everything but the initializers, as JSON has it."""
    given = trained.given
    return {
        "opset": OPSET, "ir": IR, "name": given.run.network_name, "images": list(given.plan.input_shape),
        "classes": given.plan.classes, "nodes": [node._asdict() for node in nodes(trained)],
        "layers": {row.name: len(row.output_shape) for row in given.plan.rows},
        "parameters": sum(value.size for value in trained.weights.values()), "facts": dict(trained.facts),
    }  # fmt: skip
