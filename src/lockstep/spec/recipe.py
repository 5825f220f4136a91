"""What a network, a recipe and a study ARE: frozen, validated records; shapes, parameters, multiply-adds.

Everything here is plain data. A record says what is meant, never how a framework does it, so that four backends, the
report and a reader on a machine without any framework share one meaning. TOML and Python are one-to-one: the table
`{kind = "conv2d", filters = 20, kernel = 5}`, the short form `"conv2d 20 5"` and `Conv2D(20, 5)` are the same record.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from lockstep.errors import LockstepError, Problem
from lockstep.language import later as _
from lockstep.language import mark, reason
from lockstep.spec import naming
from lockstep.spec.records import (
    MOST_PROBLEMS,
    Count,
    Flag,
    Fraction,
    NonNegative,
    Number,
    Pair,
    Positive,
    Text,
    Whole,
    family,
    kind,
    problems_of,
    record,
    set_key,
    several,
    to_table,
)

Shape = tuple[int, ...]

# ------------------------------------------------------------------------------------------------- initial weights


@record
class HeNormal:
    """Normal, std √(2/fan_in), not truncated (He et al. 2015, eq. 10)."""

    kind: Literal["he_normal"] = kind("he_normal")


@record
class HeUniform:
    """Uniform in ±√(6/fan_in) (He et al. 2015)."""

    kind: Literal["he_uniform"] = kind("he_uniform")


@record
class GlorotNormal:
    """Normal, std √(2/(fan_in+fan_out)), not truncated (Glorot & Bengio 2010)."""

    kind: Literal["glorot_normal"] = kind("glorot_normal")


@record
class GlorotUniform:
    """Uniform in ±√(6/(fan_in+fan_out)) (Glorot & Bengio 2010, eq. 16)."""

    kind: Literal["glorot_uniform"] = kind("glorot_uniform")


@record
class LecunNormal:
    """Normal, std √(1/fan_in), not truncated (LeCun et al. 1998)."""

    kind: Literal["lecun_normal"] = kind("lecun_normal")


@record
class LecunUniform:
    """Uniform in ±√(3/fan_in) (LeCun et al. 1998)."""

    kind: Literal["lecun_uniform"] = kind("lecun_uniform")


@record
class Normal:
    """Normal with mean 0 and the given standard deviation."""

    std: Positive = 0.05
    kind: Literal["normal"] = kind("normal")


@record
class Uniform:
    """Uniform in ±limit."""

    limit: Positive = 0.05
    kind: Literal["uniform"] = kind("uniform")


@record
class TorchDefault:
    """What PyTorch's Linear and Conv2d do: uniform in ±1/√fan_in, kernels and biases alike."""

    kind: Literal["torch_default"] = kind("torch_default")


@record
class FlaxDefault:
    """What Flax's Dense and Conv do with kernels: LeCun normal, cut at two standard deviations of the uncut one.

    The uncut one is wider by 1/0.8796, so that the std of what is left is √(1/fan_in).
    """

    kind: Literal["flax_default"] = kind("flax_default")


@record
class Zeros:
    """All zero: the default of biases."""

    kind: Literal["zeros"] = kind("zeros")


INITIALIZERS, _InitializerKind = family(
    HeNormal,
    HeUniform,
    GlorotNormal,
    GlorotUniform,
    LecunNormal,
    LecunUniform,
    Normal,
    Uniform,
    TorchDefault,
    FlaxDefault,
    Zeros,
)
if TYPE_CHECKING:
    Initializer = Any  # a type checker cannot see into a table
else:
    Initializer = _InitializerKind


# ----------------------------------------------------------------------------------------------------------- layers
# A layer is one record here and one row in each backend's LAYERS. Shapes have no batch axis: (height, width, channels)
# or (features,). `output_shape` raises ValueError with the reason where the input does not fit. Where frameworks mean
# different things by one layer, a field says which; its default is the canonical meaning.

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
        raise ValueError(_("it takes an image (height, width, channels), but gets {shape}, which is flat", shape=shape))
    return shape[0], shape[1], shape[2]


