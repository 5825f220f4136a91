"""What a run folder says twice must be the same: whoever edits one place forgets the others.

    spec.toml         the checkpoint's own copy of it, and the hash in the folder's name
    events.jsonl      the checkpoint's history; steps.npz (each epoch's means); timing.json (each epoch's seconds);
                      the learning rate that the recipe gives; the best epoch by the rule of early stopping
    steps.npz         the checkpoint's steps
    environment.json  what the checkpoint was written under, the data, the split, status.json's threads
    metrics.json      epochs, best epoch and whose weights were kept, from history and recipe; the network's table
    timing.json       what the checkpoint's clocks had come to

Nothing here needs more than the folder itself, but for the data's part, which needs the dataset.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

import numpy as np

from lockstep import data as datasets
from lockstep import store, study
from lockstep.backends.mistakes import plan_of
from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.spec import Run
from lockstep.training import checkpoints, early_stopping, inputs, loop, metrics

CLOSE = 1e-9  # relative: the same float64 arithmetic in another order


def spec(record: store.Record, run: Run) -> Iterator[str]:
    """Check that the folder's name ends with the hash of its spec.toml; a renamed folder proves nothing."""
    text = store.read_spec(record.folder)
    wanted = study.run_id(run, text)
    stem = wanted.rpartition("-")[0]
    if record.folder.name.startswith(f"{stem}-") and not store.is_as_begun(record.folder, text):
        yield later("spec.toml: the folder's name is that of another one")


def checkpoint(record: store.Record, quality: Mapping[str, Any]) -> Iterator[str]:
    """What the last checkpoint keeps of the run, against the run's own files."""
    folder = store.newest_checkpoint(record.folder)
    if folder is None:  # a missing checkpoint is reported where its weights are needed
        return
    manifest = store.read_checkpoint_manifest(folder)
    epoch = manifest.get("epoch")
    if quality.get("weights_of_epoch") is not None and quality.get("weights_of_epoch") != epoch:
        facts = {"told": shown(quality["weights_of_epoch"]), "epoch": shown(epoch)}
        yield later("metrics.json: weights_of_epoch is {told}, the checkpoint is that of epoch {epoch}", **facts)
    if "history" not in manifest:  # written before 0.2: the checkpoint holds weights alone
        return
    name = folder.name
    if store.as_written(manifest["spec"]) != store.read_spec(record.folder):
        changes = checkpoints.differences(store.as_written(manifest["spec"]), store.read_spec(record.folder))
        yield later(
            "spec.toml: {name} is of another one: {what}", name=name, what="; ".join(changes) or later("its text")
        )
    yield from _history(record.history, manifest["history"], name)
    yield from _steps(record.arrays("steps"), store.read_checkpoint_file(folder, "steps", manifest), name)
    yield from _environment(record.environment, manifest, name)
    for key in ("best_epoch",):
        if epoch == len(record.history) and manifest.get(key) != quality.get(key):
            yield from same(f"metrics.json: {key}", quality.get(key), manifest.get(key))
    yield from _clocks(record.timing, manifest, name)


def _history(told: list[dict[str, Any]], kept: list[dict[str, Any]], name: str) -> Iterator[str]:
    for row, own in zip(told, kept, strict=False):
        for key in {**own, **row}:
            if row.get(key) != own.get(key):
                facts = {"epoch": shown(own.get("epoch")), "key": key, "told": shown(row.get(key)), "name": name}
                facts["kept"] = shown(own.get(key))
                yield later("events.jsonl: epoch {epoch}.{key}: it says {told}, {name} says {kept}", **facts)
    if len(told) < len(kept):
        yield later("events.jsonl: {n} epochs are told, {name} has {kept}", n=len(told), name=name, kept=len(kept))


def _steps(told: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray], name: str) -> Iterator[str]:
    for key, values in kept.items():
        own = told.get(key, np.zeros(0))
        if not np.array_equal(own[: len(values)], values, equal_nan=True):
            n = min(len(own), len(values))
            wrong = int((~np.equal(own[:n], values[:n])).sum()) + len(values) - n
            facts = {"key": key, "n": wrong, "all": len(values), "name": name}
            yield later("steps.npz: {key}: {n:,} of {all:,} steps are not those of {name}", **facts)


def _environment(environment: Mapping[str, Any], manifest: Mapping[str, Any], name: str) -> Iterator[str]:
    """The checkpoint was written under what the run was begun with, or what a later part of it went on with."""
    resumed = environment.get("resumed")
    parts = [environment, *(part for part in resumed or () if isinstance(part, dict))]
    own = manifest.get("environment") or {}
    differing = [
        [key for key, value in own.items() if key in part and part[key] != value and key != "threads"] for part in parts
    ]
    if all(differing):
        yield later("environment.json: {name} was written with other {keys}", name=name, keys=", ".join(differing[0]))
    hashes = environment.get("dataset", {}).get("hashes")
    if manifest.get("data") != hashes:
        yield later("environment.json: {name} was written with other data", name=name)


