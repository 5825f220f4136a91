"""A run's network as files of other programs: written, loaded where there is no Lockstep, and judged before.

The weights are given, so nothing has to be trained: each layer is fed what the file's own reader put out before it, and
is judged by itself, on test images and on noise, which reaches the pixels that no image does. Tensors must be the run's
bit for bit, and predictions of every test image follow from them; an answer may be another than the run's only where
two classes are equal within rounding, and those are counted.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import data, randomness, store
from lockstep.backends.plan import Arrays
from lockstep.errors import LockstepError, did_you_mean
from lockstep.exchange import forms
from lockstep.exchange.scripts.given import Given
from lockstep.exchange.trained import Form, Trained
from lockstep.files import disk
from lockstep.language import joined, later
from lockstep.machine import alone, cores
from lockstep.proof import cases, comparison, script
from lockstep.proof.findings import Finding, compare
from lockstep.proof.judge import Judge
from lockstep.spec.records import changed
from lockstep.store.documents.part import but
from lockstep.store.documents.proof import FORMAT, Backend, Coverage, Network, Observed, Proof, Verdict
from lockstep.training import replay
from lockstep.version import version

SECONDS = 300  # that writing or loading may take
N_SHOWN, N_NOISE = 84, 16  # test images and noise on which every layer is looked at
DTYPE = "float32"  # of every form
Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Exported:
    """A form that was judged: its files, none where it was not equal and so was not written."""

    form: str
    paths: tuple[Path, ...]
    proof: Proof


@dataclasses.dataclass(frozen=True)
class Exhibit:
    """What is written and judged: a run, what it ended with, the images that it is shown, and what it said of them."""

    asked: script.Subject
    trained: Trained
    few: np.ndarray
    images: np.ndarray
    logits: np.ndarray  # the run's own

    @property
    def judge(self) -> Judge:
        """The judge of the run in float32, who knows its test images."""
        run = changed(self.asked.run, backend="numpy", dtype=DTYPE)
        return cases.Case(run, self.asked.examples, ()).judge


def exhibit(folder: Path) -> Exhibit:
    """What a finished run ended with; raises LockstepError as `script.subject`, and LS-207 for what no file says."""
    asked, record = script.subject(folder), store.Record(folder)
    learned = replay.learned(record)
    asked = dataclasses.replace(asked, run=changed(asked.run, dtype=DTYPE))
    given = asked.given
    names = given.plan.initial_statistics()
    weights, statistics = (
        {name: value.astype(DTYPE) for name, value in found.items()}
        for found in (learned.weights, {name: learned.state[name] for name in names})
    )
    if refused := [*given.unsayable(), *_not_finite(weights | statistics)]:
        hint = later("export another run")
        message = later("no file can hold {what}", what=joined(refused, "; "))
        raise LockstepError("LS-207", message, where=str(folder), hint=hint)
    facts = _facts(asked, record, given)
    images = asked.examples.test[0]
    shape = (N_NOISE, *images.shape[1:])
    noise = (randomness.bits(int(np.prod(shape)), 0, "evaluated") % 256).astype("uint8").reshape(shape)
    few = np.concatenate([images[:N_SHOWN], noise])
    trained = Trained(given, weights, statistics, facts)
    return Exhibit(asked, trained, few, images, record.arrays("predictions")["logits"])


def _not_finite(arrays: Arrays) -> list[str]:
    wrong = sorted(name for name, value in arrays.items() if not np.isfinite(value).all())
    return [later("weights that are not finite: {names}", names=", ".join(wrong[:4]))] if wrong else []


def _facts(asked: script.Subject, record: store.Record, given: Given) -> dict[str, str]:
    """Where it comes from, for whatever has room for it; in English, as all metadata are."""
    run, dataset = asked.run, record.environment["dataset"]
    known = data.DATASETS.get(run.dataset)
    manifest = store.read_json(record.folder / "manifest.json")
    hashes = {f"dataset.sha256.{name}": value for name, value in sorted(dataset["hashes"].items())}
    return {
        "description": f"{run.network_name} on {run.dataset}, trained by Lockstep with {run.backend}, seed {run.seed}",
        "lockstep": version(), "run": record.folder.name, "study": run.study, "network": run.network_name,
        "backend": run.backend, "seed": str(run.seed), "spec": store.spec_hash(store.read_spec(record.folder)),
        "predictions.sha256": manifest["files"]["predictions.npz"]["sha256"],
        "test_accuracy": f"{record.test_accuracy:.4f}", "dataset": run.dataset, **hashes,
        "classes": json.dumps(list(dataset.get("class_names", ())), ensure_ascii=False),
        "licence.data": known.licence if known else "that of the images, which is not known here",
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------------------ exporting


def export(
    folder: Path, names: Sequence[str], out: Path | None = None, force: bool = False, tell: Tell = lambda what: None
) -> list[Exported]:  # fmt: skip
    """Write a run in these forms, and have each loaded and judged before; what is not equal is not written.

    `out` is the first file of the only form, or a folder. Raises LockstepError: LS-209 (no such form), LS-401 (not
    installed), LS-200 (a file exists), LS-207 (what no file says), LS-402 and LS-403 (a program fails), LS-501.
    """
    for name in names:
        if name not in forms.FORMS:
            hint = did_you_mean(name, forms.FORMS)
            raise LockstepError("LS-209", later('there is no form "{name}"', name=name), hint=hint)
    shown = exhibit(folder)
    targets = {name: _targets(name, shown, out) for name in names}
    for name, paths in targets.items():
        assert_installed(forms.FORMS[name], option_of(name))
        for path in paths:
            script.assert_free(path, force)
    return [_exported(name, shown, paths, tell) for name, paths in targets.items()]


def option_of(name: str) -> str:
    """How the command line asks for a form."""
    return f"--{name.replace('_', '-')}"


def assert_installed(form: Any, where: str) -> None:
    """Raise LockstepError (LS-401), with the extra that brings what is missing."""
    if reason := forms.why_missing(form):
        raise LockstepError("LS-401", reason, where=where, hint=f"pip install 'lockstep-nn[{form.extra}]'")


def _targets(name: str, shown: Exhibit, out: Path | None) -> tuple[Path, ...]:
    """The files of a form."""
    form, stem = forms.FORMS[name], shown.asked.run.network_name
    if out is None or out.is_dir():
        return tuple((out or Path()) / file for file in form.names(stem))
    suffix = form.names("")[0]
    stem = out.name.removesuffix(suffix) if out.name.endswith(suffix) else out.stem
    first, *others = form.names(stem)
    return (out if out.name.endswith(suffix) else out.with_name(first), *(out.with_name(name) for name in others))


def _exported(name: str, shown: Exhibit, paths: tuple[Path, ...], tell: Tell) -> Exported:
    form = forms.FORMS[name]
    stem = paths[0].name.removesuffix(form.names("")[0])
    with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
        place = Path(folder)
        tensors = make(form, shown, place, stem, tell)
        proof = judged(form, shown, place, stem, tensors, tell)
        if proof.verdict != "EQUAL":
            return Exported(name, (), proof)
        for path, made in zip(paths, form.names(stem), strict=True):
            put(place / made, path)
    return Exported(name, paths, proof)


def put(made: Path, path: Path, option: str = "--out") -> None:
    """A file or a folder where it is to lie, whole or not at all; what lies there is replaced.

    Of a folder that is all that is replaced: one that holds anything else is somebody's, and stays (LS-200).
    """
    hint = later("choose another place: {option}", option=option)
    if path.is_dir() and (others := _others(path, made)):
        message = later("there are other files in it, which would be lost: {names}", names=", ".join(others[:4]))
        raise LockstepError("LS-200", message, where=str(path), hint=hint)
    if made.is_file():
        with disk.new_file(path, hint) as part, disk.writing(path, hint):
            shutil.copyfile(made, part)
        return
    part, old = (path.with_name(f".{path.name}.{os.getpid()}.{word}") for word in ("part", "old"))
    with disk.writing(path, hint):
        try:
            shutil.copytree(made, part)
            if path.exists():
                os.replace(path, old)
            os.replace(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if old.exists() and not path.exists():
                os.replace(old, path)
            shutil.rmtree(old, ignore_errors=True)


def _others(path: Path, made: Path) -> list[str]:
    """What lies in a folder and is not in the one that is to take its place."""
    ours = {one.relative_to(made) for one in made.rglob("*")}
    return sorted(str(found) for one in path.rglob("*") if (found := one.relative_to(path)) not in ours)


def make(form: Form, shown: Exhibit, place: Path, stem: str, tell: Tell) -> Arrays:
    """Write a form into a place; the tensors that it should hold, by their names there."""
    tell(later("{form}: writing", form=form.title))
    tensors = form.prepare(shown.trained, place, stem)
    if form.builder:
        alone.run(form.builder, (place, stem), form.backend, place, SECONDS)
    return tensors


# ------------------------------------------------------------------------------------------------------------- judging


def judged(form: Form, shown: Exhibit, place: Path, stem: str, tensors: Arrays, tell: Tell) -> Proof:
    """The proof of the files of a place: EQUAL, or every place that differs; raises LockstepError: LS-402, LS-403."""
    tell(later("{form}: loading it without Lockstep, on {n} images", form=form.title, n=len(shown.images)))
    np.savez(place / "images.npz", few=shown.few, all=shown.images)
    alone.run(form.checker, (place, stem), form.backend, place, SECONDS)
    found = store.read_npz(place / "found.npz")
    tell(later("{form}: judging", form=form.title))
    with np.errstate(all="ignore"), cores.one_blas_thread():
        return proof_of(form, shown, found, tensors)


def proof_of(form: Form, shown: Exhibit, found: Arrays, tensors: Arrays) -> Proof:
    """What is said of what the readers of a form gave."""
    judge, n = shown.judge, len(shown.images)
    readers = dict.fromkeys(name.split("/", 2)[1] for name in found if name.startswith(("layer/", "logits/")))
    every = [*_tensors(found, tensors), *_layers(judge, shown, found), *_probabilities(found)]
    answers = Answers()
    every += _predictions(judge, shown, found, answers)
    wrong = [finding for finding in every if not finding.agrees]
    verdict: Verdict = "DIVERGED" if wrong else "EQUAL"
    run, values = shown.asked.run, sum(finding.n for finding in every)
    divergences = tuple(but(comparison.divergence(run, finding, []), backend=form.title) for finding in wrong)
    coverage = Coverage(steps=0, values=values)
    backend = Backend(
        backend=form.title, verdict=verdict, versions=versions(form.packages), folder=None, coverage=coverage,
    )  # fmt: skip
    network = Network(
        network=run.network_name, dataset=run.dataset, dtype=DTYPE, seed=run.seed, verdict=verdict,
        n_train=len(shown.asked.examples.train[0]), batch_size=run.recipe.batch_size, backends=(backend,),
    )  # fmt: skip
    claim = later(
        "{form}, read by {readers}: its tensors are the run's, every layer on {few} images and the predictions of {n} "
        "test images are the judge's within rounding; tied answers: {ties}",
        form=form.title, readers=", ".join(readers), few=len(shown.few), n=n, ties=answers.ties,
    ) if not wrong else later("{form} does not do what the run does", form=form.title)  # fmt: skip
    return Proof(
        format=FORMAT, study=run.study, verdict=verdict, first=form.title, second=str(shown.asked.folder),
        claim=claim, steps=0, planted=(), first_different_bits=None,
        coverage=Observed(networks=1, traces_asked=0, traces_judged=0, values=values, not_observed=()),
        networks=(network,), divergences=divergences, proven=store.now(),
    )  # fmt: skip


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of these distributions."""
    import importlib.metadata

    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _tensors(found: Arrays, tensors: Arrays) -> Iterator[Finding]:
    """Those of the file, bit for bit."""
    held = {name.removeprefix("tensor/") for name in found if name.startswith("tensor/")}
    for name, value in tensors.items():
        yield compare("data", name, None, found.get(f"tensor/{name}"), value, 0.0, DTYPE)
    if unexpected := sorted(held - tensors.keys()):
        yield Finding("data", "tensors", None, problem=later("unexpected: {names}", names=", ".join(unexpected)))


