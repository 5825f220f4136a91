"""A run as a user of PyTorch writes it: a module, an optimizer of torch.optim, a plain loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from string import Template
from typing import Any

from lockstep.backends.mistakes import ALL_PAIRS
from lockstep.backends.plan import window_padding
from lockstep.exchange.scripts.given import Code, Given, Target, added, forward, in_order
from lockstep.exchange.scripts.lines import call, indented, pair
from lockstep.spec import JOINS, LayerFacts


def imports(given: Given) -> list[str]:
    """The framework's own lines."""
    return ["import torch", "import torch.nn.functional as F", "from torch import nn"]


# --------------------------------------------------------------------------------------------------------- the network


def attribute(name: str) -> str:
    """What a layer is called in the module: 0_conv2d → conv2d_0."""
    number, _, kind = name.partition("_")
    return f"{kind}_{number}" if number.isdecimal() else name


def _sides(row: LayerFacts) -> str:
    """Padding as F.pad takes it, or nothing where there is none."""
    (top, bottom), (left, right) = window_padding(row)
    return f"({left}, {right}, {top}, {bottom})" if top or bottom or left or right else ""


def _is_even(row: LayerFacts) -> bool:
    return all(before == after for before, after in window_padding(row))


LOPSIDED = 'PyTorch pads both sides alike, and refuses "same" under a stride'


def conv2d(row: LayerFacts, given: Given) -> Code:
    """Its own, padded by itself where both sides get the same."""
    layer, padding = row.layer, window_padding(row)
    arguments = [str(row.input_shape[2]), str(layer.filters), pair(layer.kernel)]
    arguments += [f"stride={pair(layer.stride)}"] if layer.stride != (1, 1) else []
    arguments += [f"padding={pair((padding[0][0], padding[1][0]))}"] if _is_even(row) and _sides(row) else []
    arguments += ["bias=False"] if not layer.bias else []
    before = "" if _is_even(row) else f"x = F.pad(x, {_sides(row)})"
    remark = "" if _is_even(row) else LOPSIDED
    return Code(f"self.{attribute(row.name)}({{x}})", f"nn.Conv2d({', '.join(arguments)})", before, remark)


def max_pool2d(row: LayerFacts, given: Given) -> Code:
    """Its own gives a window's gradient to its first maximum."""
    kernel, stride = row.layer.window()
    before = f"x = F.pad(x, {_sides(row)}, value=-torch.inf)" if _sides(row) else ""
    if row.layer.ties == "shared":
        windows = f"{{x}}.unfold(2, {kernel[0]}, {stride[0]}).unfold(3, {kernel[1]}, {stride[1]}).amax((4, 5))"
        return Code(windows, before=before, remark="equal maxima share the gradient; max_pool2d gives it to the first")
    steps = f", {pair(stride)}" if stride != kernel else ""
    return Code(f"F.max_pool2d({{x}}, {pair(kernel)}{steps})", before=before)


def avg_pool2d(row: LayerFacts, given: Given) -> Code:
    """Its own counts padding."""
    kernel, stride = row.layer.window()
    window = pair(kernel) + (f", {pair(stride)}" if stride != kernel else "")
    if not _sides(row):
        return Code(f"F.avg_pool2d({{x}}, {window})")
    if row.layer.count_padding:
        return Code(f"F.avg_pool2d({{x}}, {window})", before=f"x = F.pad(x, {_sides(row)})")
    before = f"x, real = (F.pad(value, {_sides(row)}) for value in (x, torch.ones_like(x)))\n"
    before += f"x, real = (F.avg_pool2d(value, {window}, divisor_override=1) for value in (x, real))"
    return Code("{x} / real", before=before, remark="padding does not count; PyTorch's own counts it")


def flatten(row: LayerFacts, given: Given) -> Code:
    """Its own puts the channels first."""
    if len(row.input_shape) == 3 and row.input_shape[2] > 1 and row.layer.order == "hwc":
        return Code("{x}.permute(0, 2, 3, 1).flatten(1)", remark="channels last; PyTorch's own order has them first")
    return Code("{x}.flatten(1)")


