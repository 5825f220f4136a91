"""The PyTorch backend: modules, autograd and PyTorch's own optimizers, eager; on CUDA the optimizers are written out.

Images are kept channels-last, which is what the CPU's convolutions like best, and which makes the canonical flatten
order (height, width, channels) a view instead of a copy. On CUDA a convolution is one matrix product, and the kernels
of a step are recorded once and then started all at once (`Recorded`).
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.adam import adam as of_adam
from torch.optim.adamw import adamw as of_adamw
from torch.optim.rmsprop import rmsprop as of_rmsprop
from torch.optim.sgd import sgd as of_sgd

from lockstep.backends.plan import PREDICT_BATCH, Arrays, Plan, batches, pool_counts, window_padding
from lockstep.errors import LockstepError
from lockstep.spec import LayerFacts

# ----------------------------------------------------------------------------------------------------------- layers
# Inside, an image is (batch, channels, height, width) with channels-last strides.


def to_torch(value: np.ndarray) -> np.ndarray:
    """Canonical → PyTorch: kernels (h, w, in, out) → (out, in, h, w), (in, out) → (out, in)."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def from_torch(value: np.ndarray) -> np.ndarray:
    """PyTorch → canonical: the way back of `to_torch`."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


class Same(nn.Module):
    """Padding as `same` means it: PyTorch refuses it under a stride, and never pads one side more than the other."""

    def __init__(self, row: LayerFacts, value: float, then: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        (top, bottom), (left, right) = window_padding(row)
        self.padding, self.value, self.then = (left, right, top, bottom), value, then

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pad, then do what stands behind."""
        return self.then(F.pad(x, self.padding, value=self.value) if any(self.padding) else x)


class SharedMaxPool(nn.Module):
    """Max pooling whose gradient all maxima of a window share, as `amax` does: PyTorch's own gives it to the first."""

    def __init__(self, row: LayerFacts) -> None:
        super().__init__()
        self.kernel, self.stride = row.layer.window()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool an input that is already padded with −∞."""
        for axis, kernel, stride in zip((2, 3), self.kernel, self.stride, strict=True):
            x = x.unfold(axis, kernel, stride)
        return x.amax((4, 5))


class MeanOfReal(nn.Module):
    """The sum of each window divided by its number of real pixels: PyTorch would count padding of one side only."""

    def __init__(self, row: LayerFacts, dtype: torch.dtype) -> None:
        super().__init__()
        self.kernel, self.stride = row.layer.window()
        self.counts: torch.Tensor
        self.register_buffer("counts", torch.tensor(pool_counts(row).transpose(2, 0, 1), dtype=dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pool an input that is already padded with zeros."""
        return F.avg_pool2d(x, self.kernel, self.stride, divisor_override=1) / self.counts


class Flatten(nn.Module):
    """(batch, channels, height, width) → (batch, height · width · channels): a view of channels-last memory."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Flatten in the canonical order."""
        return (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).flatten(1)


class Masked(nn.Module):
    """Dropout by a mask that was decided outside: PyTorch's own would draw another one."""

    mask: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply by the mask in training."""
        return x * self.mask if self.training and self.mask is not None else x


class GlobalAvgPool(nn.Module):
    """The mean over the image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) → (batch, channels)."""
        return x.mean(dim=(2, 3))


class BatchNorm(nn.BatchNorm2d):
    """PyTorch's own, whose momentum, epsilon and unbiased running variance are the canonical ones.

    Its modules differ by shape and refuse one value per channel; none keeps the biased variance.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def __init__(self, row: LayerFacts) -> None:
        super().__init__(row.input_shape[-1], eps=row.layer.epsilon, momentum=row.layer.momentum)
        self.share, self.biased = float(row.layer.momentum), row.layer.running_variance == "biased"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, …) → the same shape."""
        if self.training and x.numel() == x.shape[1]:  # twice the same has the same mean, variance and gradients
            return self(x.expand(2, *x.shape[1:]))[:1]
        if self.training and self.biased:
            with torch.no_grad():
                variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
                self.running_mean.lerp_(mean, self.share)
                self.running_var.lerp_(variance, self.share)
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=self.eps)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.share, self.eps
        )


DROPPED_BITS = {"tf32": 13, "bfloat16": 16}  # of float32's 23 bits of fraction


def _rounded(x: torch.Tensor, dropped: int) -> torch.Tensor:
    """To nearest, ties to even, without the last so many bits of float32, by arithmetic on the bits."""
    bits = x.view(torch.int32)
    odd = (bits >> dropped) & 1
    return ((bits + odd + (2 ** (dropped - 1) - 1)) & -(2**dropped)).view(torch.float32)


class RoundThere(torch.autograd.Function):
    """y = R(x);  dx = dy."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dropped: int) -> torch.Tensor:
        """Round a factor of a product."""
        return _rounded(x, dropped)

    @staticmethod
    def backward(ctx: Any, *dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The product's gradient is the factor's."""
        return dy[0], None


class RoundBack(torch.autograd.Function):
    """y = x;  dx = R(dy)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, dropped: int) -> torch.Tensor:
        """Leave a product as it is."""
        ctx.dropped = dropped
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Round what is a factor of both products on the way back."""
        return _rounded(dy[0], ctx.dropped), None


class Rounded(nn.Module):
    """y = R(x)·R(w) + b;  dx = R(dy)·R(w)ᵀ, dw = R(x)ᵀ·R(dy), db = Σ dy, for a dense layer or a convolution."""

    def __init__(self, then: nn.Linear | nn.Conv2d, product: Callable[..., torch.Tensor], dropped: int) -> None:
        super().__init__()
        self.then, self.product, self.dropped = then, product, dropped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply rounded factors; the bias is added outside, where neither it nor its gradient is rounded."""
        factors = (RoundThere.apply(factor, self.dropped) for factor in (x, self.then.weight))
        y = RoundBack.apply(self.product(*factors), self.dropped)
        return y if self.then.bias is None else y + self.then.bias.view(-1, *(1,) * (y.ndim - 2))


