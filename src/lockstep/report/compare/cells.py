"""What is compared: the runs of one network, dataset, setting and backend, which differ in nothing but their seed.

A cell answers with one number per seed for everything that the comparisons speak of. A number that is missing leaves
its seed out and is named in `notes`; nothing behind this file asks again whether a number is there.
"""

from __future__ import annotations

import dataclasses
import math
import statistics as averages
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from lockstep import uncertainty
from lockstep.language import _, minus, n_, number
from lockstep.report.compare.groups import Group, accuracy, epoch_seconds, n_test
from lockstep.report.facts import Facts
from lockstep.report.words.quantities import count, is_number, listed, percent, span
from lockstep.store.documents.run import Epoch
from lockstep.uncertainty import Interval

Layers = tuple[dict[str, Any], ...]


@dataclasses.dataclass(eq=False)
class Cell:
    """The finished runs of one group and backend. `title` is the shortest name that tells the group apart."""

    group: Group
    backend: str
    title: str

    @property
    def name(self) -> str:
        """Network, setting and backend."""
        return f"{self.title} ({self.backend})"

    @cached_property
    def finished(self) -> list[Facts]:
        """Every finished run, repeated ones too: each is a time that was taken."""
        return self.group.of(self.backend)

    @cached_property
    def runs(self) -> dict[str, Facts]:
        """The first run of each seed that has a test accuracy on this cell's test set: a repetition tells no more."""
        found: dict[str, Facts] = {}
        for run in self.finished:
            if accuracy(run) is not None and tested_on(run) == self.test_set:
                found.setdefault(run.seed, run)
        return found

    @cached_property
    def test_set(self) -> tuple[Any, ...]:
        """What tells this cell's test set from another: that of its first run with an accuracy."""
        return next((tested_on(run) for run in self.finished if accuracy(run) is not None), (0, ()))

    @cached_property
    def accuracies(self) -> dict[str, float]:
        return self._numbers(accuracy)

    @cached_property
    def losses(self) -> dict[str, float]:
        return self._numbers(lambda run: run.metrics.test.loss if run.metrics else None)

    @cached_property
    def gaps(self) -> dict[str, float]:
        """Training minus test accuracy after the last epoch, both in inference mode, by seed.

        A run of before training accuracy was computed so has none: what its epoch's steps got right, with dropout and
        augmentation, is no measure of it.
        """
        return self._numbers(lambda run: _gap(run.history[-1]) if run.history else None)

    @cached_property
    def fits(self) -> dict[str, float]:
        """The share of its own training images that it gets right after the last epoch, in inference mode, by seed."""
        return self._numbers(lambda run: run.history[-1].train_inference_accuracy if run.history else None)

    @cached_property
    def underfitted(self) -> float | None:
        """The share of its own training images that it gets right, where it is underfitted: see `is_underfitted`."""
        seeds = [seed for seed in self.fits if seed in self.gaps]
        if not seeds:
            return None
        fit = averages.fmean(self.fits[seed] for seed in seeds)
        return fit if is_underfitted(fit, averages.fmean(self.gaps[seed] for seed in seeds)) else None

    @cached_property
    def best_gaps(self) -> dict[str, float]:
        """The same at the epoch of the lowest validation loss, by seed; without validation images there is none."""
        return self._numbers(_best_gap)

    def _numbers(self, read: Callable[[Facts], float | None]) -> dict[str, float]:
        return {seed: value for seed, run in self.runs.items() if is_number(value := read(run)) and value is not None}

    @cached_property
    def seconds(self) -> list[float]:
        """The median epoch of each finished run."""
        return [value for run in self.finished if (value := epoch_seconds(run)) is not None]

    @cached_property
    def memory(self) -> float | None:
        """The median peak memory in bytes."""
        found = [run.timing.peak_memory_bytes for run in self.finished if run.timing]
        return median([float(value) for value in found if value])

    @cached_property
    def parameters(self) -> int | None:
        return next((run.metrics.parameters for run in self.finished if run.metrics), None)

    @cached_property
    def multiply_adds(self) -> int | None:
        """The multiply-adds of one image's forward pass."""
        return next((run.metrics.multiply_adds for run in self.finished if run.metrics), None)

    @cached_property
    def n_test(self) -> int | None:
        """How many images the accuracies are over."""
        return next((n_test(run) for run in self.runs.values()), None)

    @cached_property
    def layers(self) -> Layers:
        """The layers as the spec has them; empty where it cannot be read."""
        for run in self.group.runs:
            network = (run.spec.get("networks") or {}).get(run.network)
            layers = network.get("layers") if isinstance(network, dict) else network
            if isinstance(layers, list) and all(isinstance(row, dict) and "kind" in row for row in layers):
                return tuple(layers)
        return ()

    @cached_property
    def settings(self) -> dict[str, str]:
        """Everything of the recipe, and the dtype."""
        run = self.group.runs[0]
        return {"dtype": run.dtype, **run.settings}

    @cached_property
    def over_seeds(self) -> Interval | None:
        """Mean test accuracy with Student's interval."""
        return uncertainty.mean_interval(list(self.accuracies.values())) if self.accuracies else None

    @cached_property
    def over_images(self) -> Interval | None:
        """The accuracy's Wilson interval, as if the mean were one run's: what other test images might have given."""
        if self.over_seeds is None or not self.n_test:
            return None
        return uncertainty.wilson(min(max(self.over_seeds.value, 0.0), 1.0) * self.n_test, self.n_test)

    @cached_property
    def notes(self) -> list[str]:
        """What these numbers lack."""
        found = []
        silent = [run.seed for run in self.finished if accuracy(run) is None]
        other = [run.seed for run in self.finished if accuracy(run) is not None and tested_on(run) != self.test_set]
        diverged = [run.seed for run in self.group.runs if run.backend == self.backend and run.is_diverged]
        if diverged:
            found.append(_("{name}: left out, training diverged: {seeds}.", name=self.name, seeds=_seeds(diverged)))
        repeated = len(self.finished) - len(silent) - len(other) - len(self.runs)
        if silent:
            found.append(_("{name}: left out, without a test accuracy: {seeds}.", name=self.name, seeds=_seeds(silent)))
        if other:
            text = _(
                "{name}: left out, tested on other images than the rest: {seeds}.", name=self.name, seeds=_seeds(other)
            )
            found.append(text)
        if repeated:
            found.append(
                count(
                    repeated,
                    "{name}: {count} repeated run of a seed counted for its times only.",
                    "{name}: {count} repeated runs of a seed counted for its times only.",
                    name=self.name,
                )
            )
        return found


