"""One trace, judged: where it is wrong, by which known difference, and what of it was seen.

A finding that is wrong is a place; a place is guilty where nothing before it is (`guilty`); the guilty place's cause is
found by reproduction (`causes`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np

from lockstep import growth
from lockstep.cases import Case
from lockstep.causes import CAUSES, Finder
from lockstep.judge import STAGES, Finding, Judge
from lockstep.language import joined
from lockstep.language import later as _
from lockstep.spec import Run
from lockstep.trace import Trace


@np.errstate(all="ignore")  # a training that diverges ends in infinities, which are told as such
def judged(trace: Trace, case: Case, heed: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """{"trace", "findings", "divergences", "verdict", "reason"} of one trace. `heed` is called often, and may raise."""

    def judge_of(run: Run) -> Judge:
        heed()
        return case.judge_of(run)

    findings = []
    for finding in case.judge.findings(trace):
        heed()
        findings.append(finding)
    wrong = guilty(findings)
    finder = Finder(trace, case.canonical, case.examples.shape, judge_of)
    divergences = [_divergence(trace, case, place, finder) for place in wrong]
    verdict = "DIVERGED" if divergences else "EQUAL"
    reason = None
    later = ("training", "whole epoch")  # `judge_growth`
    unseen = [stage for stage in coverage(case, trace, findings)["missing"] if stage not in later]
    if unseen and not divergences:  # never equal on what was not observed
        verdict, reason = "INCONCLUSIVE", _("not observed: {stages}", stages=joined(map(_, unseen)))
    return {"trace": trace, "findings": findings, "divergences": divergences, "verdict": verdict, "reason": reason}


class GivenUp(Exception):  # noqa: N818 - nothing is wrong
    """The proof was interrupted: nobody waits for this judgement any more."""


class Court:
    """Judges traces in threads of its own, so that the next trace can be made meanwhile."""

    def __init__(self, judges: int) -> None:
        self._pool = ThreadPoolExecutor(judges)
        self._closed = threading.Event()

    def __enter__(self) -> Court:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        """Judgements that nobody has waited for are given up within a step or a cause."""
        self._closed.set()
        self._pool.shutdown(cancel_futures=True)

    def judge(self, trace: Trace, case: Case) -> Future[dict[str, Any]]:
        """What `judged` gives, when it is done."""
        return self._pool.submit(judged, trace, case, self._heed)

    def _heed(self) -> None:
        if self._closed.is_set():
            raise GivenUp


# The stages that a comparison through the whole network passes through before it comes to its own.
_THROUGH = ("forward", "loss", "backward", "gradients", "statistics")


def guilty(findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings that are wrong, by place, in the order of time and of the data's flow.

    A comparison through the whole network counts only where everything that was isolated is right.
    """
    wrong = [finding for finding in findings if not finding.agrees]
    isolated = [finding for finding in wrong if not finding.whole]
    if any(finding.stage in _THROUGH for finding in isolated):
        wrong = [finding for finding in wrong if not finding.whole or finding.stage == "predictions"]
    if any(finding.stage == "predictions" for finding in isolated):
        wrong = [finding for finding in wrong if not (finding.whole and finding.stage == "predictions")]
    places: dict[tuple[str, str], list[Finding]] = {}
    for finding in wrong:
        places.setdefault(finding.place, []).append(finding)
    order = list(STAGES)

    def when(rows: list[Finding]) -> tuple[int, int, int]:
        first = rows[0]
        step = first.step if first.step is not None else -1 if first.stage == "starting weights" else 10**9
        digits = first.where.partition("_")[0]
        layer = int(digits) if digits.isdigit() else -1
        return step, order.index(first.stage), -layer if first.stage in ("backward", "gradients") else layer

    return sorted(places.values(), key=when)


