"""Proofs and benches of the version before are read, in which shares were prose and texts nothing but sentences."""

from __future__ import annotations

import json

import pytest

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.language import speaking
from lockstep.report import write_proof
from lockstep.report.proofs import read_beside
from lockstep.report.sections import times
from lockstep.store.documents.bench import read_bench
from lockstep.store.documents.gradients import Gradients
from lockstep.store.documents.proof import Proof, Share, read_proof
from lockstep.store.documents.traces import Manifest
from support import EARLIER
from support.pages import words

EARLIER = EARLIER / "proven"
PLANTED = EARLIER / "proof-planted.json"


def test_shares_that_were_prose_are_numbers():
    proof = read_proof(EARLIER)
    assert proof.format == 1
    assert [row.coverage.layers for row in proof.rows] == [Share(judged=6, of=6)] * 2
    assert proof.rows[0].coverage.updates_judged == proof.steps == 4


@pytest.mark.parametrize("text", ["6 of many", "6", "of", "", 6, None, [6, 6]])
def test_what_is_no_share_is_no_proof(text, tmp_path):
    document = json.loads((EARLIER / "proof.json").read_text())
    document["networks"][0]["backends"][0]["coverage"]["layers"] = text
    store.write_json(tmp_path / "proof.json", document)
    if text is None:
        assert read_proof(tmp_path).rows[0].coverage.layers is None
        return
    with pytest.raises(LockstepError, match="LS-505") as caught:
        read_proof(tmp_path)
    assert "proof.json" in str(caught.value)
    assert "layers" in str(caught.value)
    assert read_beside(tmp_path).gap


def test_the_page_of_an_earlier_proof_says_what_it_said(tmp_path):
    proof = Proof.read(PLANTED)
    said = words(write_proof(proof, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "adam_epsilon_hat in torch" in said
    assert "Judged in every row: all layers, all parameters" in said
    with speaking("ru"):
        said = words(write_proof(read_proof(EARLIER), tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "первые 4 шага" in said


def test_an_earlier_proof_is_written_in_todays_form_and_read_again(tmp_path):
    before = read_proof(EARLIER)
    store.write_json(tmp_path / "proof.json", before.document())
    assert json.loads((tmp_path / "proof.json").read_text())["networks"][0]["backends"][0]["coverage"]["layers"] == {
        "judged": 6, "of": 6,
    }  # fmt: skip
    assert read_proof(tmp_path) == before


@pytest.mark.parametrize(("file", "kind"), [("gradients.json", Gradients), ("trace.json", Manifest)])
def test_a_document_of_before_is_the_record_that_wrote_it(file, kind, tmp_path):
    document = store.read_json(EARLIER / file)
    assert kind.read(EARLIER / file).document() == document
    for key in document.keys() - {"lockstep", "git_revision", "machine", "threads", "proven"}:
        store.write_json(tmp_path / file, document | {key: [{"no": "such thing"}]})
        with pytest.raises(LockstepError, match="LS-505"):
            kind.read(tmp_path / file)


def test_an_earlier_bench_is_ranked_as_before():
    bench = read_bench(EARLIER)
    (told,) = times.sections([EARLIER])
    assert told["study"] == bench.study
    assert len(bench.networks[0].rows) == 3
    assert "fewer than five rounds" in told["networks"][0]["ranking"]
