"""What a proof would have seen, and that it does: updates in two halves, faults of some steps alone, blind spots."""

from __future__ import annotations

import types

import numpy as np
import pytest

from lockstep.backends import numpy as reference
from lockstep.backends.plan import Numbers
from lockstep.proof import cases, power, procedure, verdicts
from lockstep.proof.findings import Finding
from lockstep.spec import Network, Recipe, Study
from lockstep.spec.records import changed
from lockstep.training import inputs
from support.traces import judged, traced

NORMS = ["conv2d 6 3 padding=same bias=false", "batch_norm", "relu", "conv2d 6 3 padding=same bias=false", "batch_norm",
         "relu", "max_pool2d", "flatten", "dense 16", "relu", "dense 10"]  # fmt: skip
MLP = ["flatten", "dense 12", "relu", "dense 10"]


def asked(layers, dtype="float32", train_size=None, **recipe) -> Study:
    options = {"optimizer": "adam 0.01", "batch_size": 13, "epochs": 4} | recipe
    return Study(
        networks={"net": Network(layers)}, dataset=("digits",), backends=("numpy",), recipe=Recipe(**options),
        dtype=(dtype,), name="power", train_size=train_size,
    )  # fmt: skip


def proven(model, folder, layers=MLP, train_size=None, **recipe):
    """The judgement of a NumPy backend with this model in the place of its own."""
    (case,) = cases.cases(asked(layers, train_size=train_size, **recipe), 10)
    backend = types.SimpleNamespace(build=model)
    return judged(case, traced(case, folder / "trace", backend, 10))


def first(row):
    return row.divergences[0].stage, row.divergences[0].where


# ------------------------------------------------------------------------------------------------------ faulty backends