def _slide(shape: Shape, kernel: Shape, stride: Shape, padding: str) -> tuple[int, int, int]:
    """The output's height and width and the input's channels for a window sliding over an image."""
    height, width, channels = _image_shape(shape)
    if padding == "valid" and (kernel[0] > height or kernel[1] > width):
        sizes = {"window": f"{kernel[0]}×{kernel[1]}", "image": f"{height}×{width}"}
        text = _(
            "its {window} window is larger than its input of {image}; "
            "use a smaller one, padding same, or fewer poolings before it",
            **sizes,
        )
        raise ValueError(text)
    high, wide = (_windows(n, k, s, padding) for n, k, s in zip((height, width), kernel, stride, strict=True))
    return high, wide, channels


class _Layer:
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
class Conv2D(_Layer):
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

    def window(self) -> tuple[Shape, Shape]:
        return self.kernel, self.stride


@record
class _Pool(_Layer):
    size: Pair = (2, 2)
    stride: Pair | None = None
    padding: _Padding = "valid"

    @property
    def strides(self) -> Shape:
        """The stride as used: the window's size where none is given."""
        return self.stride or self.size

    def output_shape(self, shape: Shape) -> Shape:
        return _slide(shape, self.size, self.strides, self.padding)

    def window(self) -> tuple[Shape, Shape]:
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
class GlobalAvgPool(_Layer):
    """The mean of each channel over the whole image: (height, width, channels) → (channels,)."""

    kind: Literal["global_avg_pool"] = kind("global_avg_pool")

    def output_shape(self, shape: Shape) -> Shape:
        return (_image_shape(shape)[2],)


@record
class Flatten(_Layer):
    """(height, width, channels) → (height · width · channels,), in that order; `chw` puts the channels first."""

    order: Literal["hwc", "chw"] = "hwc"
    kind: Literal["flatten"] = kind("flatten")

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)


@record
class Dense(_Layer):
    """x · kernel + bias, with a kernel (in, units)."""

    units: Count
    bias: Flag = True
    initializer: Initializer | None = None
    bias_initializer: Initializer = Zeros()
    kind: Literal["dense"] = kind("dense")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != 1:
            raise ValueError(
                _("it takes a flat vector, but gets an image of {shape}; put flatten before it", shape=shape)
            )
        return (self.units,)

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        kernel: dict[str, Shape] = {"kernel": (shape[0], self.units)}
        return kernel | ({"bias": (self.units,)} if self.bias else {})

    def multiply_adds(self, shape: Shape) -> int:
        return shape[0] * self.units


@record
class BatchNorm(_Layer):
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
class Dropout(_Layer):
    """Set values to zero with probability `rate` in training; kept ones are divided by the keep probability."""

    rate: Fraction = 0.5
    kind: Literal["dropout"] = kind("dropout")


@record
class ReLU(_Layer):
    """max(x, 0); its slope at 0 is 0."""

    kind: Literal["relu"] = kind("relu")


@record
class LeakyReLU(_Layer):
    """x where x > 0, slope · x elsewhere."""

    slope: NonNegative = 0.01
    kind: Literal["leaky_relu"] = kind("leaky_relu")


@record
class ELU(_Layer):
    """x where x > 0, alpha · (eˣ − 1) elsewhere (Clevert et al. 2016)."""

    alpha: Positive = 1.0
    kind: Literal["elu"] = kind("elu")


@record
class Tanh(_Layer):
    """The hyperbolic tangent."""

    kind: Literal["tanh"] = kind("tanh")


@record
class Sigmoid(_Layer):
    """1 / (1 + e⁻ˣ)."""

    kind: Literal["sigmoid"] = kind("sigmoid")


@record
class Softplus(_Layer):
    """log(1 + eˣ)."""

    kind: Literal["softplus"] = kind("softplus")


