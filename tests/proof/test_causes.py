"""Every known difference, planted in every backend, is found, placed and named; without a plant nothing is.

`planted` is the table. Each trace is made by the backend's own process and judged once, here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends import numpy as reference
from lockstep.backends.numpy import layers
from lockstep.proof import traces, verdicts
from lockstep.proof.causes import CAUSES
from lockstep.proof.traces import Trace
from lockstep.store.documents.proof import Divergence
from support import plants as table

BACKENDS = list(backends.BACKENDS)
# Some plants make training diverge, and the judge follows.
pytestmark = pytest.mark.filterwarnings(
    "ignore:overflow encountered:RuntimeWarning", "ignore:invalid value encountered:RuntimeWarning"
)


def judged(found: Trace, case: str, dtype: str = "") -> list[Divergence]:
    """The divergences of a trace of this case."""
    result = verdicts.judged(found, table.proof_case(case, dtype))
    assert result.findings
    assert result.verdict == ("DIVERGED" if result.divergences else "EQUAL")
    return result.divergences


def trace_of(planted_traces: Callable[[str], dict[str, Any]], backend: str, name: str) -> Trace:
    found = planted_traces(backend)[name]
    assert isinstance(found, Trace), found
    return found


def assert_is_found_first(divergences: list[Divergence], cause: str) -> None:
    """Found, in its place, at its step, and named."""
    plant = table.PLANTS[cause]
    assert divergences, f"{cause} was not found"
    first = divergences[0]
    assert (first.stage, first.where, first.step) == (CAUSES[cause].stage, plant.where, plant.step), first
    assert any(cause in names.split(" + ") for names in first.causes), first
    assert cause in {row.cause for row in first.explained}


def assert_all_is_explained(divergences: list[Divergence]) -> None:
    unexplained = [item for item in divergences if item.causes == ("unexplained",)]
    assert not unexplained, unexplained


# ------------------------------------------------------------------------------------------------------- one at a time


def test_every_cause_has_a_case_on_which_it_is_planted():
    assert not CAUSES.keys() - table.PLANTS.keys(), "planted.PLANTS has no row for these"
    assert not table.PLANTS.keys() - CAUSES.keys(), "these are no causes"
    assert len(CAUSES) >= 30


def test_nothing_is_impossible_to_plant():
    assert table.IMPOSSIBLE == {}


@pytest.mark.parametrize("cause", CAUSES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_planted_cause_is_found_placed_and_named(backend, cause, planted_traces):
    divergences = judged(trace_of(planted_traces, backend, cause), table.PLANTS[cause].case)
    assert_is_found_first(divergences, cause)
    assert_all_is_explained(divergences)


@pytest.mark.parametrize("case", table.CASES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_plant_nothing_diverges(backend, case, planted_traces):
    assert judged(trace_of(planted_traces, backend, case), case) == []


@pytest.mark.parametrize("case", table.CASES)
def test_a_place_is_judged_once_a_step_and_alone_as_with_all_others(case, planted_traces):
    """A cause is tried on one place of one step, and what comes after it there is not worked out."""
    found, judge = trace_of(planted_traces, "numpy", case), table.proof_case(case).judge
    findings = list(judge.findings(found))
    places = [(finding.place, finding.step) for finding in findings]
    assert len(set(places)) == len(places) > 0
    for finding in findings:
        if finding.step is not None and finding.stage not in ("training", "whole epoch"):
            assert judge.again(found, finding.place, [finding.step]) == [finding]


@pytest.mark.parametrize("cause", [cause for cause in CAUSES if cause not in table.FLOAT32_ONLY])
def test_a_planted_cause_is_found_placed_and_named_in_float64(cause, tmp_path):
    case = table.PLANTS[cause].case
    found = table.write_trace(tmp_path / "trace", case, "numpy", (cause,), "float64")
    divergences = judged(found, case, "float64")
    assert_is_found_first(divergences, cause)
    assert_all_is_explained(divergences)


@pytest.mark.parametrize("case", table.CASES)
def test_without_a_plant_nothing_diverges_in_float64(case, tmp_path):
    assert judged(table.write_trace(tmp_path / "trace", case, "numpy", (), "float64"), case, "float64") == []


# ---------------------------------------------------------------------------------------------------------- two at once


def assert_both_are_named(divergences: list[Divergence], pair: tuple[str, str]) -> None:
    assert_is_found_first(divergences, pair[0])
    assert any(pair[1] in names.split(" + ") for item in divergences for names in item.causes), divergences


def test_there_are_fifty_pairs():
    assert len(set(table.PAIRS)) == 50


@pytest.mark.parametrize("pair", table.PAIRS, ids="+".join)
def test_of_two_planted_causes_the_first_is_named_first_and_the_second_too(pair, tmp_path):
    case = table.PLANTS[pair[0]].case
    assert_both_are_named(judged(table.write_trace(tmp_path / "trace", case, "numpy", pair), case), pair)


@pytest.mark.parametrize("pair", table.FEW_PAIRS, ids="+".join)
@pytest.mark.parametrize("backend", BACKENDS)
def test_two_planted_causes_are_named_in_every_backend(backend, pair, planted_traces):
    found = trace_of(planted_traces, backend, "+".join(pair))
    assert_both_are_named(judged(found, table.PLANTS[pair[0]].case), pair)


# -------------------------------------------------------------------------------------------- where less was looked at


@pytest.fixture
def few_observed(monkeypatch):
    """Every update is kept, but the layers of the first and the last step alone are observed."""
    everything = list(range(table.STEPS))
    monkeypatch.setattr(traces, "kept_and_observed", lambda plan, steps, n_train: (everything, [0, table.STEPS - 1]))


@pytest.fixture
def few_kept(monkeypatch):
    """Three updates are kept, and the layers of two steps observed."""
    last = table.STEPS - 1
    monkeypatch.setattr(traces, "kept_and_observed", lambda plan, steps, n_train: ([0, last - 1, last], [0, last]))


@pytest.mark.parametrize("looked_at", ["few_observed", "few_kept"])
@pytest.mark.parametrize("case", table.CASES)
def test_nothing_diverges_where_less_is_looked_at(case, looked_at, tmp_path, request):
    request.getfixturevalue(looked_at)
    assert judged(table.write_trace(tmp_path / "trace", case, "numpy"), case) == []


@pytest.mark.parametrize("looked_at", ["few_observed", "few_kept"])
@pytest.mark.parametrize("cause", ["same_padding_before", "gelu_tanh", "loss_summed", "adam_epsilon_hat"])
def test_a_planted_cause_is_named_where_less_is_looked_at(cause, looked_at, tmp_path, request):
    request.getfixturevalue(looked_at)
    case = table.PLANTS[cause].case
    divergences = judged(table.write_trace(tmp_path / "trace", case, "numpy", (cause,)), case)
    assert_is_found_first(divergences, cause)
    assert_all_is_explained(divergences)


# --------------------------------------------------------------------------------------------------- what nobody knows


def written_with(tmp_path, monkeypatch, case: str, kind: str, layer: Callable[..., Any]) -> Trace:
    """A trace of the NumPy backend with another layer in the place of its own, which the judge does not share."""
    with monkeypatch.context() as patch:
        patch.setitem(reference.LAYERS, kind, layer)
        return table.write_trace(tmp_path / "trace", case, "numpy")


def with_a_larger_bias(row: Any, x: np.ndarray, on: Any) -> layers.Layer:
    """A dense layer whose bias is 1.001 times itself."""
    y, backward = layers.dense(row, x, on)
    bias = on.parameters.get(f"{row.name}/bias")
    return y if bias is None else y + bias * x.dtype.type(0.001), backward


def from_the_right(row: Any, x: np.ndarray, on: Any) -> layers.Layer:
    """A max-pooling that gives the gradient to the last of several maxima: the first in the image turned round."""
    y, _ = layers.max_pool2d(row, x, on)
    (high, wide), _ = row.layer.window()
    rows, columns, _ = row.output_shape

    def backward(dy: np.ndarray, wants_dx: bool) -> np.ndarray | None:
        used = x[:, : rows * high, : columns * wide]
        _, turned = layers.max_pool2d(row, used[:, ::-1, ::-1], on)
        dx = np.zeros_like(x)
        dx[:, : rows * high, : columns * wide] = np.asarray(turned(dy[:, ::-1, ::-1], True))[:, ::-1, ::-1]
        return dx

    return y, backward


def with_nan(row: Any, x: np.ndarray, on: Any) -> layers.Layer:
    """A GELU that is not a number."""
    y, backward = layers.gelu(row, x, on)
    return y * np.nan, backward


def test_an_unknown_forward_difference_is_found_at_its_layer_and_said_to_be_unexplained(tmp_path, monkeypatch):
    # At the first step every bias is zero.
    divergences = judged(written_with(tmp_path, monkeypatch, "image", "dense", with_a_larger_bias), "image")
    first = divergences[0]
    assert (first.stage, first.where, first.step) == ("forward", "4_dense", 1)
    assert first.causes == ("unexplained",)
    assert first.explained == ()


def test_an_unknown_backward_difference_is_found_at_its_layer_and_said_to_be_unexplained(tmp_path, monkeypatch):
    divergences = judged(written_with(tmp_path, monkeypatch, "ties", "max_pool2d", from_the_right), "ties")
    # The layer is named that computed, and not the one before it, which received.
    assert [(item.stage, item.where, item.step) for item in divergences] == [("backward", "2_max_pool2d", 0)]
    assert divergences[0].causes == ("unexplained",)


def test_an_unknown_difference_beside_a_known_one_is_found_and_said_to_be_unexplained(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(reference.LAYERS, "dense", with_a_larger_bias)
        found = table.write_trace(tmp_path / "trace", "flat", "numpy", ("gelu_tanh",))
    divergences = {(item.stage, item.where): item.causes for item in judged(found, "flat")}
    assert divergences["forward", "3_gelu"] == ("gelu_tanh",)
    assert divergences["forward", "5_dense"] == ("unexplained",)


def test_a_network_full_of_nan_is_named_at_its_first_place(tmp_path, monkeypatch):
    first, *_ = judged(written_with(tmp_path, monkeypatch, "flat", "gelu", with_nan), "flat")
    assert (first.stage, first.where, first.step) == ("forward", "3_gelu", 0)
    assert first.problem.startswith("it holds nan at [0, 0]")
    assert first.causes == ("unexplained",)
