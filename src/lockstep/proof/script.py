"""A run as a script of a framework's own: written, run where there is no Lockstep, and judged before anybody has it.

The script is run in a fresh process in which importing `lockstep` fails. It takes a few steps on the first images that
the run trains on, so few that an epoch with its short last batch ends twice; then its loss at every step, its weights
and running statistics at the end and its predictions are compared with the judge's, within what rounding alone has been
seen to do by then (`growth`). Where they differ, the same steps are taken under every known difference, and the ones
that give the script's numbers are its causes.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends, data, store
from lockstep.backends.plan import Arrays
from lockstep.data import npz, places
from lockstep.errors import LockstepError
from lockstep.exchange import scripts
from lockstep.exchange.scripts.given import Given
from lockstep.files import disk
from lockstep.language import later
from lockstep.machine import alone, cores
from lockstep.proof import cases, comparison, growth, tolerances
from lockstep.proof.findings import Finding, compare
from lockstep.proof.judge import Judge
from lockstep.proof.pair import client
from lockstep.spec import Run
from lockstep.spec.records import changed
from lockstep.store.documents.proof import FORMAT, Backend, Coverage, Network, Observed, Proof, Verdict
from lockstep.store.documents.run import Environment
from lockstep.training import inputs

STEPS = 10  # that a script takes to be judged
FEWER = (3, 1)  # where by then rounding alone has moved the weights as far as the steps did
SECONDS = 300  # that it may take for them
# In tolerances: a difference that no cause explains is told from rounding where it is further off. Two frameworks'
# programs part further than NumPy's own twins do, which are one program and few.
NEAR = 8.0
NOTHING_TOLD = later("rounding alone moves these weights as far as the steps do: nothing is told apart")
MOST_PREDICTED = 500  # test images whose predictions are judged
FLOAT32 = tolerances.eps("float32")
Tell = Callable[[str], None]


class FirstImages(cases.Case):
    """A case on the first images that a run trains on; scaling and split are those of all of them."""

    def examples_of(self, run: Run) -> inputs.Examples:
        """The first images alone."""
        examples = super().examples_of(run)
        n = cases.proof_size(len(examples.train[0]), self.canonical.recipe, STEPS)
        examples.train = (examples.train[0][:n], examples.train[1][:n])
        return examples


@dataclasses.dataclass(frozen=True)
class Subject:
    """A run whose script is written or judged."""

    folder: Path
    run: Run
    examples: inputs.Examples

    @property
    def source(self) -> str:
        """How a script reads the dataset."""
        if self.run.dataset == "digits":
            return "digits"
        return "idx" if self.run.dataset in data.DATASETS else "npz"

    @property
    def given(self) -> Given:
        """What a script is written from."""
        run, n = self.run, (len(self.examples.train[0]), len(self.examples.validation[0]))
        return Given(run, inputs.make_plan(run, self.examples, 1), self.folder.name, self.source, *n)

    @property
    def case(self) -> cases.Case:
        """What the judge takes its steps on."""
        whole = FirstImages(changed(self.run, backend="numpy"), self.examples, (self.run,))
        return dataclasses.replace(whole, examples=whole.examples_of(self.run))

    def data_at(self, folder: Path) -> Path:
        """Where a script finds the dataset: its own place, or an .npz that is written into this folder."""
        if self.source == "digits":
            return folder
        if self.source == "idx":
            return places.find(self.run.dataset)[0] or folder
        npz.write(folder / "data.npz", self.examples.data)
        return folder / "data.npz"


def subject(folder: Path) -> Subject:
    """The run of a folder; raises LockstepError: LS-505 where it is not whole, LS-3… where its data are not here."""
    run = comparison.finished_run(folder, later("name the folder of a finished run, such as runs/<study>/<run>"))
    loaded = data.load(run.dataset, offline=True)
    wanted = Environment.read(folder / "environment.json").dataset.hashes
    if dict(loaded.hashes) != wanted:
        message = later("the dataset {name} is not the one that this run was trained on", name=run.dataset)
        hint = later("bring back the files whose SHA-256 are in environment.json")
        raise LockstepError("LS-303", message, where=str(folder), hint=hint)
    return Subject(folder, run, inputs.Examples(loaded, run))


# ------------------------------------------------------------------------------------------------------------ exporting


@dataclasses.dataclass(frozen=True)
class Exported:
    """A script that was judged; `path` is None where it was not equal and so was not written."""

    path: Path | None
    proof: Proof
    text: str
    data: Path | None = None  # an .npz that was written for it


def export(
    folder: Path, target: str, out: Path | None = None, force: bool = False, tell: Tell = lambda what: None
) -> Exported:  # fmt: skip
    """Write a run as a script of `target` and have it judged before; nothing is written that is not equal.

    Raises LockstepError: LS-209 (no such target), LS-401 (not installed), LS-200 (the file exists), LS-207 (what no
    script says), LS-402 and LS-403 (the script hangs or fails), LS-501 (it cannot be written), else as `subject`.
    """
    scripts.target(target)
    asked = subject(folder)
    assert_installed(target, asked)
    given = asked.given
    path = out or Path(f"{asked.run.network_name}_{target}.py")
    beside = path.with_suffix(".npz") if asked.source == "npz" else None
    for file in (path, *([beside] if beside else [])):
        assert_free(file, force)
    text = scripts.write(given, target, path.name, beside.name if beside else "")
    with tempfile.TemporaryDirectory(prefix="lockstep-") as place:
        script = Path(place) / path.name
        script.write_text(text, encoding="utf-8")
        proof = judged(script, target, asked, tell)
    if proof.verdict != "EQUAL":
        return Exported(None, proof, text)
    hint = later("choose another file: --out")
    with disk.new_file(path, hint) as part, disk.writing(path, hint):
        part.write_text(text, encoding="utf-8")
    if beside:
        with disk.new_file(beside, hint) as part, disk.writing(beside, hint):
            npz.write(part, asked.examples.data)
    return Exported(path, proof, text, beside)


def assert_installed(target: str, asked: Subject) -> None:
    """Raise LockstepError (LS-401) where a target, or scikit-learn for its digits, is missing."""
    backend = scripts.TARGETS[target]
    if reason := backends.why_missing(backend):
        extra = backends.BACKENDS[backend][3]
        where = later("backend {name}", name=backend)
        raise LockstepError("LS-401", reason, where=where, hint=f"pip install 'lockstep-nn[{extra}]'")
    if absent := [module for module in scripts.target(target).packages if importlib.util.find_spec(module) is None]:
        reason = later("{modules} not installed", modules=", ".join(absent))
        raise LockstepError("LS-401", reason, where="--script", hint=f"pip install 'lockstep-nn[{target}]'")
    if asked.source == "digits" and importlib.util.find_spec("sklearn") is None:
        message = later("the script reads scikit-learn's digits, and scikit-learn is not installed")
        raise LockstepError("LS-401", message, where="--script", hint="pip install scikit-learn")


def assert_free(path: Path, force: bool, option: str = "--out") -> None:
    if path.exists() and not force:
        message = later("there is such a folder already") if path.is_dir() else later("there is such a file already")
        hint = later("name another with {option}, or let --force replace it", option=option)
        raise LockstepError("LS-200", message, where=str(path), hint=hint)


# ----------------------------------------------------------------------------------------------------------- running it


def prove(file: Path, folder: Path, tell: Tell = lambda what: None) -> Proof:
    """Judge a script, as it was exported or as somebody has edited it, by the run in `folder`; raises as `export`."""
    framework = client.framework_of(file)
    target = next((name for name in scripts.TARGETS if name == framework), "jax")
    asked = subject(folder)
    assert_installed(target, asked)
    return judged(file, target, asked, tell)


def results_of(file: Path, target: str, asked: Subject, case: cases.Case, steps: int, tell: Tell) -> Arrays:
    """What a script writes of so many steps; raises LockstepError: LS-402 (it hangs or dies), LS-403 (no result)."""
    with tempfile.TemporaryDirectory(prefix="lockstep-") as name:
        place = Path(name)
        result = place / "result.npz"
        words = {"data": asked.data_at(place), "out": result, "steps": steps, "images": len(case.examples.train[0])}
        options = [part for key, value in words.items() for part in (f"--{key}", str(value))]
        tell(later("{file}: {n} steps in a process of its own", file=file.name, n=steps))
        alone.run(file, options, scripts.TARGETS[target], place, SECONDS, f"python {file} --steps {steps}")
        if not result.is_file():
            message, hint = later("it ended, but wrote no result"), later("keep its --out, --steps and --images")
            raise LockstepError("LS-403", message, where=str(file), hint=hint)
        return store.read_npz(result)


# ----------------------------------------------------------------------------------------------------------- judging it


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the judge has after the same steps, in float64; `off` is how far his float32 is from it, by its norm."""

    judge: Judge
    losses: list[float]
    weights: Arrays
    state: Arrays
    off: Mapping[str, float]


