"""A study, done: what is checked before anything starts, then one worker process for each run, or for a few together.

A run that fails is recorded as failed with its reason, and the others go on. A finished run of the same content is not
repeated on the same data, versions, processor and threads, and no run folder is ever written over.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from platform import python_version
from typing import Any, NamedTuple

from lockstep import arguments, backends, data, store
from lockstep.errors import LockstepError, Problem, did_you_mean, says_want_of_memory
from lockstep.files import atomic, locks
from lockstep.language import later as _
from lockstep.language import mark
from lockstep.language import n_later as n_
from lockstep.machine import contention, processes, timing
from lockstep.spec import LayerFacts, Network, Recipe, Run, Study
from lockstep.spec.records import changed, with_example
from lockstep.spec.toml import STAND_IN, located, placing, read_study, resolved_toml
from lockstep.study import crews
from lockstep.training import checkpoints
from lockstep.version import version

Tell = Callable[[Run, dict[str, Any]], None]  # a run's progress: {"event": "start" | "phase" | "epoch" | "end" …}


# -------------------------------------------------------------------------------------------- before anything starts


QUICK_EPOCHS = 5


def load_study(
    path: str | os.PathLike[str], settings: Iterable[str] = (), chosen_backends: Sequence[str] = (),
    networks: Sequence[str] = (), quick: bool = False,
) -> Study:  # fmt: skip
    """The study of a file, with its names, shapes and combinations checked; every error at once.

    `settings` are `key=value`; `chosen_backends` and `networks`, where given, replace or narrow those of the file.
    `quick` makes a first look of it: scikit-learn's digits, one seed and few epochs, unless a setting says otherwise.
    """
    path, settings = located(path), list(settings)
    asked = {setting.partition("=")[0].strip() for setting in settings}

    def narrowed(study: Study, left_out: frozenset[str] = frozenset()) -> tuple[Study, list[Problem]]:
        study = _quick(study, asked) if quick else study
        return _narrowed(study, chosen_backends, networks, left_out)

    def also(study: Study, left_out: frozenset[str]) -> list[Problem]:
        study, problems = narrowed(study, left_out)
        return [*problems, *_problems(study, left_out)]

    study = read_study(path, settings, also)
    with placing(path, settings):
        return checked(*narrowed(study))


def _quick(study: Study, asked: set[str]) -> Study:
    """The study on digits with one seed and few epochs, under a name of its own; what was `asked` for stays."""
    fields: dict[str, Any] = {"name": f"{study.name[:58]}-quick"}
    if "dataset" not in asked:
        fields["dataset"] = ("digits",)
    if "seeds" not in asked:
        fields["seeds"] = study.seeds[:1]
    if "recipe.epochs" not in asked:
        fields["recipe"] = changed(study.recipe, epochs=min(study.recipe.epochs, QUICK_EPOCHS))
        fields["recipe_for"] = {
            name: {key: min(value, QUICK_EPOCHS) if key == "epochs" else value for key, value in keys.items()}
            for name, keys in study.recipe_for.items()
        }
    return changed(study, **fields)


def _narrowed(
    study: Study, chosen_backends: Sequence[str], networks: Sequence[str], left_out: frozenset[str]
) -> tuple[Study, list[Problem]]:
    """The study with only these backends and networks, and a problem for each that there is not."""
    problems = _unknown_backends(dict.fromkeys(chosen_backends, "--backends"), "--backends numpy,torch")
    if chosen_backends and not problems:
        study = changed(study, backends=tuple(dict.fromkeys(chosen_backends)))
    here = _networks_of(study, left_out)
    for name in networks:
        if name not in here:
            hint = did_you_mean(name, here)
            problems.append(Problem("LS-209", _('the study has no network "{name}"', name=name), "--network", hint))
    if networks and all(name in study.networks for name in networks):
        own = {name: keys for name, keys in study.recipe_for.items() if name in networks}
        study = changed(study, networks={name: study.networks[name] for name in networks}, recipe_for=own)
    return study, problems


def checked(study: Study, problems: Sequence[Problem] = ()) -> Study:
    """The study, known to be possible on its datasets; raises LockstepError with these problems and all it finds."""
    arguments.instance(study, Study, "study", _('make one with Study(…), or read one: load_study("study.toml")'))
    study = changed(study, dataset=tuple(map(_absolute, study.dataset)))
    problems = [*problems, *_problems(study)]
    if problems:
        raise LockstepError.several(problems)
    return study


def _not_in_utf8(study: Study) -> Iterator[Problem]:
    """Texts of the command line that are bytes of another encoding, which no file of a run could hold."""
    rename = _("rename that folder, or give the dataset a name: lockstep data import FOLDER NAME")
    for key, texts, hint in (
        ("dataset", study.dataset, rename),
        ("question", (study.question,), _("write it in UTF-8")),
    ):
        for text in texts:
            if any("\ud800" <= sign <= "\udfff" for sign in text):
                yield Problem("LS-205", _("{text} is not UTF-8", text=text), key, hint)


OF_RECIPES = frozenset(("recipe", "recipe_for", "grid", "train_size", "dtype"))  # what the check of a recipe looks at


def _problems(study: Study, left_out: frozenset[str] = frozenset()) -> list[Problem]:
    """All that makes a study impossible; what follows from what was left out of it is not told."""
    found = [] if "backends" in left_out else _unknown_backends(_keys("backends", study.backends), EXAMPLE)
    found += _recipes_for_nobody(study, left_out)
    impossible = [] if OF_RECIPES & left_out else _impossible_recipes(study)
    has_recipes = not (impossible or OF_RECIPES & left_out)
    for name, key in _keys("dataset", study.dataset).items() if "dataset" not in left_out else ():
        found += _problems_with_data(study, name, key, has_recipes, left_out)
    return [*found, *impossible, *_not_in_utf8(study)]


EXAMPLE = 'backends = ["numpy", "torch"]'


def _keys(key: str, values: Sequence[str]) -> dict[str, str]:
    """Value → the key of it: that of the list where it is alone."""
    return {value: key if len(values) == 1 else f"{key}[{place}]" for place, value in enumerate(values)}


def _unknown_backends(named: dict[str, str], shown: str) -> list[Problem]:
    """A problem for each name, given with where it stands, that is no backend's."""
    unknown = {name: where for name, where in named.items() if name not in backends.BACKENDS}
    return [
        Problem(
            "LS-209", _('there is no backend "{name}"', name=name), where,
            with_example(did_you_mean(name, backends.BACKENDS), shown),
        )
        for name, where in unknown.items()
    ]  # fmt: skip


