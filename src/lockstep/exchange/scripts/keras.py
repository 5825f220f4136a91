"""A run as a user of Keras writes it: a model of Keras's layers, a `tf.function` with a gradient tape.

Keras's optimizers work 1 − β out in float32, add ε before the bias correction or below the root, and keep a velocity;
so the update is written out, on the model's own variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from string import Template

from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.plan import window_padding
from lockstep.exchange.scripts import updates
from lockstep.exchange.scripts.given import Code, Given, Target, added, forward, in_order
from lockstep.exchange.scripts.lines import call, indented, listed, pair
from lockstep.spec import JOINS, LayerFacts


def imports(given: Given) -> list[str]:
    """The framework's own lines."""
    return ["import keras", "import tensorflow as tf"]


# --------------------------------------------------------------------------------------------------------- the network


def attribute(name: str) -> str:
    """What a layer is called in the model: 0_conv2d → conv2d_0."""
    number, _, kind = name.partition("_")
    return f"{kind}_{number}" if number.isdecimal() else name


def _padded(row: LayerFacts, value: str = "") -> str:
    """The padding that Keras has no word for, before the layer."""
    sides = [(0, 0), *window_padding(row), (0, 0)]
    return f"x = tf.pad(x, {sides}{value})" if any(map(any, sides)) else ""


def _window(row: LayerFacts) -> str:
    kernel, stride = row.layer.window()
    return f"{pair(kernel)}, {pair(stride)}"


def conv2d(row: LayerFacts, given: Given) -> Code:
    """Its own; `same` means the odd row and column at the end, here as there."""
    layer, is_lower = row.layer, row.layer.padding == "same_lower"
    arguments = [str(layer.filters), pair(layer.kernel)]
    arguments += [f"strides={pair(layer.stride)}"] if layer.stride != (1, 1) else []
    arguments += ['padding="same"'] if layer.padding == "same" else []
    arguments += ["use_bias=False"] if not layer.bias else []
    before, remark = (_padded(row), 'the odd row first; "same" has it last') if is_lower else ("", "")
    made = f"keras.layers.Conv2D({', '.join(arguments)})"
    return Code(f"self.{attribute(row.name)}({{x}})", made, before, remark)


def max_pool2d(row: LayerFacts, given: Given) -> Code:
    """Its own gives a window's gradient to its first maximum."""
    before = _padded(row, ", constant_values=-math.inf")
    if row.layer.ties == "shared":
        kernel, stride = row.layer.window()
        return Code(f"shared_max_pool({{x}}, {kernel}, {stride})", before=before)
    if row.layer.padding == "same_lower":
        return Code(f'tf.nn.max_pool2d({{x}}, {_window(row)}, "VALID")', before=before)
    return Code(f'tf.nn.max_pool2d({{x}}, {_window(row)}, "{row.layer.padding.upper()}")')


def avg_pool2d(row: LayerFacts, given: Given) -> Code:
    """Its own does not count padding."""
    layer, window = row.layer, _window(row)
    if layer.padding == "valid" or (layer.padding == "same" and not layer.count_padding):
        return Code(f'tf.nn.avg_pool2d({{x}}, {window}, "{layer.padding.upper()}")')
    if layer.count_padding:
        mean = f'tf.nn.avg_pool2d({{x}}, {window}, "VALID")'
        return Code(mean, remark="padding counts; Keras's own leaves it out", before=_padded(row))
    before = _padded(row).replace("x = tf.pad(x, ", "x, real = (tf.pad(value, ")
    before += " for value in (x, tf.ones_like(x)))\n"
    before += f'x, real = (tf.nn.avg_pool2d(value, {window}, "VALID") for value in (x, real))'
    return Code("{x} / real", remark="padding does not count", before=before)


def flatten(row: LayerFacts, given: Given) -> Code:
    """Channels last, as they lie."""
    size = math.prod(row.input_shape)
    if row.layer.order == "chw" and len(row.input_shape) == 3 and row.input_shape[2] > 1:
        turned = "tf.transpose({x}, (0, 3, 1, 2))"
        return Code(f"tf.reshape({turned}, (-1, {size}))", remark="channels first, as PyTorch has them")
    return Code(f"tf.reshape({{x}}, (-1, {size}))")


