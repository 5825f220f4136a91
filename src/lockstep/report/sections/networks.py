"""The networks: each layer by layer, as a table and as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep.language import _
from lockstep.report.compare.groups import Group
from lockstep.report.draw import plots
from lockstep.report.draw.diagram import diagram
from lockstep.report.draw.diagram import said as said_of
from lockstep.report.table import Table
from lockstep.report.words.quantities import shape, whole
from lockstep.store.documents.run import Layer

MAX_DIAGRAMS = 16  # networks that are drawn layer by layer


def sections(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One table per network and input shape."""
    found: dict[tuple[str, tuple[Layer, ...]], Group] = {}
    missing: list[dict[str, Any]] = []
    for members in groups:
        tables = [run.metrics.network for run in members.finished if run.metrics and run.metrics.network]
        if tables:
            found.setdefault((members.network, tables[0]), members)
        elif not any(name == members.network for name, _ in found):
            missing.append(
                {
                    "title": members.title,
                    "table": None,
                    "drawing": None,
                    "gap": _("No finished run has a table of its layers in metrics.json."),
                }
            )
    names = [name for name, _ in found]
    shown = []
    for place, ((name, layers), members) in enumerate(found.items()):
        title = name if names.count(name) == 1 else members.title
        drawing = _diagram(title, members, layers, place) if place < MAX_DIAGRAMS else None
        shown.append({"title": title, "table": _layers(name, layers), "drawing": drawing})
    return shown + missing


def _diagram(title: str, members: Group, layers: Sequence[Layer], number: int) -> plots.Drawing | None:
    shapes = [run.environment.dataset.shape for run in members.finished if run.environment]
    if not shapes or len(shapes[0]) != 3 or not all(row.output_shape for row in layers):
        return None
    return plots.svg(diagram(shapes[0], layers), said_of(title, shapes[0], layers), f"network{number}")


def _layers(name: str, layers: Sequence[Layer]) -> Table:
    has_branches = any(row.inputs for row in layers)
    rows = [
        [
            row.name,
            *([", ".join(row.inputs)] if has_branches else []),
            shape(row.output_shape),
            whole(row.parameters),
            whole(row.multiply_adds),
            shape(row.receptive_field),
        ]
        for row in layers
    ]
    sums = [whole(sum(row.parameters for row in layers)), whole(sum(row.multiply_adds for row in layers))]
    taken = [(_("Takes in"), "l")] if has_branches else []
    titles = (_("Output shape"), _("Parameters"), _("Multiply-adds"), _("Receptive field"))
    return Table(
        _("{name}, layer by layer", name=name),
        [(_("Layer"), "l"), *taken, *((title, "r") for title in titles)],
        rows,
        foot=[[_("Total"), *[""] * len(taken), "", *sums, ""]],
    )
