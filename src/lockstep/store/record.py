"""One run as it is read from its folder, and several of them as a table."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex, overload

import numpy as np

from lockstep import arguments
from lockstep.errors import LockstepError
from lockstep.files import intake
from lockstep.language import joined, later
from lockstep.spec import Study
from lockstep.spec.toml import read_study
from lockstep.store import results
from lockstep.store.folder import damaged, read_events, read_json, read_npz
from lockstep.store.status import as_written, read_status


def read_spec(run: Path) -> str:
    """The text of a run's spec.toml, with the line ends that it was written with; raises LockstepError (LS-505)."""
    try:
        return as_written(intake.text(run / "spec.toml"))
    except (OSError, ValueError) as error:
        raise damaged(run / "spec.toml", error) from error


def spec_hash(text: str) -> str:
    """The hash of all that a spec.toml says a run is, with which the name of its folder ends."""
    content = "\n".join(line for line in text.splitlines() if not line.startswith(("name = ", "question = ")))
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def is_as_begun(run: Path, text: str) -> bool:
    """Whether this spec.toml is the one that a run's folder was named for; a name of somebody's own says nothing."""
    named = re.search(r"-([0-9a-f]{8})(-[0-9]+)?$", run.name)
    return not named or named[1] == spec_hash(text)


def read_asked(run: Path) -> Study:
    """What a run's spec.toml asks for, a study of this one run; raises LockstepError (LS-505)."""
    path = run / "spec.toml"
    if path.exists() and not path.is_file():
        read_spec(run)  # which says so, and which a pipe does not hold up
    try:
        study = read_study(path)
        (_run,) = study.runs()
    except LockstepError as error:
        first = error.problems[0]
        where = first.where.removeprefix(str(path)).lstrip(":")  # the file is named already, its line is not
        place = f"{first.code} {where}: " if where else f"{first.code}: "
        raise damaged(path, joined((place, first.message), "")) from error
    except ValueError as error:
        raise damaged(path, later("it asks for more than one run")) from error
    return study


