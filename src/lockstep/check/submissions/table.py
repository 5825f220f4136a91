"""The results of `lockstep verify`: a line for each submission, or a CSV table."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.language import later, n_later, say, visible

COLUMNS = ("folder", "verdict", "runs", "finished", "weights_checked", "report", "best_accuracy")
MOST_IN_A_CELL = 5
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one


def as_line(row: Mapping[str, Any]) -> str:
    """One submission on one line: its verdict, and in one sentence what is wrong, unchecked or of note."""
    facts: dict[str, Any] = {**row, "verdict": later(row["verdict"]), "report": later(row["report"])}
    said = later(
        "{folder}: {verdict}: {finished} of {runs} runs finished, {weights_checked} computed from their weights, "
        "report {report}",
        **facts,
    )
    if row.get("trained_again"):
        said = later("{said}, first epochs trained again: {n}", said=said, n=row["trained_again"])
    if row["best_accuracy"] is not None:
        said = later("{said}, best test accuracy {percent:.2f} %", said=said, percent=100 * row["best_accuracy"])
    if row["problems"]:
        said = later("{said} – {problem}", said=said, problem=row["summary"])
        if len(row["problems"]) > 1:
            said = later("{said}; one by one: --json", said=said)
    elif row["unchecked"]:
        said = later("{said} – {problem}", said=said, problem=row["unchecked"][0])
        if len(row["unchecked"]) > 1:
            said = later("{said} (and {n} more: --json)", said=said, n=len(row["unchecked"]) - 1)
    elif row["notes"]:
        said = later("{said} – of note: {note}", said=said, note=row["notes"][0])
        if len(row["notes"]) > 1:
            said = later("{said} (and {n} more: --json)", said=said, n=len(row["notes"]) - 1)
    line = say(said)
    return "".join(" " if unicodedata.category(sign).startswith("C") else sign for sign in line)


def closing(rows: Sequence[Mapping[str, Any]]) -> str:
    """What no check can tell, so that nobody takes the lines above for more than they are."""
    n = sum(row["finished"] for row in rows)
    return say(
        n_later(
            "Not decidable from {n} run alone: whether its times were measured, and whose machine trained it.",
            "Not decidable from {n} runs alone: whether their times were measured, and whose machine trained them.",
            n,
        )
    )


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Submissions as CSV with a header; all problems in one cell, of very many the first.

    No cell is taken for a formula by a spreadsheet.
    """
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    lists = ("problems", "unchecked", "notes")
    table.writerow([*COLUMNS, *lists])
    for row in rows:
        cells = [row[name] for name in COLUMNS] + [_cell(row[name]) for name in lists]
        cells = [visible(cell) if isinstance(cell, str) else cell for cell in cells]
        table.writerow([f"'{cell}" if str(cell).startswith(FORMULAS) else cell for cell in cells])
    return file.getvalue()


def _cell(sentences: Sequence[str]) -> str:
    more = len(sentences) - MOST_IN_A_CELL
    return "; ".join([*sentences[:MOST_IN_A_CELL], *([later("and {n} more", n=more)] if more > 0 else [])])