@record
class GELU(_Layer):
    """x · Φ(x) with the normal distribution function, exact or by the tanh formula (Hendrycks & Gimpel 2016)."""

    form: Literal["exact", "tanh"] = "exact"
    kind: Literal["gelu"] = kind("gelu")


LAYERS, _LayerKind = family(
    Conv2D, MaxPool2D, AvgPool2D, GlobalAvgPool, Flatten, Dense, BatchNorm, Dropout,
    ReLU, LeakyReLU, ELU, Tanh, Sigmoid, Softplus, GELU,
)  # fmt: skip
if TYPE_CHECKING:
    Layer = Any  # a type checker cannot see into a table
else:
    Layer = _LayerKind


# ---------------------------------------------------------------------------------------------------------- network


@dataclasses.dataclass(frozen=True)
class LayerFacts:
    """One layer in its place: `name` is `"<index>_<kind>"`, shapes have no batch axis, fields are in pixels."""

    name: str
    layer: Any
    input_shape: Shape
    output_shape: Shape
    parameter_shapes: dict[str, Shape]
    multiply_adds: int
    receptive_field: tuple[int, int] | None

    @property
    def parameters(self) -> int:
        """How many numbers this layer learns."""
        return sum(math.prod(shape) for shape in self.parameter_shapes.values())


def _as_network(value: Any) -> Any:
    return {"layers": value} if isinstance(value, list | tuple) else value


def _same_layers(value: Any) -> Any:
    """A network that is the name of another has that one's layers, to be trained by another recipe."""
    if not isinstance(value, dict):
        return value
    return {
        name: value[other] if isinstance(other, str) and other != name and other in value else other
        for name, other in value.items()
    }


