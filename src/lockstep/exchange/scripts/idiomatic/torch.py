"""PyTorch's own means: a seed for its generator, a DataLoader, torch.optim, a scheduler, nn.init."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from lockstep.exchange.scripts import decisions
from lockstep.exchange.scripts import torch as exact
from lockstep.exchange.scripts.given import Given, forward
from lockstep.exchange.scripts.idiomatic import Idiom
from lockstep.exchange.scripts.lines import call, indented
from lockstep.spec import JOINS

# kind → the call that fills a tensor `{w}`; None leaves what PyTorch has drawn
INITIALIZERS: dict[str, Any] = {
    "he_normal": lambda s: 'nn.init.kaiming_normal_({w}, nonlinearity="relu")',
    "he_uniform": lambda s: 'nn.init.kaiming_uniform_({w}, nonlinearity="relu")',
    "glorot_normal": lambda s: "nn.init.xavier_normal_({w})",
    "glorot_uniform": lambda s: "nn.init.xavier_uniform_({w})",
    "lecun_normal": lambda s: 'nn.init.kaiming_normal_({w}, nonlinearity="linear")',
    "lecun_uniform": lambda s: 'nn.init.kaiming_uniform_({w}, nonlinearity="linear")',
    "normal": lambda s: f"nn.init.normal_({{w}}, std={s.std!r})",
    "uniform": lambda s: f"nn.init.uniform_({{w}}, -{s.limit!r}, {s.limit!r})",
    "torch_default": lambda s: None,
    "flax_default": lambda s: "nn.init.trunc_normal_({w}, std={w}[0].numel() ** -0.5)",
    "zeros": lambda s: "nn.init.zeros_({w})",
}


def imports(given: Given) -> list[str]:
    """The framework's own lines."""
    data = "DataLoader, TensorDataset" + (", random_split" if given.n_validation else "")
    return ["import torch", "import torch.nn.functional as F", "from torch import nn",
            f"from torch.utils.data import {data}"]  # fmt: skip


def sections(given: Given) -> Iterator[str]:
    """Everything behind the data."""
    own = dataclasses.replace(given, is_own=True, n_train=0)
    rows = given.plan.rows
    codes = {row.name: exact.LAYERS[row.layer.kind](row, own) for row in rows if row.layer.kind not in JOINS}
    if any(row.layer.running_variance == "biased" for row in given.normalised):
        yield exact.BIASED
    made = [f"self.{exact.attribute(name)} = {code.make}" for name, code in codes.items() if code.make]
    *lines, last = forward(rows, codes, exact.joined)
    starts = _starts(given)
    yield "\n".join([
        "class Network(nn.Module):", "    def __init__(self):", "        super().__init__()",
        *(f"        {line}" for line in [*made, *starts]), "", "    def forward(self, x):",
        *(f"        {line}" for line in [*lines, f"return {last.removeprefix('x = ')}"]),
    ])  # fmt: skip
    if given.recipe.augmentation:
        yield _augment(given)
    if given.is_scheduled:
        yield decisions.learning_rate(given)
    yield '''def tensors(images, labels):
    """PyTorch takes images as (n, channels, height, width)."""
    x = np.ascontiguousarray(prepare(images).transpose(0, 3, 1, 2))
    return TensorDataset(torch.from_numpy(x), torch.from_numpy(labels))'''
    yield '''@torch.inference_mode()
def evaluate(model, data):
    """Logits and labels of a set of images."""
    model.eval()
    pairs = [(model(x), y) for x, y in DataLoader(data, 500)]
    return torch.cat([z for z, _ in pairs]), torch.cat([y for _, y in pairs])'''
    yield _main(given)


def _starts(given: Given) -> list[str]:
    """How weights start, where not as PyTorch would have them."""
    lines: list[str] = []
    kernels, biases = list[str](), list[str]()
    default = given.plan.network.initializer
    for row in given.plan.rows:
        if "kernel" not in row.parameter_shapes:
            continue
        name = f"self.{exact.attribute(row.name)}"
        own = row.layer.initializer or default
        if made := INITIALIZERS[own.kind](own):
            kernels.append(made.format(w=f"{name}.weight"))
        if row.layer.bias and (made := INITIALIZERS[row.layer.bias_initializer.kind](row.layer.bias_initializer)):
            biases.append(made.format(w=f"{name}.bias"))
    if kernels:
        lines += ["# PyTorch's own would draw kernels in ±1/√fan_in", *kernels]
    if biases:
        lines += ["# PyTorch's own would draw biases in ±1/√fan_in", *biases]
    return lines


def _augment(given: Given) -> str:
    change, lines = given.recipe.augmentation, list[str]()
    if change.flip:
        lines += ["flip = torch.rand(len(x)) < 0.5", "x = torch.where(flip[:, None, None, None], x.flip(3), x)"]
    if change.rotation:
        lines += [
            f"angles = torch.deg2rad((2 * torch.rand(len(x)) - 1) * {change.rotation!r})",
            "cos, sin, none = angles.cos(), angles.sin(), torch.zeros(len(x))",
            "turn = torch.stack([cos, -sin, none, sin, cos, none], 1).reshape(-1, 2, 3)",
            "x = F.grid_sample(x, F.affine_grid(turn, x.shape, align_corners=False), align_corners=False)",
        ]
    if change.shift:
        n = change.shift
        lines += [
            f"padded = F.pad(x, ({n}, {n}, {n}, {n}))",
            f"moves = torch.randint(0, {2 * n + 1}, (len(x), 2)).tolist()",
            "h, w = x.shape[2:]",
            "x = torch.stack([one[:, i : i + h, j : j + w] for one, (i, j) in zip(padded, moves)])",
        ]
    return 'def augment(x):\n    """Each image of a batch changed by itself."""\n' + indented(
        "\n".join([*lines, "return x"])
    )


