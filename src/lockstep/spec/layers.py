"""What a layer IS: one record each, which knows its shapes, its parameters and its multiply-adds.

A layer is one record here and one row in each backend's LAYERS. What holds layers, and what joins branches, stands in
`branches`. Shapes have no batch axis: (height, width, channels) or
(features,). `output_shape` raises ValueError with the reason where the input does not fit. Where frameworks mean
different things by one layer, a field says which; its default is the canonical meaning.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lockstep.language import later
from lockstep.spec.initializers import Initializer, Zeros
from lockstep.spec.records import (
    Count,
    Flag,
    Fraction,
    NonNegative,
    Number,
    Pair,
    Positive,
    kind,
    kinds_of,
    record,
)

Shape = tuple[int, ...]
_Padding = Literal["valid", "same", "same_lower"]  # the last two as ONNX's SAME_UPPER and SAME_LOWER


def _windows(size: int, kernel: int, stride: int, padding: str) -> int:
    """How many windows fit along one axis; `same` gives ⌈size/stride⌉."""
    return (size - kernel) // stride + 1 if padding == "valid" else -(-size // stride)


def same_padding(size: int, kernel: int, stride: int, padding: str = "same") -> tuple[int, int]:
    """Zeros before and after an axis: the odd one goes after (right, bottom), under `same_lower` before (left, top).

    >>> same_padding(28, 5, 1), same_padding(28, 3, 2), same_padding(28, 3, 2, "same_lower")
    ((2, 2), (0, 1), (1, 0))
    """
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    less, more = total // 2, total - total // 2
    return (more, less) if padding == "same_lower" else (less, more)


def _image_shape(shape: Shape) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise ValueError(
            later("it takes an image (height, width, channels), but gets {shape}, which is flat", shape=shape)
        )
    return shape[0], shape[1], shape[2]


def _slide(shape: Shape, kernel: Shape, stride: Shape, padding: str) -> tuple[int, int, int]:
    """The output's height and width and the input's channels for a window sliding over an image."""
    height, width, channels = _image_shape(shape)
    if padding == "valid" and (kernel[0] > height or kernel[1] > width):
        sizes = {"window": f"{kernel[0]}×{kernel[1]}", "image": f"{height}×{width}"}
        text = later(
            "its {window} window is larger than its input of {image}; "
            "use a smaller one, padding same, or fewer poolings before it",
            **sizes,
        )
        raise ValueError(text)
    high, wide = (_windows(n, k, s, padding) for n, k, s in zip((height, width), kernel, stride, strict=True))
    return high, wide, channels


class _Base:
    """What every layer answers; a layer without parameters, windows or products keeps these answers."""

    kind: str
    has_state: ClassVar[bool] = False

    def output_shape(self, shape: Shape) -> Shape:
        """The shape that comes out for the shape that goes in."""
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        """The parameters, by name, in canonical layout."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """Multiply-add pairs of one example's forward pass; only products with parameters are counted."""
        return 0

    def window(self) -> tuple[Shape, Shape] | None:
        """(kernel, stride) of a layer that slides a window, for the receptive field."""
        return None


