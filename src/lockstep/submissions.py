"""Is what was handed in what was computed? For teachers, and for one's own runs of last year.

    files        every hash of every run, checkpoints too
    training     the losses and accuracies of the epochs from those of the single steps
    predictions  every number of metrics.json from predictions.npz, whose labels are the dataset's
    weights      the predictions from the weights, by NumPy, within what rounding may do
    report       every text and number of the page from the runs that it names

A file's hash can be made anew by whoever edits it; so nothing is believed that can be computed. What cannot be, because
the dataset is not on this machine, is named as not checked and never counts as fitting.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import html.parser
import io
import json
import math
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import data, doctor, language, metrics, replay, report, rounding, store
from lockstep.errors import LockstepError, without
from lockstep.language import joined, mark, say
from lockstep.language import later as _
from lockstep.records import digest
from lockstep.spec import Run
from lockstep.worker import Examples, mean_of_steps

FITS, PARTLY = mark("fits"), mark("fits as far as checked")
WRONG, NOTHING = mark("does not fit"), mark("nothing to check")
REPORTS = (mark("differs"), mark("fits"), mark("identical"), mark("missing"))  # what a report is, the worst first
EXIT_CODES = {FITS: 0, PARTLY: 3, WRONG: 1, NOTHING: 1}
CLOSE = 1e-9  # relative: the same float64 arithmetic in another order
FEW = 2  # images by which an epoch's evaluation and the last one may differ: the same weights, computed twice
SHOWN = 3  # differences of a page that are named


@dataclasses.dataclass
class Findings:
    """What was found wrong in one submission, and what could not be checked."""

    problems: list[str] = dataclasses.field(default_factory=list)
    unchecked: list[str] = dataclasses.field(default_factory=list)

    def look(self, where: str, check: Callable[[], Iterator[str]]) -> None:
        """Take note of each problem that a check yields, and of its giving up."""
        try:
            self.problems += [joined((where, problem), ": ") for problem in check()]
        except LockstepError as error:
            first = error.problems[0]
            name = Path(first.where).name if first.where else ""
            said = without(first.message, store.UNUSABLE)
            self.problems.append(joined((where, name, said) if name else (where, said), ": "))


def verify(folder: Path, n_images: int | None = None) -> dict[str, Any]:
    """Check one submission, a folder that holds runs and perhaps their report; changes nothing.

    `n_images` limits how many test images go through each network again. Returns {"folder", "verdict", "runs",
    "finished", "weights_checked", "report" ("identical", "fits", "differs", "missing"), "best_accuracy", "problems",
    "unchecked"}.
    """
    found = Findings()
    row: dict[str, Any] = {"folder": str(folder), "verdict": NOTHING, "runs": 0, "finished": 0, "weights_checked": 0}
    row |= {"report": "missing", "best_accuracy": None}
    try:
        records = store.find_runs([folder])
    except LockstepError as error:
        return row | {"problems": [error.problems[0].message], "unchecked": []}
    datasets = cache(lambda name: data.load(name, offline=True))
    best: list[float] = []
    for record in records:
        before = len(found.problems)
        found.look(record.folder.name, lambda record=record: _files(record.folder))  # type: ignore[misc]
        if _status(record) != "finished":
            continue
        row["finished"] += 1
        checked = _run(record, found, datasets, n_images, best)
        row["weights_checked"] += checked and len(found.problems) == before
    row["report"] = _reports(folder, records, found)
    row |= {"runs": len(records), "best_accuracy": max(best, default=None)}
    row["verdict"] = WRONG if found.problems else PARTLY if found.unchecked else FITS if row["finished"] else NOTHING
    return row | {"problems": found.problems, "unchecked": found.unchecked}


def exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """0 where everything fits, 1 where something does not, 3 where a dataset was missing to check it."""
    codes = {EXIT_CODES[row["verdict"]] for row in rows}
    return 1 if 1 in codes else 3 if 3 in codes else 0


def _status(record: store.Record) -> str:
    try:
        return str(record.status.get("status"))
    except LockstepError:
        return "unknown"


def _files(folder: Path) -> Iterator[str]:
    (row,) = doctor.check_runs([folder])["runs"]
    yield from row["problems"]


def _run(
    record: store.Record, found: Findings, datasets: Callable[[str], data.Data], n_images: int | None, best: list[float]
) -> bool:
    """Everything that can be computed of one finished run; whether its weights were among it."""
    name = record.folder.name
    try:
        (run,) = store.read_asked(record.folder).runs()
        arrays, quality, hashes = record.arrays("predictions"), record.metrics, record.environment["dataset"]["hashes"]
        logits, labels = arrays["logits"], arrays["labels"]
        if (
            logits.ndim != 2 or logits.dtype.kind != "f" or labels.shape != logits.shape[:1] or not labels.size
            or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]
        ):  # fmt: skip
            raise store.damaged(record.folder / "predictions.npz", _("logits and labels do not have their shapes"))
        again = store.finite(metrics.evaluate(logits, labels, run.recipe))
    except (LockstepError, KeyError, TypeError, IndexError, ValueError) as error:
        why = f"{type(error).__name__}: {error}"
        why = without(error.problems[0].message, store.UNUSABLE) if isinstance(error, LockstepError) else why
        found.problems.append(_("{name}: cannot be read: {why}", name=name, why=why))
        return False
    best.append(again["accuracy"])
    found.look(name, lambda: _same("metrics.json: test", quality.get("test"), again))
    found.look(name, lambda: _training(record, run, quality, again))
    try:
        loaded = datasets(run.dataset)
    except LockstepError:
        text = _(
            "{name}: labels and weights: the dataset {dataset} is not on this machine", name=name, dataset=run.dataset
        )
        found.unchecked.append(text)
        return False
    if dict(loaded.hashes) != hashes:
        found.problems.append(_("{name}: environment.json: the data on this machine have other hashes", name=name))
        return False
    found.look(name, lambda: _data(record, loaded, labels))
    found.look(name, lambda: _weights(record, run, loaded, logits, n_images))
    return True


def _same(where: str, told: Any, wanted: Any) -> Iterator[str]:
    """Every number of a part of a JSON file that is not what it should be."""
    if isinstance(wanted, Mapping) and isinstance(told, Mapping):
        for key in wanted:
            yield from _same(f"{where}.{key}", told.get(key), wanted[key])
    elif isinstance(wanted, list) and isinstance(told, list) and len(told) == len(wanted):
        for place, (one, other) in enumerate(zip(told, wanted, strict=True)):
            yield from _same(f"{where}[{place}]", one, other)
    elif not _is_close(told, wanted):
        yield _("{where}: it says {told}, computed: {wanted}", where=where, told=_shown(told), wanted=_shown(wanted))


def _is_close(told: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(told, int | float) and not isinstance(told, bool):
        return math.isclose(told, wanted, rel_tol=CLOSE, abs_tol=1e-12)
    return bool(told == wanted)


def _shown(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"


def _training(record: store.Record, run: Run, quality: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    """The epochs from the steps, the last evaluation from the predictions, the network's table from the network."""
    history, steps = record.history, record.arrays("steps")
    shape = tuple(record.environment.get("dataset", {}).get("shape") or ())
    known = {key: quality.get(key) for key in ("parameters", "multiply_adds")}
    summary = run.network.summary(shape)
    yield from _same("metrics.json", known, {key: summary[key] for key in known})
    told_epochs = [row.get("epoch") for row in history]
    if not history or quality.get("epochs") != len(history) or told_epochs != list(range(1, len(history) + 1)):
        counts = {"n": len(history), "told": _shown(quality.get("epochs"))}
        yield _("events.jsonl: {n} epochs are told, metrics.json says {told}", **counts)
        return
    try:
        losses, correct, sizes = (np.asarray(steps[key], np.float64) for key in ("loss", "correct", "examples"))
        rows = [part.reshape(len(history), -1) for part in (losses, correct, sizes)]
    except (KeyError, ValueError):
        yield _("steps.npz: its steps are not those of so many epochs")
        return
    n_train = record.environment.get("dataset", {}).get("n_train")
    for row, loss, right, size in zip(history, *rows, strict=True):
        if run.recipe.mistakes == () and size.sum() != n_train:
            counts = {"epoch": row["epoch"], "n": f"{size.sum():.0f}", "all": _shown(n_train)}
            yield _("steps.npz: epoch {epoch} takes {n} examples, there are {all}", **counts)
        told = {key: row.get(key) for key in ("train_loss", "train_accuracy")}
        wanted = {"train_loss": mean_of_steps(loss, size, run.recipe), "train_accuracy": right.sum() / size.sum()}
        yield from _same(f"events.jsonl: epoch {row['epoch']}", told, store.finite(wanted))
    stopping = run.recipe.early_stopping
    ended = quality.get("best_epoch") if stopping and stopping.restore_best else len(history)
    last = history[ended - 1] if isinstance(ended, int) and 0 < ended <= len(history) else None
    n = sum(map(sum, again["confusion"]))
    said = last.get("test_accuracy") if last else None
    if not isinstance(said, int | float) or abs(said - again["accuracy"]) * n > FEW + 1e-6:
        facts = {"told": _shown(said), "wanted": _shown(again["accuracy"])}
        yield _("events.jsonl: test accuracy at the end: it says {told}, computed: {wanted}", **facts)


