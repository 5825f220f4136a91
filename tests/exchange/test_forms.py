"""Forms of files say every layer, and what one of them gets wrong is found at its layer."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from lockstep import LockstepError, spec, store
from lockstep.exchange import forms as table
from lockstep.exchange.files import keras
from lockstep.exchange.forms import FORMS
from lockstep.exchange.onnx import build, check, graph
from lockstep.exchange.scripts import linen
from lockstep.machine import alone, workers
from lockstep.proof import forms
from lockstep.spec.records import changed
from support import exhibits
from support.needs import need_backend

onnx = pytest.importorskip("onnx")


def test_every_layer_of_the_specification_has_a_row():
    for rows in (graph.LAYERS, keras.LAYERS, linen.LAYERS):
        assert rows.keys() >= spec.LAYERS.keys()


def model_of(trained):
    model = build.model_of(graph.document(trained), graph.tensors(trained))
    onnx.checker.check_model(model, full_check=True)
    return model


def proof_of(model, shown, trained=None):
    found = check.readings(model, shown.few, shown.images)
    return forms.proof_of(FORMS["onnx"], shown, found, graph.tensors(trained or shown.trained))


def places(proof):
    return {(row.stage, row.where) for row in proof.divergences}


# ---------------------------------------------------------------------------------------------------------------- ONNX


@pytest.mark.parametrize("name", exhibits.NAMES)
def test_onnx_does_what_the_judge_does(name):
    shown = exhibits.exhibit(name)
    proof = proof_of(model_of(shown.trained), shown)
    assert proof.verdict == "EQUAL", places(proof)
    assert proof.networks[0].backends[0].coverage.values > 10_000


@pytest.mark.parametrize("plant", exhibits.PLANTS)
def test_what_a_graph_gets_wrong_is_found_at_its_layer(plant):
    shown = exhibits.exhibit("planted")
    wrong = exhibits.planted(shown, plant)
    proof = proof_of(model_of(wrong), shown)
    assert proof.verdict == "DIVERGED"
    assert ("predictions", exhibits.PLANTS[plant][0]) in places(proof)


def test_a_weight_that_is_off_is_found_by_its_bits_and_by_its_layer():
    shown = exhibits.exhibit("planted")
    proof = proof_of(model_of(exhibits.planted(shown, exhibits.WEIGHT)), shown)
    assert {("data", "5_dense/kernel"), ("predictions", "5_dense")} <= places(proof)


def test_statistics_of_the_batch_are_found():
    shown = exhibits.exhibit("planted")
    document = graph.document(shown.trained)
    (node,) = (node for node in document["nodes"] if node["operator"] == "BatchNormalization")
    node["attributes"]["training_mode"] = 1
    model = build.model_of(document, graph.tensors(shown.trained))
    (made,) = (made for made in model.graph.node if made.name == node["output"])
    made.output.extend(["mean", "variance"])
    assert ("predictions", "1_batch_norm") in places(proof_of(model, shown))


def test_an_answer_that_is_not_the_run_s_is_counted_and_a_tie_is_not():
    shown = exhibits.exhibit("planted")
    model = model_of(shown.trained)
    second, first = np.argsort(shown.logits[0])[-2:]
    other = shown.logits.copy()
    other[0, [first, second]] = other[0, [second, first]]
    proof = proof_of(model, dataclasses.replace(shown, logits=other))
    assert {where for _, where in places(proof)} == {"answers that are not the run's, and no ties"}
    # Two classes of one kernel are tied, whatever rounding makes of them.
    kernel, bias = (shown.trained.weights[f"5_dense/{part}"].copy() for part in ("kernel", "bias"))
    kernel[:, first], bias[first] = kernel[:, second], bias[second]
    trained = dataclasses.replace(
        shown.trained, weights=shown.trained.weights | {"5_dense/kernel": kernel, "5_dense/bias": bias}
    )
    tied = dataclasses.replace(shown, trained=trained)
    logits = check.readings(model_of(trained), tied.few, tied.images)["logits/onnxruntime"]
    swapped = logits.copy()
    swapped[:, first] += 1e-7
    tied = dataclasses.replace(tied, logits=swapped)
    proof = proof_of(model_of(trained), tied)
    assert proof.verdict == "EQUAL", places(proof)
    n = int((np.sort(logits, 1)[:, -1] == logits[:, first]).sum())
    assert proof.claim.values["ties"] == n > 0


def test_a_file_of_onnx_says_what_it_is():
    shown = exhibits.exhibit("planted")
    model = model_of(shown.trained)
    assert {entry.key: entry.value for entry in model.metadata_props} == exhibits.FACTS
    (images,), outputs = model.graph.input, model.graph.output
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert images.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [output.name for output in outputs] == ["logits", "probabilities"]
    assert (model.opset_import[0].version, model.ir_version) == (20, 10)


# ----------------------------------------------------------------------------------------------- files of a framework's

# Where an edit asks for the statistics of the batch: Flax refuses, and Keras is told otherwise when it predicts.
BATCH = {"safetensors": ("net_module.py", "return model.eval()", "return model.train()")}


@pytest.mark.parametrize("name", ["safetensors", "flax", "keras", "saved_model"])
def test_files_of_a_framework_are_equal_and_what_they_get_wrong_is_found(name, tmp_path):
    form = FORMS[name]
    need_backend(form.backend)
    shown = exhibits.exhibit("planted")
    others = {case: exhibits.exhibit(case) for case in ("chain-branches", "layer-everything")}
    given = {}
    for case, other in others.items():
        (tmp_path / case).mkdir()
        given[case] = form.prepare(other.trained, tmp_path / case, "net")
        np.savez(tmp_path / case / "images.npz", few=other.few, all=other.images)
    tensors, plants = {}, ["", *exhibits.PLANTS, exhibits.WEIGHT, *(["batch"] if name in BATCH else [])]
    for plant in plants:
        place = tmp_path / (plant or "right")
        place.mkdir()
        trained = exhibits.planted(shown, plant) if plant not in ("", "batch") else shown.trained
        found = form.prepare(trained, place, "net")
        if plant == "batch":
            file, right, wrong = BATCH[name]
            text = (place / file).read_text(encoding="utf-8")
            assert right in text
            (place / file).write_text(text.replace(right, wrong), encoding="utf-8")
        tensors = tensors or found
        np.savez(place / "images.npz", few=shown.few, all=shown.images)
    run_programs(form, [tmp_path / name for name in [*(plant or "right" for plant in plants), *others]])
    for case, other in others.items():
        with np.errstate(all="ignore"):
            proof = forms.proof_of(form, other, store.read_npz(tmp_path / case / "found.npz"), given[case])
        assert proof.verdict == "EQUAL", places(proof)
    for plant in plants:
        found = store.read_npz(tmp_path / (plant or "right") / "found.npz")
        with np.errstate(all="ignore"):
            proof = forms.proof_of(form, shown, found, tensors)
        assert (proof.verdict == "EQUAL") == (not plant), (plant, places(proof))
        if plant in exhibits.PLANTS:
            assert ("predictions", exhibits.PLANTS[plant][0]) in places(proof)
        elif plant == exhibits.WEIGHT:
            assert ("predictions", "5_dense") in places(proof)
        elif plant == "batch":
            assert ("predictions", "1_batch_norm") in places(proof)


def run_programs(form, folders):
    """Each program on all of the folders in one process, in which importing lockstep fails."""
    for program in (form.builder, form.checker):
        if program is None:
            continue
        code = (
            "import runpy, sys; from pathlib import Path; sys.modules['lockstep'] = None\n"
            f"sys.path.insert(0, {str(program.parent)!r})\nmain = runpy.run_path({str(program)!r})['main']\n"
            f"for place in {list(map(str, folders))}: main(Path(place), 'net')"
        )
        environment = workers.environment(form.backend, 1) | alone.ON_THE_PROCESSOR
        command = [sys.executable, "-P", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]


# ----------------------------------------------------------------------------------------------------- what is refused


def test_what_no_file_can_hold_is_refused_with_its_reason():
    given = exhibits.exhibit("planted").trained.given
    recipe = changed(given.run.recipe, products="tf32", mistakes=("prediction_in_training_mode",))
    found = dataclasses.replace(given, run=changed(given.run, recipe=recipe)).unsayable()
    assert [word for word in ("products = tf32", "prediction_in_training_mode") if any(word in one for one in found)]
    assert len(found) == 2


def test_a_form_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(table.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LockstepError, match="onnx and onnxruntime not installed") as raised:
        forms.assert_installed(FORMS["onnx"], "--onnx")
    assert raised.value.problems[0].hint == "pip install 'lockstep-nn[onnx]'"