def dense(row: LayerFacts, given: Given) -> Code:
    """Its own."""
    bias = "" if row.layer.bias else ", bias=False"
    return Code(f"self.{attribute(row.name)}({{x}})", f"nn.Linear({row.input_shape[0]}, {row.layer.units}{bias})")


def batch_norm(row: LayerFacts, given: Given) -> Code:
    """Its own, unless the running variance is biased or a batch has a single value for each channel."""
    layer, axes = row.layer, "2d" if len(row.input_shape) == 3 else "1d"
    numbers = f", eps={layer.epsilon!r}" if layer.epsilon != 1e-5 else ""
    numbers += f", momentum={layer.momentum!r}" if layer.momentum != 0.1 else ""
    name, make = attribute(row.name), f"nn.BatchNorm{axes}({row.input_shape[-1]}{numbers})"
    if layer.running_variance == "biased":
        return Code(f"biased_batch_norm(self.{name}, {{x}})", make)
    if given.leaves_one and math.prod(row.input_shape[:-1]) == 1:
        return Code(f"self.{name}({{x}} if len({{x}}) > 1 else {{x}}.repeat(2, *[1] * ({{x}}.ndim - 1)))[: len({{x}})]",
                    make, remark="PyTorch refuses one value for each channel: twice the same is the same")  # fmt: skip
    return Code(f"self.{name}({{x}})", make)


def layer_norm(row: LayerFacts, given: Given) -> Code:
    """Its own, over the channels wherever they lie; over a whole example it is the group norm of one group."""
    layer, name, channels = row.layer, attribute(row.name), row.input_shape[-1]
    epsilon = f", eps={layer.epsilon!r}" if layer.epsilon != 1e-5 else ""
    if layer.over != "channels":
        return Code(f"self.{name}({{x}})", f"nn.GroupNorm(1, {channels}{epsilon})")
    make = f"nn.LayerNorm({channels}{epsilon})"
    if len(row.input_shape) == 3:
        return Code(f"self.{name}({{x}}.movedim(1, -1)).movedim(-1, 1)", make, remark="over each pixel's channels")
    return Code(f"self.{name}({{x}})", make)


def dropout(row: LayerFacts, given: Given) -> Code:
    """By a mask."""
    if row.name not in given.masked:
        return Code("{x}", remark="a dropout that drops nothing")
    if given.is_own:
        return Code(f"self.{attribute(row.name)}({{x}})", f"nn.Dropout({row.layer.rate!r})")
    return Code(f'{{x}} * masks["{row.name}"] if masks else {{x}}', remark="F.dropout would draw its own mask")


def _activation(text: str, remark: str = "") -> Callable[[LayerFacts, Given], Code]:
    return lambda row, given: Code(text, remark=remark, folds=not remark)


LAYERS: dict[str, Callable[[LayerFacts, Given], Code]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, given: Code("{x}.mean((2, 3))"),
    "flatten": flatten,
    "dense": dense,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "dropout": dropout,
    "relu": _activation("F.relu({x})"),
    "leaky_relu": lambda row, given: Code(f"F.leaky_relu({{x}}, {row.layer.slope!r})", folds=True),
    "elu": lambda row, given: Code(f"F.elu({{x}}, {row.layer.alpha!r})", folds=True),
    "tanh": _activation("torch.tanh({x})"),
    "sigmoid": _activation("torch.sigmoid({x})"),
    "softplus": _activation("F.softplus({x}, threshold=40)", "from 20 on PyTorch's own gives x itself, 2e-9 off"),
    "gelu": lambda row, given: Code(
        'F.gelu({x}, approximate="tanh")' if row.layer.form == "tanh" else "F.gelu({x})", folds=True
    ),
}


def joined(row: LayerFacts, names: list[str]) -> str:
    """Branches, added up or one behind the other along the channels."""
    if row.layer.kind == "add":
        return added(row, names, "F.relu({x})")
    return f"torch.cat([{', '.join(in_order(row, names))}], 1)"


