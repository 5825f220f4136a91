"""What a proof would have seen: the size of each known difference in this study, in tolerances.

EQUAL says that nothing was off by more than rounding. How much that says depends on the study: behind a bias of ten
million no ε of batch normalisation shows. So every known difference that applies is tried the other way round: a trace
that is as it should be is judged by the meaning of the difference, and what that judge finds wrong, at the stage where
the difference shows first, is what a backend with this difference would have been found by. One that finds nothing
wrong is a blind spot, and a verdict says it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lockstep.proof.cases import Case
from lockstep.proof.causes import CAUSES, differing
from lockstep.proof.findings import UPDATE, Finding
from lockstep.proof.judge import Judge
from lockstep.proof.traces import Trace
from lockstep.spec.records import changed
from lockstep.store.documents.proof import Difference


@np.errstate(all="ignore")
def effects(case: Case, traces: Sequence[Trace], heed: Callable[[], None] = lambda: None) -> list[Difference]:
    """How large every known difference would be that would change this case.

    `traces` are as they should be: of the case's dtype, and of float64 where that was asked beside it. `effect` is the
    first difference over its tolerance that is above 1, or the largest where none is; infinite where the two must be
    equal, or where the difference ends in no number.
    """
    rows: list[Difference] = []
    dtypes = {trace.folder: changed(case.canonical, dtype=trace.run.dtype) for trace in traces}
    right = {trace.folder: _Looks(case.judge_of(dtypes[trace.folder]), trace) for trace in traces}
    for name, cause in CAUSES.items():
        heed()
        other = differing(name, case.canonical, case.examples.shape)
        if other is None:
            continue
        effect, makes_any = 0.0, False
        for trace in traces:
            if effect <= 1:
                meaning = changed(other, dtype=trace.run.dtype)
                looks = right[trace.folder]
                found = _effect(case.judge_of(meaning), looks.judge, looks, cause.stage)
                effect, makes_any = max(effect, found[0]), makes_any or found[1]
        if makes_any:
            rows.append(Difference(cause=name, what=cause.what, stage=cause.stage, effect=effect, is_seen=effect > 1))
    return rows


class _Looks:
    """What the canonical judge finds in a trace, stage by stage, worked out once for all differences."""

    def __init__(self, judge: Judge, trace: Trace) -> None:
        self.judge, self.trace = judge, trace
        self._seen: dict[str, tuple[list[list[Finding]], Iterator[Iterator[Finding]]]] = {}

    def at(self, stage: str, index: int) -> list[Finding]:
        """The findings of the stage's look number `index`."""
        seen, coming = self._seen.setdefault(stage, ([], _looks(self.judge, self.trace, stage)))
        while len(seen) <= index:
            seen.append(list(next(coming)))
        return seen[index]


def _effect(judge: Judge, canonical: Judge, right: _Looks, stage: str) -> tuple[float, bool]:
    """How far the trace is from what this judge wants, where that may show, and whether he wants anything else at all.

    A momentum that keeps a velocity is the same as any other while the rate is: there is nothing to be seen.
    """
    if stage in UPDATE:  # what comes before an update is the same: the passes are worked out once
        judge.share_passes(canonical)
    effect, makes_any = 0.0, False
    for index, findings in enumerate(_looks(judge, right.trace, stage)):
        for finding, other in zip(findings, right.at(stage, index), strict=False):
            makes_any = makes_any or (finding.answer, finding.problem) != (other.answer, other.problem)
            effect = max(effect, math.inf if finding.problem else 0.0 if finding.is_beyond else finding.units)
            if effect > 1:  # what is as it should be would not be: it is another meaning, and it is seen
                return effect, True
    return effect, makes_any


def _looks(judge: Judge, trace: Trace, stage: str) -> Iterator[Iterator[Finding]]:
    """The findings of the stage alone, step by step; then of everything else in a few steps, and predictions."""
    if stage in ("starting weights", "reported loss", "predictions"):
        yield judge.beside(trace, stage, None if stage == "predictions" else 0)
        return
    short = trace.manifest.steps_per_epoch - 1
    kept = [step for step in trace.manifest.kept if trace.before(step) is not None]
    steps = [step for step in dict.fromkeys((0, 1, short, *trace.manifest.late, trace.steps - 1)) if step in kept]
    for step in steps:
        arrays = trace.arrays(f"step-{step}")
        if stage == "data":
            yield judge.batch(trace, step, arrays)
        else:
            yield (finding for finding in judge.step(trace, step, arrays, (stage, "")) if finding.stage == stage)
    for step in steps[:3]:
        yield judge.beside(trace, "forward", step)
    yield judge.predictions(trace)