@record
class Conv2D(_Base):
    """Cross-correlation of an image with a kernel (kernel height, kernel width, in, filters), plus a bias."""

    filters: Count
    kernel: Pair
    stride: Pair = (1, 1)
    padding: _Padding = "valid"
    bias: Flag = True
    initializer: Initializer | None = None
    bias_initializer: Initializer = Zeros()
    kind: Literal["conv2d"] = kind("conv2d")

    def output_shape(self, shape: Shape) -> Shape:
        high, wide, _ = _slide(shape, self.kernel, self.stride, self.padding)
        return high, wide, self.filters

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (*self.kernel, shape[2], self.filters)}
        return kernel | ({"bias": (self.filters,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        return math.prod(self.output_shape(shape)) * math.prod(self.kernel) * shape[2]

    def window(self) -> tuple[Pair, Pair]:
        return self.kernel, self.stride


@record
class _Pool(_Base):
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: _Padding = "valid"

    @property
    def strides(self) -> Pair:
        """The stride as used: the window's size where none is given."""
        return self.stride or self.size

    def output_shape(self, shape: Shape) -> Shape:
        return _slide(shape, self.size, self.strides, self.padding)

    def window(self) -> tuple[Pair, Pair]:
        return self.size, self.strides


@record
class MaxPool2D(_Pool):
    """The largest value of each window; of several, the first in row-major order gets the gradient, or all `shared`."""

    ties: Literal["first", "shared"] = "first"
    kind: Literal["max_pool2d"] = kind("max_pool2d")


@record
class AvgPool2D(_Pool):
    """The mean of each window; padding is not counted unless `count_padding`."""

    count_padding: Flag = False
    kind: Literal["avg_pool2d"] = kind("avg_pool2d")


@record
class GlobalAvgPool(_Base):
    """The mean of each channel over the whole image: (height, width, channels) → (channels,)."""

    kind: Literal["global_avg_pool"] = kind("global_avg_pool")

    def output_shape(self, shape: Shape) -> Shape:
        return (_image_shape(shape)[2],)


@record
class Flatten(_Base):
    """(height, width, channels) → (height · width · channels,), in that order; `chw` puts the channels first."""

    order: Literal["hwc", "chw"] = "hwc"
    kind: Literal["flatten"] = kind("flatten")

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@record
class Dense(_Base):
    """x · kernel + bias, with a kernel (in, units)."""

    units: Count
    bias: Flag = True
    initializer: Initializer | None = None
    bias_initializer: Initializer = Zeros()
    kind: Literal["dense"] = kind("dense")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                later("it takes a flat vector, but gets an image of {shape}; put flatten before it", shape=shape)
            )
        return (self.units,)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (shape[0], self.units)}
        return kernel | ({"bias": (self.units,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        return shape[0] * self.units


@record
class BatchNorm(_Base):
    """Normalise each channel by the batch (Ioffe & Szegedy 2015).

    The batch's variance is biased in the forward pass and, unless `running_variance` says otherwise, unbiased in the
    running average; running = (1 − momentum) · running + momentum · batch.
    """

    momentum: Annotated[Number, Field(gt=0, le=1)] = 0.1
    epsilon: Positive = 1e-5
    running_variance: Literal["unbiased", "biased"] = "unbiased"
    kind: Literal["batch_norm"] = kind("batch_norm")
    has_state: ClassVar[bool] = True

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"scale": (shape[-1],), "shift": (shape[-1],)}


@record
class LayerNorm(_Base):
    """Normalise each example by itself (Ba et al. 2016), by the biased variance, in training as in inference.

    Over the channels of each pixel, or over all numbers of an `example` together (GroupNorm of one group); scale and
    shift have one number a channel in both.
    """

    epsilon: Positive = 1e-5
    over: Literal["channels", "example"] = "channels"
    kind: Literal["layer_norm"] = kind("layer_norm")

    def output_shape(self, shape: Shape) -> Shape:
        n = shape[-1] if self.over == "channels" else math.prod(shape)
        if n == 1:
            raise ValueError(
                later("it normalises over one number, which leaves nothing of it; it needs an input with more channels")
            )
        return shape

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        return {"scale": (shape[-1],), "shift": (shape[-1],)}


@record
class Dropout(_Base):
    """Set values to zero with probability `rate` in training; kept ones are divided by the keep probability."""

    rate: Fraction = 0.5
    kind: Literal["dropout"] = kind("dropout")


@record
class ReLU(_Base):
    """max(x, 0); its slope at 0 is 0."""

    kind: Literal["relu"] = kind("relu")


@record
class LeakyReLU(_Base):
    """x where x > 0, slope · x elsewhere."""

    slope: NonNegative = 0.01
    kind: Literal["leaky_relu"] = kind("leaky_relu")


@record
class ELU(_Base):
    """x where x > 0, alpha · (eˣ − 1) elsewhere (Clevert et al. 2016)."""

    alpha: Positive = 1.0
    kind: Literal["elu"] = kind("elu")


@record
class Tanh(_Base):
    """The hyperbolic tangent."""

    kind: Literal["tanh"] = kind("tanh")


@record
class Sigmoid(_Base):
    """1 / (1 + e⁻ˣ)."""

    kind: Literal["sigmoid"] = kind("sigmoid")


@record
class Softplus(_Base):
    """log(1 + eˣ)."""

    kind: Literal["softplus"] = kind("softplus")


@record
class GELU(_Base):
    """x · Φ(x) with the normal distribution function, exact or by the tanh formula (Hendrycks & Gimpel 2016)."""

    form: Literal["exact", "tanh"] = "exact"
    kind: Literal["gelu"] = kind("gelu")


PlainLayer = (
    Conv2D
    | MaxPool2D
    | AvgPool2D
    | GlobalAvgPool
    | Flatten
    | Dense
    | BatchNorm
    | LayerNorm
    | Dropout
    | ReLU
    | LeakyReLU
    | ELU
    | Tanh
    | Sigmoid
    | Softplus
    | GELU
)
LAYERS = kinds_of(PlainLayer)