BIASED = '''
def biased_batch_norm(own, x):
    """PyTorch's batch normalisation keeps the unbiased variance; here it is the biased one."""
    if not own.training:
        return own(x)
    with torch.no_grad():
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
        own.running_mean.lerp_(mean, own.momentum)
        own.running_var.lerp_(variance, own.momentum)
    return F.batch_norm(x, None, None, own.weight, own.bias, training=True, eps=own.eps)
'''
BORDER = '''
def named(model):
    """Lockstep's names → the module's own: 0_conv2d/kernel is conv2d_0.weight."""
    found = {}
    for attribute, layer in model.named_children():
        kind, _, number = attribute.rpartition("_")
        names, own = ("kernel", "bias"), [layer.weight, layer.bias]
$norms        found |= {f"{number}_{kind}/{name}": value for name, value in zip(names, own) if value is not None}
    return found


def values(model):
    """Every parameter$statistics in the layout of `starting_weights`."""
    arrays = {name: value.detach().numpy().copy() for name, value in named(model).items()}
    return {name: a.transpose(2, 3, 1, 0) if a.ndim == 4 else a.T for name, a in arrays.items()}


def put(model, arrays):
    """The way back: PyTorch's kernels are (out, in, height, width) and (out, in)."""
    with torch.no_grad():
        for name, value in arrays.items():
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
            named(model)[name].copy_(torch.from_numpy(value.copy()))
'''


def _border(given: Given) -> str:
    names, own = '"scale", "shift"', "own"
    if given.normalised:
        names, own = f'{names}, "running_mean", "running_variance"', "[*own, *layer.buffers()]"
    norms = f'        if "norm" in kind:\n            names, own = ({names}), {own}\n'
    if own == "own":
        norms = f'        if "norm" in kind:\n            names = {names}\n'
    statistics = " and running statistic" if given.normalised else ""
    is_normed = given.has("batch_norm", "layer_norm")
    return Template(BORDER).substitute(norms=norms if is_normed else "", statistics=statistics)


def network(given: Given) -> Iterator[str]:
    """The module, and its values out and in."""
    rows = given.plan.rows
    codes = {row.name: LAYERS[row.layer.kind](row, given) for row in rows if row.layer.kind not in JOINS}
    made = [f"self.{attribute(name)} = {code.make}" for name, code in codes.items() if code.make]
    if any(row.layer.running_variance == "biased" for row in given.normalised):
        yield BIASED
    arguments = "self, x, masks=None" if given.masked else "self, x"
    *lines, last = forward(rows, codes, joined)
    lines.append(f"return {last.removeprefix('x = ')}")
    yield "\n".join([
        "class Network(nn.Module):", "    def __init__(self):", "        super().__init__()",
        *(f"        {line}" for line in made), "",
        f"    def forward(self, {arguments.removeprefix('self, ')}):",
        *(f"        {line}" for line in lines),
    ])  # fmt: skip
    yield _border(given)


# ------------------------------------------------------------------------------------------- loss, optimizer, one step

# `Plan.loss` → its expression, of `logits`, `labels` and `targets`.
LOSSES: dict[str, Callable[[Given], str]] = {
    "cross_entropy": lambda given: f"F.cross_entropy(logits, labels{_smoothing(given)})",
    "mean_squared_error": lambda given: "F.mse_loss(logits, targets)",
    ALL_PAIRS: lambda given: "(logits[:, None] - targets[None]).square().mean()",
    "cross_entropy_clipped": lambda given: "-(targets * logits.softmax(1).clamp(1e-7, 1 - 1e-7).log()).sum(1).mean()",
    "cross_entropy_softmax_twice": lambda given: f"F.cross_entropy(logits.softmax(1), labels{_smoothing(given)})",
}


def _smoothing(given: Given) -> str:
    share = given.recipe.label_smoothing
    return f", label_smoothing={share!r}" if share else ""


def _targets(given: Given) -> str:
    share, rows = given.recipe.label_smoothing, f"F.one_hot(labels, {given.plan.classes}).to(logits.dtype)"
    return f"targets = {rows}" + (f" * {1 - share!r} + {share / given.plan.classes!r}" if share else "")