def _data(record: store.Record, loaded: data.Data, labels: np.ndarray) -> Iterator[str]:
    """Labels and images are the dataset's."""
    if not np.array_equal(labels, loaded.test_labels):
        yield _("predictions.npz: its labels are not those of the dataset's test images")
    for name, numbers in (("samples", None), ("hardest", "indices")):
        if not (record.folder / f"{name}.npz").exists():
            continue
        arrays = record.arrays(name)
        images = arrays.get("images", np.zeros(0))
        places = arrays.get(numbers, np.zeros(0, int)) if numbers else np.arange(len(images))
        fits = len(places) == len(images) and np.issubdtype(places.dtype, np.integer)
        fits = fits and bool(((places >= 0) & (places < len(loaded.test_images))).all())
        if not fits or not np.array_equal(loaded.test_images[places], images):
            yield _("{name}.npz: its images are not the dataset's test images", name=name)


def _weights(record: store.Record, run: Run, loaded: data.Data, logits: np.ndarray, limit: int | None) -> Iterator[str]:
    """The predictions from the weights: NumPy in float64, with the room that NumPy's own float32 needs, times a factor.

    The same measure as that of the proof's predictions (docs/proof.md).
    """
    examples = Examples(loaded, run)
    found = replay.learned(record)
    if digest(found.run.network) != digest(run.network):
        yield _("the weights are of another network")
        return
    exact, single = (
        replay.model(found, examples.shape, examples.mean, examples.scale, dtype) for dtype in ("float64", "float32")
    )
    images = examples.test[0][:limit]
    wanted = exact.predict(images)
    if not np.isfinite(logits).all():
        if np.isfinite(wanted).all():
            yield _("predictions.npz: not what the weights give: they have values that are not finite")
        return
    off = float(np.abs(single.predict(images) - wanted).max()) * rounding.eps(run.dtype) / rounding.eps("float32")
    terms = max(rounding.terms(row, 1)[0] for row in exact.plan.rows)
    room = rounding.FACTOR * off + float(rounding.tolerance(run.dtype, np.abs(wanted).max(), terms))
    apart = np.abs(logits[: len(wanted)].astype(np.float64) - wanted)
    if logits.shape[1] != wanted.shape[1] or len(logits) < len(wanted) or not apart.max() <= room:
        worst = int(apart.max(axis=1).argmax())
        n = int((apart.max(axis=1) > room).sum())
        yield _(
            "predictions.npz: not what the weights give: {n:,} of {all:,} images are off, image {worst} by {off:.3g}, "
            "where rounding allows {room:.3g}",
            n=n,
            all=len(wanted),
            worst=worst,
            off=float(apart.max()),
            room=room,
        )