def _divergence(trace: Trace, case: Case, rows: list[Finding], finder: Finder) -> dict[str, Any]:
    """One guilty place, as the document has it."""
    first = rows[0]
    worst = max(rows, key=lambda finding: finding.units)
    named = finder.causes(rows)
    return {
        "network": case.canonical.network_name, "dataset": case.canonical.dataset, "dtype": case.canonical.dtype,
        "seed": case.canonical.seed, "grid": dict(case.canonical.grid), "backend": trace.backend,
        "stage": first.stage, "where": first.where, "step": first.step,
        "steps": [finding.step for finding in rows], "size": first.size, "tolerance": first.tolerance,
        "times_tolerance": worst.units, "index": first.index, "found": first.found, "wanted": first.wanted,
        "problem": first.problem or None,
        "causes": [" + ".join(names) for names in named] or ["unexplained"],
        "bundle": None,
        "explained": explained(dict.fromkeys(name for names in named for name in names)),
    }  # fmt: skip


def explained(names: Iterable[str]) -> list[dict[str, str]]:
    """What the catalogue says of these causes."""
    return [
        {"cause": name, "what": CAUSES[name].what, "default_of": CAUSES[name].defaults, "mend": CAUSES[name].mend}
        for name in names
    ]


def coverage(case: Case, trace: Trace | None, findings: Sequence[Finding]) -> dict[str, Any]:
    """What was observed of one backend, and what was not."""
    names = set(case.canonical.network.parameter_shapes(case.examples.shape))
    layers = [row.name for row in case.judge.plan.rows] if trace is None else []
    if trace is None:
        return {"steps": 0, "observed": [], "missing": [*STAGES], "layers": f"0 of {len(layers)}"}
    manifest, seen = trace.manifest, {finding.stage for finding in findings}
    rows = [row.name for row in case.judge.plan.rows]
    forward = {finding.where for finding in findings if finding.stage == "forward"}
    gradients = {finding.where for finding in findings if finding.stage == "gradients"}
    missing = [stage for stage in STAGES if stage not in seen]
    if not any(row.layer.has_state for row in case.judge.plan.rows):
        missing = [stage for stage in missing if stage != "statistics"]  # there are none
    if not case.judge.exact.slot_names:
        missing = [stage for stage in missing if stage != "optimizer slots"]
    if case.judge.dtype == "float32":
        missing = [stage for stage in missing if stage != "training"]  # rounding alone parts two of them
    if manifest["steps"] < manifest["steps_per_epoch"]:
        missing = [stage for stage in missing if stage != "whole epoch"]  # there was none
    return {
        "steps": manifest["steps"],
        "updates_judged": len(judged_steps := [k for k in manifest["kept"] if k == 0 or k - 1 in manifest["kept"]]),
        "steps_with_layers_judged": len(set(manifest["observed"]) & set(judged_steps)),
        "epochs": manifest["steps"] / manifest["steps_per_epoch"],
        "layers": f"{len(forward & set(rows))} of {len(rows)}",
        "parameters": f"{len(gradients & names)} of {len(names)}",
        "values": sum(finding.n for finding in findings),
        "missing": missing,
    }


def judge_growth(case: Case, row: dict[str, Any], parting: growth.Parting) -> None:
    """What needs all of training from its start: the whole epoch and, in float64, the weights after every step."""
    trace = row["trace"]
    if trace is None:
        return
    found = [*growth.training(parting, trace), *growth.whole_epoch(parting, trace)]
    row["findings"] += found
    wrong = guilty(found)
    if wrong and not row["divergences"]:
        finder = Finder(trace, case.canonical, case.examples.shape, case.judge_of)
        row["divergences"] = [_divergence(trace, case, wrong[0], finder)]
        row["verdict"] = "DIVERGED"
    unseen = coverage(case, trace, row["findings"])["missing"]
    if unseen and row["verdict"] in ("IDENTICAL", "EQUAL"):
        row["verdict"], row["reason"] = "INCONCLUSIVE", _("not observed: {stages}", stages=joined(map(_, unseen)))
