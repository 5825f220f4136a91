"""Where a run goes on after it was ended: what is saved after every epoch, and which of it can be used.

Order, masks, augmentation and learning rates are functions of (seed, epoch, step), so there is no random stream whose
place would have to be kept. A checkpoint holds everything else, early stopping's best weights among it: each is enough
by itself, and what is wrong with one costs one epoch. A checkpoint is believed when its manifest carries its own hash,
names this run and the hash of every file; else it is left as it is, said aloud, and the one before is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import store
from lockstep.backends.contract import Trainable
from lockstep.errors import LockstepError, without
from lockstep.files import intake
from lockstep.language import later
from lockstep.machine import memory
from lockstep.machine.clocks import Clocks

Arrays = dict[str, np.ndarray]
KEPT = 2  # the newest ones that stay; beside them the best one, where early stopping looks for one
STEPS = ("loss", "correct", "examples")
# What of environment.json decides whether the same steps give the same bits.
DECIDES = ("lockstep", "git_revision", "python", "versions", "platform", "cpu", "arithmetic", "device", "threads")


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds) and isinstance(value, bool) == (bool in kinds)


_NUMBER, _TABLE = _is(int, float), _is(dict)
SOUND: dict[str, Callable[[Any], bool]] = {  # what a manifest must say to be gone on from
    "epoch": lambda value: _is(int)(value) and 0 < value < 10**6,
    "history": lambda value: isinstance(value, list) and all(map(_TABLE, value)),
    "spec": _is(str),
    "data": _TABLE,
    "environment": lambda value: _TABLE(value) and {*DECIDES} - {"arithmetic"} <= value.keys(),  # which came later
    "best_epoch": lambda value: value is None or (_is(int)(value) and value > 0),
    "best": lambda value: value is None or _NUMBER(value),
    "keeps_best": _is(bool),
    "seconds": lambda value: _TABLE(value) and all(map(_NUMBER, value.values())),
    "peak_memory_bytes": lambda value: value is None or _is(int)(value),
    "parts": lambda value: _is(int)(value) and value > 0,
}


@dataclasses.dataclass
class Progress:
    """A run after so many epochs, one a row of `history`.

    `steps` (3, n) float64: loss, correct answers and examples of each update. `best` is the value of `best_epoch`, the
    higher the better, and `kept` its weights and state, where early stopping goes back to them. `seconds` by clock and
    `peak_memory_bytes` are those of all processes that had a part in it, `parts` how many these were.
    """

    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    steps: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((len(STEPS), 0)))
    best_epoch: int | None = None
    best: float = -math.inf
    kept: tuple[Arrays, Arrays] | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    peak_memory_bytes: int | None = None
    parts: int = 1

    @property
    def epoch(self) -> int:
        return len(self.history)


@dataclasses.dataclass(frozen=True)
class Point:
    """A checkpoint that can be used: where the run was, with its weights and state."""

    progress: Progress
    weights: Arrays
    state: Arrays
    environment: dict[str, Any]


# ------------------------------------------------------------------------------------------------------------- writing


def save(folder: Path, spec: str, environment: Mapping[str, Any], progress: Progress, weights: Any, state: Any) -> Path:
    """Write the checkpoint of this epoch into a run's folder and read it back.

    Raises LockstepError (LS-501, LS-502), also where what is read back is not what was written.
    """
    more = {"steps": dict(zip(STEPS, progress.steps, strict=True))}
    if progress.kept is not None and progress.best_epoch != progress.epoch:
        more |= {"best-weights": progress.kept[0], "best-state": progress.kept[1]}
    facts = {
        "spec": spec, "data": environment["dataset"]["hashes"],
        "environment": {key: environment[key] for key in DECIDES},
        "best_epoch": progress.best_epoch, "best": progress.best, "keeps_best": progress.kept is not None,
        "seconds": progress.seconds, "peak_memory_bytes": progress.peak_memory_bytes, "parts": progress.parts,
        "history": progress.history,
    }  # fmt: skip
    try:
        return store.write_checkpoint(folder, progress.epoch, weights, state, more, facts)
    except LockstepError:
        remove(folder / f"checkpoint-{progress.epoch}")  # on a full disk this makes room to say what happened
        raise


def remove(folder: Path) -> None:
    """Remove a checkpoint; its manifest goes first, so that no half of it is ever taken for a whole one.

    A link is left: what it leads to is somebody else's.
    """
    if folder.is_symlink():
        return
    with contextlib.suppress(OSError):  # what cannot be removed does no harm
        (folder / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(folder)


def leave_last(folder: Path) -> None:
    """Remove every checkpoint of a finished run but the one that it ended with: it goes on from none.

    metrics.json says which that is; where that one is not there, all stay.
    """
    with contextlib.suppress(LockstepError, OSError, KeyError, TypeError, ValueError):
        last = folder / f"checkpoint-{store.read_json(folder / 'metrics.json')['weights_of_epoch']:d}"
        if (last / "manifest.json").exists():
            for other in find(folder):
                if other != last:
                    remove(other)


def remove_strays(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote; for whoever holds the run's lock."""
    for path in [*folder.glob(".*.part"), *folder.glob("checkpoint-*/.*.part")]:
        with contextlib.suppress(OSError):
            path.unlink()


