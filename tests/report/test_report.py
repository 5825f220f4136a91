"""The report says what the run folders say, names what they lack, and asks nobody else."""

import copy
import doctest
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lockstep import store
from lockstep.backends.weights import initial_weights
from lockstep.report import gather, page, write_proof, write_report
from lockstep.report import proofs as proven_file
from lockstep.report.compare.groups import group
from lockstep.report.facts import Facts
from lockstep.report.sections import verdicts
from lockstep.report.words import answer, quantities
from lockstep.spec import Dense, Flatten, Network, Recipe, Study
from lockstep.spec.toml import read_study
from lockstep.store.documents.proof import Proof
from support.pages import Outside, page_of, words
from support.proof_documents import digest, divergence, proof_of, proven
from support.run_folders import BACKENDS, DAMAGED, N_TEST, NETWORKS, fake_run


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    root = tmp_path_factory.mktemp("four")
    for place, backend in enumerate(BACKENDS):
        fake_run(root, backend=backend, accuracy=0.9 + 0.01 * place)
    return root, page_of(root)


# --------------------------------------------------------------------------------------------------------- contents


def test_the_page_has_the_numbers_of_the_runs(four):
    text = words(four[1])
    assert "demo Do four backends agree?" in text
    assert "All four backends trained mlp on Digits to a test accuracy between 90.0 % and 92.9 %" in text
    assert "a spread of 2.9 points (six images of 211)" in text
    assert "mlp numpy 90.0 " in text
    assert "4,347" in text  # parameters: 132·31 + 31 + 31·7 + 7
    assert "lockstep run demo/mlp-digits-0.001-numpy-0/spec.toml" in text
    for said in (
        "AMD EPYC 9654, two cores",
        "numpy 2.4.1",
        "12 × 11 × 1",
        "weighted average",
        "ab" * 32,
        "macro average",
    ):
        assert said in text


@pytest.mark.parametrize("function", [quantities.fixed, quantities.column, quantities.significant, quantities.count])
def test_numbers_are_written_as_their_examples_say(function):
    (example,) = doctest.DocTestFinder().find(function, globs=vars(quantities))
    assert doctest.DocTestRunner().run(example).failed == 0
    assert example.examples


def test_times_are_never_called_a_ranking(four):
    text = words(four[1])
    assert "One epoch of mlp on Digits took from 0.400 s (numpy) to 1.60 s (jax): on this machine" in text
    assert "on this machine, in this run, n = 1, order not interleaved: not a ranking." in text
    assert "one seed cannot tell whether they differ" in text


def test_sections_stand_in_order(four):
    headings = re.findall(r"<h2>(.*?)</h2>", four[1])
    assert headings == [
        "Loss and accuracy over epochs", "Confusion and classification", "Images that are hard",
        "Kernels and feature maps", "Results", "Comparisons", "Times", "Proof", "Networks", "Data", "How to reproduce",
        "Chapters",
    ]  # fmt: skip


def test_backends_that_answer_alike_are_counted(four):
    # 0.90 and 0.91 of 211 are 190 and 192 hits: two answers differ
    assert "numpy and torch 209 of 211 2 5" in words(four[1])


def test_equal_accuracies_have_no_spread(tmp_path):
    for backend in ("numpy", "jax"):
        fake_run(tmp_path, backend=backend)
    assert "Both backends trained mlp on Digits to the same test accuracy, 90.0 % of 211 test images." in words(
        page_of(tmp_path)
    )


def test_several_seeds_become_means_and_bands(tmp_path):
    for seed in (0, 1):
        for place, backend in enumerate(("numpy", "torch")):
            fake_run(tmp_path, backend=backend, seed=seed, accuracy=0.8 + 0.1 * seed + 0.05 * place)
    text = words(page_of(tmp_path))
    assert "with two seeds to a test accuracy between" in text
    assert "Two seeds can hardly tell" in text
    assert "with a band from the lowest to the highest" in text
    assert "means over seeds lie between 85.1 % and 89.8 %" in text


def test_of_many_seeds_it_is_not_said_that_they_tell_nothing(tmp_path):
    for seed in range(answer.MANY_SEEDS):
        for backend in ("numpy", "torch"):
            fake_run(tmp_path, backend=backend, seed=seed)
    text = words(page_of(tmp_path))
    assert "from the backend or from chance is tested below" in text
    assert "hardly tell" not in text