def _recipes_for_nobody(study: Study, left_out: frozenset[str]) -> list[Problem]:
    here = _networks_of(study, left_out)
    unknown = [name for name in study.recipe_for if name not in here]
    message = _("the study has no network of this name")
    return [Problem("LS-209", message, f"recipe_for.{name}", did_you_mean(name, here)) for name in unknown]


def _networks_of(study: Study, left_out: frozenset[str]) -> list[str]:
    """The names of its networks, those among them that are wrong in themselves."""
    wrong = [key.removeprefix("networks.") for key in left_out if key.startswith("networks.")]
    return [name for name in dict.fromkeys([*study.networks, *wrong]) if name != STAND_IN]


def _impossible_recipes(study: Study) -> list[Problem]:
    """What is wrong with a recipe that the grid, or what is for one network, makes."""
    found: dict[Problem, None] = {}
    for name in study.networks:
        try:
            study.recipes(name)
        except LockstepError as error:
            found |= dict.fromkeys(error.problems)
    return list(found)


def _absolute(dataset: str) -> str:
    """A dataset given by its path keeps its meaning when the run folder is read elsewhere."""
    is_path = os.sep in dataset or dataset.startswith(".") or dataset.endswith(".npz")
    return os.path.abspath(os.path.expanduser(dataset)) if is_path else dataset