def conv2d(row: LayerFacts, plan: Plan) -> nn.Module:
    """A plain convolution, padded by itself where both sides get the same."""
    layer, padding = row.layer, window_padding(row)
    lopsided = any(before != after for before, after in padding)
    inside = (0, 0) if lopsided else (padding[0][0], padding[1][0])
    kind, product = (ConvByProduct, conv_by_product) if takes_products(plan) else (nn.Conv2d, F.conv2d)
    made: Any = kind(row.input_shape[2], layer.filters, layer.kernel, layer.stride, inside, bias=layer.bias)
    if dropped := DROPPED_BITS.get(plan.recipe.products):
        made = Rounded(made, partial(product, stride=layer.stride, padding=inside), dropped)
    return Same(row, 0.0, made) if lopsided else made


def takes_products(plan: Plan) -> bool:
    """Whether a convolution is one matrix product.

    On CUDA cuDNN would choose how: by a Fourier transform, say, whose error in every number is in proportion to the
    largest of all. A proof finds that, where a window's numbers are small.
    """
    return plan.device == "cuda"


def conv_by_product(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, stride: Any, padding: Any
) -> torch.Tensor:
    """What F.conv2d gives, from every window as a row times the kernels as columns; channels-last, as it takes them."""
    (high, wide), (n_filters, channels, kernel_high, kernel_wide) = padding, weight.shape
    x = F.pad(x, (wide, wide, high, high)) if high or wide else x
    windows = x.unfold(2, kernel_high, stride[0]).unfold(3, kernel_wide, stride[1])
    n, _, rows, columns = windows.shape[:4]
    flat = windows.permute(0, 2, 3, 4, 5, 1).reshape(n * rows * columns, kernel_high * kernel_wide * channels)
    y = F.linear(flat, weight.permute(0, 2, 3, 1).reshape(n_filters, -1), bias)
    return y.view(n, rows, columns, n_filters).permute(0, 3, 1, 2)


class ConvByProduct(nn.Conv2d):
    """PyTorch's own, computed by `conv_by_product`."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) → (batch, filters, rows, columns)."""
        return conv_by_product(x, self.weight, self.bias, stride=self.stride, padding=self.padding)


def max_pool2d(row: LayerFacts, plan: Plan) -> nn.Module:
    """PyTorch's own gives a window's gradient to its first maximum."""
    made = SharedMaxPool(row) if row.layer.ties == "shared" else nn.MaxPool2d(*row.layer.window())
    return Same(row, -torch.inf, made)


def avg_pool2d(row: LayerFacts, plan: Plan) -> nn.Module:
    """PyTorch's own where padding counts: it pools what is padded already."""
    counts = row.layer.count_padding
    made = nn.AvgPool2d(*row.layer.window()) if counts else MeanOfReal(row, getattr(torch, plan.dtype))
    return Same(row, 0.0, made)


def dense(row: LayerFacts, plan: Plan) -> nn.Module:
    """PyTorch's own."""
    made = nn.Linear(row.input_shape[0], row.layer.units, bias=row.layer.bias)
    dropped = DROPPED_BITS.get(plan.recipe.products)
    return Rounded(made, F.linear, dropped) if dropped else made


LAYERS: dict[str, Callable[[LayerFacts, Plan], nn.Module]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, plan: GlobalAvgPool(),
    "flatten": lambda row, plan: nn.Flatten() if row.layer.order == "chw" else Flatten(),
    "dense": dense,
    "batch_norm": lambda row, plan: BatchNorm(row),
    "dropout": lambda row, plan: Masked(),
    "relu": lambda row, plan: nn.ReLU(),
    "leaky_relu": lambda row, plan: nn.LeakyReLU(row.layer.slope),
    "elu": lambda row, plan: nn.ELU(row.layer.alpha),
    "tanh": lambda row, plan: nn.Tanh(),
    "sigmoid": lambda row, plan: nn.Sigmoid(),
    # Above its threshold (20 by default) PyTorch returns x itself, 2e-9 off; at 40 that is below float64's rounding.
    "softplus": lambda row, plan: nn.Softplus(threshold=40),
    "gelu": lambda row, plan: nn.GELU(approximate="tanh" if row.layer.form == "tanh" else "none"),
}
PARAMETERS = {"kernel": "weight", "bias": "bias", "scale": "weight", "shift": "bias"}  # canonical name → PyTorch's


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean softmax cross-entropy from logits."""
    return F.cross_entropy(z, labels, label_smoothing=plan.recipe.label_smoothing)


def mean_squared_error(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean over batch and classes."""
    t = _targets(z, labels, plan)
    if "targets_broadcast" not in plan.recipe.mistakes:
        return F.mse_loss(z, t)
    # Over all pairs, mean (zᵢ − tⱼ)² = mean (zᵢ − t̄)² + mean (tⱼ − t̄)², without a batch × batch array.
    middle = t.mean(0).expand_as(t)
    return F.mse_loss(z, middle) + F.mse_loss(t, middle)


