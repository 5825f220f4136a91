"""A run from scratch: layers that return their own way back, in nothing but NumPy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.plan import window_padding
from lockstep.exchange.scripts import updates
from lockstep.exchange.scripts.given import Given, Target
from lockstep.exchange.scripts.lines import call, indented, listed
from lockstep.spec import Add, LayerFacts


class Code(NamedTuple):
    """A layer: the function that it is, and what it is given beside its name, its input and the model."""

    function: str
    options: str = ""


def imports(given: Given) -> list[str]:
    """NumPy has no error function; SciPy has it."""
    exact = any(row.layer.kind == "gelu" and row.layer.form == "exact" for row in given.plan.rows)
    return ["from scipy.special import erf"] if exact else []


# --------------------------------------------------------------------------------------------------------- the network


def _window(row: LayerFacts) -> str:
    kernel, stride = row.layer.window()
    return f"{kernel}, {stride}, {window_padding(row)}"


def _avg_pool2d(row: LayerFacts, given: Given) -> Code:
    counts = row.layer.count_padding or row.layer.padding == "valid"
    return Code("avg_pool2d" if counts else "avg_pool2d_of_real", _window(row))


def _flatten(row: LayerFacts, given: Given) -> Code:
    is_turned = row.layer.order == "chw" and len(row.input_shape) == 3 and row.input_shape[2] > 1
    return Code("flatten_channels_first" if is_turned else "flatten")


def _layer_norm(row: LayerFacts, given: Given) -> Code:
    is_flat = row.layer.over == "channels" or len(row.input_shape) == 1
    return Code("layer_norm", f"{'(-1,)' if is_flat else '(1, 2, 3)'}, {row.layer.epsilon!r}")


LAYERS: dict[str, Callable[[LayerFacts, Given], Code]] = {
    "conv2d": lambda row, given: Code("conv2d", _window(row)),
    "depthwise": lambda row, given: Code("depthwise", _window(row)),
    "max_pool2d": lambda row, given: Code(
        "shared_max_pool2d" if row.layer.ties == "shared" else "max_pool2d", _window(row)
    ),
    "avg_pool2d": _avg_pool2d,
    "global_avg_pool": lambda row, given: Code("global_avg_pool"),
    "flatten": _flatten,
    "dense": lambda row, given: Code("dense"),
    "batch_norm": lambda row, given: Code(
        "batch_norm", f"{row.layer.momentum!r}, {row.layer.epsilon!r}, {row.layer.running_variance == 'unbiased'}"
    ),
    "layer_norm": _layer_norm,
    "dropout": lambda row, given: Code("dropout"),
    "relu": lambda row, given: Code("relu"),
    "leaky_relu": lambda row, given: Code("leaky_relu", repr(row.layer.slope)),
    "elu": lambda row, given: Code("elu", repr(row.layer.alpha)),
    "tanh": lambda row, given: Code("tanh"),
    "sigmoid": lambda row, given: Code("sigmoid"),
    "softplus": lambda row, given: Code("softplus"),
    "silu": lambda row, given: Code("silu"),
    "gelu": lambda row, given: Code("gelu_by_tanh" if row.layer.form == "tanh" else "gelu"),
    "add": lambda row, given: Code(
        "add" if row.layer == Add() else "scaled_add",
        "" if row.layer == Add() else f"{row.layer.first!r}, {row.layer.others!r}, {row.layer.rectified}",
    ),
    "concat": lambda row, given: Code(
        "concat", str(list(range(len(row.inputs)))[:: -1 if row.layer.order == "reversed" else 1])
    ),
}
# A layer's function, or what one calls → its text.
FUNCTIONS = {
    "places": '''
def places(x, kernel, stride):
    """For each place of a window, in row-major order, those pixels of all windows."""
    rows, columns = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], kernel, stride))
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            ends = i + (rows - 1) * stride[0] + 1, j + (columns - 1) * stride[1] + 1
            yield np.s_[:, i : ends[0] : stride[0], j : ends[1] : stride[1]]
''',
    "padded": '''
def padded(x, padding, value=0.0):
    """Images with a border, and the function that takes it off again."""
    (top, _), (left, _) = padding
    inside = np.s_[:, top : top + x.shape[1], left : left + x.shape[2]]
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value), lambda dx: dx[inside]
''',
    "conv2d": """
