"""Metrics against numbers that were computed by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lockstep.spec import Recipe
from lockstep.training import metrics

CROSS_ENTROPY, SQUARED = Recipe(), Recipe(loss="mean_squared_error")

# Six examples of three classes. Predictions by hand: 0, 0, 1, 1, 2 and, of two equal ones, the first: 0.
LOGITS = np.log(
    [[0.5, 0.25, 0.25], [0.5, 0.3, 0.2], [0.1, 0.8, 0.1], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6], [0.4, 0.4, 0.2]]
)
LABELS = np.array([0, 1, 1, 1, 2, 0])


def test_the_example_comes_out_as_by_hand():
    found = metrics.evaluate(LOGITS, LABELS, CROSS_ENTROPY)
    chances = [0.5, 0.3, 0.8, 0.5, 0.6, 0.4]
    log_loss = -sum(map(math.log, chances)) / 6
    assert found["accuracy"] == pytest.approx(5 / 6, rel=1e-15)
    assert found["loss"] == pytest.approx(log_loss, rel=1e-12)
    assert found["log_loss"] == pytest.approx(log_loss, rel=1e-12)
    assert found["confusion"].tolist() == [[2, 0, 0], [1, 2, 0], [0, 0, 1]]
    by_hand = [(2 / 3, 1, 4 / 5, 2), (1, 2 / 3, 4 / 5, 3), (1, 1, 1, 1)]
    for row, wanted in zip(found["per_class"], by_hand, strict=True):
        assert tuple(row.values()) == pytest.approx(wanted, rel=1e-12)
        assert tuple(row) == ("precision", "recall", "f1", "support")
    assert found["macro"] == pytest.approx({"precision": 8 / 9, "recall": 8 / 9, "f1": 13 / 15}, rel=1e-12)
    weighted = {"precision": (2 * 2 / 3 + 3 + 1) / 6, "recall": 5 / 6, "f1": (2 * 0.8 + 3 * 0.8 + 1) / 6}
    assert found["weighted"] == pytest.approx(weighted, rel=1e-12)


def test_a_swapped_label_changes_everything():
    found, other = (metrics.evaluate(LOGITS, labels, CROSS_ENTROPY) for labels in (LABELS, LABELS[::-1]))
    for key in ("accuracy", "loss", "log_loss", "per_class", "macro", "weighted"):
        assert found[key] != other[key], key
    assert found["confusion"].tolist() != other["confusion"].tolist()


def test_mean_squared_error_is_the_mean_over_examples_and_classes():
    outputs = np.array([[0.9, 0.2], [0.1, 0.5]])
    found = metrics.evaluate(outputs, np.array([0, 1]), SQUARED)
    assert found["loss"] == pytest.approx((0.1**2 + 0.2**2 + 0.1**2 + 0.5**2) / 4, rel=1e-12)
    assert found["log_loss"] is None
    assert found["accuracy"] == 1


def test_label_smoothing_does_not_change_what_is_reported():
    smoothed = Recipe(label_smoothing=0.3)
    assert metrics.mean_loss(LOGITS, LABELS, smoothed) == metrics.mean_loss(LOGITS, LABELS, CROSS_ENTROPY)


def test_smoothed_targets_are_those_of_szegedy():
    found = metrics.targets(np.array([1, 0]), 4, 0.2)
    np.testing.assert_allclose(found, [[0.05, 0.85, 0.05, 0.05], [0.85, 0.05, 0.05, 0.05]], rtol=1e-15)
    assert found.dtype == np.float64


def test_a_class_without_examples_or_predictions_counts_as_zero():
    found = metrics.evaluate(LOGITS[:2], np.array([0, 0]), CROSS_ENTROPY)
    assert found["per_class"][2] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
    assert found["confusion"].shape == (3, 3)


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(np.float32, (23, 5), elements=st.floats(-50, 50, width=32)),
    npst.arrays(np.int64, 23, elements=st.integers(0, 4)),
)
def test_everything_agrees_with_scikit_learn(logits, labels):
    from sklearn import metrics as judge

    found = metrics.evaluate(logits, labels, CROSS_ENTROPY)
    predicted = [max(range(5), key=lambda k, row=row: (row[k], -k)) for row in logits.tolist()]
    assert found["accuracy"] == pytest.approx(judge.accuracy_score(labels, predicted), abs=1e-15)
    np.testing.assert_array_equal(found["confusion"], judge.confusion_matrix(labels, predicted, labels=range(5)))
    report = judge.classification_report(labels, predicted, labels=range(5), output_dict=True, zero_division=0.0)
    for index, row in enumerate(found["per_class"]):
        wanted = report[str(index)]
        assert list(row.values()) == pytest.approx([wanted[k] for k in ("precision", "recall", "f1-score", "support")])
    chances = np.exp(logits.astype(float) - logits.astype(float).max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    assert found["log_loss"] == pytest.approx(judge.log_loss(labels, chances, labels=range(5)), rel=1e-9)
    averages = judge.classification_report(labels, predicted, output_dict=True, zero_division=0.0)
    for average in ("macro", "weighted"):  # over the classes that occur
        wanted = averages[f"{average} avg"]
        assert list(found[average].values()) == pytest.approx([wanted[k] for k in ("precision", "recall", "f1-score")])


@st.composite
def with_gaps(draw):
    """(labels, predicted, classes) where some classes occur among the labels, some among the answers, some nowhere."""
    classes = draw(st.integers(2, 27))
    some = st.lists(st.integers(0, classes - 1), min_size=1, max_size=classes, unique=True)
    n = draw(st.integers(1, 40))
    labels, predicted = (draw(st.lists(st.sampled_from(draw(some)), min_size=n, max_size=n)) for _ in range(2))
    return np.array(labels), np.array(predicted), classes


def averages_agree(found, labels, predicted) -> bool:
    from sklearn.metrics import precision_recall_fscore_support as judge

    return all(
        list(found[average].values())
        == pytest.approx(judge(labels, predicted, average=average, zero_division=0.0)[:3], abs=1e-12)
        for average in ("macro", "weighted")
    )


@settings(max_examples=150, deadline=None)
@given(with_gaps())
def test_averages_are_scikit_learns_over_labels_with_gaps(drawn):
    labels, predicted, classes = drawn
    assert averages_agree(metrics.evaluate(np.eye(classes)[predicted], labels, CROSS_ENTROPY), labels, predicted)


def test_a_mean_over_classes_that_do_not_occur_is_caught():
    """Labels 1 to 26 of 27 classes, as EMNIST's letters have them: class 0 is no zero among the others."""
    labels = np.tile(np.arange(1, 27), 3)
    predicted = np.where(np.arange(78) % 3 == 0, labels, 1 + labels % 26)
    found = metrics.evaluate(np.eye(27)[predicted], labels, CROSS_ENTROPY)
    assert averages_agree(found, labels, predicted)
    over_all = {key: float(np.mean([row[key] for row in found["per_class"]])) for key in found["macro"]}
    assert over_all["f1"] == pytest.approx(found["macro"]["f1"] * 26 / 27)
    assert not averages_agree({**found, "macro": over_all}, labels, predicted)


