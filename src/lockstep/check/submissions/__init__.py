"""Is what was handed in what was computed? For teachers, and for one's own runs of last year.

    files        every hash of every run, checkpoints too                                          (store)
    twice        what is written in two places of a run's folder is the same in both               (consistency)
    training     the first losses from seed, recipe and data, by NumPy; `deep`: a whole epoch's    (recomputation)
    weights      the predictions from the weights, by NumPy, within what rounding may do           (recomputation)
    metrics      every number of metrics.json from predictions.npz, whose labels are the dataset's
    copies       no run is another one under a new name, here or in another submission             (copies)
    page         every text, number and tag of the page from the runs that it names                (pages, markup)

Whoever edits a file can make its hash anew, so nothing is believed that can be computed again. What cannot be, because
the dataset is not on this machine, is named as not checked and never counts as fitting. What is worth knowing but not
wrong (line ends that git changed, an edited copy of Lockstep) is a note.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import data, store
from lockstep.check import doctor
from lockstep.check.submissions import consistency, copies, pages, recomputation
from lockstep.check.submissions.findings import (
    EXIT_CODES,
    FITS,
    NOT_OURS,
    NOTHING,
    PARTLY,
    WRONG,
    Findings,
    exit_code,
    told,
)
from lockstep.check.submissions.submission import Submission, opened
from lockstep.check.submissions.table import as_csv, as_line, closing
from lockstep.errors import LockstepError, without
from lockstep.language import later
from lockstep.machine import cores, sources
from lockstep.spec import Run
from lockstep.training import inputs, metrics
from lockstep.version import version

__all__ = [
    "EXIT_CODES", "FITS", "NOTHING", "PARTLY", "WRONG", "as_csv", "as_line", "closing", "exit_code", "verify",
    "verify_all",
]  # fmt: skip


def verify(folder: Path, n_images: int | None = None, deep: bool = False) -> dict[str, Any]:
    """Check one submission, a folder (or a zip of one) that holds runs and perhaps their report; changes nothing.

    `n_images` limits how many test images go through each network again; `deep` trains the first epoch again. Returns
    {"folder", "verdict", "runs", "finished", "weights_checked", "trained_again", "report" ("identical", "fits",
    "differs", "missing"), "best_accuracy", "summary", "problems", "unchecked", "notes"}.
    """
    (row,) = verify_all([folder], n_images, deep)
    return row


def verify_all(folders: Sequence[Path], n_images: int | None = None, deep: bool = False) -> Iterator[dict[str, Any]]:
    """A row of `verify` for each submission, in order; the submissions are compared with each other too."""
    with contextlib.ExitStack() as stack:
        found: list[tuple[Path, Submission | LockstepError]] = []
        for folder in folders:
            try:
                found.append((folder, stack.enter_context(opened(folder))))
            except LockstepError as error:
                found.append((folder, error))
        check = _Check([one for _folder, one in found if isinstance(one, Submission)], n_images, deep)
        for folder, one in found:
            yield check.row(one) if isinstance(one, Submission) else _nothing(folder, error_of(one))


def error_of(error: LockstepError) -> str:
    """The row of a submission that cannot be read."""
    return without(error.problems[0].message, store.UNUSABLE)


def _nothing(folder: Path, problem: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(("runs", "finished", "weights_checked", "trained_again"), 0)
    return row | {
        "folder": str(folder), "verdict": NOTHING,
        "report": "missing", "best_accuracy": None, "summary": problem, "problems": [problem], "unchecked": [],
        "notes": [],
    }  # fmt: skip


class _Check:
    """All submissions of one call, with the marks by which the runs of each can be recognised."""

    def __init__(self, submissions: Sequence[Submission], n_images: int | None, deep: bool) -> None:
        self.n_images, self.deep = n_images, deep
        self.trained_again = 0  # runs of the current submission whose first epoch was trained again
        self.datasets = cache(lambda name: data.load(name, offline=True))
        self.fits = cache(self._fits)
        prints = []
        for one in submissions:
            with contextlib.suppress(LockstepError):  # it holds no run, and its row says so
                prints += [copies.print_of(one, record) for record in one.records()]
        self.pairs = copies.groups([one for one in prints if one is not None])

    def row(self, submission: Submission) -> dict[str, Any]:
        """Everything that is found in one submission."""
        found = Findings()
        try:
            records = submission.records()
        except LockstepError as error:
            return _nothing(submission.name, error_of(error))
        if submission.is_zip:
            found.notes.append(later("it was read from a zip archive"))
        best: list[float] = []
        finished = checked = self.trained_again = 0
        for record in records:
            before = len(found.problems)
            name = record.folder.name
            found.look("files", name, lambda record=record: _files(record.folder))  # type: ignore[misc]
            if _status(record) != "finished":
                continue
            finished += 1
            with cores.one_blas_thread(), np.errstate(all="ignore"):  # reported, not warned of
                is_checked = self._run(record, found, best)
            checked += is_checked and len(found.problems) == before
            self._compare(record, found)
            found.notes += _notes(record)
        report = pages.check(submission.pages(), records, found)
        return {
            "folder": str(submission.name), "verdict": found.verdict(finished), "runs": len(records),
            "finished": finished, "weights_checked": checked, "trained_again": self.trained_again, "report": report,
            "best_accuracy": max(best, default=None), "summary": found.summary(),
            "problems": [problem.text for problem in found.problems], "unchecked": found.unchecked,
            "notes": list(dict.fromkeys(found.notes)),
        }  # fmt: skip

    def _run(self, record: store.Record, found: Findings, best: list[float]) -> bool:
        """Everything that can be computed of one finished run; whether its weights were among it."""
        name = record.folder.name
        try:
            (run,) = store.read_asked(record.folder).runs()
            logits, labels = _predictions(record)
            quality, hashes = record.metrics, record.environment["dataset"]["hashes"]
            again = store.finite(metrics.evaluate(logits, labels, run.recipe))
        except (LockstepError, *NOT_OURS) as error:
            why = error_of(error) if isinstance(error, LockstepError) else told(error)
            found.add("unreadable", name, later("cannot be read: {why}", why=why))
            return False
        best.append(again["accuracy"])
        found.look(
            "metrics",
            name,
            lambda: consistency.same(
                "metrics.json: test", quality.get("test"), consistency.as_averaged(again, quality)
            ),
        )
        for check in (
            lambda: consistency.spec(record, run),
            lambda: consistency.table(record, run, quality, again),
            lambda: consistency.checkpoint(record, quality),
        ):
            found.look("twice", name, check)
        try:
            loaded = self.datasets(run.dataset)
        except LockstepError:
            facts = {"name": name, "dataset": run.dataset}
            found.unchecked.append(
                later("{name}: labels, losses and weights: the dataset {dataset} is not on this machine", **facts)
            )
            return False
        if dict(loaded.hashes) != hashes:
            found.add("data", name, later("environment.json: the data on this machine have other hashes"))
            return False
        examples = inputs.Examples(loaded, run)
        found.look("data", name, lambda: consistency.data(record, examples))
        found.look("data", name, lambda: _data(record, run, loaded, logits, labels))
        found.look("training", name, lambda: recomputation.training(record, run, examples))
        if self.deep:
            self.trained_again += 1
            found.look("training", name, lambda: recomputation.deep(record, run, examples))
        found.look("training", name, lambda: recomputation.last_step(record, run, examples))
        found.look("weights", name, lambda: recomputation.weights(record, run, examples, logits, self.n_images))
        return True

    def _compare(self, record: store.Record, found: Findings) -> None:
        """What a run shares with others, here and elsewhere: the first of each other submission."""
        met = set()
        for pair in self.pairs.get(record.folder, ()):
            if (pair[1].submission, pair[1].name) in met:
                continue
            met.add((pair[1].submission, pair[1].name))
            for is_problem, sentence in copies.judged(pair, self.fits):
                if is_problem:
                    elsewhere = pair[1].owner != pair[0].owner
                    briefly = (
                        later("the same run as in the folder {folder}", folder=pair[1].submission) if elsewhere else ""
                    )
                    found.add("copies", record.folder.name, sentence, briefly)
                else:
                    found.notes.append(later("{name}: {note}", name=record.folder.name, note=sentence))

    def _fits(self, one: copies.Print) -> bool | None:
        """Whether a run's first losses follow from its own description; None where the dataset is not here."""
        try:
            loaded = self.datasets(one.run.dataset)
            if dict(loaded.hashes) != one.record.environment["dataset"]["hashes"]:
                return None
            return not list(recomputation.training(one.record, one.run, inputs.Examples(loaded, one.run)))
        except (LockstepError, *NOT_OURS):
            return None