def _optimizer(given: Given) -> list[str]:
    o, recipe = given.recipe.optimizer, given.recipe
    decay = getattr(o, "weight_decay", 0.0) or recipe.l2
    lines, parameters = [], "model.parameters()"
    if decay:
        lines = [
            "# PyTorch's own decays every parameter",
            "kernels = [w for w in model.parameters() if w.ndim > 1]",
            "others = [w for w in model.parameters() if w.ndim == 1]",
            f'groups = [{{"params": kernels, "weight_decay": {decay!r}}}, {{"params": others, "weight_decay": 0.0}}]',
        ]
        parameters = "groups"
    if o.kind in ("adam", "adamw"):
        kind = "AdamW" if o.kind == "adamw" else "Adam"
        options = [f"betas=({o.beta1!r}, {o.beta2!r})"] if (o.beta1, o.beta2) != (0.9, 0.999) else []
        options += [f"eps={o.epsilon!r}"] if o.epsilon != 1e-8 else []
    elif o.kind == "rmsprop":
        kind, options = "RMSprop", [f"alpha={o.rho!r}"] if o.rho != 0.99 else []
        lines += ["# PyTorch's own alpha is 0.99"] if options else []
    else:
        kind = "SGD"
        options = [f"momentum={o.momentum!r}"] if o.kind != "sgd" else []
        options += ["nesterov=True"] if o.kind == "nesterov" else []
    return [*lines, call(f"optimizer = torch.optim.{kind}(", [parameters, "LEARNING_RATE", *options], deeper=4)]


def _loss(given: Given) -> str:
    share = given.recipe.label_smoothing
    if given.recipe.loss == "cross_entropy":
        smoothing = f", label_smoothing={share!r}" if share else ""
        return f"F.cross_entropy(model(x), y{smoothing})"
    rows = f"F.one_hot(y, {given.plan.classes}).float()"
    return f"F.mse_loss(model(x), {rows}{f' * {1 - share!r} + {share / given.plan.classes!r}' if share else ''})"


def _clip(given: Given) -> list[str]:
    if not given.recipe.clip_norm:
        return []
    if given.recipe.clip_scope == "tensor":
        return ["for w in model.parameters():", f"    nn.utils.clip_grad_norm_(w, {given.recipe.clip_norm!r})"]
    return [f"nn.utils.clip_grad_norm_(model.parameters(), {given.recipe.clip_norm!r})"]


def _main(given: Given) -> str:
    recipe = given.recipe
    stopping = recipe.early_stopping if given.n_validation else None
    data = ["train = tensors(images, labels)"]
    if given.n_validation:
        n = given.n_validation
        held = "validation" if stopping else "_"
        data += [f"train, {held} = random_split(train, [len(train) - {n}, {n}])"]
    if given.run.train_size:
        data += [f"train = torch.utils.data.Subset(train, torch.randperm(len(train))[:{given.run.train_size}])"]
    is_sum = recipe.loss_reduction == "sum"
    step = ["x = augment(x)"] if recipe.augmentation else []
    step += ["# the sum; PyTorch's own is the mean"] if is_sum else []
    step += [f"loss = {_loss(given)}" + (" * len(x)" if is_sum else "")]
    step += ["optimizer.zero_grad()", "loss.backward()", *_clip(given), "optimizer.step()"]
    step += ["scheduler.step()"] if given.is_scheduled else []
    lines = [
        "parser = argparse.ArgumentParser()",
        f'parser.add_argument("--data", default="{"$DATA" if given.source == "npz" else "."}")',
        'parser.add_argument("--out", default="result.npz")',
        'parser.add_argument("--seed", type=int, default=SEED)',
        "options = parser.parse_args()",
        "torch.manual_seed(options.seed)",
        "images, labels, test_images, test_labels = load(options.data)",
        *data,
        "loader = DataLoader(train, BATCH_SIZE, shuffle=True)  # PyTorch's own default does not shuffle",
        "model = Network()",
        *_optimizer(given),
    ]
    if given.is_scheduled:
        lines += [
            "steps = EPOCHS * len(loader)",
            "factor = lambda step: learning_rate(min(step, steps - 1), steps) / LEARNING_RATE  # noqa: E731",
            "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)",
        ]
    lines += ["best, best_epoch, kept = math.inf, 0, None"] if stopping else []
    lines += ["for epoch in range(EPOCHS):", "    model.train()", "    for x, y in loader:"]
    lines += [f"        {line}" for line in step]
    lines += ['    print(f"epoch {epoch + 1}: {loss.item():.4f}", flush=True)']
    if stopping:
        measure = "F.cross_entropy(z, y).item()"
        if stopping.monitor == "validation_accuracy":
            measure = "-(z.argmax(1) == y).double().mean().item()"
        lines += [
            "    z, y = evaluate(model, validation)",
            f"    value = {measure}",
            f"    if value < best - {stopping.min_delta!r}:" if stopping.min_delta else "    if value < best:",
            "        best, best_epoch = value, epoch",
            "        kept = {name: value.clone() for name, value in model.state_dict().items()}",
            f"    elif epoch - best_epoch >= {stopping.patience}:",
            "        break",
        ]
        lines += ["model.load_state_dict(kept)"] if stopping.restore_best else []
    lines += [
        "z, y = evaluate(model, tensors(test_images, test_labels))",
        "accuracy = (z.argmax(1) == y).double().mean().item()",
        'print(f"test accuracy {100 * accuracy:.2f} %")',
        "np.savez(options.out, logits=z.numpy(), accuracy=accuracy)",
    ]
    return "def main():\n" + indented("\n".join(lines))


IDIOM = Idiom("PyTorch", imports, sections)
