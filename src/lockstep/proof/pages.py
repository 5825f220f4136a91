"""Which pages a proof gets, and where: its own, and the report of its study anew, which shows its verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lockstep import report, store


def write(document: Mapping[str, Any], runs_folder: Path) -> Path:
    """Write the page of a study's proof, and its report again where it has one; returns the former's path."""
    place = runs_folder / document["study"]
    page = report.write_proof(document, place / ("proof-planted.html" if document["planted"] else "proof.html"))
    if not document["planted"] and (place / "report.html").exists():
        report.write_report(store.find_runs(place), place / "report.html", with_figures=True)
    return page


def write_comparison(document: Mapping[str, Any], run: Path) -> Path:
    """Write the page of a comparison of two runs beside one of them; returns its path."""
    return report.write_proof(document, run.resolve().parent / "comparison.html")
