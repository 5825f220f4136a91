"""Losses and optimizers by reproduction: what was planted is told, and nothing where nothing was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lockstep.proof.pair import formulas, trajectories
from lockstep.proof.pair.formulas import Form
from lockstep.proof.pair.trajectories import Rule

NUMBERS = np.random.default_rng(3)
LOGITS = NUMBERS.normal(size=(9, 5))
PROBABILITIES = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
WEIGHTS = (0.5, 1.0, 2.0, 1.5, 0.25)


@pytest.mark.parametrize(
    ("planted", "numbers", "lists"),
    [
        (Form("cross entropy", "logits"), (), ()),
        (Form("cross entropy", "logits", "sum"), (), ()),
        (Form("cross entropy", "logits", smoothing=0.15), (0.15,), ()),
        (Form("cross entropy", "logits", smoothing=0.1, others=True), (), ()),
        (Form("cross entropy", "probabilities", clip=1e-7), (), ()),
        (Form("cross entropy", "logits", ignored=3), (3.0,), ()),
        (Form("cross entropy", "logits", ignored=3, divisor="all"), (3.0,), ()),
        (Form("cross entropy", "logits", weights=WEIGHTS), (), (WEIGHTS,)),
        (Form("cross entropy", "logits", weights=WEIGHTS, divisor="weights"), (), (WEIGHTS,)),
        (Form("squared error", reduction="batch"), (), ()),
        (Form("squared error", factor=0.5), (), ()),
        (Form("huber", delta=0.7), (0.7,), ()),
        (Form("binary cross entropy", "logits"), (), ()),
    ],
    ids=str,
)
def test_a_loss_is_told_by_its_number(planted, numbers, lists):
    outputs = PROBABILITIES if planted.takes == "probabilities" else LOGITS
    found = formulas.value(planted, outputs, LABELS)
    told = formulas.fitting(found, 1e-12 * abs(found), outputs, LABELS, formulas.forms(numbers, lists, 5))
    assert told
    if planted.clip == 0:
        assert told[0] == planted
    assert all(abs(formulas.value(form, outputs, LABELS) - found) < 1e-9 for form in told)


def test_no_form_is_told_of_a_number_that_none_gives():
    found = formulas.value(Form("cross entropy", "logits"), LOGITS, LABELS) * 1.0001
    assert not formulas.fitting(found, 1e-10, LOGITS, LABELS, formulas.forms((), (), 5))


def test_a_cross_entropy_is_the_textbooks():
    p = PROBABILITIES[np.arange(9), LABELS]
    assert np.isclose(formulas.value(Form("cross entropy", "logits"), LOGITS, LABELS), -np.log(p).mean(), rtol=1e-14)


START = {"w": NUMBERS.normal(size=(3, 4)), "b": NUMBERS.normal(size=(4,))}
GRADIENTS = [
    {name: NUMBERS.normal(size=value.shape) * 10.0 ** -NUMBERS.uniform(0, 4, value.shape) * size
     for name, value in START.items()} for size in (1.0, 3.0, 0.1, 0.5, 2.0)
]  # fmt: skip


def off(one: Rule, other: Rule) -> float:
    """The largest difference of two rules' weights."""
    pairs = zip(trajectories.follow(one, START, GRADIENTS), trajectories.follow(other, START, GRADIENTS), strict=True)
    return max(float(np.abs(a[name] - b[name]).max()) for a, b in pairs for name in a)


@pytest.mark.parametrize("rule", trajectories.BEGINNINGS, ids=lambda rule: f"{rule.kind}-{rule.place}")
def test_every_field_of_a_rule_moves_its_trajectory(rule):
    """A field that moves nothing could be told as a cause of everything."""
    for field in trajectories.fields_of(rule):
        others = [x for x in trajectories.COMMON.get(field, (7e-3,)) if x != getattr(rule, field)]
        needs = {
            "nesterov": rule.momentum, "dampening": rule.momentum and not rule.velocity, "velocity": False,
            "decoupled": rule.decay, "decayed": rule.decay, "clipped": rule.clip,
        }  # fmt: skip
        if not needs.get(field, True) or (rule.kind in ("adamax", "lion") and field == "place"):
            continue
        changed = [dataclasses.replace(rule, **{field: value}) for value in others]
        assert max(off(rule, each) for each in changed) > 1e-13, field


def test_a_velocity_parts_from_a_sum_when_the_rate_changes_and_not_before():
    sums, velocity = Rule("sgd", 1e-2, momentum=0.9), Rule("sgd", 1e-2, momentum=0.9, velocity=True)
    assert off(sums, velocity) < 1e-15
    rates = [0.1, 0.1, 0.01, 0.01, 0.01]
    one, two = (list(trajectories.follow(rule, START, GRADIENTS, rates)) for rule in (sums, velocity))
    assert np.abs(one[1]["w"] - two[1]["w"]).max() < 1e-15 < 1e-3 < np.abs(one[2]["w"] - two[2]["w"]).max()


def test_adam_is_kingmas_algorithm():
    """Kingma & Ba (2015), Algorithm 1, written out for one number."""
    w, m, v = START["b"].copy(), 0.0, 0.0
    for t, given in enumerate(GRADIENTS, 1):
        g = given["b"]
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w = w - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    *_earlier, last = trajectories.follow(Rule("adam"), START, GRADIENTS)
    assert np.abs(last["b"] - w).max() < 1e-15


def test_rates_are_read_off_the_first_update():
    for rule in (Rule("sgd", 0.03), Rule("adam", 2e-3), Rule("rmsprop", 0.01, beta2=0.99)):
        first = next(trajectories.follow(rule, START, GRADIENTS))
        assert rule.learning_rate in trajectories.rates_seen(START, first, GRADIENTS[0])