# ------------------------------------------------------------------------------------------------------------- reading


find = store.find_checkpoints


def read(folder: Path, spec: str) -> Point:
    """A checkpoint of the run with this spec.toml.

    Raises LockstepError: LS-505 for one that is damaged or cannot be gone on from, LS-506 for another run's.
    """
    manifest = store.read_checkpoint_manifest(folder)
    if "history" not in manifest:
        raise store.damaged(folder, later("it holds weights alone, to read and not to go on from"))
    for key, is_right in SOUND.items():
        if key not in manifest or not is_right(manifest[key]):
            raise store.damaged(folder / "manifest.json", later('"{key}" is missing or wrong', key=key))
    if manifest["spec"] != spec and store.as_written(manifest["spec"]) != store.as_written(spec):
        what = "; ".join(differences(manifest["spec"], spec)) or later("its text")
        hint = later("put the file back as it was, or run the study anew with lockstep run")
        message = later("it is of a run with another spec.toml: {what}", what=what)
        raise LockstepError("LS-506", message, where=str(folder), hint=hint)
    if [row.get("epoch") for row in manifest["history"]] != list(range(1, manifest["epoch"] + 1)):
        raise store.damaged(folder / "manifest.json", later("its history is not that of its epochs"))
    try:
        files = {name: store.read_checkpoint_file(folder, name, manifest) for name in ("weights", "state", "steps")}
        if {(name, files["steps"][name].ndim) for name in files["steps"]} != {(name, 1) for name in STEPS} or (
            len({len(values) for values in files["steps"].values()}) != 1
        ):
            raise store.damaged(
                folder / "steps.safetensors",
                later("it does not hold {names} of the same steps", names=", ".join(STEPS)),
            )
        kept = None
        if manifest["keeps_best"]:
            kept = (files["weights"], files["state"])
            if manifest["best_epoch"] != manifest["epoch"]:
                best = [store.read_checkpoint_file(folder, f"best-{name}", manifest) for name in ("weights", "state")]
                kept = (best[0], best[1])
        progress = Progress(
            manifest["history"], np.stack([files["steps"][name] for name in STEPS]), manifest["best_epoch"],
            -math.inf if manifest["best"] is None else manifest["best"], kept, manifest["seconds"],
            manifest["peak_memory_bytes"], manifest["parts"],
        )  # fmt: skip
        return Point(progress, files["weights"], files["state"], {**manifest["environment"], "data": manifest["data"]})
    except (KeyError, TypeError, ValueError) as error:  # sealed, and yet not what this version writes
        raise store.damaged(folder / "manifest.json", later("it lacks or garbles {error}", error=error)) from error


def newest(folder: Path, spec: str, warn: Callable[[str], None] = lambda message: None) -> Point | None:
    """The newest checkpoint that can be used; None where there is none, and the run has to begin anew.

    `warn` hears of each that is skipped. Raises LockstepError (LS-506) where all that is left is of another run.
    """
    of_others = None
    for place in find(folder):
        if not (place / "manifest.json").exists():
            warn(later("{name} is not used: it is half written", name=place.name))
            continue
        try:
            return read(place, spec)
        except LockstepError as error:
            of_others = of_others or (error if error.code == "LS-506" else None)
            problem = error.problems[0]
            where = problem.where.removeprefix(f"{folder}/")
            why = without(problem.message, store.UNUSABLE)
            warn(later("{name} is not used: {where}: {why}", name=place.name, where=where, why=why))
    if of_others is not None:
        raise of_others
    return None


def can_be_gone_on_from(folder: Path) -> bool:
    """Whether a run's folder has a checkpoint that can be used, so that it need not begin anew."""
    with contextlib.suppress(LockstepError):
        return newest(folder, store.read_spec(folder)) is not None
    return False


