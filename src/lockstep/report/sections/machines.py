"""What the runs were computed on and with: machines, versions, threads, load."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.language import _, number
from lockstep.report.compare.groups import by
from lockstep.report.draw import plots
from lockstep.report.facts import Facts
from lockstep.report.sections import rankings
from lockstep.report.table import Table
from lockstep.report.words.quantities import MISSING, span
from lockstep.store.documents.run import Environment


def _machine(run: Facts) -> tuple[str, ...]:
    found = run.environment or Environment()
    cores = f", {rankings.cores_of(found.cores)}" if found.cores else ""
    memory = _("{n} GiB", n=number(f"{found.memory_bytes / 2**30:.1f}")) if found.memory_bytes else MISSING
    return (f"{found.cpu or MISSING}{cores}", memory, found.device or MISSING, found.platform or MISSING)


def section(runs: Sequence[Facts]) -> Table:
    rows = [[*_machine(members[0]), str(len(members))] for members in by(runs, lambda run: "\n".join(_machine(run)))]
    n_known = sum(any(cell != MISSING for cell in row[:-1]) for row in rows)
    columns = [(_("CPU"), "l"), (_("Memory"), "l"), (_("Device"), "l"), (_("Platform"), "l"), (_("Runs"), "r")]
    caption = _("Machine") if n_known <= 1 else _("Machines: times of different machines cannot be compared")
    return Table(caption, columns, rows)


def backends(runs: Sequence[Facts]) -> Table:
    """Versions and threads behind every backend's times."""

    def told(run: Facts) -> tuple[str, ...]:
        found = run.environment or Environment()
        versions = ", ".join(f"{name} {version}" for name, version in sorted(found.versions.items()))
        threads = ["" if n is None else str(n) for n in (found.threads.asked, found.threads.obtained)]
        own = [
            f"{name} {version}" for name, version in (("Lockstep", found.lockstep), ("Python", found.python)) if version
        ]
        return (run.backend, versions or MISSING, ", ".join(own) or MISSING, *(text or MISSING for text in threads))

    kinds = by((run for run in runs if run.environment), lambda run: "\n".join(told(run)))
    kinds.sort(key=lambda members: plots.backend_order(run.backend for run in runs).index(members[0].backend))
    rows = [
        [*told(members[0]), _load(members), str(len({run.seed for run in members})), str(len(members))]
        for members in kinds
    ]
    titles = (_("Threads asked"), _("Threads obtained"), _("Load"), _("Seeds"), _("Runs"))
    columns = [
        (_("Backend"), "l"),
        (_("Versions"), "l"),
        (_("Lockstep, Python"), "l"),
        *((title, "r") for title in titles),
    ]
    caption = _("What each backend ran with. Load is the machine’s 1-minute load average, over its runs.")
    return Table(caption, columns, rows)


def _load(runs: Sequence[Facts]) -> str:
    """The lowest and the highest load average that these runs met."""
    loads = [run.environment.load[0] for run in runs if run.environment and run.environment.load]
    if not loads:
        return MISSING
    low, high = (number(f"{load:.1f}") for load in (min(loads), max(loads)))
    return low if low == high else span(low, high)