def test_only_coordinates_that_vary_have_a_column(tmp_path):
    for rate in (1e-3, 1e-2):
        fake_run(tmp_path, rate=rate)
    titles = [title for title, _ in gather(store.find_runs([tmp_path]))["results"].columns]
    assert titles[:3] == ["Network", "Backend", "optimizer.learning_rate"]
    assert "Seed" not in titles


def test_different_machines_are_not_compared(tmp_path):
    fake_run(tmp_path, backend="numpy", threads=2)
    fake_run(tmp_path, backend="torch", threads=1)
    text = words(page_of(tmp_path))
    assert "their times are not compared" in text
    assert "the runs report different CPUs, devices or thread counts" in text
    assert "One epoch" not in text


# ------------------------------------------------------------------------------------------------------------ proof


def proof_page(root: Path, document: object) -> str:
    """What the report of two runs says under its heading Proof, with this proof.json beside them."""
    for backend in ("numpy", "torch"):
        fake_run(root, backend=backend)
    if isinstance(document, bytes):
        (root / "demo" / "proof.json").write_bytes(document)
    elif document is not None:
        store.write_json(root / "demo" / "proof.json", document)
    return proof_section(page_of(root))


def proof_section(page: str) -> str:
    return words(page.split('<section id="proof">')[1].split("</section>")[0])


BOTH = ("numpy", "torch")
NO_FIT = "This proof does not fit the runs of this report"


def test_without_a_proof_the_report_says_so_and_how_to_make_one(tmp_path):
    said = proof_page(tmp_path, None)
    assert said.startswith("Proof Whether the backends took the same steps, what was compared for it, and where they")
    assert "Nothing is proven yet" in said
    assert said.endswith("lockstep explain identical")
    assert "lockstep prove STUDY" in said
    assert "EQUAL" not in said


def test_a_report_with_a_proof_shows_its_verdict_claim_and_limits(tmp_path):
    said = proof_page(tmp_path, proof_of([proven(name) for name in BOTH]))
    assert "EQUAL : numpy and torch took the first seven steps alike within rounding. 3,008 numbers" in said
    assert "reached 0.47 of what rounding allows (mlp on torch: forward, 1_dense/kernel, step 3)" in said
    assert (
        "Exactly this is claimed: the first 7 steps are the same within rounding. It says nothing of how long" in said
    )
    assert "It is a proof of the two finished runs here" in said
    assert "mlp torch EQUAL 0.47 forward, 1_dense/kernel, step 3 5 of 7 1,504" in said
    assert "Judged in every row: all layers, all parameters and all updates." in said
    assert "in a full step every layer was. No stage was left out." in said
    assert "updated weights EQUAL 0.4 EQUAL 0.47" in said
    assert "statistics — —" in said
    assert "NumPy in float32" in said
    assert NO_FIT not in said
    results = gather(store.find_runs([tmp_path]))["results"]
    assert [row[[title for title, _ in results.columns].index("Proof")] for row in results.rows] == ["EQUAL", "EQUAL"]


def test_the_figures_of_growth_have_their_numbers_beside_them(tmp_path):
    said = proof_page(tmp_path, proof_of([proven(name) for name in BOTH]))
    assert "torch 0 0 0 " in said  # step 0: no difference
    assert "torch 2 — — " in said  # step 2 was not observed
    assert "torch 6 6·10⁻⁸ 6·10⁻⁸" in said or "torch 6 6.0·10⁻⁸ 6.0·10⁻⁸" in said


def test_a_diverged_proof_shows_place_size_and_cause(tmp_path):
    said = proof_page(tmp_path, proof_of([proven(), proven("torch", "DIVERGED")], [divergence()]))
    assert "DIVERGED : not every backend takes the same steps (numpy: EQUAL; torch: DIVERGED)." in said
    assert "updated weights, 1_dense/kernel, step 0: off by 3.3·10⁻⁵ where rounding allows 1.7·10⁻⁹" in said
    assert "Its number at [5, 2] is 0.25; the judge’s is 0.250033" in said
    assert "Cause, which reproduces these numbers within rounding: adam_epsilon_hat" in said
    assert "ε is added before the bias is corrected Known from Keras What to do scale ε by √(1−β₂ᵗ)" in said
    assert "updated weights 1_dense/kernel 0 to 3 3.3·10⁻⁵ 1.7·10⁻⁹ 19,412" in said
    assert "Exactly this is claimed" not in said
    assert "Nothing is claimed of the whole. A row that is EQUAL is so for itself" in said


