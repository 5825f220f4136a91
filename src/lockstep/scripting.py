"""What a script or a notebook calls: the work of the commands, as functions that return what `--json` would print.

Folders are given as texts or as Paths. Progress is shown on a terminal and in a notebook, unless `progress=False`
silences it; `progress=True` shows it in a log too. What is wrong is one exception, `LockstepError`, with a code and a
remedy.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from rich.console import Console

from lockstep import arguments, store
from lockstep import study as studies
from lockstep.benchmark import benches
from lockstep.benchmark.outcome import Outcome
from lockstep.check import submissions
from lockstep.errors import LockstepError
from lockstep.language import later, say
from lockstep.machine import cores
from lockstep.proof import comparison, gradients, pages, procedure
from lockstep.proof.cost import add_cost, n_trainings
from lockstep.proof.pair import difference, feed, outcome, training
from lockstep.screen.downloads import Download
from lockstep.screen.proofs import ProofWatcher
from lockstep.screen.runs import Watcher
from lockstep.screen.times import BenchWatcher
from lockstep.spec import Study, naming
from lockstep.store.documents.difference import Difference

RUNS = "runs"
Place = str | PathLike[str]
OPTIONS = {  # of the command line → the argument that it is here, where its name is another
    "backends": "chosen_backends", "network": "networks", "plant": "plants", "runs": "runs_folder", "set": "settings",
    "together": "n_together", "input": "input_shape",
}  # fmt: skip

_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def _nobody(*_event: object) -> None:
    """Nobody listens."""


def _in_python(function: Callable[_Given, _Made]) -> Callable[_Given, _Made]:
    """A function whose errors are about its arguments, and not about options of the command line."""

    @functools.wraps(function)
    def asked(*values: _Given.args, **named: _Given.kwargs) -> _Made:
        try:
            return function(*values, **named)
        except LockstepError as error:
            raise LockstepError.several(
                dataclasses.replace(problem, where=re.sub(r"--([\w-]+)", _argument, problem.where))
                for problem in error.problems
            ) from error.__cause__

    return asked


def _argument(option: re.Match[str]) -> str:
    name = option[1].replace("-", "_")
    return OPTIONS.get(name, name)


# ------------------------------------------------------------------------------------------------------------ the work


@_in_python
def load_study(
    path: Place, settings: str | Iterable[str] = (), chosen_backends: str | Iterable[str] = (),
    networks: str | Iterable[str] = (), quick: bool = False,
) -> Study:  # fmt: skip
    """The study of a file, with its names, shapes and combinations checked; every error at once.

    `settings` are `key=value`; `chosen_backends` and `networks`, where given, replace or narrow those of the file.
    `quick` makes a first look of it: scikit-learn's digits, one seed and few epochs, unless a setting says otherwise.
    """
    given = {"settings": settings, "chosen_backends": chosen_backends, "networks": networks}
    texts = {name: arguments.texts(value, name) for name, value in given.items()}
    return studies.load_study(path, texts["settings"], texts["chosen_backends"], texts["networks"], quick)


@_in_python
def run_study(
    study: Study, runs_folder: Place = RUNS, tell: studies.Tell = _nobody, threads: int | None = None,
    again: bool = False, is_together: bool = False, *, is_filmed: bool = False, offline: bool = False,
    progress: bool | None = None,
) -> store.Records:  # fmt: skip
    """Do every run of a study; the records in the study's order, failed ones among them.

    `threads` is for every backend alike, by default those of two that are free when the first run begins; `again`
    repeats finished runs; `is_together` trains those together, in one process, that gain from it; `is_filmed` keeps
    what is learned after each epoch, for `write_play`; `offline` downloads nothing. `tell` hears every event beside
    what is shown. Raises LockstepError for a study that cannot be and for a folder that cannot be written; a run that
    fails is a record, not an exception.
    """
    study, folder = _asked(study, runs_folder, tell, threads)
    _fetch(study, offline, progress)
    with _shown(progress, lambda console: Watcher(len(study.runs()), console, naming.is_notebook())) as show:
        return studies.run_study(study, folder, _both(show, tell), threads, again, is_together, is_filmed=is_filmed)


@_in_python
def prove(
    study: Study, runs_folder: Place = RUNS, steps: int = procedure.STEPS, plants: str | Iterable[str] = (),
    threads: int | None = None, tell: studies.Tell = _nobody, *, cost: bool = True, offline: bool = False,
    progress: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Prove that a study's backends take the same steps; the document of `lockstep prove --json` (docs/proof.md).

    `plants` are `cause@backend`: differences switched on in one backend; `cost` trains to the end with and without
    them. Leaves proof.json and proof.html in the study's folder, as the command does. Raises LockstepError for a study
    that cannot be, an unknown plant and a folder that cannot be written; a backend that diverges is a verdict.
    """
    study, folder = _asked(study, runs_folder, tell, threads, steps=steps)
    planted = list(dict.fromkeys(arguments.texts(plants, "plants")))
    _fetch(study, offline, progress)
    with _shown(progress, ProofWatcher) as show:
        found = procedure.prove(study, folder, steps, planted, threads, _both(show, tell))
    if planted and cost:
        n = n_trainings(study, planted)
        with _shown(progress, lambda console: Watcher(n, console)) as show:
            found = add_cost(found, study, planted, folder, _both(show, tell), threads)
    pages.write(found, folder)
    return found.document()


