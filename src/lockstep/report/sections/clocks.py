"""The figure of times: the seconds of each run's clocks, as they were recorded and not to be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lockstep.language import _
from lockstep.report.compare.groups import coordinate, varying_coordinates
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.words.quantities import count, seconds

MAX_BARS = 60  # runs in the figure of times
MAX_SECONDS = 1e9  # longer is no clock


def section(runs: Sequence[Facts]) -> dict[str, Any]:
    timed = [run for run in runs if run.timing]
    n_together = sum(run.is_of_many for run in runs)
    of_many = count(
        n_together,
        "{count} run was trained together with others in one process: neither time nor memory is its own.",
        "{count} runs were trained together with others in one process: neither time nor memory is their own.",
    )
    if not timed:
        return {"plot": None, "caption": of_many if n_together else _("No run has a timing.json.")}
    varying = [name for name in varying_coordinates(runs) if name != "dataset"]
    rows = [
        (
            " · ".join([run.network, *(coordinate(run, name) for name in varying), run.backend]),
            {c: seconds_of(run, c) for c in plots.CLOCKS},
        )
        for run in timed[:MAX_BARS]
    ]
    said = "; ".join(
        f"{label}: " + ", ".join(f"{_(plots.CLOCK_NAMES[c])} {seconds(v)}" for c, v in clocks.items())
        for label, clocks in rows[:8]
    )
    text = _(
        "Each run once, in its own process: this is a record, not a ranking; what may be ranked stands "
        "above. Loading and augmenting data are not in these clocks. "
        "The numbers are in the table of results."
    )
    if n_together:
        text += " " + of_many
    if len(timed) < len(runs) - n_together:
        text += " " + count(
            len(runs) - n_together - len(timed),
            "Not drawn: {count} run without a timing.json.",
            "Not drawn: {count} runs without a timing.json.",
        )
    if len(timed) > MAX_BARS:
        text += " " + _("The first {n} of {all} runs are drawn.", n=MAX_BARS, all=len(timed))
    label = _("Seconds per clock. {clocks}", clocks=said)
    return {"plot": plots.svg(plots.clocks(rows), label, "times"), "caption": text}


def seconds_of(run: Facts, name: str) -> float | None:
    """What one clock of a run shows; None where it shows nothing that a clock can."""
    value = run.timing.seconds.get(name) if run.timing else None
    return value if value is not None and 0 <= value < MAX_SECONDS else None
