"""`lockstep run`: every run of a study, and their report."""

from __future__ import annotations

from typing import Annotated

import typer

from lockstep.cli import interruption, runs
from lockstep.cli.options import AsJson, Choice, Proven, StudyFile, Work


def run(
    study: StudyFile, choice: Choice, work: Work,
    again: Annotated[bool, typer.Option("--again", help="Repeat finished runs too.")] = False, as_json: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: digits, one seed, at most 5 epochs.")] = False,
    together: Annotated[
        bool, typer.Option("--together", help="Train a small network's seeds and settings together (NumPy).")
    ] = False,
    film: Annotated[
        bool,
        typer.Option("--film", help="Keep each epoch's numbers in half precision: lockstep play shows them."),
    ] = False,
    proof: Proven = True,
) -> None:  # fmt: skip
    """Do every run of a study, prove its networks, then write the report."""
    interruption.end_on_signals()
    asked = choice.load(study, quick=quick)
    work.fetch(asked)
    records, rows = runs.do(asked, work, again, together, film)
    kept = runs.prove(asked, work, records, rows) if proof else None
    runs.report(asked, work, records, rows, as_json, kept)
    runs.end(rows, work.runs / asked.name, proof=kept)
