"""What is not whole: runs that did not finish, files that a finished run lacks, and who has no part in a figure."""

from __future__ import annotations

from collections.abc import Sequence

from lockstep.language import _, later
from lockstep.report.compare.groups import Group
from lockstep.report.facts import Facts
from lockstep.report.words.quantities import MISSING, count, listed


def _named(run: Facts) -> str:
    return _(
        "{network}, {backend}, seed {seed} ({folder})",
        network=run.network,
        backend=run.backend,
        seed=run.seed or MISSING,
        folder=run.folder,
    )


STATES = {"running": later("unfinished"), "failed": later("failed"), "unknown": later("unknown")}


def state(run: Facts) -> str:
    """One word or two for the table: "finished", "stopped early", "failed", "unfinished"."""
    if run.is_finished:
        if run.is_diverged:
            return _("diverged")
        if run.copy_of:
            return _("copy")
        return _("stopped early") if run.metrics and run.metrics.stopped_early else _("finished")
    return _(STATES.get(run.status.status, run.status.status))


def why(run: Facts) -> str:
    """The state of a run that did not finish, with its reason."""
    code, reason = run.status.code or "", run.status.reason or run.gaps.get("status.json", "")
    found = reason if reason.startswith(code) else f"{code} {reason}".strip()
    told = {"state": state(run), "reason": found or _("no reason is recorded")}
    if run.history:
        return count(
            len(run.history),
            "{state}, after {count} epoch: {reason}",
            "{state}, after {count} epochs: {reason}",
            **told,
        )
    return f"{told['state']}: {told['reason']}"


def unfinished(run: Facts) -> str:
    return f"{_named(run)}: {why(run)}"


def section(runs: Sequence[Facts]) -> list[str]:
    """What finished runs should have and have not."""
    return [
        f"{_named(run)}: {file}: {reason}"
        for run in runs
        if run.is_finished or "spec.toml" in run.gaps
        for file, reason in run.gaps.items()
    ]


def absent(members: Group, file: str, not_done: str = later("Not shown: {why}.")) -> str:
    """Who has no part in a figure, and why."""
    why = []
    for backend in members.backends:
        runs = members.of(backend)
        if not runs:
            why.append(_("{backend} (no finished run)", backend=backend))
        elif reasons := [run.gaps[file] for run in runs if file in run.gaps]:
            why.append(f"{backend} ({file}: {reasons[0]})")
    return _(not_done, why=listed(why)) if why else ""