def _problems_with_data(
    study: Study, dataset: str, key: str, has_recipes: bool, left_out: frozenset[str]
) -> list[Problem]:
    """What makes the study's networks, and the recipes where it has some, impossible on the dataset at this key."""
    try:
        facts = data.describe(dataset)
    except LockstepError as error:
        return [
            Problem(one.code, one.message, key if one.where == "dataset" else one.where, one.hint)
            for one in error.problems
        ]
    problems = list(
        dict.fromkeys(
            problem
            for name in study.networks
            for recipe in (study.recipes(name) if has_recipes else ())
            for problem in _problems_with_recipe(recipe, name, study, facts)
        )
    )
    ending = _('end with "dense {n}"', n=facts.n_classes)
    for name, network in study.networks.items():
        if f"networks.{name}" in left_out:  # one that stands in
            continue
        try:
            output = network.facts(facts.image_shape)[-1].output_shape
        except LockstepError as error:
            where = f"networks.{name}.{error.problems[0].where}"
            hint = _(
                "the images of {dataset} are {shape}; see: lockstep show", dataset=dataset, shape=facts.image_shape
            )
            problems.append(Problem(error.code, error.problems[0].message, where, hint))
            continue
        if output != (facts.n_classes,):
            what = {"output": output, "dataset": dataset, "n": facts.n_classes}
            message = _("the last layer puts out {output}, but {dataset} has {n} classes", **what)
            problems.append(Problem("LS-206", message, f"networks.{name}", ending))
        elif not network.parameter_shapes(facts.image_shape):
            message = _("it has no parameters, so there is nothing to train")
            problems.append(Problem("LS-206", message, f"networks.{name}", ending))
    return problems


def _problems_with_recipe(recipe: Recipe, name: str, study: Study, facts: data.Facts) -> list[Problem]:
    """What this recipe of a network, one of those that grid and `recipe_for` make, asks for that cannot be."""
    problems = []
    if recipe.early_stopping and not recipe.validation:
        monitor = recipe.early_stopping.monitor
        message = _("early stopping looks at {monitor}, but no images are held out", monitor=monitor)
        problems.append(Problem("LS-207", message, "recipe.early_stopping", _("set recipe.validation = 0.1")))
    if recipe.products != "full" and "float64" in study.dtype:
        message = _("products of {products} are sums of float32, but float64 is asked for", products=recipe.products)
        problems.append(Problem("LS-207", message, "recipe.products", _('set dtype = "float32"')))
    if "targets_broadcast" in recipe.mistakes and recipe.loss != "mean_squared_error":
        text = _(
            'the loss is {loss}, and only a squared error can make the mistake "targets_broadcast"', loss=recipe.loss
        )
        problems.append(Problem("LS-207", text, "recipe.mistakes", _('set recipe.loss = "mean_squared_error"')))
    held_out = len(data.split(facts.n_train, recipe.validation, 0)[1])
    n = min(study.train_size or facts.n_train, facts.n_train - held_out)
    if (n % recipe.batch_size or min(recipe.batch_size, n)) == 1:  # the last batch holds one image
        rows = _facts(study.networks[name], facts)
        if any(row.layer.kind == "batch_norm" and len(row.input_shape) == 1 for row in rows):
            sizes = {"n": n, "batch_size": recipe.batch_size}
            message = _("{n} training images in batches of {batch_size} leave one alone, with no variance", **sizes)
            hint = _("choose another recipe.batch_size, or leave batch_norm out of the dense part")
            problems.append(Problem("LS-207", message, f"networks.{name}", hint))
    return problems


def _facts(network: Network, facts: data.Facts) -> list[LayerFacts]:
    """The network's layers in place, or none where they do not fit (which is a problem of its own)."""
    with contextlib.suppress(LockstepError):
        return network.facts(facts.image_shape)
    return []


def few_images(study: Study) -> list[str]:
    """What a share of the images comes to, where it is hardly any: a sentence with the number for each case."""
    found = []
    for dataset in study.dataset:
        facts = data.describe(dataset)
        for name in study.networks:
            for recipe in study.recipes(name):
                kept, held_out = data.split(facts.n_train, recipe.validation, 0)
                n = min(study.train_size or facts.n_train, len(kept))
                if n < facts.n_classes:
                    found.append(
                        n_(
                            "{n} image of {dataset} is trained on, for {classes} classes (validation = {share})",
                            "{n} images of {dataset} are trained on, for {classes} classes (validation = {share})",
                            n,
                            dataset=dataset,
                            classes=facts.n_classes,
                            share=recipe.validation,
                        )
                    )
                if recipe.early_stopping and 0 < len(held_out) < data.LEAST_WATCHED:
                    found.append(
                        n_(
                            "early stopping watches {n} image of {dataset} (validation = {share}), so chance decides",
                            "early stopping watches {n} images of {dataset} (validation = {share}), so chance decides",
                            len(held_out),
                            dataset=dataset,
                            share=recipe.validation,
                        )
                    )
    return list(dict.fromkeys(found))