def test_an_equal_proof_has_no_divergence_to_show(tmp_path):
    said = proof_page(tmp_path, proof_of([proven(name) for name in BOTH]))
    assert "Cause" not in said
    assert "Where they part" not in said


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"causes": ["unexplained"], "explained": []}, "Cause unexplained: no known difference reproduces"),
        ({"causes": ["a", "b + c"]}, "one of them is the cause: a or b + c."),
        ({"tolerance": 1e-35, "times_tolerance": 4e35, "size": 4.0}, "off by 4 where it must be exact"),
        ({"tolerance": 0.0, "times_tolerance": None, "size": 1.0}, "off by 1 where it must be exact"),
        ({"problem": "its shape is (3,) and not (5,)"}, "step 0: its shape is (3,) and not (5,)."),
        ({"step": None, "steps": [None], "size": None}, "1_dense/kernel: not a finite number"),
        ({"found": 0.1, "wanted": 0.1 + 3e-17}, "is 0.10000000000000001; the judge’s is 0.10000000000000003"),
        ({"bundle": "runs/demo/bundle"}, "To reproduce it alone: runs/demo/bundle"),
    ],
)
def test_every_kind_of_divergence_is_told(tmp_path, keys, said):
    document = proof_of([proven(), proven("torch", "DIVERGED")], [divergence(**keys)])
    assert said in words(
        write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8")
    )


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("recipe", "0" * 64, "another recipe"),
        ("network", "0" * 64, "another network"),
        ("dtype", "float64", "proven in float64, run in float32"),
        ("dataset", {"name": "digits", "hashes": {"images.gz": "cd" * 32}}, "other data"),
        ("versions", {"numpy": "2.4.0", "torch": "2.4.0"}, "proven with torch 2.4.0, run with"),
    ],
)
def test_a_proof_of_something_else_does_not_speak_for_the_runs(tmp_path, key, value, said):
    found = proof_page(tmp_path, proof_of([proven(name, **{key: value}) for name in BOTH]))
    assert NO_FIT in found
    assert said in found
    assert "EQUAL, but not of these runs" in found
    assert "It is a proof of" not in found
    assert {row[-2] for row in gather(store.find_runs([tmp_path]))["results"].rows} == {"—"}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"lockstep": "0.2.0"}, "proven by Lockstep 0.2.0, run by 0.1.0"),
        ({"git_revision": "f" * 40}, "proven by Lockstep’s revision ffffffffff, run by (unknown)"),
        ({"planted": ["adam_epsilon_hat@torch"]}, "differences were planted in it: mlp on numpy"),
    ],
)
def test_a_proof_by_another_lockstep_or_of_planted_faults_does_not_speak_for_the_runs(tmp_path, keys, said):
    found = proof_page(tmp_path, proof_of([proven(name) for name in BOTH], **keys))
    assert NO_FIT in found
    assert said in found


def test_a_proof_of_some_runs_says_of_which(tmp_path):
    fake_run(tmp_path, rate=0.5)
    said = proof_page(tmp_path, proof_of([proven(name) for name in BOTH]))
    assert "It is no proof of one run here another recipe: mlp on numpy, seed 0" in said
    assert "It is a proof of 2 of the 3 finished runs here" in said


def test_another_seed_is_proven_too(tmp_path):
    fake_run(tmp_path, seed=5)
    assert "It is a proof of the three finished runs here" in proof_page(tmp_path, proof_of([proven(n) for n in BOTH]))


def test_a_missing_framework_is_not_observed_and_its_runs_are_not_proven(tmp_path):
    absent = proven("torch", "INCONCLUSIVE") | {
        "reason": "torch is not installed", "stages": [], "trace": None, "certificate": None,
        "coverage": {"steps": 0, "observed": [], "missing": ["data", "forward"], "layers": "0 of 0"},
    }  # fmt: skip
    said = proof_page(tmp_path, proof_of([proven(), absent]))
    assert "INCONCLUSIVE : nothing is off where something was seen, but not everything was observed" in said
    assert "Not observed torch: torch is not installed" in said
    assert "torch was not observed: mlp on torch, seed 0" in said
    assert "updated weights EQUAL 0.4 not observed" in said


