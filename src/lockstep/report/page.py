"""Facts → a plain dict → the page. `gather` decides everything that is said; the template only lays it out."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jinja2

from lockstep import arguments, store
from lockstep.language import _, later, n_, speaking, spoken
from lockstep.report.compare import comparison, milestones
from lockstep.report.compare.groups import Group, by, distinct, group
from lockstep.report.document import document
from lockstep.report.draw import figures, plots
from lockstep.report.facts import Facts
from lockstep.report.proofs import Fit, Reading, check_fit, read_beside
from lockstep.report.sections import (
    arrivals,
    badges,
    cautions,
    chapters,
    clocks,
    comparisons,
    confusion,
    curves,
    datasets,
    differences,
    gaps,
    glance,
    hardest,
    kernels,
    machines,
    mistakes,
    networks,
    reproduction,
    results,
    telling,
    times,
    verdicts,
)
from lockstep.report.sections.folds import fold
from lockstep.report.words import question
from lockstep.report.words.answer import answer
from lockstep.report.words.brief import brief, caution
from lockstep.report.words.conclusions import conclusions, findings
from lockstep.report.words.quantities import (
    listed,
)
from lockstep.store.documents.difference import Difference
from lockstep.store.documents.proof import FILE as PROOF
from lockstep.store.documents.proof import Proof
from lockstep.version import version

# A page has a size: what is left out beyond these is said where it is left out.
MAX_GROUPS = 16  # combinations shown with curves and confusion matrices
MAX_MATRICES = 40  # confusion matrices that are drawn

LAYOUT = 2  # of the page; what is checked may have an earlier one

_HERE = Path(__file__).parent
Proofs = Sequence[tuple[Reading, Fit | None]]
NONE = Reading("")  # where there are no runs, there is no proof of them


def write_report(
    records: store.Record | Iterable[store.Record], path: str | PathLike[str], *, image: int = 0,
    with_figures: bool = False, reach: Iterable[float] = (),
) -> Path:  # fmt: skip
    """Write one self-contained page about these runs and return its path; raises LockstepError (LS-501, LS-502).

    Beside it, as report.json, lies what was compared in numbers. `image` is the test image, from 0, whose feature maps
    are drawn. `with_figures` writes every figure as SVG and PNG into a folder beside the page too. `reach`
    are the test accuracies in per cent to which times are told, else some of a ladder.
    """
    place, image = arguments.path(path, "path"), arguments.index(image, "image", store.SAMPLES)
    return write(gather(store.given(records), image, milestones.levels_of(reach)), place, with_figures)


def write(page: dict[str, Any], path: Path, with_figures: bool = False) -> Path:
    """Write what `gather` gave: the page, its numbers and its figures; raises as `write_report`."""
    store.write_bytes(path, render(page).encode("utf-8", errors="replace"))
    store.write_json(numbers_of(path), page["document"])
    if with_figures:
        figures.write(page, path)
    return path


def numbers_of(page: Path) -> Path:
    """report.html → report.json; those of a page of another name never lie where a bench or a proof has its record."""
    return page.with_name("report.json" if page.stem == "report" else f"{page.stem}-report.json")


def write_proof(proof: Proof, path: Path) -> Path:
    """Write one self-contained page about a proof, planted or a comparison, and return its path.

    Raises LockstepError (LS-501, LS-502).
    """
    reading = Reading(proof.study, proof)
    page = {"title": _proof_title(reading), "proof": verdicts.section(reading, "proof")}
    store.write_bytes(path, render(page, "proof.html").encode("utf-8", errors="replace"))
    return path


def write_difference(found: Difference, path: Path) -> Path:
    """Write one self-contained page about two models of people's own; raises LockstepError (LS-501, LS-502)."""
    page = differences.section(found)
    store.write_bytes(path, render(page, "difference.html").encode("utf-8", errors="replace"))
    return path


def compare(records: Sequence[store.Record]) -> dict[str, Any]:
    """What these runs say of each other, in numbers: the document of `lockstep report --json` (docs/run-folder.md)."""
    groups = group([Facts(record) for record in records])
    runs = [run for found in groups for run in found.runs]
    return store.finite(document(groups, comparison.compare(groups), _verdict(_proofs(runs))))


