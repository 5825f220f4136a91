"""What a default can mean: each subject that frameworks settle for their users, and its known meanings in NumPy.

Frameworks hand back raw numbers of what they do when nothing more is asked for (`differences`). What these mean is
found as a proof finds a cause: by reproduction. A subject's meanings are worked out on what the frameworks were given,
and the one that gives their numbers within rounding is stated. Where a meaning is a number (a slope, an ε), it is
fitted first and has to reproduce the rest. None fits: that is said.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep import randomness
from lockstep.language import joined
from lockstep.language import later as _
from lockstep.spec import SGD, Adam, AdamW, AvgPool2D, BatchNorm, LayerNorm, LeakyReLU, RMSprop

ROUNDING = 1e-4  # float32's 6e-8 a few hundred times (Optax's 1 − β₂ alone is 3e-5 off); meanings are 10 times as far

Given = dict[str, Any]
Seen = Mapping[str, np.ndarray]
Wanted = dict[str, Any]  # name → the numbers, or a function of an array that says whether it is what is meant
Meanings = Iterator[tuple[str, Wanted]]  # (in words, what would have been seen)


@dataclass(frozen=True)
class Subject:
    """Something that frameworks settle for their users.

    `what` it is; `canonical`, Lockstep's own answer in the words of the meanings ("" where it has no such thing);
    `given`, what the frameworks run it on; `meanings`, a function of what was seen and of `given`; `causes`, the rows
    of `causes.CAUSES` that it is behind.
    """

    what: str
    canonical: str
    given: Given
    meanings: Callable[..., Meanings]
    causes: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------- what a subject needs


def waves(*shape: int) -> np.ndarray:
    """Numbers between −1 and 1, float32, no two alike and none of them 0."""
    return np.sin(1.0 + 1.7 * np.arange(math.prod(shape))).reshape(shape).astype(np.float32)


def constant(value: float, *shape: int) -> np.ndarray:
    """An array of one number, float32."""
    return np.full(shape, value, np.float32)


def floats(*values: float) -> np.ndarray:
    """These numbers, float32."""
    return np.array(values, np.float32)


def columns(*values: float) -> np.ndarray:
    """The gradients of three updates, (3, n) float32: each parameter's own size, a little different each time."""
    return np.outer((1.0, 0.8, 1.1), values).astype(np.float32)


def number(value: float) -> float:
    """A fitted number: three digits, for what a framework chose is round; another will not reproduce what was seen."""
    return float(f"{value:.3g}")


def shaped(*shape: int) -> Callable[[np.ndarray], bool]:
    """What is meant is any array of this shape."""
    return lambda y: y.shape == shape


# ----------------------------------------------------------------------------------------------------- starting weights


