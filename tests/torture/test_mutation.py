"""`python -m support.mutants` itself: what it counts as found, placed and named, and that it can fail."""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import json
from collections import Counter

import pytest

from lockstep import backends
from lockstep.proof.causes import CAUSES
from lockstep.proof.findings import STAGES
from lockstep.spec.toml import read_study
from support.mutants import runner
from support.mutants.__main__ import chosen, main
from support.mutants.runner import Proof, Runner, told
from support.mutants.table import MUTANTS, PLACES, STUDIES, Mutant

NOTHING = Mutant(
    "nothing", "a line that is the same in other words", "backends/numpy/optimizers.py", "mlp", ("optimizer slots: *",),
    (("w -= np.multiply(g, now.rate, out=s)", "w -= np.multiply(now.rate, g, out=s)"),), ("numpy",), ("numpy",),
)  # fmt: skip
EVERYTHING = dataclasses.replace(
    NOTHING, name="everything", what="training forgets every weight", file="backends/numpy/__init__.py",
    edits=(("            self.finish(index,", "            self.flat[...] = 0\n            self.finish(index,"),),
)  # fmt: skip
GONE = dataclasses.replace(NOTHING, name="gone", edits=(("a text that no file holds", ""),))
COMMON = dataclasses.replace(NOTHING, name="common", edits=(("return ", "return  "),))


@pytest.fixture(scope="module")
def prover(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("mutants"))


# ------------------------------------------------------------------------------------------------------- it can fail


def test_what_changes_nothing_is_missed_and_what_breaks_everything_is_found(prover):
    nothing, everything = prover.run([NOTHING, EVERYTHING], 1, lambda result: None)
    assert (nothing.outcome, nothing.note) == (runner.MISSED, runner.UNTOUCHED)
    assert (everything.outcome, everything.cause, everything.accused) == (runner.FOUND, runner.NONE, ())
    assert not nothing.is_wrong
    assert len(prover.clean_proofs) == 1, "one study, and it was proven clean more than once"


def test_a_text_that_is_not_there_once_is_stale_and_fails_the_run(tmp_path, capsys):
    place = tmp_path / "found.json"
    assert main(["--json", str(place)], [GONE, COMMON]) == 1
    found = json.loads(place.read_text())
    assert [row["outcome"] for row in found["results"]] == [runner.STALE, runner.STALE]
    assert found["counts"]["failed"] == 2
    assert "0 times in backends/numpy/optimizers.py" in capsys.readouterr().out


def test_a_study_that_is_not_equal_without_the_fault_shows_nothing(prover):
    asked = dataclasses.replace(EVERYTHING, name="not-clean", steps=3)
    prover.clean_proofs["mlp", ("numpy",), 3, 1] = clean = runner.Future()
    clean.set_result(Proof({"verdict": "DIVERGED", "divergences": [{"stage": "loss"}], "networks": []}, {}))
    result = prover.prove(asked)
    assert result.outcome == runner.NOT_CLEAN
    assert result.is_wrong


def test_a_program_that_ends_with_an_error_is_broken(prover):
    result = prover.prove(dataclasses.replace(EVERYTHING, name="crash", edits=(("import math\n", "import maths\n"),)))
    assert (result.outcome, result.is_wrong) == (runner.BROKEN, True)
    assert "maths" in result.note


# --------------------------------------------------------------------------------------------------- what a proof says

CLEAN = Proof({"verdict": "EQUAL", "divergences": [], "networks": []}, {"0 numpy": {"start.safetensors": "1"}})
FAULT = dataclasses.replace(
    NOTHING, places=("gradients: 1_*/kernel", "updated weights: *"), causes=("adam_epsilon", "clip_each")
)


def said(mutant=FAULT, verdict="DIVERGED", **more):
    row = {"backend": "numpy", "stage": "gradients", "where": "1_dense/kernel", "step": 3, "causes": ["unexplained"],
           "problem": None}  # fmt: skip
    rows = [row | more] if verdict == "DIVERGED" else []
    return told(mutant, Proof({"verdict": verdict, "divergences": rows, "networks": []}, {}), CLEAN, 1.0)


def test_the_first_place_named_decides_whether_it_is_the_right_one():
    assert said().is_placed
    assert said(stage="updated weights", where="5_dense/bias").is_placed
    assert not said(where="3_dense/kernel").is_placed
    assert not said(stage="backward").is_placed
    assert said(dataclasses.replace(FAULT, first_step=3)).is_placed
    assert not said(dataclasses.replace(FAULT, first_step=2)).is_placed