def render(page: dict[str, Any], template: str = "report.html") -> str:
    """The dict of `gather` as HTML, in the layout that it was gathered for; every text in it is escaped."""
    if page.get("layout", LAYOUT) != LAYOUT:
        return _as_before(page)
    css = (_HERE / "report.css").read_text(encoding="utf-8")
    script = _script() if template == "report.html" else None
    return _environment().get_template(template).render(page=page, css=css, language=spoken(), script=script)


def _as_before(page: dict[str, Any]) -> str:
    """A page as the version before laid it out, so that those that people keep can still be held against their runs."""
    css = (_HERE / "earlier" / "report.css").read_text(encoding="utf-8")
    text = _environment("earlier").get_template("report.html").render(page=page, css=css, language=spoken())
    return plots.without_series(text)


WORDS = {  # that the page's script says; all others are the page's
    "sort": later("Sort by this column"),
    "filter": later("Filter rows:"),
    "epoch": later("Epoch"),
    "train": later("training"),
    "validation": later("validation"),
    "test": later("test"),
    "class": later("Class"),
    "backend": later("Backend"),
    "all": later("all"),
    "wrong": later("only wrong answers"),
    "image": later("A test image, large"),
    "previous": later("Previous"),
    "next": later("Next"),
    "close": later("Close"),
}


def _script() -> dict[str, Any]:
    """The page's script, and the hash by which a browser knows it: another one is not run."""
    text = (_HERE / "report.js").read_text(encoding="utf-8")
    packed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return {"text": text, "hash": f"sha256-{packed}", "words": {name: _(said) for name, said in WORDS.items()}}


@functools.cache
def _environment(folder: str = "") -> jinja2.Environment:
    """Templates are compiled once; in which language they speak is asked anew by every text."""
    loader = jinja2.FileSystemLoader(_HERE / folder)
    environment = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.globals |= {"_": _, "n_": n_}
    return environment