def fetch_data(study: Study, offline: bool, tell: Callable[[str, int, int], None] = lambda *_: None) -> None:
    """Download what is not on this machine, once, before any worker needs it.

    `tell` hears (file, bytes so far, bytes in all or 0). Raises LockstepError (LS-301, LS-302).
    """
    for name in study.dataset:
        if data.describe(name).state == "not on this machine":
            data.fetch(name, offline=offline, progress=tell)


# ---------------------------------------------------------------------------------------------------------- the runs


def run_study(
    study: Study,
    runs_folder: Path,
    tell: Tell = lambda run, event: None,
    threads: int | None = None,
    again: bool = False,
    is_together: bool = False,
) -> store.Records:
    """Do every run of the study, one at a time; the records in the study's order, failed ones among them.

    `tell` hears of the progress; `threads` is for every backend alike, by default those of two that are free when the
    first run begins; `again` repeats finished runs; `is_together` trains those together, in one process, that gain from
    it (see `together.crews`).
    Raises LockstepError for a study that cannot be and for a folder that cannot be written; a run that fails is a
    record, not an exception.
    """
    study, wanted = checked(study), contention.Threads(threads)
    folder, runs = runs_folder / study.name, study.runs()
    records: dict[int, store.Record] = {}
    for crew in crews.crews(runs, wanted.asked) if is_together else [[index] for index in range(len(runs))]:
        found = _do([runs[index] for index in crew], study, folder, tell, wanted, again)
        records |= dict(zip(crew, found, strict=True))
    return store.Records(records[index] for index in range(len(runs)))


def _do(
    crew: Sequence[Run], study: Study, folder: Path, tell: Tell, threads: contention.Threads, again: bool
) -> list[store.Record]:
    """The records of a run, or of some that are trained together."""
    records: dict[int, store.Record] = {}
    store.make_study_folder(folder)
    atomic.remove_strays(folder)
    with contextlib.ExitStack() as locked:
        jobs: dict[int, Job] = {}
        for index, run in enumerate(crew):
            found = _found(run, study, folder, threads, again)
            if isinstance(found, store.Record):
                records[index] = found
                tell(run, {"event": "end", "record": found, "reused": True})
            else:
                jobs[index] = found
                locked.enter_context(found.lock)
        if jobs:
            records |= dict(zip(jobs, work_on(list(jobs.values()), tell, threads), strict=True))
    return [records[index] for index in range(len(crew))]


def not_done(study: Study, runs_folder: Path) -> list[Run]:
    """The runs of a study that no folder says to have finished, by its name and status alone."""
    folder = runs_folder / study.name
    waiting = []
    for run in study.runs():
        name = run_id(run, resolved_toml(one_run_study(study, run)))
        records = map(store.Record, folder.glob(f"{name}*"))
        if not any(_is_over(record) for record in records):
            waiting.append(run)
    return waiting


def _is_over(record: store.Record) -> bool:
    with contextlib.suppress(LockstepError):
        return record.is_finished
    return False


class Job(NamedTuple):
    """A run, its folder and the folder's lock, which is held."""

    run: Run
    place: Path
    lock: locks.Lock


def _found(run: Run, study: Study, folder: Path, threads: contention.Threads, again: bool) -> store.Record | Job:
    """A finished run of the same content, or a folder in which this one is begun or goes on."""
    text = resolved_toml(one_run_study(study, run))
    name = run_id(run, text)
    with locks.briefly(folder):
        if not again and (done := _finished(folder, name, run, threads)):
            locks.clear(done.folder)  # a process that was killed after its last word
            checkpoints.leave_last(done.folder)
            return done
        place = None if again else _unfinished(folder, name, run, threads)
        place = place or store.claim(folder, name)
        job = Job(run, place, locks.take(place))
    with contextlib.suppress(LockstepError):
        if (done := store.Record(place)).is_finished:  # by another process, in between
            job.lock.__exit__()
            return done
    try:
        if not (place / "spec.toml").exists():
            store.write_bytes(place / "spec.toml", text.encode())
    except BaseException:
        job.lock.__exit__()
        raise
    return job