# -------------------------------------------------------------------------------------------------------- the report


class Page(html.parser.HTMLParser):
    """What a page says: every text of it in order, descriptions of figures among them, and what it names itself."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.texts: list[str] = []
        self.about: dict[str, Any] | None = None
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Take note of descriptions, and of the page's own account of what it shows."""
        known = dict(attributes)
        self._hidden = tag == "style"
        self.texts += [known[name] or "" for name in ("alt", "aria-label") if name in known]
        if tag == "meta" and known.get("name") == "lockstep":
            try:
                about = json.loads(known.get("content") or "")
            except ValueError:
                return
            self.about = about if isinstance(about, dict) else None

    def handle_endtag(self, tag: str) -> None:
        """Text is seen again after a style."""
        self._hidden = False

    def handle_data(self, data: str) -> None:
        """Take note of what is read."""
        if not self._hidden and (text := " ".join(data.split())):
            self.texts.append(text)


def _reports(folder: Path, records: Sequence[store.Record], found: Findings) -> str:
    """How the pages fit that lie in a submission: the worst of them."""
    states = []
    for path in sorted([*folder.glob("*.html"), *folder.glob("*/*.html")]):
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError):
            found.problems.append(_("{name}: cannot be read", name=path.name))
            continue
        page = Page(text)
        if page.about is None:
            if path.name == "report.html":
                states.append("differs")
                found.problems.append(
                    _("{name}: it does not say what it shows: not written by this Lockstep", name=path.name)
                )
            continue
        states.append(_report(path, text, page, records, found))
    return next((state for state in REPORTS if state in states), REPORTS[-1])


