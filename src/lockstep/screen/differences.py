"""What a person sees of two models told apart: the differences, the lines to write, and what was not looked at."""

from __future__ import annotations

import itertools
import math

from rich.console import Console

from lockstep.language import later as _
from lockstep.language import n_later as n_
from lockstep.language import say
from lockstep.store.documents.difference import Difference, Finding, Stage


def print_difference(found: Difference, console: Console, shows_mapping: bool = False) -> None:
    """The whole answer of `lockstep diff`."""
    for line in lines(found, shows_mapping):
        console.print(say(line), markup=False, highlight=False, soft_wrap=True)


def lines(found: Difference, shows_mapping: bool = False) -> list[object]:
    """The answer, line by line."""
    told: list[object] = [f"{found.a} | {found.b}"]
    n = len(found.pairs)
    counts = {"n": n, "all": n + len(found.left[0])}
    told.append(_("weights: {n} of {all} parameters carried over", **counts))
    if shows_mapping:
        told += [f"  {a} = {b}" for a, b in found.pairs]
    number = itertools.count(1)
    for stage, of_stage in itertools.groupby(found.findings, key=lambda finding: finding.stage):
        findings = list(of_stage)
        told.append(_("{stage}: DIVERGED", stage=stage))
        for finding in findings:
            told += _finding(finding, next(number))
    if math.isfinite(found.worst):
        told.append(_closing(found))
    told += [_stage(stage) for stage in found.stages if stage.verdict == "EQUAL"]
    told += [_("not observed: {what}", what=what) for what in found.not_observed]
    return told


def _stage(stage: Stage) -> object:
    counts = {"n": stage.equal, "all": stage.of, "what": stage.what}
    return _("{stage}: EQUAL, {n} of {all} {what}", stage=stage.stage, **counts)


def _closing(found: Difference) -> object:
    counts = {"n": found.n_matched, "all": found.n_tensors, "worst": f"{found.worst:.2g}"}
    if any(finding.stage == "gradients" for finding in found.findings):
        return _("the forward passes are equal with that put right: {n} of {all} tensors", **counts)
    if not found.findings:
        return _("EQUAL: {n} of {all} tensors, the output within {worst} of what rounding allows", **counts)
    return _(
        "with all that put right: equal, {n} of {all} tensors, the output within {worst} of what rounding allows",
        **counts,
    )


def _finding(finding: Finding, number: int) -> list[object]:
    places = "  ".join(f"{spot.a} | {spot.b}" for spot in finding.places[:4])
    cause = finding.cause or _("unexplained")
    told: list[object] = [_("  {number}  {cause}    at {places}", number=number, cause=cause, places=places)]
    if len(finding.places) > 4:
        rest = len(finding.places) - 4
        told.append(n_("     and at {n} more place", "     and at {n} more places", rest))
    spot = finding.places[0]
    for remedy in finding.remedies:
        texts = {"line": f"{remedy.line}", "before": remedy.before, "after": remedy.after}
        told.append(_("     line {line}: {before}  →  {after}", **texts))
    if not finding.remedies:
        told.append(_("     lines {a} | {b}", a=spot.line_a, b=spot.line_b))
    if math.isfinite(finding.error):
        sizes = {"off": f"{finding.off:.2g}", "error": f"{finding.error:.2g}"}
        told.append(_("     off by {off}; made again with that put right: {error}", **sizes))
    elif math.isfinite(finding.off):
        told.append(_("     off by {off}", off=f"{finding.off:.2g}"))
    return told
