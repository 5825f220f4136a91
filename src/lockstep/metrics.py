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
    per_class (precision, recall, f1, support), macro, weighted, confusion (rows: labels; columns: predictions).
    """
    from sklearn import metrics

    classes = np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    found = metrics.precision_recall_fscore_support
    rows = found(labels, predicted, labels=classes, zero_division=0.0)
    keys = ("precision", "recall", "f1", "support")
    averages = {
        average: dict(
            zip(keys[:3], found(labels, predicted, labels=classes, average=average, zero_division=0.0), strict=False)
        )
        for average in ("macro", "weighted")
    }
    log_loss = None
    if recipe.loss != "mean_squared_error" and np.isfinite(logits).all():
        probabilities = np.exp(log_softmax(logits))
        log_loss = float(
            metrics.log_loss(labels, probabilities / probabilities.sum(axis=1, keepdims=True), labels=classes)
        )
    return {
        "accuracy": accuracy(logits, labels),
        "loss": mean_loss(logits, labels, recipe),
        "log_loss": log_loss,
        "per_class": [dict(zip(keys, row, strict=True)) for row in zip(*rows, strict=True)],
        **averages,
        "confusion": metrics.confusion_matrix(labels, predicted, labels=classes),
    }
