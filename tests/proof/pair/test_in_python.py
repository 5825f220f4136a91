"""Two models told apart from a script, a notebook or a test; models in NumPy, so that it takes no time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

import lockstep
from lockstep import LockstepError, language
from lockstep.proof.pair import bundle, outcome
from lockstep.store.documents.difference import FILE, Difference, read_difference

NET = """
import numpy as np


def parameters():
    drawn = np.random.default_rng(0)
    return {"w": drawn.normal(size=(6, 5)), "b": drawn.normal(size=5)}


def forward(parameters, x):
    h = np.maximum(x @ parameters["w"] + parameters["b"], 0)
    return np.sum(h, axis=1)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "net.py").write_text(NET)
    (folder / "port.py").write_text(NET.replace("np.sum(h, axis=1)", "np.sum(np.abs(h) ** 1.5, axis=1)"))
    return folder


@pytest.fixture(scope="module")
def found(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    told = lockstep.diff(f"{files}/net.py:forward", f"{files}/port.py:forward", input_shape=[6], out=folder)
    assert isinstance(told, Difference)
    return told, folder


def test_what_is_found_is_a_record_that_prints_as_the_terminal_shows_it(found):
    told, _folder = found
    assert (told.verdict, told.equal, told.mapping) == ("DIVERGED", False, {"w": "w", "b": "b"})
    assert told.findings[0].places[0].line_b == "port.py:12"
    assert told.coverage["forward"][0] < told.coverage["forward"][1]
    lines = str(told).splitlines()
    assert lines[1] == "float64, weights drawn once for both, a batch of 9 × (6)"
    assert any("unexplained" in line or "another function" in line for line in lines)
    assert any(line.startswith("not observed: optimizer") for line in lines)
    assert repr(told) == str(told)
    with language.speaking("ru"):
        assert "пакет 9 × (6)" in str(told)


def test_in_a_notebook_it_is_a_table_with_every_sign_escaped(found):
    told, _folder = found
    shown = told._repr_html_()
    assert shown.count("<tr>") == 1 + len(told.findings)
    assert "port.py:12" in shown
    spot = told.findings[0].places[0].model_copy(update={"a": "<script>"})
    bad = told.model_copy(update={"findings": (told.findings[0].model_copy(update={"places": (spot,)}),)})
    assert "<script>" not in bad._repr_html_()


def test_its_document_and_its_page_lie_in_the_folder_and_are_read_back_as_the_same_class(found):
    told, folder = found
    assert read_difference(folder) == read_difference(folder / FILE) == told
    assert str(read_difference(folder)) == str(told)
    assert "port.py:12" in (folder / outcome.PAGE).read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "it is of format 1, and 2 is read"),
        ({"verdict": "FINE"}, "verdict"),
        ({"n_matched": -1}, "n_matched"),
        ({"findings": [{"stage": "forward", "places": [{"a": 1}]}]}, "findings"),
    ],
)
def test_a_document_that_is_none_is_refused_with_its_reason(found, change, words, tmp_path):
    document = json.loads((found[1] / FILE).read_text()) | change
    (tmp_path / FILE).write_text(json.dumps(document))
    with pytest.raises(LockstepError, match=rf"LS-505 .*{FILE}: .*{words}"):
        read_difference(tmp_path)


def test_a_proofs_document_is_refused_with_its_reason(tmp_path):
    (tmp_path / "proof.json").write_text('{"format": 2, "study": "lab", "verdict": "EQUAL", "networks": []}')
    with pytest.raises(LockstepError, match="it is no document of lockstep diff"):
        read_difference(tmp_path / "proof.json")