def _report(path: Path, text: str, page: Page, records: Sequence[store.Record], found: Findings) -> str:
    about = page.about or {}
    names = [str(name) for name in about.get("runs") or ()]
    here = _matching(names, records)
    if not names or (missing := [name for name in names if name not in here]):
        named = ", ".join(missing[:SHOWN]) if names else _("none is named")
        found.problems.append(_("{name}: it shows runs that are not here: {named}", name=path.name, named=named))
        return "differs"
    image = about.get("image")
    image = image if isinstance(image, int) and image >= 0 else 0
    with tempfile.TemporaryDirectory(prefix="lockstep-verify-") as temporary:
        again = [_under_its_name(Path(temporary), name, here[name]) for name in names]
        with language.speaking(_language_of(about)):
            rebuilt = report.render(report.gather(again, image))
    if rebuilt == text:
        return "identical"
    with language.speaking(_language_of(about)):
        told, wanted = ([language.as_english(one) for one in texts] for texts in (page.texts, Page(rebuilt).texts))
    wrong = differences(told, wanted)
    if not wrong:
        return "fits"
    by = about.get("lockstep")
    ours = report.about([], 1)["lockstep"]
    said = joined((_("it says “{one}”, the runs “{two}”", one=one, two=two) for one, two in wrong[:SHOWN]), "; ")
    if len(wrong) > SHOWN:
        said = _("{said} (and {n} more)", said=said, n=len(wrong) - SHOWN)
    if by != ours:
        said = _("{said}; written by Lockstep {by}, this is {ours}", said=said, by=by, ours=ours)
    found.problems.append(joined((path.name, said), ": "))
    return "differs"


def _language_of(about: Mapping[str, Any]) -> str:
    """The language that a page was written in."""
    told = about.get("language")
    return told if told in language.LANGUAGES else language.LANGUAGES[0]


