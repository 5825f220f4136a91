"""The PyTorch backend: modules, autograd and PyTorch's own optimizers, eager.

Images are kept channels-last, which is what the CPU's convolutions like best, and which makes the canonical flatten
order (height, width, channels) a view instead of a copy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lockstep.backends.base import PREDICT_BATCH, Arrays, Plan, batches, pool_counts, window_padding
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


def batch_norm(row: LayerFacts, dtype: torch.dtype) -> nn.Module:
    """PyTorch's own: its momentum, epsilon and unbiased running variance are the canonical ones."""
    made = nn.BatchNorm2d if len(row.input_shape) == 3 else nn.BatchNorm1d
    return made(row.input_shape[-1], eps=row.layer.epsilon, momentum=row.layer.momentum)


def conv2d(row: LayerFacts, dtype: torch.dtype) -> nn.Module:
    """A plain convolution, padded by itself where both sides get the same."""
    layer, padding = row.layer, window_padding(row)
    lopsided = any(before != after for before, after in padding)
    inside = (0, 0) if lopsided else (padding[0][0], padding[1][0])
    made = nn.Conv2d(row.input_shape[2], layer.filters, layer.kernel, layer.stride, inside, bias=layer.bias)
    return Same(row, 0.0, made) if lopsided else made


LAYERS: dict[str, Callable[[LayerFacts, torch.dtype], nn.Module]] = {
    "conv2d": conv2d,
    "max_pool2d": lambda row, dtype: Same(row, -torch.inf, nn.MaxPool2d(*row.layer.window())),
    "avg_pool2d": lambda row, dtype: Same(row, 0.0, MeanOfReal(row, dtype)),
    "global_avg_pool": lambda row, dtype: GlobalAvgPool(),
    "flatten": lambda row, dtype: Flatten(),
    "dense": lambda row, dtype: nn.Linear(row.input_shape[0], row.layer.units, bias=row.layer.bias),
    "batch_norm": batch_norm,
    "dropout": lambda row, dtype: Masked(),
    "relu": lambda row, dtype: nn.ReLU(),
    "leaky_relu": lambda row, dtype: nn.LeakyReLU(row.layer.slope),
    "elu": lambda row, dtype: nn.ELU(row.layer.alpha),
    "tanh": lambda row, dtype: nn.Tanh(),
    "sigmoid": lambda row, dtype: nn.Sigmoid(),
    # Above its threshold (20 by default) PyTorch returns x itself, 2e-9 off; at 40 that is below float64's rounding.
    "softplus": lambda row, dtype: nn.Softplus(threshold=40),
    "gelu": lambda row, dtype: nn.GELU(),
}
PARAMETERS = {"kernel": "weight", "bias": "bias", "scale": "weight", "shift": "bias"}  # canonical name → PyTorch's


# ----------------------------------------------------------------------------------------------------------- losses


