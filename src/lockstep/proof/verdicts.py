"""One trace, judged: where it is wrong, by which known difference, and what of it was seen.

A finding that is wrong is a place; a place is guilty where nothing before it is (`guilty`); the guilty place's cause is
found by reproduction (`causes`).
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np

from lockstep.backends.numpy import OPTIMIZERS
from lockstep.language import joined, later
from lockstep.proof import audit, growth, rehearsal
from lockstep.proof.cases import Case
from lockstep.proof.causes import CAUSES
from lockstep.proof.finder import Finder
from lockstep.proof.findings import RANGE, STAGES, UPDATE, Finding
from lockstep.proof.growth import WITHOUT_SHORT
from lockstep.proof.judge import Judge
from lockstep.proof.traces import Trace
from lockstep.spec import Run
from lockstep.store.documents.proof import Cause, Coverage, Divergence, Share, Suspicion, Verdict


@dataclasses.dataclass
class Judgement:
    """What is known of one backend, more of it the further a proof comes; `beside` is of the same steps in float64."""

    run: Run
    trace: Trace | None = None
    findings: list[Finding] = dataclasses.field(default_factory=list)
    divergences: list[Divergence] = dataclasses.field(default_factory=list)
    verdict: Verdict = "INCONCLUSIVE"
    reason: str | None = None
    code: str | None = None
    is_doubted: bool = False
    beside: Judgement | None = None


@np.errstate(all="ignore")  # a training that diverges ends in infinities, which are told as such
def judged(trace: Trace, case: Case, heed: Callable[[], None] = lambda: None) -> Judgement:
    """What one trace comes to. `heed` is called often, and may raise."""

    def judge_of(run: Run) -> Judge:
        heed()
        return case.judge_of(run)

    findings, judge = [], case.judge
    for finding in judge.findings(trace):
        heed()
        findings.append(finding)
    wrong = guilty(findings)
    finder = Finder(trace, case.canonical, case.examples.shape, judge_of, findings, judge)
    row = Judgement(trace.run, trace, findings, [_divergence(trace, case, place, finder) for place in wrong])
    row.verdict, row.reason = _verdict(case, row, to_come=("training", "whole epoch"))  # `judge_growth`
    return row


def _verdict(case: Case, row: Judgement, to_come: Sequence[str] = ()) -> tuple[Verdict, str | None]:
    """The verdict on what was found in one trace, but for stages that come later, and its reason."""
    if row.divergences:
        return "DIVERGED", None
    unseen = [stage for stage in coverage(case, row.trace, row.findings).missing if stage not in to_come]
    end = range_ends(row.findings)
    if end == 0:
        return "INCONCLUSIVE", later("this recipe's numbers are not finite in any backend")
    if unseen:  # never equal on what was not observed
        return "INCONCLUSIVE", later("not observed: {stages}", stages=joined(map(later, unseen)))
    if end is not None:
        reason = later(
            "judged up to step {step}: from there this recipe's numbers are not finite in any backend", step=end
        )
        return "EQUAL", reason
    return "EQUAL", None


def range_ends(findings: Sequence[Finding]) -> int | None:
    """The step from which on the recipe's own numbers are not finite, and nothing can be judged."""
    return next((finding.step for finding in findings if finding.stage == RANGE), None)


OPEN = 0.99  # of a step: where so much may be missing, it was not judged
WIDE = 0.1  # of a step: where the most closely judged update of a parameter was allowed more, float64 is asked


def updates_within(findings: Sequence[Finding]) -> dict[str, float | None]:
    """Parameter → to within what part of itself its most closely judged update was judged; None: it is rounding alone.

    An update is its slots, given the gradients, and its weights, given the slots: the wider of them.
    """
    widest: dict[str, dict[int | None, float]] = {}
    for finding in findings:
        if finding.stage not in UPDATE:
            continue
        name = finding.where if finding.stage == "updated weights" else finding.where.rpartition("/")[0]
        steps = widest.setdefault(name, {})
        within = math.inf if finding.is_beyond else finding.within
        if within is not None and not finding.problem:
            steps[finding.step] = max(steps.get(finding.step, 0.0), within)
    return {name: min(steps.values(), default=None) for name, steps in widest.items()}


class GivenUp(Exception):  # noqa: N818 - nothing is wrong
    """The proof was interrupted: nobody waits for this judgement any more."""


class Court:
    """Judges traces in threads of its own, so that the next trace can be made meanwhile."""

    def __init__(self, judges: int) -> None:
        self._pool = ThreadPoolExecutor(judges)
        self.closed = threading.Event()

    def __enter__(self) -> Court:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: TracebackType | None) -> None:
        """Judgements that nobody has waited for are given up within a step or a cause."""
        self.closed.set()
        self._pool.shutdown(cancel_futures=True)

    def judge(self, trace: Trace, case: Case) -> Future[Judgement]:
        """What `judged` gives, when it is done."""
        return self._pool.submit(judged, trace, case, self.heed)

    def heed(self) -> None:
        if self.closed.is_set():
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


