"""How far trainings part from the judge's, step by step: figures, and the numbers behind them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from lockstep.language import _, n_
from lockstep.report.draw import plots
from lockstep.report.table import Table
from lockstep.report.words import forms
from lockstep.report.words.coordinates import distinct
from lockstep.report.words.quantities import MISSING, count, significant, whole
from lockstep.store.documents.proof import (
    Growth,
    Network,
)

MAX_TWIN_ROWS = 200  # behind a figure of growth


def growth(network: Network, title: str, prefix: str) -> dict[str, Any]:
    """How the difference to the judge grows: a figure for each measure, a caption, the numbers."""
    found = network.growth or Growth(steps=0, loss={}, weights={})
    backends = [row.backend for row in network.backends]
    drawn, alone = [], ""
    for measure in plots.DIFFERENCES:
        lines = getattr(found, measure)
        alone = next((name for name in lines if name not in backends), "")
        named = (_("rounding alone: {name}", name=forms.say(alone)), lines[alone]) if alone else None
        figure = plots.growth({name: lines[name] for name in backends if name in lines}, named, measure)
        drawn.append(plots.svg(figure, _growth_said(title, measure, lines), f"{prefix}-{measure}"))
    caption = [
        _(
            "How far each training is from the judge’s, step by step, each left to itself from the same start: the "
            "loss of a step, and the weights after it (the largest difference, relative to the network’s largest "
            "weight)."
        )
    ]
    if alone:
        caption.append(_("Grey is what rounding alone does: {name}.", name=forms.say(alone)))
    if network.dtype == "float32":
        caption.append(
            _(
                "A line far above the grey one is a reason to look for another cause than rounding; no verdict rests "
                "on it."
            )
        )
    else:
        caption.append(_("A line far above the grey one is a reason to look for another cause than rounding."))
    caption.append(_("0 marks differences of zero; a step that was not observed leaves a gap."))
    return {"plots": drawn, "caption": " ".join(caption), "twin": _growth_twin(found, title)}


def _growth_said(title: str, measure: str, lines: dict[str, tuple[float | None, ...]]) -> str:
    """What a screen reader says of a figure of growth."""
    ends = [f"{forms.say(name)} {significant(seen[-1])}" for name, row in lines.items() if (seen := _seen(row))]
    steps = max(map(len, lines.values()), default=0)
    return count(
        steps,
        "{title}: {measure} to the judge over {count} step. At the last step that was observed: {ends}.",
        "{title}: {measure} to the judge over {count} steps. At the last step that was observed: {ends}.",
        title=title,
        measure=_(plots.DIFFERENCES[measure]).lower(),
        ends=", ".join(ends) or _("not known"),
    )


def _seen(row: Iterable[float | None]) -> list[float]:
    return [value for value in row if value is not None]


def _growth_twin(found: Growth, title: str) -> Table:
    """The numbers behind the figures."""
    names = distinct([*found.loss, *found.weights])
    steps = max(map(len, [*found.loss.values(), *found.weights.values()]), default=0)
    stride = max(1, math.ceil(steps * len(names) / MAX_TWIN_ROWS))
    rows: list[list[str]] = []
    breaks = set()
    for name in names:
        breaks.add(len(rows))
        for step in range(steps):
            if step % stride == 0 or step == steps - 1:
                values = [_at(row.get(name, ()), step) for row in (found.loss, found.weights)]
                rows.append(
                    [
                        forms.say(name),
                        whole(step),
                        *(MISSING if value is None else significant(value) for value in values),
                    ]
                )
    columns = [(_("Backend"), "l"), (_("Step"), "r"), (_("Loss"), "r"), (_("Weights"), "r")]
    if stride > 1:
        caption = n_(
            "{title}: relative differences from the judge, every {n} steps",
            "{title}: relative differences from the judge, every {n} steps",
            stride,
            title=title,
        )
    else:
        caption = _("{title}: relative differences from the judge", title=title)
    return Table(caption, columns, rows, breaks=breaks)


def _at(row: Sequence[float | None], step: int) -> float | None:
    return row[step] if step < len(row) else None
