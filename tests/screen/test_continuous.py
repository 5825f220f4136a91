"""A proof as JUnit's XML and as SARIF: every backend is a case, every place a result with its cause."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from lockstep import LockstepError
from lockstep.screen import continuous
from lockstep.store.documents.proof import Proof
from support import proof_documents

EXPLAINED = [{"cause": "adam_epsilon_hat", "what": "ε is added before bias correction"}]


def proof(**keys):
    rows = [
        proof_documents.proven("numpy"),
        proof_documents.proven("torch", "DIVERGED"),
        proof_documents.proven("jax", "INCONCLUSIVE"),
    ]
    found = proof_documents.divergence(
        backend="torch", causes=["adam_epsilon_hat"], explained=EXPLAINED, where="1_dense/kernel \x1b[1m"
    )
    return Proof.model_validate(proof_documents.proof_of(rows, [found], **keys))


def test_junit_has_a_case_for_every_backend():
    document = proof()
    text = continuous.written(document, "junit", "study.toml").partition("\n")[2]
    tree = ElementTree.fromstring(text)  # noqa: S314  # it is our own
    assert tree.attrib["tests"] == "3"
    assert (tree.attrib["failures"], tree.attrib["skipped"], tree.attrib["errors"]) == ("1", "1", "0")
    cases = {case.attrib["name"]: [child.tag for child in case] for case in tree.iter("testcase")}
    assert cases == {"numpy": [], "torch": ["failure"], "jax": ["skipped"]}
    (failure,) = tree.iter("failure")
    assert "adam_epsilon_hat" in failure.attrib["message"]
    assert "\x1b" not in failure.attrib["message"]


def test_sarif_has_a_result_for_every_place_under_the_rule_of_its_cause():
    document = json.loads(continuous.written(proof(), "sarif", "labs/study.toml"))
    (run,) = document["runs"]
    (result,) = run["results"]
    assert document["version"] == "2.1.0"
    assert result["ruleId"] == "adam_epsilon_hat" == run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "labs/study.toml"
    assert "torch" in result["message"]["text"]
    (told,) = run["invocations"][0]["toolExecutionNotifications"]
    assert told["level"] == "warning"
    assert "jax" in told["message"]["text"]


def test_a_format_that_there_is_not_is_refused():
    with pytest.raises(LockstepError, match='there is no format "xml"'):
        continuous.check("xml")
