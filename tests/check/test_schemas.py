"""The schemas of documents: those in docs/schemas are the records', and what runs leave behind fits them."""

from __future__ import annotations

import json
import runpy

import pytest

from lockstep import LockstepError, cli
from lockstep.check import schemas
from support import EARLIER, ROOT, documents, proof_documents

# Proofs of format 1 are read too, but not written any more.
ALREADY = [
    path
    for path in sorted(EARLIER.rglob("*.json"))
    if path.name in documents.FILES and not path.name.startswith("proof")
]


def test_the_schemas_of_the_pages_are_those_of_the_records():
    wanted = runpy.run_path(str(ROOT / "docs" / "schemas.py"))["texts"]()
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "schemas").glob("*.json")}
    assert found == wanted, "python docs/schemas.py writes them"


def test_documents_of_runs_fit_their_schemas():
    assert {path.name for path in ALREADY} >= {"environment.json", "metrics.json", "timing.json", "status.json"}
    for path in ALREADY:
        documents.assert_valid(path, json.loads(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("name", "document", "says"),
    [
        ("metrics", {"test": {"accuracy": "high"}}, "test/accuracy"),
        ("metrics", {"network": [{"name": "0_dense"}]}, "'output_shape' is a required property"),
        ("proof", proof_documents.proof_of([proof_documents.proven(verdict="SAME")]), "SAME"),
        ("timing", {"epochs": [1.0, "long"]}, "epochs/1"),
        ("study", {"networks": {"mlp": ["dens 10"]}}, "networks/mlp"),
    ],
)
def test_a_document_that_does_not_fit_is_told(name, document, says):
    assert any(says in one for one in documents.wrong(name, document)), documents.wrong(name, document)


def test_a_schema_that_there_is_not_is_said_with_the_nearest():
    with pytest.raises(LockstepError, match="proof") as raised:
        schemas.schema("prof")
    assert raised.value.code == "LS-209"


@pytest.mark.parametrize("name", ["study", *schemas.DOCUMENTS])
def test_a_schema_is_printed(name, capsys):
    with pytest.raises(SystemExit):
        cli.main(["schema", name])
    assert json.loads(capsys.readouterr().out) == schemas.schema(name)