def conv2d(name, x, on, kernel, stride, padding):
    w, b = on["weights"][f"{name}/kernel"], on["weights"].get(f"{name}/bias")
    x, inside = padded(x, padding)
    spots, taps = list(places(x, kernel, stride)), w.reshape(-1, *w.shape[2:])
    y = sum(x[spot] @ tap for spot, tap in zip(spots, taps))

    def backward(dy):
        products = [np.tensordot(x[spot], dy, ((0, 1, 2), (0, 1, 2))) for spot in spots]
        on["gradients"][f"{name}/kernel"] = np.stack(products).reshape(w.shape)
        if b is not None:
            on["gradients"][f"{name}/bias"] = dy.sum((0, 1, 2))
        dx = np.zeros_like(x)
        for spot, tap in zip(spots, taps):
            dx[spot] += dy @ tap.T
        return inside(dx)

    return y if b is None else y + b, backward
""",
    "depthwise": """
def depthwise(name, x, on, kernel, stride, padding):
    w, b = on["weights"][f"{name}/kernel"], on["weights"].get(f"{name}/bias")
    x, inside = padded(x, padding)
    spots, taps = list(places(x, kernel, stride)), w.reshape(-1, w.shape[3])
    y = sum(x[spot] * tap for spot, tap in zip(spots, taps))

    def backward(dy):
        sums = [(x[spot] * dy).sum((0, 1, 2)) for spot in spots]
        on["gradients"][f"{name}/kernel"] = np.stack(sums).reshape(w.shape)
        if b is not None:
            on["gradients"][f"{name}/bias"] = dy.sum((0, 1, 2))
        dx = np.zeros_like(x)
        for spot, tap in zip(spots, taps):
            dx[spot] += dy * tap
        return inside(dx)

    return y if b is None else y + b, backward
""",
    "max_pool2d": """
def max_pool2d(name, x, on, kernel, stride, padding):
    x, inside = padded(x, padding, -np.inf)
    spots = list(places(x, kernel, stride))
    y = np.max([x[spot] for spot in spots], 0)

    def backward(dy):
        dx, free = np.zeros_like(x), np.ones(y.shape, bool)
        for spot in spots:  # the first of several maxima gets the gradient
            hit = (x[spot] == y) & free
            free &= ~hit
            dx[spot] += dy * hit
        return inside(dx)

    return y, backward
""",
    "shared_max_pool2d": """
def shared_max_pool2d(name, x, on, kernel, stride, padding):
    x, inside = padded(x, padding, -np.inf)
    spots = list(places(x, kernel, stride))
    y = np.max([x[spot] for spot in spots], 0)

    def backward(dy):
        dx, n = np.zeros_like(x), sum(x[spot] == y for spot in spots).astype(x.dtype)
        for spot in spots:  # all of several maxima share the gradient
            dx[spot] += dy / n * (x[spot] == y)
        return inside(dx)

    return y, backward
""",
    "avg_pool2d": """
def avg_pool2d(name, x, on, kernel, stride, padding):
    x, inside = padded(x, padding)
    spots = list(places(x, kernel, stride))

    def backward(dy):
        dx = np.zeros_like(x)
        for spot in spots:
            dx[spot] += dy / len(spots)
        return inside(dx)

    return sum(x[spot] for spot in spots) / len(spots), backward
""",
    "avg_pool2d_of_real": """
def avg_pool2d_of_real(name, x, on, kernel, stride, padding):
    real, _ = padded(np.ones_like(x[:1]), padding)
    x, inside = padded(x, padding)
    spots = list(places(x, kernel, stride))
    n = sum(real[spot] for spot in spots)  # padding does not count

    def backward(dy):
        dx = np.zeros_like(x)
        for spot in spots:
            dx[spot] += dy / n
        return inside(dx)

    return sum(x[spot] for spot in spots) / n, backward
""",
    "global_avg_pool": """
def global_avg_pool(name, x, on):
    share = 1 / (x.shape[1] * x.shape[2])
    return x.mean((1, 2)), lambda dy: np.broadcast_to(dy[:, None, None] * share, x.shape)
""",
    "flatten": """
def flatten(name, x, on):
    return x.reshape(len(x), -1), lambda dy: dy.reshape(x.shape)
""",
    "flatten_channels_first": """
def flatten_channels_first(name, x, on):
    turned = x.transpose(0, 3, 1, 2)
    return turned.reshape(len(x), -1), lambda dy: dy.reshape(turned.shape).transpose(0, 2, 3, 1)