@_in_python
def check_gradients(
    study: Study, runs_folder: Place = RUNS, threads: int | None = None, tell: studies.Tell = _nobody, *,
    offline: bool = False, progress: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Whether each backend's gradients are the slopes of its loss; the document of `lockstep prove --gradients --json`.

    Leaves it as gradients.json in the study's folder, as the command does. Raises LockstepError as `prove`; a gradient
    that is wrong is a verdict.
    """
    study, folder = _asked(study, runs_folder, tell, threads)
    _fetch(study, offline, progress)
    with _shown(progress, ProofWatcher) as show:
        return gradients.check_gradients(study, folder, threads, _both(show, tell)).document()


@_in_python
def bench(
    study: Study, runs_folder: Place = RUNS, rounds: int = benches.ROUNDS, epochs: int = benches.EPOCHS,
    against: str = "", threads: int | None = None, tell: benches.Tell = _nobody, n_together: int = 1, *,
    offline: bool = False, progress: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Time a study's networks in fresh, interleaved processes; the document of `lockstep bench --json`.

    Leaves it as bench.json in the study's folder, as the command does (docs/bench.md describes it). Interrupted,
    it keeps the rounds that were whole and raises KeyboardInterrupt. Raises LockstepError for what cannot be, and where
    nothing could be timed (LS-403).
    """
    numbers = {"rounds": rounds, "epochs": epochs, "n_together": n_together}
    study, folder = _asked(study, runs_folder, tell, threads, **numbers)
    _fetch(study, offline, progress)
    outcome = Outcome(folder / study.name)
    with _shown(progress, lambda console: BenchWatcher(rounds, console)) as show:
        hear = outcome.listening(_both(show, tell))
        found = benches.bench(study, folder, rounds, epochs, against, threads, hear, n_together)
    outcome.keep(found)
    if outcome.code is not None:
        raise KeyboardInterrupt
    return found.document()


@_in_python
def compare_runs(first: Place, second: Place) -> dict[str, Any]:
    """Compare two run folders; the document has the keys of a proof's, with "first" and "second" beside them.

    Raises LockstepError: LS-505 for a folder that is not a finished run or whose files are not what was written,
    LS-210 for runs that should not be equal (another network, recipe, dataset, seed or dtype: all that differ are
    named).
    """
    return comparison.compare_runs(first, second).document()


@_in_python
def verify(folders: Place | Iterable[Place], images: int | None = None, deep: bool = False) -> dict[str, Any]:
    """Compute what was handed in again; the document of `lockstep verify --json` (docs/verify.md).

    `folders` are submissions: each holds runs and perhaps their report. `images` limits how many test images go
    through each network again; with `deep` the first epoch of each run is trained again. Raises LockstepError (LS-200)
    where there is no such folder; what does not fit is a verdict.
    """
    places = arguments.paths(folders, "folders")
    if images is not None and arguments.whole(images, "images") < 1:
        raise LockstepError(
            "LS-205", later("{n} images were asked for", n=images), where="images", hint=later("1 or more")
        )
    if not any(place.exists() for place in places):  # one of many that is missing has a line of its own
        store.must_be_there(places)
    return {"submissions": list(submissions.verify_all(places, images, deep))}


@_in_python
def diff(
    a: Place, b: Place, weights: str = "drawn", batch: feed.Batch | None = None,
    input_shape: Sequence[int] | None = None, map: feed.Pairs = (), seed: int = 0, loss: str | None = None,
    optimizer: str | None = None, data: str | None = None, train_step: str | None = None, steps: int = 0,
    starts: bool = False, out: Place | None = None, bundle: bool = False, tell: difference.Tell = _nobody, *,
    progress: bool | None = None,
) -> Difference:  # fmt: skip
    """Tell two models of people's own apart, each named "FILE.py:NAME"; what `lockstep diff` finds (docs/diff.md).

    Both files are run, each in processes of its own: no framework is imported here. `weights` are "drawn" once for
    both, "from-a" or "as-is". `batch` holds arrays as the first model takes them, or is an .npz file; without one it is
    drawn, each example in `input_shape`. `map` pairs parameters by hand, as {a: b} or "a=b". `loss`,
    `optimizer`, `data` and `train_step` are names in both files, or "A=B", where they are not the usual ones; `steps`
    are taken by both, and `starts` compares how they draw their own weights. `out` is a folder for diff.json and
    diff.html; `bundle` packs there what nothing explains. `tell` hears what is being done.

    A difference is a verdict, and prints as a table. Raises LockstepError for names and inputs that cannot be
    (LS-200 … LS-209), what the files raise (LS-403, LS-404) and how their processes end (LS-402, LS-503).
    """
    arguments.function(tell, "tell")
    folder = None if out is None else arguments.path(out, "out")
    if bundle and folder is None:
        folder = Path("diff")
    with _shown(progress, _Doing) as show:
        found = difference.compare(
            str(arguments.path(a, "a")), str(arguments.path(b, "b")), weights=weights, batch=feed.arrays(batch),
            input_shape=feed.shape(input_shape), given=feed.pairs(map), seed=arguments.whole(seed, "seed"),
            trained=training.asked(
                {"loss": loss, "optimizer": optimizer, "data": data, "train_step": train_step},
                arguments.whole(steps, "steps"), starts,
            ),
            bundles=folder if bundle else None, tell=_both(show, tell),
        )  # fmt: skip
    if folder is not None:
        outcome.write(found, folder)
    return found


def assert_models_equal(a: Place, b: Place, **asked: Any) -> None:
    """Assert that two models of people's own are equal, in a test; `asked` is what `diff` takes.

    Raises AssertionError whose message is what `lockstep diff` prints, causes and lines to write among it, also where
    nothing could be compared; LockstepError as `diff`.
    """
    __tracebackhide__ = True
    found = diff(a, b, **({"progress": False} | asked))
    if not found.equal:
        raise AssertionError(str(found))


class _Doing:
    """Says line by line what is being done."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __enter__(self) -> _Doing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def tell(self, what: object) -> None:
        self.console.print(say(what), markup=False, highlight=False, soft_wrap=True)


# ------------------------------------------------------------------------------------------------ arguments, progress


def _asked(
    study: Study, runs_folder: Place, tell: object, threads: int | None, **numbers: int
) -> tuple[Study, Path]:  # fmt: skip
    """What was given, known to be of its kinds and possible."""
    arguments.function(tell, "tell")
    for name, value in numbers.items():
        arguments.whole(value, name)
    if threads is not None:
        arguments.whole(threads, "threads")
    cores.checked_threads(threads)
    return studies.checked(study), arguments.path(runs_folder, "runs_folder")


def _fetch(study: Study, offline: bool, progress: bool | None) -> None:
    with _shown(progress, Download) as show:
        studies.fetch_data(study, offline, show)


@contextlib.contextmanager
def _shown(progress: bool | None, watcher: Callable[[Console], Any]) -> Iterator[Callable[..., None]]:
    """Where events go that are shown: to this watcher, where one is to be seen."""
    console = console_for(progress)
    if console is None:
        yield _nobody
        return
    with watcher(console) as watching:
        yield watching.tell


def console_for(progress: bool | None) -> Console | None:
    """Where progress is shown: in the notebook, on the terminal, or nowhere (None)."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if naming.is_notebook():  # as text: nothing has to be installed for it, and it stays in the notebook's file
        shown = Console(file=sys.stdout, force_jupyter=False, force_terminal=False, width=120)
        return None if progress is False else shown
    wanted = is_terminal if progress is None else progress
    return Console(stderr=True, width=None if is_terminal else 140) if wanted else None


def _both(show: Callable[..., None], tell: Callable[..., None]) -> Callable[..., None]:
    def say_both(*event: Any) -> None:
        show(*event)
        tell(*event)

    return say_both
