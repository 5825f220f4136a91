"""The stages of training between two files of PyTorch: equal ones are equal, and each planted difference is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep import LockstepError
from lockstep.exchange.models.side import UserError
from lockstep.exchange.models.training import Way
from lockstep.proof.pair import (
    averages,
    client,
    dropout,
    gradients,
    loaders,
    losses,
    mapping,
    optimizers,
    stages,
    steps,
    training,
)
from lockstep.proof.pair.party import Party
from support.needs import need_backend

NET = """\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.4)
        self.b = nn.Linear(8, 5)

    def forward(self, x):
        return self.b(self.drop(torch.relu(self.norm(self.a(x)))))


loss = nn.CrossEntropyLoss()


def optimizer(parameters):
    return torch.optim.Adam(parameters, lr=2e-3, weight_decay=1e-3)


def schedule(optimizer):
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)


def train_step(model, optimizer, batch):
    x, y = batch
    optimizer.zero_grad()
    value = loss(model(x), y)
    value.backward()
    optimizer.step()
    return value


def batches():
    numbers = torch.arange(96, dtype=torch.float32).reshape(16, 6).sin()
    for first in range(0, 16, 4):
        yield numbers[first:first + 4], torch.arange(first, first + 4) % 5
"""
LOSS, ADAM = "nn.CrossEntropyLoss()", "torch.optim.Adam(parameters, lr=2e-3, weight_decay=1e-3)"
SCHEDULE = "torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)"


class Direct:
    """A side of PyTorch in this process: what `client.Side` asks of a process."""

    def __init__(self, file: Path, dtype: str) -> None:
        from lockstep.exchange.models.torch.side import Torch
        from lockstep.exchange.models.torch.training import Training

        self.asked = client.Named(file, "Net", "torch")
        self.side, self.dtype = Torch(), dtype
        self.model = self.side.load(file, "Net", dtype)
        self.training = Training(self.side)

    def _asked(self, verb: Any, *given: Any) -> Any:
        import torch

        torch.set_default_dtype(getattr(torch, self.dtype))
        try:
            return verb(*given)
        except UserError as error:
            raise LockstepError("LS-403", error.message) from error
        except (OSError, RuntimeError, ValueError, IndexError) as error:  # whatever a person's code raises
            raise LockstepError("LS-403", str(error)) from error

    def trace(
        self, batch: Any, mode: str = "inference", changes: Any = (), designed: Any = None, results: Any = None
    ) -> Any:
        assert not results, "nothing is put in a call's place here"
        return self._asked(self.side.trace, batch, mode, changes, designed)

    def units(self) -> Any:
        return self.side.units()

    def put(self, values: Any) -> None:
        self.side.put(values)

    def description(self) -> Any:
        return self.side.description()

    def parts(self, asked: Any) -> Any:
        return self._asked(self.training.parts, asked)

    def loss(self, outputs: Any, labels: Any, changes: Any = ()) -> Any:
        return self._asked(self.training.loss, outputs, labels, changes)

    def optimize(self, gradients: Any, changed: Any = None) -> Any:
        return self._asked(self.training.optimize, gradients, changed or {})

    def train(self, batches: Any, way: Any) -> Any:
        return self._asked(self.training.train, batches, way)

    def drops(self, batch: Any) -> Any:
        return self._asked(self.training.drops, batch)

    def batches(self, n: int) -> Any:
        return self._asked(self.training.batches, n)


BATCH = np.random.default_rng(5).normal(size=(9, 6)).astype(np.float32).astype(np.float64)


@pytest.fixture(autouse=True)
def types() -> Iterator[None]:
    need_backend("torch")
    import torch

    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


class Pair:
    """Two files with the same weights."""

    def __init__(self, folder: Path, a: str, b: str) -> None:
        self.parties = []
        for name, text in (("one", a), ("two", b)):
            file = folder / f"{name}.py"
            file.write_text(text)
            sides = [Direct(file, dtype) for dtype in ("float64", "float32")]
            for side in sides:
                side.trace([BATCH], "inference", (), None)
            self.parties.append(Party(sides[0], sides[1], sides[0].description(), [BATCH]))
        model = self.parties[0].model
        values = mapping.drawn(model, 0)
        for party in self.parties:
            for side in (party.exact, party.rough):
                side.put(values)
        self.pairing = mapping.Pairing(tuple(mapping.Pair(unit.name, unit.name) for unit in model.units), (), ())
        self.parts = [party.exact.parts({}) for party in self.parties]

    def loss(self) -> Any:
        return losses.compared(self.parties, self.parts, 0)

    def optimizer(self) -> Any:
        return optimizers.compared(self.parties, self.pairing, self.parts, 0, 0)

    def steps(self, n: int = 3) -> Any:
        of_loss, of_optimizer = self.loss()[1], self.optimizer()[1]
        return steps.compared(self.parties, self.pairing, self.parts, n, 0, of_loss, of_optimizer)


def changed(side, **given):
    """From here on what a side traces has this in place of its own."""
    trace = side.trace
    side.trace = lambda *asked: dataclasses.replace(trace(*asked), **given)


def meanings(told: stages.Told) -> list[str]:
    return [finding.meaning for finding in told.findings]


def test_a_file_is_equal_to_itself_in_every_stage(tmp_path):
    pair = Pair(tmp_path, NET, NET)
    for told in (pair.loss()[0], pair.optimizer()[0], pair.steps(), dropout.compared(pair.parties),
                 loaders.compared(pair.parties, pair.parts)):  # fmt: skip
        assert not told.findings
        assert [stage.verdict for stage in told.stages] == ["EQUAL"]
        assert all(stage.equal == stage.of > 0 for stage in told.stages)


@pytest.mark.parametrize(
    ("other", "meaning", "after"),
    [
        ("nn.CrossEntropyLoss(reduction='sum')", ["reduction"], "loss = nn.CrossEntropyLoss(reduction='mean')"),
        ("nn.CrossEntropyLoss(label_smoothing=0.1)", ["smoothing"], "loss = nn.CrossEntropyLoss(label_smoothing=0.0)"),
        ("nn.CrossEntropyLoss(ignore_index=2)", ["ignored"], "loss = nn.CrossEntropyLoss(ignore_index=-100)"),
        ("nn.CrossEntropyLoss(weight=torch.tensor([.5, 1, 2, 1.5, 3]))", ["weights", "divisor"], None),
        ("lambda outputs, labels: F.cross_entropy(outputs, labels, reduction='sum')", ["reduction"], None),
        ("lambda z, y: F.cross_entropy(torch.softmax(z, 1), y)", [""], None),
        ("lambda z, y: F.nll_loss(F.log_softmax(z, 1), y)", [], None),
        ("lambda y, z: -torch.log_softmax(z, 1)[torch.arange(len(y)), y].mean()", [], None),
    ],
)
def test_a_planted_loss_is_told_and_another_way_of_writing_is_none(other, meaning, after, tmp_path):
    pair = Pair(tmp_path, NET, NET.replace(LOSS, other))
    told, _result = pair.loss()
    assert meanings(told) == meaning
    if after is not None:
        (finding,) = told.findings
        assert [line.after for line in finding.remedies] == [after]
        assert finding.error < 1e-12 < finding.off


@pytest.mark.parametrize(
    ("other", "meaning", "after"),
    [
        (ADAM.replace("2e-3", "1e-3"), ["learning_rate"], ADAM.replace("2e-3", "0.002").replace("1e-3", "0.001")),
        (ADAM.replace("lr", "eps=1e-6, lr"), ["epsilon"], None),
        (ADAM.replace("lr", "amsgrad=True, lr"), ["amsgrad"], None),
        (ADAM.replace("lr", "betas=(0.95, 0.99), lr"), ["beta1", "beta2"], None),
        (ADAM.replace("Adam", "AdamW"), ["decoupled"], None),
        (ADAM.replace("1e-3", "5e-4"), ["decay"], None),
        (ADAM.replace("Adam", "RMSprop"), ["kind"], None),
        ("torch.optim.Adam([{'params': [p for p in parameters if p.ndim > 1], 'weight_decay': 1e-3}, {'params': [p for "
         "p in parameters if p.ndim < 2]}], lr=2e-3)", ["decayed"], None),
    ],
)  # fmt: skip
def test_a_planted_optimizer_is_told(other, meaning, after, tmp_path):
    pair = Pair(tmp_path, NET, NET.replace(ADAM, other))
    told, _result = pair.optimizer()
    assert meanings(told) == meaning
    assert all(finding.error < 1e-12 < finding.off for finding in told.findings)
    if after is not None:
        assert "lr=0.002" in told.findings[0].remedies[0].after


def test_updates_that_differ_for_no_known_reason_are_a_difference_all_the_same(tmp_path):
    pair = Pair(tmp_path, NET, NET.replace("lr=2e-3", "lr=2.0000008e-3"))  # the same rate, to six digits
    told, result = pair.optimizer()
    assert [finding.cause for finding in told.findings] == [""]
    assert told.findings[0].off > 0
    assert [stage.verdict for stage in told.stages] == ["DIVERGED"]
    assert not result.is_explained


def test_a_stage_is_equal_where_all_of_it_is():
    told = stages.Told()
    for equal, of in ((3, 12), (0, 0), (12, 12)):
        told.count("optimizer", equal, of, "updates")
    assert [stage.verdict for stage in told.stages] == ["INCONCLUSIVE", "INCONCLUSIVE", "EQUAL"]


def test_statistics_that_a_side_does_not_give_are_not_counted_as_compared(tmp_path):
    pair = Pair(tmp_path, NET, NET)
    one, two = pair.parties

    assert averages.compared((one, two), pair.pairing) == ([], 2)
    changed(two.exact, state={})
    assert averages.compared((one, two), pair.pairing) == ([], 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_no_number_is_a_difference(value, tmp_path):
    pair = Pair(tmp_path, NET, NET)
    one, two = pair.parties
    findings, n, by_unit = gradients.compared((one, two), pair.pairing)
    assert (findings, n) == ([], len(by_unit)), "its twin"
    changed(two.exact, by_unit=by_unit | {"a.weight": np.full_like(by_unit["a.weight"], value)})
    findings, n, _by_unit = gradients.compared((one, two), pair.pairing)
    assert [spot.b for finding in findings for spot in finding.places] == ["a.weight"]


def test_a_rule_of_the_persons_own_is_told_by_search(tmp_path):
    own = """

