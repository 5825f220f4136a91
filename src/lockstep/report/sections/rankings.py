"""Which backend is faster, where that can be ranked, what the times rest on, and what it takes to start."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.language import _, later, n_, number
from lockstep.report.compare.cells import (
    Cell,
    median,
)
from lockstep.report.compare.comparison import ENOUGH, Comparison
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.table import Table
from lockstep.report.words.quantities import (
    MISSING,
    column,
    count,
    fixed,
    is_number,
    listed,
    span,
    word,
)

START = ("import", "build", "compile")
CLOCKS = {  # of a table's columns
    "import": later("Import (s)"),
    "build": later("Build (s)"),
    "compile": later("Compile (s)"),
    "train": later("Train (s)"),
    "evaluate": later("Evaluate (s)"),
}


def ranking_table(found: Comparison) -> Table | None:
    if not found.rankings:
        return None
    rows: list[list[str]] = []
    marks: dict[tuple[int, int], str] = {}
    for row in found.rankings:
        ratio = number(f"×\u00a0{row.ratio:.2f}") if row.ratio else MISSING
        if row.reasons:
            said = _("cannot be ranked: {reasons}", reasons="; ".join(row.reasons))
        else:
            said = _("{name} is faster", name=row.first.backend)
        marks[len(rows), 6] = "good" if not row.reasons else ""
        medians = column([median(row.first.seconds), median(row.second.seconds)])
        rows.append([row.where, row.first.backend, row.second.backend, *medians, ratio, said])
    columns = [
        (_("Network"), "l"),
        (_("Shorter"), "l"),
        (_("Longer"), "l"),
        (_("Median epoch (s)"), "r"),
        (_("of the longer (s)"), "r"),
    ]
    columns += [(_("Ratio"), "r"), (_("What can be said"), "l wide")]
    caption = n_(
        "Seconds per epoch. Times are ranked where the runs took turns on one machine, at least {count} times each, "
        "and the bootstrap’s 95 % intervals of the medians do not overlap.",
        "Seconds per epoch. Times are ranked where the runs took turns on one machine, at least {count} times each, "
        "and the bootstrap’s 95 % intervals of the medians do not overlap.",
        ENOUGH,
        count=word(ENOUGH),
    )
    return Table(caption, columns, rows, marks=marks)


def fairness(cells: Sequence[Cell]) -> list[str]:
    """What the times rest on."""
    runs = [run for cell in cells for run in cell.finished if run.timing]
    known = [run.environment for run in runs if run.environment]
    if not known:
        return []
    machines = dict.fromkeys(f"{one.cpu or _('a CPU without a name')}, {cores_of(one.cores or 0)}" for one in known)
    threads = dict.fromkeys(str(one.threads.obtained) for one in known if one.threads.obtained is not None)
    versions = dict.fromkeys(f"{name} {text}" for one in known for name, text in sorted(one.versions.items()))
    numbers = [len(cell.seconds) for cell in cells if cell.seconds]
    loads = [one.load[0] for one in known if one.load]
    n = MISSING
    if numbers:
        n = f"{min(numbers)}" if min(numbers) == max(numbers) else span(str(min(numbers)), str(max(numbers)))
    devices = dict.fromkeys(one.device or MISSING for one in known)
    lines = [
        _(
            "Machine: {machines}; device: {devices}.",
            machines=listed(list(machines)[:4]),
            devices=listed(list(devices)),
        ),
        _(
            "Threads obtained: {threads}. Each run in a process of its own.",
            threads=listed(list(threads)) or _("not known"),
        ),
        _("Versions: {versions}.", versions=", ".join(list(versions)[:12]) or _("not known")),
        _("Times per network and backend: n\u00a0=\u00a0{n}; each is the median over a run’s epochs.", n=n),
    ]
    if loads:
        ends = span(fixed(min(loads), 1), fixed(max(loads), 1))
        lines.append(
            _("Load average: {ends}; where it is above the threads, other programs took part of the time.", ends=ends)
        )
    return lines


def cores_of(n: int) -> str:
    return count(n, "{count} core", "{count} cores")


def start_table(cells: Sequence[Cell]) -> Table | None:
    """Seconds before the first step, per backend."""
    rows = []
    for backend in plots.backend_order(cell.backend for cell in cells):
        runs = [run for cell in cells if cell.backend == backend for run in cell.finished if run.timing]
        clocks = [start_seconds(runs, (clock,)) for clock in START]
        if any(clocks):
            total = start_seconds(runs, START)
            ends = span(*column([min(total), max(total)])) if len(total) > 1 else MISSING
            medians = column([*(median(values) for values in clocks), median(total)])
            rows.append([backend, str(len(runs)), *medians, ends])
    titles = [*(_(CLOCKS[clock]) for clock in START), _("Together (s)"), _("Range")]
    columns = [(_("Backend"), "l"), (_("Runs"), "r"), *((title, "r") for title in titles)]
    caption = _(
        "Start-up: medians over all finished runs of the seconds before the first step. A record, not a ranking."
    )
    return Table(caption, columns, rows) if rows else None


def start_seconds(runs: Sequence[Facts], clocks: Sequence[str]) -> list[float]:
    """The sum of these clocks, of each run that has them all."""
    rows = [[run.timing.seconds.get(clock) for clock in clocks] for run in runs if run.timing]
    known = [[value for value in row if value is not None and is_number(value) and value >= 0] for row in rows]
    return [sum(row) for row in known if len(row) == len(clocks)]
