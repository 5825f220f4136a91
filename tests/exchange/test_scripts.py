"""Scripts that a run is written as: every row of every table takes the backend's steps, and a changed line is found."""

from __future__ import annotations

import dataclasses
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lockstep import LockstepError, data, spec
from lockstep.backends import mistakes
from lockstep.backends import numpy as reference
from lockstep.backends.weights import initial_weights
from lockstep.exchange import scripts
from lockstep.exchange.scripts import decisions
from lockstep.machine import workers
from lockstep.spec import Network, Recipe
from lockstep.spec.records import changed
from lockstep.training import metrics
from lockstep.training.early_stopping import Stopping
from support import TESTS, backend_cases, scripted
from support.backend_cases import CASES, Case
from support.needs import need_backend

WRITTEN = [name for name in CASES if name not in scripted.REFUSED]
UNBRANCHED = [name for name in WRITTEN if name not in scripted.BRANCHED]  # which NumPy's, with its own way back, says
LONGEST = {"torch": 270, "keras": 290, "jax": 290, "flax": 310, "numpy": 370}  # of the 26 rows of branches


@pytest.fixture(scope="module")
def right():
    found = {}

    def of(name):
        if name not in found:
            with np.errstate(all="ignore"):
                found[name] = scripted.wanted(CASES[name])
        return found[name]

    return of


@pytest.mark.parametrize("name", UNBRANCHED)
def test_a_script_of_numpy_takes_the_steps_of_the_backend(name, right, tmp_path):
    text = scripts.write(scripted.given_of(CASES[name]), "numpy")
    found = scripted.taken(text, CASES[name], tmp_path / "script.py")
    assert not scripted.differences(found, right(name), CASES[name].dtype)


def test_a_script_whose_line_was_changed_does_not(right, tmp_path):
    name = "recipe-adam_cross_entropy"
    text = scripts.write(scripted.given_of(CASES[name]), "numpy")
    assert "* second + 1e-08)" in text
    changed = text.replace("* second + 1e-08)", "* second + 1e-04)")
    found = scripted.taken(changed, CASES[name], tmp_path / "script.py")
    assert scripted.differences(found, right(name), "float64")


@pytest.mark.parametrize("target", scripts.TARGETS)
def test_every_kind_of_the_specification_has_a_row(target):
    found = scripts.target(target)
    assert found.layers.keys() >= spec.LAYERS.keys()
    assert found.optimizers.keys() == spec.OPTIMIZERS.keys()
    assert found.losses.keys() == {*spec.LOSSES, mistakes.ALL_PAIRS}
    assert decisions.SCHEDULES.keys() == spec.SCHEDULES.keys()
    assert decisions.DISTRIBUTIONS.keys() == spec.INITIALIZERS.keys()
    assert decisions.REPORTED.keys() == set(spec.LOSSES)