class Own(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {})
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for p in self.param_groups[0]["params"]:
            if p.grad is None:
                continue
            g, s = p.grad + 1e-3 * p, self.state[p]
            s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
            s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
            p -= 2e-3 * s["m"] / (1 - 0.9 ** self.t) / (torch.sqrt(s["v"] / (1 - 0.999 ** self.t) + 1e-8))


def optimizer(parameters):
    optimizer = Own(parameters)
    optimizer.param_groups[0]["lr"] = 2e-3
    return optimizer
"""
    flat = NET.replace("def schedule", "def no_schedule")
    pair = Pair(tmp_path, flat, flat + own)
    told, _result = pair.optimizer()
    assert meanings(told) == ["place"], "ε stands inside the root"


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (SCHEDULE.replace("0.5", "0.25"), "the learning rates are"),
        ("torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 0.5 ** max(n - 1, 0))", "the one before"),
        ("torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1.0)", "on one side alone"),
    ],
)
def test_a_planted_schedule_is_told(other, words, tmp_path):
    told, _result = Pair(tmp_path, NET, NET.replace(SCHEDULE, other)).optimizer()
    assert meanings(told) == ["schedule"]
    assert words in str(told.findings[0].cause)


@pytest.mark.parametrize(
    ("old", "new", "meaning"),
    [
        ("    optimizer.zero_grad()\n", "", ["is_accumulated"]),
        ("    optimizer.zero_grad()\n", "    optimizer.zero_grad(); model.eval()\n", ["mode"]),
        ("    optimizer.step()\n", "    nn.utils.clip_grad_norm_(model.parameters(), 0.5)\n    optimizer.step()\n",
         ["clip_norm"]),
        ("    value.backward()\n", "    (value + 5e-3 * sum((p ** 2).sum() for p in model.parameters())).backward()\n",
         ["decay"]),
        ("    value.backward()\n", "    (value * 1.37).backward()\n", [""]),
        ("loss(model(x), y)", "loss(model(x.flip(0)), y.flip(0))", []),
    ],
)  # fmt: skip
def test_what_a_planted_step_does_is_told(old, new, meaning, tmp_path):
    told = Pair(tmp_path, NET, NET.replace(old, new)).steps()
    assert meanings(told) == meaning


def test_steps_that_part_for_what_was_found_before_are_equal_with_that_put_right(tmp_path):
    pair = Pair(tmp_path, NET, NET.replace(ADAM, ADAM.replace("2e-3", "1e-3")).replace(LOSS, LOSS.replace(
        "()", "(reduction='sum')")))  # fmt: skip
    told = pair.steps()
    assert not told.findings
    assert [(stage.verdict, stage.equal) for stage in told.stages] == [("EQUAL", 3)]


def test_nothing_is_left_of_steps_and_updates(tmp_path):
    side = Pair(tmp_path, NET, NET).parties[0].exact
    before = side.units()
    side.train([(BATCH, np.arange(9) % 5)], Way(is_own=True))
    side.optimize([{"a.weight": np.ones((6, 8))}], {})
    after = side.units()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("rate", "words"), [("0.3", "0.4 | 0.3"), ("0.6", "the share that the other keeps")])
def test_a_planted_dropout_is_told(rate, words, tmp_path):
    told = dropout.compared(Pair(tmp_path, NET, NET.replace("Dropout(0.4)", f"Dropout({rate})")).parties)
    assert meanings(told) == ["rate"]
    assert words in str(told.findings[0].cause)
    assert told.findings[0].remedies[0].after == "self.drop = nn.Dropout(0.4)"


@pytest.mark.parametrize(
    ("old", "new", "meaning"),
    [
        ("torch.arange(first, first + 4) % 5", "torch.arange(first, first + 4) % 5 + 1", ["labels"]),
        ("torch.arange(first, first + 4) % 5", "F.one_hot(torch.arange(first, first + 4) % 5, 5)", ["kind of labels"]),
        (".sin()", ".sin()[torch.tensor([1, 0, *range(2, 16)])]", ["order", "labels"]),
        (".sin()", ".sin() * 2 - 1", ["scaling"]),
        (".sin()", ".sin().flip(1)", ["layout"]),
        (".sin()", ".cos()", ["examples"]),
        ("dtype=torch.float32", "dtype=torch.float64", ["dtype"]),
        ("range(0, 16, 4)", "range(0, 12, 4)", []),
    ],
)
def test_planted_data_are_told(old, new, meaning, tmp_path):
    pair = Pair(tmp_path, NET, NET.replace(old, new))
    assert meanings(loaders.compared(pair.parties, pair.parts)) == meaning


def test_what_a_file_has_not_is_said_and_what_has_its_name_is_no_reason_to_stop(tmp_path):
    pair = Pair(
        tmp_path,
        NET.replace("loss = nn", "other = nn"),
        NET.replace("def optimizer(parameters)", "def optimizer(a, b, c)"),
    )
    assert "loss" in str(pair.loss()[0].not_observed[0])
    assert "needs b" in pair.parts[1]["optimizer"].error


def test_all_stages_are_told_and_go_on_where_one_raises(tmp_path):
    broken = NET.replace("    numbers = torch", "    raise OSError('no disk')\n    numbers = torch")
    broken = broken.replace("lr=2e-3", "lr=1e-3")
    pair = Pair(tmp_path, NET, broken)
    told = training.compared(pair.parties, pair.pairing, training.Asked(steps=2), True, lambda _what: None)
    assert {stage.stage: stage.verdict for stage in told.stages} == {
        "loss": "EQUAL", "optimizer": "DIVERGED", "steps": "EQUAL", "dropout": "EQUAL",
    }  # fmt: skip
    assert meanings(told) == ["learning_rate"]
    assert any("no disk" in str(what) for what in told.not_observed)


IMAGES = """\
import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(6, 12)

    def forward(self, x):
        return self.a(x).reshape(-1, 3, 4)


def loss(outputs, labels):
    return F.cross_entropy(outputs, labels)
"""


def test_labels_of_a_map_lie_where_the_classes_do(tmp_path):
    other = IMAGES.replace("F.cross_entropy(outputs, labels)", "F.cross_entropy(outputs, labels, reduction='sum')")
    pair = Pair(tmp_path, IMAGES, other)
    told, result = pair.loss()
    assert meanings(told) == ["reduction"]
    assert (result.labels[0].axis, result.labels[0].kinds) == (1, ("index", "index"))


def test_labels_without_the_last_axis_show_a_loss_that_broadcasts(tmp_path):
    right, wrong = "F.mse_loss(z.flatten(), y.flatten())", "((z - y) ** 2).mean()"
    one = NET.replace("nn.Linear(8, 5)", "nn.Linear(8, 1)").replace(LOSS, f"lambda z, y: {right}")
    told, _result = Pair(tmp_path, one, one.replace(right, wrong)).loss()
    assert meanings(told) == ["broadcast"]
    assert meanings(Pair(tmp_path, one, one).loss()[0]) == []