@dataclasses.dataclass(frozen=True, repr=False)
class Record:
    """The facts of one run, read from its folder when asked for; a missing part raises LockstepError (LS-505).

    Printed, or shown in a notebook, it is a table of its numbers.
    """

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", arguments.path(self.folder, "folder"))

    def __repr__(self) -> str:
        return f"{results.as_text(_shown([self], results.COORDINATES))}\n{self.folder}"

    def _repr_html_(self) -> str:
        return results.as_html(_shown([self], results.COORDINATES))

    @cached_property
    def status(self) -> dict[str, Any]:
        """status.json."""
        return read_status(self.folder)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """spec.toml as plain tables: a study of one run."""
        path = self.folder / "spec.toml"
        try:
            spec = intake.toml(read_spec(self.folder))
        except (ValueError, RecursionError) as error:
            raise damaged(path, error) from error
        for key in ("networks", "backends", "seeds", "dataset", "dtype", "recipe"):
            if not spec.get(key) or not isinstance(spec[key], dict | list):
                raise damaged(path, later('"{key}" is missing', key=key))
        return spec

    @cached_property
    def environment(self) -> dict[str, Any]:
        """environment.json."""
        return read_json(self.folder / "environment.json")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """metrics.json."""
        return read_json(self.folder / "metrics.json")

    @cached_property
    def timing(self) -> dict[str, Any]:
        """timing.json."""
        return read_json(self.folder / "timing.json")

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """One row per epoch, from events.jsonl."""
        return [event for event in read_events(self.folder / "events.jsonl") if event.get("event") == "epoch"]

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.status.get("status") == "finished")

    # One run's coordinates, as its spec has them.
    @property
    def network(self) -> str:
        return str(next(iter(self.spec["networks"])))

    @property
    def backend(self) -> str:
        return str(self.spec["backends"][0])

    @property
    def seed(self) -> int:
        return int(self.spec["seeds"][0])

    @property
    def dataset(self) -> str:
        return str(self.spec["dataset"][0])

    @property
    def dtype(self) -> str:
        return str(self.spec["dtype"][0])

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as plain tables."""
        return dict(self.spec["recipe"])

    # Its numbers, None in a run that did not come to its end.
    @property
    def test_accuracy(self) -> float | None:
        """The share of the test images that it gets right, 0 to 1."""
        return self._kept("metrics", "test", "accuracy")

    @property
    def test_loss(self) -> float | None:
        """The loss on the test images."""
        return self._kept("metrics", "test", "loss")

    @property
    def parameters(self) -> int | None:
        """How many numbers its network learns."""
        return self._kept("metrics", "parameters")

    @property
    def epochs(self) -> int | None:
        """How many epochs it was trained, fewer than asked where it stopped early."""
        return self._kept("metrics", "epochs")

    @property
    def together(self) -> int | None:
        """With how many runs, itself among them, it was trained in one process."""
        return self.timing.get("together", 1) if self.is_finished else None

    @property
    def seconds(self) -> dict[str, float] | None:
        """Seconds by clock: "import", "train", "evaluate", "total" …; None too where it was trained with others."""
        return self._kept("timing", "seconds") if self.together == 1 else None

    @property
    def seconds_per_epoch(self) -> float | None:
        """The median of its epochs' seconds of training; None too where it was trained with others."""
        return statistics.median(self._kept("timing", "epochs")) if self.together == 1 else None

    @property
    def peak_memory_bytes(self) -> int | None:
        """The most memory that its process took; None too where it was trained with others."""
        return self._kept("timing", "peak_memory_bytes") if self.together == 1 else None

    def _kept(self, document: str, *keys: str) -> Any:
        """What metrics or timing hold under these keys; None in a run that did not come to its end."""
        value = getattr(self, document) if self.is_finished else None
        for key in keys if self.is_finished else ():
            if not isinstance(value, Mapping) or key not in value:
                raise damaged(self.folder / f"{document}.json", later('"{key}" is missing', key=key))
            value = value[key]
        return value

    def summary(self, grid: Mapping[str, Any], reused: bool = False) -> dict[str, Any]:
        """The run as `lockstep run --json` gives it; what it did not reach is None.

        `grid`: the keys of the recipe that the study varies, with this run's values.
        """
        numbers = (
            "parameters", "test_accuracy", "test_loss", "epochs", "seconds", "seconds_per_epoch", "peak_memory_bytes",
        )  # fmt: skip
        return {
            "network": self.network, "backend": self.backend, "seed": self.seed, "dataset": self.dataset,
            "dtype": self.dtype, "grid": dict(grid), "status": self.status["status"], "code": self.status.get("code"),
            "reason": self.status.get("reason"), **{name: getattr(self, name) for name in numbers},
            "folder": str(self.folder), "reused": reused, "together": self.together,
            "diverged": self.is_finished and self.test_loss is None,
        }  # fmt: skip

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.npz`: steps, samples or predictions."""
        return read_npz(self.folder / f"{name}.npz")


class Records(list[Record]):
    """Runs, as a list that is a table where it is printed or shown in a notebook."""

    def __repr__(self) -> str:
        return results.as_text(_shown(self)) if self else "Records([])"

    def _repr_html_(self) -> str:
        return results.as_html(_shown(self))

    @overload
    def __getitem__(self, place: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Records: ...
    def __getitem__(self, place: SupportsIndex | slice) -> Record | Records:
        found = super().__getitem__(place)
        return Records(found) if isinstance(found, list) else found

    def __add__(self, others: list[Any]) -> Records:  # type: ignore[override]  # a list of other things is none of runs
        return Records([*self, *others])


def _shown(records: Sequence[Record], coordinates: Sequence[str] = ()) -> results.Results:
    """The table of these runs; one that cannot be read is a row that says so."""
    recipes = _varying([_settings(record) for record in records])
    rows = [_row(record, recipe) for record, recipe in zip(records, recipes, strict=True)]
    return results.results(rows, coordinates)


def _row(record: Record, grid: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return record.summary(grid)
    except (LockstepError, KeyError, TypeError, AttributeError, ValueError, IndexError):  # whatever is wrong with it
        unknown = dict.fromkeys(results.COORDINATES, results.MISSING)
        named = {"network": record.folder.name, "backend": results.MISSING}
        return {**named, **unknown, "grid": dict(grid), "status": later("damaged")}


def _settings(record: Record) -> dict[str, Any]:
    """A run's recipe as dotted keys; none where its spec cannot be read."""
    with contextlib.suppress(LockstepError):
        return dict(_flat(record.recipe))
    return {}


def _flat(table: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{lead}{key}.")
        else:
            yield f"{lead}{key}", value


def _varying(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each recipe what is not the same in all; where kinds differ, the kind and what varies among its own."""
    keys = dict.fromkeys(key for row in rows for key in row)
    found: list[dict[str, Any]] = [{} for _row in rows]
    tables = [key.removesuffix("kind") for key in keys if key.endswith(".kind") and _differ(rows, key)]
    for key in keys:
        table = next((table for table in tables if key.startswith(table)), None)
        for place, row in enumerate(rows):
            if table is None:
                found[place] |= {key: row.get(key, results.MISSING)} if _differ(rows, key) else {}
                continue
            alike = [other for other in rows if other.get(f"{table}kind") == row.get(f"{table}kind")]
            if key in row and (key == f"{table}kind" or _differ(alike, key)):
                before = found[place].get(table[:-1])
                word = str(row[key]) if before is None else f"{before} {key.removeprefix(table)}={row[key]}"
                found[place][table[:-1]] = word
    return found


def _differ(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return len({str(row.get(key)) for row in rows}) > 1