class FrozenKernel(reference.Model):
    """The first kernel is never updated, its slots are."""

    def train_epoch(self, order):
        name = next(iter(self.parameters))
        kept, found = [], []
        for indices in np.array_split(order, -(-len(order) // self.plan.recipe.batch_size)):
            kept = self.parameters[name].copy()
            found.append(super().train_epoch(indices))
            self.parameters[name][...] = kept
        return np.concatenate(found, axis=1)


class CounterAhead(reference.Model):
    def count_update(self):
        now = super().count_update()
        return Numbers(now.rate, now.epsilon, now.buffer_factor, now.t + 1)


class ForgetsSlots(reference.Model):
    def restore(self, weights, state):
        super().restore(weights, {name: 0 * value if "moment" in name else value for name, value in state.items()})


class KeepsSlots(reference.Model):
    """Putting a state back leaves the slots that are there."""

    def restore(self, weights, state):
        super().restore(weights, state | {name: value for name, value in self.state().items() if "moment" in name})


class KeepsStatistics(reference.Model):
    def restore(self, weights, state):
        super().restore(weights, state | {name: value for name, value in self.state().items() if "running" in name})


class KeepsLabels(reference.Model):
    """What is placed into memory that is there keeps the old labels."""

    def place(self, images, labels):
        super().place(images, self.labels if hasattr(self, "labels") else labels)


class KeepsImages(reference.Model):
    def place(self, images, labels):
        super().place(self.images if hasattr(self, "images") else images, labels)


class LastFullDropped(reference.Model):
    """Where no short batch comes last, the last full one is left out."""

    def train_epoch(self, order):
        size = self.plan.recipe.batch_size
        if len(order) % size or len(order) == size:
            return super().train_epoch(order)
        found = super().train_epoch(order[:-size])
        return np.concatenate([found, found[:, -1:]], axis=1)


class RateOfTheSecondEpoch(reference.Model):
    """From the third epoch on the schedule stands still: no step of the first two shows it."""

    def count_update(self):
        now, plan = super().count_update(), self.plan
        rate = plan.learning_rate(min(self.taken - 1, 2 * plan.steps_per_epoch - 1))
        return Numbers(rate, now.epsilon, now.buffer_factor, now.t)


FAULTS = [
    (FrozenKernel, NORMS, {}, {"updated weights"}),
    (CounterAhead, NORMS, {}, {"updated weights"}),
    (ForgetsSlots, MLP, {}, {"optimizer slots"}),
    (KeepsSlots, MLP, {}, {"starting weights", "optimizer slots"}),
    (KeepsStatistics, NORMS, {}, {"starting weights", "statistics"}),
    (KeepsLabels, MLP, {}, {"loss", "optimizer slots"}),
    (KeepsImages, MLP, {}, {"loss", "optimizer slots"}),
    (LastFullDropped, MLP, {}, {"whole epoch"}),
    (RateOfTheSecondEpoch, MLP, {"schedule": "step 1 0.5"}, {"updated weights"}),
]


@pytest.mark.parametrize(("model", "layers", "recipe", "where"), FAULTS, ids=[row[0].__name__ for row in FAULTS])
def test_a_fault_that_hid_is_found(model, layers, recipe, where, tmp_path):
    row = proven(model, tmp_path, layers, **recipe)
    assert row.verdict == "DIVERGED"
    assert first(row)[0] in where
    assert {tuple(item.causes) for item in row.divergences} == {("unexplained",)}


@pytest.mark.parametrize("layers", [MLP, NORMS], ids=["mlp", "norms"])
def test_the_twin_without_a_fault_is_equal(layers, tmp_path):
    row = proven(reference.Model, tmp_path, layers, schedule="step 1 0.5")
    assert (row.verdict, row.divergences) == ("EQUAL", [])


def test_a_whole_epoch_that_is_wrong_is_said_at_the_first_step_whose_loss_is(tmp_path):
    class TwiceTheRateFromTheThird(reference.Model):
        def train_epoch(self, order):
            self.within = len(order) > self.plan.recipe.batch_size
            self.seen = 0
            return super().train_epoch(order)

        def count_update(self):
            now = super().count_update()
            self.seen = getattr(self, "seen", 0) + 1
            is_wrong = getattr(self, "within", False) and self.seen == 3
            return Numbers(now.rate * (1 + is_wrong), now.epsilon, now.buffer_factor, now.t)

    row = proven(TwiceTheRateFromTheThird, tmp_path)
    assert first(row) == ("whole epoch", "losses")
    assert row.divergences[0].step == 3  # the update number 2 is wrong, and the next loss is the first to show it


def test_a_cause_must_fit_what_agrees_too(tmp_path):
    """AdamW without the last kernel's decay is AdamW coupled, if one looks at that kernel alone."""

    class WithoutTheLast(reference.Model):
        def decay(self, now):
            last = [name for name in self.plan.decayed if name.startswith("3_")]
            kept = {name: self.parameters[name].copy() for name in last}
            super().decay(now)
            for name, value in kept.items():
                self.parameters[name][...] = value

    row = proven(WithoutTheLast, tmp_path, optimizer="adamw 0.01 0.05")
    assert first(row) == ("updated weights", "3_dense/kernel")
    assert {tuple(item.causes) for item in row.divergences} == {("unexplained",)}


def test_a_cause_that_shows_in_some_steps_alone_must_fit_the_others(tmp_path):
    """Statistics that leave out the short batch are those of a training in inference mode, at that step."""

    class WithoutTheShort(reference.Model):
        def train_step(self, images, labels):
            kept = {name: value.copy() for name, value in self.statistics.items()}
            found = super().train_step(images, labels)
            if len(images) < self.plan.recipe.batch_size:
                for name, value in kept.items():
                    self.statistics[name][...] = value
            return found

    row = proven(WithoutTheShort, tmp_path, NORMS)
    assert first(row)[0] == "statistics"
    assert {tuple(item.causes) for item in row.divergences} == {("unexplained",)}


# ------------------------------------------------------------------------------------------------ power, and its lack


def test_updates_below_batch_normalisation_are_judged_in_float64_too(tmp_path):
    (row,) = procedure.prove(asked(NORMS), tmp_path / "norms", 4).networks[0].backends
    assert row.coverage.in_float64
    assert max(within or 0 for within in row.coverage.updates_within.values()) < 1e-3
    (row,) = procedure.prove(asked(MLP), tmp_path / "mlp", 4).networks[0].backends
    assert not row.coverage.in_float64
    assert max(row.coverage.updates_within.values()) < 0.1


def test_what_only_float64_shows_is_the_backends_divergence(tmp_path, monkeypatch):
    """A judge of float64 that finds something wrong: the float32 row diverges, and says in which dtype."""
    right = verdicts.judged

    def judged_wrongly(trace, case, heed=lambda: None):
        found = right(trace, case, heed)
        if case.canonical.dtype == "float64":
            wrong = next(finding for finding in found.findings if finding.stage == "optimizer slots")
            found.divergences = [verdicts.divergence_of(trace, case, [wrong], [])]
        return found

    monkeypatch.setattr(verdicts, "judged", judged_wrongly)
    document = procedure.prove(asked(NORMS), tmp_path, 4)
    assert (document.verdict, document.divergences[0].dtype) == ("DIVERGED", "float64")


def test_an_update_that_was_allowed_all_of_itself_is_not_judged():
    def judged_within(within):
        finding = Finding("updated weights", "1_dense/kernel", 0, within=within)
        row = verdicts.Judgement(None, findings=[finding], verdict="EQUAL")
        verdicts.judge_updates(row)
        return row

    assert judged_within(1.5).verdict == "INCONCLUSIVE"
    assert "1_dense/kernel" in judged_within(1.5).reason
    assert judged_within(0.5).verdict == "EQUAL"
    assert judged_within(None).verdict == "EQUAL", "rounding alone: there is nothing that could be frozen"


BLIND = ["conv2d 4 3 padding=same bias_initializer='normal 1e7'", "batch_norm", "relu", "flatten", "dense 10"]


def test_a_blind_spot_is_said_and_a_plant_shows_that_it_is_one(tmp_path):
    document = procedure.prove(asked(BLIND, optimizer="sgd 0.01"), tmp_path, 4)
    blind = document.networks[0].blind
    assert blind
    assert document.verdict == "EQUAL"
    planted = procedure.prove(asked(BLIND, optimizer="sgd 0.01"), tmp_path, 4, plants=[f"{blind[0]}@numpy"])
    assert (planted.verdict, planted.not_found) == ("EQUAL", (f"{blind[0]}@numpy",))
    seen = next(row.cause for row in document.networks[0].differences if row.is_seen and row.stage == "loss")
    found = procedure.prove(asked(BLIND, optimizer="sgd 0.01"), tmp_path, 4, plants=[f"{seen}@numpy"])
    assert (found.verdict, found.not_found) == ("DIVERGED", ())


def test_in_a_usual_network_nothing_known_is_out_of_sight(tmp_path):
    recipe = {"l2": 0.001, "optimizer": "adam 0.02"}  # at this rate some probability comes to where it would be cut
    (case,) = cases.cases(asked(MLP, **recipe), 10)
    found = power.effects(case, [traced(case, tmp_path / "trace", reference, 10)])
    assert len(found) > 15
    assert [row.cause for row in found if not row.is_seen] == []


def test_a_difference_that_makes_none_is_no_blind_spot(tmp_path):
    """Under a constant rate a velocity is a buffer."""
    (case,) = cases.cases(asked(MLP, optimizer="momentum 0.1"), 10)
    found = {row.cause for row in power.effects(case, [traced(case, tmp_path / "trace", reference, 10)])}
    assert "momentum_velocity" not in found
    assert "momentum_is_nesterov" in found
    assert changed(case.canonical, backend="torch").backend == "torch"


def test_a_study_with_a_batch_of_one_is_proven_with_one(tmp_path):
    assert cases.proof_size(14 * 5 + 1, Recipe(batch_size=14), 10) % 14 == 1
    assert cases.proof_size(14 * 5, Recipe(batch_size=14), 10) % 14 == 14 // 3 + 1
    row = proven(reference.Model, tmp_path, NORMS, batch_size=13, train_size=13 * 9 + 1)
    assert (row.verdict, row.divergences) == ("EQUAL", [])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("momentum", [1.0, 0.1])
def test_constant_images_below_a_batch_normalisation_are_nobodys_fault(momentum, dtype, tmp_path):
    """The variance of a constant is the square of its mean's rounding, of which the first order is 0."""
    (case,) = cases.cases(asked(["flatten", f"batch_norm {momentum}", "dense 10"], dtype), 10)
    loaded = case.examples.data
    grey = np.full_like(loaded.train_images, 77)
    case = changed(case, examples=inputs.Examples(changed(loaded, train_images=grey), case.runs[0]))
    row = judged(case, traced(case, tmp_path / "trace", reference, 10, threads=2))
    assert (row.verdict, row.divergences) == ("EQUAL", [])