""",
    "dense": """
def dense(name, x, on):
    w, b = on["weights"][f"{name}/kernel"], on["weights"].get(f"{name}/bias")

    def backward(dy):
        on["gradients"][f"{name}/kernel"] = x.T @ dy
        if b is not None:
            on["gradients"][f"{name}/bias"] = dy.sum(0)
        return dy @ w.T

    return x @ w if b is None else x @ w + b, backward
""",
    "batch_norm": """
def batch_norm(name, x, on, momentum, epsilon, unbiased):
    scale, shift = on["weights"][f"{name}/scale"], on["weights"][f"{name}/shift"]
    axes, n = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    mean, variance = on["statistics"][f"{name}/running_mean"], on["statistics"][f"{name}/running_variance"]
    if on["training"]:
        batch_mean, batch_variance = x.mean(axes), x.var(axes)
        seen = batch_variance * (n / max(n - 1, 1)) if unbiased else batch_variance
        on["statistics"][f"{name}/running_mean"] = mean + momentum * (batch_mean - mean)
        on["statistics"][f"{name}/running_variance"] = variance + momentum * (seen - variance)
        mean, variance = batch_mean, batch_variance
    inverse = 1 / np.sqrt(variance + epsilon)
    normal = (x - mean) * inverse

    def backward(dy):
        dscale, dshift = (dy * normal).sum(axes), dy.sum(axes)
        on["gradients"][f"{name}/scale"], on["gradients"][f"{name}/shift"] = dscale, dshift
        if not on["training"]:
            return scale * inverse * dy
        return scale * inverse * (dy - dshift / n - normal * (dscale / n))

    return scale * normal + shift, backward
""",
    "layer_norm": """
def layer_norm(name, x, on, axes, epsilon):
    scale, shift = on["weights"][f"{name}/scale"], on["weights"][f"{name}/shift"]
    inverse = 1 / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    normal = (x - x.mean(axes, keepdims=True)) * inverse

    def backward(dy):
        every = tuple(range(x.ndim - 1))
        on["gradients"][f"{name}/scale"] = (dy * normal).sum(every)
        on["gradients"][f"{name}/shift"] = dy.sum(every)
        g = dy * scale
        along = (g * normal).mean(axes, keepdims=True)
        return inverse * (g - g.mean(axes, keepdims=True) - normal * along)

    return scale * normal + shift, backward
""",
    "dropout": """
def dropout(name, x, on):
    mask = on["masks"].get(name, 1)
    return x * mask, lambda dy: dy * mask
""",
    "relu": """
def relu(name, x, on):
    return np.maximum(x, 0), lambda dy: dy * (x > 0)
""",
    "leaky_relu": """
def leaky_relu(name, x, on, slope):
    factor = np.where(x > 0, x.dtype.type(1), x.dtype.type(slope))
    return x * factor, lambda dy: dy * factor
""",
    "elu": """
def elu(name, x, on, alpha):
    y = np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return y, lambda dy: dy * np.where(x > 0, x.dtype.type(1), y + alpha)
""",
    "tanh": """
def tanh(name, x, on):
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - y * y)
""",
    "logistic": """
def logistic(x):
    small = np.exp(-abs(x))  # never overflows
    return np.where(x > 0, 1 / (1 + small), small / (1 + small))
""",
    "sigmoid": """
def sigmoid(name, x, on):
    y = logistic(x)
    return y, lambda dy: dy * y * (1 - y)
""",
    "softplus": """
def softplus(name, x, on):
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), lambda dy: dy * logistic(x)
""",
    "silu": """
def silu(name, x, on):
    share = logistic(x)
    return x * share, lambda dy: dy * (share + x * share * (1 - share))
""",
    "gelu": """
def gelu(name, x, on):
    cumulative = 0.5 * (1 + erf(x / math.sqrt(2)))
    density = np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return x * cumulative, lambda dy: dy * (cumulative + x * density)
""",
    "add": """
def add(name, x, on):
    return sum(x[1:], x[0]), lambda dy: [dy] * len(x)
""",
    "scaled_add": """
def scaled_add(name, x, on, first, others, rectified):
    slope = first * (x[0] > 0).astype(x[0].dtype) if rectified else first
    return slope * x[0] + others * sum(x[2:], x[1]), lambda dy: [slope * dy] + [others * dy] * (len(x) - 1)
""",
    "concat": """