def _sgd(given: Given) -> str:
    o = given.recipe.optimizer
    nesterov = ", nesterov=True" if o.kind == "nesterov" else ""
    return f"torch.optim.SGD(model.parameters(), LEARNING_RATE, momentum={o.momentum!r}{nesterov})"


def _adam_options(o: Any) -> list[str]:
    betas = [f"betas=({o.beta1!r}, {o.beta2!r})"] if (o.beta1, o.beta2) != (0.9, 0.999) else []
    return betas + ([f"eps={o.epsilon!r}"] if o.epsilon != 1e-8 else [])


def _adamw(given: Given) -> str:
    o = given.recipe.optimizer
    return call("torch.optim.AdamW(", ["parameters", "LEARNING_RATE", *_adam_options(o)])


def _rmsprop(given: Given) -> str:
    o = given.recipe.optimizer
    if o.epsilon_mode == "inside":
        return "{w: torch.zeros_like(w) for w in model.parameters()}  # means of squares"
    return f"torch.optim.RMSprop(model.parameters(), LEARNING_RATE, alpha={o.rho!r}, eps={o.epsilon!r})"


# kind → what `optimizer` is
OPTIMIZERS: dict[str, Callable[[Given], str]] = {
    "sgd": lambda given: "torch.optim.SGD(model.parameters(), LEARNING_RATE)",
    "momentum": _sgd,
    "nesterov": _sgd,
    "adam": lambda given: call(
        "torch.optim.Adam(", ["model.parameters()", "LEARNING_RATE", *_adam_options(given.recipe.optimizer)]
    ),
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}
INSIDE = """
with torch.no_grad():
    for w, s in optimizer.items():  # torch.optim.RMSprop adds ε to the root, not below it
        s.mul_({rho}).addcmul_(w.grad, w.grad, value=1 - {rho})
        w.addcdiv_(w.grad, (s + {epsilon}).sqrt(), value=-{rate})
"""


def updating(given: Given) -> Iterator[str]:
    """The optimizer."""
    o, lines = given.recipe.optimizer, list[str]()
    if o.kind == "adamw":
        kernels = "model.parameters()" if given.decays_all else "[w for w in model.parameters() if w.ndim > 1]"
        others = "[]" if given.decays_all else "[w for w in model.parameters() if w.ndim == 1]"
        lines = [
            *(["# PyTorch's own decays every parameter, by 0.01"] if not given.decays_all else []),
            "parameters = [",
            f'    {{"params": {kernels}, "weight_decay": {o.weight_decay!r}}},',
            *([f'    {{"params": {others}, "weight_decay": 0.0}},'] if not given.decays_all else []),
            "]",
        ]
    if lines:
        yield "def optimizer_of(model):\n" + indented("\n".join([*lines, f"return {OPTIMIZERS[o.kind](given)}"]))


def stepping(given: Given) -> Iterator[str]:
    """One step, and predictions."""
    recipe, o = given.recipe, given.recipe.optimizer
    own = o.kind == "rmsprop" and o.epsilon_mode == "inside"
    arguments = [
        "model",
        "optimizer",
        "x",
        "labels",
        *(["masks"] if given.masked else []),
        *(["rate"] if given.is_scheduled else []),
    ]
    arguments += ["step"] if _needs_step(given) else []
    lines = ["model.train()" if given.plan.in_training else "model.eval()  # while training, on purpose"]
    x = "channels_first(x)"
    if given.masked:
        lines += ["masks = {name: channels_first(value) for name, value in masks.items()}"]
    passed = f"{x}, masks" if given.masked else x
    lines += [f"logits, labels = model({passed}), torch.from_numpy(labels)"]
    lines += [_targets(given)] if given.needs_targets else []
    lines += [f"loss = {LOSSES[given.plan.loss](given)}"]
    lines += ["model.zero_grad()" if own else "optimizer.zero_grad()"]
    is_sum = recipe.loss_reduction == "sum"
    lines += ["(loss * len(labels)).backward()  # the sum is minimised" if is_sum else "loss.backward()"]
    lines += _regularised(given)
    if own:
        lines += INSIDE.format(rate=given.rate, rho=repr(o.rho), epsilon=repr(o.epsilon)).strip().splitlines()
    else:
        lines += _numbers(given)
        lines += ["optimizer.step()"]
    lines += ["return loss.item()"]
    yield f"def train_step({', '.join(arguments)}):\n" + indented("\n".join(lines))
    yield '''def channels_first(x):
    """Images as PyTorch takes them: (n, channels, height, width)."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2) if x.ndim == 4 else x))'''
    yield '''@torch.inference_mode()
def predict(model, x):
    """Logits, with running statistics and without dropout."""
    model.eval()
    parts = [x[start : start + 500] for start in range(0, len(x), 500)]
    return np.concatenate([model(channels_first(part)).numpy() for part in parts])'''