def _clocks(timing: Mapping[str, Any], manifest: Mapping[str, Any], name: str) -> Iterator[str]:
    """Check that no clock of a later part is behind the checkpoint's."""
    seconds, own = timing.get("seconds"), manifest.get("seconds")
    if not isinstance(seconds, dict) or not isinstance(own, dict):
        return
    for key, value in own.items():
        if isinstance(seconds.get(key), int | float) and seconds[key] < value * (1 - CLOSE):
            facts = {"key": key, "told": shown(seconds[key]), "name": name, "kept": shown(value)}
            yield later("timing.json: seconds.{key}: it says {told}, {name} had {kept} already", **facts)


def table(record: store.Record, run: Run, quality: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    """The network's table from the network, the history from the steps, recipe and clocks, its end from the
    predictions.
    """
    history = record.history
    shape = tuple(record.environment.get("dataset", {}).get("shape") or ())
    summary = store.finite(run.network.summary(shape))
    yield from same("metrics.json", {key: quality.get(key) for key in summary}, summary)
    told_epochs = [row.get("epoch") for row in history]
    if not history or quality.get("epochs") != len(history) or told_epochs != list(range(1, len(history) + 1)):
        counts = {"n": len(history), "told": shown(quality.get("epochs"))}
        yield later("events.jsonl: {n} epochs are told, metrics.json says {told}", **counts)
        return
    yield from _epochs(record, run, history)
    yield from _end(run, history, quality, again)
    yield from _timing(record, history)


def _epochs(record: store.Record, run: Run, history: list[dict[str, Any]]) -> Iterator[str]:
    steps = record.arrays("steps")
    try:
        losses, correct, sizes = (np.asarray(steps[key], np.float64) for key in checkpoints.STEPS)
        rows = [part.reshape(len(history), -1) for part in (losses, correct, sizes)]
    except (KeyError, ValueError):
        yield later("steps.npz: its steps are not those of so many epochs")
        return
    n_train = record.environment.get("dataset", {}).get("n_train")
    n_steps = rows[0].shape[1]
    plan = plan_of(run.network, (), run.recipe, run.seed, np.zeros(0), np.zeros(0), max(n_steps, 1))
    for row, loss, right, size in zip(history, *rows, strict=True):
        if run.recipe.mistakes == () and size.sum() != n_train:
            counts = {"epoch": row["epoch"], "n": f"{size.sum():.0f}", "all": shown(n_train)}
            yield later("steps.npz: epoch {epoch} takes {n} examples, there are {all}", **counts)
        elif run.recipe.mistakes == () and not np.array_equal(size, _sizes(int(size.sum()), run)):
            yield later("steps.npz: the batches of epoch {epoch} are not those of the recipe", epoch=row["epoch"])
        told = {key: row.get(key) for key in ("train_loss", "train_accuracy", "learning_rate")}
        wanted = {
            "train_loss": loop.mean_of_steps(loss, size, run.recipe),
            "train_accuracy": right.sum() / size.sum(),
            "learning_rate": plan.learning_rate(row["epoch"] * n_steps - 1),
        }
        yield from same(f"events.jsonl: epoch {row['epoch']}", told, store.finite(wanted))


def _sizes(n: int, run: Run) -> np.ndarray:
    """How many examples each step of an epoch takes."""
    batch = run.recipe.batch_size
    return np.minimum(batch, n - np.arange(0, n, batch))


class _NoModel:
    """Takes the model's place where only early stopping's rule is asked."""

    def weights(self) -> None: ...

    def state(self) -> None: ...


def _end(
    run: Run, history: list[dict[str, Any]], quality: Mapping[str, Any], again: Mapping[str, Any]
) -> Iterator[str]:
    """How the training ended: when, by whose rule, and with what."""
    stopping = early_stopping.Stopping(run.recipe, _NoModel())
    over = None
    for row in history:
        try:
            if stopping.stops(row["epoch"], {**row, **{key: math.nan for key, value in row.items() if value is None}}):
                over = over or row["epoch"]
        except (KeyError, TypeError):
            yield later("events.jsonl: epoch {epoch} lacks what early stopping looks at", epoch=row["epoch"])
            return
    n = len(history)
    ends = over if over is not None else run.recipe.epochs
    if n != ends:
        yield later("events.jsonl: {n} epochs are told, the recipe ends after {ends}", n=n, ends=ends)
    goes_back = run.recipe.early_stopping and run.recipe.early_stopping.restore_best and stopping.best_epoch
    wanted = {
        "best_epoch": stopping.best_epoch,
        "stopped_early": n < run.recipe.epochs,
        "weights_of_epoch": stopping.best_epoch if goes_back else n,
    }
    yield from same("metrics.json", {key: quality.get(key, wanted[key]) for key in wanted}, wanted)
    ended = wanted["weights_of_epoch"]
    last = history[ended - 1] if isinstance(ended, int) and 0 < ended <= n else None
    n_images = sum(map(sum, again["confusion"]))
    said = last.get("test_accuracy") if last else None
    if not isinstance(said, int | float) or abs(said - again["accuracy"]) * n_images > FEW + 1e-6:
        facts = {"told": shown(said), "wanted": shown(again["accuracy"])}
        yield later("events.jsonl: test accuracy at the end: it says {told}, computed: {wanted}", **facts)
    train = quality.get("train") or {}  # absent in older runs, which did not evaluate training images
    before, at_end = (last or {}).get("train_inference_accuracy"), train.get("accuracy")
    if train and (not _is_number(before) or not _is_number(at_end) or abs(before - at_end) * n_images > FEW + 1e-6):
        facts = {"told": shown(at_end), "wanted": shown(before)}
        yield later("metrics.json: train.accuracy: it says {told}, events.jsonl at that epoch {wanted}", **facts)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def as_averaged(again: dict[str, Any], quality: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics with macro averages over all classes, as older runs have them, not over those that occur."""
    over_all = metrics.means_over_all(again)
    test = quality.get("test")
    told = test.get("macro") if isinstance(test, Mapping) else None
    return again | {"macro": over_all} if not [*same("", told, over_all)] else again


FEW = 2  # images by which an epoch's evaluation and the last one may differ: the same weights, computed twice


def _timing(record: store.Record, history: list[dict[str, Any]]) -> Iterator[str]:
    """The seconds of each epoch, and the sum that the clock has."""
    try:
        timing = record.timing
    except LockstepError:  # reported with the files
        return
    seconds = [row.get("train_seconds") for row in history]
    yield from same("timing.json: epochs", timing.get("epochs"), seconds)
    clock = (timing.get("seconds") or {}).get("train")
    told = [value for value in seconds if isinstance(value, int | float)]
    if len(told) == len(seconds) and isinstance(clock, int | float):
        yield from same("timing.json: seconds.train", float(clock), float(sum(told)))
    asked = record.status.get("threads")
    environment = record.environment
    parts = [environment, *(part for part in environment.get("resumed") or () if isinstance(part, dict))]
    if "together" in timing:
        most = max(part.get("trained_together", 1) for part in parts)
        yield from same("timing.json: together", timing["together"], most)
    if "parts" in timing and not 1 <= timing["parts"] <= len(parts):
        yield from same("timing.json: parts", timing["parts"], len(parts))
    said = (parts[-1].get("threads") or {}).get("asked")
    if asked is not None and said is not None and asked != said:
        yield from same("status.json: threads", asked, said)


def data(record: store.Record, examples: inputs.Examples) -> Iterator[str]:
    """What environment.json says of the data, from the dataset, split as the recipe says."""
    loaded, told = examples.data, record.environment.get("dataset", {})
    known = datasets.DATASETS.get(loaded.name)
    wanted = {
        "name": loaded.name, "title": known.title if known else loaded.name,
        "shape": list(examples.shape), "class_names": list(loaded.class_names),
        "class_counts": np.bincount(examples.train[1], minlength=loaded.n_classes),
        "n_train": len(examples.train[0]), "n_validation": len(examples.validation[0]),
        "n_test": len(examples.test[0]), "pixel_mean": examples.mean.tolist(), "pixel_scale": examples.scale.tolist(),
        "n_test_in_training": loaded.n_test_in_training(),
    }  # fmt: skip
    wanted = store.finite(wanted)
    there = {key: value for key, value in wanted.items() if key in told}
    yield from same("environment.json: dataset", {key: told[key] for key in there}, there)


# ---------------------------------------------------------------------------------------------------- told and wanted


def same(where: str, told: Any, wanted: Any) -> Iterator[str]:
    """Every number of a part of a JSON file that is not what it should be."""
    if isinstance(wanted, Mapping) and isinstance(told, Mapping):
        for key in wanted:
            yield from same(f"{where}.{key}" if where else key, told.get(key), wanted[key])
    elif isinstance(wanted, list | tuple) and isinstance(told, list) and len(told) == len(wanted):
        for place, (one, other) in enumerate(zip(told, wanted, strict=True)):
            yield from same(f"{where}[{place}]", one, other)
    elif not _is_close(told, wanted):
        yield later("{where}: it says {told}, computed: {wanted}", where=where, told=shown(told), wanted=shown(wanted))


def _is_close(told: Any, wanted: Any) -> bool:
    if isinstance(wanted, float) and isinstance(told, int | float) and not isinstance(told, bool):
        return math.isclose(told, wanted, rel_tol=CLOSE, abs_tol=1e-12)
    return bool(told == wanted)


def shown(value: Any) -> str:
    """A value, shortened for a sentence."""
    text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
