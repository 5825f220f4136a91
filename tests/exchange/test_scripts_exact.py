"""Scripts that a run is written as: every row of every table takes the backend's steps, and a changed line is found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import scripted
from conformance import CASES
from lockstep import LockstepError, spec
from lockstep.backends import mistaken
from lockstep.exchange import scripts
from lockstep.exchange.scripts import decisions

WRITTEN = [name for name in CASES if name not in scripted.REFUSED]
LONGEST = {"torch": 260, "keras": 270, "jax": 260, "numpy": 370}  # of the sixteen layers of EVERYTHING


@pytest.fixture(scope="module")
def right():
    found = {}

    def of(name):
        if name not in found:
            with np.errstate(all="ignore"):
                found[name] = scripted.wanted(CASES[name])
        return found[name]

    return of


@pytest.mark.parametrize("name", WRITTEN)
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
    assert found.losses.keys() == {*spec.LOSSES, mistaken.ALL_PAIRS}
    assert decisions.SCHEDULES.keys() == spec.SCHEDULES.keys()
    assert decisions.DISTRIBUTIONS.keys() == spec.INITIALIZERS.keys()
    assert decisions.REPORTED.keys() == set(spec.LOSSES)


@pytest.mark.parametrize("target", scripts.TARGETS)
def test_scripts_are_formatted_without_findings_and_import_no_lockstep(target, tmp_path):
    for name in WRITTEN:
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