def make_cells(groups: Sequence[Group]) -> list[Cell]:
    """All cells, group by group, in the report's order; those without a finished run too."""
    titles = _titles(groups)
    return [Cell(found, name, title) for found, title in zip(groups, titles, strict=True) for name in found.backends]


def _titles(groups: Sequence[Group]) -> list[str]:
    """The network's name where it tells a group from the others of its dataset, else its label."""
    names = [(found.network, found.dataset) for found in groups]
    return [found.network if names.count(name) == 1 else found.label for found, name in zip(groups, names, strict=True)]


def tested_on(run: Facts) -> tuple[Any, ...]:
    """What tells one test set from another without reading it: its size and its files' hashes."""
    hashes = run.environment.dataset.hashes if run.environment else {}
    return (n_test(run), tuple(sorted(hashes.items())))


def _seeds(seeds: Iterable[str]) -> str:
    names = list(dict.fromkeys(seeds))
    return n_("seed {seeds}", "seeds {seeds}", len(names), seeds=listed(names))


def _gap(row: Epoch) -> float | None:
    train, test = row.train_inference_accuracy, row.test_accuracy
    return None if train is None or test is None else train - test


WELL_FITTED = 0.9  # of its own training images


def is_underfitted(fit: float, gap: float) -> bool:
    """Whether a network does not fit its own training images, so that it lacks training or size and no remedy.

    It gets more than one in ten of them wrong, and that is more than the test images add to it.
    """
    return fit < WELL_FITTED and 1 - fit > gap


def _best_gap(run: Facts) -> float | None:
    rows = [row for row in run.history if is_number(row.validation_loss)]
    return _gap(min(rows, key=lambda row: row.validation_loss or 0.0)) if rows else None


def median(values: Sequence[float]) -> float | None:
    """The median of what there is."""
    found = [value for value in values if math.isfinite(value)]
    return averages.median(found) if found else None


# ----------------------------------------------------------------------------------------------------- predictions


class Answers:
    """The classes that runs predicted, read once and kept in two bytes each; logits would fill the memory."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[np.ndarray, np.ndarray] | None] = {}

    def of(self, run: Facts) -> tuple[np.ndarray, np.ndarray] | None:
        """(predicted classes, labels), each (n,); None where predictions.npz cannot be used, which `gaps` then says."""
        if id(run) not in self._known:
            found = run.predictions()
            self._known[id(run)] = None if found is None else (found[0].argmax(axis=1).astype(np.int32), found[1])
        return self._known[id(run)]

    def right(self, run: Facts) -> np.ndarray | None:
        """Which test images the run got right, (n,) bool."""
        found = self.of(run)
        return None if found is None else found[0] == found[1]


def bootstrap_over_images(cells: Sequence[Cell], answers: Answers) -> dict[Cell, Interval]:
    """BCa intervals of the mean accuracy over seeds, from resampled test images, for cells whose predictions are there.

    Each image counts with the share of seeds that got it right, and all cells of one test set see the same resamples.
    """
    tables: dict[int, list[tuple[Cell, np.ndarray]]] = {}
    for cell in cells:
        rows = [row for run in cell.runs.values() if (row := answers.right(run)) is not None]
        if rows and len(rows) == len(cell.runs) and len({len(row) for row in rows}) == 1:
            tables.setdefault(len(rows[0]), []).append((cell, np.mean(rows, axis=0)))
    found: dict[Cell, Interval] = {}
    for members in tables.values():
        intervals = uncertainty.bootstrap_means(np.stack([row for _, row in members]))
        found |= {cell: row for (cell, _), row in zip(members, intervals, strict=True) if row.low is not None}
    return found


# ----------------------------------------------------------------------------------------------------------- layout


def plus_minus(found: Interval | None, places: int, scale: float = 100.0) -> str:
    """ "97.31 ± 0.12"; without an interval the value alone."""
    if found is None:
        return "—"
    half = "" if found.half is None else f"\u00a0±\u00a0{scale * found.half:.{places}f}"
    return minus(number(f"{scale * found.value:,.{places}f}{half}"))


def between(found: Interval | None, places: int) -> str:
    """ "96.9 to 97.6", in percent."""
    if found is None or found.low is None:
        return "—"
    return span(percent(found.low, places), percent(found.high, places))


def mean_of(values: dict[str, float]) -> Interval | None:
    """Mean and Student's interval of one number per seed."""
    return uncertainty.mean_interval(list(values.values())) if values else None
