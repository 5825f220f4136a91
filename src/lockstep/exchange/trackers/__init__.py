"""Finished runs in the trackers that people use: read from their folders, after training and beside it.

What a tracker is given is decided here, as plain data: parameters, one number an epoch, what came out, a few images. A
program without Lockstep writes it by the tracker's own library and reads it back; a number that came out another fails
the export. A run is known again by the name of its folder and the digest of its files: written once, it is left alone.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lockstep import store
from lockstep.errors import LockstepError, did_you_mean
from lockstep.language import joined, later
from lockstep.machine import alone

SECONDS = 600  # that a tracker may take for all runs
PROGRAMS = Path(__file__).parent / "programs"
Tell = Callable[[str], None]


class Tracker(NamedTuple):
    """A tracker: the modules that it needs, the extra that brings them, where it is written and by what program."""

    title: str
    modules: tuple[str, ...]
    extra: str
    place: str
    program: str


TRACKERS = {
    "tensorboard": Tracker("TensorBoard", ("tensorboardX",), "tensorboard", "tensorboard", "tensorboard"),
    "mlflow": Tracker("MLflow", ("mlflow", "sqlalchemy"), "mlflow", "mlflow.db", "mlflow"),
    "wandb": Tracker("Weights & Biases", ("wandb",), "wandb", ".", "wandb"),
    "trackio": Tracker("trackio", ("trackio",), "trackio", "trackio", "wandb"),
}


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export did: the runs that were written, and those that were there."""

    tracker: str
    place: Path
    written: tuple[str, ...]
    unchanged: tuple[str, ...]


def tracker(name: str) -> Tracker:
    """A tracker by its name; raises LockstepError: LS-209 (no such), LS-401 (not installed)."""
    if name not in TRACKERS:
        hint = did_you_mean(name, TRACKERS)
        raise LockstepError("LS-209", later('there is no tracker "{name}"', name=name), where="--to", hint=hint)
    found = TRACKERS[name]
    if absent := [module for module in found.modules if importlib.util.find_spec(module) is None]:
        reason = later("{modules} not installed", modules=joined(absent, later(" and ")))
        raise LockstepError("LS-401", reason, where=f"--to {name}", hint=f"pip install 'lockstep-nn[{found.extra}]'")
    return found


def export(
    records: Iterable[store.Record], name: str, out: Path | None = None, tell: Tell = lambda what: None
) -> Exported:  # fmt: skip
    """Write the finished ones of these runs into a tracker's store, those that are not there yet.

    Raises LockstepError as `tracker`; LS-505 where a run is damaged or none is finished, LS-402 and LS-403 where the
    tracker's library fails or gives back another number.
    """
    into = tracker(name)
    finished = [record for record in records if record.is_finished]
    if not finished:
        message, hint = later("none of these runs is finished"), later("run them, or name others")
        raise LockstepError("LS-505", message, where=f"--to {name}", hint=hint)
    target = (out or Path(into.place)).absolute()
    tell(later("{tracker}: {n} runs into {place}", tracker=into.title, n=len(finished), place=target))
    with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
        place = Path(folder)
        rows = [row(record) for record in finished]
        (place / "runs.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        np.savez(place / "images.npz", **{f"{n}": images(record) for n, record in enumerate(finished)})  # type: ignore[arg-type]
        alone.run(PROGRAMS / f"to_{into.program}.py", (place, target, name), "numpy", place, SECONDS)
        done = store.read_json(place / "done.json")
    return Exported(name, target, tuple(done["written"]), tuple(done["unchanged"]))


def row(record: store.Record) -> dict[str, Any]:
    """A run as a tracker is given it; raises LockstepError (LS-505) where its files are not what was written."""
    store.check_manifest(record.folder)
    manifest = store.read_json(record.folder / "manifest.json")
    began, ended = (_seconds(record.status[name]) for name in ("started", "finished"))
    history = record.history
    steps = [began + (ended - began) * (epoch + 1) / len(history) for epoch in range(len(history))]
    numbers = {
        "test/accuracy": record.test_accuracy, "test/loss": record.test_loss, "parameters": record.parameters,
        "seconds_per_epoch": record.seconds_per_epoch, "peak_memory_bytes": record.peak_memory_bytes,
    }  # fmt: skip
    return {
        "name": record.folder.name, "study": str(record.spec.get("name") or record.folder.parent.name),
        "question": str(record.spec.get("question") or ""), "digest": digest(manifest), "began": began, "ended": ended,
        "parameters": parameters(record), "series": series(history), "times": steps,
        "numbers": {name: value for name, value in numbers.items() if value is not None},
        "classes": list(record.environment["dataset"].get("class_names", ())), "captions": captions(record),
    }  # fmt: skip


def digest(manifest: Mapping[str, Any]) -> str:
    """By which a run's files are known again: all of them, its times too."""
    return store.spec_hash(json.dumps(manifest["files"], sort_keys=True))


def parameters(record: store.Record) -> dict[str, Any]:
    """What the run is, as flat keys: its coordinates and the recipe."""
    found: dict[str, Any] = {
        name: getattr(record, name) for name in ("network", "backend", "dataset", "dtype", "seed")
    }  # fmt: skip
    return found | dict(_flat(record.recipe, "recipe."))


def _flat(table: Mapping[str, Any], lead: str) -> Iterable[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value if isinstance(value, str | int | float) else json.dumps(value)


def series(history: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """One number for each epoch, by name: "train/loss", "test/accuracy" …"""
    names = dict.fromkeys(
        name for epoch in history for name, value in epoch.items() if isinstance(value, float) and name != "epoch"
    )
    return {_slashed(name): [epoch.get(name) for epoch in history] for name in names}


def _slashed(name: str) -> str:
    """As trackers group them: train_loss → train/loss."""
    head, _, tail = name.rpartition("_")
    return f"{head}/{tail}" if tail in ("loss", "accuracy") else name


def images(record: store.Record) -> np.ndarray:
    """The first test images, uint8 (n, height, width, channels)."""
    return record.arrays("samples")["images"]


def captions(record: store.Record) -> list[str]:
    """What each of these images is, and what it was taken for."""
    labels, logits = (record.arrays("predictions")[name] for name in ("labels", "logits"))
    names = record.environment["dataset"].get("class_names", ()) or [str(n) for n in range(logits.shape[1])]
    shown = len(images(record))
    return [
        f"{names[label]} → {names[found]}"
        for label, found in zip(labels[:shown], logits[:shown].argmax(1), strict=True)
    ]


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
