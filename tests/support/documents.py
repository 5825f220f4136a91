"""Documents that the product writes while it is tested, held against their schemas."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema

from lockstep.check import schemas
from lockstep.store import finite

FILES = {
    "environment.json": "environment", "metrics.json": "metrics", "timing.json": "timing", "status.json": "status",
    "proof.json": "proof", "proof-planted.json": "proof", "gradients.json": "gradients", "bench.json": "bench",
    "report.json": "report", "diff.json": "diff",
}  # fmt: skip


@functools.cache
def validator(name: str) -> Any:
    schema = schemas.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def wrong(name: str, document: Any) -> list[str]:
    """What a document says that its schema does not allow."""
    plain = json.loads(json.dumps(finite(document), default=str))
    return [f"{'/'.join(map(str, error.path))}: {error.message}"[:300] for error in validator(name).iter_errors(plain)]


def assert_valid(path: Path, document: Any) -> None:
    """Fail where a file of a known name holds what its schema does not allow."""
    if path.name in FILES and isinstance(document, Mapping):
        found = wrong(FILES[path.name], document)
        assert not found, f"{path.name}: {found[:5]}"
