"""NumPy's side: every function and operator is noted, and what is made again is the same until it is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.exchange.models.numpy import NumPy
from lockstep.exchange.models.records import Change, read_trace, write_trace
from lockstep.exchange.models.side import UserError

NET = """
import numpy as np


def parameters():
    drawn = np.random.default_rng(0)
    return {"table": drawn.normal(size=(11, 6)),
            "layers": [{"w": drawn.normal(size=(6, 5)), "b": drawn.normal(size=5)},
                       {"w": drawn.normal(size=(3, 5)), "b": drawn.normal(size=3)}]}


def forward(parameters, x):
    first, second = parameters["layers"]
    h = parameters["table"][x].mean(axis=1)
    h = np.maximum(h @ first["w"] + first["b"], 0)
    h = h.copy().astype(h.dtype)
    h -= h.max(axis=-1, keepdims=True)
    z = np.exp(h @ second["w"].T + second["b"])
    return z / np.sum(z, axis=-1, keepdims=True)


def alone(x):
    return x
"""
BATCH = np.random.default_rng(1).integers(0, 11, (4, 7))


@pytest.fixture
def side(tmp_path: Path) -> NumPy:
    (tmp_path / "numpy_net.py").write_text(NET)
    found = NumPy()
    found.load(tmp_path / "numpy_net.py", "forward", "float64")
    return found


def own_output(side: NumPy) -> np.ndarray:
    return side.module.forward(side.module.parameters(), BATCH)


def test_a_pass_is_the_functions_own(side: NumPy, tmp_path: Path) -> None:
    trace = side.trace([BATCH], "inference")
    assert np.array_equal(trace.tensors[trace.outputs[0]], own_output(side))
    kinds = [call.kind for call in trace.calls]
    assert kinds == [
        "__getitem__",
        "mean",
        "matmul",
        "add",
        "maximum",
        "max",
        "sub",
        "matmul",
        "add",
        "exp",
        "sum",
        "div",
    ]
    assert {call.where.text.partition(" ")[0] for call in trace.calls} == {"h", "z", "return"}
    assert trace.calls[1].arguments["axis"] == 1
    write_trace(trace, tmp_path, "trace")
    assert read_trace(tmp_path, "trace").calls == trace.calls


def test_units_have_their_canonical_layout(side: NumPy) -> None:
    side.trace([BATCH], "inference")
    found = {unit.name: (unit.role, unit.shape) for unit in side.description().units}
    assert found == {
        "table": ("table", (11, 6)), "layers.0.w": ("kernel", (6, 5)), "layers.0.b": ("bias", (5,)),
        "layers.1.w": ("kernel", (5, 3)), "layers.1.b": ("bias", (3,)),
    }  # fmt: skip


def test_units_put_back_change_nothing_and_others_do(side: NumPy) -> None:
    first = side.trace([BATCH], "inference")
    expected = first.tensors[first.outputs[0]]
    side.put(side.units())
    same = side.trace([BATCH], "inference")
    assert np.array_equal(same.tensors[same.outputs[0]], expected)
    for key, value in side.units().items():
        side.put({key: value * 1.5})
        other = side.trace([BATCH], "inference")
        assert np.abs(other.tensors[other.outputs[0]] - expected).max() > 1e-6, key
        side.put({key: value})
    with pytest.raises(UserError, match=r"table is \(11, 6\) and was given \(6, 11\)"):
        side.put({"table": np.zeros((6, 11))})


def test_every_call_made_again_gives_what_it_gave_until_it_is_changed(side: NumPy) -> None:
    trace = side.trace([BATCH], "inference")
    for call in trace.calls:
        assert np.array_equal(side.again(call.index, Change())[0], trace.tensors[call.outputs[0]]), call
    by_kind = {call.kind: call for call in trace.calls}
    mean, relu = by_kind["mean"], by_kind["maximum"]
    assert np.array_equal(
        side.again(mean.index, Change(arguments={"axis": 2}))[0], trace.tensors[mean.inputs[0]].mean(2)
    )
    assert side.signature(mean.index)["axis"] == 1
    x = trace.tensors[relu.inputs[0]]
    assert np.array_equal(side.again(relu.index, Change(arguments={"y": 0.5}))[0], np.maximum(x, 0.5))
    assert np.array_equal(
        side.again(relu.index, Change(order=(1, 0, 2, 3, 4)))[0], np.maximum(x[:, [1, 0, 2, 3, 4]], 0)
    )
    with pytest.raises(UserError, match="no argument axes"):
        side.again(mean.index, Change(arguments={"axes": 2}))


def test_a_change_in_a_pass_reaches_its_output(side: NumPy) -> None:
    trace = side.trace([BATCH], "inference")
    (relu,) = (call for call in trace.calls if call.kind == "maximum")
    other = side.trace([BATCH], "inference", [Change(call=relu.index, function="numpy.minimum", arguments={})])
    assert np.array_equal(other.tensors[relu.outputs[0]], np.minimum(trace.tensors[relu.inputs[0]], 0))
    assert not np.allclose(other.tensors[other.outputs[0]], trace.tensors[trace.outputs[0]])


@pytest.mark.parametrize(("name", "message"), [("alone", "no function of parameters"), ("forwards", "is not in")])
def test_what_is_no_model_is_said(side: NumPy, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        side.load(tmp_path / "numpy_net.py", name, "float64")


def test_float32_is_float32(side: NumPy, tmp_path: Path) -> None:
    side.load(tmp_path / "numpy_net.py", "forward", "float32")
    trace: Any = side.trace([BATCH], "inference")
    assert {str(value.dtype) for value in trace.tensors.values() if value.dtype.kind == "f"} == {"float32"}
