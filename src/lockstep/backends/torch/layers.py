"""Layers as PyTorch's modules. Inside, an image is (batch, channels, height, width) with channels-last strides.

PyTorch's own wherever they mean the canonical thing; what stands here besides is what they do not.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lockstep import spec
from lockstep.backends.plan import Plan, pool_counts, window_padding
from lockstep.spec import Add, AvgPool2D, Conv2D, Dense, LayerFacts, MaxPool2D


def to_torch(value: np.ndarray) -> np.ndarray:
    """Canonical → PyTorch: kernels (h, w, in, out) → (out, in, h, w), (in, out) → (out, in)."""
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def from_torch(value: np.ndarray) -> np.ndarray:
    """PyTorch → canonical: the way back of `to_torch`."""
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def channels_first(value: torch.Tensor) -> torch.Tensor:
    """Images (batch, height, width, channels) → as they lie inside; what is flat stays."""
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value


def canonical(y: Any) -> np.ndarray:
    """The way back of `channels_first`, to NumPy."""
    return to_numpy(y.permute(0, 2, 3, 1) if y.ndim == 4 else y)


def to_numpy(value: Any) -> np.ndarray:
    return value.detach().cpu().numpy().copy()


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


class LayerNorm(nn.LayerNorm):
    """PyTorch's own, over the channels wherever they lie; over a whole example it is its group norm of one group."""

    def __init__(self, row: LayerFacts) -> None:
        super().__init__(row.input_shape[-1], eps=row.layer.epsilon)
        self.is_over_channels = row.layer.over == "channels"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, …) → the same shape."""
        if not self.is_over_channels:
            return F.group_norm(x, 1, self.weight, self.bias, self.eps)
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Sum(nn.Module):
    """What branches give, added up, each scaled where the layer says so."""

    def __init__(self, layer: Add) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """(x₁, x₂, …) of one shape → that shape."""
        layer, (x, rest, *others) = self.layer, taken
        for other in others:
            rest = rest + other
        x = F.relu(x) if layer.rectified else x
        if layer.first == layer.others == 1:
            return x + rest
        return layer.first * x + layer.others * rest


class Concat(nn.Module):
    """What branches give, one behind the other along the channels, or along another axis and read as if along them."""

    def __init__(self, row: LayerFacts[spec.Concat]) -> None:
        super().__init__()
        self.layer, self.shape = row.layer, row.output_shape

    def forward(self, taken: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """(batch, channels, …) each → (batch, all channels, …)."""
        taken = taken[::-1] if self.layer.order == "reversed" else taken
        if self.layer.axis == "channels":
            return torch.cat(taken, 1)
        laid = torch.cat([x.permute(0, 2, 3, 1) for x in taken], 1 if self.layer.axis == "height" else 2)
        return channels_first(laid.reshape(len(laid), *self.shape))


def conv2d(row: LayerFacts[Conv2D], plan: Plan) -> nn.Module:
    """A plain convolution, padded by itself where both sides get the same."""
    layer, padding = row.layer, window_padding(row)
    lopsided = any(before != after for before, after in padding)
    inside = (0, 0) if lopsided else (padding[0][0], padding[1][0])
    kind, product = (ConvByProduct, conv_by_product) if takes_products(plan) else (nn.Conv2d, F.conv2d)
    made: Any = kind(row.input_shape[2], layer.filters, layer.kernel, layer.stride, inside, bias=layer.bias)
    if plan.fraction_bits:
        made = Rounded(made, partial(product, stride=layer.stride, padding=inside), plan.fraction_bits)
    return Same(row, 0.0, made) if lopsided else made


def max_pool2d(row: LayerFacts[MaxPool2D], plan: Plan) -> nn.Module:
    """PyTorch's own gives a window's gradient to its first maximum."""
    made = SharedMaxPool(row) if row.layer.ties == "shared" else nn.MaxPool2d(*row.layer.window())
    return Same(row, -torch.inf, made)


def avg_pool2d(row: LayerFacts[AvgPool2D], plan: Plan) -> nn.Module:
    """PyTorch's own where padding counts: it pools what is padded already."""
    counts = row.layer.count_padding
    made = nn.AvgPool2d(*row.layer.window()) if counts else MeanOfReal(row, getattr(torch, plan.dtype))
    return Same(row, 0.0, made)