def outcome(judge: Judge, case: cases.Case, steps: int) -> Outcome:
    """Take the steps by a judge's meaning."""
    losses = comparison.losses_of(judge, case, steps, "float64")
    comparison.losses_of(judge, case, steps, "float32")
    weights, singly, unit = judge.exact.weights(), judge.single.weights(), tolerances.eps(judge.dtype) / FLOAT32
    off = {
        name: unit * (float(np.linalg.norm(singly[name] - value)) + FLOAT32 * float(np.linalg.norm(value)))
        for name, value in weights.items()
    }
    return Outcome(judge, losses, weights, judge.exact.state(), off)


def judged(file: Path, target: str, asked: Subject, tell: Tell = lambda what: None) -> Proof:
    """The proof of a script: EQUAL, or every place that differs, with its causes; raises as `results_of`."""
    case = asked.case
    most = asked.run.recipe.epochs * case.plan.steps_per_epoch
    for steps in (STEPS, *FEWER):
        steps = min(steps, most)
        found = results_of(file, target, asked, case, steps, tell)
        tell(later("judging {n} steps", n=steps))
        proof = proof_of(found, file, target, asked, case, steps)
        if proof.verdict != "INCONCLUSIVE":
            break
    return proof


@np.errstate(all="ignore")
@cores.one_blas_thread()
def proof_of(found: Arrays, file: Path, target: str, asked: Subject, case: cases.Case, steps: int) -> Proof:
    """What is said of the results of so many steps."""
    wanted, parting = outcome(case.judge, case, steps), growth.measured(case, (), steps)
    wrong = [finding for finding in findings(found, wanted, parting, case) if not finding.agrees]
    within = _within(case.judge.start, wanted, parting)
    causes = causes_of(found, wrong, parting, case, steps) if wrong else []
    reason = None if within < 1 else later(NOTHING_TOLD)
    if wrong and not causes and steps > 1 and all(one.units <= NEAR and not one.problem for one in wrong):
        wrong, reason = (
            [],
            later("it is off by little more than rounding was seen to do by then, and nothing explains it"),
        )
    verdict: Verdict = "DIVERGED" if wrong else "INCONCLUSIVE" if reason else "EQUAL"
    run = changed(asked.run, backend=scripts.TARGETS[target])
    divergences = tuple(comparison.divergence(run, finding, causes) for finding in wrong)
    values = sum(map(np.size, found.values()))
    backend = Backend(
        backend=run.backend, verdict=verdict, reason=reason if verdict == "INCONCLUSIVE" else None,
        versions=backends.versions(run.backend), folder=str(file), coverage=Coverage(steps=steps, values=values),
    )  # fmt: skip
    network = Network(
        network=run.network_name, dataset=run.dataset, dtype=run.dtype, seed=run.seed, verdict=verdict,
        n_train=len(case.examples.train[0]), batch_size=run.recipe.batch_size, backends=(backend,),
    )  # fmt: skip
    return Proof(
        format=FORMAT, study=run.study, verdict=verdict, first=str(file), second=str(asked.folder),
        claim=_claim(verdict, steps, within), steps=steps, planted=(), first_different_bits=None,
        coverage=Observed(
            networks=1, traces_asked=0, traces_judged=0, values=values, not_observed=(reason,) if reason else ()
        ),
        networks=(network,), divergences=divergences, proven=store.now(),
    )  # fmt: skip


