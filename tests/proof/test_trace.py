"""A trace's own word on itself is checked, and so is the whole epoch that training takes in one call."""

from __future__ import annotations

import hashlib
import json
import types

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lockstep import LockstepError, store
from lockstep.backends import numpy as reference
from lockstep.proof import cases, tolerances, traces, verdicts
from lockstep.proof.passes import Whole
from lockstep.proof.traces import Trace
from lockstep.spec import Network
from lockstep.spec.records import changed
from lockstep.training import inputs
from support.traces import STEPS, asked, judged, traced


def the_case(dtype="float32", **recipe):
    (case,) = cases.cases(asked(dtype, **recipe), STEPS)
    return case


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    case = the_case()
    return case, traced(case, tmp_path_factory.mktemp("trace") / "here").folder


def test_small_files_of_a_trace_are_read_once_and_large_ones_each_time(made, monkeypatch):
    folder, read = made[1], []
    there = store.read_tensors
    monkeypatch.setattr(store, "read_tensors", lambda path, known: read.append(path.name) or there(path, known))
    found = Trace(folder)
    first, again = found.arrays("step-1"), found.arrays("step-1")
    again.clear()  # a caller's own dictionary
    assert first.keys() == found.arrays("step-1").keys()
    assert read == ["step-1.safetensors"]
    monkeypatch.setattr(traces, "MOST_KEPT", 2)
    for name in ("step-2", "step-3", "step-1"):  # the oldest goes
        found.arrays(name)
    assert read[1:] == [f"step-{number}.safetensors" for number in (2, 3, 1)]
    monkeypatch.setattr(traces, "MOST_KEPT_BYTES", 0)
    other = Trace(folder)
    assert [other.arrays("step-1").keys() for _ in range(2)] == [first.keys()] * 2
    assert read[4:] == ["step-1.safetensors"] * 2


