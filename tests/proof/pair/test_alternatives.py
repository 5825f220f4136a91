"""What could have been otherwise at a call: borders, what is cut off, values in the partner's words."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from lockstep import language
from lockstep.exchange.models.records import Call, Trace, Where
from lockstep.proof.pair import (
    alignment,
    alternatives,
    dropout,
    gates,
    initializers,
    injection,
    laboratory,
    mapping,
    optimizers,
    parameters,
)
from lockstep.proof.pair.alignment import Tensor
from lockstep.proof.pair.places import Numbers


def call(kind="conv", **arguments):
    return Call(0, kind, kind, "", Where(), {"x": (0,)}, {}, arguments, (1,))


@pytest.mark.parametrize(
    ("padding", "wanted"),
    [
        (1, ((1, 1), (1, 1))), ("same", ((0, 1), (1, 1))), ("VALID", ((0, 0), (0, 0))), ([2, 1], ((2, 2), (1, 1))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))), ("causal", ((2, 0), (2, 0))), ("reflect", None), (None, ((0, 0), (0, 0))),
    ],
)  # fmt: skip
def test_the_border_that_a_call_has_is_known_in_every_frameworks_words(padding, wanted):
    assert alternatives.own_pads(call(padding=padding, stride=2), (14, 15), (3, 3)) == wanted


def unsaid(text):
    """Words that stand in a text as they are, in whatever language it is said."""
    for value in getattr(text, "values", {}).values():
        if isinstance(value, language.Text):
            yield from unsaid(value)
        elif isinstance(value, str) and re.search("[a-z]{2,} [a-z]{2,}", value):
            yield value


def test_what_is_told_of_a_call_is_said_in_russian_to_its_last_word():
    own = call(kind="conv", padding=1, stride=2)
    words = [each.after for each in alternatives.of_padding(own, (14, 15), (3, 3), [((0, 1), (2, 2))])]
    words += [each.after for each in alternatives.of_cropping(own, (8, 10), (3, 3), [(16, 20)])]
    words += [*alternatives.FUNCTIONS, *initializers.SCHEMES, *optimizers.NAMES.values()]
    assert not [rest for text in words for rest in unsaid(text)]
    with language.speaking("ru"):
        assert language.say(words[0]) == "0 перед и 1 после × 2 перед и 2 после"
        assert not [text for text in map(language.say, words) if re.search("before|behind|side|exact|uniform", text)]
    assert [*unsaid(language.later("padded otherwise: {a}", a="1 before and 2 behind"))], "its twin"


def test_a_partners_own_border_is_tried_first_and_what_the_call_has_is_not_tried_again():
    own = call(kind="max_pool2d", padding=1, stride=2)
    found = list(alternatives.of_padding(own, (14, 14), (3, 3), [((0, 1), (0, 1))]))
    assert (found[0].change.pads, found[0].rank) == (((0, 1), (0, 1)), 0)
    assert ((1, 1), (1, 1)) not in [each.change.pads for each in found]


def test_zeros_put_by_hand_are_counted_in_an_average_that_counts_none():
    own = call(kind="avg_pool2d", padding="same", strides=2)
    found = {each.change.pads: each.parts() for each in alternatives.of_padding(own, (14, 14), (3, 3))}
    assert [each.meaning for each in found[(0, 1), (0, 1)]] == ["counted"], "the border that it has"
    assert [each.meaning for each in found[(1, 1), (1, 1)]] == ["pads", "counted"]
    assert [each.meaning for each in found[(0, 0), (0, 0)]] == ["pads"]


def test_a_transposed_convolution_may_cut_off_what_makes_it_as_large_as_the_other():
    own = call(kind="conv_transpose", stride=2)
    found = [each.change.pads for each in alternatives.of_cropping(own, (8, 10), (3, 3), [(16, 20), (17, 21)])]
    assert found == [((0, -1), (0, -1)), ((-1, 0), (-1, 0)), ((0, 0), (0, 0))]


def test_a_partners_value_is_taken_the_other_way_round_where_the_names_say_so():
    assert alternatives.like(True, None, "training", "use_running_average") is False
    assert alternatives.like(True, None, "use_running_average", "use_running_average") is True
    assert alternatives.like(2, [1, 1]) == [2, 2]


def test_the_order_of_gates_is_found_by_what_the_call_gives_then():
    numbers = np.random.default_rng(0)
    kernel = numbers.normal(size=(5, 4, 3))
    x = numbers.normal(size=(7, 5))

    def tried(units):
        gates_ = np.einsum("bi,igu->bgu", x, units["kernel"])
        output = np.tanh(gates_ * [[1.0], [2.0], [3.0], [4.0]]).sum(1)

        class Seen:
            calls = (call(),)
            tensors = {1: output}  # noqa: RUF012

        return Seen

    wanted = np.sort(tried({"kernel": kernel[:, [0, 1, 3, 2]]}).tensors[1].ravel())
    targets = {5: Tensor(5, wanted, wanted, 1e-12)}
    order, units = gates.found(call(), ["kernel"], 4, {"kernel": kernel}, targets, tried)
    assert order == (0, 1, 3, 2)
    np.testing.assert_array_equal(units["kernel"], kernel[:, [0, 1, 3, 2]])
    other = {5: Tensor(5, wanted + 1, wanted + 1, 1e-12)}
    assert gates.found(call(), ["kernel"], 4, {"kernel": kernel}, other, tried) is None


def test_numbers_are_put_in_a_calls_place_in_its_own_layout():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))

    def seen(takes, gives):
        last = dataclasses.replace(
            call(kind="dense"), index=1, tensors={"x": (1,)}, units={"kernel": "k"}, outputs=(2,)
        )
        trace = Trace((call(kind="odd"), last), {0: takes, 1: gives, 2: gives + 1}, (0,), (2,))
        return Numbers(trace, alignment.tensors(trace, None), {0})

    turned = np.moveaxis(x, 1, -1)
    numbers = seen(x, x * 2), seen(turned, turned * 3)
    made, value = injection.found(numbers, mapping.Pairing((mapping.Pair("k", "k"),), (), ()))
    assert made.kind == "odd"
    np.testing.assert_array_equal(value, turned * 2)


@pytest.mark.parametrize(
    ("a", "b", "n"),
    [
        ({"training": True, "p": 0.5}, {"training": False, "p": 0.5}, 1),
        ({"deterministic": False, "rate": 0.5}, {"training": False, "p": 0.5}, 1),
        ({"training": True, "p": 0.5}, {"training": True, "p": 0.5}, 0),
        ({"training": True, "p": 0.0}, {"training": False, "p": 0.5}, 0),
        ({"training": True, "p": 0.5}, None, 1),
        (None, {"training": False, "p": 0.5}, 0),
    ],
)
def test_a_dropout_that_one_model_has_at_work_in_inference_is_a_difference(a, b, n):
    traces = [Trace(() if each is None else (call(kind="dropout", **each),), {}, (), ()) for each in (a, b)]
    assert len(list(dropout.in_inference(traces))) == n


def test_a_row_of_a_table_without_a_gradient_is_told_where_it_is_the_one_difference():
    a = np.random.default_rng(0).normal(size=(5, 3))
    padded = a.copy()
    padded[2] = 0
    assert parameters.padding_row(padded, a, 1e-9) == {"row": 2, "side": "A"}
    assert parameters.padding_row(a, padded, 1e-9) == {"row": 2, "side": "B"}
    assert parameters.padding_row(padded, a * 2, 1e-9) is None
    assert parameters.padding_row(a, a + np.eye(5)[:, 2:3], 1e-9) is None


def test_numbers_of_fewer_digits_are_known():
    x = np.random.default_rng(0).normal(size=50)
    assert not laboratory.fits(x, "float16")
    assert not laboratory.fits(x, "bfloat16")
    assert laboratory.fits(x.astype(np.float16).astype(np.float64), "float16")
    short = (x.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    assert laboratory.fits(short, "bfloat16")