def work_on(jobs: Sequence[Job], tell: Tell, threads: contention.Threads) -> list[store.Record]:
    """Do a run, or some together, or go on where they were left; a failure is a record too."""
    threads = threads.again(_threads_before(jobs[0].place))
    for job in jobs:
        store.write_status(job.place, "running", threads=threads.asked)
        tell(job.run, {"event": "start", "folder": str(job.place), "asked": threads.asked, "threads": threads.taken})
    try:
        backend = jobs[0].run.backend
        if reason := backends.why_missing(backend):
            hint = f"pip install 'lockstep-nn[{backends.BACKENDS[backend][3]}]'"
            raise LockstepError("LS-401", reason, where=_("backend {name}", name=backend), hint=hint)
        if len(jobs) == 1:
            work(jobs[0].run, jobs[0].place, tell, threads.taken, lock=jobs[0].lock)
        else:
            work_together(jobs, tell, threads.taken)
    except LockstepError as error:
        for job in jobs:
            if len(jobs) == 1 or store.read_status(job.place)["status"] == "running":
                store.write_status(job.place, "failed", error.code, error.text)
    records = [store.Record(job.place) for job in jobs]
    for job, record in zip(jobs, records, strict=True):
        tell(job.run, {"event": "end", "record": record, "reused": False})
    return records


def _threads_before(place: Path) -> dict[str, Any] | None:
    """The threads of a run that has begun in a folder."""
    with contextlib.suppress(LockstepError, KeyError, TypeError):
        return dict(store.Record(place).environment["threads"])
    return None


def one_run_study(study: Study, run: Run) -> Study:
    """The study that consists of this run alone: what spec.toml holds."""
    return changed(
        study, networks={run.network_name: run.network}, dataset=(run.dataset,), backends=(run.backend,),
        seeds=(run.seed,), dtype=(run.dtype,), recipe=run.recipe, grid={}, recipe_for={}, format=run.format,
    )  # fmt: skip


def run_id(run: Run, text: str) -> str:
    """A name to read and a hash of everything that the run is."""
    dataset = re.sub(r"[^A-Za-z0-9]+", "-", Path(run.dataset).stem)[:24].strip("-")
    parts = [run.network_name, dataset, run.backend, f"seed{run.seed}"] + [run.dtype] * (run.dtype != "float32")
    return "-".join([*parts, store.spec_hash(text)])


def _finished(folder: Path, name: str, run: Run, threads: contention.Threads) -> store.Record | None:
    """The newest run of this content that is whole and would come out the same today, if there is one."""
    for place in sorted(folder.glob(f"{name}*"), key=store.natural, reverse=True):
        record = store.Record(place)
        with contextlib.suppress(LockstepError, KeyError, TypeError, AttributeError):  # damaged: it is done anew
            if not record.is_finished or not record.spec or not record.metrics["test"] or not record.timing["seconds"]:
                continue
            if run_id(run, store.read_spec(place)) != name:
                continue
            store.check_manifest(place)
            if not changes_since(record, run, threads):
                return record
    return None


def _unfinished(folder: Path, name: str, run: Run, threads: contention.Threads) -> Path | None:
    """The newest run of this content that was ended on its way and can go on as if nothing had happened.

    One that failed by itself before its first epoch was saved cannot: what it left tells why. Raises LockstepError
    (LS-504) where another process works on such a run.
    """
    for place in sorted(folder.glob(f"{name}*"), key=store.natural, reverse=True):
        if locks.is_held(place):
            locks.take(place).__exit__()  # raises, or it was given back just now
        if _is_blank(place, name):
            return place
        with contextlib.suppress(LockstepError, OSError, KeyError, TypeError, AttributeError):
            record = store.Record(place)
            if run_id(run, store.read_spec(place)) != name:
                continue
            if store.holds_results(place) and not checkpoints.can_be_gone_on_from(place):
                continue  # it would begin anew over them
            has_begun = (place / "environment.json").exists()
            if was_interrupted(record) and not (has_begun and changes_since(record, run, threads)):
                return place
    return None


BLANK = {"spec.toml", locks.NAME}


def _is_blank(place: Path, name: str) -> bool:
    """Whether a run of this name got a folder and was ended before it could say that it begins."""
    if not re.fullmatch(rf"{re.escape(name)}(-\d+)?", place.name) or not place.is_dir():
        return False
    half_written = (".spec.toml.", ".status.json.")
    return all(path.name in BLANK or path.name.startswith(half_written) for path in place.iterdir())


WANT = ("LS-501", "LS-502", "LS-503")  # of a folder, of room, of memory: the run itself is not to blame