def _divergence(trace: Trace, case: Case, rows: list[Finding], finder: Finder) -> Divergence:
    """One guilty place, as the document has it, with its causes."""
    return divergence_of(trace, case, rows, finder.causes(rows))


def divergence_of(trace: Trace, case: Case, rows: list[Finding], named: Sequence[tuple[str, ...]]) -> Divergence:
    """What is written of findings at one place: `rows`, the first first, and the causes that fit them."""
    first = rows[0]
    return Divergence(
        network=case.canonical.network_name, dataset=case.canonical.dataset, dtype=case.canonical.dtype,
        seed=case.canonical.seed, grid=dict(case.canonical.grid), backend=trace.backend, stage=first.stage,
        where=first.where, step=first.step, steps=tuple(finding.step for finding in rows), size=first.size,
        tolerance=first.tolerance, times_tolerance=max(finding.units for finding in rows), index=first.index,
        found=first.found, wanted=first.wanted, problem=first.problem or None,
        causes=tuple(" + ".join(names) for names in named) or UNEXPLAINED, bundle=None,
        explained=explained(dict.fromkeys(name for names in named for name in names)),
    )  # fmt: skip


UNEXPLAINED = ("unexplained",)


def explained(names: Iterable[str]) -> tuple[Cause, ...]:
    """What the catalogue says of these causes."""
    known = ((name, CAUSES[name]) for name in names)
    return tuple(Cause(cause=name, what=one.what, default_of=one.defaults, mend=one.mend) for name, one in known)


def _steps_of(findings: Sequence[Finding], stages: Sequence[str], steps: int) -> set[int]:
    """The first steps of which something of these stages was judged."""
    judged_ones = (one for one in findings if one.stage in stages and not one.is_beyond)
    return {one.step for one in judged_ones if one.step is not None and one.step < steps}


def _lacks_epoch(trace: Trace, findings: Sequence[Finding]) -> bool:
    """Whether an epoch in one call, with its short batch and without, was not compared although there is one."""
    manifest, batch = trace.manifest, trace.run.recipe.batch_size
    found = {finding.where for finding in findings if finding.stage == "whole epoch"}
    full = batch * (manifest.steps_per_epoch - 1)
    has_short = 0 < full < manifest.n_train < full + batch
    return bool(found) and not {"losses", *([f"losses{WITHOUT_SHORT}"] if has_short else [])} <= found


BEHIND = ("training", "whole epoch", "reported loss", "predictions")  # stages that come after the steps


def is_wide(findings: Sequence[Finding]) -> bool:
    """Whether some parameter's updates were allowed more than WIDE of themselves at every step."""
    return any(within is not None and within > WIDE for within in updates_within(findings).values())


def all_updates_within(row: Judgement) -> dict[str, float | None]:
    """`updates_within` of a row, or of what was judged beside it in float64 where that is closer."""
    closest = updates_within(row.findings)
    for name, within in updates_within(row.beside.findings if row.beside else ()).items():
        known = closest.get(name)
        closest[name] = within if known is None or within is None else min(known, within)
    return {name: within if within is None else min(within, 1.0) for name, within in closest.items()}


def open_updates(row: Judgement) -> list[str]:
    """The parameters whose updates were allowed all of themselves, so that nothing of them was judged."""
    return [name for name, within in all_updates_within(row).items() if within is not None and within > OPEN]


def judge_updates(row: Judgement) -> None:
    """A row that was EQUAL is not, where an update was allowed all of itself."""
    open_ones = open_updates(row)
    if row.verdict in ("IDENTICAL", "EQUAL") and open_ones:
        names = ", ".join(open_ones)
        row.verdict = "INCONCLUSIVE"
        row.reason = later("updates were not judged of {names}: rounding may be as large as they", names=names)


@np.errstate(all="ignore")
def doubts(case: Case, steps: int) -> list[audit.Doubt]:
    """Where the judge, the plan or the training loop are not what they should be; see `audit`, `rehearsal`."""
    judge = case.judge
    found = audit.doubts(judge.plan, judge.start, *case.examples.train, steps)
    return found + rehearsal.doubts(case.canonical, case.examples)


def suspicion(case: Case, rows: list[Judgement], steps: int) -> Suspicion | None:
    """Whether the judge itself is to be suspected, and of what.

    First by independent formulas: where they differ from the judge's, the NumPy backend, which shares them, has
    diverged, and nothing is said of others. Then by the others: where all of them, two at least, differ from the judge
    first at one place and alike, the judge is alone, whoever is right.
    """
    found = doubts(case, steps)
    if shared := [doubt for doubt in found if doubt.stage != rehearsal.TOGETHER]:
        return _of_all(case, rows, shared[0])
    if found:
        _of_together(case, rows, found[0])
    others = [row for row in rows if row.run.backend != "numpy" and row.trace]
    firsts = [row.divergences[0] for row in others if row.divergences]
    if len(firsts) < 2 or len(firsts) < len(others):
        return None
    places = {(one.stage, one.where, one.step, one.index) for one in firsts}
    values = [one.found for one in firsts if one.found is not None]
    tolerance = max(one.tolerance or 0.0 for one in firsts)
    if len(places) > 1 or len(values) < len(firsts) or not max(values) - min(values) <= 2 * tolerance:
        return None
    names = ", ".join(row.run.backend for row in others)
    reason = later("{names} differ from the judge at one place, and alike: suspect the judge", names=names)
    return Suspicion(stage=firsts[0].stage, where=firsts[0].where, step=firsts[0].step, reason=reason)