@pytest.mark.parametrize("target", scripts.TARGETS)
def test_scripts_are_formatted_without_findings_and_import_no_lockstep(target, tmp_path):
    for name in UNBRANCHED if target == "numpy" else WRITTEN:
        text = scripts.write(scripted.given_of(CASES[name]), target)
        assert "import lockstep" not in text
        assert len(text.splitlines()) <= LONGEST[target], name
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    files = sorted(map(str, tmp_path.glob("*.py")))
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    alone = ["--isolated", "--no-cache", "--line-length", "110"]
    for command in (["format", "--check", "--diff"], ["check", "--select", "E,F,W,I"]):
        done = subprocess.run([*ruff, *command, *alone, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("name", scripted.REFUSED)
def test_what_no_script_says_is_refused_with_its_reason(name):
    with pytest.raises(LockstepError, match=scripted.REFUSED[name]):
        scripts.write(scripted.given_of(CASES[name]), "torch")


# ------------------------------------------------------------------------------------- what is decided, bit for bit


def functions(given, tmp_path, target="numpy"):
    (tmp_path / "script.py").write_text(scripts.write(given, target), encoding="utf-8")
    return runpy.run_path(str(tmp_path / "script.py"))


@pytest.mark.parametrize("kind", spec.INITIALIZERS)
def test_starting_weights_are_the_run_s(kind, tmp_path):
    network = Network(
        ["conv2d 4 [3, 2] bias_initializer=uniform", "batch_norm", "flatten", "dense 5"], initializer=kind
    )
    for format in spec.FORMATS:
        given = scripted.given_of(Case(network, Recipe()))
        given = dataclasses.replace(given, run=changed(given.run, format=format))
        found = functions(given, tmp_path)["starting_weights"]()
        wanted = initial_weights(network, backend_cases.SHAPE, scripted.SEED, format=format)
        assert found.keys() == wanted.keys()
        assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "change", [{"shift": 2}, {"rotation": 20.0}, {"flip": True}, {"shift": 1, "rotation": 170.0, "flip": True}], ids=str
)
def test_augmented_images_are_the_run_s(change, tmp_path):
    augmentation = spec.Augmentation(**change)
    case = Case(Network(["flatten", "dense 5"]), Recipe(augmentation=augmentation))
    images, _labels = backend_cases.images_of(case)
    augment = functions(scripted.given_of(case), tmp_path)["augment"]
    for epoch in range(2):
        assert np.array_equal(augment(images, epoch), data.augment(images, augmentation, scripted.SEED, epoch))


def test_the_part_that_is_kept_is_the_run_s(tmp_path):
    given = scripted.given_of(Case(Network(["flatten", "dense 5"]), Recipe()))
    part = functions(dataclasses.replace(given, run=changed(given.run, train_size=7)), tmp_path)["part"]
    labels, kept = np.random.default_rng(0).integers(0, 5, 60), np.arange(3, 60, 2)
    for n in (1, 7, 20):
        assert np.array_equal(part(kept, labels, n), data.part_of(kept, labels, n, spec.FORMAT))


@pytest.mark.parametrize("monitor", ["validation_loss", "validation_accuracy"])
@pytest.mark.parametrize("loss", spec.LOSSES)
def test_early_stopping_ends_and_goes_back_where_the_run_does(monitor, loss, tmp_path):
    stopping = spec.EarlyStopping(monitor, patience=1)
    case = Case(Network(["flatten", "dense 5"]), Recipe("sgd 3.0", 9, 7, loss, early_stopping=stopping))
    images, labels = backend_cases.images_of(case)
    held_out = images[::-1] // 2, labels[::-1]
    names = functions(dataclasses.replace(scripted.given_of(case), n_validation=len(labels)), tmp_path)
    model, losses = names["train"](images, labels, None, held_out)
    plan = backend_cases.plan_of(case, threads=1)
    other = reference.build(
        plan, initial_weights(case.network, case.shape, scripted.SEED, plan.dtype), as_trained=False
    )
    other.place(images, labels)
    rule, taken = Stopping(case.recipe, other), 0
    for epoch in range(case.recipe.epochs):
        taken += len(other.train_epoch(data.epoch_order(case.n, case.recipe, scripted.SEED, epoch))[0])
        logits = other.predict(held_out[0])
        row = {
            "validation_loss": metrics.mean_loss(logits, held_out[1], case.recipe),
            "validation_accuracy": metrics.accuracy(logits, held_out[1]),
        }
        if rule.stops(epoch + 1, row):
            break
    rule.restore()
    assert len(losses) == taken
    assert taken < 9 * 2 or monitor == "validation_loss"
    assert not scripted.differences(names["values"](model), other.weights(), "float64")


# ------------------------------------------------------------------------------------------------- in the frameworks

FEW = ["float32", "flat-adamw", "option-momentum_velocity", "chain-branches"]


@pytest.mark.parametrize("target", [name for name in scripts.TARGETS if name != "numpy"])
def test_scripts_of_a_framework_take_the_steps_of_the_backend(target, right, tmp_path):
    need_backend(scripts.TARGETS[target])
    command = [sys.executable, "-P", "-m", "support.scripted", target, str(tmp_path), *FEW]
    environment = workers.environment(scripts.TARGETS[target], 1) | {
        "PYTHONPATH": str(TESTS),
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in FEW:
        assert (tmp_path / f"{name}.npz").exists(), (tmp_path / f"{name}.txt").read_text(encoding="utf-8")
        with np.load(tmp_path / f"{name}.npz", allow_pickle=False) as found:
            assert not scripted.differences(dict(found), right(name), CASES[name].dtype), name
