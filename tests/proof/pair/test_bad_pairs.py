"""Two models that cannot be compared, or that are not of one shape: told apart from rounding, with what to do."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from lockstep import LockstepError
from lockstep.exchange.models.records import Trace
from lockstep.proof.pair import batches, difference, outputs

NET = """
import numpy as np


def parameters():
    drawn = np.random.default_rng(0)
    return {"w": drawn.normal(size=(6, 5)), "b": drawn.normal(size=5), "v": drawn.normal(size=(5, 3))}


def forward(parameters, x):
    h = np.maximum(x @ parameters["w"] + parameters["b"], 0)
    y = h @ parameters["v"]
    return y
"""
WIDE = NET.replace("(6, 5)", "(6, 11)").replace("size=5", "size=11").replace("(5, 3)", "(11, 4)")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.py").write_text(NET)
    return f"{folder}/net.py:forward"


def compared(net, tmp_path, text, **asked):
    (tmp_path / "port.py").write_text(text)
    return difference.compare(net, f"{tmp_path}/port.py:forward", **({"input_shape": (6,)} | asked))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("return y", 'return {"y": y, "h": h}', "the first gives 1 outputs, the second 2"),
        ("return y", "y * 2\n    return h", "the models return other tensors of theirs: numpy.matmul | numpy.maximum"),
        ("return y", "return np.argmax(y, axis=1)", "the second goes on where the first has ended: argmax"),
        ("return y", "return np.exp(y) + 1", "the second goes on where the first has ended: exp, add"),
        ("    y = h", "    h = np.where(h > 0.5, np.nan, h)\n    y = h", "are NaN or infinite in the second, and none"),
    ],
)
def test_what_no_argument_explains_is_said_in_words_and_never_called_equal(net, tmp_path, old, new, words):
    found = compared(net, tmp_path, NET.replace(old, new))
    assert found.verdict == "DIVERGED"
    assert words in found.findings[0].cause
    assert found.findings[0].error is None
    assert found.findings[0].places[0].line_b.startswith("port.py:")


def test_two_models_that_share_nothing_are_told_by_what_is_most_alike(net, tmp_path):
    with pytest.raises(LockstepError, match=r"LS-210 .*share no parameter; most alike are w \(6, 5\) \| v \(11, 4\)"):
        compared(net, tmp_path, WIDE)


def test_parameters_that_are_left_over_are_named_side_by_side(net, tmp_path):
    more = NET.replace("    return {", '    return {"spare": drawn.normal(size=(2, 2)), ')
    told = [str(text) for text in compared(net, tmp_path, more).not_observed]
    assert "parameters without a partner: – | spare" in told


def test_a_model_that_says_nothing_of_its_inputs_asks_for_them(net, tmp_path):
    with pytest.raises(LockstepError, match="nothing says what inputs it takes") as refused:
        compared(net, tmp_path, NET, input_shape=None)
    assert "--input 3,32,32" in str(refused.value)


SHAPES = [((9, 7, 7), True), ((9, 3, 7), False), ((9, 5, 5, 5), True), ((9, 6), False)]


@pytest.mark.parametrize(("shape", "is_either"), SHAPES)
def test_a_batch_that_both_layouts_would_accept_is_known(shape, is_either):
    value = np.random.default_rng(0).normal(size=shape)
    assert batches.is_either_way(value, batches.with_channels(value, to_last=True)) == is_either


def test_outputs_in_another_order_are_the_same_outputs():
    x = np.arange(6.0)
    a, b = Trace((), {0: x, 1: x * 2}, (), (0, 1)), Trace((), {0: x * 2, 1: x}, (), (0, 1))
    assert outputs.contradiction((a, b), {0: [1], 1: [0]}) == ""
    assert outputs.contradiction((a, b), {0: [1], 1: [1]}) != ""


def test_a_framework_that_cannot_be_imported_is_told_with_its_reason(net, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libtorch.so: cannot open shared object file')")
    (tmp_path / "t.py").write_text("import torch\n\n\ndef Net():\n    return torch.nn.Linear(3, 2)\n")
    command = [sys.executable, "-m", "lockstep", "diff", "t.py:Net", net]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 4
    assert "LS-401 t.py:Net: torch cannot be imported: libtorch.so" in done.stderr
    assert "Traceback" not in done.stderr