def _layers(judge: Judge, shown: Exhibit, found: Arrays) -> Iterator[Finding]:
    """Each layer by itself, of every reader that shows them."""
    readers = dict.fromkeys(name.split("/", 2)[1] for name in found if name.startswith("layer/"))
    for reader in readers or ("",):
        start = f"layer/{reader}/"
        outputs = {name.removeprefix(start): value for name, value in found.items() if name.startswith(start)}
        yield from judge.inference(outputs, shown.few, shown.trained.weights, _state(judge, shown), 0)


def _state(judge: Judge, shown: Exhibit) -> Arrays:
    return judge.start_state | shown.trained.statistics


def _probabilities(found: Arrays) -> Iterator[Finding]:
    """The softmax of the same reader's logits, where a form gives both."""
    for name in found:
        if name.startswith("probabilities/"):
            given = found[f"logits/{name.partition('/')[2]}"][:N_SHOWN].astype(np.float64)
            wanted = np.exp(given - given.max(1, keepdims=True))
            wanted /= wanted.sum(1, keepdims=True)
            yield compare("predictions", later("probabilities"), None, found[name][: len(given)], wanted, 1e-5, DTYPE)


@dataclasses.dataclass
class Answers:
    """How many answers are tied: two classes equal within rounding, of which another reader may name the other."""

    ties: int = 0


def _predictions(judge: Judge, shown: Exhibit, found: Arrays, answers: Answers) -> Iterator[Finding]:
    """The logits of every test image, and whether each answer is the run's."""
    names = [name for name in found if name.startswith("logits/")]
    if not names:
        yield compare("predictions", "logits", None, None, 0.0)
    own = shown.logits.argmax(1)
    for name in names:
        finding = judge.logits(found[name], shown.images, shown.trained.weights, _state(judge, shown), 0)
        yield finding
        if finding.problem:
            continue
        logits = found[name].astype(np.float64)
        best = np.sort(logits, 1)[:, -2:] if logits.shape[1] > 1 else np.zeros((len(logits), 2))
        tied = best[:, 1] - best[:, 0] <= 2 * finding.tolerance
        answers.ties = max(answers.ties, int(tied.sum()))
        others = int(((logits.argmax(1) != own) & ~tied).sum())
        yield compare("predictions", later("answers that are not the run's, and no ties"), None, others, 0)