def edited(folder, tmp_path, name="manifest", change=lambda value: None):
    """A copy in which one file was changed, and every hash made to fit."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((copy / "manifest.json").read_text())
    if name == "manifest":
        change(manifest)
    else:
        arrays = load_file(copy / f"{name}.safetensors")
        change(arrays)
        arrays = {key: np.asarray(value, order="C") for key, value in arrays.items()}
        save_file(arrays, copy / f"{name}.safetensors")
        content = (copy / f"{name}.safetensors").read_bytes()
        listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest["files"][f"{name}.safetensors"] = listed
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return Trace(copy)


# ------------------------------------------------------------------------------------------------------- a whole epoch


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", ["sgd 0.1", "adam 0.01"])
def test_a_whole_epoch_is_its_steps(dtype, optimizer, tmp_path):
    case = the_case(dtype, optimizer=optimizer, augmentation={"shift": 1})
    row = judged(case, traced(case, tmp_path / "trace"))
    assert row.verdict == "EQUAL", row.divergences
    found = {finding.where for finding in row.findings if finding.stage == "whole epoch"}
    kinds = {"losses", "updates taken", "all weights", "running_mean", "running_variance"}
    kinds |= {"first_moment", "second_moment"} if optimizer.startswith("adam") else set()
    assert found == kinds | {f"{kind} without the short batch" for kind in kinds}


class RateOfTheFirstStep(reference.Model):
    """A chunk that takes every step at the rate of its first one: right step by step, wrong by the epoch."""

    def train_epoch(self, order):
        plan, taken = self.plan, int(self.state()["step"])
        first = types.SimpleNamespace(numbers=lambda step: plan.numbers(step)._replace(rate=plan.learning_rate(taken)))
        self.plan = _With(plan, first)
        try:
            return super().train_epoch(order)
        finally:
            self.plan = plan


class MaskOfTheFirstStep(reference.Model):
    """A chunk whose every step drops what its first one drops."""

    def train_epoch(self, order):
        plan, taken = self.plan, int(self.state()["step"])
        self.plan = _With(plan, types.SimpleNamespace(masks=lambda step, n: plan.masks(taken, n)))
        try:
            return super().train_epoch(order)
        finally:
            self.plan = plan


class LastBatchDropped(reference.Model):
    """An epoch of more than one batch that leaves out the short one, and says that its loss was the first's."""

    def train_epoch(self, order):
        size = self.plan.recipe.batch_size
        if len(order) <= size:
            return super().train_epoch(order)
        found = super().train_epoch(order[: len(order) // size * size])
        return np.concatenate([found, found[:, :1]], axis=1)


class _With:
    """An object with some of its attributes replaced."""

    def __init__(self, inner, other):
        self.__dict__["inner"], self.__dict__["other"] = inner, other

    def __getattr__(self, name):
        return getattr(self.other if hasattr(self.other, name) else self.inner, name)


@pytest.mark.parametrize("faulty", [RateOfTheFirstStep, MaskOfTheFirstStep, LastBatchDropped])
def test_a_fault_that_shows_only_in_a_whole_epoch_is_found(faulty, tmp_path):
    case = the_case()
    backend = types.SimpleNamespace(build=lambda plan, weights: faulty(plan, weights))
    row = judged(case, traced(case, tmp_path / "trace", backend))
    assert row.verdict == "DIVERGED"
    (first,) = row.divergences
    assert (first.stage, first.causes) == ("whole epoch", ("unexplained",))
    assert {finding.stage for finding in row.findings if not finding.agrees} == {"whole epoch"}


@pytest.mark.parametrize("name", ["epoch", "full"])
def test_without_its_whole_epoch_a_trace_is_not_equal(name, made, tmp_path):
    case, folder = made
    row = judged(case, edited(folder, tmp_path, change=lambda manifest: manifest["files"].pop(f"{name}.safetensors")))
    assert row.verdict == "INCONCLUSIVE"
    assert "whole epoch" in row.reason


# ----------------------------------------------------------------------------------------------- the predictions' parts


class WrongInTheSecondCall(reference.Model):
    """Inference that is wrong from the second call's images on."""

    def predict(self, images):
        logits = super().predict(images)
        logits[500:] *= 1.001
        return logits


def test_predictions_are_judged_beyond_one_call(tmp_path):
    loaded = the_case().examples.data
    many = np.concatenate([loaded.test_images] * 2), np.concatenate([loaded.test_labels] * 2)
    assert len(many[0]) > traces.N_PREDICTED
    loaded = changed(loaded, test_images=many[0], test_labels=many[1])
    for model, verdict in ((reference.Model, "EQUAL"), (WrongInTheSecondCall, "DIVERGED")):
        case = the_case()
        case = changed(case, examples=inputs.Examples(loaded, case.runs[0]))
        backend = types.SimpleNamespace(build=lambda plan, weights, model=model: model(plan, weights))
        row = judged(case, traced(case, tmp_path / verdict, backend))
        assert row.verdict == verdict
        if verdict == "DIVERGED":
            assert row.divergences[0].stage == "predictions"
            assert row.divergences[0].index[0] >= 500


# --------------------------------------------------------------------------------------- what a trace says of itself


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda manifest: manifest.update(n_train=99), "n_train is 99 and not"),
        (lambda manifest: manifest.update(steps_per_epoch=2), "steps_per_epoch is 2 and not 4"),
        (lambda manifest: manifest.update(mean=[0.5]), "mean is"),
        (lambda manifest: manifest.update(scale=[0.5]), "scale is"),
        (lambda manifest: manifest.update(dtype="float64"), "dtype is float64 and not float32"),
    ],
)
def test_a_manifest_that_contradicts_its_own_run_is_found(change, words, made, tmp_path):
    case, folder = made
    row = verdicts.judged(edited(folder, tmp_path, change=change), case)
    assert row.verdict == "DIVERGED"
    assert row.divergences[0].where == "manifest"
    assert words in row.divergences[0].problem


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["observed"].append(77),
        lambda manifest: manifest["kept"].append(77),
        lambda manifest: manifest["kept"].remove(3),
        lambda manifest: manifest.pop("described_by"),
    ],
)
def test_a_manifest_that_cannot_be_is_refused(change, made, tmp_path):
    _, folder = made
    with pytest.raises(LockstepError) as caught:
        _ = edited(folder, tmp_path, change=change).manifest
    assert caught.value.code == "LS-505"


@pytest.mark.parametrize("file", ["spec.toml", "environment.json"])
def test_what_describes_a_trace_cannot_be_edited(file, made, tmp_path):
    _, folder = made
    found = edited(folder, tmp_path)
    assert found.run.backend == "numpy"
    assert found.environment
    (found.folder / file).write_text((found.folder / file).read_text() + " ")
    again = Trace(found.folder)
    with pytest.raises(LockstepError, match="SHA-256"):
        _ = again.run if file == "spec.toml" else again.environment


