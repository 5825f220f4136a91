"""The pages of a submission: each is made again from the runs that it names, and the two are compared."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep import language, report, store, study
from lockstep.check.submissions import markup
from lockstep.check.submissions.consistency import same
from lockstep.check.submissions.findings import NOT_OURS, REPORTS, Findings, told
from lockstep.check.submissions.markup import SHOWN, Page
from lockstep.errors import LockstepError
from lockstep.files import intake
from lockstep.language import joined, later
from lockstep.store.documents.proof import FILE as PROOF

LARGEST = 2**28  # bytes of a page
OTHERS = ("proof", "comparison")  # how the names of pages begin that are about proofs


def check(paths: Sequence[Path], records: Sequence[store.Record], found: Findings) -> str:
    """Compare every page of a submission with its runs; returns how the worst of them fits."""
    states = []
    for path in paths:
        try:
            text = store.as_written(intake.text(path, LARGEST))
        except (OSError, ValueError):
            found.add("page", path.name, later("cannot be read"))
            continue
        page = Page(text)
        if page.about is not None:
            try:
                states.append(_report(path, text, page, records, found))
            except NOT_OURS as error:
                states.append("differs")
                found.add("page", path.name, later("it holds what Lockstep does not write: {error}", error=told(error)))
        elif path.name == "report.html":
            states.append("differs")
            found.add("page", path.name, later("it does not say what it shows: not written by this Lockstep"))
        elif not path.name.startswith(OTHERS):
            found.notes.append(later("{name}: no report of runs, not compared with anything", name=path.name))
    return next((state for state in REPORTS if state in states), REPORTS[-1])


def _report(path: Path, text: str, page: Page, records: Sequence[store.Record], found: Findings) -> str:
    about = page.about or {}
    names = [str(name) for name in about.get("runs") or ()]
    here = matching(names, records, path)
    if not names or (missing := [name for name in names if name not in here]):
        named = ", ".join(missing[:SHOWN]) if names else later("none is named")
        found.add("page", path.name, later("it shows runs that are not here: {named}", named=named))
        return "differs"
    image = about.get("image")
    image = image if isinstance(image, int) and image >= 0 else 0
    levels = about.get("levels")
    levels = [one for one in levels if isinstance(one, float) and 0 < one <= 1] if isinstance(levels, list) else []
    with tempfile.TemporaryDirectory(prefix="lockstep-verify-") as temporary:
        again = [_under_its_name(Path(temporary), name, here[name], _before_its_proof(name, about)) for name in names]
        with language.speaking(_language_of(about)):
            made = report.gather(again, image, levels, 1 if about.get("layout", 1) == 1 else report.LAYOUT)
            rebuilt = store.as_written(report.render(made))
    _numbers(path, made["document"], found)
    if rebuilt == text:
        return "identical"
    said = _said(text, page, rebuilt, _language_of(about))
    if not said:
        if n := markup.drawn_otherwise(text, rebuilt):
            facts = {"name": path.name, "n": n}
            found.notes.append(
                later(
                    "{name}: drawn otherwise than here: {n}; another version of matplotlib does that, and whoever "
                    "redraws a line: their texts and tables were compared, their lines were not",
                    **facts,
                )
            )
        return "fits"
    if about.get("lockstep") != (ours := report.about([], 1)["lockstep"]):
        said.append(later("written by Lockstep {by}, this is {ours}", by=about.get("lockstep"), ours=ours))
    found.add("page", path.name, joined(said, "; "))
    return "differs"


def _numbers(page: Path, wanted: Mapping[str, Any], found: Findings) -> None:
    """Check that report.json beside a page, whatever version signed it, says what the page's runs give."""
    path = report.numbers_of(page)
    if path.exists():
        told = store.read_json(path) | {"lockstep": report.about([], 1)["lockstep"]}
        found.look("page", page.name, lambda: same(path.name, told, wanted))


def _said(text: str, page: Page, rebuilt: str, spoken: str) -> list[str]:
    """Every difference between a page and the page made again, each in a few words; of many the first."""
    with language.speaking(spoken):
        ours, theirs = ([language.as_english(one) for one in texts] for texts in (Page(rebuilt).texts, page.texts))
        wrong = markup.differences(theirs, ours)
        added = [] if wrong else markup.added(text, rebuilt, language.as_english)
    said: list[str] = [later("it says “{one}”, the runs “{two}”", one=one, two=two) for one, two in wrong]
    said += [later("its markup has “{one}”, the page made again “{two}”", one=one, two=two) for one, two in added]
    if markup.other_scripts(text, rebuilt):
        said.append(later("its script, or what it lets run, is not the one that Lockstep writes"))
    if strange := markup.strange(text, rebuilt):
        said.append(later("a drawing holds what no drawing of ours does: {what}", what=", ".join(strange[:SHOWN])))
    if pictures := list(markup.other_pictures(text, rebuilt)):
        said.append(later("pictures that its runs do not give: {n}", n=len(pictures)))
    return said if len(said) <= SHOWN else [*said[:SHOWN], later("and {n} more", n=len(said) - SHOWN)]


def _language_of(about: Mapping[str, Any]) -> str:
    """The language that a page was written in."""
    told = about.get("language")
    return told if told in language.LANGUAGES else language.LANGUAGES[0]


def matching(names: Sequence[str], records: Sequence[store.Record], page: Path = Path()) -> dict[str, Path]:
    """<study>/<run> as a page names it → the run's folder; the study's folder may have been renamed by handing it in.

    Of several that fit, those beside the page come first.
    """
    beside = page.absolute().parent
    found = {}
    for name in names:
        parts = Path(name).parts
        if len(parts) != 2 or {"..", "/"} & set(parts):
            continue
        fitting = [record.folder.absolute() for record in records if _is_called(record, parts[1])]
        if fitting:
            found[name] = min(fitting, key=lambda path: (beside not in path.parents, path.parts[-2:] != parts))
    return found


def _is_called(record: store.Record, name: str) -> bool:
    """Whether a run's folder has this name, or had it before somebody gave it another."""
    if record.folder.name == name:
        return True
    with contextlib.suppress(LockstepError, ValueError):
        (run,) = store.read_asked(record.folder).runs()
        return study.run_id(run, store.read_spec(record.folder)) == name
    return False


def _before_its_proof(name: str, about: Mapping[str, Any]) -> bool:
    """Whether a page was written when there was no proof of this run's study: one that was made later is not in it."""
    proofs = about.get("proofs")
    study, _run = Path(name).parts
    return isinstance(proofs, Mapping) and study in proofs and proofs[study] is None


def _under_its_name(place: Path, name: str, folder: Path, without_proof: bool) -> store.Record:
    """The run, behind links with the names that the page gives it and its study: the page made again shows them."""
    study, run = Path(name).parts
    (place / study).mkdir(exist_ok=True)
    for path, called in [(folder, run), *((path, path.name) for path in sorted(folder.parent.iterdir()))]:
        if not (place / study / called).is_symlink() and not (without_proof and called == PROOF):
            (place / study / called).symlink_to(path)
    return store.Record(place / study / run)