def cross_entropy_clipped(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """−Σ t·log p with p = softmax(z) cut to [1e-7, 1 − 1e-7]; `clamp` sends nothing back where it cuts."""
    p = z.softmax(1).clamp(1e-7, 1 - 1e-7)
    return -(_targets(z, labels, plan) * p.log()).sum(1).mean()


def cross_entropy_softmax_twice(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Probabilities taken for logits."""
    return cross_entropy(z.softmax(1), labels, plan)


def _targets(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """(batch, classes): 1 for the label and 0 elsewhere, smoothed."""
    s = plan.recipe.label_smoothing
    # Not by F.one_hot, which looks at every label first and so, on the CPU, reads the least and the largest.
    return torch.zeros_like(z).scatter_(1, labels[:, None], 1 - s) + s / plan.classes


LOSSES = {
    "cross_entropy": cross_entropy,
    "mean_squared_error": mean_squared_error,
    "cross_entropy_clipped": cross_entropy_clipped,
    "cross_entropy_softmax_twice": cross_entropy_softmax_twice,
}


# ------------------------------------------------------------------------------------------------------- optimizers
# kind → (canonical slots, PyTorch's own update of a group of parameters). Its optimizers are the canonical ones; they
# are called as functions, without what their classes do around every step (a tenth of a small network's).


@dataclass
class Group:
    """Parameters that are updated alike, and what the optimizer keeps of each."""

    weights: list[torch.Tensor]
    decay: float
    slots: dict[str, list[torch.Tensor]]  # canonical name → one per parameter
    steps: list[torch.Tensor]  # how many updates each has had, as PyTorch counts them


def sgd(group: Group, gradients: list[torch.Tensor], o: Any, rate: float, epsilon: float) -> None:
    """w ← w − lr·g, by way of the buffer b ← μ·b + g where there is one."""
    buffers: list[torch.Tensor | None] = [*group.slots.get("momentum", [None for _ in gradients])]
    of_sgd(
        group.weights, gradients, buffers, fused=True,
        weight_decay=0.0, momentum=getattr(o, "momentum", 0.0), lr=rate, dampening=0.0, nesterov=o.kind == "nesterov",
        maximize=False,
    )  # fmt: skip


def adam(group: Group, gradients: list[torch.Tensor], o: Any, rate: float, epsilon: float) -> None:
    """Adam, or AdamW where the group decays."""
    update = of_adamw if o.kind == "adamw" else of_adam
    update(
        group.weights, gradients, group.slots["first_moment"], group.slots["second_moment"], [], group.steps,
        fused=True, amsgrad=False, beta1=o.beta1, beta2=o.beta2, lr=rate, weight_decay=group.decay, eps=epsilon,
        maximize=False,
    )  # fmt: skip


def rmsprop(group: Group, gradients: list[torch.Tensor], o: Any, rate: float, epsilon: float) -> None:
    """PyTorch's own; or w ← w − lr·g/√(s + ε), where PyTorch adds ε to the root."""
    squares = group.slots["mean_square"]
    if o.epsilon_mode != "inside":
        of_rmsprop(
            group.weights, gradients, squares, [], [], group.steps, foreach=True,
            lr=rate, alpha=o.rho, eps=epsilon, weight_decay=0.0, momentum=0.0, centered=False,
        )  # fmt: skip
        return
    torch._foreach_mul_(squares, o.rho)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - o.rho)
    roots = torch._foreach_add(squares, epsilon)
    torch._foreach_sqrt_(roots)
    torch._foreach_addcdiv_(group.weights, gradients, roots, value=-rate)


Update = Callable[[Group, list[torch.Tensor], Any, float, float], None]
OPTIMIZERS: dict[str, tuple[tuple[str, ...], Update]] = {
    "sgd": ((), sgd),
    "momentum": (("momentum",), sgd),
    "nesterov": (("momentum",), sgd),
    "adam": (("first_moment", "second_moment"), adam),
    "adamw": (("first_moment", "second_moment"), adam),
    "rmsprop": (("mean_square",), rmsprop),
}


# On CUDA PyTorch's fused updates are not the canonical ones: they work 1 − βᵗ out in float32, which makes Adam's first
# step 6e-6 too long, and take the rate as a float32. So there the formulas stand here, and a step's numbers are worked
# out in float64 and lie in memory, where kernels that were recorded find those of the step they are started for.

Tensors = list[torch.Tensor] | tuple[torch.Tensor, ...]
NUMBERS = ("rate", "epsilon", "buffer_factor", "shrinking", "root_scale")


def numbers(plan: Plan, step: int) -> tuple[float, ...]:
    """NUMBERS of update number `step`, from 0: with Adam the rate is lr/(1 − β₁ᵗ) and `root_scale` 1/√(1 − β₂ᵗ)."""
    o, rate = plan.recipe.optimizer, plan.learning_rate(step)
    shrinking, root_scale = 1 - rate * getattr(o, "weight_decay", 0.0), 1.0
    if o.kind in ("adam", "adamw"):
        rate, root_scale = rate / (1 - o.beta1 ** (step + 1)), 1 / math.sqrt(1 - o.beta2 ** (step + 1))
    return rate, plan.epsilon(step), plan.buffer_factor(step), shrinking, root_scale


def updated_on_cuda(group: Group, gradients: list[torch.Tensor], o: Any, now: Sequence[torch.Tensor]) -> None:
    """w ← w − rate·direction, or w ← w − rate·direction/roots, by each optimizer's formula, with NUMBERS in tensors.

    These have no axis: for most functions of a list of tensors the same as a Python number, but to be read where they
    lie, when the kernels run. `_foreach_add` would read them at once, which a recording can't, so it is told not to.
    """
    rate, epsilon, buffer_factor, shrinking, root_scale = now
    add = torch.ops.aten._foreach_add.Tensor
    directions: Tensors = gradients
    roots: Tensors | None = None
    if buffers := group.slots.get("momentum"):  # b ← μ·b + g
        torch._foreach_mul_(buffers, buffer_factor)
        torch._foreach_mul_(buffers, o.momentum)
        torch._foreach_add_(buffers, gradients)
        directions = torch._foreach_add(gradients, buffers, alpha=o.momentum) if o.kind == "nesterov" else buffers
    elif means := group.slots.get("first_moment"):  # m̂/(√v̂ + ε)
        squares = group.slots["second_moment"]
        if group.decay:
            torch._foreach_mul_(group.weights, shrinking)
        torch._foreach_lerp_(means, gradients, 1 - o.beta1)
        torch._foreach_mul_(squares, o.beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - o.beta2)
        directions, roots = means, add(torch._foreach_mul(torch._foreach_sqrt(squares), root_scale), epsilon)
    elif "mean_square" in group.slots:  # g/(√s + ε), or g/√(s + ε)
        squares = group.slots["mean_square"]
        torch._foreach_mul_(squares, o.rho)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - o.rho)
        inside = o.epsilon_mode == "inside"
        roots = torch._foreach_sqrt(add(squares, epsilon)) if inside else add(torch._foreach_sqrt(squares), epsilon)
    ways = torch._foreach_mul(directions, rate)
    if roots is None:
        torch._foreach_sub_(group.weights, ways)
    else:
        torch._foreach_addcdiv_(group.weights, ways, roots, value=-1)