def _claim(verdict: str, steps: int, within: float) -> Any:
    if verdict == "DIVERGED":
        return later("the script does not do what the run says")
    if verdict == "INCONCLUSIVE":
        return later("nothing is concluded of the script")
    return later(
        "{n} steps of the script are the judge's within rounding, and so are its weights, its statistics and its "
        "predictions; its weights were judged to within {within} of what the steps changed",
        n=steps, within=f"{within:.1e}",
    )  # fmt: skip


def _within(start: Arrays, wanted: Outcome, parting: growth.Parting) -> float:
    """What part of the change of the weights rounding may hide, by their norm; a single one may follow rounding."""
    names = [name for name in start if parting.is_determined(name)]
    moved = math.hypot(*(float(np.linalg.norm(wanted.weights[name] - start[name])) for name in names))
    tolerance = tolerances.FACTOR * math.hypot(*(wanted.off[name] for name in names))
    return tolerance / moved if moved and math.isfinite(tolerance) else math.inf


def findings(found: Arrays, wanted: Outcome, parting: growth.Parting, case: cases.Case) -> Iterator[Finding]:
    """Losses, weights, running statistics, predictions; what is missing is told, and nothing behind it."""
    steps = len(wanted.losses)
    losses = found.get("losses")
    tolerance = parting.loss_tolerance[:steps]
    yield _first(
        compare("loss", "training from the start", None, losses, wanted.losses, tolerance, whole=True),
        losses,
        wanted,
        tolerance,
    )
    size = max(float(np.abs(value).max(initial=0.0)) for value in wanted.weights.values())
    for name, value in wanted.weights.items():
        allowed = float(parting.weights_tolerance[-1]) * size if parting.is_determined(name) else math.inf
        yield (
            finding := compare(
                "training", name, steps - 1, found.get(name), value, allowed, case.plan.dtype, whole=True
            )
        )
        if finding.agrees and parting.is_determined(name):
            distance, off = np.linalg.norm(found[name] - value), tolerances.FACTOR * wanted.off[name]
            yield compare(
                "training", later("{name}, by its norm", name=name), steps - 1, distance, 0.0, off, whole=True
            )
    statistics = list(case.plan.initial_statistics())
    for name in statistics:
        kind = name.rpartition("/")[2]
        largest = max(float(np.abs(wanted.state[one]).max()) for one in statistics if one.endswith(kind))
        allowed = float(parting.state_tolerance(kind)[-1]) * largest
        yield compare(
            "training", name, steps - 1, found.get(name), wanted.state[name], allowed, case.plan.dtype, whole=True
        )
    yield _predictions(found, wanted, case, steps)