BROKEN = (
    b"", b"\xff\xfe{", b"[]", b'{"format": 2}', b'{"format": 1, "verdict": "FINE"}', b'{"format": 1, "networks": 3}',
    b"[" * 100_000,
)  # fmt: skip


@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_proof_is_no_crash_and_proves_nothing(tmp_path, content):
    said = proof_page(tmp_path, content)
    assert "demo: proof.json cannot be used, so nothing is proven here: " in said
    assert "EQUAL" not in said


@pytest.mark.parametrize("part", ["growth", "the rest"])
@pytest.mark.parametrize("junk", [None, -1, "x", [], {}, [None], {"a": {}}, 1e308, float("nan")])
def test_no_value_in_a_proof_is_a_crash(tmp_path, junk, part):
    document = proof_of([proven(), proven("torch", "DIVERGED")], [divergence()])
    if part == "growth":
        document["networks"][0]["growth"]["loss"] = {"numpy": [1e-8, 0.0], "other": [2e-8]}
        document["networks"][0]["growth"]["weights"] = {}
        paths = [path for path in places(document) if "growth" in path]
    else:
        document["networks"][0]["growth"] = None
        paths = [*places(document)]
    for path in paths:
        spoilt = copy.deepcopy(document)
        inner = spoilt
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = junk
        (tmp_path / "proof.json").write_text(json.dumps(spoilt))
        reading = proven_file.read_beside(tmp_path)
        assert bool(reading.gap) == (reading.proof is None)
        verdicts.section(reading, "proof")