def concat(name, x, on, order):
    ends = np.cumsum([x[place].shape[-1] for place in order])[:-1]

    def backward(dy):
        parts = np.split(dy, ends, axis=-1)
        return [parts[order.index(place)] for place in range(len(x))]

    return np.concatenate([x[place] for place in order], axis=-1), backward
""",
    "gelu_by_tanh": """
def gelu_by_tanh(name, x, on):
    c = math.sqrt(2 / math.pi)
    u = np.tanh(c * (x + 0.044715 * x * x * x))
    slope = 0.5 * (1 - u * u) * c * (1 + 3 * 0.044715 * x * x)
    return x * 0.5 * (1 + u), lambda dy: dy * (0.5 * (1 + u) + x * slope)
""",
}
FORWARD_BY_NAME = '''
def forward(on, x):
    """Logits, and the way back of every layer."""
    values, backwards = {"input": x}, {}
    for layer, name, inputs, *options in NETWORK:
        x = [values[one] for one in inputs] if len(inputs) > 1 else values[inputs[0]]
        values[name], backwards[name] = layer(name, x, on, *options)
    return values[name], backwards


def backward(backwards, dy):
    """Every gradient; what comes back to a value by several ways is added up."""
    sent = {NETWORK[-1][1]: dy}
    for _layer, name, inputs, *_options in reversed(NETWORK):
        dx = backwards[name](sent[name])
        for one, part in zip(inputs, dx if len(inputs) > 1 else [dx]):
            sent[one] = sent[one] + part if one in sent else part
'''
FORWARD = '''
def forward(on, x):
    """Logits, and the way back of every layer."""
    backwards = []
    for layer, name, *options in NETWORK:
        x, backward = layer(name, x, on, *options)
        backwards.append(backward)
    return x, backwards
'''
VALUES = '''
def values(model):
    """Every parameter and running statistic."""
    return {**model["weights"], **model["statistics"]}
'''
PUT = '''
def put(model, arrays):
    """The way back."""
    for part in (model["weights"], model["statistics"]):
        part.update({name: arrays[name] for name in part})
'''


def network(given: Given) -> Iterator[str]:
    """The functions of its layers, the table of them, the forward pass."""
    codes = [(row.name, LAYERS[row.layer.kind](row, given)) for row in given.plan.rows]
    wanted = {code.function for _, code in codes}
    needed = dict.fromkeys(name for name in FUNCTIONS if name in wanted)
    for name in list(needed):
        needed |= dict.fromkeys(other for other in FUNCTIONS if re.search(rf"\b{other}\(", _body(FUNCTIONS[name])))
    for name, text in FUNCTIONS.items():
        if name in needed:
            yield text
    taken = {row.name: _taken(row) for row in given.plan.rows} if not given.plan.walk.is_chain else {}
    rows = [
        f'({code.function}, "{name}"{taken.get(name, "")}{f", {code.options}" if code.options else ""})'
        for name, code in codes
    ]
    yield listed("NETWORK = [", rows, "]")
    yield FORWARD_BY_NAME if taken else FORWARD
    yield VALUES
    if given.recipe.early_stopping and given.recipe.early_stopping.restore_best:
        yield PUT


def _taken(row: LayerFacts) -> str:
    return ", [" + ", ".join(f'"{name}"' for name in row.inputs) + "]"


def _body(text: str) -> str:
    return text.partition("\n    ")[2]


# ------------------------------------------------------------------------------------------- loss, optimizer, one step

# `Plan.loss` → the statements that give `loss` and its gradient `dy` by the logits, of `logits` and `targets`.
_SOFTMAX = "p = np.exp(logits - logits.max(1, keepdims=True))\np /= p.sum(1, keepdims=True)\n"
_BACK = "dy = p * (dp - (p * dp).sum(1, keepdims=True)) / len(p)"
LOSSES: dict[str, str] = {
    "cross_entropy": (
        "z = logits - logits.max(1, keepdims=True)\n"
        "logs = z - np.log(np.exp(z).sum(1, keepdims=True))\n"
        "loss = -(targets * logs).sum(1).mean()\n"
        "dy = (np.exp(logs) - targets) / len(logits)"
    ),
    "mean_squared_error": (
        "loss = np.square(logits - targets).mean()\n"
        "dy = (logits - targets) * (2 / logits.size)"
    ),
    ALL_PAIRS: (
        "middle = targets.mean(0)  # every output is compared with every target, on purpose\n"
        "loss = np.square(logits - middle).mean() + np.square(targets - middle).mean()\n"
        "dy = (logits - middle) * (2 / logits.size)"
    ),
    "cross_entropy_clipped": _SOFTMAX + (
        "cut = np.clip(p, p.dtype.type(1e-7), 1 - p.dtype.type(1e-7))\n"
        "loss = -(targets * np.log(cut)).sum(1).mean()\n"
        "dp = np.where(cut == p, -targets / cut, 0)\n"
    ) + _BACK,
    "cross_entropy_softmax_twice": _SOFTMAX + (
        "logs = p - np.log(np.exp(p).sum(1, keepdims=True))\n"
        "loss = -(targets * logs).sum(1).mean()\n"
        "dp = np.exp(logs) - targets\n"
    ) + _BACK,
}  # fmt: skip
STYLE = updates.Style("np")


def _targets(given: Given) -> str:
    share, rows = given.recipe.label_smoothing, f'np.eye({given.plan.classes}, dtype="{given.dtype}")[labels]'
    return f"targets = {rows}" + (f" * {1 - share!r} + {share / given.plan.classes!r}" if share else "")


def updating(given: Given) -> Iterator[str]:
    """The loss and its gradient, and the optimizer's update."""
    is_sum = given.recipe.loss_reduction == "sum"
    lines = ['"""The mean loss, and the gradient of ' + ("the sum" if is_sum else "it") + ' by the logits."""']
    lines += [_targets(given), LOSSES[given.plan.loss], f"return loss, dy{' * len(logits)' if is_sum else ''}"]
    yield "def loss_of(logits, labels):\n" + indented("\n".join(lines))
    yield updates.updated(given, STYLE)