def was_interrupted(record: store.Record) -> bool:
    """Whether a run was ended from outside, want of room included, or came to grief with some of it saved."""
    has_begun = bool(checkpoints.find(record.folder))
    try:
        status, code = record.status.get("status"), str(record.status.get("code"))
    except LockstepError:  # a status that cannot be read says nothing; checkpoints do, but for a run that had ended
        return has_begun and not store.holds_results(record.folder)
    outside = record.status.get("reason") == store.INTERRUPTED or code in WANT
    return status == "running" or (status == "failed" and (outside or has_begun))


def changes_since(record: store.Record, run: Run, threads: contention.Threads) -> list[str]:
    """What has changed since a run was begun, so that it might come out with other bits today: "python: 3.11 → 3.12".

    Raises LockstepError (LS-3…, LS-505) and KeyError where the data or the record cannot be read.
    """
    before = record.environment
    now: dict[str, Any] = {"lockstep": version(), "versions": backends.versions(run.backend)}
    machine = timing.machine()
    now |= {"cpu": machine["cpu"], "arithmetic": machine["arithmetic"]}
    now |= {"git_revision": timing.git_revision(), "python": python_version()}
    found = [f"{key}: {before[key]} → {value}" for key, value in now.items() if before[key] != value]
    # How many were free is chance; who asks for a number gets it.
    which = "obtained" if threads.is_exact and before["threads"]["asked"] == threads.asked else "asked"
    if before["threads"][which] != threads.asked:
        found.append(_("threads: {before} → {now}", before=before["threads"][which], now=threads.asked))
    if before["dataset"]["hashes"] != data.load(run.dataset, offline=True).hashes:
        found.append(_("the data of {dataset}", dataset=run.dataset))
    found += [
        _("went on with {change}", change=change) for part in before.get("resumed", ()) for change in part["changed"]
    ]
    return found


def work(
    run: Run, place: Path, tell: Tell, threads: int, lock: locks.Lock | None = None,
    module: str = "lockstep.training.worker", more: Sequence[object] = (),
) -> None:  # fmt: skip
    """One worker process from start to end, which does with the run what its module does; `more` are its arguments.

    The worker holds the lock too: it is free when both are gone. Raises LockstepError (LS-402) where it died without a
    word.
    """
    words = [module, str(place), str(threads), *map(str, more)]
    _work(words, [run], [place], tell, threads, [lock] if lock else [])


def work_together(jobs: Sequence[Job], tell: Tell, threads: int) -> None:
    """One worker process for some runs; what it says to nobody in particular stands in the first one's log."""
    places = [job.place for job in jobs]
    for place in places[1:]:
        with atomic.writing(place / "worker.log", store.HINT), open(place / "worker.log", "ab") as log:
            log.write(f"{store.now()} trained together with {places[0].name}, whose log it is\n".encode())
    words = ["lockstep.training.crew", str(threads), *map(str, places)]
    _work(words, [job.run for job in jobs], places, tell, threads, [job.lock for job in jobs])


def _work(
    words: Sequence[str], runs: Sequence[Run], places: Sequence[Path], tell: Tell, threads: int,
    held: Sequence[locks.Lock],
) -> None:  # fmt: skip
    environment = worker_environment(runs[0], threads)
    out_of_memory, pace = _ended_for_memory(), Pace()
    path = places[0] / "worker.log"
    with atomic.writing(path, store.HINT), open(path, "ab" if held else "wb") as log:
        if log.tell():
            log.write(f"\n{GOES_ON} {store.now()}\n".encode())
            log.flush()
        try:
            worker = processes.start(
                [sys.executable, "-P", "-m", *words], threads, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=log, env=environment, text=True, encoding="utf-8", errors="replace",
                **locks.inherited(held),
            )  # fmt: skip
        except OSError as error:
            hint = _("free some memory and run it again")
            what = _("no worker could be started: {why}", why=error)
            raise LockstepError("LS-503", what, where=str(places[0]), hint=hint) from error
    with worker, processes.at_work(places[0], worker):
        try:
            for line in worker.stdout or ():
                if event := _event(line, len(runs)):
                    pace.hear(event)
                    tell(runs[event.pop("run", 0)], event)
            worker.wait()
        except BaseException:
            _stop(worker, pace.patience())
            for place in places:
                with contextlib.suppress(LockstepError, KeyError):  # why it ends is more than what cannot be written
                    if store.read_status(place)["status"] == "running":
                        store.write_status(place, "failed", "LS-402", store.INTERRUPTED)
            raise
    if any(store.read_status(place)["status"] == "running" for place in places):
        raise _death(worker.returncode, places[0], _ended_for_memory() > out_of_memory)


