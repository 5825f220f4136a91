"""Runs → one offline page to play with: `gather` decides what is on it, the template and the scripts show it.

The page holds everything: networks, test pictures, scripts. Its policy forbids whatever else: nothing is asked for, and
no script runs but the one whose hash stands in it.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from lockstep import arguments, data, store
from lockstep.data import Data
from lockstep.errors import LockstepError
from lockstep.language import _, later, n_, say, spoken
from lockstep.play import arrays, examples, film, strangeness, strangers
from lockstep.play.framing import framed, framed_coarsely
from lockstep.play.networks import Played, played, row_of
from lockstep.play.painting import Frame
from lockstep.play.words import words
from lockstep.version import version

FORMAT = 1
NAME = "play.html"
SCRIPTS = (
    "arrays",
    "network",
    "examples",
    "drawing",
    "strangeness",
    "state",
    "canvases",
    "views",
    "arithmetic",
    "page",
)
MOST_RUNS = 8
MOST_BYTES = 12_000_000  # of the numbers of all runs, as they stand in the page: eight of the laboratory's
MOST_PICTURES, PICTURE_BYTES = 100, 150_000  # test pictures that are carried, beside the sixteen of the runs
MOST_NEIGHBOUR_BYTES = 600_000  # pixels of training pictures, above which nothing is said of strangeness

_HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True)
class Left:
    """A run that is not on the page, and why, in the language in use when it is said."""

    name: str
    why: str
    code: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    """What was gathered: the page as plain data, and what is not on it."""

    document: dict[str, Any]
    study: str
    question: str
    names: tuple[str, ...]
    left: tuple[Left, ...]


def write_play(
    records: store.Record | Iterable[store.Record], path: str | PathLike[str], with_film: bool = True
) -> Path:
    """Write one self-contained page on which to draw for these runs, and return its path.

    Raises LockstepError: LS-505 where no run can be played, with the reason of each; LS-501, LS-502.
    """
    return write(gather(store.given(records), with_film), arguments.path(path, "path"))


def write(page: Page, path: Path) -> Path:
    """Write what `gather` gave."""
    text = render(page, has_report=path.with_name("report.html").exists())
    store.write_bytes(path, text.encode("utf-8", errors="replace"))
    return path


def gather(records: Sequence[store.Record], with_film: bool = True) -> Page:
    """What the page of these runs has: of one dataset, as many as there is room for."""
    runs, left = _chosen(records)
    first = runs[0]
    loaded, why_no_data = _loaded(first)
    samples = first.record.arrays("samples")
    images, labels = samples["images"], samples["labels"]
    frame = _frame(first, loaded.train_images if loaded else images)
    classes = _classes(first)
    document: dict[str, Any] = {
        "format": FORMAT, "language": spoken(), "words": words(), "classes": classes, "frame": frame.document(),
        "areDigits": classes == list("0123456789"),
        "runs": [one.document() | {"examples": examples.document(one, images)} for one in runs],
        "samples": {"images": arrays.packed(images), "labels": labels.tolist()},
        "tests": _tests(loaded, len(images)), "scales": None, "film": None,
        "whyNoScale": why_no_data,
    }  # fmt: skip
    if loaded:
        document |= _scales(runs, loaded, frame)
    if with_film:
        document["film"] = film.document(runs)
    return Page(document, first.record.folder.parent.name, str(first.record.spec.get("question") or ""),
                tuple(one.name for one in runs), tuple(left))  # fmt: skip


def _chosen(records: Sequence[store.Record]) -> tuple[list[Played], list[Left]]:
    """The runs that a page has room for: the first seed of every network, setting and backend before its others."""
    left: list[Left] = []
    problems = []
    found: list[Played] = []
    for record in records:
        try:
            found.append(played(record))
        except LockstepError as error:
            problems += error.problems
            left.append(Left(record.folder.name, say(error.problems[0].message), error.code))
    if not found:
        raise LockstepError.several(problems)
    fits = [one for one in found if one.run.dataset == found[0].run.dataset and one.shape == found[0].shape]
    left += [Left(one.name, _("it is of another dataset, {name}", name=one.run.dataset)) for one in found
             if one not in fits]  # fmt: skip
    fits.sort(key=lambda one: one.run.seed != found[0].run.seed)  # stable: the order is the study's otherwise
    kept: list[Played] = []
    total = 0
    for one in fits:
        size = len(arrays.packed(row_of(one.parameters))["data"])
        if kept and (len(kept) == MOST_RUNS or total + size > MOST_BYTES):
            left.append(Left(one.name, _("the page has no room for more; choose it with --runs")))
            continue
        total += size
        kept.append(one)
    return kept, left


def _loaded(one: Played) -> tuple[Data | None, str]:
    """The dataset of a run, where it is here and still what the run was trained on, or why it is not."""
    try:
        found = data.load(one.run.dataset, offline=True)
    except LockstepError as error:
        return None, say(error.problems[0].message)
    if found.image_shape != one.shape or len(found.class_names) != one.rows[-1].output_shape[0]:
        return None, _("the dataset of this name is another one than the run’s")
    return found, ""


COARSE = {"digits": 8}  # datasets whose pictures were enlarged → their pixels a side before that


def _frame(one: Played, images: np.ndarray) -> Frame:
    coarse = COARSE.get(one.run.dataset)
    return framed_coarsely(images, coarse) if coarse and one.shape == (28, 28, 1) else framed(images)


def _classes(one: Played) -> list[str]:
    n = int(one.rows[-1].output_shape[0])
    known = one.record.environment.get("dataset", {}).get("class_names")
    names = [str(name) for name in known] if isinstance(known, list) else []
    return names if len(names) == n else [str(label) for label in range(n)]


def _tests(loaded: Data | None, start: int) -> dict[str, Any] | None:
    """Further test pictures with their labels and their numbers, for "next test picture"."""
    if loaded is None:
        return None
    size = int(np.prod(loaded.image_shape))
    n = max(min(MOST_PICTURES, PICTURE_BYTES // size, len(loaded.test_images) - start), 0)
    if not n:
        return None
    images, labels = (part[start : start + n] for part in (loaded.test_images, loaded.test_labels))
    return {"images": arrays.packed(images), "labels": labels.tolist(), "from": start}


def _scales(runs: Sequence[Played], loaded: Data, frame: Frame) -> dict[str, Any]:
    """The scale of strangeness of every run, and the neighbours that all of them share."""
    near = strangeness.neighbours(loaded)
    if near.size > MOST_NEIGHBOUR_BYTES:
        return {"whyNoScale": _("its pictures are too large for the page to carry neighbours to compare with")}
    if len(loaded.test_images) < 40:
        return {"whyNoScale": _("there are too few test pictures to say what is common among them")}
    others = {kind: strangers.pictures(kind, frame) for kind in strangers.KINDS}
    if (clothes := strangers.clothes(loaded)) is not None:
        others["clothes"] = clothes
    sets = strangeness.Sets.of(loaded, near, others)
    return {
        "neighbours": arrays.packed(near // 17),
        "scales": [strangeness.scale(one, sets).document() for one in runs],
    }


def render(page: Page, has_report: bool = False) -> str:
    """The page as HTML; every text in it is escaped, and its policy names the scripts and styles by their hashes.

    With `has_report` it has a link to the report beside it.
    """
    css, script = _text("play.css"), "\n".join(_text(f"{name}.js") for name in SCRIPTS)
    shown = {
        "title": page.study, "question": page.question, "left": page.left,
        "has_report": has_report, "version": version(),
        "has_film": page.document["film"] is not None, "has_scale": page.document["scales"] is not None,
        "why_no_scale": page.document["whyNoScale"], "classes": page.document["classes"],
        "runs": page.document["runs"], "shape": page.document["frame"]["shape"],
        "by_mass": page.document["frame"]["centre"] == "mass",
        "n_left": n_("{n} run is not on this page", "{n} runs are not on this page", len(page.left)),
    }  # fmt: skip
    return _environment().get_template("play.html").render(
        page=shown, css=css, script=script, data=embedded(page.document), language=spoken(),
        css_hash=digest(css), script_hash=digest(script),
    )  # fmt: skip


def digest(text: str) -> str:
    """A script's or a style's hash as a policy has it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def embedded(document: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no sign in it ends the element or begins a comment."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    made.globals |= {"_": _, "later": later}
    return made
