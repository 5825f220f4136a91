"""Runs as a table: what `lockstep run` prints at its end, and what records show of themselves in Python.

A row is a run as `lockstep run --json` has it (docs/run-folder.md). Its texts are laid out elsewhere for a terminal;
here as plain text for a prompt, and as HTML for a notebook.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lockstep.language import _, later, number

MISSING = "–"
MEBIBYTE = 2**20
MOST_ROWS = 200  # that are shown of a list of runs
NUMBERS = (
    later("test accuracy"), later("test loss"), later("s / epoch"), later("total s"), later("peak memory"),
)  # fmt: skip
COORDINATES = ("dataset", "seed", "dtype")


class Results(NamedTuple):
    """Titles of the columns, the rows' texts below them, and how many columns at the end hold numbers."""

    titles: list[str]
    rows: list[list[str]]
    n_numbers: int = len(NUMBERS)


def results(rows: Sequence[Mapping[str, Any]], coordinates: Sequence[str] = ()) -> Results:
    """The table of some runs; what tells them apart has a column where it varies, these coordinates always."""
    varying = [key for key in COORDINATES if key in coordinates or len({row[key] for row in rows}) > 1]
    grid = list(dict.fromkeys(key for row in rows for key in row["grid"]))
    is_proven = any(row.get("proof") for row in rows)
    titles = [_("network"), _("backend"), *map(_, varying), *(key.rpartition(".")[2] for key in grid)]
    titles += [*([_("proof")] if is_proven else []), *map(_, NUMBERS)]
    told = []
    for row in rows:
        where = [row[key] for key in varying] + [row["grid"].get(key, MISSING) for key in grid]
        verdict = [_(row.get("proof") or MISSING)] if is_proven else []
        told.append([row["network"], row["backend"], *map(str, where), *verdict, *_numbers(row)])
    return Results(titles, told)


def _numbers(row: Mapping[str, Any]) -> list[str]:
    """Of a run that did not come to its end the first of them says how it stands."""
    status, memory, total = row["status"], row.get("peak_memory_bytes"), (row.get("seconds") or {}).get("total")
    if status != "finished":
        return [_(status), *[MISSING] * (len(NUMBERS) - 1)]
    accuracy = _("diverged") if row.get("diverged") else percent(row["test_accuracy"])
    return [
        accuracy, fixed(row["test_loss"], 4), fixed(row["seconds_per_epoch"], 2), fixed(total, 1),
        MISSING if memory is None else _("{n:,.0f} MiB", n=memory / MEBIBYTE),
    ]  # fmt: skip


def percent(value: Any) -> str:
    """A share as a table has it.

    >>> percent(0.9556), percent(None)
    ('95.56 %', '–')
    """
    return MISSING if value is None else number(f"{100 * value:.2f} %")


def fixed(value: Any, decimals: int) -> str:
    """A number with so many decimals, or the sign that there is none."""
    return MISSING if value is None else number(f"{value:.{decimals}f}")


def as_text(found: Results) -> str:
    """The table for a prompt: columns side by side, numbers to the right.

    >>> print(as_text(Results(["network", "test loss"], [["mlp", "0.1"]], 1)))
    network  test loss
    mlp            0.1
    """
    rows = [found.titles, *found.rows[:MOST_ROWS]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first = len(widths) - found.n_numbers
    lines = [
        "  ".join(
            text.rjust(width) if place >= first else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, *_left_out(found)])


def as_html(found: Results) -> str:
    first = len(found.titles) - found.n_numbers

    def line(cells: Sequence[str], tag: str) -> str:
        sides = ["right" if place >= first else "left" for place in range(len(cells))]
        told = (
            f'<{tag} style="text-align: {side}">{html.escape(text)}</{tag}>'
            for text, side in zip(cells, sides, strict=True)
        )
        return f"<tr>{''.join(told)}</tr>"

    body = "".join(line(row, "td") for row in found.rows[:MOST_ROWS])
    below = "".join(f"<p>{html.escape(text)}</p>" for text in _left_out(found))
    return f"<table><thead>{line(found.titles, 'th')}</thead><tbody>{body}</tbody></table>{below}"


def _left_out(found: Results) -> list[str]:
    n = len(found.rows) - MOST_ROWS
    return [_("… and {n:,} more", n=n)] if n > 0 else []