def places(value, path=()):
    """Every path to a value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def test_a_proof_alone_is_a_page_that_asks_nobody_else(tmp_path):
    document = proof_of([proven(name) for name in BACKENDS])
    page = write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8")
    assert Outside(page).found == []
    assert "Proof of demo EQUAL : all four backends took the first seven steps alike" in words(page)
    assert "here: network, recipe" not in page  # there are no runs beside it
    assert f'"network": "{digest(NETWORKS["mlp"])}"' in words(page)  # the certificate


def test_what_was_not_judged_has_a_column_and_what_was_is_said_once(tmp_path):
    document = proof_of([proven(), proven("torch")])
    coverage = document["networks"][0]["backends"][1]["coverage"]
    coverage |= {"steps_with_layers_judged": 7, "layers": "3 of 4", "missing": ["statistics"]}
    document["networks"][0]["backends"][0]["coverage"] |= {"steps_with_layers_judged": 7}
    said = words(write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8"))
    assert "Judged in every row: all parameters, all updates and every layer in each step." in said
    assert "No stage was left out" not in said
    assert "Where Layers Numbers Not observed mlp numpy EQUAL" in said
    assert "3 of 4 1,504 statistics" in said


def test_datasets_and_the_grid_have_columns_only_where_they_vary(tmp_path):
    document = proof_of([proven(), proven("torch", "DIVERGED")], [divergence(grid={"recipe.l2": 0.0})])
    other = copy.deepcopy(document["networks"][0]) | {"grid": {"recipe.l2": 0.5}}
    document["networks"][0]["grid"] = {"recipe.l2": 0.0}
    document["networks"].append(other)
    document["divergences"].append(divergence(grid={"recipe.l2": 0.5}))
    said = words(write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8"))
    assert "Network l2 Backend Verdict" in said
    assert "mlp 0.5 torch DIVERGED" in said
    assert "mlp · l2 0.5 · torch First in" in said
    assert said.count("Known from Keras") == 1, "a cause is explained once"
    document["networks"][1] |= {"grid": {"recipe.l2": 0.0}, "dataset": "mnist"}
    said = words(write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8"))
    assert "Network Dataset Backend Verdict" in said


def test_a_proof_that_saw_less_names_the_one_that_is_kept(tmp_path):
    kept = {"file": "runs/demo/proof-previous.json", "verdict": "EQUAL", "proven": "2026-01-01T00:00:00Z"}
    page = write_proof(
        Proof.model_validate(proof_of([proven("numpy", "ERROR")], previous=kept)), tmp_path / "proof.html"
    )
    assert "runs/demo/proof-previous.json: EQUAL, proven 2026-01-01" in words(page.read_text(encoding="utf-8"))


def test_a_proof_on_another_device_is_no_proof(tmp_path):
    said = proof_page(tmp_path / "cuda", proof_of([proven(name, device="cuda") for name in BOTH]))
    assert "proven on cuda, run on cpu" in said
    assert NO_FIT in said
    said = proof_page(tmp_path / "cpu", proof_of([proven(name, device="cpu") for name in BOTH]))
    assert "It is a proof of the two finished runs here" in said


def test_a_planted_proof_says_what_was_planted_and_what_it_costs(tmp_path):
    cost = {"network": "mlp", "backend": "torch", "plants": ["rate_late@torch"], "accuracy": 0.91,
            "planted_accuracy": 0.897, "loss": 0.3, "planted_loss": None}  # fmt: skip
    document = proof_of(
        [proven(), proven("torch", "DIVERGED")], [divergence()], planted=["rate_late@torch"], cost=[cost]
    )
    said = words(write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8"))
    assert "Planted differences in demo Differences were planted on purpose" in said
    assert "rate_late in torch" in said
    assert "mlp torch rate_late@torch 91.00 89.70 0.3000 —" in said


def test_two_run_folders_are_told_apart(tmp_path):
    bare = {"stages": [], "certificate": None, "trace": None, "coverage": {"steps": 7, "values": 7}}
    rows = [proven() | bare | {"folder": "runs/a"}, proven() | bare | {"folder": "runs/b"}]
    document = proof_of(rows, first="runs/a", second="runs/b", first_different_bits="steps loss at [1]")
    document["networks"][0] |= {"growth": None, "parameters": None}
    for key in ("lockstep", "git_revision", "machine", "threads"):
        del document[key]
    page = write_proof(Proof.model_validate(document), tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert "Two runs compared EQUAL : the first 7 steps are the same within rounding. first: runs/a" in words(page)
    assert "mlp second: numpy EQUAL — — 7 all but losses" in words(page)
    assert "<svg" not in page


def test_text_from_a_proof_is_escaped(tmp_path):
    evil = '<script>alert(1)</script>"><b onload=x>{{ 7*7 }}'
    keys = ("network", "stage", "where", "problem", "bundle", "dataset", "folder")
    explained = [dict.fromkeys(("cause", "what", "default_of", "mend"), evil)]
    rows = [proven(), proven("torch", "DIVERGED") | {"backend": evil, "reason": evil}]
    rows[1]["stages"][0] |= {"stage": evil}
    rows[1]["coverage"] |= {"missing": [evil]}
    rows[1]["certificate"] |= {"backend": evil, "network": evil, "versions": {evil: evil}}
    spoilt = divergence(**dict.fromkeys(keys, evil), causes=[evil], explained=explained)
    document = proof_of(rows, [spoilt], claim=evil, planted=[f"{evil}@torch"], proven=evil, git_revision=evil)
    document["networks"][0] |= {"network": evil, "grid": {evil: evil}}
    document["networks"][0]["growth"]["loss"][evil] = [1e-8]
    document["machine"]["cpu"] = evil
    page = write_proof(Proof.model_validate(document), tmp_path / "proof.html").read_text(encoding="utf-8")
    proof_page(tmp_path, document)
    for text in (page, page_of(tmp_path)):
        assert Outside(text).found == []
        assert "<b" not in re.sub(r"<body", "", text)
        assert evil in words(text.replace("&lt;", "<").replace("&gt;", ">")) or "alert(1)" in text
    assert "{{ 7*7 }}" in page


def test_every_study_has_its_own_proof(tmp_path):
    proof_page(tmp_path / "one", proof_of([proven(name) for name in BOTH]))
    proof_page(tmp_path / "two", None)
    proof_page(tmp_path / "three", proof_of([proven("numpy", recipe="0" * 64)]))
    records = store.find_runs([tmp_path / name for name in ("one", "two", "three")])
    page = write_report(records, tmp_path / "report.html").read_text(encoding="utf-8")
    said = proof_section(page)
    assert "It is a proof of the two finished runs here" in said
    assert "Nothing is proven yet" in said
    assert NO_FIT in said
    identifiers = re.findall(r' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))
    assert sorted(row[-2] for row in gather(records)["results"].rows) == ["EQUAL"] * 2 + ["—"] * 4


def test_a_proof_fits_the_runs_of_its_study(tmp_path):
    from lockstep import study
    from lockstep.proof import procedure

    network = Network((Flatten(), Dense(10)))
    asked = Study({"plain": network}, "digits", "numpy", recipe=Recipe(epochs=1), train_size=67, name="true")
    procedure.prove(asked, tmp_path, steps=2)
    study.run_study(asked, tmp_path)
    said = proof_section(page_of(tmp_path))
    assert "EQUAL : numpy took the first two steps alike within rounding" in said
    assert "It is a proof of the one finished run here" in said


# ------------------------------------------------------------------------------------------------------------- gaps


def test_a_failed_run_is_shown_with_its_reason(tmp_path):
    fake_run(tmp_path, backend="numpy")
    fake_run(tmp_path, backend="torch", status="failed", reason="the worker process died (signal 9)")
    text = words(page_of(tmp_path))
    assert "1 of 2 runs did not finish" in text
    assert "failed, after two epochs: LS-402 the worker process died (signal 9)" in text
    assert "numpy (one of two backends) trained mlp on Digits to a test accuracy of 90.0 %" in text
    assert "Not shown: torch (no finished run)." in text


def test_an_unfinished_run_is_no_result(tmp_path):
    fake_run(tmp_path, status="running")
    text = words(page_of(tmp_path))
    assert "No run has finished with a test accuracy" in text
    assert "unfinished" in text


FILES = (
    "status.json", "spec.toml", "environment.json", "events.jsonl", "samples.npz", "predictions.npz", "metrics.json",
    "timing.json",
)  # fmt: skip


@pytest.mark.parametrize("file", [name for name in FILES if name != "status.json"])
def test_a_missing_file_leaves_a_named_gap(tmp_path, file):
    folder = fake_run(tmp_path)
    fake_run(tmp_path, backend="jax")
    (folder / file).unlink()
    if file == "samples.npz":  # the twin's images would do
        next((tmp_path / "demo").glob("*jax*/samples.npz")).unlink()
    text = words(page_of(tmp_path))
    assert f"{file}: it is missing" in text


# numpy leaves the file of a broken archive to the garbage collector
@pytest.mark.filterwarnings("ignore:unclosed file", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe{",
        b'networks = 3\nbackends = {a = 1}\nseeds = []\nrecipe = "x"',
        b'{"test": 3, "seconds": [], "dataset": 1}',
        b"PK\x03\x04",
    ],
)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_no_crash(tmp_path, file, content):
    folder = fake_run(tmp_path, epochs=2)
    (folder / file).write_bytes(content)
    assert "<h2>How to reproduce</h2>" in page_of(tmp_path)


def test_runs_of_several_studies_and_versions_are_said_to_be_so(tmp_path):
    fake_run(tmp_path / "a")
    folder = fake_run(tmp_path / "b", backend="jax")
    text = (folder / "spec.toml").read_text().replace('name = "demo"', 'name = "other"')
    (folder / "spec.toml").write_text(text)
    changed = store.read_json(folder / "environment.json") | {"lockstep": "0.0.9"}
    store.write_json(folder / "environment.json", changed)
    text = words(
        write_report(store.find_runs([tmp_path / "a", tmp_path / "b"]), tmp_path / "r.html").read_text("utf-8")
    )
    assert "These runs are of two studies: demo and other." in text
    assert "The runs were made by several versions of Lockstep: 0.1.0 and 0.0.9." in text


@pytest.mark.parametrize(("file", "damage", "said"), DAMAGED)
def test_a_damaged_number_is_named(tmp_path, file, damage, said):
    folder = fake_run(tmp_path)
    store.write_json(folder / file, store.read_json(folder / file) | damage)
    assert f"{file}: {said}" in words(page_of(tmp_path))


def test_a_page_of_many_networks_draws_fewer_confusion_matrices(tmp_path, monkeypatch):
    for network in NETWORKS:
        for backend in BACKENDS:
            fake_run(tmp_path, network, backend)
    everything = gather(store.find_runs([tmp_path]))["confusion"]
    assert [len(found["plots"]) for found in everything] == [5, 5]  # four backends, and the first in percent
    assert "Not drawn" not in "".join(found["caption"] for found in everything)
    monkeypatch.setattr(page, "MAX_MATRICES", 6)
    for found in gather(store.find_runs([tmp_path]))["confusion"]:
        assert [title for title, _ in found["plots"]] == ["numpy", "torch", "numpy, in percent of the true class"]
        assert found["caption"] == "Not drawn on a page of so many networks: tensorflow and jax."
        assert len(found["reports"]) == 4
    monkeypatch.setattr(page, "MAX_MATRICES", 1)
    assert {len(found["plots"]) for found in gather(store.find_runs([tmp_path]))["confusion"]} == {2}


def test_firsts_share_a_seed_where_there_is_one(tmp_path):
    for backend, seeds in (("numpy", (0, 1, 2)), ("torch", (1, 2)), ("jax", (2, 0, 1))):
        for seed in seeds:
            fake_run(
                tmp_path, backend=backend, seed=seed, status="failed" if (backend, seed) == ("jax", 1) else "finished"
            )
    (members,) = group([Facts(record) for record in store.find_runs([tmp_path])])
    assert [(run.backend, run.seed) for run in members.firsts()] == [("numpy", "2"), ("torch", "2"), ("jax", "2")]
    members.runs = [run for run in members.runs if (run.backend, run.seed) != ("torch", "2")]
    assert [(run.backend, run.seed) for run in members.firsts()] == [("numpy", "0"), ("torch", "1"), ("jax", "0")]


def test_no_runs_at_all_is_a_page_too(tmp_path):
    assert "nothing to compare" in write_report([], tmp_path / "report.html").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------- safe and alone


def test_the_page_asks_nobody_else(four):
    assert Outside(four[1]).found == []


@pytest.mark.parametrize("fault", [
    '<img src="https://example.org/a.png">', "<script>1</script>", '<p style="background:url(//example.org/a)">',
    "<style>@import 'a.css'</style>", '<p onclick="1">', '<svg><use xlink:href="http://example.org#a"/></svg>',
])  # fmt: skip
def test_a_planted_request_is_found(four, fault):
    assert Outside(four[1].replace("</main>", fault + "</main>")).found


def test_text_from_run_folders_is_escaped(tmp_path):
    evil = (
        "<script>alert(1)</script>",
        '"><img src=http://example.org/x>',
        "$x",
        "a]]>b",
        "{{ 7*7 }}",
        "--><b>",
        "ĉ漢\x07",
    )
    question = "<script>fetch('http://example.org')</script>"
    fake_run(tmp_path, class_names=evil, question=question)
    fake_run(tmp_path, backend="torch", class_names=evil, question=question, status="failed", reason="<b onload=x>")
    page = page_of(tmp_path)
    assert Outside(page).found == []
    assert "<b" not in re.sub(r"<body", "", page)
    assert "<script>alert(1)</script>" in words(page)
    assert "{{ 7*7 }}" in page


def test_identifiers_are_unique_and_all_references_resolve(four):
    identifiers = re.findall(r' id="([^"]+)"', four[1])
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', four[1])) <= set(identifiers)


def test_same_runs_give_the_same_bytes(four):
    root, page = four
    assert page_of(root) == page
    code = "import sys; from pathlib import Path; from lockstep import store, report\n"
    code += "report.write_report(store.find_runs([Path(sys.argv[1])]), Path(sys.argv[2]))"
    other = root / "again.html"
    subprocess.run([sys.executable, "-c", code, str(root), str(other)], check=True)
    assert other.read_text(encoding="utf-8") == page


def test_the_report_imports_no_framework():
    code = "import sys, lockstep.report; bad = {'torch', 'tensorflow', 'jax', 'matplotlib.pyplot', 'lockstep.backends'}"
    code += "; assert not bad & set(sys.modules), bad & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("spread", ["seeds", "settings"])
def test_forty_runs_stay_below_two_megabytes(tmp_path, spread):
    names = tuple(f"class {i}" for i in range(10))
    for i in range(10):
        for backend in BACKENDS:
            varied = {"seed": i} if spread == "seeds" else {"rate": 1e-3 * (i + 1)}
            folder = fake_run(tmp_path, backend=backend, class_names=names, epochs=20, **varied)
            images = np.random.default_rng(i).integers(0, 256, (60, 28, 28, 1)).astype(np.uint8)  # as large as can be
            store.write_npz(folder / "hardest.npz", indices=np.arange(N_TEST)[-60:], images=images)
            (run,) = read_study(folder / "spec.toml").runs()
            store.write_checkpoint(folder, 20, initial_weights(run.network, (12, 11, 1), i), {})
    page = page_of(tmp_path)
    assert len(page.encode()) < 2 * 2**20
    assert "40 runs." in words(page)
