"""A network layer by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.table import Table

from lockstep.language import _, number
from lockstep.screen.words import escape


def network_table(name: str, dataset: str, rows: Iterable[dict[str, Any]]) -> Table:
    """A network layer by layer, as `lockstep show` prints it."""
    rows = list(rows)
    title = _("{network} on {dataset}", network=name, dataset=dataset)
    table = Table(_("layer"), _("output"), title=escape(title), title_justify="left", show_footer=True)
    totals = (sum(row["parameters"] for row in rows), sum(row["multiply_adds"] for row in rows))
    table.columns[0].footer = _("total")
    for column, footer in (
        (_("parameters"), number(f"{totals[0]:,}")),
        (_("multiply-adds"), number(f"{totals[1]:,}")),
        (_("receptive field"), ""),
    ):
        table.add_column(column, justify="right", footer=footer)
    if has_branches := any("inputs" in row for row in rows):
        table.add_column(_("takes in"))
    for row in rows:
        output = " × ".join(map(str, row["output_shape"]))
        field = " × ".join(map(str, row["receptive_field"]))
        counts = (number(f"{row[key]:,}") for key in ("parameters", "multiply_adds"))
        taken = [escape(", ".join(row.get("inputs", ())))] if has_branches else []
        table.add_row(row["name"], output, *counts, field, *taken)
    return table