def test_a_cause_is_right_wrong_or_none():
    assert said().cause == runner.NONE
    assert said(causes=["clip_each"]).cause == runner.RIGHT
    assert said(causes=["clip_each + adam_epsilon"]).cause == runner.RIGHT
    assert said(causes=["clip_each", "rate_late"]).cause == runner.WRONG
    assert said(causes=["clip_each + rate_late"]).is_wrong


def test_an_innocent_backend_that_is_named_is_told():
    result = said(backend="torch")
    assert (result.accused, result.is_placed, result.cause) == (("torch",), False, runner.NONE)
    assert said(backend="torch", causes=["clip_each"]).cause == runner.WRONG, "it is not true of that backend"
    assert "accuses torch" in result.line


def test_a_verdict_that_claims_nothing_is_not_a_miss():
    assert said(verdict="EQUAL").outcome == runner.MISSED
    assert said(verdict="EQUAL, blind to batch_norm_epsilon").outcome == runner.MISSED
    assert said(verdict="INCONCLUSIVE").outcome == runner.UNSEEN
    assert said(verdict="ERROR").is_wrong


def test_an_equivalent_mutant_counts_for_nothing_and_may_not_be_found():
    same = dataclasses.replace(FAULT, equivalent="it is the same")
    assert said(same).is_wrong
    counted = runner.counts([said(same, verdict="EQUAL"), said(), said(verdict="EQUAL"), said(causes=["rate_late"])])
    assert (counted["mutants"], counted["equivalent"]) == (3, 1)
    assert (counted["found"], counted["missed"], counted["wrong"]) == (2, 1, 1)


def test_a_sample_is_drawn_by_its_seed_and_parts_make_the_whole():
    drawn = [chosen(MUTANTS, sample=7, seed=3) for _ in range(2)]
    assert drawn[0] == drawn[1] != chosen(MUTANTS, sample=7, seed=4)
    parts = [mutant for k in range(1, 8) for mutant in chosen(MUTANTS, part=f"{k}/7")]
    assert sorted(mutant.name for mutant in parts) == sorted(mutant.name for mutant in MUTANTS)
    assert {mutant.file for mutant in chosen(MUTANTS, only=["backends/jax/__init__.py"])} == {
        "backends/jax/__init__.py"
    }


# ------------------------------------------------------------------------------------------------------------ the table


def test_there_are_enough_mutants_in_every_backend_plan_and_worker():
    files = Counter(mutant.file for mutant in MUTANTS)
    assert len(MUTANTS) == len({mutant.name for mutant in MUTANTS}) >= 120
    names = [f"{backend}/{part}" for backend in backends.BACKENDS for part in ("__init__", "layers", "optimizers")]
    names += ["numpy/speed", "numpy/stack", "plan", "chunks", "weights"]
    assert {*(f"backends/{name}.py" for name in names), "training/loop.py", "training/inputs.py"} <= files.keys()
    assert sum(bool(mutant.equivalent) for mutant in MUTANTS) <= 5


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_a_program_whose_words_are_known(mutant):
    content = (runner.PACKAGE / mutant.file).read_text(encoding="utf-8")
    assert ast.dump(ast.parse(runner.applied(mutant, content))) != ast.dump(ast.parse(content))
    assert {*mutant.backends} <= {*backends.BACKENDS}
    assert {*mutant.causes} <= {*CAUSES}
    words = {place for group in PLACES.values() for place in group}
    names = layers_of(mutant.study)
    for place in set(mutant.places) - words:
        stage, _, where = place.partition(": ")
        assert stage in STAGES, place
        assert any(fnmatch.fnmatchcase(name, where) for name in names), f"{place}: the study has no such place"


def layers_of(name) -> set[str]:
    """Everything that a place of this study's network may be called."""
    asked = STUDIES[name]
    study = read_study(runner.STUDIES_FOLDER / asked.file) if asked.file else parsed(asked.text)
    rows = [row for name in asked.networks or study.networks for row in study.networks[name].facts((28, 28, 1))]
    layers = {row.name for row in rows}
    learned = {f"{row.name}/{parameter}" for row in rows for parameter in row.parameter_shapes}
    slots = {f"{name}/{slot}" for name in learned for slot in ("momentum", "first_moment", "second_moment")}
    running = {f"{row.name}/running_{what}" for row in rows if row.layer.has_state for what in ("mean", "variance")}
    return {*layers, *learned, *slots, *running, "input", "logits", "loss", "gradient of the logits", "order", "images",
            "reported by the step", "correct answers", "losses"}  # fmt: skip


def parsed(text):
    from lockstep.spec.toml import parse_study

    return parse_study(text)


def test_every_study_is_asked_for():
    assert STUDIES.keys() == {mutant.study for mutant in MUTANTS}