def shaped(name, shape):
    return lambda arrays: arrays.update({name: np.zeros(shape, arrays[name].dtype)})


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("start", shaped("weights/5_dense/kernel", (3, 3)), "shape"),
        ("start", shaped("state/1_batch_norm/running_mean", (3,)), "shape"),
        ("step-2", shaped("weights/5_dense/kernel", (3, 3)), "of another shape: weights/5_dense/kernel (3, 3), not"),
        ("step-2", shaped("state/5_dense/bias/first_moment", ()), "of another shape"),
        ("step-2", shaped("gradient/0_conv2d/kernel", (1,)), "of another shape"),
        ("step-2", shaped("activation/2_relu", (13, 1)), "of another shape"),
        ("step-2", shaped("sent_back/2_relu", (13, 1)), "of another shape"),
        ("step-2", shaped("images", (2, 8, 8, 1)), "its shape is"),
        ("step-2", shaped("labels", (3,)), "its shape is"),
        ("step-2", shaped("correct", ()), "of another shape"),
        ("step-2", lambda arrays: arrays.pop("loss"), "missing: loss"),
        ("end", shaped("inference/1_batch_norm", (64, 5)), "shape"),
        ("end", shaped("inference/input", (64, 5)), "shape"),
        ("end", shaped("logits", (3, 10)), "shape"),
        ("end", shaped("images", (3, 8, 8, 1)), "shape"),
        ("end", lambda arrays: arrays.pop("images"), "missing"),
        ("end", lambda arrays: arrays["images"].fill(7), ""),
        ("epoch", shaped("loss", (2,)), "shape"),
        ("epoch", lambda arrays: arrays.pop("loss"), "missing"),
        ("epoch", shaped("weights/5_dense/kernel", (2,)), ""),
        ("epoch", lambda arrays: arrays["state/step"].fill(1), ""),
    ],
)
def test_arrays_of_another_shape_are_named_and_nothing_raises(name, change, words, made, tmp_path):
    case, folder = made
    row = judged(case, edited(folder, tmp_path, name, change))
    assert row.verdict == "DIVERGED"
    assert words in (row.divergences[0].problem or "")


def test_where_a_tolerance_or_the_judge_is_not_finite_nobody_is_accused_and_nothing_was_judged(made):
    from lockstep.proof.findings import compare

    assert compare("loss", "loss", 0, 1.0, 1.0, 1e-9).agrees
    for found, wanted, allowed in ((1.0, 2.0, np.inf), (np.inf, np.inf, 1.0), (np.nan, np.nan, np.nan)):
        finding = compare("loss", "loss", 0, found, wanted, allowed)
        assert (finding.agrees, finding.is_beyond, finding.n) == (True, True, 0)
    assert not compare("loss", "loss", 0, np.inf, 2.0, 1.0).agrees, "the twin: the judge's is finite, the backend's not"
    assert not compare("loss", "loss", 0, [1.0, 9.0], [1.0, 2.0], [np.inf, 1.0]).agrees, (
        "of two places one can be judged"
    )
    case, folder = made
    findings = list(case.judge.findings(Trace(folder)))
    assert "loss" not in verdicts.coverage(case, Trace(folder), findings).missing
    beyond = compare("loss", "loss", 0, 1.0, 2.0, np.inf)
    assert "loss" in verdicts.coverage(case, Trace(folder), [*findings, beyond]).missing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_statistics_are_allowed_what_another_pass_may_bring_to_them(dtype):
    """A batch's variance is small beside its mean here, and moves with every rounding of what comes in."""
    layers = ["flatten", "dense 20", "sigmoid", "dense 20", "softplus", "dense 20", "batch_norm", "gelu", "dense 10"]
    (case,) = cases.cases(changed(asked(dtype), networks={"net": Network(layers)}), STEPS)
    judge, (images, labels) = case.judge, case.examples.train
    for model in (judge.exact, judge.single):  # as after many steps: the first value, 1, is forgotten
        state = model.state()
        state["6_batch_norm/running_variance"] *= 0
        model.restore(model.weights(), state)
    whole = Whole(judge.exact, judge.single, dtype, images, labels)
    x, drift = whole.exact.values["5_dense"], whole.drift("5_dense")
    moved = x + drift * np.sign(x - x.mean(axis=0))
    rooms = {name: room for name, (_, room) in whole.statistics().items()}
    change = 0.1 * np.abs(moved.var(axis=0, ddof=1) - x.var(axis=0, ddof=1))
    assert (change <= rooms["6_batch_norm/running_variance"]).all()
    value = whole.statistics()["6_batch_norm/running_variance"][0]
    assert (change > tolerances.of(dtype, value)).any(), "the twin: its own size alone would not cover it"