def stepping(given: Given) -> Iterator[str]:
    """One step, and predictions."""
    slots = updates.slots_of(given)
    arguments = ["model", "x", "labels", *(["masks"] if given.masked else []), *given.numbers]
    masks = "masks" if given.masked else "{}"
    kept = ['model["weights"]', *(['model["slots"]'] if slots else []), 'on["gradients"]', *given.numbers]
    gives = 'model["weights"], model["slots"]' if slots else 'model["weights"]'
    yield f"def train_step({', '.join(arguments)}):\n" + indented(
        f'on = {{**model, "gradients": {{}}, "masks": {masks}, "training": {given.plan.in_training}}}\n'
        "logits, backwards = forward(on, x)\n"
        "loss, dy = loss_of(logits, labels)\n"
        + (
            "for backward in reversed(backwards):\n    dy = backward(dy)\n"
            if given.plan.walk.is_chain
            else "backward(backwards, dy)\n"
        )
        + call(f"{gives} = updated(", kept, deeper=4)
        + "\n"
        "return loss"
    )
    yield '''def predict(model, x):
    """Logits, with running statistics and without dropout."""
    on = {**model, "masks": {}, "training": False}
    return np.concatenate([forward(on, x[start : start + 500])[0] for start in range(0, len(x), 500)])'''


def begin(given: Given) -> list[str]:
    """The start of the loop."""
    slots = updates.slots_of(given)
    lines = ["weights = starting_weights()"]
    if given.dtype == "float64":
        lines = ['weights = {name: value.astype("float64") for name, value in starting_weights().items()}']
    statistics = "{}"
    if given.normalised:
        made = [f'"{name}": np.{"zeros" if name.endswith("mean") else "ones"}({len(value)}, "{given.dtype}")'
                for name, value in given.plan.initial_statistics().items()]  # fmt: skip
        lines += listed("statistics = {", made, "}").splitlines()
        statistics = "statistics"
    zeros = "{name: np.zeros_like(value) for name, value in weights.items()}"
    lines += [f'slots = {{kind: {zeros} for kind in "{slots}"}}'] if slots else []
    return [
        *lines,
        f'model = {{"weights": weights, "statistics": {statistics}, "slots": {"slots" if slots else "{}"}}}',
    ]


def take(given: Given) -> str:
    """A step of the loop."""
    arguments = ["model", "x", "labels[batch]", *(["now"] if given.masked else []), *given.numbers]
    return "\n".join([*given.decided, f"loss = train_step({', '.join(arguments)})"])


TARGET = Target(
    "NumPy", "numpy", ("numpy",), "", imports, network, updating, stepping, begin, take, LAYERS, LOSSES,
    updates.OPTIMIZERS,
)  # fmt: skip