def _assert_fit(place: Path, found: Mapping[str, Any], wanted: Mapping[str, Any], all_of_them: bool) -> None:
    """Raise LockstepError (LS-505) where arrays have other names or shapes than the model's."""
    shapes = [{name: np.shape(value) for name, value in arrays.items()} for arrays in (found, wanted)]
    names = shapes[0].keys() | shapes[1].keys() if all_of_them else shapes[0].keys() & shapes[1].keys()
    if wrong := sorted(name for name in names if shapes[0].get(name) != shapes[1].get(name)):
        message = later(
            "{name} is {found}, the network's {wanted}",
            name=wrong[0],
            found=shapes[0].get(wrong[0]),
            wanted=shapes[1].get(wrong[0]),
        )
        raise store.damaged(place, message)


def differences(before: str, now: str) -> list[str]:
    """What two spec.toml differ in, one sentence a key: "recipe.epochs: 3 → 5"; names and questions are no content.

    >>> differences("recipe.epochs = 3", "recipe.epochs = 5")
    ['recipe.epochs: 3 → 5']
    """
    try:
        tables = [intake.toml(text) for text in (before, now)]
        one, two = ({"format": 1, **_flat(table)} if "networks" in table else _flat(table) for table in tables)
    except (ValueError, RecursionError):
        return []
    keys = [key for key in {**one, **two} if key not in ("name", "question") and one.get(key) != two.get(key)]
    return [f"{key}: {_short(one.get(key))} → {_short(two.get(key))}" for key in keys]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, list) and len(value) > 1:
            value = {f"[{place}]": item for place, item in enumerate(value)}
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return {key.replace(".[", "["): value for key, value in found.items()}


def _short(value: Any) -> str:
    text = "nothing" if value is None else f"{value[0]}" if isinstance(value, list) and len(value) == 1 else f"{value}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _deciding(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the bits; of the threads how many there are, and not which libraries have been asked by now."""
    threads = environment.get("threads") or {}
    found = {key: environment.get(key) for key in DECIDES}
    return found | {"threads": {key: threads.get(key) for key in ("asked", "obtained")}}


# --------------------------------------------------------------------------------------------------------- in a worker


