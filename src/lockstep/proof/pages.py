"""Which pages a proof gets, and where: its own, and the report of its study anew, which shows its verdicts."""

from __future__ import annotations

from pathlib import Path

from lockstep import report, store
from lockstep.store.documents.proof import Proof


def write(found: Proof, runs_folder: Path) -> Path:
    """Write the page of a study's proof, and its report again where it has one; returns the former's path."""
    place = runs_folder / found.study
    page = report.write_proof(found, place / ("proof-planted.html" if found.planted else "proof.html"))
    if not found.planted and (place / "report.html").exists():
        report.write_report(store.find_runs(place), place / "report.html", with_figures=True)
    return page


def write_comparison(found: Proof, run: Path) -> Path:
    """Write the page of a comparison of two runs beside one of them; returns its path."""
    return report.write_proof(found, run.resolve().parent / "comparison.html")
