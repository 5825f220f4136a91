"""Scripts are judged before they are written, and named where they differ; what fails or hangs says so."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lockstep import LockstepError, cli, data, spec, store
from lockstep.exchange import scripts
from lockstep.proof import causes, script
from lockstep.training import inputs
from support import EARLIER

RUN = next((EARLIER / "finished").glob("mlp-*"))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def typed(*words):
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in words])
    return ended.value.code


# ---------------------------------------------------------------------------------------------------- the command line


def test_a_script_is_written_once_it_is_equal_and_never_over_another(capsys, tmp_path):
    run = shutil.copytree(RUN, tmp_path / "kept" / RUN.name)  # beside which the page of a proof is written
    assert typed("export", RUN, "--script", "numpy") == 0
    said = capsys.readouterr().out
    assert "EQUAL: 9 steps of the script are the judge's within rounding" in said
    assert "written: mlp_numpy.py" in said
    text = Path("mlp_numpy.py").read_text(encoding="utf-8")
    assert typed("export", RUN, "--script", "numpy") == 2
    assert "there is such a file already" in capsys.readouterr().err
    # … and one that was edited is run as it is: its difference is named.
    assert "order = permutation(len(images), ORDER, epoch)" in text
    edited = text.replace("order = permutation(len(images), ORDER, epoch)", "order = np.arange(len(images))")
    Path("edited.py").write_text(edited, encoding="utf-8")
    assert typed("prove", "--script", "edited.py", run, "--json") == 1
    proof = json.loads(capsys.readouterr().out)
    assert proof["verdict"] == "DIVERGED"
    assert proof["divergences"][0]["causes"] == ["order_not_shuffled"]


def test_a_script_that_is_not_equal_is_not_written(monkeypatch, capsys):
    write = scripts.write
    monkeypatch.setattr(scripts, "write", lambda *given: write(*given).replace("x @ w + b", "x @ w + b + 1e-3"))
    assert typed("export", RUN, "--script", "numpy", "--out", "wrong.py") == 1
    said = capsys.readouterr()
    assert "not written: the script would not take the run's steps" in said.err
    assert "training from the start" in said.out.replace("\n", " ")
    assert not Path("wrong.py").exists()


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["export", RUN], 2, "--script torch | numpy | keras | jax"),
        (["export", RUN, "--script", "nunpy"], 2, 'did you mean "numpy"'),
        (["export", RUN.parent.parent / "interrupted" / RUN.name, "--script", "numpy"], 5, "LS-505"),
        (["export", "nowhere", "--script", "numpy"], 2, "it does not exist"),
        (["prove", "--script", "nowhere.py", RUN], 2, "there is no such file"),
        (["prove", "--script", "x.py", RUN, "--steps", "3"], 2, "--script takes one run folder"),
    ],
    ids=lambda value: str(value)[:20] if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_said(words, code, says, capsys):
    assert typed(*words) == code
    assert says in capsys.readouterr().err


def test_a_target_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(script.backends, "why_missing", lambda name: f"{name} not installed")
    with pytest.raises(LockstepError, match="jax not installed") as raised:
        script.export(RUN, "jax")
    assert raised.value.problems[0].code == "LS-401"


# ------------------------------------------------------------------------------------------------ a process of its own

FAULTS = {
    "import numpy\nraise ValueError('no such thing')": ("LS-402", "no such thing"),
    "import numpy\nimport time\ntime.sleep(60)": ("LS-402", "not done after 2 seconds"),
    "import numpy\nimport lockstep": ("LS-402", "lockstep"),
    "import numpy": ("LS-403", "wrote no result"),
}


@pytest.mark.parametrize("text", FAULTS, ids=["fails", "hangs", "needs Lockstep", "writes nothing"])
def test_a_script_that_gives_no_result_says_why(text, monkeypatch):
    monkeypatch.setattr(script, "SECONDS", 2 if "sleep" in text else 60)
    Path("own.py").write_text(text, encoding="utf-8")
    with pytest.raises(LockstepError) as raised:
        script.prove(Path("own.py"), RUN)
    (problem,) = raised.value.problems
    code, says = FAULTS[text]
    assert problem.code == code
    assert says in str(problem.message)


# ----------------------------------------------------------------------------------------- planted differences by name

NETWORK = spec.Network(
    ["conv2d 3 4 3 padding=same bias=false", "batch_norm", "relu", "dropout 0.2", "flatten", "dense 10"]
)
RECIPE = spec.Recipe("adamw 0.01 0.1", 3, 16, validation=0.1, l2=0.01, schedule="cosine")


@pytest.fixture(scope="module")
def asked():
    study = spec.Study({"net": NETWORK}, ("digits",), ("numpy",), recipe=RECIPE, dtype=("float64",), name="planted")
    (run,) = study.runs()
    return script.Subject(Path("run"), run, inputs.Examples(data.load("digits", offline=True), run))


def judged(asked, other, tmp_path):
    """The proof of the script of another run, by the one that was asked for; taken here, without a process."""
    written = dataclasses.replace(asked, run=other, examples=inputs.Examples(asked.examples.data, other))
    place = tmp_path / "script.py"
    place.write_text(scripts.write(written.given, "numpy"), encoding="utf-8")
    case, names = asked.case, runpy.run_path(str(place))
    steps = min(script.STEPS, RECIPE.epochs * case.plan.steps_per_epoch)
    model, losses = names["train"](*case.examples.train, steps)
    logits = names["predict"](model, names["prepare"](case.examples.test[0]))
    found = {"losses": np.array(losses), "logits": logits, **names["values"](model)}
    return script.proof_of(found, place, "numpy", asked, case, steps)


def test_a_script_of_the_run_itself_is_equal(asked, tmp_path):
    proof = judged(asked, asked.run, tmp_path)
    assert proof.verdict == "EQUAL", proof.divergences


@pytest.mark.parametrize("cause", ["decay_on_all", "dropout_rate_kept", "rate_late"])
def test_a_difference_that_is_planted_in_a_script_is_named(cause, asked, tmp_path):
    other = causes.differing(cause, asked.run, asked.examples.shape)
    proof = judged(asked, other, tmp_path)
    assert proof.verdict == "DIVERGED"
    assert cause in proof.divergences[0].causes


def test_fewer_steps_are_judged_where_rounding_takes_over(monkeypatch):
    asked, said = [], ["INCONCLUSIVE", "EQUAL"]
    monkeypatch.setattr(script, "results_of", lambda file, target, of, case, steps, tell: {})
    monkeypatch.setattr(
        script, "proof_of", lambda *given: asked.append(given[-1]) or SimpleNamespace(verdict=said.pop(0))
    )
    assert script.judged(Path("x.py"), "numpy", script.subject(RUN)).verdict == "EQUAL"
    assert asked == [9, 3]


def test_two_batch_normalisations_of_one_script_keep_their_own_variances(tmp_path):
    layers = ["flatten", "dense 7 bias=false", "batch_norm running_variance=biased", "dense 5 bias=false", "batch_norm"]
    study = spec.Study(
        {"net": spec.Network([*layers, "dense 10"])}, ("digits",), ("numpy",), name="two", dtype=("float64",)
    )
    (run,) = study.runs()
    both = script.Subject(Path("run"), run, inputs.Examples(data.load("digits", offline=True), run))
    assert judged(both, run, tmp_path).verdict == "EQUAL"


def test_a_dataset_of_ones_own_goes_beside_the_script(tmp_path, capsys):
    generator = np.random.default_rng(0)
    names = ("x_train", "y_train", "x_test", "y_test")
    arrays = [generator.integers(0, 256, (40, 9, 9), np.uint8), np.arange(40) % 3]
    np.savez("own.npz", **dict(zip(names, arrays * 2, strict=True)))
    Path("own.toml").write_text(
        'dataset = "./own.npz"\nbackends = ["numpy"]\nrecipe = {epochs = 1, batch_size = 8}\n'
        'networks.net = ["flatten", "dense 3"]\n', encoding="utf-8"
    )  # fmt: skip
    assert typed("run", "own.toml") == 0
    (run,) = Path("runs/own").glob("net-*")
    assert typed("export", run, "--script", "numpy") == 0
    assert "net_numpy.npz, the images and labels that it reads" in capsys.readouterr().out
    done = subprocess.run([sys.executable, "net_numpy.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found, wanted = store.read_npz(Path("result.npz"))["losses"], store.read_npz(run / "steps.npz")["loss"]
    assert np.allclose(found, wanted, rtol=0, atol=1e-5)


def test_what_is_hardly_further_off_than_rounding_is_no_difference_and_what_is_far_is_one(asked, monkeypatch, tmp_path):
    real = script.findings

    def off_by(rooms):
        def found(*given):
            first, *rest = real(*given)
            yield dataclasses.replace(first, units=rooms, step=3)
            yield from rest

        monkeypatch.setattr(script, "findings", found)
        monkeypatch.setattr(script, "causes_of", lambda *given: [])
        return judged(asked, asked.run, tmp_path).verdict

    assert off_by(5.0) == "INCONCLUSIVE"
    assert off_by(50.0) == "DIVERGED"
