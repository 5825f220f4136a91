"""What a test needs of this machine: it is skipped where that is missing, and in CI it fails."""

from __future__ import annotations

import os

import pytest

from lockstep import backends

IN_CI = os.environ.get("CI", "").lower() == "true"


def need(present: bool, what: str) -> None:
    """Skip where something is missing; in CI that is a failure."""
    if not present:
        if IN_CI:
            pytest.fail(f"{what} is missing, and in CI nothing may be missing")
        pytest.skip(f"{what} is missing")


def need_backend(name: str) -> None:
    need(backends.why_missing(name) is None, f"the framework of backend {name}")