def dense(row: LayerFacts, given: Given) -> Code:
    """Its own."""
    bias = "" if row.layer.bias else ", use_bias=False"
    return Code(f"self.{attribute(row.name)}({{x}})", f"keras.layers.Dense({row.layer.units}{bias})")


def batch_norm(row: LayerFacts, given: Given) -> Code:
    """Its own, with the unbiased running variance where that is meant."""
    layer = row.layer
    kind = "keras.layers.BatchNormalization" if layer.running_variance == "biased" else "BatchNorm"
    made = f"{kind}(momentum={1 - layer.momentum!r}, epsilon={layer.epsilon!r})"
    return Code(f"self.{attribute(row.name)}({{x}}, training=training)", made)


def layer_norm(row: LayerFacts, given: Given) -> Code:
    """Its own over the channels; over a whole example the group norm of one group."""
    layer = row.layer
    kind = "LayerNormalization(" if layer.over == "channels" else "GroupNormalization(groups=1, "
    return Code(f"self.{attribute(row.name)}({{x}})", f"keras.layers.{kind}epsilon={layer.epsilon!r})")


def dropout(row: LayerFacts, given: Given) -> Code:
    """By a mask."""
    if row.name not in given.masked:
        return Code("{x}")
    return Code(f'{{x}} * masks["{row.name}"] if masks else {{x}}', remark="keras.layers.Dropout would draw its own")


def _exactly(own: str, written: str) -> Callable[[LayerFacts, Given], Code]:
    """An activation whose constants TensorFlow rounds to float32, written out where float64 is computed."""
    remark = "TensorFlow's own rounds its constants to float32"

    def code(row: LayerFacts, given: Given) -> Code:
        options = {name: repr(getattr(row.layer, name)) for name in ("slope",) if hasattr(row.layer, name)}
        text = own if given.dtype == "float32" else written
        for name, value in options.items():
            text = text.replace(f"<{name}>", value)
        return Code(text, folds=True) if given.dtype == "float32" else Code(text, remark=remark)

    return code


_GELU = {
    "exact": _exactly(
        "keras.activations.gelu({x}, approximate=False)", "0.5 * {x} * (1 + tf.math.erf({x} / math.sqrt(2)))"
    ),
    "tanh": _exactly(
        "keras.activations.gelu({x}, approximate=True)",
        "0.5 * {x} * (1 + tf.tanh(math.sqrt(2 / math.pi) * ({x} + 0.044715 * {x} * {x} * {x})))",
    ),
}


def _activation(text: str) -> Callable[[LayerFacts, Given], Code]:
    return lambda row, given: Code(text, folds=True)


LAYERS: dict[str, Callable[[LayerFacts, Given], Code]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, given: Code("tf.reduce_mean({x}, (1, 2))"),
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": dropout,
    "relu": _activation("keras.activations.relu({x})"),
    "leaky_relu": _exactly(
        "keras.activations.leaky_relu({x}, negative_slope=<slope>)", "tf.where({x} > 0, {x}, <slope> * {x})"
    ),
    "elu": lambda row, given: Code(f"keras.activations.elu({{x}}, {row.layer.alpha!r})", folds=True),
    "tanh": _activation("keras.activations.tanh({x})"),
    "sigmoid": _activation("keras.activations.sigmoid({x})"),
    "softplus": _activation("keras.activations.softplus({x})"),
    "gelu": lambda row, given: _GELU[row.layer.form](row, given),
}


def joined(row: LayerFacts, names: list[str]) -> str:
    """Branches, added up or one behind the other along the channels."""
    if row.layer.kind == "add":
        return added(row, names, "keras.activations.relu({x})")
    return f"tf.concat([{', '.join(in_order(row, names))}], -1)"