class Keeper:
    """Saves a run after every epoch, and finds where an earlier process left off."""

    def __init__(self, folder: Path, environment: Mapping[str, Any]) -> None:
        """Find the newest checkpoint that can be used, and clear away what a killed process left half written.

        Raises LockstepError (LS-506) where the spec or the data are no longer those that the run was begun with.
        """
        self.folder, self.environment = folder, dict(environment)
        self.spec = store.read_spec(folder)
        self.warnings: list[str] = []
        remove_strays(folder)
        self.was_begun = (folder / "events.jsonl").exists()
        self.peak = 0
        self.note_peak()
        point = newest(folder, self.spec, self.warnings.append)
        self.before = point.environment if point else None
        self.progress = point.progress if point else Progress()
        self.written: list[Path] = []
        if not self.before and not store.is_as_begun(folder, self.spec):
            message = later("its spec.toml is no longer what it was begun with")
            hint = later("put the file back as it was, or run the study anew with lockstep run")
            raise LockstepError("LS-506", message, where=str(folder), hint=hint)
        if self.before:
            self._refuse_other_data(self.before["data"])
            self.written = [folder / f"checkpoint-{self.progress.epoch}"]
            self.peak = max(self.peak, self.progress.peak_memory_bytes or 0)
            self.progress.parts += 1
        self.earlier = dict(self.progress.seconds)
        del point
        memory.forget_peak_memory()

    def _refuse_other_data(self, before: Mapping[str, str]) -> None:
        now = self.environment["dataset"]["hashes"]
        if before == now:
            return
        name = self.environment["dataset"]["name"]
        what = ", ".join(sorted(key for key in {**before, **now} if before.get(key) != now.get(key)))
        message = later("the dataset {name} is no longer what the run was begun with: {what}", name=name, what=what)
        hint = later("put the data back as they were, or run the study anew with lockstep run")
        raise LockstepError("LS-506", message, where=str(self.folder), hint=hint)

    def changes(self) -> list[str]:
        """What is no longer as it was before, and may change the last bits: "threads.asked: 2 → 1"."""
        if self.before is None:
            return []
        one, two = _flat(_deciding(self.before)), _flat(_deciding(self.environment))
        return [
            f"{key}: {_short(one.get(key))} → {_short(two.get(key))}"
            for key in {**one, **two}
            if one.get(key) != two.get(key)
        ]

    def announce(self) -> dict[str, Any] | None:
        """The event that says where the run goes on and what is lost; None for one that begins.

        The rows of history that are lost are taken out of events.jsonl: their epochs are taken again.
        """
        if not self.was_begun:
            return None
        path = self.folder / "events.jsonl"
        events = store.read_events(path)
        told = {event.get("epoch") for event in events if event.get("event") == "epoch"}
        lost = sorted(epoch for epoch in told if isinstance(epoch, int) and epoch > self.progress.epoch)
        kept = [event for event in events if event.get("event") != "epoch"]
        lines = [store.as_line(event) for event in [*self.progress.history, *kept]]
        store.write_bytes(path, "".join(lines).encode(errors="replace"))
        return {
            "event": "resumed", "epoch": self.progress.epoch, "part": self.progress.parts, "lost": lost,
            "warnings": self.warnings, "changed": self.changes(),
        }  # fmt: skip

    def described(self) -> dict[str, Any]:
        """environment.json: what the run was begun with, and with what each later part went on, under "resumed"."""
        path = self.folder / "environment.json"
        if self.before is None:
            return self.environment
        lost: list[str] = []
        try:
            begun = store.read_json(path)
        except LockstepError as error:
            self.warnings.append(
                later("environment.json is written anew: {message}", message=error.problems[0].message)
            )
            begun = {**self.environment, **{key: self.before.get(key) for key in DECIDES}}
            lost = ["environment.json: damaged → written anew"]  # and with it what had changed before
        row = {"after_epoch": self.progress.epoch, "at": store.now(), "changed": [*self.changes(), *lost]}
        row |= {key: self.environment[key] for key in (*DECIDES, "load", "trained_together") if key in self.environment}
        earlier = begun.get("resumed")
        return {**begun, "resumed": [*(earlier if isinstance(earlier, list) else []), row]}

    def resume(self, model: Trainable, clocks: Clocks) -> None:
        """Put the model and the clocks to where they stood; nothing for a run that begins."""
        if self.before is None:
            return
        self.note_peak()
        point = read(self.written[-1], self.spec)
        _assert_fit(self.written[-1], point.weights, model.weights(), all_of_them=True)
        _assert_fit(self.written[-1], point.state, model.state(), all_of_them=False)
        model.restore(point.weights, point.state)
        model.wait()
        del point
        memory.forget_peak_memory()
        for name, seconds in self.earlier.items():
            if name == "total":
                clocks.start -= seconds
            else:
                clocks.seconds[name] = clocks.seconds.get(name, 0.0) + seconds

    def save(self, model: Trainable, clocks: Clocks) -> None:
        """Save the run as it stands in `progress`, then let go of what is no longer needed.

        What this takes is on a clock of its own, and the memory it takes is not counted as the framework's.
        """
        self.note_peak()
        with clocks.measure("checkpoint"):
            self.progress.seconds = {**clocks.seconds, "total": clocks.total()}
            self.progress.peak_memory_bytes = self.peak or None
            weights, state = model.weights(), model.state()
            place = save(self.folder, self.spec, self.environment, self.progress, weights, state)
            store.keep_frame(self.folder, self.progress.epoch, weights, state)
            self.written = [path for path in self.written if path != place] + [place]
            self._remove_all_but([*self.written[-KEPT:], self._best()])
        memory.forget_peak_memory()

    def note_peak(self) -> None:
        """Take note of the most memory held since the last checkpoint."""
        self.peak = max(self.peak, memory.peak_memory_bytes() or 0)

    def _best(self) -> Path:
        return self.folder / f"checkpoint-{self.progress.best_epoch}"

    def _remove_all_but(self, kept: list[Path]) -> None:
        """Remove earlier checkpoints; a damaged one of a later epoch stays until that epoch is saved again."""
        ours = store.natural(self.written[-1])
        for place in find(self.folder):
            if place not in kept and store.natural(place) < ours:
                remove(place)
        self.written = [place for place in self.written if place in kept]

    def finish(self, epoch: int, model: Trainable) -> Path:
        """The checkpoint of the epoch whose weights a run ends with, which the model has; whole, or written anew.

        One that was read back when it was written, and that the system cannot read now, stays: nothing says that it is
        damaged, and a whole one must not be given up for one that may not come to be.
        """
        place = self.folder / f"checkpoint-{epoch}"
        try:
            read(place, self.spec)
            return place
        except LockstepError as error:
            why = error.__cause__
            if place in self.written and isinstance(why, OSError) and not isinstance(why, FileNotFoundError):
                return place
        n = self.progress.steps.shape[1] // max(self.progress.epoch, 1) * epoch
        then = dataclasses.replace(
            self.progress, history=self.progress.history[:epoch], steps=self.progress.steps[:, :n]
        )
        return save(self.folder, self.spec, self.environment, then, model.weights(), model.state())
