"""A folder for a hub: a card with the run's numbers, proofs, both forms; nothing is left where a form is not equal."""

from __future__ import annotations

import json

import pytest

from lockstep import LockstepError, store
from lockstep.exchange.onnx import graph
from lockstep.proof import hub
from support import EARLIER
from support.needs import need_backend

RUN = next((EARLIER / "finished").glob("mlp-*"))


@pytest.fixture(autouse=True)
def _frameworks():
    need_backend("torch")
    pytest.importorskip("onnx")


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
    with pytest.raises(LockstepError, match="there is such a file already"):
        hub.export(RUN, place)


def test_nothing_is_left_where_a_form_is_not_equal(tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "FORMS", ("onnx",))
    tensors = graph.tensors
    wrong = lambda trained: {name: value * 1.01 for name, value in tensors(trained).items()}  # noqa: E731
    monkeypatch.setattr(graph, "tensors", wrong)
    (form,) = hub.export(RUN, tmp_path / "hub")
    assert (form.paths, form.proof.verdict) == ((), "DIVERGED")
    assert not list(tmp_path.iterdir())
