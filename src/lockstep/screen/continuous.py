"""A proof as the systems of continuous integration read it: JUnit's XML, and SARIF 2.1.0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree  # it writes here, and reads nothing

from lockstep.errors import LockstepError
from lockstep.language import CONTROLS, later, say
from lockstep.screen import proofs
from lockstep.store.documents.proof import Backend, Divergence, Network, Proof
from lockstep.version import version

FORMATS = ("junit", "sarif")
UNEXPLAINED = "unexplained"
SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def check(name: str) -> None:
    """Raise LockstepError (LS-205) for a format that there is not."""
    if name not in FORMATS:
        hint = later("one of {names}", names=", ".join(FORMATS))
        raise LockstepError("LS-205", later('there is no format "{name}"', name=name), where="--format", hint=hint)


def written(proof: Proof, name: str, file: str) -> str:
    """The proof in a format; `file` is what was proven: a study's, a script's or a run's."""
    check(name)
    return junit(proof) if name == "junit" else sarif(proof, file)


def _coordinates(row: Network | Divergence) -> str:
    """Where in a study, in a few words."""
    varied = (f"{key.rpartition('.')[2]}={value}" for key, value in row.grid.items())
    return " ".join([row.dataset, row.dtype, *varied])


def _own(proof: Proof, network: Network, backend: Backend) -> list[Divergence]:
    """The places where this backend of this network is not what it should be."""
    wanted = network.network, network.dataset, network.dtype, network.grid, backend.backend
    return [row for row in proof.divergences if (row.network, row.dataset, row.dtype, row.grid, row.backend) == wanted]


# --------------------------------------------------------------------------------------------------------------- JUnit


def junit(proof: Proof) -> str:
    """One suite a network, one case a backend: DIVERGED is a failure, ERROR an error, INCONCLUSIVE skipped."""
    rows = [(network, backend) for network in proof.networks for backend in network.backends]
    whole = ElementTree.Element(
        "testsuites", {"name": f"lockstep prove {proof.study}", **_counts([b for _, b in rows])}
    )
    for network in proof.networks:
        name = f"{network.network} {_coordinates(network)}"
        suite = ElementTree.SubElement(whole, "testsuite", {"name": name, **_counts(network.backends)})
        for backend in network.backends:
            names = {"name": backend.backend, "classname": f"{proof.study}.{network.network}"}
            case = ElementTree.SubElement(suite, "testcase", names)
            _outcome(case, backend, [proofs.divergence(row) for row in _own(proof, network, backend)])
    ElementTree.indent(whole)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(whole, encoding="unicode") + "\n"


def _counts(rows: Any) -> dict[str, str]:
    words = [row.verdict for row in rows]
    of = {"failures": "DIVERGED", "errors": "ERROR", "skipped": "INCONCLUSIVE"}
    return {"tests": str(len(words))} | {name: str(words.count(word)) for name, word in of.items()}


def _outcome(case: Any, backend: Backend, places: list[str]) -> None:
    element = {"DIVERGED": "failure", "ERROR": "error", "INCONCLUSIVE": "skipped"}.get(backend.verdict)
    if element:
        said = [_plain(text) for text in places or [say(backend.reason or "")]]
        found = ElementTree.SubElement(case, element, {"message": said[0]})
        if element != "skipped":
            found.set("type", backend.verdict)
        found.text = "\n".join(said)


def _plain(text: str) -> str:
    """Without control characters, which XML cannot have."""
    return CONTROLS.sub(" ", text)


# --------------------------------------------------------------------------------------------------------------- SARIF


def sarif(proof: Proof, file: str) -> str:
    """A rule for each cause that was found, a result for each place; what could not be run is a notification."""
    names = list(dict.fromkeys(_rule(row) for row in proof.divergences))
    results = [_result(row, names.index(_rule(row)), file) for row in proof.divergences]
    run = {
        "tool": {
            "driver": {"name": "lockstep", "version": version(), "rules": [_described(name, proof) for name in names]},
        },
        "results": results,
        "invocations": [
            {
                "executionSuccessful": proof.verdict != "ERROR",
                "toolExecutionNotifications": list(_notifications(proof)),
            }
        ],
        "properties": {"verdict": proof.verdict, "claim": say(proof.claim)},
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False) + "\n"


def _rule(row: Divergence) -> str:
    """The first of its causes that the catalogue knows."""
    return row.explained[0].cause if row.explained else UNEXPLAINED


def _described(name: str, proof: Proof) -> dict[str, Any]:
    known = {cause.cause: cause.what for row in proof.divergences for cause in row.explained}
    what = say(known.get(name) or later("no known difference gives these numbers"))
    return {"id": name, "shortDescription": {"text": what}, "defaultConfiguration": {"level": "error"}}


def _result(row: Divergence, rule: int, file: str) -> dict[str, Any]:
    place = f"{row.network}/{row.backend}/{say(row.where)}"
    return {
        "ruleId": _rule(row),
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": f"{row.network} · {row.backend}: {proofs.divergence(row)}"},
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": file}, "region": {"startLine": 1}},
                "logicalLocations": [{"fullyQualifiedName": place, "kind": "object"}],
            }
        ],
        "partialFingerprints": {"place/v1": f"{place} {row.stage} {_coordinates(row)}"},
    }


def _notifications(proof: Proof) -> Iterator[dict[str, Any]]:
    for network in proof.networks:
        for backend in network.backends:
            if backend.verdict in ("ERROR", "INCONCLUSIVE"):
                level = "error" if backend.verdict == "ERROR" else "warning"
                text = f"{network.network} · {backend.backend}: {backend.verdict}: {say(backend.reason or '')}"
                yield {"level": level, "message": {"text": text}}