def test_the_assertion_passes_on_equal_models_and_fails_with_what_the_terminal_shows(files, found):
    same = f"{files}/net.py:forward"
    lockstep.assert_models_equal(same, same, batch=np.arange(24.0).reshape(4, 6))
    with pytest.raises(AssertionError) as failed:
        lockstep.assert_models_equal(same, f"{files}/port.py:forward", input_shape=(6,))
    assert str(failed.value) == str(found[0])


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ({"batch": [["a"]]}, "LS-204", "batch: an array of numbers"),
        ({"batch": "absent.npz"}, "LS-200", "absent.npz: there is no such file"),
        ({"batch": np.zeros((0, 6))}, "LS-205", "there is no example in it"),
        ({"input_shape": (0,)}, "LS-205", "input_shape: "),
        ({"input_shape": "3,x"}, "LS-205", '"3,x" is no shape'),
        ({"map": ["w"]}, "LS-205", 'map: "w" is no pair'),
        ({"map": {"w": "v"}}, "LS-209", 'map: "v" is no parameter'),
        ({"weights": "mine"}, "LS-205", 'weights: there are no weights "mine"'),
        ({"seed": -1}, "LS-205", "seed: -1 is no seed"),
        ({"seed": "0"}, "LS-204", "seed: a whole number"),
        ({"out": 3}, "LS-204", "out: a path"),
    ],
)
def test_what_cannot_be_is_told_by_the_arguments_name(files, asked, code, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    same = f"{files}/net.py:forward"
    with pytest.raises(LockstepError) as refused:
        lockstep.diff(same, same, **({"input_shape": (6,)} | asked))
    assert refused.value.code == code
    assert words in str(refused.value)


def test_a_batch_of_pickles_is_refused(files, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
    same = f"{files}/net.py:forward"
    with pytest.raises(LockstepError, match=r"LS-306 .*x\.npz") as refused:
        lockstep.diff(same, same, batch=tmp_path / "x.npz")
    assert "np.savez('x.npz', x=x)" in str(refused.value)


def test_what_is_unexplained_is_packed_and_repeats_alone(files, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "helper.py").write_text("import numpy as np\n\n\ndef bent(h):\n    return np.abs(h) ** 1.5\n")
    odd = NET.replace("np.sum(h, axis=1)", "np.sum(bent(h), axis=1)")
    (tmp_path / "mine" / "odd.py").write_text(f"from helper import bent\n{odd}")
    told = lockstep.diff(f"{files}/net.py:forward", f"{tmp_path}/mine/odd.py:forward", input_shape=[6], seed=3,
                         out=tmp_path / "out", bundle=True)  # fmt: skip
    place = tmp_path / "out" / bundle.NAME
    assert [finding.bundle for finding in told.findings] == [str(place)]
    names = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
    assert names == {"a/net.py", "b/odd.py", "b/helper.py", "batch.npz", "weights.npz", "calls-1.npz", "calls.json",
                     "diff.json", "versions.json", "reproduce.py"}  # fmt: skip
    shutil.rmtree(tmp_path / "mine")
    done = subprocess.run([sys.executable, "reproduce.py"], cwd=place, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"off by {told.findings[0].off:.2g}" in done.stdout
    call = json.loads((place / "calls.json").read_text())["calls"]["1"]["b"]
    assert call["line"].startswith("helper.py")


def test_the_weights_of_another_bundle_are_refused(files, tmp_path):
    np.savez(
        tmp_path / "w.npz", **{"a/w": np.ones((6, 5)), "a/b": np.ones(5), "b/w": np.ones((6, 4)), "b/b": np.ones(5)}
    )
    same = f"{files}/net.py:forward"
    with pytest.raises(LockstepError, match=r"LS-206 .*w\.npz: it holds no w of"):
        lockstep.diff(same, same, input_shape=[6], weights=str(tmp_path / "w.npz"))


def test_what_is_explained_needs_no_bundle(files, tmp_path):
    same = f"{files}/net.py:forward"
    assert lockstep.diff(same, same, input_shape=[6], out=tmp_path, bundle=True).equal
    assert not (tmp_path / bundle.NAME).exists()


def test_a_script_that_compares_models_imports_no_framework(files):
    code = f"""
import sys, lockstep
lockstep.assert_models_equal("{files}/net.py:forward", "{files}/net.py:forward", input_shape=(6,))
assert not {{"torch", "tensorflow", "keras", "jax", "net"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress where nobody looks"


def test_the_package_names_what_it_gives():
    assert {"diff", "assert_models_equal", "Difference", "read_difference"} <= set(lockstep.__all__)
