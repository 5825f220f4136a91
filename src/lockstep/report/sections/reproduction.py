"""How to do it again: the first run of each network, as a study and as a command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep.report.facts import Facts


def section(runs: Sequence[Facts]) -> dict[str, Any]:
    """The first run of a network, as a study and as a command."""
    run = next((run for run in runs if run.is_finished and run.spec), runs[0])
    revision = run.environment.git_revision if run.environment else None
    return {
        "network": run.network,
        "folder": run.folder,
        "command": f"lockstep run {run.folder}/spec.toml --again --runs .",
        "spec": run.spec_text,
        "gap": run.gaps.get("spec.toml", ""),
        "revision": revision or "",
    }
