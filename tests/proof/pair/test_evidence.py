"""What an equal verdict rests on: outputs that could not have differed prove nothing, and it is said why."""

from __future__ import annotations

import numpy as np
import pytest

from cases.processes import kept
from lockstep.language import say
from lockstep.proof.pair import difference, permutations

HEAD = """\
import numpy as np


def parameters():
    numbers = np.random.default_rng(0)
    return {"kernel": numbers.normal(size=(5, 4)), "bias": numbers.normal(size=4)}


"""


def model(tmp_path, name, body):
    path = tmp_path / f"{name}_numpy.py"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    path.write_text(f"{HEAD}def forward(parameters, x):\n{lines}\n")
    return f"{path}:forward"


@pytest.fixture(scope="module", autouse=True)
def processes():
    """Of NumPy's sides, shared by all tests here."""
    with kept():
        yield


def compared(tmp_path, a, b):
    return difference.compare(model(tmp_path, "a", a), model(tmp_path, "b", b), input_shape=(5,))


LOGITS = 'z = x @ parameters["kernel"] + parameters["bias"]\n'


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("return np.argmax(x, axis=1)", "whole numbers"),
        (LOGITS + "return np.zeros_like(z)", "one number throughout"),
        (LOGITS + "return np.maximum(z * 0 - 1, 0)", "one number throughout"),
        (LOGITS + 'return z * 0 + parameters["bias"]', "the same for another batch"),
        ("return np.tanh(x)", "the same with other weights"),
        (LOGITS + "return z * np.nan", "finite"),
    ],
)
def test_outputs_that_could_not_differ_are_inconclusive_with_a_reason(tmp_path, body, why):
    found = compared(tmp_path, body, body)
    assert found.verdict == "INCONCLUSIVE"
    assert why in " ".join(map(say, found.doubts))


def test_whole_numbers_are_equal_where_what_they_were_made_of_is(tmp_path):
    found = compared(tmp_path, LOGITS + "return np.argmax(z, axis=1)", LOGITS + "return np.argmax(np.exp(z), axis=1)")
    assert (found.verdict, found.doubts) == ("EQUAL", ())


def test_whole_numbers_that_agree_by_chance_hide_no_difference(tmp_path):
    found = compared(
        tmp_path, LOGITS + "return np.argmax(z, axis=1)", LOGITS + "return np.argmax(z + x[:, :4] / 9, axis=1)"
    )
    assert found.verdict == "DIVERGED"


def test_whole_numbers_that_differ_are_a_difference(tmp_path):
    found = compared(tmp_path, LOGITS + "return np.argmax(z, axis=1)", LOGITS + "return np.argmin(z, axis=1)")
    assert found.verdict == "DIVERGED"


@pytest.mark.parametrize(
    ("end", "words"),
    [("z[:, ::-1]", "axis 0 reversed"), ("np.roll(z, 1, axis=1)", "rolled by"), ("z[:, [1, 0, 2, 3]]", "1 0 2 3")],
)
def test_an_output_whose_entries_stand_elsewhere_is_a_difference_with_its_order(tmp_path, end, words):
    found = compared(tmp_path, LOGITS + "return z", LOGITS + f"return {end}")
    assert [finding.meaning for finding in found.findings] == ["order"]
    assert words in str(say(found.findings[0].cause))


def test_models_that_return_other_tensors_of_theirs_differ(tmp_path):
    found = compared(tmp_path, LOGITS + "y = np.tanh(z)\nreturn z", LOGITS + "y = np.tanh(z)\nreturn y")
    assert [finding.meaning for finding in found.findings] == ["output"]


def test_the_order_of_entries_is_found_through_zeros_that_stand_elsewhere_in_each_example():
    numbers = np.random.default_rng(0)
    image = np.maximum(numbers.normal(size=(9, 3, 4, 5)), 0)
    flat = image.transpose(0, 2, 3, 1).reshape(9, -1)
    order = permutations.of_examples(image.reshape(9, -1), flat, 1e-12)
    told = permutations.described(order, (3, 4, 5), (4, 5, 3))
    assert (told.axes, told.moved) == ((2, 0, 1), {})


def test_other_numbers_have_no_order():
    numbers = np.random.default_rng(0)
    a = numbers.normal(size=(4, 6))
    assert permutations.of_examples(a, a[:, ::-1] + 1e-6, 1e-9) is None
    assert permutations.of_examples(a, np.where(np.arange(6) == 2, np.nan, a), 1e-9) is None