# Keras's name → the canonical one, where it is another
OURS = {"gamma": "scale", "beta": "shift", "moving_mean": "running_mean", "moving_variance": "running_variance"}
# What a layer's code calls → the text of it.
HELPERS = {
    " BatchNorm(": '''
class BatchNorm(keras.layers.BatchNormalization):
    """Keras's own averages the biased variance of each batch; here it is the unbiased one."""

    def call(self, x, training=False):
        if not training:
            return super().call(x, training=False)
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        n = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
        for own, seen in (
            (self.moving_mean, mean),
            (self.moving_variance, variance * n / tf.maximum(n - 1, 1)),
        ):
            own.assign(own + (1 - self.momentum) * (seen - own))
        return (x - mean) * tf.math.rsqrt(variance + self.epsilon) * self.gamma + self.beta
''',
    " shared_max_pool(": '''
def shared_max_pool(x, kernel, stride):
    """All of several maxima share the gradient; tf.nn.max_pool2d gives it to the first."""
    (rows, columns), (down, right) = ((n - k) // s for n, k, s in zip(x.shape[1:3], kernel, stride)), stride
    places = [
        x[:, i : i + rows * down + 1 : down, j : j + columns * right + 1 : right]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return tf.reduce_max(tf.stack(places), 0)
''',
}
BORDER = '''
def named(model):
    """Lockstep's names → the model's own variables, whose layouts are the same."""$ours
    every = [(layer.name, v) for layer in model.layers for v in layer.variables]
    return {f"{layer}/$name": v.value for layer, v in every}


def values(model):
    """Every parameter$statistics."""
    return {name: np.array(variable) for name, variable in named(model).items()}


def put(model, arrays):
    """The way back."""
    variables = named(model)
    for name, value in arrays.items():
        variables[name].assign(value)
'''


def _border(given: Given) -> str:
    is_renamed, used = given.has("batch_norm", "layer_norm"), OURS if given.normalised else dict(list(OURS.items())[:2])
    ours = listed("ours = {", [f'"{theirs}": "{name}"' for theirs, name in used.items()], "}", 4) if is_renamed else ""
    return Template(BORDER).substitute(
        ours=f"\n{ours}" if ours else "", name="{ours.get(v.name, v.name)}" if is_renamed else "{v.name}",
        statistics=" and running statistic" if given.normalised else "",
    )  # fmt: skip


def network(given: Given) -> Iterator[str]:
    """The model, and its values out and in."""
    rows = given.plan.rows
    codes = {row.name: LAYERS[row.layer.kind](row, given) for row in rows if row.layer.kind not in JOINS}
    for start, text in HELPERS.items():
        if any(start in f" {code.apply} {code.make}" for code in codes.values()):
            yield text
    made = [
        f'self.{attribute(name)} = {code.make[:-1]}{"" if code.make.endswith("(") else ", "}name="{name}")'.replace(
            "(, ", "("
        )
        for name, code in codes.items()
        if code.make
    ]
    arguments = ["self", "x", "training=False", *(["masks=None"] if given.masked else [])]
    *lines, last = forward(rows, codes, joined)
    lines.append(f"return {last.removeprefix('x = ')}")
    yield "\n".join([
        "class Network(keras.Model):", "    def __init__(self):", "        super().__init__()",
        *(f"        {line}" for line in made), "",
        f"    def call({', '.join(arguments)}):", *(f"        {line}" for line in lines),
    ])  # fmt: skip
    yield _border(given)


# ------------------------------------------------------------------------------------------- loss, optimizer, one step

# `Plan.loss` → its expression, of `logits` and `targets`.
LOSSES: dict[str, str] = {
    "cross_entropy": "tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))",
    "mean_squared_error": "tf.reduce_mean(tf.square(logits - targets))",
    ALL_PAIRS: "tf.reduce_mean(tf.square(logits[:, None] - targets[None]))",
    "cross_entropy_clipped": (
        "-tf.reduce_mean(\n"
        "    tf.reduce_sum(targets * tf.math.log(tf.clip_by_value(tf.nn.softmax(logits), 1e-7, 1 - 1e-7)), 1)\n"
        ")"
    ),
    "cross_entropy_softmax_twice": (
        "tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, tf.nn.softmax(logits)))"
    ),
}
STYLE = updates.Style("tf", is_assigned=True)