GOES_ON = "---- another process goes on with this run:"

# What a framework says about itself at start-up is no news, and nothing may go out to the network. Which device is
# taken is for the study to say: JAX is told nothing, and so finds every one that is there.
QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "2", "KERAS_BACKEND": "tensorflow", "JAX_PLATFORMS": "", "JAX_PLATFORM_NAME": "",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip


def worker_environment(run: Run, threads: int) -> dict[str, str]:
    """The variables that a worker of a run or of a proof gets."""
    device = {"JAX_PLATFORMS": "cpu"} if run.device == "cpu" else {}  # no GPU is started that nobody asks for
    return {**os.environ, **contention.waiting(), **timing.thread_environment(run.backend, threads), **QUIET, **device}


def _event(line: str, n_runs: int) -> dict[str, Any] | None:
    """A line of the worker's as an event of one of its runs; what some library printed instead is none."""
    with contextlib.suppress(ValueError):
        event = store.restored(json.loads(line))
        is_one = isinstance(event, dict) and "event" in event and event.get("run", 0) in range(n_runs)
        return event if is_one else None
    return None


class Pace:
    """How long a worker that is asked to end may take to save the epoch under way."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self.since, self.took = time.monotonic(), 0.0
        self.heard: dict[int, float] = {}  # when each run was heard of last, where there are several

    def hear(self, event: dict[str, Any]) -> None:
        """Take one event of a run."""
        now, run = time.monotonic(), event.get("run", 0)
        self.took = now - self.heard.get(run, self.since) if event["event"] == "epoch" else 0.0
        self.since = self.heard[run] = now

    def patience(self) -> float:
        """Seconds: none where the epoch cannot be over in time, to go by the one before."""
        return 0.0 if self.took - (time.monotonic() - self.since) > GRACE_SECONDS else GRACE_SECONDS


GRACE_SECONDS = 4.0


def _stop(worker: subprocess.Popen[str], seconds: float) -> None:
    """Ask a worker to end, and see to it after so long; at once where somebody interrupts this too."""
    worker.terminate()
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.wait(timeout=seconds)
    finally:
        worker.kill()
        worker.wait()


def _ended_for_memory() -> int:
    """How many processes the system has ended because memory ran out (Linux; elsewhere none that is known of)."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


FREE_MEMORY = mark("free some memory, or take a smaller network, batch or dataset")
LAST_LINES = 40  # NumPy says at length what may be wrong where a library cannot be loaded, the reason among it
LAST_BYTES = 2**16  # of a log, in which its last words are looked for


def _death(code: int, place: Path, out_of_memory: bool = False) -> LockstepError:
    """How a worker ended that could not say so itself."""
    log = place / "worker.log"
    with open(log, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - LAST_BYTES, 0))
        text = file.read(LAST_BYTES).decode("utf-8", errors="replace")
    text = text.rpartition(GOES_ON)[2].partition("\n")[2] if GOES_ON in text else text
    lines = [line for line in text.splitlines() if line.strip()]
    last, hint = lines[-3:], _("see {file}", file=log)
    if code > 0 and (told := [line.strip() for line in lines[-LAST_LINES:] if says_want_of_memory(line)]):
        why = _("not enough memory: {why}", why=told[-1][:300])
        return LockstepError("LS-503", why, where=str(place), hint=_(FREE_MEMORY))
    if code == -signal.SIGKILL and out_of_memory:
        hint = _(FREE_MEMORY)
        return LockstepError("LS-503", _("the system ended it because memory ran out"), where=str(place), hint=hint)
    if code < 0:
        with contextlib.suppress(ValueError):
            cause = _("it was ended by signal {name}", name=signal.Signals(-code).name)
            if code == -signal.SIGKILL:
                cause = _("{cause} (as the system does when memory runs out)", cause=cause)
            return LockstepError("LS-402", cause, where=str(place), hint=hint)
    message = _("it ended with exit code {code}", code=code)
    if last:
        message = _("{ended}; it last said: {words}", ended=message, words=" | ".join(last))
    return LockstepError("LS-402", message, where=str(place), hint=hint)
