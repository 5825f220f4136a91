"""Logits and labels → numbers. Loss and accuracy are computed here for every backend alike, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from lockstep.spec import Recipe


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """log softmax over the last axis, in float64; logits (n, classes)."""
    with np.errstate(invalid="ignore"):  # a training that diverged ends in infinities: the answer is NaN
        shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
        return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def targets(labels: np.ndarray, classes: int, label_smoothing: float = 0.0) -> np.ndarray:
    """One-hot rows (n, classes) float64, smoothed: (1 − s)·onehot + s/classes (Szegedy et al. 2016)."""
    return (1 - label_smoothing) * np.eye(classes)[labels] + label_smoothing / classes


def mean_loss(logits: np.ndarray, labels: np.ndarray, recipe: Recipe) -> float:
    """The recipe's loss, the mean over all examples; without label smoothing, which belongs to training alone."""
    if recipe.loss == "mean_squared_error":
        return float(np.square(logits.astype(np.float64) - targets(labels, logits.shape[1])).mean())
    return float(losses(logits, labels, recipe).mean())


def losses(logits: np.ndarray, labels: np.ndarray, recipe: Recipe) -> np.ndarray:
    """The recipe's loss of each example, (n,) float64; without label smoothing."""
    wanted = targets(labels, logits.shape[1])
    if recipe.loss == "mean_squared_error":
        return np.asarray(np.square(logits.astype(np.float64) - wanted).mean(axis=1))
    logs = log_softmax(logits)
    if recipe.loss == "cross_entropy_clipped":
        logs = np.log(np.clip(np.exp(logs), 1e-7, 1 - 1e-7))
    elif recipe.loss == "cross_entropy_softmax_twice":
        logs = log_softmax(np.exp(logs))
    return np.asarray(-(wanted * logs).sum(axis=1))


def hardest(logits: np.ndarray, labels: np.ndarray, recipe: Recipe, n: int) -> np.ndarray:
    """Indices of the n examples with the largest loss, the hardest first; an answer that is no number comes before."""
    with np.errstate(invalid="ignore"):
        found = losses(logits, labels, recipe)
    return np.argsort(-np.nan_to_num(found, nan=np.inf), kind="stable")[:n]


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of examples whose largest logit (the first among equals) is their label's."""
    return float((logits.argmax(axis=1) == labels).mean())


def evaluate(logits: np.ndarray, labels: np.ndarray, recipe: Recipe) -> dict[str, Any]:
    """Everything that is said of a set of predictions: logits (n, classes), labels (n,).

    Keys: accuracy, loss, log_loss (None unless the loss is cross-entropy: other outputs are no probabilities),
    per_class (precision, recall, f1, support), macro (the mean over the classes that occur among labels or
    predictions), weighted, confusion (rows: labels; columns: predictions).
    They mean what they mean in scikit-learn, whose import would take longer than a short run.
    """
    confusion = confusion_matrix(logits.argmax(axis=1), labels, logits.shape[1])
    right, support, predicted = confusion.diagonal(), confusion.sum(axis=1), confusion.sum(axis=0)
    rates = {
        "precision": _share(right, predicted),
        "recall": _share(right, support),
        "f1": _share(2 * right, support + predicted),
    }
    occurs = support + predicted > 0  # a class that nobody has seen or named is no zero in a mean over classes
    rows = zip(*rates.values(), support, strict=True)
    return {
        "accuracy": accuracy(logits, labels),
        "loss": mean_loss(logits, labels, recipe),
        "log_loss": None if recipe.loss == "mean_squared_error" else log_loss(logits, labels),
        "per_class": [dict(zip((*rates, "support"), row, strict=True)) for row in rows],
        "macro": {name: float(rate[occurs].mean()) for name, rate in rates.items()},
        "weighted": {name: float(np.average(rate, weights=support)) for name, rate in rates.items()},
        "confusion": confusion,
    }


def means_over_all(found: dict[str, Any]) -> dict[str, float]:
    """Macro averages of `evaluate` with 0 for classes that do not occur, as runs of before had them."""
    rows = found["per_class"]
    return {name: float(np.mean([row[name] for row in rows])) for name in found["macro"]}


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """How many examples of each label (rows) were predicted as each class (columns): (classes, classes)."""
    return np.bincount(labels.astype(np.intp) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float | None:
    """The mean negative log of the softmax probability of the label, none below float64's ε; None for infinities."""
    if not np.isfinite(logits).all():
        return None
    probabilities = np.exp(log_softmax(logits))
    chosen = probabilities[np.arange(len(labels)), labels] / probabilities.sum(axis=1)
    epsilon = np.finfo(np.float64).eps
    return float(-np.log(chosen.clip(epsilon, 1 - epsilon)).mean())


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part ÷ whole, and 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole != 0)