def _targets(given: Given) -> str:
    share, rows = given.recipe.label_smoothing, f"tf.one_hot(labels, {given.plan.classes}, dtype=logits.dtype)"
    return f"targets = {rows}" + (f" * {1 - share!r} + {share / given.plan.classes!r}" if share else "")


def updating(given: Given) -> Iterator[str]:
    """The optimizer's update."""
    yield updates.updated(given, STYLE, REMARKS.get(given.recipe.optimizer.kind, ""))


REMARKS = {
    "adam": "; Keras's own adds ε before the bias correction",
    "adamw": "; Keras's own decays every parameter",
    "rmsprop": "; Keras's own adds ε below the root",
    "momentum": "; Keras's own keeps -rate · b",
    "nesterov": "; Keras's own keeps -rate · b",
}


def stepping(given: Given) -> Iterator[str]:
    """One step, and predictions."""
    recipe, slots = given.recipe, updates.slots_of(given)
    arguments = ["model", *(["slots"] if slots else []), "x", "labels", *(["masks"] if given.masked else [])]
    arguments += given.numbers
    passed = ["x", f"training={given.plan.in_training}", *(["masks=masks"] if given.masked else [])]
    is_sum = recipe.loss_reduction == "sum"
    inside = [f"logits = model({', '.join(passed)})", _targets(given), f"loss = {LOSSES[given.plan.loss]}"]
    minimised = "loss"
    if is_sum:
        inside += ["total = loss * tf.cast(len(labels), loss.dtype)  # the sum is minimised"]
        minimised = "total"
    kept = ["weights", *(["slots"] if slots else []), "gradients", *given.numbers]
    weights = "weights = {name: variable for name, variable in named(model).items() if variable.trainable}"
    lines = [
        weights, "with tf.GradientTape() as tape:", indented("\n".join(inside)),
        f"gradients = tape.gradient({minimised}, weights)", f"updated({', '.join(kept)})", "return loss",
    ]  # fmt: skip
    yield f"@tf.function\ndef train_step({', '.join(arguments)}):\n" + indented("\n".join(lines))
    yield '''def predict(model, x):
    """Logits, with running statistics and without dropout."""
    return np.concatenate([model(x[start : start + 500]).numpy() for start in range(0, len(x), 500)])'''


def begin(given: Given) -> list[str]:
    """The start of the loop."""
    slots = updates.slots_of(given)
    lines = ['keras.config.set_dtype_policy("float64")'] if given.dtype == "float64" else []
    lines += ["model = Network()", "model(prepare(images[:1]))  # Keras makes the variables at the first call"]
    lines += ["put(model, starting_weights())"]
    if slots:
        lines += ["zeros = {name: np.zeros_like(value) for name, value in values(model).items()}"]
        made = "{name: tf.Variable(value) for name, value in zeros.items()}"
        lines += [f'slots = {{kind: {made} for kind in "{slots}"}}']
    return lines


def take(given: Given) -> str:
    """A step of the loop."""
    slots, numbers = updates.slots_of(given), given.numbers
    arguments = ["model", *(["slots"] if slots else []), "x", "labels[batch]", *(["now"] if given.masked else [])]
    lines = list(given.decided)
    if numbers:  # a Python number would be a program of its own for every value
        listed_numbers = ", ".join(numbers) + ("," if len(numbers) == 1 else "")
        lines += [f"numbers = [tf.constant(number, x.dtype) for number in ({listed_numbers})]"]
        arguments += ["*numbers"]
    return "\n".join([*lines, call("loss = train_step(", arguments, deeper=12)])


TARGET = Target(
    "Keras", "keras", ("tensorflow", "keras"), "Keras's own would draw kernels by Glorot's uniform distribution.",
    imports, network, updating, stepping, begin, take, LAYERS | dict.fromkeys(JOINS, joined), LOSSES,
    updates.OPTIMIZERS,
)  # fmt: skip
