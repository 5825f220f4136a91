"""A run as a user of JAX writes it: pure functions of a dictionary of arrays, one jitted step."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.plan import window_padding
from lockstep.exchange.scripts import updates
from lockstep.exchange.scripts.given import Code, Given, Target, added, forward, in_order
from lockstep.exchange.scripts.lines import indented, listed
from lockstep.spec import JOINS, LayerFacts


def imports(given: Given) -> list[str]:
    """The framework's own lines."""
    return ["import jax", "import jax.numpy as jnp"]


# --------------------------------------------------------------------------------------------------------- the network


def _bias(row: LayerFacts) -> str:
    return f' + weights["{row.name}/bias"]' if row.layer.bias else ""


def conv2d(row: LayerFacts, given: Given) -> Code:
    """XLA's convolution, with every padding written out."""
    layer = row.layer
    kernel = f'weights["{row.name}/kernel"]'
    return Code(f"convolution({{x}}, {kernel}, {layer.stride}, {_padding(row)}){_bias(row)}")


def _padding(row: LayerFacts) -> list[tuple[int, int]]:
    return list(window_padding(row))


def max_pool2d(row: LayerFacts, given: Given) -> Code:
    """`reduce_window`, whose gradient goes to the first maximum; a maximum over windows shares it."""
    kernel, stride = row.layer.window()
    how = "shared_max_pool" if row.layer.ties == "shared" else "max_pool"
    return Code(f"{how}({{x}}, {kernel}, {stride}, {_padding(row)})")


def avg_pool2d(row: LayerFacts, given: Given) -> Code:
    """The sum of each window by its size, or by its number of real pixels."""
    kernel, stride = row.layer.window()
    where = f"{kernel}, {stride}, {_padding(row)}"
    if row.layer.count_padding or row.layer.padding == "valid":
        return Code(f"sum_pool({{x}}, {where}) / {kernel[0] * kernel[1]}")
    return Code(f"mean_of_real({{x}}, {where})")


def flatten(row: LayerFacts, given: Given) -> Code:
    """Channels last, as they lie."""
    if row.layer.order == "chw" and len(row.input_shape) == 3 and row.input_shape[2] > 1:
        return Code("{x}.transpose(0, 3, 1, 2).reshape(len({x}), -1)", remark="channels first, as PyTorch has them")
    return Code("{x}.reshape(len({x}), -1)")


def dense(row: LayerFacts, given: Given) -> Code:
    """A product."""
    return Code(f'{{x}} @ weights["{row.name}/kernel"]{_bias(row)}')


def batch_norm(row: LayerFacts, given: Given) -> Code:
    """A function of its own, which gives new running statistics too."""
    numbers = [f'"{row.name}"', "{x}", "weights", "statistics", "training"]
    numbers += [repr(row.layer.momentum), repr(row.layer.epsilon)]
    numbers += ["unbiased=False"] if row.layer.running_variance == "biased" else []
    return Code(f"batch_norm({', '.join(numbers)})")


def layer_norm(row: LayerFacts, given: Given) -> Code:
    """A function of its own."""
    axes = "(-1,)" if row.layer.over == "channels" or len(row.input_shape) == 1 else "(1, 2, 3)"
    return Code(f'layer_norm("{row.name}", {{x}}, weights, {axes}, {row.layer.epsilon!r})')


def dropout(row: LayerFacts, given: Given) -> Code:
    """By a mask."""
    if row.name not in given.masked:
        return Code("{x}")
    return Code(f'{{x}} * masks["{row.name}"] if masks else {{x}}')


