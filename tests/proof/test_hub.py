"""A folder for a hub: a card with the run's numbers, proofs, both forms; nothing is left where a form is not equal."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from lockstep import LockstepError, store
from lockstep.exchange.onnx import graph
from lockstep.proof import forms, hub
from support import EARLIER
from support.needs import need, need_backend

RUN = next((EARLIER / "finished").glob("mlp-*"))


@pytest.fixture(autouse=True)
def _frameworks():
    need_backend("torch")
    need(find_spec("onnx") is not None, "onnx")


def test_a_folder_has_a_card_proofs_and_both_forms(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "FORMS", ("onnx",))  # PyTorch's own is tested with the other forms
    place = tmp_path / "hub"
    (form,) = hub.export(RUN, place)
    assert form.paths == (place / "mlp.onnx",)
    assert {path.name for path in place.iterdir()} == {
        "README.md", "config.json", "mlp.onnx", "proofs.json", "spec.toml",
    }  # fmt: skip
    card, record = (place / "README.md").read_text(encoding="utf-8"), store.Record(RUN)
    assert card.startswith("---\nlicense: other\n")
    assert f"accuracy {100 * record.test_accuracy:.2f} %" in card
    assert "CC BY 4.0" in card
    proofs = json.loads((place / "proofs.json").read_text(encoding="utf-8"))
    assert proofs["forms"]["onnx"]["verdict"] == "EQUAL"
    with pytest.raises(LockstepError, match="there is such a folder already"):
        hub.export(RUN, place)


def test_nothing_is_left_where_a_form_is_not_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "FORMS", ("onnx",))
    tensors = graph.tensors
    wrong = lambda trained: {name: value * 1.01 for name, value in tensors(trained).items()}  # noqa: E731
    monkeypatch.setattr(graph, "tensors", wrong)
    (form,) = hub.export(RUN, tmp_path / "hub")
    assert (form.paths, form.proof.verdict) == ((), "DIVERGED")
    assert not list(tmp_path.iterdir())


def made_of(folder, **files):
    """A folder with these files in it and in a folder of its own."""
    for name, text in files.items():
        (folder / "inside").mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / "inside" / name).write_text(text)
    return folder


def test_a_folder_of_ours_is_replaced(tmp_path):
    place = made_of(tmp_path / "hub", card="old")
    forms.put(made_of(tmp_path / "made", card="new", weights="1"), place)
    assert {str(one.relative_to(place)): one.read_text() for one in place.rglob("*") if one.is_file()} == {
        "card": "new", "weights": "1", "inside/card": "new", "inside/weights": "1",
    }  # fmt: skip
    assert sorted(one.name for one in tmp_path.iterdir()) == ["hub", "made"]


@pytest.mark.parametrize("own", ["thesis.tex", "inside/thesis.tex"])
def test_a_folder_that_holds_anything_else_is_somebodys_and_stays(own, tmp_path):
    place = made_of(tmp_path / "home", card="old")
    (place / own).write_text("mine")
    with pytest.raises(LockstepError, match=r"thesis.tex") as caught:
        forms.put(made_of(tmp_path / "made", card="new"), place, "--hub")
    assert caught.value.code == "LS-200"
    assert "--hub" in str(caught.value)
    assert (place / own).read_text() == "mine"
    assert (place / "card").read_text() == "old"