def dense(row: LayerFacts[Dense], plan: Plan) -> nn.Module:
    """PyTorch's own."""
    made = nn.Linear(row.input_shape[0], row.layer.units, bias=row.layer.bias)
    return Rounded(made, F.linear, plan.fraction_bits) if plan.fraction_bits else made


LAYERS: dict[str, Callable[[LayerFacts, Plan], nn.Module]] = {
    "conv2d": conv2d,
    "max_pool2d": max_pool2d,
    "avg_pool2d": avg_pool2d,
    "global_avg_pool": lambda row, plan: GlobalAvgPool(),
    "flatten": lambda row, plan: nn.Flatten() if row.layer.order == "chw" else Flatten(),
    "dense": dense,
    "batch_norm": lambda row, plan: BatchNorm(row),
    "layer_norm": lambda row, plan: LayerNorm(row),
    "dropout": lambda row, plan: Masked(),
    "relu": lambda row, plan: nn.ReLU(),
    "leaky_relu": lambda row, plan: nn.LeakyReLU(row.layer.slope),
    "elu": lambda row, plan: nn.ELU(row.layer.alpha),
    "tanh": lambda row, plan: nn.Tanh(),
    "sigmoid": lambda row, plan: nn.Sigmoid(),
    # Above its threshold (20 by default) PyTorch returns x itself, 2e-9 off; at 40 that is below float64's rounding.
    "softplus": lambda row, plan: nn.Softplus(threshold=40),
    "gelu": lambda row, plan: nn.GELU(approximate="tanh" if row.layer.form == "tanh" else "none"),
    "add": lambda row, plan: Sum(row.layer),
    "concat": lambda row, plan: Concat(row),
}
PARAMETERS = {"kernel": "weight", "bias": "bias", "scale": "weight", "shift": "bias"}  # canonical name → PyTorch's


# --------------------------------------------------------------------------------------------------------- products


def _rounded(x: torch.Tensor, bits: int) -> torch.Tensor:
    """To nearest, ties to even, with so many of float32's 23 fraction bits, by arithmetic on the bits themselves."""
    dropped = 23 - bits
    words = x.view(torch.int32)
    odd = (words >> dropped) & 1
    return ((words + odd + (2 ** (dropped - 1) - 1)) & -(2**dropped)).view(torch.float32)


class RoundThere(torch.autograd.Function):
    """y = R(x);  dx = dy."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: int) -> torch.Tensor:
        """Round a factor of a product."""
        return _rounded(x, bits)

    @staticmethod
    def backward(ctx: Any, *dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """The product's gradient is the factor's."""
        return dy[0], None


class RoundBack(torch.autograd.Function):
    """y = x;  dx = R(dy)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bits: int) -> torch.Tensor:
        """Leave a product as it is."""
        ctx.bits = bits
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *dy: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Round what is a factor of both products on the way back."""
        return _rounded(dy[0], ctx.bits), None


class Rounded(nn.Module):
    """y = R(x)·R(w) + b;  dx = R(dy)·R(w)ᵀ, dw = R(x)ᵀ·R(dy), db = Σ dy, for a dense layer or a convolution."""

    def __init__(self, then: nn.Linear | nn.Conv2d, product: Callable[..., torch.Tensor], bits: int) -> None:
        super().__init__()
        self.then, self.product, self.bits = then, product, bits

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply rounded factors; the bias is added outside, where neither it nor its gradient is rounded."""
        factors = (RoundThere.apply(factor, self.bits) for factor in (x, self.then.weight))
        y = RoundBack.apply(self.product(*factors), self.bits)
        return y if self.then.bias is None else y + self.then.bias.view(-1, *(1,) * (y.ndim - 2))


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