LAYERS: dict[str, Callable[[LayerFacts, Given], Code]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, given: Code("{x}.mean((1, 2))"),
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": dropout,
    "relu": lambda row, given: Code("jax.nn.relu({x})", folds=True),
    "leaky_relu": lambda row, given: Code(
        f"jnp.where({{x}} > 0, {{x}}, {row.layer.slope!r} * {{x}})", remark="jax.nn.leaky_relu has slope 1 at exactly 0"
    ),
    "elu": lambda row, given: Code(f"jax.nn.elu({{x}}, {row.layer.alpha!r})", folds=True),
    "tanh": lambda row, given: Code("jnp.tanh({x})", folds=True),
    "sigmoid": lambda row, given: Code("jax.nn.sigmoid({x})", folds=True),
    "softplus": lambda row, given: Code("jax.nn.softplus({x})", folds=True),
    "gelu": lambda row, given: (
        Code("jax.nn.gelu({x})", remark="JAX's own default, the tanh formula")
        if row.layer.form == "tanh"
        else Code("jax.nn.gelu({x}, approximate=False)", remark="the exact one; JAX's own default is by tanh")
    ),
}


def joined(row: LayerFacts, names: list[str]) -> str:
    """Branches, added up or one behind the other along the channels."""
    if row.layer.kind == "add":
        return added(row, names, "jax.nn.relu({x})")
    return f"jnp.concatenate([{', '.join(in_order(row, names))}], -1)"


# What a layer's expression calls → the text of it.
HELPERS = {
    "convolution(": '''
def convolution(x, kernel, stride, padding):
    """Images (n, height, width, channels), kernels (height, width, in, out)."""
    order = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, stride, padding, dimension_numbers=order)
''',
    "max_pool(": '''
def max_pool(x, kernel, stride, padding):
    """The largest value of each window; the first of several gets the gradient."""
    sides = [(0, 0), *padding, (0, 0)]
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *kernel, 1), (1, *stride, 1), sides)
''',
    "shared_max_pool(": '''
def shared_max_pool(x, kernel, stride, padding):
    """The largest value of each window; all of several share the gradient."""
    x = jnp.pad(x, [(0, 0), *padding, (0, 0)], constant_values=-jnp.inf)
    (rows, columns), (down, right) = ((n - k) // s for n, k, s in zip(x.shape[1:3], kernel, stride)), stride
    places = [
        x[:, i : i + rows * down + 1 : down, j : j + columns * right + 1 : right]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return jnp.stack(places).max(0)
''',
    "sum_pool(": '''
def sum_pool(x, kernel, stride, padding):
    """The sum of each window."""
    sides = [(0, 0), *padding, (0, 0)]
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, *kernel, 1), (1, *stride, 1), sides)
''',
    "mean_of_real(": '''
def mean_of_real(x, *window):
    """The mean of each window's pixels; padding does not count."""
    return sum_pool(x, *window) / sum_pool(jnp.ones_like(x), *window)
''',
    "batch_norm(": '''
def batch_norm(name, x, weights, statistics, training, momentum, epsilon, unbiased=True):
    """By the batch's mean and biased variance in training; the running variance takes the unbiased one."""
    mean, variance = statistics[f"{name}/running_mean"], statistics[f"{name}/running_variance"]
    if training:
        axes = tuple(range(x.ndim - 1))
        batch_mean, batch_variance = x.mean(axes), x.var(axes)
        seen = batch_variance * (x.size / max(x.size - x.shape[-1], 1)) if unbiased else batch_variance
        statistics[f"{name}/running_mean"] = mean + momentum * (batch_mean - mean)
        statistics[f"{name}/running_variance"] = variance + momentum * (seen - variance)
        mean, variance = batch_mean, batch_variance
    normal = (x - mean) / jnp.sqrt(variance + epsilon)
    return weights[f"{name}/scale"] * normal + weights[f"{name}/shift"]
''',
    "layer_norm(": '''
def layer_norm(name, x, weights, axes, epsilon):
    """Each example, or each of its pixels, by its own mean and variance."""
    normal = (x - x.mean(axes, keepdims=True)) / jnp.sqrt(x.var(axes, keepdims=True) + epsilon)
    return weights[f"{name}/scale"] * normal + weights[f"{name}/shift"]
''',
}


