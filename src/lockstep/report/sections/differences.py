"""diff.json → what its page says: the verdict and what it rests on, causes with the lines to write, both as graphs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from lockstep.language import _, later, n_, say
from lockstep.report.draw import graphs
from lockstep.report.table import Table
from lockstep.report.words.quantities import MISSING, shape, significant, whole
from lockstep.store import prose
from lockstep.store.documents.difference import PASSES, Difference, Finding, Spot, Stage

MARKS = {"EQUAL": "good", "INCONCLUSIVE": "warn", "DIVERGED": "bad"}
OF_A_BUNDLE = later("those of a bundle")
WEIGHTS = {
    "drawn": later("drawn once for both"), "from-a": later("those of the first model"),
    "as-is": later("left as they are"),
}  # fmt: skip
UNEXPLAINED = later("No cause was found: nothing that was tried gives the other side’s numbers.")


def section(found: Difference) -> dict[str, Any]:
    """Everything that the page says, as plain data."""
    names = [f"{Path(path).name}:{name}" for path, _colon, name in (one.rpartition(":") for one in (found.a, found.b))]
    return {
        "title": f"{names[0]} | {names[1]}",
        "names": names,
        "verdict": _(found.verdict),
        "mark": MARKS[found.verdict],
        "sentence": _sentence(found),
        "closing": _closing(found),
        "carried": [say(line) for line in prose.carried(found)],
        "mended": [say(line) for line in prose.mended(found.closing)] if found.closing else [],
        "not_observed": [say(text) for text in found.not_observed],
        "stages": _stages(found),
        "findings": [_finding(number, finding) for number, finding in enumerate(found.findings, 1)],
        "blocks": graphs.picture(found) if found.graph.a or found.graph.b else [],
        "caption": graphs.said(found),
        "numbers": _numbers(found) if found.findings else None,
        "calls": _calls(found, names),
        "parameters": _parameters(found),
        "files": _files(found),
        "command": _command(found),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- in sentences


def _command(found: Difference) -> str:
    more = ("--weights", found.weights) if found.weights not in ("", "drawn") else ()
    return " ".join(map(shlex.quote, ("lockstep", "diff", found.a, found.b, *more)))


def _sentence(found: Difference) -> str:
    if found.verdict == "EQUAL":
        return _("no difference was found in what was looked at")
    if found.doubts:
        return "; ".join(map(say, found.doubts))
    if found.verdict == "INCONCLUSIVE":
        return _("no number of one was compared with one of the other, so nothing is claimed")
    n, first = len(found.findings), found.findings[0].places[0]
    text = n_("{n} difference was found; it is at {a} | {b}", "{n} differences were found; the first is at {a} | {b}",
              n, a=_place(first.a, first.line_a), b=_place(first.b, first.line_b))  # fmt: skip
    n_open = sum(finding.error is None for finding in found.findings)
    if not n_open:
        return text
    return text + ". " + n_("No cause was found for {n} of them.", "No cause was found for {n} of them.", n_open)


def _closing(found: Difference) -> str:
    counts = {"n": whole(found.n_matched), "all": whole(found.n_tensors)}
    if found.verdict == "INCONCLUSIVE":
        return ""
    if found.worst is None:
        return _(
            "The search ended there: {n} of {all} tensors are the same, and what lies behind is not known.", **counts
        )
    worst = significant(found.worst)
    if not found.findings:
        return _("{n} of {all} tensors are the same; the output is off by {worst} of what rounding allows.",
                 worst=worst, **counts)  # fmt: skip
    return _(
        "With every cause that was found put right, {n} of {all} tensors are the same; the output is off by {worst} of "
        "what rounding allows.",
        worst=worst, **counts,
    )  # fmt: skip


def _place(name: str, line: str) -> str:
    return f"{name} ({line})" if line not in ("", "–") else name


# ------------------------------------------------------------------------------------------------------- in tables


def _stages(found: Difference) -> Table:
    """What was looked at, stage by stage; a stage that was not reached has its row too."""
    known = {stage.stage: stage for stage in found.stages}
    rows, marks = [], {}
    for number, name in enumerate([*known, *(name for name in PASSES if name not in known)]):
        stage = known.get(name)
        rows.append(_stage(name, stage))
        marks[number, 1] = MARKS[stage.verdict] if stage else "warn"
    columns = [(_("stage"), "fit"), (_("verdict"), "l"), (_("the same, once put right"), "fit")]
    caption = _("What was looked at, each stage with the causes found before it put right")
    return Table(caption, columns, rows, marks=marks)


def _stage(name: str, stage: Stage | None) -> list[str]:
    if stage is None:
        return [_(name), _("not looked at"), MISSING]
    counts = {"n": whole(stage.equal), "all": whole(stage.of), "what": say(stage.what)}
    return [_(name), _(stage.verdict), _("{n} of {all} {what}", **counts)]


def _finding(number: int, finding: Finding) -> dict[str, Any]:
    return {
        "number": number,
        "cause": say(finding.cause) or _(UNEXPLAINED),
        "is_explained": bool(finding.cause),
        "facts": [*_facts(finding)],
        "remedies": [
            {"where": f"{Path(remedy.file).name}:{remedy.line}", "before": remedy.before, "after": remedy.after}
            for remedy in finding.remedies
        ],
        "advice": _advice(finding),
        "bundle": finding.bundle or "",
        "places": _places(finding),
    }  # fmt: skip


def _advice(finding: Finding) -> str:
    """What to do where no line can be written."""
    if finding.cause and finding.error is not None:
        return _("No single line can be written for sure: both lines are to be looked at.")
    return _("Both calls take the same numbers and give others: what they do there is to be read side by side.")


def _facts(finding: Finding) -> list[tuple[str, str]]:
    spot = finding.places[0]
    facts = [
        (_("stage"), _(finding.stage)),
        (_("at"), f"{_place(spot.a, spot.line_a)} | {_place(spot.b, spot.line_b)}"),
    ]
    if finding.off is not None:
        facts.append((_("off by"), significant(finding.off)))
    if finding.error is not None:
        facts.append((_("put right"), _("{error} is left", error=significant(finding.error))))
    return facts


def _places(finding: Finding) -> Table:
    rows = [[spot.a, spot.line_a, spot.b, spot.line_b] for spot in finding.places]
    columns = [(_("first model"), "l"), (_("line"), "l"), (_("second model"), "l"), (_("line"), "l")]
    return Table(_("Every place with this difference"), columns, rows)


def _numbers(found: Difference) -> Table:
    rows = []
    for number, finding in enumerate(found.findings, 1):
        spot: Spot = finding.places[0]
        sizes = [MISSING if size is None else significant(size) for size in (finding.off, finding.error)]
        rows.append([str(number), _(finding.stage), spot.a, spot.b, whole(len(finding.places)), *sizes])
    columns = [("", "r"), (_("stage"), "l"), (_("first model"), "l"), (_("second model"), "l"), (_("places"), "r"),
               (_("off by"), "r"), (_("left when put right"), "r")]  # fmt: skip
    return Table(_("How far each difference takes the two apart at its first place, in float64"), columns, rows)


def _calls(found: Difference, names: list[str]) -> Table:
    rows = [
        [part for call in (row.a is not None and found.graph.a[row.a], row.b is not None and found.graph.b[row.b])
         for part in ((call.title, shape(call.shape), call.line) if call else ("", "", ""))]
        + [_("the same") if row.is_joined else ""]
        for row in graphs.rows(found.graph)
    ]  # fmt: skip
    columns = [(names[0], "l"), (_("shape"), "l"), (_("line"), "l"), (names[1], "l"), (_("shape"), "l"),
               (_("line"), "l"), ("", "l")]  # fmt: skip
    return Table(_("The calls of both models in their order"), columns, rows)


def _parameters(found: Difference) -> Table:
    rows = [[*pair] for pair in found.pairs]
    rows += [[name, MISSING] for name in found.left[0]] + [[MISSING, name] for name in found.left[1]]
    n, n_all = whole(len(found.pairs)), whole(len(found.pairs) + len(found.left[0]))
    caption = _("Which parameter is which: {n} of {all} were carried over", n=n, all=n_all)
    return Table(caption, [(_("first model"), "l"), (_("second model"), "l")], rows)


def _files(found: Difference) -> Table:
    rows = []
    for name, model in zip((found.a, found.b), found.models, strict=False):
        count = MISSING if model.parameters is None else whole(model.parameters)
        rows.append([name, f"{model.framework} {model.version}", count, shape(model.input_shape), model.digest[:16]])
    weights = _(WEIGHTS.get(found.weights, OF_A_BUNDLE))
    n = MISSING if found.n_examples is None else whole(found.n_examples)
    caption = _("In float64; weights: {weights}; examples in the batch: {n}", weights=weights, n=n)
    columns = [(_("model"), "l"), (_("framework"), "l"), (_("parameters"), "r"), (_("input"), "r"),
               (_("SHA-256 of the file"), "l")]  # fmt: skip
    return Table(caption, columns, rows)
