"""What a backend lacks of its contract is seen by the type checker; a plan without mistakes knows of none."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lockstep
from lockstep import backends, spec
from lockstep.backends import contract
from lockstep.backends.mistakes import ALL_PAIRS, MistakenPlan
from lockstep.backends.plan import Plan
from support import ROOT
from support.backend_cases import BATCH, CASES, NORMAL, plan_of

HEAD = """
from typing import Any
import numpy as np
from lockstep.backends import contract
from lockstep.backends.plan import Arrays, Plan
LAYERS: dict[str, Any] = {}
LOSSES: dict[str, Any] = {}
OPTIMIZERS: dict[str, Any] = {}
"""
FUNCTIONS = {
    "device_name": "def device_name(name: str) -> str: ...",
    "build": "def build(plan: Plan, weights: Arrays) -> contract.Model:\n    return Model(plan)",
}
VERBS = {
    "place": "def place(self, images: np.ndarray, labels: np.ndarray) -> None: ...",
    "train_epoch": "def train_epoch(self, order: np.ndarray) -> np.ndarray: ...",
    "wait": "def wait(self) -> None: ...",
    "predict": "def predict(self, images: np.ndarray) -> np.ndarray: ...",
    "step": "def step(self, images: np.ndarray, labels: np.ndarray) -> float: ...",
    "activations": "def activations(self, images: np.ndarray, training: bool) -> Arrays: ...",
    "gradients": "def gradients(self, images: np.ndarray, labels: np.ndarray)"
    " -> tuple[float, Arrays, Arrays, Arrays]: ...",
    "layer": "def layer(self, name: str, x: contract.Taken, dy: np.ndarray)"
    " -> tuple[np.ndarray, contract.Taken, Arrays]: ...",
    "weights": "def weights(self) -> Arrays: ...",
    "state": "def state(self) -> Arrays: ...",
    "restore": "def restore(self, weights: Arrays, state: Arrays) -> None: ...",
}


def backend_without(lacking: str) -> str:
    """The text of a backend that type checks but for what it lacks."""
    verbs = "".join(f"    {text}\n" for name, text in VERBS.items() if name != lacking)
    functions = "\n".join(text for name, text in FUNCTIONS.items() if name != lacking)
    start = "    def __init__(self, plan: Plan) -> None:\n        self.plan = plan\n"
    return f"{HEAD}class Model:\n{start}{verbs}\n{functions}\n"


@pytest.fixture(scope="module")
def complaints(tmp_path_factory):
    """What a backend lacks → what mypy says of it; "nothing" of one that lacks nothing."""
    folder = tmp_path_factory.mktemp("planted")
    every = ["nothing", *VERBS, *FUNCTIONS]
    for lacking in every:
        (folder / f"without_{lacking}.py").write_text(backend_without(lacking))
        used = f"import without_{lacking}\nfrom lockstep.backends.contract import Backend\n"
        (folder / f"use_{lacking}.py").write_text(f"{used}made: Backend = without_{lacking}\n")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--disable-error-code",
        "empty-body",
        *map(str, sorted(folder.glob("*.py"))),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1, done.stdout + done.stderr
    return {
        lacking: "\n".join(line for line in done.stdout.splitlines() if re.search(rf"/\w+_{lacking}\.py:", line))
        for lacking in every
    }


def test_a_whole_backend_is_no_complaint(complaints):
    assert complaints["nothing"] == ""


@pytest.mark.parametrize("lacking", [*VERBS, *FUNCTIONS])
def test_mypy_names_the_verb_that_a_backend_lacks(lacking, complaints):
    assert "error" in complaints[lacking]
    assert lacking in complaints[lacking]


def test_the_planted_verbs_are_those_of_the_contract():
    verbs = {name for name, _ in inspect.getmembers(contract.Model, inspect.isfunction) if not name.startswith("_")}
    assert verbs == set(VERBS)
    functions = {name for name, _ in inspect.getmembers(contract.Backend, inspect.isfunction) if name[0] != "_"}
    assert functions == set(FUNCTIONS)


def test_the_type_checker_compares_every_backend_with_the_contract():
    source = (Path(lockstep.__file__).parent / "backends/__init__.py").read_text(encoding="utf-8")
    (every,) = [
        node.value for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_EVERY"
    ]  # fmt: skip
    assert [name.id for name in every.elts] == list(backends.BACKENDS)


# -------------------------------------------------------------------------------------------------------- mistakes


def test_a_recipe_without_mistakes_has_the_plain_plan():
    assert type(plan_of(CASES["layer-dropout"])) is Plan
    assert type(plan_of(CASES["option-dropout_rate_kept"])) is MistakenPlan


OF_THE_PLAN = {
    "training_in_inference_mode": lambda plan: plan.in_training,
    "prediction_in_training_mode": lambda plan: plan.in_prediction,
    "targets_broadcast": lambda plan: plan.loss == ALL_PAIRS,
    "decay_on_all": lambda plan: sorted(plan.decayed),
    "rate_late": lambda plan: [plan.learning_rate(step) for step in range(9)],
    **{
        name: lambda plan: [mask.tolist() for mask in plan.masks(3, BATCH).values()]
        for name in ("dropout_not_scaled", "dropout_rate_kept", "dropout_of_another_seed")
    },
}


@pytest.mark.parametrize("mistake", OF_THE_PLAN)
def test_a_mistake_of_the_plan_changes_what_it_says_and_nothing_else(mistake):
    plain = Plan(
        NORMAL, (11, 13, 3), spec.Recipe("momentum", 3, BATCH, schedule="cosine"), 0, np.zeros(3), np.ones(3), 4
    )
    recipe = spec.Recipe("momentum", 3, BATCH, schedule="cosine", mistakes=(mistake,))
    mistaken = MistakenPlan(NORMAL, (11, 13, 3), recipe, 0, np.zeros(3), np.ones(3), 4)
    differing = [name for name, decided in OF_THE_PLAN.items() if decided(plain) != decided(mistaken)]
    masks = [name for name in OF_THE_PLAN if name.startswith("dropout")]  # which are told apart by nothing else
    assert differing == (masks if mistake in masks else [mistake])
