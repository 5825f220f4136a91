"""What a person reads of two models told apart: the differences, the lines to write, and what was not looked at.

Line by line for a terminal, for Python's prompt and for the message of an assertion; as a table for a notebook.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence

from lockstep.language import digits, later, n_later, say
from lockstep.store.documents.comparison import PASSES, Closing, Comparison, Finding, Stage

MOST_PLACES = 4  # of a difference that are shown
OF_A_BUNDLE = later("the weights of a bundle")
WEIGHTS = {
    "drawn": later("weights drawn once for both"), "from-a": later("the first one's weights in both"),
    "as-is": later("weights as they are"),
}  # fmt: skip


def lines(found: Comparison, shows_mapping: bool = False) -> list[object]:
    """The answer, line by line."""
    told = _above(found)
    if shows_mapping:
        told += [f"  {a} = {b}" for a, b in found.pairs]
    number = itertools.count(1)
    for stage, of_stage in itertools.groupby(found.findings, key=lambda finding: finding.stage):
        findings = list(of_stage)
        told.append(later("{stage}: DIVERGED", stage=later(stage)))
        for finding in findings:
            told += _finding(finding, next(number))
    return told + _below(found)


def as_text(found: Comparison) -> str:
    """The answer as one text, in the language in use."""
    return "\n".join(map(say, lines(found)))


def as_html(found: Comparison) -> str:
    """The answer for a notebook: a table of the differences between what stands above and below them."""
    names = [model.rpartition(":")[0] or model for model in (found.a, found.b)]
    titles = ["", later("stage"), later("difference"), *names, later("write instead")]
    rows = [[str(number), *_cells(finding)] for number, finding in enumerate(found.findings, 1)]
    body = "".join(_row(row, "td") for row in rows)
    table = f"<table><thead>{_row(titles, 'th')}</thead><tbody>{body}</tbody></table>" if rows else ""
    above, below = ("".join(f"<p>{html.escape(say(line))}</p>" for line in part(found)) for part in (_above, _below))
    return above + table + below


def _cells(finding: Finding) -> list[object]:
    """Stage, cause, the places of both sides, the lines to write."""
    sides = [[f"{spot.a} ({spot.line_a})", f"{spot.b} ({spot.line_b})"] for spot in finding.places[:MOST_PLACES]]
    instead = "\n".join(f"{remedy.line}: {remedy.after}" for remedy in finding.remedies)
    return [
        later(finding.stage),
        finding.cause or later("unexplained"),
        *map("\n".join, zip(*sides, strict=True)),
        instead,
    ]


def _row(cells: Sequence[object], tag: str) -> str:
    begin = f'<{tag} style="text-align: left; vertical-align: top; white-space: pre-line">'
    return f"<tr>{''.join(f'{begin}{html.escape(say(cell))}</{tag}>' for cell in cells)}</tr>"


def _above(found: Comparison) -> list[object]:
    """Who was compared, on what, and how many parameters the two share."""
    told: list[object] = [f"{found.a} | {found.b}"]
    if found.n_examples is not None:
        sizes = " × ".join(map(str, found.input_shape))
        words = {"weights": later(WEIGHTS.get(found.weights, OF_A_BUNDLE)), "n": found.n_examples, "sizes": sizes}
        told.append(later("float64, {weights}, a batch of {n} × ({sizes})", **words))
    n = len(found.pairs)
    counts = {"n": n, "all": n + len(found.left[0])}
    told.append(later("weights: {n} of {all} parameters carried over", **counts))
    return told + carried(found)


def _below(found: Comparison) -> list[object]:
    """The proof that this is all, and what was not looked at."""
    told: list[object] = []
    if found.doubts:
        told += [later("INCONCLUSIVE: {why}", why=why) for why in found.doubts]
    elif found.verdict == "INCONCLUSIVE":
        told.append(later("INCONCLUSIVE: no number of one was compared with one of the other"))
    elif found.worst is not None:
        told.append(_closing(found))
    told += [_stage(stage) for stage in found.stages if stage.stage not in PASSES and stage.verdict == "EQUAL"]
    if found.closing is not None:
        told += mended(found.closing)
    return told + [later("not observed: {what}", what=what) for what in found.not_observed]


def _stage(stage: Stage) -> object:
    """A stage of training that is equal; the passes have a line of their own, and what differs stands above."""
    counts = {"n": stage.equal, "all": stage.of, "what": stage.what}
    return later("{stage}: EQUAL, {n} of {all} {what}", stage=later(stage.stage), **counts)


def carried(found: Comparison) -> list[object]:
    """How weights were carried over, where that is no matter of their layout alone."""
    return [later("weights: {what}", what=what) for what in found.carried]


def mended(closing: Closing) -> list[object]:
    """What the comparison says of a copy of the second file with the lines to write in it."""
    told: list[object] = [
        n_later(
            "with {n} remedy written into a copy of the second file: {verdict}",
            "with {n} remedies written into a copy of the second file: {verdict}",
            closing.n_written,
            verdict=closing.verdict,
        )
    ]
    return told + [later("  still: {cause}", cause=cause or later("unexplained")) for cause in closing.left]


def _closing(found: Comparison) -> object:
    counts = {"n": found.n_matched, "all": found.n_tensors, "worst": digits(found.worst or 0.0, ".2g")}
    if any(finding.stage == "gradients" for finding in found.findings):
        return later("the forward passes are equal with that put right: {n} of {all} tensors", **counts)
    if not found.findings:
        return later("EQUAL: {n} of {all} tensors, the output within {worst} of what rounding allows", **counts)
    return later(
        "with all that put right: equal, {n} of {all} tensors, the output within {worst} of what rounding allows",
        **counts,
    )


def _finding(finding: Finding, number: int) -> list[object]:
    places = "  ".join(f"{spot.a} | {spot.b}" for spot in finding.places[:MOST_PLACES])
    cause = finding.cause or later("unexplained")
    told: list[object] = [later("  {number}  {cause}    at {places}", number=number, cause=cause, places=places)]
    if len(finding.places) > MOST_PLACES:
        rest = len(finding.places) - MOST_PLACES
        told.append(n_later("     and at {n} more place", "     and at {n} more places", rest))
    spot = finding.places[0]
    for remedy in finding.remedies:
        texts = {"line": f"{remedy.line}", "before": remedy.before, "after": remedy.after}
        told.append(later("     line {line}: {before}  →  {after}", **texts))
    if not finding.remedies:
        told.append(later("     lines {a} | {b}", a=spot.line_a, b=spot.line_b))
    if finding.off is not None and finding.error is not None:
        sizes = {"off": digits(finding.off, ".2g"), "error": digits(finding.error, ".2g")}
        told.append(later("     off by {off}; made again with that put right: {error}", **sizes))
    elif finding.off is not None:
        told.append(later("     off by {off}", off=digits(finding.off, ".2g")))
    if finding.bundle:
        told.append(later("     to repeat it: python {script}", script=f"{finding.bundle}/reproduce.py"))
    return told