@dataclass(frozen=True)
class Distribution:
    """A distribution around 0: `uniform` with this limit, or `normal` with this deviation.

    `truncated` is a normal one cut at two deviations and widened, so that the deviation is `size` again.
    """

    form: str
    size: float

    def __call__(self, values: np.ndarray) -> bool:
        """Whether these values can come from it, by its ends and by Kolmogorov and Smirnov's test at 1 in 1000."""
        n, x = values.size, np.sort(values.ravel().astype(np.float64))
        spread = self.size / TRUNCATED if self.form == "truncated" else self.size
        limit = {"uniform": self.size, "truncated": 2 * spread, "normal": np.inf}[self.form]
        most = np.abs(x[[0, -1]]).max()
        if most > limit * (1 + ROUNDING) or (self.form == "normal" and most < 3 * self.size):
            return False
        every = slice(0, None, max(n // 3000, 1))  # as good as all of them, and fast
        u = x[every] / spread
        expected = (u + 1) / 2 if self.form == "uniform" else _normal(u)
        if self.form == "truncated":
            low, high = _normal(np.array([-2.0, 2.0]))
            expected = (expected - low) / (high - low)
        off = np.abs(expected - (np.arange(n)[every] + 0.5) / n).max()
        return bool(off < 1.95 / math.sqrt(n))


TRUNCATED = 0.87962566103423978  # the deviation of a standard normal cut at ±2


def _normal(u: np.ndarray) -> np.ndarray:
    return np.array([0.5 * (1 + math.erf(value / math.sqrt(2))) for value in u])


UNIFORM_BY_INPUTS = _("uniform in ±1/√fan_in")


def kernel(seen: Seen, fan_in: int, fan_out: int) -> Meanings:
    """Which distribution a kernel is drawn from."""
    yield UNIFORM_BY_INPUTS, {"kernel": Distribution("uniform", 1 / math.sqrt(fan_in))}
    for name, variance in (("He", 2 / fan_in), ("Glorot", 2 / (fan_in + fan_out)), ("LeCun", 1 / fan_in)):
        yield _("{name} uniform", name=name), {"kernel": Distribution("uniform", math.sqrt(3 * variance))}
        yield _("{name} normal", name=name), {"kernel": Distribution("normal", math.sqrt(variance))}
        yield _("{name} normal, truncated", name=name), {"kernel": Distribution("truncated", math.sqrt(variance))}


def dense_kernel(seen: Seen, inputs: int, units: int) -> Meanings:
    """See `kernel`."""
    return kernel(seen, inputs, units)


def conv_kernel(seen: Seen, channels: int, filters: int, size: tuple[int, int]) -> Meanings:
    """See `kernel`."""
    return kernel(seen, math.prod(size) * channels, math.prod(size) * filters)


def bias(seen: Seen, inputs: int, units: int) -> Meanings:
    """Zeros, or which distribution."""
    yield _("zeros"), {"bias": constant(0, units)}
    yield UNIFORM_BY_INPUTS, {"bias": Distribution("uniform", 1 / math.sqrt(inputs))}


def random_numbers(seen: Seen, n: int) -> Meanings:
    """The numbers themselves: no seed means the same in two frameworks."""
    yield _beginning(seen["u"]), {"u": lambda u: u.shape == (n,) and u.min() >= 0 and u.max() < 1}


def _beginning(u: np.ndarray) -> str:
    return _("begins {numbers}", numbers=", ".join(f"{value:.4f}" for value in u[:3]))


def kernel_layout(seen: Seen, channels: int, filters: int, size: tuple[int, int]) -> Meanings:
    """The order of a kernel's axes."""
    yield HWIO, {"conv": np.array((*size, channels, filters)), "dense": np.array((channels, filters))}
    yield (
        _("(out, in, height, width), (out, in)"),
        {
            "conv": np.array((filters, channels, *size)),
            "dense": np.array((filters, channels)),
        },
    )


HWIO = _("(height, width, in, out), (in, out)")

# ----------------------------------------------------------------------------------------------------------------- data


def order(seen: Seen, n: int) -> Meanings:
    """Whether a loader shuffles."""
    yield _("as the dataset lies"), {"order": np.arange(n)}
    yield _("shuffled"), {"order": lambda found: set(found) == set(range(n)) and list(found) != list(range(n))}


def last_batch(seen: Seen, n: int, batch: int) -> Meanings:
    """What becomes of a short last batch."""
    full, short = divmod(n, batch)
    yield _("kept"), {"sizes": np.array([batch] * full + [short])}
    yield _("dropped"), {"sizes": np.array([batch] * full)}


def resize(seen: Seen, x: np.ndarray, size: tuple[int, int]) -> Meanings:
    """Bilinear resizing, with and without a filter that is as wide as what an output pixel covers."""

    def weights(n: int, m: int, antialias: bool, corners: bool = False) -> np.ndarray:
        scale = n / m
        centre = np.arange(m) * (n - 1) / (m - 1) if corners else (np.arange(m) + 0.5) * scale - 0.5
        distance = np.abs(np.arange(n) - centre[:, None]) / (max(scale, 1.0) if antialias else 1.0)
        found = np.maximum(0, 1 - distance)
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    ways = ((_("not antialiased"), False), (_("antialiased"), True), (_("not antialiased, corners kept"), False, True))
    for words, *how in ways:
        high, wide = (weights(n, m, *how) for n, m in zip(x.shape[1:3], size, strict=True))
        yield words, {"y": np.einsum("ih,bhwc,jw->bijc", high, x, wide)}


# -------------------------------------------------------------------------------------------------------------- forward


def conv_padding(seen: Seen, x: np.ndarray, size: int) -> Meanings:
    """What surrounds the image of a convolution."""
    n = x.shape[1]
    yield _("no padding"), {"y": shaped(1, n - size + 1, n - size + 1, 1)}
    yield _("same"), {"y": shaped(1, n, n, 1)}


def same_padding(seen: Seen, x: np.ndarray, kernel: np.ndarray, stride: int) -> Meanings:
    """On which side the odd row and column of zeros stands."""
    for words, padding in ((AFTER, (0, 1)), (BEFORE, (1, 0))):
        windows = _windows(np.pad(x[0, :, :, 0], padding), kernel.shape[0], stride)
        yield words, {"y": np.einsum("ijhw,hw->ij", windows, kernel[:, :, 0, 0])[None, :, :, None]}


AFTER, BEFORE = _("the odd zeros right and below"), _("the odd zeros left and above")


def _windows(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(x, (size, size))[::stride, ::stride]


def pool_stride(seen: Seen, x: np.ndarray, size: int) -> Meanings:
    """By how much a pooling window moves."""
    for words, stride in ((_("the window's size"), size), ("1", 1)):
        yield words, {"y": _windows(x[0, :, :, 0], size, stride).max((2, 3))[None, :, :, None]}


def avg_pool(seen: Seen, x: np.ndarray, size: int, stride: int) -> Meanings:
    """Whether zeros of the padding are counted in the mean."""
    real = _windows(np.pad(np.ones(x.shape[1:3]), 1), size, stride).sum((2, 3))
    sums = _windows(np.pad(x[0, :, :, 0], 1), size, stride).sum((2, 3))
    for words, counts in ((_("not counted"), real), (_("counted"), size**2)):
        yield words, {"y": (sums / counts)[None, :, :, None]}


def flatten(seen: Seen, x: np.ndarray) -> Meanings:
    """The order of the numbers of an image."""
    yield _("height, width, channels"), {"y": x.reshape(len(x), -1)}
    yield _("channels, height, width"), {"y": x.transpose(0, 3, 1, 2).reshape(len(x), -1)}


def leaky_relu(seen: Seen, x: np.ndarray) -> Meanings:
    """The slope below 0."""
    slope = number(seen["y"][0] / x[0])
    yield _("slope {slope:g}", slope=slope), {"y": np.where(x > 0, x, slope * x)}


def gelu(seen: Seen, x: np.ndarray) -> Meanings:
    """x·Φ(x) or its approximation."""
    yield _("exact"), {"y": x * _normal(x)}
    yield _("the tanh formula"), {"y": x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))}


def hard_sigmoid(seen: Seen, x: np.ndarray) -> Meanings:
    """The slope of the straight part."""
    yield _("x/6 + ½"), {"y": np.clip(x / 6 + 0.5, 0, 1)}
    yield _("0.2·x + ½"), {"y": np.clip(0.2 * x + 0.5, 0, 1)}


def normal_epsilon(seen: Seen, x: np.ndarray) -> Meanings:
    """What is added to the variance of the batch (per channel), or of each example's features."""
    for axes in [(0, 1, 2)] if x.ndim == 4 else [(-1,)]:
        mean, variance = x.mean(axes, np.float64, keepdims=True), x.var(axes, np.float64, keepdims=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            fitted = ((x - mean) / seen["y"]) ** 2 - variance
        epsilon = float(f"{np.median(fitted):.2g}")
        yield _("ε {epsilon:g}", epsilon=epsilon), {"y": (x - mean) / np.sqrt(np.maximum(variance + epsilon, 1e-30))}


def dropout(seen: Seen, x: np.ndarray, rate: float) -> Meanings:
    """What `rate` is the share of, and what becomes of kept values."""

    def drops(keep: float, factor: float) -> Callable[[np.ndarray], bool]:
        def fits(y: np.ndarray) -> bool:
            kept = y != 0
            share = abs(kept.mean() - keep) < 5 * math.sqrt(keep * (1 - keep) / y.size)
            return bool(share and np.allclose(y[kept], factor * x[kept], ROUNDING))

        return fits

    for keep, whose in ((1 - rate, _("rate is dropped")), (rate, _("rate is kept"))):
        yield _("{whose}, kept values are divided by the keep probability", whose=whose), {"y": drops(keep, 1 / keep)}
        yield _("{whose}, kept values stay as they are", whose=whose), {"y": drops(keep, 1.0)}


def call_mode(seen: Seen, x: np.ndarray, rate: float) -> Meanings:
    """What a layer that is called without a word about it takes itself to be in."""
    training = {"dropout": lambda y: (y == 0).any(), "batch_norm": lambda y: np.abs(y.mean(0)).max() < 0.01}
    inference = {"dropout": x, "batch_norm": lambda y: np.allclose(y, x, 0.01)}
    yield _("training"), training
    yield _("inference"), inference


def float64(seen: Seen, x: np.ndarray) -> Meanings:
    """What becomes of float64."""
    yield _("stays float64"), {"bits": np.array(64)}
    yield _("becomes float32"), {"bits": np.array(32)}


# ----------------------------------------------------------------------------------------------------------------- loss


def _reductions(losses: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    yield _("mean over the batch"), losses.mean()
    yield _("sum over the batch"), losses.sum()
    yield _("one per example"), losses


def cross_entropy(seen: Seen, p: np.ndarray, labels: np.ndarray) -> Meanings:
    """What the loss takes its input for, and what it does with the examples' losses."""
    z = p.astype(np.float64)
    right = np.arange(len(labels)), labels
    losses = {_("logits"): np.log(np.exp(z).sum(axis=1)) - z[right], _("probabilities"): -np.log(z[right])}
    for whose, values in losses.items():
        for words, loss in _reductions(values):
            yield _("of {whose}, {words}", whose=whose, words=words), {"loss": loss}


def cross_entropy_of_nothing(seen: Seen, p: np.ndarray) -> Meanings:
    """The loss where the right class has next to no probability."""
    with np.errstate(divide="ignore"):
        log_p = np.log(p.astype(np.float64))
    yield _("p is cut at 1e-7"), {"losses": -np.maximum(log_p, math.log(1e-7))}
    yield _("log p is cut at −100"), {"losses": -np.maximum(log_p, -100)}
    yield _("infinite"), {"losses": -log_p}


def squared_error(seen: Seen, z: np.ndarray, targets: np.ndarray) -> Meanings:
    """How squares become a loss."""
    squares = (z.astype(np.float64) - targets) ** 2
    yield _("mean over all numbers"), {"loss": squares.mean()}
    yield _("mean over the batch of sums"), {"loss": squares.sum(axis=1).mean()}
    yield _("sum over all numbers"), {"loss": squares.sum()}
    yield _("one per number"), {"loss": squares}
    yield _("half of it, sum over all numbers"), {"loss": squares.sum() / 2}
    yield _("half of it, one per number"), {"loss": squares / 2}


def targets_broadcast(seen: Seen, z: np.ndarray, targets: np.ndarray) -> Meanings:
    """What becomes of (N, 1) against (N,)."""
    yield _("shapes are made alike"), {"loss": ((z[:, 0] - targets) ** 2).mean()}
    yield _("every output against every target"), {"loss": ((z - targets) ** 2).mean()}


def label_smoothing(seen: Seen, z: np.ndarray, labels: np.ndarray, smoothing: float) -> Meanings:
    """Among how many classes it is shared."""
    log_p = z - np.log(np.exp(z.astype(np.float64)).sum(axis=1, keepdims=True))
    classes, hot = z.shape[1], np.eye(z.shape[1])[labels]
    for words, targets in (
        (_("shared among all K classes"), hot * (1 - smoothing) + smoothing / classes),
        (_("shared among the K − 1 others"), hot * (1 - smoothing) + (1 - hot) * smoothing / (classes - 1)),
    ):
        yield words, {"loss": -(targets * log_p).sum(axis=1).mean()}


# -------------------------------------------------------------------------------------------------- backward, gradients


def max_pool_ties(seen: Seen, x: np.ndarray, size: int) -> Meanings:
    """Who gets the gradient of a window of equal values."""
    for words, place in ((_("the first"), 0), (_("the last"), size**2 - 1)):
        window = np.zeros(size**2)
        window[place] = 1
        yield words, {"dx": np.tile(window.reshape(size, size), [n // size for n in x.shape[1:3]]).reshape(x.shape)}
    yield _("shared"), {"dx": np.full(x.shape, 1 / size**2)}


def leaky_relu_at_zero(seen: Seen, x: np.ndarray) -> Meanings:
    """The derivative at −1, 0 and 1."""
    slope = seen["dx"][0]
    for words, middle in ((_("the slope below 0"), slope), ("1", 1), ("0", 0)):
        yield words, {"dx": np.array([slope, middle, 1])}


def clip_at_ends(seen: Seen, x: np.ndarray, low: float, high: float) -> Meanings:
    """The derivative exactly at a clip's ends."""
    inside = (x > low) & (x < high)
    for value in (1, 0.5, 0):
        yield f"{value:g}", {"dx": np.where((x == low) | (x == high), value, inside)}


def l2(seen: Seen, w: np.ndarray, factor: float) -> Meanings:
    """What λ is the factor of."""
    yield _("λ·w, of ½·λ·Σw²"), {"gradient": factor * w}
    yield _("2·λ·w, of λ·Σw²"), {"gradient": 2 * factor * w}


def adam_weight_decay(seen: Seen, w: np.ndarray, gradients: np.ndarray, rate: float, factor: float) -> Meanings:
    """Where λ·w enters."""
    yield _("added to the gradient (coupled)"), {"w": adam_steps(w, gradients, rate, coupled=factor)}
    yield _("taken from the weights, times the rate"), {"w": adam_steps(w, gradients, rate, decoupled=rate * factor)}
    yield _("taken from the weights, not times the rate"), {"w": adam_steps(w, gradients, rate, decoupled=factor)}


# ----------------------------------------------------------------------------------------------------------- statistics


def batch_norm_momentum(seen: Seen, x: np.ndarray) -> Meanings:
    """How much of a batch goes into the running mean."""
    mean = x.mean((0, 1, 2), np.float64)
    share = number(seen["mean"][0] / mean[0])
    yield _("{share:g} of the new batch", share=share), {"mean": share * mean}


def batch_norm_variance(seen: Seen, x: np.ndarray) -> Meanings:
    """Which variance goes into the running one."""
    mean, variance = x.mean((0, 1, 2), np.float64), x.var((0, 1, 2), np.float64)
    n, share = x[..., 0].size, number(seen["mean"][0] / mean[0])
    for words, factor in ((_("unbiased, n/(n − 1)"), n / (n - 1)), (_("biased"), 1.0)):
        yield words, {"mean": share * mean, "variance": 1 - share + share * variance * factor}


def frozen_batch_norm(seen: Seen, x: np.ndarray) -> Meanings:
    """Whether the running mean of a frozen layer moves in training."""
    mean = x.mean((0, 1, 2), np.float64)
    share = number(seen["mean"][0] / mean[0])
    if share:
        yield _("statistics go on moving"), {"mean": share * mean}
    yield _("statistics stay: inference mode"), {"mean": np.zeros_like(mean)}


# ----------------------------------------------------------------------------------------------------------- optimizers


def clip_norm(seen: Seen, gradients: list[np.ndarray], limit: float) -> Meanings:
    """Whose norm is limited."""
    norms = [float(np.linalg.norm(gradient)) for gradient in gradients]
    together = math.hypot(*norms)
    for words, factors in (
        (_("of all gradients together"), [min(1, limit / together)] * len(norms)),
        (_("of all gradients together, divided by ‖g‖ + 1e-6"), [min(1, limit / (together + 1e-6))] * len(norms)),
        (_("of each gradient by itself"), [min(1, limit / norm) for norm in norms]),
    ):
        clipped = [factor * gradient for factor, gradient in zip(factors, gradients, strict=True)]
        yield words, {str(index): gradient for index, gradient in enumerate(clipped)}


def plain_rate(seen: Seen, w: np.ndarray, gradients: np.ndarray) -> Meanings:
    """The rate of an optimizer whose first step is rate · sign of the gradient, or rate · gradient of 1."""
    rate = number(-seen["w"][0, 0])
    yield f"{rate:g}", {"w": constant(-rate, 1, 1)}


def rmsprop_rate(seen: Seen, w: np.ndarray, gradients: np.ndarray) -> Meanings:
    """The rate, by the decay that goes with it."""
    for rho in (0.9, 0.99):
        rate = number(-seen["w"][0, 0] * math.sqrt(1 - rho))
        yield f"{rate:g}", {"w": rmsprop_steps(w, gradients, rate, rho, 0.0, "outside")}


def adam(seen: Seen, w: np.ndarray, gradients: np.ndarray) -> Meanings:
    """ε and where it stands; the rate is what the first step of a large gradient shows."""
    rate = number(-seen["w"][0, 0])
    for epsilon in (1e-8, 1e-7, 1e-6):
        for form, words in ADAM_FORMS.items():
            found = adam_steps(w, gradients, rate, epsilon, form)
            yield _("ε {epsilon:g} {words}", epsilon=epsilon, words=words), {"w": found}


ADAM_FORMS = {
    "outside": _("added to √v̂ after bias correction"),
    "hat": _("added to √v before bias correction"),
    "inside": _("inside the root"),
}


def adam_steps(
    w: np.ndarray, gradients: np.ndarray, rate: float, epsilon: float = 1e-8, form: str = "outside",
    coupled: float = 0.0, decoupled: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """The weights after each update of Kingma & Ba's Algorithm 1, with β .9 and .999."""
    w, m, v, seen = w.astype(np.float64), 0.0, 0.0, []
    for t, gradient in enumerate(gradients.astype(np.float64), start=1):
        g = gradient + coupled * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        second = 1 - 0.999**t
        root = np.sqrt(v / second + (epsilon if form == "inside" else 0.0))
        root = root + {"outside": epsilon, "hat": epsilon / math.sqrt(second), "inside": 0.0}[form]
        w = w - decoupled * w - rate * m / (1 - 0.9**t) / root
        seen.append(w)
    return np.stack(seen)


def adamw_decay(seen: Seen, w: np.ndarray, gradients: np.ndarray, rates: tuple[float, ...]) -> Meanings:
    """λ, from one step without a gradient at each rate."""
    decay = number((1 - seen["w"][0, 0] / w[0]) / rates[0])
    yield _("{decay:g}, times the rate", decay=decay), {"w": np.stack([w * (1 - rate * decay) for rate in rates])}
    decay = number(1 - seen["w"][0, 0] / w[0])
    yield _("{decay:g}, not times the rate", decay=decay), {"w": np.stack([w * (1 - decay) for _ in rates])}


def decay_reach(seen: Seen, kernel: np.ndarray, bias: np.ndarray, rate: float) -> Meanings:
    """Whether a bias decays as kernels do."""
    kept = 1 - rate * number((1 - seen["kernel"][0, 0] / kernel[0, 0]) / rate)
    yield _("kernels and biases"), {"kernel": kernel * kept, "bias": bias * kept}
    yield _("kernels"), {"kernel": kernel * kept, "bias": bias}


def rmsprop(seen: Seen, w: np.ndarray, gradients: np.ndarray) -> Meanings:
    """The decay of the average, ε and where it stands."""
    for rho in (0.9, 0.99):
        rate = number(-seen["w"][0, 0] * math.sqrt(1 - rho))
        for epsilon in (1e-8, 1e-7, 1e-6):
            for form in ("outside", "inside"):
                found = rmsprop_steps(w, gradients, rate, rho, epsilon, form)
                yield _rmsprop(rho, epsilon, form), {"w": found}


def rmsprop_steps(
    w: np.ndarray, gradients: np.ndarray, rate: float, rho: float, epsilon: float, form: str
) -> np.ndarray:
    """The weights after each update."""
    square, seen = np.zeros(w.shape), []
    for g in gradients.astype(np.float64):
        square = rho * square + (1 - rho) * g * g
        w = w - rate * g / _root(square, epsilon, form)
        seen.append(w)
    return np.stack(seen)


ROOT_FORMS = {"outside": _("outside the root"), "inside": _("inside the root")}


def _rmsprop(rho: float, epsilon: float, form: str) -> str:
    return _("average {rho:g}, ε {epsilon:g} {where}", rho=rho, epsilon=epsilon, where=ROOT_FORMS[form])


def _root(square: np.ndarray, epsilon: float, form: str) -> np.ndarray:
    return np.sqrt(square + epsilon) if form == "inside" else np.sqrt(square) + epsilon


def adagrad_start(seen: Seen, w: np.ndarray, gradients: np.ndarray) -> Meanings:
    """What the sum of squares begins with; ε is too small to be seen beside it."""
    for start in (0, 0.1, 1):
        rate = number(-seen["w"][0, 0] * math.sqrt(start + gradients[0, 0] ** 2) / gradients[0, 0])
        yield f"{start:g}", {"w": adagrad_steps(w, gradients, rate, start, 0.0, "outside")}


def adagrad_epsilon(seen: Seen, w: np.ndarray, gradients: np.ndarray) -> Meanings:
    """ε and where it stands, with sums that begin at 0."""
    rate = number(-seen["w"][0, 0])
    for epsilon in (1e-10, 1e-8, 1e-7):
        for form in ("outside", "inside"):
            found = adagrad_steps(w, gradients, rate, 0.0, epsilon, form)
            yield _("{epsilon:g} {where}", epsilon=epsilon, where=ROOT_FORMS[form]), {"w": found}


def adagrad_steps(
    w: np.ndarray, gradients: np.ndarray, rate: float, start: float, epsilon: float, form: str
) -> np.ndarray:
    """The weights after each update."""
    square, seen = np.full(w.shape, float(start)), []
    for g in gradients.astype(np.float64):
        square = square + g * g
        w = w - rate * g / _root(square, epsilon, form)
        seen.append(w)
    return np.stack(seen)


BUFFER = _("the rate multiplies the whole buffer: b ← μ·b + g, w ← w − lr·b")
VELOCITY = _("each gradient keeps the rate of its time: v ← μ·v − lr·g, w ← w + v")


def momentum(seen: Seen, w: np.ndarray, gradients: np.ndarray, rates: tuple[float, ...], mu: float) -> Meanings:
    """What becomes of the momentum when the rate changes."""
    yield from _momentum(w, gradients, rates, mu, nesterov=False)


def nesterov(seen: Seen, w: np.ndarray, gradients: np.ndarray, rates: tuple[float, ...], mu: float) -> Meanings:
    """The same, a step ahead."""
    yield from _momentum(w, gradients, rates, mu, nesterov=True)


def _momentum(w: np.ndarray, gradients: np.ndarray, rates: Iterable[float], mu: float, nesterov: bool) -> Meanings:
    for words, is_velocity in ((BUFFER, False), (VELOCITY, True)):
        now, buffer, found = w.astype(np.float64), np.zeros(w.shape), []
        for g, rate in zip(gradients.astype(np.float64), rates, strict=True):
            step = rate * g if is_velocity else g
            buffer = mu * buffer + step
            now = now - (1 if is_velocity else rate) * (step + mu * buffer if nesterov else buffer)
            found.append(now)
        yield words, {"w": np.stack(found)}


# ----------------------------------------------------------------------------------------------------------- afterwards


def reported_loss(seen: Seen, x: np.ndarray, targets: np.ndarray, batch: int, rate: float) -> Meanings:
    """What one number says of an epoch's loss, for y = w·x that starts with w = 0 and learns."""
    w, losses, sizes = 0.0, [], []
    for start in range(0, len(x), batch):
        part, wanted = x[start : start + batch, 0].astype(np.float64), targets[start : start + batch, 0]
        off = w * part - wanted
        losses.append((off**2).mean())
        sizes.append(len(part))
        w -= rate * 2 * (off * part).mean()
    yield _("mean over examples, as the steps were taken"), {"loss": np.array([np.dot(losses, sizes) / sum(sizes)])}
    yield _("mean of the batches' means, as the steps were taken"), {"loss": np.array([np.mean(losses)])}
    yield _("mean over examples, at the epoch's end"), {"loss": np.array([((w * x - targets) ** 2).mean()])}


# --------------------------------------------------------------------------------------------------------- the subjects

CONV = {"channels": 20, "filters": 30, "size": (3, 7)}
DENSE = {"inputs": 100, "units": 300}
STEPS = {"w": constant(0, 6), "gradients": columns(1, 1e-3, 3e-5, 1e-6, 1e-7, 1e-8)}
ONE_STEP = {"w": constant(0, 1), "gradients": constant(1, 1, 1)}
CHANGING = {"w": waves(3), "gradients": waves(4, 3), "rates": (0.1, 0.1, 0.01, 0.01), "mu": 0.9}
NARROW = np.float32(3e-3) * waves(2, 3, 1, 5)  # varies so little that ε shows
BATCH = 2 + waves(2, 3, 1, 5)

SUBJECTS: dict[str, Subject] = {
    # starting weights
    "dense_kernel": Subject(
        _("a dense layer's starting kernel"), _("{name} normal", name="He"),
        DENSE, dense_kernel, ("init_torch", "init_keras", "init_flax"),
    ),
    "conv_kernel": Subject(
        _("a convolution's starting kernel"), _("{name} normal", name="He"),
        CONV, conv_kernel, ("init_torch", "init_keras", "init_flax"),
    ),
    "bias": Subject(
        _("a dense layer's starting bias"), _("zeros"), DENSE, bias,
        ("init_torch", "init_keras", "init_flax"),
    ),
    "he_normal": Subject(_('"He normal"'), _("{name} normal", name="He"), DENSE, dense_kernel),
    "random_numbers": Subject(
        _("random numbers of seed 0"), _beginning(randomness.uniform(3, 0, "weights", 0, 0)), {"n": 5}, random_numbers,
        ("weights_of_another_seed", "dropout_of_another_seed"),
    ),
    "kernel_layout": Subject(
        _("the axes of kernels"), HWIO, CONV, kernel_layout,
        ("kernels_transposed",),
    ),
    # data
    "order": Subject(_("the order of examples"), _("shuffled"), {"n": 23}, order, ("order_not_shuffled",)),
    "last_batch": Subject(
        _("a short last batch"), _("kept"), {"n": 7, "batch": 3}, last_batch, ("last_batch_dropped",)
    ),
    "resize": Subject(_("making images smaller"), "", {"x": waves(1, 11, 9, 1), "size": (4, 3)}, resize),
    # forward
    "conv_padding": Subject(
        _("a convolution's padding"), _("no padding"), {"x": waves(1, 7, 7, 1), "size": 3}, conv_padding
    ),
    "same_padding": Subject(
        _("`same` padding under a stride"), AFTER, {"x": waves(1, 6, 6, 1), "kernel": waves(3, 3, 1, 1), "stride": 2},
        same_padding, ("same_padding_before",),
    ),
    "pool_stride": Subject(
        _("a pooling window's stride"), _("the window's size"), {"x": waves(1, 7, 7, 1), "size": 3}, pool_stride
    ),
    "avg_pool": Subject(
        _("padding in the mean of a pooling"), _("counted") if AvgPool2D().count_padding else _("not counted"),
        {"x": constant(1, 1, 5, 5, 1), "size": 3, "stride": 2}, avg_pool, ("avg_pool_counts_padding",),
    ),
    "flatten": Subject(
        _("the order of a flattened image"), _("height, width, channels"), {"x": waves(2, 3, 5, 4)}, flatten,
        ("flatten_chw",),
    ),
    "leaky_relu": Subject(
        _("leaky relu"), _("slope {slope:g}", slope=LeakyReLU().slope), {"x": floats(-3, -1, -0.2, 0.4, 2)}, leaky_relu,
        ("leaky_slope_keras", "leaky_slope_tensorflow"),
    ),
    "gelu": Subject(_("GELU"), _("exact"), {"x": 3 * waves(13)}, gelu, ("gelu_tanh",)),
    "hard_sigmoid": Subject(_("hard sigmoid"), "", {"x": 4 * waves(13)}, hard_sigmoid),
    "batch_norm_epsilon": Subject(
        _("batch normalisation's ε"), _("ε {epsilon:g}", epsilon=BatchNorm().epsilon), {"x": NARROW}, normal_epsilon,
        ("batch_norm_epsilon",),
    ),
    "layer_norm_epsilon": Subject(
        _("layer normalisation's ε"), _("ε {epsilon:g}", epsilon=LayerNorm().epsilon), {"x": NARROW[:, :, 0]},
        normal_epsilon, ("layer_norm_epsilon", "layer_norm_epsilon_flax"),
    ),
    "dropout": Subject(
        _("dropout"), _("{whose}, kept values are divided by the keep probability", whose=_("rate is dropped")),
        {"x": 2 + waves(100, 70), "rate": 0.25}, dropout, ("dropout_not_scaled", "dropout_rate_kept"),
    ),
    "call_mode": Subject(
        _("the mode of a layer that is just called"), "", {"x": 3 + waves(100, 7), "rate": 0.5}, call_mode,
        ("training_in_inference_mode", "prediction_in_training_mode"),
    ),
    "float64": Subject(
        _("float64 that is given"), _("stays float64"), {"x": np.array([0.1, 0.7, 0.3])}, float64,
        ("computed_in_float32",),
    ),
    # loss
    "cross_entropy": Subject(
        _("cross-entropy"), _("of {whose}, {words}", whose=_("logits"), words=_("mean over the batch")),
        {"p": np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], np.float32), "labels": np.array([2, 1])}, cross_entropy,
        ("softmax_twice", "loss_summed"),
    ),
    "cross_entropy_of_nothing": Subject(
        _("cross-entropy of probabilities near 0"), "", {"p": np.array([0, 1e-20, 1e-9, 0.3], np.float32)},
        cross_entropy_of_nothing, ("cross_entropy_clipped",),
    ),
    "squared_error": Subject(
        _("squared error"), _("mean over all numbers"), {"z": waves(4, 3), "targets": waves(3, 4).T.copy()},
        squared_error, ("loss_summed",),
    ),
    "targets_broadcast": Subject(
        _("outputs (N, 1) against targets (N,)"), _("shapes are made alike"),
        {"z": waves(5, 1), "targets": 2 * waves(5)}, targets_broadcast, ("targets_broadcast",),
    ),
    "label_smoothing": Subject(
        _("label smoothing"), _("shared among all K classes"),
        {"z": 3 * waves(2, 5), "labels": np.array([3, 0]), "smoothing": 0.2}, label_smoothing,
        ("label_smoothing_others",),
    ),
    # backward
    "max_pool_ties": Subject(
        _("the gradient of equal maxima"), _("the first"), {"x": constant(1, 1, 4, 6, 1), "size": 2}, max_pool_ties,
        ("max_pool_ties_shared",),
    ),
    "leaky_relu_at_zero": Subject(
        _("leaky relu's derivative at 0"), _("the slope below 0"), {"x": floats(-1, 0, 1)}, leaky_relu_at_zero
    ),
    "clip_at_ends": Subject(
        _("a clip's derivative at its ends"), "", {"x": floats(-0.5, 0, 0.5, 1, 1.5), "low": 0.0, "high": 1.0},
        clip_at_ends,
    ),
    # gradients
    "l2": Subject(
        _("the gradient of an L2 penalty"), _("λ·w, of ½·λ·Σw²"), {"w": waves(5), "factor": 0.25}, l2,
        ("l2_without_half",),
    ),
    "adam_weight_decay": Subject(
        _("weight decay given to Adam"), _("added to the gradient (coupled)"),
        {"w": constant(2, 3) + waves(3), "gradients": waves(2, 3), "rate": 0.1, "factor": 0.5}, adam_weight_decay,
        ("decay_coupled", "decay_decoupled"),
    ),
    # statistics
    "batch_norm_momentum": Subject(
        _("batch normalisation's running mean"), _("{share:g} of the new batch", share=BatchNorm().momentum),
        {"x": BATCH}, batch_norm_momentum, ("batch_norm_momentum_keras", "batch_norm_momentum_swapped"),
    ),
    "batch_norm_variance": Subject(
        _("batch normalisation's running variance"), _("unbiased, n/(n − 1)"), {"x": 9 * BATCH}, batch_norm_variance,
        ("batch_norm_variance_biased",),
    ),
    "frozen_batch_norm": Subject(_("frozen batch normalisation in training"), "", {"x": BATCH}, frozen_batch_norm),
    # optimizers
    "clip_norm": Subject(
        _("the norm that is clipped"), _("of all gradients together"),
        {"gradients": [np.float32(1e-4) * waves(3), np.float32(3e-4) * waves(2, 2)], "limit": 1e-4}, clip_norm,
        ("clip_each",),
    ),
    "sgd_rate": Subject(_("SGD's learning rate"), f"{SGD().learning_rate:g}", ONE_STEP, plain_rate),
    "adam_rate": Subject(_("Adam's learning rate"), f"{Adam().learning_rate:g}", ONE_STEP, plain_rate),
    "rmsprop_rate": Subject(
        _("RMSprop's learning rate"), f"{RMSprop().learning_rate:g}",
        {"w": constant(0, 1), "gradients": constant(1, 2, 1)}, rmsprop_rate, ("rmsprop_rate",),
    ),
    "adam": Subject(
        _("Adam's ε"), _("ε {epsilon:g} {words}", epsilon=Adam().epsilon, words=ADAM_FORMS[Adam().epsilon_mode]),
        STEPS, adam, ("adam_epsilon", "adam_epsilon_hat", "adam_of_keras"),
    ),
    "adamw_decay": Subject(
        _("AdamW's decay"), _("{decay:g}, times the rate", decay=AdamW().weight_decay),
        {"w": 1 + waves(3), "gradients": constant(0, 1, 3), "rates": (80.0, 40.0)}, adamw_decay,
        ("adamw_decay_torch", "adamw_decay_keras", "adamw_decay_optax"),
    ),
    "decay_reach": Subject(
        _("what AdamW decays"), _("kernels"), {"kernel": 2 + waves(2, 3), "bias": 2 + waves(3), "rate": 80.0},
        decay_reach, ("decay_on_all",),
    ),
    "rmsprop": Subject(
        _("RMSprop"), _rmsprop(RMSprop().rho, RMSprop().epsilon, RMSprop().epsilon_mode), STEPS,
        rmsprop, ("rmsprop_epsilon", "rmsprop_epsilon_inside", "rmsprop_of_keras", "rmsprop_decay"),
    ),
    "adagrad_start": Subject(
        _("what Adagrad's sums begin with"), "", {"w": constant(0, 2), "gradients": columns(1, 0.1)}, adagrad_start
    ),
    "adagrad_epsilon": Subject(
        _("Adagrad's ε"), "", {"w": constant(0, 6), "gradients": columns(1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-10)},
        adagrad_epsilon,
    ),
    "momentum": Subject(_("momentum when the rate changes"), BUFFER, CHANGING, momentum, ("momentum_velocity",)),
    "nesterov": Subject(
        _("Nesterov's momentum when the rate changes"), BUFFER, CHANGING, nesterov, ("momentum_velocity",)
    ),
    # afterwards
    "reported_loss": Subject(
        _("the training loss that is reported"), _("mean over examples, as the steps were taken"),
        {"x": 1 + waves(8, 1), "targets": 2 - waves(8, 1), "batch": 3, "rate": 0.1}, reported_loss,
        ("last_batch_unweighted",),
    ),
}  # fmt: skip

# ------------------------------------------------------------------------------------------------------- interpretation

UNKNOWN = _("none of the known meanings")


def meaning(subject: str, seen: Seen) -> str:
    """The meaning that reproduces these numbers; "… or …" where several do, UNKNOWN where none does."""
    row = SUBJECTS[subject]
    found: list[str] = []
    # Numbers of a shape that no meaning has fit none.
    with np.errstate(all="ignore"), contextlib.suppress(IndexError, KeyError, TypeError, ValueError):
        found += (words for words, wanted in row.meanings(seen, **row.given) if reproduces(wanted, seen))
    return joined(dict.fromkeys(found), _(" or ")) if found else UNKNOWN


def reproduces(wanted: Wanted, seen: Seen) -> bool:
    """Whether names, shapes and values are the same, within rounding of each array's own size."""
    if wanted.keys() != seen.keys():
        return False
    for name, numbers in wanted.items():
        if callable(numbers):
            if not numbers(seen[name]):
                return False
        elif np.shape(numbers) != seen[name].shape or not _close(seen[name], np.asarray(numbers, np.float64)):
            return False
    return True


def _close(seen: np.ndarray, wanted: np.ndarray) -> bool:
    finite = np.abs(wanted[np.isfinite(wanted)])
    return bool(np.allclose(seen, wanted, ROUNDING, ROUNDING * 1e-3 * finite.max(initial=0.0)))