def _first(whole: Finding, losses: Any, wanted: Outcome, tolerance: np.ndarray) -> Finding:
    """The finding of the losses at the first step that is off."""
    if whole.agrees or whole.problem:
        return whole
    off = ~(np.abs(np.asarray(losses, np.float64) - wanted.losses) <= tolerance)
    step = int(off.argmax())
    size, allowed = abs(float(losses[step]) - wanted.losses[step]), float(tolerance[step])
    return dataclasses.replace(
        whole, step=step, size=size, tolerance=allowed, units=size / allowed, index=(), found=float(losses[step]),
        wanted=wanted.losses[step],
    )  # fmt: skip


def _predictions(found: Arrays, wanted: Outcome, case: cases.Case, steps: int) -> Finding:
    """Whether the predictions follow from the script's own weights."""
    images, logits = case.examples.test[0], found.get("logits")
    shape = (len(images), case.plan.classes)
    if logits is None or logits.shape != shape:
        return compare("predictions", "logits", None, logits, np.zeros(shape), whole=True)
    state = {name: found.get(name, value) for name, value in wanted.state.items()}
    weights = {name: found.get(name, value) for name, value in wanted.weights.items()}
    if wanted.judge.unfit(weights, state):  # which was told before
        weights, state = wanted.weights, wanted.state
    return wanted.judge.logits(logits[:MOST_PREDICTED], images[:MOST_PREDICTED], weights, state, steps)


def causes_of(found: Arrays, wrong: list[Finding], parting: growth.Parting, case: cases.Case, steps: int) -> list[str]:
    """The known differences under which the judge gives what the script gave."""
    if any(finding.problem for finding in wrong):
        return []

    def fits(judge: Judge) -> bool:
        taken = outcome(judge, case, steps)
        return all(finding.agrees for finding in findings(found, taken, parting, case))

    return comparison.reproducing(case, fits)
