"""Losses as formulas in float64, with all that frameworks do otherwise as a field; and which of them a number is.

A loss is told by reproduction alone: of all forms that people use, the ones that give the side's own number, on labels
and outputs that were drawn. So it does not matter how it was written, or in which framework.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

CLIPS = (1e-7, 1e-8, 1e-12)  # at which frameworks cut probabilities


@dataclasses.dataclass(frozen=True)
class Form:
    """One loss."""

    kind: str  # "cross entropy", "binary cross entropy", "squared error", "absolute error", "huber", "KL divergence"
    takes: str = ""  # "logits", "probabilities", "log-probabilities", what the outputs are taken for
    reduction: str = "mean"  # "mean", "sum", "batch": the sum of each example, averaged
    smoothing: float = 0.0
    ignored: int | None = None
    weights: tuple[float, ...] = ()  # of classes
    divisor: str = "count"  # of a mean: "count" of labels, their "weights", or "all", ignored ones too
    clip: float = 0.0  # where probabilities are cut
    cut: str = "after"  # they are made to sum up to 1; or "before"
    delta: float = 1.0  # Huber's
    factor: float = 1.0
    others: bool = False  # smoothing is given to the other classes alone
    broadcast: bool = False  # every output is compared with every label

    @property
    def departures(self) -> int:
        """How far it is from the plain one of its kind: of several that fit, the plainest is told."""
        plain = Form(self.kind, self.takes)
        return sum(getattr(self, field.name) != getattr(plain, field.name) for field in dataclasses.fields(Form))


def value(form: Form, outputs: np.ndarray, labels: np.ndarray) -> float:
    """The loss; outputs (…, classes), labels (…) whole numbers, or real ones in the shape of the outputs."""
    with np.errstate(all="ignore"):
        if form.kind == "cross entropy":
            return _cross_entropy(form, outputs, labels)
        return form.factor * _reduced(form, _each(form, outputs, labels), 1.0)


def _cross_entropy(form: Form, outputs: np.ndarray, labels: np.ndarray) -> float:
    n = outputs.shape[-1]
    targets = labels if labels.shape == outputs.shape else np.eye(n)[np.clip(labels, 0, n - 1).astype(int)]
    of_label = targets.argmax(-1)
    s = form.smoothing
    if s and form.others:
        targets = (1 - s) * targets + s / (n - 1) * (1 - targets)
    elif s:
        targets = (1 - s) * targets + s / n
    weights = np.asarray(form.weights) if len(form.weights) == n else np.ones(n)
    each = -(weights * targets * _log(form, outputs)).sum(-1)
    left = np.ones(of_label.shape, bool) if form.ignored is None else of_label != form.ignored
    if form.reduction != "mean":
        return form.factor * float((each * left).sum()) / (len(outputs) if form.reduction == "batch" else 1)
    divisors = {"count": left.sum(), "all": left.size, "weights": (weights[of_label] * left).sum()}
    return form.factor * float((each * left).sum() / divisors[form.divisor])


def _log(form: Form, z: np.ndarray) -> np.ndarray:
    """Log-probabilities, by what the outputs are taken for."""
    if form.takes == "log-probabilities":
        return z
    if form.takes == "probabilities":
        if form.cut == "before":
            p = np.clip(z, form.clip, 1 - form.clip)
            return np.log(p) - np.log(p.sum(-1, keepdims=True))
        p = z / z.sum(-1, keepdims=True) if form.clip else z
        return np.log(np.clip(p, form.clip, 1 - form.clip) if form.clip else p)
    shifted = z - z.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _each(form: Form, z: np.ndarray, t: np.ndarray) -> np.ndarray:
    """The loss of every entry."""
    if t.shape != z.shape:
        t = np.eye(z.shape[-1])[t.astype(int)] if z.shape[:-1] == t.shape and z.shape[-1] > 1 else t.reshape(z.shape)
    if form.broadcast:
        z, t = z[:, None], t[None]
    d = z - t
    if form.kind == "squared error":
        return d**2
    if form.kind == "absolute error":
        return np.abs(d)
    if form.kind == "huber":
        size = np.abs(d)
        return np.where(size <= form.delta, 0.5 * d**2, form.delta * (size - 0.5 * form.delta))
    if form.kind == "log cosh":
        return np.logaddexp(d, -d) - np.log(2)
    if form.kind == "KL divergence":
        log_q = z if form.takes == "log-probabilities" else np.log(np.clip(z, 1e-7, 1))
        own = np.where(t > 0, t * np.log(np.where(t > 0, t, 1)), 0.0)
        return own - t * log_q
    t = (1 - form.smoothing) * t + form.smoothing / 2
    if form.takes == "logits":
        return np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z)))
    p = np.clip(z, form.clip, 1 - form.clip) if form.clip else z
    return -(t * np.maximum(np.log(p), -100) + (1 - t) * np.maximum(np.log(1 - p), -100))


def _reduced(form: Form, each: np.ndarray, divisor: float) -> float:
    if form.reduction == "sum":
        return float(each.sum() / divisor)
    return float(each.mean() if form.reduction == "mean" else each.sum() / len(each))


def forms(numbers: Iterable[float], lists: Iterable[Sequence[float]], n: int) -> Iterator[Form]:
    """Every form that is tried; `numbers` and `lists` are those among a loss's own arguments, `n` the classes."""
    numbers = [float(x) for x in numbers]
    smooth = dict.fromkeys([0.0, *(x for x in numbers if 0 < x < 1), 0.1, 0.05, 0.2])
    ignored = dict.fromkeys([None, *(int(x) for x in numbers if x == int(x) and 0 <= x < n)])
    weights = dict.fromkeys([(), *(tuple(map(float, each)) for each in lists if len(each) == n)])
    reductions = ("mean", "sum", "batch")
    taken = (("logits", (0.0,)), ("probabilities", (0.0, *CLIPS)), ("log-probabilities", (0.0,)))
    for takes, clips in taken if n > 1 else ():
        for clip, reduction, s, i, w in itertools.product(clips, reductions, smooth, ignored, weights):
            divisors = ["count", *(["weights"] if w else []), *(["all"] if i is not None else [])]
            for divisor in divisors if reduction == "mean" else ["count"]:
                for others in (False, True) if s else (False,):
                    form = Form("cross entropy", takes, reduction, s, i, w, divisor, clip, others=others)
                    yield form
                    if clip:
                        yield dataclasses.replace(form, cut="before")
    for clip, reduction, s in itertools.product((0.0, *CLIPS), reductions, smooth):
        yield Form("binary cross entropy", "probabilities", reduction, s, clip=clip)
        if not clip:
            yield Form("binary cross entropy", "logits", reduction, s)
    for reduction, factor, broadcast in itertools.product(reductions, (1.0, 0.5, 2.0), (False, True)):
        yield Form("squared error", reduction=reduction, factor=factor, broadcast=broadcast)
        yield Form("absolute error", reduction=reduction, factor=factor, broadcast=broadcast)
    for reduction, delta in itertools.product(reductions, dict.fromkeys([1.0, *(x for x in numbers if x > 0), 0.5])):
        yield Form("huber", reduction=reduction, delta=delta)
        yield Form("huber", reduction=reduction, delta=delta, factor=1 / delta)  # smooth L1
    for reduction in reductions:
        yield Form("log cosh", reduction=reduction)
        for takes in ("log-probabilities", "probabilities"):
            yield Form("KL divergence", takes, reduction)


def fitting(
    found: float, tolerance: float, outputs: np.ndarray, labels: np.ndarray, tried: Iterable[Form]
) -> list[Form]:
    """The forms that give this number within `tolerance`, the plainest first."""
    fit = [form for form in dict.fromkeys(tried) if abs(value(form, outputs, labels) - found) <= tolerance]
    return sorted(fit, key=lambda form: form.departures)


def slope(form: Form, outputs: np.ndarray, labels: np.ndarray, direction: np.ndarray, step: float) -> float:
    """Along a direction, by central differences."""
    ends = [value(form, outputs + h * direction, labels) for h in (step, -step)]
    return (ends[0] - ends[1]) / (2 * step)