@record
class Network:
    """Layers in order, no numbers. `initializer` draws the kernels of layers that name none of their own."""

    layers: Annotated[tuple[Layer, ...], several(Layer, min_length=1), Field(min_length=1)]
    initializer: Initializer = HeNormal()

    def facts(self, input_shape: Shape) -> list[LayerFacts]:
        """Every layer in its place for images of `input_shape` (height, width, channels).

        Raises LockstepError (LS-206) that names the layer, its input and why it does not fit.
        """
        rows: list[LayerFacts] = []
        shape, field, jump = tuple(input_shape), (1, 1), (1, 1)
        for index, layer in enumerate(self.layers):
            name = f"{index}_{layer.kind}"
            try:
                output = layer.output_shape(shape)
            except ValueError as error:
                facts = {"index": index, "kind": layer.kind, "why": reason(error)}
                message = _("layer {index} ({kind}) does not fit: {why}", **facts)
                raise LockstepError("LS-206", message, where=f"layers[{index}]") from None
            if window := layer.window():
                kernel, stride = window
                field = (field[0] + (kernel[0] - 1) * jump[0], field[1] + (kernel[1] - 1) * jump[1])
                jump = (jump[0] * stride[0], jump[1] * stride[1])
            elif len(output) == 1:
                field = (input_shape[0], input_shape[1])
            seen = (min(field[0], input_shape[0]), min(field[1], input_shape[1]))
            parameters = layer.parameter_shapes(shape)
            rows.append(LayerFacts(name, layer, shape, output, parameters, layer.multiply_adds(shape), seen))
            shape = output
        return rows

    def summary(self, input_shape: Shape) -> dict[str, Any]:
        """Parameters and multiply-adds of the whole, and layer by layer under "network", as JSON types."""
        rows = self.facts(input_shape)
        keys = ("name", "input_shape", "output_shape", "parameters", "multiply_adds", "receptive_field")
        return {
            "parameters": sum(row.parameters for row in rows),
            "multiply_adds": sum(row.multiply_adds for row in rows),
            "network": [{"kind": row.layer.kind, **{key: getattr(row, key) for key in keys}} for row in rows],
        }

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Canonical name `"<index>_<kind>/<parameter>"` → shape, in order."""
        return {
            f"{row.name}/{parameter}": shape
            for row in self.facts(input_shape)
            for parameter, shape in row.parameter_shapes.items()
        }


# ----------------------------------------------------------------------------------------------------------- recipe


@record
class SGD:
    """w ← w − lr·g."""

    learning_rate: Positive = 0.01
    kind: Literal["sgd"] = kind("sgd")


# `velocity` keeps v = −lr·b in place of b, as Keras does: v ← μ·v − lr·g; w ← w + v. They part when the rate changes.
_Form = Literal["buffer", "velocity"]


@record
class Momentum:
    """b ← μ·b + g; w ← w − lr·b."""

    learning_rate: Positive = 0.01
    momentum: Annotated[Number, Field(gt=0, lt=1)] = 0.9
    form: _Form = "buffer"
    kind: Literal["momentum"] = kind("momentum")


@record
class Nesterov:
    """b ← μ·b + g; w ← w − lr·(g + μ·b)."""

    learning_rate: Positive = 0.01
    momentum: Annotated[Number, Field(gt=0, lt=1)] = 0.9
    form: _Form = "buffer"
    kind: Literal["nesterov"] = kind("nesterov")


@record
class Adam:
    """Kingma & Ba 2015, Algorithm 1: ε is added to √v̂ after bias correction.

    `hat` is the form before their section 2.1: ε is added to √v before it, which is ε/√(1−β₂ᵗ) after it.
    """

    learning_rate: Positive = 1e-3
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    epsilon_mode: Literal["outside", "hat"] = "outside"
    kind: Literal["adam"] = kind("adam")


@record
class AdamW:
    """Adam after w ← w − lr·λ·w on the kernels (Loshchilov & Hutter 2019)."""

    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 1e-2
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    epsilon: Positive = 1e-8
    epsilon_mode: Literal["outside", "hat"] = "outside"
    kind: Literal["adamw"] = kind("adamw")


@record
class RMSprop:
    """s ← ρ·s + (1−ρ)·g²; w ← w − lr·g/(√s + ε), or g/√(s + ε) with ε `inside` the root."""

    learning_rate: Positive = 1e-3
    rho: Fraction = 0.9
    epsilon: Positive = 1e-8
    epsilon_mode: Literal["outside", "inside"] = "outside"
    kind: Literal["rmsprop"] = kind("rmsprop")


OPTIMIZERS, _OptimizerKind = family(SGD, Momentum, Nesterov, Adam, AdamW, RMSprop)
if TYPE_CHECKING:
    Optimizer = Any  # a type checker cannot see into a table
else:
    Optimizer = _OptimizerKind


@record
class Constant:
    """The learning rate stays as it is."""

    kind: Literal["constant"] = kind("constant")

    def factor(self, progress: float, epoch: int) -> float:
        """What the learning rate is multiplied by; `progress` is the share of all steps taken, in [0, 1)."""
        return 1.0


@record
class StepDecay:
    """The learning rate is multiplied by `factor_per_drop` after every `every` epochs."""

    every: Count = 10
    factor_per_drop: Annotated[Number, Field(gt=0, le=1)] = 0.1
    kind: Literal["step"] = kind("step")

    def factor(self, progress: float, epoch: int) -> float:
        return self.factor_per_drop ** (epoch // self.every)


@record
class Cosine:
    """From the learning rate down to `final` times it along half a cosine (Loshchilov & Hutter 2017, one cycle)."""

    final: NonNegative = 0.0
    kind: Literal["cosine"] = kind("cosine")

    def factor(self, progress: float, epoch: int) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


@record
class OneCycle:
    """Up from `start` times the learning rate during `warm_up` of the steps, then down to `final` times it.

    Both ways along half a cosine (Smith & Topin 2019, as PyTorch's OneCycleLR anneals).
    """

    warm_up: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    start: NonNegative = 0.04
    final: NonNegative = 4e-6
    kind: Literal["one_cycle"] = kind("one_cycle")

    def factor(self, progress: float, epoch: int) -> float:
        if progress < self.warm_up:
            low, high, share = self.start, 1.0, progress / self.warm_up
        else:
            low, high, share = 1.0, self.final, (progress - self.warm_up) / (1 - self.warm_up)
        return high + (low - high) * 0.5 * (1 + math.cos(math.pi * share))


SCHEDULES, _ScheduleKind = family(Constant, StepDecay, Cosine, OneCycle)
if TYPE_CHECKING:
    Schedule = Any  # a type checker cannot see into a table
else:
    Schedule = _ScheduleKind


@record
class Augmentation:
    """Random changes of each training image, drawn anew every epoch.

    `shift`: up to so many whole pixels along each axis; `rotation`: up to so many degrees either way (bilinear);
    `flip`: left and right swapped with probability one half. What comes in at a border is 0.
    """

    shift: Annotated[Whole, Field(ge=0, le=1000)] = 0
    rotation: Annotated[Number, Field(ge=0, le=180)] = 0.0
    flip: Flag = False

    def __bool__(self) -> bool:
        return bool(self.shift or self.rotation or self.flip)


@record
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` for `patience` epochs."""

    monitor: Literal["validation_loss", "validation_accuracy"] = "validation_loss"
    patience: Count = 5
    min_delta: NonNegative = 0.0
    restore_best: Flag = True


# The last two are what frameworks invite to. `cross_entropy_clipped` is −Σ t·log p with every probability p cut to
# [1e-7, 1 − 1e-7] (no gradient beyond); `cross_entropy_softmax_twice` takes probabilities for logits.
LOSSES = ("cross_entropy", "mean_squared_error", "cross_entropy_clipped", "cross_entropy_softmax_twice")

# What a recipe can do wrong on purpose: to see what it costs, and to see that a proof finds it.
MISTAKES = {
    "scaling_missing": "pixels enter the network as 0 … 255",
    "weights_of_another_seed": "the starting weights are those of seed + 1",
    "kernels_transposed": "square dense kernels start transposed, those of convolutions with height and width swapped",
    "order_not_shuffled": "the training images come in the order of the dataset, every epoch",
    "last_batch_dropped": "a short last batch is left out",
    "last_batch_unweighted": "the reported training loss is the mean of the batches' means",
    "training_in_inference_mode": "while training, batch normalisation uses running statistics and dropout is off",
    "prediction_in_training_mode": "while predicting, batch normalisation uses the batch and dropout is on",
    "dropout_not_scaled": "kept values are not divided by the keep probability",
    "dropout_rate_kept": "the dropout rate is taken as the share that is kept",
    "dropout_of_another_seed": "the dropout masks are those of seed + 1",
    "targets_broadcast": "the squared error compares every output with every target of its batch",
    "decay_on_all": "L2 and weight decay act on every parameter, not on kernels alone",
    "rate_late": "each update uses the learning rate of the one before it",
    "computed_in_float32": "float64 was asked, float32 is computed",
}
if TYPE_CHECKING:
    _Loss = str
    _Mistakes = tuple[str, ...]
else:
    _Loss = Literal[LOSSES]
    _Mistakes = Annotated[tuple[Literal[tuple(MISTAKES)], ...], several(Literal[tuple(MISTAKES)])]


@record
class Recipe:
    """How a network is trained.

    `loss`: softmax cross-entropy from logits, or the squared difference of outputs and one-hot targets, averaged over
    batch and classes. `l2` adds ½·λ·‖kernel‖² to what is minimised (not to the loss that is reported). `clip_norm`
    scales all gradients together so that their global norm is at most this. `validation` is the share of the training
    images held out. `scaling`: `unit` is pixel/255, `standard` also removes the training set's mean and standard
    deviation per channel.

    The rest are other meanings that frameworks and users give the same words. `loss_reduction`: what is minimised is
    the mean over the batch, or the sum (reported losses are means all the same). `clip_scope`: `clip_norm` limits the
    norm of all gradients together, or each `tensor`'s. `products`: dense and convolution layers round the factors of
    every product, forward and backward, to the 10 or 7 fraction bits of TF32 or bfloat16; float32 only. `mistakes`:
    see MISTAKES.
    """

    optimizer: Optimizer = Adam()
    epochs: Annotated[Whole, Field(ge=1, le=100_000)] = 10
    batch_size: Count = 128
    loss: _Loss = "cross_entropy"
    schedule: Schedule = Constant()
    label_smoothing: Fraction = 0.0
    l2: NonNegative = 0.0
    clip_norm: Positive | None = None
    validation: Fraction = 0.0
    early_stopping: EarlyStopping | None = None
    augmentation: Augmentation = Augmentation()
    scaling: Literal["unit", "standard"] = "unit"
    loss_reduction: Literal["mean", "sum"] = "mean"
    clip_scope: Literal["all", "tensor"] = "all"
    products: Literal["full", "tf32", "bfloat16"] = "full"
    mistakes: _Mistakes = ()


# ------------------------------------------------------------------------------------------------------ run and study

DTYPES = ("float32", "float64")
# What a study's `format` says: by which number of a layer its starting weights are drawn, and which images `train_size`
# keeps. A run's spec.toml always has it; those of before it have format 1.
FORMATS = {
    1: mark("starting weights by a layer's number among all layers; the first train_size images"),
    2: mark("starting weights by a layer's number among those with a kernel; of each class its share of train_size"),
}
FORMAT = max(FORMATS)
MOST_COMBINATIONS = 10_000  # of a grid
DEVICES = ("cpu", "cuda")
_Name = Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    seen = set()
    for value in values:
        if repr(value) in seen:
            raise ValueError(_("{value!r} is given twice", value=value))
        seen.add(repr(value))
    return values


def _flat_keys(value: Any) -> Any:
    """[grid] `optimizer.learning_rate = [...]` means the dotted key, although TOML reads a table in a table."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, item in value.items():
        inner = _flat_keys(item) if isinstance(item, dict) and "kind" not in item else None
        flat |= {key: item} if inner is None else {f"{key}.{name}": values for name, values in inner.items()}
    return flat


def _items(values: Any) -> Any:
    return Annotated[tuple[values, ...], several(values, min_length=1), Field(min_length=1), AfterValidator(_once)]


@record
class Run:
    """One network × recipe × dataset × backend × seed × dtype: a study with every choice made."""

    study: str
    network_name: str
    network: Network
    recipe: Recipe
    dataset: str
    backend: str
    seed: int
    dtype: str
    device: str
    train_size: int | None = None
    grid: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    format: int = FORMAT


if TYPE_CHECKING:
    _Names = tuple[str, ...]
    _Seeds = tuple[int, ...]
    _Dtypes = tuple[str, ...]
    _Device = str
    _Format = int
    _Networks = Mapping[str, Network]
    _Grid = Mapping[str, tuple[Any, ...]]
    _RecipeFor = Mapping[str, Mapping[str, Any]]
else:
    _Names = _items(Text)
    _Seeds = _items(Annotated[Whole, Field(ge=0, lt=2**63)])
    _Dtypes = _items(Literal[DTYPES])
    _Device = Literal[DEVICES]
    _Format = Literal[tuple(FORMATS)]
    _Layers = Annotated[tuple[Layer, ...], Field(min_length=1)]
    _Network = Annotated[Network, BeforeValidator(_as_network, json_schema_input_type=_Layers | Network)]
    _Networks = Annotated[
        dict[_Name, _Network],
        BeforeValidator(_same_layers, json_schema_input_type=dict[_Name, str | _Network]),
        Field(min_length=1, max_length=1000),
    ]
    _RecipeFor = dict[_Name, Annotated[dict[str, Any], BeforeValidator(_flat_keys)]]
    _Grid = Annotated[dict[str, _items(Any)], BeforeValidator(_flat_keys)]


@record
class Study:
    """A question, asked as a grid of runs: networks × datasets × dtypes × grid × seeds × backends.

    `grid` maps a key of the recipe, such as `"optimizer.learning_rate"`, to the values to try. `recipe_for` maps a
    network's name to keys of the recipe that are otherwise for this network alone. `train_size` keeps only so
    many training images, of each class its share. A lone value stands for a list of one. Without a `name` it has that
    of the script that makes it. `format`: see FORMATS; an earlier one repeats runs of an earlier version.
    """

    networks: _Networks
    dataset: _Names = ("digits",)
    backends: _Names = ("numpy", "torch", "tensorflow", "jax")
    seeds: _Seeds = (0,)
    dtype: _Dtypes = ("float32",)
    device: _Device = "cpu"
    recipe: Recipe = Recipe()
    grid: _Grid = dataclasses.field(default_factory=dict)
    recipe_for: _RecipeFor = dataclasses.field(default_factory=dict)
    train_size: Count | None = None
    question: Text = ""
    format: _Format = FORMAT
    name: _Name = dataclasses.field(default_factory=naming.of_script)

    def recipes(self, network: str = "") -> list[Recipe]:
        """The recipe of every combination of the grid, for a network of this name or for any without its own.

        Raises LockstepError where one cannot be, or too many.
        """
        n = math.prod(len(values) for values in self.grid.values())
        if n > MOST_COMBINATIONS:
            message = _("{n:,} recipes are more than {most:,}", n=n, most=MOST_COMBINATIONS)
            raise LockstepError("LS-205", message, where="grid", hint=_("fewer values, or several studies"))
        recipe = _with(self.recipe, self.recipe_for.get(network, {}), f"recipe_for.{network}")
        made, problems = [], dict[Problem, None]()
        for chosen in _combinations(self.grid):
            try:
                made.append(_with(recipe, chosen, "grid"))
            except LockstepError as error:
                problems |= dict.fromkeys(error.problems)
            if len(problems) >= MOST_PROBLEMS:
                break
        if problems:
            raise LockstepError.several(problems)
        return made

    def runs(self) -> list[Run]:
        """Every run of the grid; backends vary fastest, so that the same training stands side by side."""
        grid = list(_combinations(self.grid))
        return [
            Run(
                self.name,
                name,
                network,
                recipe,
                dataset,
                backend,
                seed,
                dtype,
                self.device,
                self.train_size,
                chosen,
                self.format,
            )
            for dataset in self.dataset
            for name, network in self.networks.items()
            for chosen, recipe in zip(grid, self.recipes(name), strict=True)
            for dtype in self.dtype
            for seed in self.seeds
            for backend in self.backends
        ]


def _combinations(grid: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    if not grid:
        yield {}
        return
    (key, values), *rest = grid.items()
    for value in values:
        for others in _combinations(dict(rest)):
            yield {key: value, **others}


_RECIPE = TypeAdapter(Recipe)


def _with(recipe: Recipe, chosen: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with some keys (dotted, relative to it) replaced; raises LockstepError like any recipe."""
    if not chosen:
        return recipe
    table = to_table(recipe)
    for key, value in sorted(chosen.items(), key=lambda item: item[0].count(".")):  # a part after its whole
        try:
            set_key(table, key.removeprefix("recipe."), value)
        except KeyError as error:
            message = _('"{part}" is not a table, so this key does not exist', part=error.args[0])
            raise LockstepError("LS-203", message, where=f"{where}.{key}", hint=_("name a key of the recipe")) from None
        except ValueError as error:  # a short form on the way is wrong in itself
            raise LockstepError("LS-205", reason(error), where=f"{where}.{key}") from None
    try:
        return _RECIPE.validate_python(table)
    except ValidationError as error:
        raise LockstepError.several(problems_of(error, Recipe, where=f"{where}.")) from None