def _matching(names: Sequence[str], records: Sequence[store.Record]) -> dict[str, Path]:
    """<study>/<run> as a page has it → the run's folder; the study's may have another name since it was handed in."""
    paths = [record.folder.absolute() for record in records]
    found = {}
    for name in names:
        parts = Path(name).parts
        if len(parts) != 2 or {"..", "/"} & set(parts):
            continue
        fitting = [path for path in paths if path.parts[-2:] == parts] or [p for p in paths if p.name == parts[1]]
        if fitting:
            found[name] = fitting[0]
    return found


def _under_its_name(place: Path, name: str, folder: Path) -> store.Record:
    """The run where a link gives its study the name that the page has, for a page tells it."""
    study, run = Path(name).parts
    if not (place / study).exists():
        (place / study).symlink_to(folder.parent, target_is_directory=True)
    return store.Record(place / study / run)


def differences(told: Sequence[str], wanted: Sequence[str]) -> list[tuple[str, str]]:
    """(what a page says, what its runs say) wherever that is not the same but for the last digit of a number."""
    rows: list[tuple[str, str]] = []
    if len(told) == len(wanted):
        return [(_cut(a), _cut(b)) for a, b in zip(told, wanted, strict=True) if not _reads_alike(a, b)]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, told, wanted).get_opcodes():
        if kind == "equal":
            continue
        if b - a == d - c:
            pairs = zip(told[a:b], wanted[c:d], strict=True)
            rows += [(_cut(one), _cut(two)) for one, two in pairs if not _reads_alike(one, two)]
        else:
            rows.append((_cut(" ".join(told[a:b])), _cut(" ".join(wanted[c:d]))))
    return rows


NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def _reads_alike(one: str, other: str) -> bool:
    """Equal but for the last digit of numbers with decimals: another version of a library may round the other way."""
    if NUMBER.sub("0", one) != NUMBER.sub("0", other):
        return False
    return all(_last_digit(a, b) for a, b in zip(NUMBER.findall(one), NUMBER.findall(other), strict=True))


def _last_digit(a: str, b: str) -> bool:
    places = len(a.partition(".")[2])
    if a == b or not places or places != len(b.partition(".")[2]):
        return a == b
    return abs(float(a.replace(",", "")) - float(b.replace(",", ""))) < 1.5 * 10.0**-places


def _cut(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


# ------------------------------------------------------------------------------------------------------------- said

COLUMNS = ("folder", "verdict", "runs", "finished", "weights_checked", "report", "best_accuracy")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for one


def as_line(row: Mapping[str, Any]) -> str:
    """One submission on one line: what it is worth, and the first thing that is wrong or was not checked."""
    facts: dict[str, Any] = {**row, "verdict": _(row["verdict"]), "report": _(row["report"])}
    said = _(
        "{folder}: {verdict}: {finished} of {runs} runs finished, {weights_checked} computed from their weights, "
        "report {report}",
        **facts,
    )
    if row["best_accuracy"] is not None:
        said = _("{said}, best test accuracy {percent:.2f} %", said=said, percent=100 * row["best_accuracy"])
    wrong = row["problems"] or row["unchecked"]
    if len(wrong) > 1:
        said = _("{said} – {problem} (and {n} more: --json)", said=said, problem=wrong[0], n=len(wrong) - 1)
    elif wrong:
        said = _("{said} – {problem}", said=said, problem=wrong[0])
    line = say(said)
    return "".join(" " if unicodedata.category(sign).startswith("C") else sign for sign in line)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Submissions as CSV with a header; what is wrong in one cell. No cell is taken for a formula by a spreadsheet."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow([*COLUMNS, "problems", "unchecked"])
    for row in rows:
        cells = [row[name] for name in COLUMNS] + ["; ".join(row[name]) for name in ("problems", "unchecked")]
        table.writerow([f"'{cell}" if str(cell).startswith(FORMULAS) else cell for cell in cells])
    return file.getvalue()
