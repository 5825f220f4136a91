"""How a network is trained: optimizer, schedule, loss, augmentation, and what a recipe does wrong on purpose."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import Field

from lockstep.spec.records import (
    Count,
    Flag,
    Fraction,
    NonNegative,
    Number,
    Positive,
    Whole,
    kind,
    kinds_of,
    record,
    several,
    short_form,
)

# ------------------------------------------------------------------------------------------------------- optimizers


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


_Optimizer = SGD | Momentum | Nesterov | Adam | AdamW | RMSprop
OPTIMIZERS = kinds_of(_Optimizer)
Optimizer = Annotated[_Optimizer, Field(discriminator="kind"), short_form(_Optimizer)]


# -------------------------------------------------------------------------------------------------------- schedules


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


_Schedule = Constant | StepDecay | Cosine | OneCycle
SCHEDULES = kinds_of(_Schedule)
Schedule = Annotated[_Schedule, Field(discriminator="kind"), short_form(_Schedule)]


# ----------------------------------------------------------------------------------------------------------- recipe


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
Loss = Literal["cross_entropy", "mean_squared_error", "cross_entropy_clipped", "cross_entropy_softmax_twice"]
LOSSES: tuple[str, ...] = get_args(Loss)

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
    _Mistakes = tuple[str, ...]
else:
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
    loss: Loss = "cross_entropy"
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
