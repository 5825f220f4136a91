"""Runs that differ in nothing but backend and seed: what may be compared, side by side."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence

from lockstep.language import _
from lockstep.report.compare.copies import mark_copies
from lockstep.report.draw.plots import backend_order
from lockstep.report.facts import Facts
from lockstep.report.words.quantities import is_number


@dataclasses.dataclass
class Group:
    """Runs of one network, dataset, dtype and setting. `label` names what sets this group apart from the others."""

    network: str
    label: str
    dataset: str
    runs: list[Facts]

    @property
    def title(self) -> str:
        """Network, setting and dataset."""
        return _("{network} on {dataset}", network=self.label, dataset=self.dataset)

    @property
    def finished(self) -> list[Facts]:
        """The runs that came to their end with numbers that are some, each once."""
        return [run for run in self.runs if run.is_finished and not run.is_diverged and not run.copy_of]

    @property
    def backends(self) -> list[str]:
        """All backends of this group, in the report's order."""
        return backend_order(run.backend for run in self.runs)

    @property
    def seeds(self) -> list[str]:
        """The seeds of the finished runs, in order of appearance."""
        return list(dict.fromkeys(run.seed for run in self.finished))

    def of(self, backend: str) -> list[Facts]:
        """The finished runs of one backend."""
        return [run for run in self.finished if run.backend == backend]

    def firsts(self) -> list[Facts]:
        """The first finished run of every backend, all with one seed where there is such a seed."""
        rows = {b: runs for b in self.backends if (runs := self.of(b))}
        seeds = [{run.seed for run in runs} for runs in rows.values()]
        shared = next((seed for seed in self.seeds if all(seed in have for have in seeds)), None)
        return [next((run for run in runs if run.seed == shared), runs[0]) for runs in rows.values()]


def group(facts: Sequence[Facts]) -> list[Group]:
    """Group runs, in order of first appearance; within a group by seed, then backend."""
    mark_copies(facts)
    varying = varying_coordinates(facts)
    groups: dict[tuple[str, ...], Group] = {}
    for run in facts:
        coordinates = _coordinates(run)
        layers = str((run.spec.get("networks") or {}).get(run.network))
        key = (run.network, layers, *(f"{name}={value}" for name, value in coordinates.items()))
        parts = [f"{name} {coordinates.get(name, '—')}" for name in varying if name not in ("seed", "dataset")]
        title = [run.network, *parts]
        found = groups.setdefault(key, Group(run.network, " · ".join(title), title_of(run), []))
        found.runs.append(run)
    for members in groups.values():
        order = backend_order(run.backend for run in members.runs)
        seeds = list(dict.fromkeys(run.seed for run in members.runs))
        members.runs.sort(key=lambda run: (seeds.index(run.seed), order.index(run.backend)))
    return _told_apart(list(groups.values()))


def _say_kinds_in_words(facts: Sequence[Facts]) -> None:
    """Where runs have different optimizers (or schedules), one setting says which, and what varies within its kind.

    "optimizer": "adam, learning_rate 0.01" stands for all keys of that table, most of which other kinds do not have.
    """
    keys = dict.fromkeys(key for run in facts for key in run.settings)
    for table in [key.removesuffix(".kind") for key in keys if key.endswith(".kind")]:
        kinds: dict[str, list[Facts]] = {}
        for run in facts:
            if kind := run.settings.get(f"{table}.kind"):
                kinds.setdefault(kind, []).append(run)
        for kind, members in kinds.items() if len(kinds) > 1 else ():
            own = [key for key in keys if key.startswith(f"{table}.") and key != f"{table}.kind"]
            varying = [key for key in own if len({run.settings.get(key) for run in members}) > 1]
            for run in members:
                words = [f"{key.removeprefix(f'{table}.')} {run.settings.get(key, '—')}" for key in varying]
                others = {key: value for key, value in run.settings.items() if not key.startswith(f"{table}.")}
                run.settings = {table: ", ".join([kind, *words]), **others}


def _told_apart(groups: list[Group]) -> list[Group]:
    """Number names that occur twice: networks of one name with different layers."""
    seen: dict[tuple[str, str], int] = {}
    for found in groups:
        key = (found.label, found.dataset)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            found.label += f" ({seen[key]})"
    return groups


def _coordinates(run: Facts) -> dict[str, str]:
    return {"dataset": run.dataset, "dtype": run.dtype, **run.settings}


def varying_coordinates(facts: Sequence[Facts]) -> list[str]:
    """The coordinates that are not the same in all runs: their columns are worth printing."""
    _say_kinds_in_words(facts)
    rows = [{**_coordinates(run), "seed": run.seed} for run in facts if run.spec]
    names = list(dict.fromkeys(name for row in rows for name in row))
    names.sort(key=lambda name: ("dataset", "dtype", "seed").index(name) if name in ("dataset", "dtype", "seed") else 3)
    return [name for name in names if len({row.get(name) for row in rows}) > 1]


def coordinate(run: Facts, name: str) -> str:
    """One coordinate of a run, as text."""
    return {**_coordinates(run), "seed": run.seed}.get(name, "—")


def title_of(run: Facts) -> str:
    """The dataset's title as a reader knows it."""
    described = run.environment.dataset if run.environment else None
    return (described and (described.title or described.name)) or run.dataset


def accuracy(run: Facts) -> float | None:
    """Test accuracy of a finished run that did not diverge."""
    value = run.metrics.test.accuracy if run.is_finished and run.metrics and not run.is_diverged else None
    return value if is_number(value) else None


def epoch_seconds(run: Facts) -> float | None:
    """The median over epochs of the seconds of one epoch's training."""
    values = [value for value in run.timing.epochs if is_number(value)] if run.timing else []
    return statistics.median(values) if values else None


def n_test(run: Facts) -> int | None:
    """How many examples the test accuracy is over."""
    described = run.environment.dataset.n_test if run.environment else None
    counted = sum(map(sum, run.metrics.test.confusion)) if run.metrics else 0
    return counted or described


def distinct(values: Iterable[str]) -> list[str]:
    """The values that there are, each once."""
    return list(dict.fromkeys(value for value in values if value))


def by(runs: Iterable[Facts], key: Callable[[Facts], str]) -> list[list[Facts]]:
    """Runs with the same key together, in order of first appearance."""
    found: dict[str, list[Facts]] = {}
    for run in runs:
        found.setdefault(key(run), []).append(run)
    return list(found.values())


def same_machine(runs: Sequence[Facts]) -> bool:
    """Whether all runs report the same CPU, device and obtained threads."""
    seen = {
        (run.environment.cpu, run.environment.cores, run.environment.device, run.environment.threads.obtained)
        for run in runs
        if run.environment
    }
    return len(seen) <= 1