def gather(
    records: Sequence[store.Record], image: int = 0, levels: Sequence[float] = (), layout: int = LAYOUT
) -> dict[str, Any]:
    """Everything that the page says, as plain data: texts, tables and drawings.

    `levels` are test accuracies, as shares, to which times are told. `layout` 1 is the one of the version before.
    """
    facts = [Facts(record) for record in records]
    groups = group(facts)
    shown, rest = groups[:MAX_GROUPS], groups[MAX_GROUPS:]
    runs = [run for found in groups for run in found.runs]
    proofs = _proofs(runs)
    proven = {folder: verdict for _, fit in proofs if fit for folder, verdict in fit.covered.items()}
    found = comparison.compare(groups)
    page = {
        "layout": layout,
        "about": json.dumps(about(records, image, levels, layout), ensure_ascii=False),
        "title": listed(distinct(run.study for run in runs)) or _("Report"),
        "questions": distinct(_(str(run.spec.get("question") or "")) for run in runs),
        **_answer(groups, found, runs, proofs),
        "unfinished": [gaps.unfinished(run) for run in runs if not run.is_finished],
        "n_runs": len(runs),
        "results": results.section(runs, groups, proven if any(reading.proof for reading, _ in proofs) else None),
        "comparisons": comparisons.section(found),
        "document": store.finite(document(groups, found, _verdict(proofs), levels)),
        "milestones": milestones.table(milestones.reached(groups, levels)),
        "conclusions": conclusions(found),
        "proofs": [
            verdicts.section(reading, f"proof{n}", fit) for n, (reading, fit) in enumerate(proofs or [(NONE, None)])
        ],
        "datasets": [datasets.section(members, n) for n, members in enumerate(by(runs, lambda run: run.dataset))],
        "networks": networks.sections(groups),
        "overviews": curves.overviews(groups),
        "curves": curves.curves(shown),
        "confusion": [confusion.section(found, n, MAX_MATRICES // len(shown)) for n, found in enumerate(shown)],
        "images": mistakes.sections(groups),
        "images_left_out": [found.title for found in groups[mistakes.MAX_GROUPS :]],
        "seen": kernels.section(groups, image),
        "left_out": [found.title for found in rest],
        "times": clocks.section(runs),
        "bench": times.sections(list(dict.fromkeys(run.record.folder.absolute().parent for run in runs))),
        "machines": machines.section(runs),
        "backends": machines.backends(runs),
        "reproduce": [reproduction.section(found) for found in by(runs, lambda run: run.network)],
        "hashes": datasets.hashes(runs),
        "explained": chapters.links(),
        "chapters": chapters.table(),
        "control_questions": chapters.control_questions(distinct(run.study for run in runs)),
    }
    page |= {"cautions": cautions.cautions(groups)} | _composed(page, groups, found, proofs, levels)
    page |= {"gaps": gaps.section(runs)}  # last: gaps are found while reading
    page["warnings"] = len(page["unfinished"]) + len(page["cautions"]) + len(page["gaps"])
    n_warnings = len(page["cautions"]) + len(page["gaps"])
    return page | {"caution": caution(groups, found, len(page["unfinished"]), n_warnings)}


def _composed(
    page: dict[str, Any], groups: Sequence[Group], found: comparison.Comparison, proofs: Proofs,
    levels: Sequence[float],
) -> dict[str, Any]:  # fmt: skip
    """What today's layout shows beside, or in place of, what stands in `page` already."""
    for one in page["proofs"]:
        if one["is_there"]:
            one["folded"] = fold(one["summary"])
    for one in page["confusion"]:
        one["agreed"] = one["agreement"] and fold(one["agreement"], _("Same answer"))
    return {
        "play": "",
        "badges": badges.section(proofs),
        "glance": glance.section(found),
        "told": telling.section(page["comparisons"]),
        "findings": findings(found),
        "hardest": hardest.sections(groups),
        "arrivals": [fold(one) for one in arrivals.tables(milestones.ways(groups, levels))],
        "folds": {name: fold(page[name]) for name in ("results", "machines", "backends")},
    }


def _verdict(proofs: Proofs) -> tuple[str, int] | None:
    """The verdict and the steps of the first proof that is one of these runs."""
    found = [reading.proof for reading, fit in proofs if fit and fit.covered and reading.proof]
    return (found[0].verdict, found[0].steps) if found else None


def _answer(
    groups: Sequence[Group], found: comparison.Comparison, runs: Sequence[Facts], proofs: Proofs
) -> dict[str, Any]:
    """The answer, in a paragraph and in brief, in the language in which the study asks, and which that is."""
    asked_for = next((str(run.spec.get("question")) for run in runs if run.spec.get("question")), "")
    own = question.language(asked_for) or spoken()
    with speaking(own):
        said = answer(groups, found, asked_for, _verdict(proofs))
        told = brief(groups, found, asked_for, proofs)
    return {"answer": said, "brief": told, "answer_language": "" if own == spoken() else own}


def about(
    records: Sequence[store.Record], image: int, levels: Sequence[float] = (), layout: int = LAYOUT
) -> dict[str, Any]:
    """What a page says of itself, for whoever makes it again: {"lockstep": version, "image", "runs", "proofs"}.

    "proofs" has a study's folder → the start of its proof's SHA-256, None where it had none: one that was made later
    makes nobody's page wrong. And "language", where it is not English, "levels", where some were asked for, and
    "layout", which the first one did not say.
    """
    folders = ["/".join(record.folder.absolute().parts[-2:]) for record in records]
    other: dict[str, Any] = {} if spoken() == "en" else {"language": spoken()}
    other |= {"levels": list(levels)} if levels else {}
    other |= {"layout": layout} if layout > 1 else {}
    proofs = {place.name: digest_of(place) for place in sorted({record.folder.absolute().parent for record in records})}
    return {"lockstep": version(), "image": image, "runs": folders, "proofs": proofs} | other


def digest_of(study: Path) -> str | None:
    """The start of the SHA-256 of the proof in a study's folder; None where there is none."""
    try:
        return hashlib.sha256((study / PROOF).read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def _proofs(runs: Sequence[Facts]) -> list[tuple[Reading, Fit | None]]:
    """The proof beside each study's runs, and which of them it speaks of."""
    return [_proof(members) for members in by(runs, lambda run: str(run.record.folder.absolute().parent))]


def _proof(runs: Sequence[Facts]) -> tuple[Reading, Fit | None]:
    """The proof beside the runs of one study's folder, and which of them it speaks of."""
    reading = read_beside(runs[0].record.folder.absolute().parent)
    return reading, check_fit(reading.proof, runs) if reading.proof else None


def _proof_title(reading: Reading) -> str:
    proof = reading.proof
    if proof and proof.is_comparison:
        return _("Two runs compared")
    if proof and proof.planted:
        return _("Planted differences in {study}", study=reading.study).strip()
    return _("Proof of {study}", study=reading.study).strip()