@settings(max_examples=60, deadline=None)
@given(npst.arrays(np.float64, (7, 5), elements=st.floats(-1e4, 1e4)), st.floats(-1e4, 1e4))
def test_log_softmax_is_a_distribution_and_ignores_a_shift(logits, shift):
    found = metrics.log_softmax(logits)
    assert found.dtype == np.float64
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(metrics.log_softmax(logits + shift), found, atol=1e-9)


def test_log_softmax_of_enormous_logits_does_not_overflow():
    found = metrics.log_softmax(np.array([[1e30, 0.0, -1e30]], np.float32))
    assert found[0, 0] == 0
    assert np.isfinite(found).all()


def test_the_loss_is_computed_in_float64_whatever_the_logits_are():
    logits = np.array([[16.0, 0.0, 0.0]], np.float32)
    exact = math.log1p(2 * math.exp(-16))
    assert metrics.mean_loss(logits, np.array([0]), CROSS_ENTROPY) == pytest.approx(exact, rel=1e-8)
    in_float32 = float(np.log(np.float32(1) + np.float32(2 * math.exp(-16))))
    assert in_float32 != pytest.approx(exact, rel=1e-8), "float32 would be seen"


def logits_with(value: float) -> np.ndarray:
    logits = LOGITS.copy()
    logits[3, 2] = value
    return logits


@pytest.mark.parametrize(
    ("recipe", "value"),
    [
        (CROSS_ENTROPY, math.nan),
        (CROSS_ENTROPY, math.inf),
        (SQUARED, math.nan),
        (SQUARED, math.inf),
    ],
)
def test_logits_that_are_no_numbers_give_no_finite_loss_and_no_exception(recipe, value):
    found = metrics.evaluate(logits_with(value), LABELS, recipe)
    assert not math.isfinite(found["loss"])
    assert found["log_loss"] is None
    assert found["confusion"].sum() == 6
    assert found["accuracy"] == pytest.approx(4 / 6)


def test_all_logits_nan_is_survived():
    found = metrics.evaluate(np.full((6, 3), np.nan), LABELS, CROSS_ENTROPY)
    assert math.isnan(found["loss"])
    assert found["log_loss"] is None