def cross_entropy(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean softmax cross-entropy from logits."""
    return F.cross_entropy(z, labels, label_smoothing=plan.recipe.label_smoothing)


def mean_squared_error(z: torch.Tensor, labels: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Mean over batch and classes."""
    s = plan.recipe.label_smoothing
    return F.mse_loss(z, F.one_hot(labels, plan.classes).to(z.dtype) * (1 - s) + s / plan.classes)


LOSSES = {"cross_entropy": cross_entropy, "mean_squared_error": mean_squared_error}


# ------------------------------------------------------------------------------------------------------- optimizers
# kind → (canonical slot → PyTorch's, the optimizer for these parameter groups). PyTorch's own are the canonical ones.

OPTIMIZERS: dict[str, tuple[dict[str, str], Callable[[Any, Any], torch.optim.Optimizer]]] = {
    "sgd": ({}, lambda o, groups: torch.optim.SGD(groups, fused=True)),
    "momentum": (
        {"momentum": "momentum_buffer"},
        lambda o, groups: torch.optim.SGD(groups, momentum=o.momentum, fused=True),
    ),
    "nesterov": (
        {"momentum": "momentum_buffer"},
        lambda o, groups: torch.optim.SGD(groups, momentum=o.momentum, nesterov=True, fused=True),
    ),
    "adam": (
        {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"},
        lambda o, groups: torch.optim.Adam(groups, betas=(o.beta1, o.beta2), eps=o.epsilon, fused=True),
    ),
    "adamw": (
        {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"},
        lambda o, groups: torch.optim.AdamW(
            [group | {"weight_decay": o.weight_decay * group["decays"]} for group in groups],
            betas=(o.beta1, o.beta2),
            eps=o.epsilon,
            fused=True,
        ),
    ),
    "rmsprop": (
        {"mean_square": "square_avg"},
        lambda o, groups: torch.optim.RMSprop(groups, alpha=o.rho, eps=o.epsilon, foreach=True),
    ),
}


# ------------------------------------------------------------------------------------------------------------ model


class Model:
    """See `lockstep.backends.base.Model`."""

    def __init__(self, plan: Plan, weights: Arrays) -> None:
        """Make the modules and the optimizer."""
        torch.set_num_threads(plan.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # float32 means float32
        self.plan, self.device, self.dtype = plan, _device(plan.device), getattr(torch, plan.dtype)
        self.mean = self._tensor(plan.mean.astype(plan.dtype))
        self.scale = self._tensor(plan.scale.astype(plan.dtype))
        self.layers = {row.name: LAYERS[row.layer.kind](row, self.dtype) for row in plan.rows}
        modules: Any = nn.ModuleList(self.layers.values())
        self.modules = modules.to(self.device, self.dtype, memory_format=torch.channels_last)
        self.loss = LOSSES[plan.recipe.loss]
        self.slots, make = OPTIMIZERS[plan.recipe.optimizer.kind]
        self.parameters: dict[str, Any] = {name: self._parameter(name) for name in weights}
        self.kernels = [value for name, value in self.parameters.items() if name in plan.decayed]
        others = [value for name, value in self.parameters.items() if name not in plan.decayed]
        groups = [{"params": self.kernels, "decays": True}, {"params": others, "decays": False}]
        self.optimizer = make(plan.recipe.optimizer, [group for group in groups if group["params"]])
        self.restore(weights, self.state() | {"step": np.array(0)})

    def place(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Move the training data to the device."""
        self.images, self.labels = self._tensor(images), self._tensor(labels)

    def train_epoch(self, order: np.ndarray) -> np.ndarray:
        """Take every step of one epoch; nothing is read back from the device before its end."""
        full, short = batches(order, self.plan.recipe.batch_size)
        steps = [*self._tensor(full), self._tensor(short)] if len(short) else list(self._tensor(full))
        results = [self._step(self.images[indices], self.labels[indices]) for indices in steps]
        return np.stack([torch.stack(values).to("cpu", torch.float64).numpy() for values in zip(*results, strict=True)])

    def wait(self) -> None:
        """CUDA answers before it is done; the CPU does not."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Logits in inference mode."""
        self.modules.eval()
        with torch.inference_mode():
            parts = self._tensor(images).split(PREDICT_BATCH)
            return np.concatenate([self._forward(part, self.plan.fast_rows).cpu().numpy() for part in parts])

    def step(self, images: np.ndarray, labels: np.ndarray) -> float:
        """One update."""
        return float(self._step(self._tensor(images), self._tensor(labels))[0])

    def activations(self, images: np.ndarray, training: bool) -> Arrays:
        """Every layer's output."""
        with torch.no_grad(), self._unchanged_statistics():
            return {name: _canonical(y) for name, y in self._observe(self._tensor(images), training).items()}

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> tuple[float, Arrays, Arrays]:
        """Loss and every gradient."""
        with self._unchanged_statistics():
            seen = self._observe(self._tensor(images), training=True)
            *_, logits = seen.values()
            loss = self.loss(logits, self._tensor(labels), self.plan)
            self.optimizer.zero_grad()
            loss.backward()
        self._add_l2()
        parameters = {name: from_torch(_numpy(value.grad)) for name, value in self.parameters.items()}
        return float(loss.detach()), parameters, {name: _canonical(y.grad) for name, y in seen.items()}

    def weights(self) -> Arrays:
        """Every parameter."""
        return {name: from_torch(_numpy(value)) for name, value in self.parameters.items()}

    def state(self) -> Arrays:
        """Running statistics, slots and the number of updates."""
        arrays = {name: _numpy(value) for name, value in self._statistics().items()}
        for name, value in self.parameters.items():
            for slot, theirs in self.slots.items():
                held = self.optimizer.state[value].get(theirs)
                arrays[f"{name}/{slot}"] = from_torch(_numpy(torch.zeros_like(value) if held is None else held))
        return arrays | {"step": np.array(getattr(self, "taken", 0))}

    def restore(self, weights: Arrays, state: Arrays) -> None:
        """Put weights and state back."""
        self.taken = int(state["step"])
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(self._tensor(to_torch(weights[name])))
                self.optimizer.state[value] = self._slots(name, value, state)
            for name, value in self._statistics().items():
                value.copy_(self._tensor(state[name]))

    # ---- one step

    def _step(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self._mask(len(images))
        self.modules.train()
        logits = self._forward(images, self.plan.fast_rows)
        loss = self.loss(logits, labels, self.plan)
        self.optimizer.zero_grad()
        loss.backward()
        self._add_l2()
        self._clip()
        rate = self.plan.learning_rate(self.taken)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.taken += 1
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _forward(self, images: torch.Tensor, rows: list[LayerFacts]) -> torch.Tensor:
        x = self._prepare(images)
        for row in rows:
            x = self.layers[row.name](x)
        return x

    def _observe(self, images: torch.Tensor, training: bool) -> dict[str, torch.Tensor]:
        """Every layer's output in the order written."""
        self._mask(len(images))
        self.modules.train(training)
        outputs, x = {}, self._prepare(images)
        for row in self.plan.rows:
            outputs[row.name] = x = self.layers[row.name](x)
            if not x.requires_grad and torch.is_grad_enabled():
                x.requires_grad_()
            if x.requires_grad:
                x.retain_grad()
        return outputs

    @contextlib.contextmanager
    def _unchanged_statistics(self) -> Iterator[None]:
        """Put the running statistics back at the end: looking must not change them."""
        before = {name: value.clone() for name, value in self._statistics().items()}
        yield
        with torch.no_grad():
            for name, value in self._statistics().items():
                value.copy_(before[name])

    def _mask(self, n: int) -> None:
        for name, mask in self.plan.masks(self.taken, n).items():
            tensor = self._tensor(mask)
            self.layers[name].mask = tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor

    def _prepare(self, images: torch.Tensor) -> torch.Tensor:
        return ((images.to(self.dtype) - self.mean) * self.scale).permute(0, 3, 1, 2)

    def _add_l2(self) -> None:
        """The gradient of ½·λ·‖kernel‖², before clipping: PyTorch's weight_decay would add it after."""
        if self.plan.recipe.l2:
            torch._foreach_add_([value.grad for value in self.kernels], self.kernels, alpha=self.plan.recipe.l2)

    def _clip(self) -> None:
        """g ← g·min(1, c/‖g‖); PyTorch's clip_grad_norm_ divides by ‖g‖ + 1e-6."""
        if limit := self.plan.recipe.clip_norm:
            gradients = [value.grad for value in self.parameters.values()]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            torch._foreach_mul_(gradients, torch.clamp(limit / norm, max=1.0))

    # ---- between NumPy and PyTorch

    def _tensor(self, value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(value)).to(self.device)

    def _parameter(self, name: str) -> nn.Parameter:
        layer, parameter = name.split("/")
        module = self.layers[layer]
        return getattr(module.then if isinstance(module, Same) else module, PARAMETERS[parameter])

    def _statistics(self) -> dict[str, torch.Tensor]:
        return {
            f"{row.name}/running_{ours}": getattr(self.layers[row.name], f"running_{theirs}")
            for row in self.plan.rows
            if row.layer.has_state
            for ours, theirs in (("mean", "mean"), ("variance", "var"))
        }

    def _slots(self, name: str, value: torch.Tensor, state: Arrays) -> dict[str, torch.Tensor]:
        slots = {
            theirs: torch.empty_like(value).copy_(self._tensor(to_torch(state[f"{name}/{slot}"])))
            for slot, theirs in self.slots.items()
        }
        if self.plan.recipe.optimizer.kind in ("adam", "adamw", "rmsprop"):
            slots["step"] = torch.tensor(float(self.taken), dtype=torch.float32, device=self.device)
        return slots


def _numpy(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy().copy()


def _canonical(y: Any) -> np.ndarray:
    return _numpy(y.permute(0, 2, 3, 1) if y.ndim == 4 else y)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        hint = 'use device = "cpu", or install a CUDA build of PyTorch'
        raise LockstepError("LS-404", "PyTorch finds no CUDA device", where="backend torch", hint=hint)
    return torch.device(name)


def build(plan: Plan, weights: Arrays) -> Model:
    """A model ready to train from these weights."""
    return Model(plan, weights)
