"""The walk over a network's layers: forward and back over values by name, of chains and of networks with branches."""

from __future__ import annotations

import numpy as np
import pytest

from lockstep.backends.walk import Walk
from lockstep.spec import INPUT, LayerFacts, Network, ReLU
from support.backend_cases import CASES, plan_of

# name → (what it takes in, whether it has parameters): two ways from `a` to `d`, one of them through b and c.
BRANCHES = {
    "a": ((INPUT,), True),
    "b": (("a",), False),
    "c": (("b",), True),
    "d": (("a", "c"), False),
    "e": (("d",), True),
}


def walk_of(branches=None):
    rows = [
        LayerFacts(name, ReLU(), (1,), (1,), {"kernel": (1, 1)} if learns else {}, 0, None, inputs)
        for name, (inputs, learns) in (branches or BRANCHES).items()
    ]
    return Walk(rows)


def there(row, taken):
    """Layer n adds up what it takes in, each in other powers of x: its slope is 2, 3, 5, …"""
    return sum(SLOPES[row.name] * value for value in (taken if len(row.inputs) > 1 else (taken,)))


SLOPES = {"a": 2.0, "b": 3.0, "c": 5.0, "d": 7.0, "e": 11.0}


def back(row, dy, wants):
    dx = SLOPES[row.name] * dy if wants else None
    return (dx,) * len(row.inputs) if len(row.inputs) > 1 else dx


def test_forward_gives_each_layer_what_it_names():
    values = walk_of().values(1.0, there)
    assert values == {INPUT: 1.0, "a": 2.0, "b": 6.0, "c": 30.0, "d": 7 * 32.0, "e": 11 * 7 * 32.0}
    assert list(values) == [INPUT, *BRANCHES]
    assert walk_of().through(1.0, there) == values["e"]


def test_back_adds_up_what_comes_by_several_ways():
    sent = walk_of().back(1.0, back, everything=True)
    assert sent == {"e": 1.0, "d": 11.0, "c": 77.0, "b": 5 * 77.0, "a": 77.0 + 3 * 5 * 77.0}
    nudge = 2.0**-10
    for name, gradient in sent.items():  # of the output by each value, by differences; the network is linear

        def nudged(row, taken, name=name):
            return there(row, taken) + nudge * (row.name == name)

        assert (walk_of().through(1.0, nudged) - walk_of().through(1.0, there)) / nudge == gradient


def test_a_gradient_that_is_not_added_up_is_found():
    class Forgetful(Walk):
        def back(self, dy, back, everything=False, total=None):
            sent = {"e": dy}
            for row in reversed(self.rows):
                dx = back(row, sent[row.name], row.inputs != (INPUT,))
                sent.update(zip(row.inputs, dx if len(row.inputs) > 1 else (dx,), strict=True))
            return sent

    right = walk_of()
    found, wanted = (walk.back(1.0, back, everything=True)["a"] for walk in (Forgetful(right.rows), right))
    assert found != wanted


def test_nothing_is_sent_back_below_the_first_layer_that_learns():
    names = {"a": ((INPUT,), False), "b": (("a",), True), "c": (("b",), False)}
    asked = []

    def told(row, dy, wants):
        asked.append((row.name, wants))
        return back(row, dy, wants)

    assert walk_of(names).back(1.0, told) == {"c": 1.0, "b": 5.0}
    assert asked == [("c", True), ("b", False)]


def test_a_value_is_let_go_after_its_last_use():
    alive = {}

    class Value:
        n = 0

        def __init__(self):
            Value.n += 1

        def __del__(self):
            Value.n -= 1

    def made(row, *values):
        alive[row.name] = Value.n
        return Value()

    walk_of().through(Value(), made)
    assert alive == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 1}  # while d is made a and c are there, of e only d


@pytest.mark.parametrize("case", ["layer-relu", "layer-everything", "black-max_pool2d"])
def test_the_order_of_training_gives_what_the_written_one_gives(case):
    plan = plan_of(CASES[case])
    assert [row.inputs for row in plan.rows] == [(INPUT,), *((row.name,) for row in plan.rows[:-1])]
    assert [row.inputs for row in plan.fast_rows] == [(INPUT,), *((row.name,) for row in plan.fast_rows[:-1])]


def test_a_relu_that_another_layer_takes_from_too_stays_before_its_pooling():
    from lockstep.backends.plan import exchanged

    relu, pool, flat = Network(["relu", "max_pool2d", "flatten"]).facts((4, 4, 1))
    assert [row.name for row in exchanged(relu, pool, [flat])] == ["1_max_pool2d", "0_relu", "2_flatten"]
    other = LayerFacts("3_relu", ReLU(), (4, 4, 1), (4, 4, 1), {}, 0, None, ("0_relu",))
    assert exchanged(relu, pool, [flat, other]) == [relu, pool, flat, other]


def test_a_chain_goes_the_same_way():
    chain = {"a": ((INPUT,), True), "b": (("a",), False), "c": (("b",), True)}
    assert walk_of(chain).through(1.0, there) == walk_of(chain).values(1.0, there)["c"] == 30.0
    assert not walk_of().is_chain
    assert walk_of(chain).is_chain


def test_every_array_of_a_chain_is_the_layers_own():
    """A walk hands values over as they are, and copies none."""
    x = np.ones(3)
    seen = []
    walk_of({"a": ((INPUT,), False)}).through(x, lambda row, value: seen.append(value) or value)
    assert seen[0] is x
