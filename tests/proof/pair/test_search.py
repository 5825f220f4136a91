"""All differences in one run: two at one place, what a layer takes otherwise, and what lies behind the unexplained."""

from __future__ import annotations

import pytest

from cases.processes import kept
from lockstep.language import say
from lockstep.proof.pair import activations, difference, rewrites

HEAD = """\
import numpy as np


def parameters():
    numbers = np.random.default_rng(0)
    return {"first": numbers.normal(size=(5, 6)), "out": numbers.normal(size=(6, 4)), "bias": numbers.normal(size=4)}


def forward(parameters, x):
    z = x @ parameters["first"]
"""


@pytest.fixture(scope="module", autouse=True)
def processes():
    """Of NumPy's sides, shared by all tests here."""
    with kept():
        yield


def compared(tmp_path, a, b, heads=(HEAD, HEAD), **options):
    files = []
    for name, body, head in zip("ab", (a, b), heads, strict=True):
        files.append(tmp_path / f"{name}_numpy.py")
        files[-1].write_text(head + "".join(f"    {line}\n" for line in body.splitlines()))
    return difference.compare(*(f"{file}:forward" for file in files), input_shape=(5,), **options)


def test_two_arguments_of_one_call_are_both_named(tmp_path):
    end = "\nreturn z / (spread + 1) @ parameters['out']"
    a = "spread = np.var(z, axis=1, ddof=0, keepdims=True)" + end
    b = "spread = np.var(z, axis=0, ddof=1, keepdims=True)" + end
    found = compared(tmp_path, a, b)
    assert sorted(finding.meaning for finding in found.findings) == ["axis", "ddof"]
    assert found.worst < 1


def test_what_a_layer_takes_in_one_model_alone_is_told_at_both_lines(tmp_path):
    found = compared(tmp_path, "z = np.tanh(z)\nreturn z @ parameters['out']", "return z @ parameters['out']")
    assert [finding.meaning for finding in found.findings] == ["taken"]
    assert "tanh" in str(say(found.findings[0].cause))
    assert found.findings[0].places[0].line_a == "a_numpy.py:11"


def test_behind_what_is_unexplained_the_search_goes_on_with_the_references_numbers(tmp_path):
    end = "\nz = z @ parameters['out']\nreturn z / np.sum(z, axis={axis}, keepdims=True)"
    a = "z = np.sin(z) + z ** 2" + end.format(axis=1)
    b = "z = np.cos(z * 1.3) - z ** 3" + end.format(axis=0)
    found = compared(tmp_path, a, b)
    assert [finding.meaning for finding in found.findings] == ["", "axis"]


def test_a_bias_of_one_model_alone_is_a_difference(tmp_path):
    a = "z = np.tanh(z)\nreturn z @ parameters['out'] + parameters['bias']"
    heads = HEAD, HEAD.replace(', "bias": numbers.normal(size=4)', "")
    found = compared(tmp_path, a, "z = np.tanh(z)\nreturn z @ parameters['out']", heads)
    assert [finding.meaning for finding in found.findings] == ["bias"]


@pytest.mark.parametrize("framework", ["torch", "keras", "jax"])
@pytest.mark.parametrize("name", [*activations.WORDS, "leaky relu with slope 0.2"])
def test_every_function_is_said_in_every_framework(name, framework):
    found = activations.code(name, framework)
    assert found.full.endswith(found.function)
    assert activations.code("exponential", framework) is None


@pytest.mark.parametrize(
    ("framework", "source", "callee", "is_layer", "wanted"),
    [
        ("torch", "a = nn.ELU()\n", "ELU", True, "a = nn.LeakyReLU(0.2)\n"),
        ("torch", "import torch.nn.functional as F\na = torch.relu(x)\n", "relu", False,
         "import torch.nn.functional as F\na = F.leaky_relu(x, negative_slope=0.2)\n"),
        ("jax", "a = nn.relu(x)\n", "relu", False, "a = nn.leaky_relu(x, negative_slope=0.2)\n"),
        ("keras", "import keras\na = layers.ReLU()(x)\n", "ReLU", True,
         "import keras\na = layers.Lambda(lambda x: keras.ops.leaky_relu(x, negative_slope=0.2))(x)\n"),
    ],
)  # fmt: skip
def test_a_function_is_written_in_the_place_of_another(framework, source, callee, is_layer, wanted):
    found = activations.code("leaky relu with slope 0.2", framework)
    edit = activations.edit("f", source.count("\n"), callee, found, framework, is_layer)
    assert rewrites.edited(source, [edit]) == (wanted, 1)
