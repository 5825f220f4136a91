"""What PyTorch does when nothing more is asked for, in raw numbers; `differences` asks and says what they mean.

Subject → what is run → the function that runs it on what the subject gives (canonical layout), or a sentence: why
PyTorch has no such thing. A function returns numbers, or what PyTorch says where it refuses.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lockstep.backends.torch.layers import canonical, channels_first, to_numpy, to_torch

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
        seen.append(to_numpy(weight))
    return np.stack(seen)


def _derivative(function: Callable[[torch.Tensor], torch.Tensor], x: np.ndarray) -> torch.Tensor:
    """d Σ function / dx."""
    enters = torch.tensor(x, requires_grad=True)
    return torch.autograd.grad(function(enters).sum(), enters)[0]


def _batch_norm(x: np.ndarray, *wanted: str, frozen: bool = False) -> Seen:
    made = nn.BatchNorm2d(x.shape[-1]).requires_grad_(not frozen)
    y = canonical(made(channels_first(torch.tensor(x))))
    seen = {"y": y, "mean": made.running_mean, "variance": made.running_var}
    return {name: seen[name] for name in wanted}


def _same_under_a_stride(x: np.ndarray, kernel: np.ndarray, stride: int) -> Seen:
    try:
        return {"y": nn.Conv2d(1, 1, kernel.shape[0], stride, padding="same")(channels_first(torch.tensor(x)))}
    except ValueError as error:
        return str(error)


def _padded_alike(x: np.ndarray, kernel: np.ndarray, stride: int) -> Seen:
    enters, weight = channels_first(torch.tensor(x)), torch.tensor(to_torch(kernel))
    return {"y": canonical(F.conv2d(enters, weight, stride=stride, padding=kernel.shape[0] // 2))}


def _pooled(pool: nn.Module, x: np.ndarray) -> Seen:
    return {"y": canonical(pool(channels_first(torch.tensor(x))))}


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
            "y": canonical(F.interpolate(channels_first(torch.tensor(x)), size, mode="bilinear"))
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
    "flatten": {"torch.nn.Flatten()": lambda x: {"y": nn.Flatten()(channels_first(torch.tensor(x)))}},
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
            "dx": _derivative(lambda x: nn.MaxPool2d(size)(channels_first(x)), x)
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