def _of_all(case: Case, rows: list[Judgement], doubt: audit.Doubt) -> Suspicion:
    """What the judge has wrongly is NumPy's too, and what it says of others is worth nothing."""
    stage, where, step = doubt.stage, doubt.where, doubt.step
    reason = later(
        "the judge itself is not what an independent formula gives: {stage}, {where}", stage=later(stage), where=where
    )
    for row in rows:
        if row.run.backend == "numpy":
            _doubt(case, row, doubt, reason)
        elif row.trace:
            row.divergences, row.verdict, row.reason = [], "INCONCLUSIVE", reason
    return Suspicion(stage=stage, where=where, step=step, reason=reason)


def _of_together(case: Case, rows: list[Judgement], doubt: audit.Doubt) -> None:
    """What NumPy has otherwise in runs that are trained together is nobody else's, and its own steps come first."""
    reason = later(
        "NumPy's runs that are trained together are not what each of them is alone: {where}", where=doubt.where
    )
    for row in rows:
        if row.run.backend == "numpy" and not row.divergences:
            _doubt(case, row, doubt, reason)


def _doubt(case: Case, row: Judgement, doubt: audit.Doubt, reason: str) -> None:
    if row.trace is None:
        return
    units = doubt.size / doubt.tolerance if doubt.tolerance else math.inf
    finding = Finding(doubt.stage, doubt.where, doubt.step, units, doubt.size, doubt.tolerance, problem=reason)
    row.divergences = [divergence_of(row.trace, case, [finding], []), *row.divergences]
    row.verdict, row.reason, row.is_doubted = "DIVERGED", None, True


def coverage(case: Case, trace: Trace | None, findings: Sequence[Finding]) -> Coverage:
    """What was observed of one backend, and what was not."""
    names = set(case.canonical.network.parameter_shapes(case.examples.shape))
    rows = [row.name for row in case.plan.rows]
    if trace is None:
        return Coverage(steps=0, layers=Share(judged=0, of=len(rows)), missing=tuple(STAGES))
    manifest, seen = trace.manifest, {finding.stage for finding in findings}
    forward = {finding.where for finding in findings if finding.stage == "forward"}
    gradients = {finding.where for finding in findings if finding.stage == "gradients"}
    unjudged = {finding.stage for finding in findings if finding.is_beyond} - {*UPDATE}  # see `judge_updates`
    missing = [stage for stage in STAGES if stage not in seen or stage in unjudged]
    if _lacks_epoch(trace, findings):
        missing = [stage for stage in STAGES if stage in (*missing, "whole epoch")]
    if not any(row.layer.has_state for row in case.plan.rows):
        missing = [stage for stage in missing if stage != "statistics"]  # there are none
    if not OPTIMIZERS[case.canonical.recipe.optimizer.kind][0]:
        missing = [stage for stage in missing if stage != "optimizer slots"]
    if case.plan.dtype == "float32":
        missing = [stage for stage in missing if stage != "training"]  # rounding alone parts two of them
    if manifest.steps < manifest.steps_per_epoch:
        missing = [stage for stage in missing if stage != "whole epoch"]  # there was none
    if range_ends(findings) is not None:  # there are none behind it
        missing = [stage for stage in missing if stage not in BEHIND]
    return Coverage(
        steps=manifest.steps, updates_judged=len(_steps_of(findings, UPDATE, manifest.steps)),
        late_steps=len(manifest.late),
        steps_with_layers_judged=len(_steps_of(findings, ("forward",), manifest.steps)),
        epochs=manifest.steps / manifest.steps_per_epoch,
        layers=Share(judged=len(forward & set(rows)), of=len(rows)),
        parameters=Share(judged=len(gradients & names), of=len(names)), values=sum(finding.n for finding in findings),
        missing=tuple(missing),
    )  # fmt: skip


def judge_growth(case: Case, row: Judgement, parting: growth.Parting) -> None:
    """What needs all of training from its start: the whole epoch and, in float64, the weights after every step."""
    trace = row.trace
    if trace is None:
        return
    found = [*growth.training(parting, trace), *growth.whole_epoch(parting, trace)]
    row.findings += found
    wrong = guilty(found)
    if wrong and not row.divergences:
        finder = Finder(trace, case.canonical, case.examples.shape, case.judge_of, row.findings)
        row.divergences = [_divergence(trace, case, wrong[0], finder)]
    if row.verdict != "INCONCLUSIVE" or wrong:
        verdict, reason = _verdict(case, row)
        if not (row.verdict == "IDENTICAL" and verdict == "EQUAL"):
            row.verdict, row.reason = verdict, reason