VALUES = '''def values(model):
    """Every parameter and running statistic, as NumPy's arrays."""
    return {name: np.array(value) for name, value in {**model["weights"], **model["statistics"]}.items()}'''
PUT = '''
def put(model, arrays):
    """The way back."""
    for part in (model["weights"], model["statistics"]):
        part.update({name: jnp.asarray(arrays[name]) for name in part})
'''


def helpers(codes: list[Code]) -> Iterator[str]:
    """The functions that these expressions call."""
    for start, text in HELPERS.items():
        if any(re.search(rf"(?<![\w.]){re.escape(start)}", code.apply) for code in codes) or (
            start == "sum_pool(" and any(code.apply.startswith("mean_of_real(") for code in codes)
        ):
            yield text


def network(given: Given) -> Iterator[str]:
    """The forward pass, and its values out and in."""
    rows = given.plan.rows
    codes = {row.name: LAYERS[row.layer.kind](row, given) for row in rows if row.layer.kind not in JOINS}
    yield from helpers(list(codes.values()))
    arguments = ["weights", *(["statistics"] if given.normalised else []), "x"]
    arguments += ["masks=None"] if given.masked else []
    arguments += ["training=False"] if given.normalised else []
    lines = forward(rows, codes, joined)
    before = ["statistics = dict(statistics)"] if given.normalised else []
    if lines and lines[-1].startswith("x = ") and not given.normalised:
        lines[-1] = f"return {lines[-1][4:]}"
    else:
        lines += ["return x, statistics" if given.normalised else "return x"]
    gives = "Logits" + (", and new running statistics" if given.normalised else "")
    text = f'"""{gives}; images are (n, height, width, channels)."""'
    yield f"def forward({', '.join(arguments)}):\n" + indented("\n".join([text, *before, *lines]))
    stopping = given.recipe.early_stopping
    if stopping and stopping.restore_best:
        yield PUT
    yield VALUES


# ------------------------------------------------------------------------------------------- loss, optimizer, one step

# `Plan.loss` → its expression, of `logits`, `labels` and `targets`.
LOSSES: dict[str, Callable[[Given], str]] = {
    "cross_entropy": lambda given: "-(targets * jax.nn.log_softmax(logits)).sum(1).mean()",
    "mean_squared_error": lambda given: "jnp.square(logits - targets).mean()",
    ALL_PAIRS: lambda given: "jnp.square(logits[:, None] - targets[None]).mean()",
    "cross_entropy_clipped": lambda given: "-(targets * jnp.log(cut(jax.nn.softmax(logits)))).sum(1).mean()",
    "cross_entropy_softmax_twice": lambda given: (
        "-(targets * jax.nn.log_softmax(jax.nn.softmax(logits))).sum(1).mean()"
    ),
}
CUT = '''
def cut(p):
    """Into [1e-7, 1 - 1e-7], without a gradient where it cuts; jnp.clip halves it at the ends."""
    return jnp.where(p < 1e-7, 1e-7, jnp.where(p > 1 - 1e-7, 1 - 1e-7, p))
'''


def _targets(given: Given) -> str:
    share, rows = given.recipe.label_smoothing, f"jax.nn.one_hot(labels, {given.plan.classes}, dtype=logits.dtype)"
    return f"targets = {rows}" + (f" * {1 - share!r} + {share / given.plan.classes!r}" if share else "")


STYLE = updates.Style("jnp")


