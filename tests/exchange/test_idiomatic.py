"""Idiomatic scripts: formatted, short, refused where a framework has no word; written only at the study's accuracy."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lockstep import LockstepError, store, study
from lockstep.exchange.scripts import idiomatic
from lockstep.machine import alone
from lockstep.proof import idiomatic as judged
from lockstep.proof import script
from support import EARLIER, ROOT, scripted
from support.backend_cases import CASES

RUN = next((EARLIER / "finished").glob("mlp-*"))
LABS = ["lab-architectures", "lab-choices", "lab-frameworks", "lab-from-scratch", "lab-lenet", "lab-regularisation"]


def given_of(case):
    given = scripted.given_of(case)
    return dataclasses.replace(given, plan=dataclasses.replace(given.plan, dtype="float32"))


def assert_formatted(folder):
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    alone_of = ["--isolated", "--no-cache", "--line-length", "110", str(folder)]
    for command in (["format", "--check", "--diff"], ["check", "--select", "E,F,W,I"]):
        done = subprocess.run([*ruff, *command, *alone_of], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize("target", idiomatic.TARGETS)
def test_scripts_are_formatted_without_findings(target, tmp_path):
    n = 0
    for name, case in CASES.items():
        given = given_of(case)
        if not idiomatic.refusals(given, target):
            (tmp_path / f"{name}.py").write_text(idiomatic.write(given, target), encoding="utf-8")
            n += 1
    assert n > 90
    assert_formatted(tmp_path)


@pytest.mark.parametrize("target", idiomatic.TARGETS)
def test_scripts_of_the_labs_have_at_most_120_lines(target, tmp_path):
    for lab in LABS:
        runs = study.load_study(ROOT / "studies" / f"{lab}.toml").runs()
        for run in {run.network_name: run for run in runs}.values():
            case = scripted.Case(run.network, run.recipe, shape=(28, 28, 1))
            given = dataclasses.replace(given_of(case), run=run, source="idx", n_validation=100)
            text = idiomatic.write(given, target)
            assert idiomatic.count(text).lines <= 120, (lab, run.network_name)
            (tmp_path / f"{lab}_{run.network_name}.py").write_text(text, encoding="utf-8")
    assert_formatted(tmp_path)


def test_what_a_framework_has_no_word_for_is_refused_with_its_reason():
    given = given_of(CASES["option-max_pool2d_same_lower"])
    assert idiomatic.write(given, "torch")
    with pytest.raises(LockstepError, match="Keras has no word for it"):
        idiomatic.write(given, "keras")
    with pytest.raises(LockstepError, match="mistakes on purpose: rate_late"):
        idiomatic.write(given_of(CASES["option-rate_late"]), "torch")
    with pytest.raises(LockstepError, match='no idiomatic script is written for "numpy"'):
        idiomatic.write(given, "numpy")


def test_what_it_takes_is_counted():
    text = "import torch\n\n# PyTorch's own is another\nx = torch.ones(2)  # the default has 1\ny = torch.ones(3)\n"
    assert idiomatic.count(f'"""What it is."""\n{text}') == (3, 1, 2)


@pytest.mark.parametrize(("off", "is_written"), [(0.0, True), (-0.5, False)])
def test_a_script_is_written_where_it_reaches_the_study_s_accuracy(off, is_written, tmp_path, monkeypatch):
    reached = store.Record(RUN).test_accuracy + off

    def run(file, words, *_others):
        np.savez(words[words.index("--out") + 1], accuracy=reached)

    monkeypatch.setattr(alone, "run", run)
    monkeypatch.setattr(script, "assert_installed", lambda *_: None)
    found = judged.export(RUN, "torch", tmp_path / "mlp.py")
    assert found.is_within == is_written == (tmp_path / "mlp.py").exists()
    assert found.low < store.Record(RUN).test_accuracy < found.high
    assert found.count.lines > 40
    assert not list(tmp_path.glob(".*"))


def test_seeds_widen_what_is_allowed(tmp_path):
    record = store.Record(RUN)
    asked = script.subject(RUN)
    n = len(asked.examples.test[0])
    low, high, seeds = judged.allowed(RUN, asked)
    assert seeds == len({other.seed for other in store.find_runs(RUN.parent) if other.network == record.network})
    assert 0 < high - low < 8 / np.sqrt(n)