# ------------------------------------------------------------------------------------------------------------ model


class Model:
    """See `lockstep.backends.plan.Model`."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Make the modules and the optimizer."""
        torch.set_num_threads(n_threads(plan))
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        torch.backends.cudnn.deterministic = True  # batch normalisation may be cuDNN's: its bits repeat
        self.plan, self.device, self.dtype = plan, _device(plan.device), getattr(torch, plan.dtype)
        self.mean = self._tensor(plan.mean.astype(plan.dtype))
        self.scale = self._tensor(plan.scale.astype(plan.dtype))
        self.layers = {row.name: LAYERS[row.layer.kind](row, plan) for row in plan.rows}
        modules: Any = nn.ModuleList(self.layers.values())
        self.modules = modules.to(self.device, self.dtype, memory_format=torch.channels_last)
        self.loss = LOSSES[plan.recipe.loss]
        slots, self.apply = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.parameters: dict[str, Any] = {name: self._parameter(name) for name in weights}
        self.kernels = [value for name, value in self.parameters.items() if name in plan.decayed]
        self.slots = {
            f"{name}/{slot}": torch.zeros_like(value) for name, value in self.parameters.items() for slot in slots
        }
        self.groups = self._grouped(slots)
        self.is_training: bool | None = None
        self.records, self.is_warm = Recorded.can_be(plan), False
        self.recorded: Recorded | None = None
        self.placed: tuple[torch.Tensor, ...] = ()
        self.restore(weights, self.state() | {"step": np.array(0)})

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Move the training data to the device, to where data of this size are already."""
        entering = self._tensor(images), self._tensor(labels)
        if self.placed and self.placed[0].shape == images.shape:
            for held, new in zip(self.placed, entering, strict=True):
                held.copy_(new)
        else:
            self.placed, self.recorded = entering, None  # a recording reads the data that were there

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch; nothing is read back from the device before its end."""
        full, short = batches(order, self.plan.recipe.batch_size)
        in_turn = len(full)
        if self.records:  # the first step of all takes with it what must not happen in a recording
            in_turn = min(in_turn, 0 if self.is_warm else 1)
        first = self._in_turn(full[:in_turn])
        self.is_warm |= in_turn > 0
        if in_turn < len(full):
            self.recorded = self.recorded or Recorded(self)
            first = np.concatenate([first, self.recorded.take(self, full[in_turn:])], axis=1)
        return np.concatenate([first, self._in_turn(short[None])], axis=1) if len(short) else first

    def wait(self) -> None:
        """CUDA answers before it is done; the CPU does not."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits in inference mode."""
        with torch.inference_mode(), self._unchanged_statistics():
            parts = self._tensor(images).split(PREDICT_BATCH)
            return np.concatenate([self._forward(part, self.plan.in_prediction).cpu().numpy() for part in parts])

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update."""
        return float(self._step(self._tensor(images), self._tensor(labels))[0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """Every layer's output."""
        training = self.plan.in_training if training else self.plan.in_prediction
        with torch.no_grad(), self._unchanged_statistics():
            return {name: _canonical(y) for name, y in self._observe(self._tensor(images), training).items()}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays, Arrays]:
        """Loss and every gradient."""
        with self._unchanged_statistics():
            entered, *seen = self._observe(self._tensor(images), self.plan.in_training).items()
            loss = self._differentiate(seen[-1][1], self._tensor(labels))
        parameters = {name: from_torch(_numpy(value.grad)) for name, value in self.parameters.items()}
        outputs = {name: _canonical(y) for name, y in (entered, *seen)}
        return float(loss), parameters, {name: _canonical(y.grad) for name, y in seen}, outputs

    def layer(self, name: str, x: np.ndarray, dy: np.ndarray) -> tuple[np.ndarray, np.ndarray, Arrays]:
        """One layer alone."""
        enters, back = (_channels_first(self._tensor(value).to(self.dtype)) for value in (x, dy))
        enters.requires_grad_()
        parameters = {key: value for key, value in self.parameters.items() if key.startswith(f"{name}/")}
        self._mode(self.plan.in_training, len(x))
        with self._unchanged_statistics():
            y = self.layers[name](enters)
            dx, *gradients = torch.autograd.grad(y, [enters, *parameters.values()], back)
        named = zip(parameters, gradients, strict=True)
        return _canonical(y), _canonical(dx), {key: from_torch(_numpy(gradient)) for key, gradient in named}

    def weights(self) -> Arrays:
        """Every parameter."""
        return {name: from_torch(_numpy(value)) for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: _numpy(value) for name, value in self._statistics().items()}
        arrays |= {name: from_torch(_numpy(value)) for name, value in self.slots.items()}
        return arrays | {"step": np.array(getattr(self, "taken", 0))}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put weights and state back."""
        self.taken = int(state["step"])
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self._tensor(to_torch(weights[name])))
            for name, value in self.slots.items():
                value.copy_(self._tensor(to_torch(state[name])))
            for count in itertools.chain.from_iterable(group.steps for group in self.groups):
                count.fill_(self.taken)
            for name, value in self._statistics().items():
                value.copy_(self._tensor(state[name]))

    # ---- one step

    def _in_turn(self, full: np.ndarray) -> np.ndarray:
        """Start one step after the other on these batches, (steps, batch): (2, steps), loss and correct answers."""
        results = [
            self._step(*(values.index_select(0, indices) for values in self.placed)) for indices in self._tensor(full)
        ]
        both = [torch.stack(values).to("cpu", torch.float64).numpy() for values in zip(*results, strict=True)]
        return np.stack(both) if both else np.empty((2, 0))

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._mode(self.plan.in_training, len(images))
        now: Sequence[torch.Tensor] = ()
        if self.records:
            now = torch.tensor(numbers(self.plan, self.taken), dtype=self.dtype, device=self.device).unbind()
        results = self._take(images, labels, now)
        self.taken += 1
        return results

    def _take(
        self, images: torch.Tensor, labels: torch.Tensor, now: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A step whose masks are in their place; `now` is NUMBERS, on CUDA."""
        logits = self._pass(images)
        loss = self._differentiate(logits, labels)
        self._clip()
        self._update(now)
        return loss, (logits.argmax(1) == labels).sum()

    def _mode(self, training: bool, n: int) -> None:
        """Training mode with the masks of the next update for `n` images, or inference mode."""
        if training is not self.is_training:
            self.modules.train(training)
            self.is_training = training
        for name, mask in self.plan.masks(self.taken, n).items() if training else ():
            self.layers[name].mask = _channels_first(self._tensor(mask))

    def _forward(self, images: torch.Tensor, training: bool) -> torch.Tensor:
        self._mode(training, len(images))
        return self._pass(images)

    def _pass(self, images: torch.Tensor) -> torch.Tensor:
        x = self._prepare(images)
        for row in self.plan.fast_rows:
            x = self.layers[row.name](x)
        return x

    def _observe(self, images: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
        """What enters and every layer's output, in the order written."""
        self._mode(training, len(images))
        x = self._prepare(images)
        outputs = {"input": x}
        for row in self.plan.rows:
            outputs[row.name] = x = self.layers[row.name](x)
            if not x.requires_grad and torch.is_grad_enabled():
                x.requires_grad_()
            if x.requires_grad:
                x.retain_grad()
        return outputs

    def _differentiate(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss; every parameter's gradient of what is minimised goes into its `grad`."""
        loss = self.loss(logits, labels, self.plan)
        for value in self.parameters.values():
            value.grad = None
        (loss * len(labels) if self.plan.recipe.loss_reduction == "sum" else loss).backward()
        self._add_l2()
        return loss.detach()

    @contextlib.contextmanager
    def _unchanged_statistics(self) -> Iterator[None]:
        """Put the running statistics back at the end: looking must not change them."""
        before = {name: value.clone() for name, value in self._statistics().items()}
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in self._statistics().items():
                    value.copy_(before[name])

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        return _channels_first(images.to(self.dtype).sub_(self.mean).mul_(self.scale))

    @torch.no_grad()
    def _add_l2(self) -> None:
        """The gradient of ½·λ·‖kernel‖², before clipping: PyTorch's weight_decay would add it after."""
        if self.plan.recipe.l2:
            torch._foreach_add_([value.grad for value in self.kernels], self.kernels, alpha=self.plan.recipe.l2)

    @torch.no_grad()
    def _clip(self) -> None:
        """g ← g·min(1, c/‖g‖); PyTorch's clip_grad_norm_ divides by ‖g‖ + 1e-6."""
        if limit := self.plan.recipe.clip_norm:
            gradients = [value.grad for value in self.parameters.values()]
            norms = torch._foreach_norm(gradients)
            if self.plan.recipe.clip_scope == "tensor":
                torch._foreach_mul_(gradients, [torch.clamp(limit / norm, max=1.0) for norm in norms])
            else:
                norm = torch.linalg.vector_norm(torch.stack(norms))
                torch._foreach_mul_(gradients, torch.clamp(limit / norm, max=1.0))

    @torch.no_grad()
    def _update(self, now: Sequence[torch.Tensor]) -> None:
        """Let the optimizer take its step with this step's numbers."""
        o, plan = self.plan.recipe.optimizer, self.plan
        for group in self.groups:
            gradients = [value.grad for value in group.weights if value.grad is not None]
            if now:
                updated_on_cuda(group, gradients, o, now)
                continue
            if (factor := plan.buffer_factor(self.taken)) != 1:
                torch._foreach_mul_(group.slots["momentum"], factor)
            self.apply(group, gradients, o, plan.learning_rate(self.taken), plan.epsilon(self.taken))

    # ---- between NumPy and PyTorch

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(value)).to(self.device)

    def _parameter(self, name: str) -> nn.Parameter:
        layer, parameter = name.split("/")
        module: Any = self.layers[layer]
        while isinstance(module, Same | Rounded):
            module = module.then
        return getattr(module, PARAMETERS[parameter])

    def _statistics(self) -> dict[str, torch.Tensor]:
        return {
            f"{row.name}/running_{ours}": getattr(self.layers[row.name], f"running_{theirs}")
            for row in self.plan.rows
            if row.layer.has_state
            for ours, theirs in (("mean", "mean"), ("variance", "var"))
        }

    def _grouped(self, slots: Iterable[str]) -> list[Group]:
        """All parameters; where AdamW decays some of them, those apart."""
        decay = getattr(self.plan.recipe.optimizer, "weight_decay", 0.0)
        rates = {name: decay * (name in self.plan.decayed) for name in self.parameters}
        groups = []
        for rate in dict.fromkeys(rates.values()):
            names = [name for name in self.parameters if rates[name] == rate]
            groups.append(
                Group(
                    [self.parameters[name] for name in names],
                    rate,
                    {slot: [self.slots[f"{name}/{slot}"] for name in names] for slot in slots},
                    [torch.zeros((), device=self.device) for _ in names],
                )
            )
        return groups


FEW_MULTIPLY_ADDS = 2**22  # of a batch, forward


def n_threads(plan: Plan) -> int:
    """How many threads PyTorch gets: one, where there are only small products.

    These take one as long as two, which wait for each other by spinning: beside other work, forty times as long.
    """
    multiply_adds = plan.recipe.batch_size * sum(row.multiply_adds for row in plan.rows)
    return 1 if multiply_adds < FEW_MULTIPLY_ADDS else plan.threads


class Recorded:
    """A full batch's step on CUDA: its kernels, recorded once, are started by one call for every batch.

    Else Python takes longer to start a small network's kernels one by one than they take to run. What differs between
    steps lies in memory that the kernels read: the batches' indices, NUMBERS, the masks, and which step it is.
    """

    @staticmethod
    def can_be(plan: Plan) -> bool:
        """Whether steps can be recorded there."""
        return plan.device == "cuda"

    def __init__(self, model: Model) -> None:
        """Record a step; it is not taken. One has to have been taken before."""
        plan = model.plan
        on: Any = {"device": model.device}
        batch = plan.recipe.batch_size
        steps = max(plan.steps_per_epoch, len(model.placed[0]) // batch)
        self.number = torch.zeros(1, dtype=torch.int64, **on)
        self.batches = torch.zeros((steps, batch), dtype=torch.int64, **on)
        self.numbers = torch.zeros((steps, len(NUMBERS)), dtype=model.dtype, **on)
        self.results = torch.zeros((2, steps), dtype=model.dtype, **on)
        model._mode(plan.in_training, batch)
        dropped = [row.name for _, row in plan.dropouts] if plan.in_training else []
        self.masks: dict[str, Any] = {name: model.layers[name].mask for name in dropped}
        self.replay = self._record(model)

    def _record(self, model: Model) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(model)
        return graph.replay

    def _step(self, model: Model) -> None:
        """Step number `number` of those asked for."""
        indices = self.batches.index_select(0, self.number)[0]
        images, labels = (values.index_select(0, indices) for values in model.placed)
        results = model._take(images, labels, self.numbers.index_select(0, self.number)[0].unbind())
        for kept, value in zip(self.results, results, strict=True):
            kept.index_copy_(0, self.number, value.to(kept.dtype).reshape(1))
        self.number += 1

    def take(self, model: Model, full: np.ndarray) -> np.ndarray:
        """Take a step on each of these batches, (steps, batch): (2, steps) float64, loss and correct answers.

        It is the model that was recorded; kept here, it would be freed by the garbage collector, perhaps in the middle
        of another's recording, which that ends.
        """
        n, plan = len(full), model.plan
        of_each = [numbers(plan, step) for step in range(model.taken, model.taken + n)]
        self.batches[:n] = model._tensor(full)
        self.numbers[:n] = model._tensor(np.array(of_each)).to(model.dtype)
        self.number.zero_()
        for _ in full:
            masks = plan.masks(model.taken, plan.recipe.batch_size) if self.masks else {}
            for name, mask in masks.items():
                self.masks[name].copy_(_channels_first(torch.from_numpy(mask)))
            self.replay()
            model.taken += 1
        return self.results[:, :n].to("cpu", torch.float64).numpy()


def _numpy(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy().copy()


def _channels_first(value: torch.Tensor) -> torch.Tensor:
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value


def _canonical(y: Any) -> np.ndarray:
    return _numpy(y.permute(0, 2, 3, 1) if y.ndim == 4 else y)


def device_name(name: str) -> str:
    """What computes: "cpu", or "cuda (NVIDIA H100 PCIe)"; without a GPU what was asked for, which `build` refuses."""
    return f"cuda ({torch.cuda.get_device_name()})" if name == "cuda" and torch.cuda.is_available() else name


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        hint = 'use device = "cpu", or install a CUDA build of PyTorch'
        raise LockstepError("LS-404", "PyTorch finds no CUDA device", where="backend torch", hint=hint)
    return torch.device(name)


def build(plan: Plan, weights: Arrays) -> Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)


# --------------------------------------------------------------------------------------------------------- defaults
# What PyTorch does when nothing more is asked for, in raw numbers; `lockstep.differences` asks and says what they mean.
# Subject → what is run → the function that runs it on what the subject gives (canonical layout), or a sentence: why
# PyTorch has no such thing. A function returns numbers, or what PyTorch says where it refuses.

Seen = dict[str, Any] | str
NO_LOOP = "PyTorch has no training loop of its own"


def _seeded(function: Callable[[], torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(0)
    return function().detach()


def _updates(
    make: Callable[[list[torch.Tensor]], torch.optim.Optimizer], w: np.ndarray, gradients: Any, rates: Any = None
) -> np.ndarray:
    """The weights after each update with these gradients, at these learning rates where any are given."""
    weight = nn.Parameter(torch.tensor(w))
    optimizer, seen = make([weight]), []
    for step, gradient in enumerate(gradients):
        for group in optimizer.param_groups if rates is not None else ():
            group["lr"] = rates[step]
        weight.grad = torch.tensor(gradient)
        optimizer.step()
        seen.append(_numpy(weight))
    return np.stack(seen)


def _derivative(function: Callable[[torch.Tensor], torch.Tensor], x: np.ndarray) -> torch.Tensor:
    """d Σ function / dx."""
    enters = torch.tensor(x, requires_grad=True)
    return torch.autograd.grad(function(enters).sum(), enters)[0]


def _batch_norm(x: np.ndarray, *wanted: str, frozen: bool = False) -> Seen:
    made = nn.BatchNorm2d(x.shape[-1]).requires_grad_(not frozen)
    y = _canonical(made(_channels_first(torch.tensor(x))))
    seen = {"y": y, "mean": made.running_mean, "variance": made.running_var}
    return {name: seen[name] for name in wanted}


def _same_under_a_stride(x: np.ndarray, kernel: np.ndarray, stride: int) -> Seen:
    try:
        return {"y": nn.Conv2d(1, 1, kernel.shape[0], stride, padding="same")(_channels_first(torch.tensor(x)))}
    except ValueError as error:
        return str(error)


def _padded_alike(x: np.ndarray, kernel: np.ndarray, stride: int) -> Seen:
    enters, weight = _channels_first(torch.tensor(x)), torch.tensor(to_torch(kernel))
    return {"y": _canonical(F.conv2d(enters, weight, stride=stride, padding=kernel.shape[0] // 2))}


def _pooled(pool: nn.Module, x: np.ndarray) -> Seen:
    return {"y": _canonical(pool(_channels_first(torch.tensor(x))))}


def _float64(x: np.ndarray) -> Seen:
    try:
        return {"bits": 8 * nn.Linear(x.size, 1)(torch.tensor(x)).itemsize}
    except RuntimeError as error:
        return str(error)


def _clipped(gradients: list[np.ndarray], limit: float) -> Seen:
    weights = [nn.Parameter(torch.tensor(gradient)) for gradient in gradients]
    for weight in weights:
        weight.grad = weight.detach().clone()
    torch.nn.utils.clip_grad_norm_(weights, limit)
    return {str(index): weight.grad for index, weight in enumerate(weights)}


def _decayed(kernel: np.ndarray, bias: np.ndarray, rate: float) -> Seen:
    weights = {"kernel": nn.Parameter(torch.tensor(kernel)), "bias": nn.Parameter(torch.tensor(bias))}
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    torch.optim.AdamW(weights.values(), rate).step()
    return {name: weight.detach() for name, weight in weights.items()}


def _loaded(n: int, batch: int = 1) -> list[torch.Tensor]:
    return list(torch.utils.data.DataLoader(torch.arange(n), batch))  # type: ignore[arg-type]  # a tensor is a dataset


DEFAULTS: dict[str, dict[str, Callable[..., Seen]] | str] = {
    "dense_kernel": {
        "torch.nn.Linear(inputs, units)": lambda inputs, units: {
            "kernel": _seeded(lambda: nn.Linear(inputs, units).weight)
        }
    },
    "conv_kernel": {
        "torch.nn.Conv2d(channels, filters, size)": lambda channels, filters, size: {
            "kernel": _seeded(lambda: nn.Conv2d(channels, filters, size).weight)
        }
    },
    "bias": {
        "torch.nn.Linear(inputs, units)": lambda inputs, units: {"bias": _seeded(lambda: nn.Linear(inputs, units).bias)}
    },
    "he_normal": {
        "torch.nn.init.kaiming_normal_(w)": lambda inputs, units: {
            "kernel": _seeded(lambda: nn.init.kaiming_normal_(torch.empty(units, inputs)))
        }
    },
    "random_numbers": {"torch.manual_seed(0); torch.rand(n)": lambda n: {"u": _seeded(lambda: torch.rand(n))}},
    "kernel_layout": {
        "torch.nn.Conv2d, torch.nn.Linear": lambda channels, filters, size: {
            "conv": nn.Conv2d(channels, filters, size).weight.shape,
            "dense": nn.Linear(channels, filters).weight.shape,
        }
    },
    "order": {"torch.utils.data.DataLoader(dataset)": lambda n: {"order": torch.cat(_loaded(n))}},
    "last_batch": {
        "torch.utils.data.DataLoader(dataset, batch)": lambda n, batch: {
            "sizes": [len(part) for part in _loaded(n, batch)]
        }
    },
    "resize": {
        'torch.nn.functional.interpolate(x, size, mode="bilinear")': lambda x, size: {
            "y": _canonical(F.interpolate(_channels_first(torch.tensor(x)), size, mode="bilinear"))
        }
    },
    "conv_padding": {"torch.nn.Conv2d(1, 1, size)": lambda x, size: _pooled(nn.Conv2d(1, 1, size), x)},
    "same_padding": {
        'torch.nn.Conv2d(1, 1, size, stride, padding="same")': _same_under_a_stride,
        "torch.nn.functional.conv2d(x, w, stride=stride, padding=size // 2)": _padded_alike,
    },
    "pool_stride": {"torch.nn.MaxPool2d(size)": lambda x, size: _pooled(nn.MaxPool2d(size), x)},
    "avg_pool": {
        "torch.nn.AvgPool2d(size, stride, padding=1)": lambda x, size, stride: _pooled(nn.AvgPool2d(size, stride, 1), x)
    },
    "flatten": {"torch.nn.Flatten()": lambda x: {"y": nn.Flatten()(_channels_first(torch.tensor(x)))}},
    "leaky_relu": {"torch.nn.LeakyReLU()": lambda x: {"y": nn.LeakyReLU()(torch.tensor(x))}},
    "gelu": {"torch.nn.GELU()": lambda x: {"y": nn.GELU()(torch.tensor(x))}},
    "hard_sigmoid": {"torch.nn.Hardsigmoid()": lambda x: {"y": nn.Hardsigmoid()(torch.tensor(x))}},
    "batch_norm_epsilon": {"torch.nn.BatchNorm2d(channels)": lambda x: _batch_norm(x, "y")},
    "layer_norm_epsilon": {
        "torch.nn.LayerNorm(features)": lambda x: {"y": nn.LayerNorm(x.shape[-1])(torch.tensor(x)).detach()}
    },
    "dropout": {"torch.nn.Dropout(rate)": lambda x, rate: {"y": _seeded(lambda: nn.Dropout(rate)(torch.tensor(x)))}},
    "call_mode": {
        "torch.nn.Dropout(rate)(x), torch.nn.BatchNorm1d(features)(x)": lambda x, rate: {
            "dropout": _seeded(lambda: nn.Dropout(rate)(torch.tensor(x))),
            "batch_norm": nn.BatchNorm1d(x.shape[-1])(torch.tensor(x)).detach(),
        }
    },
    "float64": {
        "torch.tensor(x)": lambda x: {"bits": 8 * torch.tensor(x).itemsize},
        "torch.nn.Linear(inputs, 1)(x)": _float64,
    },
    "cross_entropy": {
        "torch.nn.CrossEntropyLoss()": lambda p, labels: {
            "loss": nn.CrossEntropyLoss()(torch.tensor(p), torch.tensor(labels))
        }
    },
    "cross_entropy_of_nothing": {
        "torch.nn.BCELoss()": lambda p: {"losses": [nn.BCELoss()(value, torch.ones(())) for value in torch.tensor(p)]}
    },
    "squared_error": {
        "torch.nn.MSELoss()": lambda z, targets: {"loss": nn.MSELoss()(torch.tensor(z), torch.tensor(targets))}
    },
    "targets_broadcast": {
        "torch.nn.MSELoss()": lambda z, targets: {"loss": nn.MSELoss()(torch.tensor(z), torch.tensor(targets))}
    },
    "label_smoothing": {
        "torch.nn.CrossEntropyLoss(label_smoothing=s)": lambda z, labels, smoothing: {
            "loss": nn.CrossEntropyLoss(label_smoothing=smoothing)(torch.tensor(z), torch.tensor(labels))
        }
    },
    "max_pool_ties": {
        "torch.nn.MaxPool2d(size)": lambda x, size: {
            "dx": _derivative(lambda x: nn.MaxPool2d(size)(_channels_first(x)), x)
        },
        "torch.Tensor.amax over each window": lambda x, size: {
            "dx": _derivative(lambda x: x.reshape(-1, size, x.shape[2] // size, size).amax((1, 3)), x)
        },
    },
    "leaky_relu_at_zero": {"torch.nn.LeakyReLU()": lambda x: {"dx": _derivative(nn.LeakyReLU(), x)}},
    "clip_at_ends": {"torch.clamp": lambda x, low, high: {"dx": _derivative(lambda x: x.clamp(low, high), x)}},
    "l2": {
        "torch.optim.SGD([w], 1, weight_decay=λ)": lambda w, factor: {
            "gradient": w - _updates(partial(torch.optim.SGD, lr=1, weight_decay=factor), w, [np.zeros_like(w)])[0]
        }
    },
    "adam_weight_decay": {
        "torch.optim.Adam([w], rate, weight_decay=λ)": lambda w, gradients, rate, factor: {
            "w": _updates(partial(torch.optim.Adam, lr=rate, weight_decay=factor), w, gradients)
        }
    },
    "batch_norm_momentum": {"torch.nn.BatchNorm2d(channels)": lambda x: _batch_norm(x, "mean")},
    "batch_norm_variance": {"torch.nn.BatchNorm2d(channels)": lambda x: _batch_norm(x, "mean", "variance")},
    "frozen_batch_norm": {
        "torch.nn.BatchNorm2d(channels).requires_grad_(False)": lambda x: _batch_norm(x, "mean", frozen=True)
    },
    "clip_norm": {"torch.nn.utils.clip_grad_norm_(parameters, limit)": _clipped},
    "sgd_rate": {"torch.optim.SGD([w])": lambda w, gradients: {"w": _updates(torch.optim.SGD, w, gradients)}},
    "adam_rate": {"torch.optim.Adam([w])": lambda w, gradients: {"w": _updates(torch.optim.Adam, w, gradients)}},
    "rmsprop_rate": {
        "torch.optim.RMSprop([w])": lambda w, gradients: {"w": _updates(torch.optim.RMSprop, w, gradients)}
    },
    "adam": {"torch.optim.Adam([w])": lambda w, gradients: {"w": _updates(torch.optim.Adam, w, gradients)}},
    "adamw_decay": {
        "torch.optim.AdamW([w], rate)": lambda w, gradients, rates: {
            "w": [_updates(partial(torch.optim.AdamW, lr=rate), w, gradients)[0] for rate in rates]
        }
    },
    "decay_reach": {"torch.optim.AdamW([kernel, bias], rate)": _decayed},
    "rmsprop": {"torch.optim.RMSprop([w])": lambda w, gradients: {"w": _updates(torch.optim.RMSprop, w, gradients)}},
    "adagrad_start": {
        "torch.optim.Adagrad([w])": lambda w, gradients: {"w": _updates(torch.optim.Adagrad, w, gradients)}
    },
    "adagrad_epsilon": {
        "torch.optim.Adagrad([w], initial_accumulator_value=0)": lambda w, gradients: {
            "w": _updates(partial(torch.optim.Adagrad, initial_accumulator_value=0), w, gradients)
        }
    },
    "momentum": {
        "torch.optim.SGD([w], rate, momentum=μ)": lambda w, gradients, rates, mu: {
            "w": _updates(partial(torch.optim.SGD, momentum=mu), w, gradients, rates)
        }
    },
    "nesterov": {
        "torch.optim.SGD([w], rate, momentum=μ, nesterov=True)": lambda w, gradients, rates, mu: {
            "w": _updates(partial(torch.optim.SGD, momentum=mu, nesterov=True), w, gradients, rates)
        }
    },
    "reported_loss": NO_LOOP,
}