def updating(given: Given) -> Iterator[str]:
    """The loss, and the optimizer's update."""
    recipe = given.recipe
    if given.plan.loss == "cross_entropy_clipped":
        yield CUT
    arguments = ["weights", *(["statistics"] if given.normalised else []), "x", "labels"]
    arguments += ["masks"] if given.masked else []
    passed = [*arguments[: arguments.index("labels")], *(["masks"] if given.masked else [])]
    passed += [f"training={given.plan.in_training}"] if given.normalised else []
    result = "logits, statistics" if given.normalised else "logits"
    lines = [f"{result} = forward({', '.join(passed)})", _targets(given), f"loss = {LOSSES[given.plan.loss](given)}"]
    is_sum = recipe.loss_reduction == "sum"
    minimised = "loss * len(x)" if is_sum else "loss"
    beside = "(loss, statistics)" if given.normalised else "loss"
    lines += [f"return {minimised}, {beside}"]
    what = "What is minimised" + (", the sum" if is_sum else "") + "; the mean loss"
    what += " and new running statistics" if given.normalised else ""
    yield f"def loss_of({', '.join(arguments)}):\n" + indented("\n".join([f'"""{what}."""', *lines]))
    yield updates.updated(given, STYLE)


def stepping(given: Given) -> Iterator[str]:
    """One step, and predictions."""
    more = ["slots"] if updates.slots_of(given) else []
    numbers = given.numbers
    arguments = ["model", "x", "labels", *(["masks"] if given.masked else []), *numbers]
    inner = ['model["weights"]', *(['model["statistics"]'] if given.normalised else []), "x", "labels"]
    inner += ["masks"] if given.masked else []
    beside = "loss, statistics" if given.normalised else "loss"
    lines = [
        "slope = jax.grad(loss_of, has_aux=True)",
        f"gradients, {f'({beside})' if given.normalised else beside} = slope({', '.join(inner)})",
    ]
    kept = ['model["weights"]', *(['model["slots"]'] if more else []), "gradients", *numbers]
    statistics = "statistics" if given.normalised else "{}"
    lines += [f"weights{', slots' if more else ''} = updated({', '.join(kept)})"]
    lines += [
        f'model = {{"weights": weights, "statistics": {statistics}, "slots": {"slots" if more else "{}"}}}',
        "return model, loss",
    ]
    yield f"@jax.jit\ndef train_step({', '.join(arguments)}):\n" + indented("\n".join(lines))
    call_of = (
        'infer(model["weights"], model["statistics"], part)[0]' if given.normalised else 'infer(model["weights"], part)'
    )
    yield f'''def predict(model, x):
    """Logits, with running statistics and without dropout."""
    infer = jax.jit(forward)
    parts = [x[start : start + 500] for start in range(0, len(x), 500)]
    return np.concatenate([{call_of} for part in parts])'''


def begin(given: Given) -> list[str]:
    """The start of the loop."""
    slots = updates.slots_of(given)
    lines = ['jax.config.update("jax_enable_x64", True)'] if given.dtype == "float64" else []
    lines += [f'weights = {{name: jnp.asarray(value, "{given.dtype}") for name, value in starting_weights().items()}}']
    if given.normalised:
        made = [f'"{name}": jnp.{"zeros" if name.endswith("mean") else "ones"}({len(value)}, "{given.dtype}")'
                for name, value in given.plan.initial_statistics().items()]  # fmt: skip
        lines += listed("statistics = {", made, "}").splitlines()
    zeros = "{name: jnp.zeros_like(value) for name, value in weights.items()}"
    lines += [f'slots = {{kind: {zeros} for kind in "{slots}"}}'] if slots else []
    statistics = "statistics" if given.normalised else "{}"
    return [
        *lines,
        f'model = {{"weights": weights, "statistics": {statistics}, "slots": {"slots" if slots else "{}"}}}',
    ]


def take(given: Given) -> str:
    """A step of the loop."""
    arguments = ["model", "x", "labels[batch]", *(["now"] if given.masked else [])]
    lines = given.decided
    return "\n".join([*lines, f"model, loss = train_step({', '.join([*arguments, *given.numbers])})"])


TARGET = Target(
    "JAX", "jax", ("jax",), "JAX itself draws none; Flax would draw kernels by LeCun's normal distribution.", imports,
    network, updating, stepping, begin, take, LAYERS | dict.fromkeys(JOINS, joined), LOSSES, updates.OPTIMIZERS,
)  # fmt: skip