def _status(record: store.Record) -> str:
    try:
        return str(record.status.get("status"))
    except LockstepError:
        return "unknown"


def _files(folder: Path) -> Iterator[str]:
    (row,) = doctor.check_runs([folder])["runs"]
    yield from row["problems"]


def _predictions(record: store.Record) -> tuple[np.ndarray, np.ndarray]:
    """(logits, labels) of a run, of shapes that belong together; raises LockstepError (LS-505), KeyError."""
    arrays = record.arrays("predictions")
    logits, labels = arrays["logits"], arrays["labels"]
    if (
        logits.ndim != 2 or logits.dtype.kind != "f" or labels.shape != logits.shape[:1] or not labels.size
        or labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]
    ):  # fmt: skip
        raise store.damaged(record.folder / "predictions.npz", later("logits and labels do not have their shapes"))
    return logits, labels


def _data(record: store.Record, run: Run, loaded: data.Data, logits: np.ndarray, labels: np.ndarray) -> Iterator[str]:
    """Labels and images are the dataset's, and the hardest images those of the predictions."""
    if not np.array_equal(labels, loaded.test_labels):
        yield later("predictions.npz: its labels are not those of the dataset's test images")
    for name, numbers in (("samples", None), ("hardest", "indices")):
        if not (record.folder / f"{name}.npz").exists():
            continue
        arrays = record.arrays(name)
        images = arrays.get("images", np.zeros(0))
        places = arrays.get(numbers, np.zeros(0, int)) if numbers else np.arange(len(images))
        fits = len(places) == len(images) and np.issubdtype(places.dtype, np.integer)
        fits = fits and bool(((places >= 0) & (places < len(loaded.test_images))).all())
        if not fits or not np.array_equal(loaded.test_images[places], images):
            yield later("{name}.npz: its images are not the dataset's test images", name=name)
        elif name == "samples" and not np.array_equal(
            arrays.get("labels", np.zeros(0)), loaded.test_labels[: len(images)]
        ):
            yield later("samples.npz: its labels are not those of the dataset's test images")
        elif name == "hardest" and len(logits) == len(labels) == len(loaded.test_labels):
            wanted = metrics.hardest(logits, labels, run.recipe, len(places))
            losses = metrics.losses(logits, labels, run.recipe)
            if not np.allclose(losses[wanted], losses[places], rtol=1e-6, atol=1e-9, equal_nan=True):
                yield later("hardest.npz: these are not the images with the largest loss")