def _needs_step(given: Given) -> bool:
    o = given.recipe.optimizer
    return getattr(o, "epsilon_mode", "") == "hat" or given.is_velocity


def _regularised(given: Given) -> list[str]:
    """L2 and clipping, on the gradients."""
    recipe, lines = given.recipe, []
    if recipe.l2 or recipe.clip_norm:
        lines += ["with torch.no_grad():"]
    if recipe.l2:
        kernels = "model.parameters()" if given.decays_all else "(w for w in model.parameters() if w.ndim > 1)"
        lines += [
            f"    for w in {kernels}:  # weight_decay: after clipping",
            f"        w.grad.add_(w, alpha={recipe.l2!r})",
        ]
    if recipe.clip_norm and recipe.clip_scope == "tensor":
        lines += [
            "    for w in model.parameters():  # each by its own norm",
            f"        w.grad.mul_(torch.clamp({recipe.clip_norm!r} / w.grad.norm(), max=1.0))",
        ]
    elif recipe.clip_norm:
        lines += [
            "    norm = torch.stack([w.grad.norm() for w in model.parameters()]).norm()",
            "    for w in model.parameters():  # clip_grad_norm_ would divide by the norm + 1e-6",
            f"        w.grad.mul_(torch.clamp({recipe.clip_norm!r} / norm, max=1.0))",
        ]
    return lines


def _numbers(given: Given) -> list[str]:
    """What changes from step to step."""
    o, lines, changing = given.recipe.optimizer, list[str](), list[str]()
    if given.is_velocity:
        lines = [
            'factor = optimizer.param_groups[0]["lr"] / rate if step and rate else 1.0',
            "for state in optimizer.state.values():  # what stays when the rate changes is rate · b, not b",
            '    state["momentum_buffer"].mul_(factor)',
        ]
    if given.is_scheduled:
        changing += ['    group["lr"] = rate']
    if getattr(o, "epsilon_mode", "") == "hat":
        correction = f"math.sqrt(1 - {o.beta2!r} ** (step + 1))"
        changing += [f'    group["eps"] = {o.epsilon!r} / {correction}  # ε before bias correction']
    return [*lines, *(["for group in optimizer.param_groups:", *changing] if changing else [])]


def begin(given: Given) -> list[str]:
    """The start of the loop."""
    dtype, kind = ".double()" if given.dtype == "float64" else "", given.recipe.optimizer.kind
    made = "optimizer_of(model)" if kind == "adamw" else OPTIMIZERS[kind](given)
    return [f"model = Network(){dtype}", "put(model, starting_weights())", f"optimizer = {made}"]


def take(given: Given) -> str:
    """A step of the loop."""
    arguments = [
        "model",
        "optimizer",
        "x",
        "labels[batch]",
        *(["now"] if given.masked else []),
        *(["rate"] if given.is_scheduled else []),
    ]
    arguments += ["len(losses)"] if _needs_step(given) else []
    return f"loss = train_step({', '.join(arguments)})"


TARGET = Target(
    "PyTorch", "torch", ("torch",), "PyTorch's own would draw kernels and biases in ±1/√fan_in.", imports, network,
    updating, stepping, begin, take, LAYERS | dict.fromkeys(JOINS, joined), LOSSES, OPTIMIZERS,
)  # fmt: skip