def _notes(record: store.Record) -> Iterator[str]:
    """Notes, which are no problems: line ends that were changed, a copy of Lockstep that is not this one."""
    name = record.folder.name
    if changed := store.other_line_ends(record.folder):
        facts = {"name": name, "names": ", ".join(changed[:3]), "n": len(changed)}
        yield later(
            "{name}: git or an editor has changed the line ends of {n} files ({names}); with their own put back they "
            "are what was written",
            **facts,
        )
    try:
        environment = record.environment
    except LockstepError:  # reported with the files
        return
    if (by := environment.get("lockstep")) != version():
        yield later("{name}: made by Lockstep {by}, this is {ours}", name=name, by=by, ours=version())
        return
    edition, revision = environment.get("lockstep_sources"), environment.get("git_revision")
    if edition is None and revision is None:
        yield later("{name}: it does not say which files of Lockstep made it: perhaps an edited copy", name=name)
    elif edition is not None and edition != sources.own_sources():
        facts = {"name": name, "version": version()}
        if revision is not None and revision != sources.git_revision():
            yield later(
                "{name}: made by another revision of Lockstep {version}, {revision}", revision=revision[:12], **facts
            )
        else:
            yield later("{name}: made by an edited copy of Lockstep {version}: its files are not these", **facts)
