"""One run folder → its facts, checked and typed; a part that is missing or unsound becomes a named gap.

Run folders come from other machines and other versions, and runs die half-way. So every file is read as the record that
it was written as, and nothing behind this file asks again whether a number is a number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from pydantic import TypeAdapter, ValidationError

from lockstep.errors import LockstepError, without
from lockstep.language import _, say
from lockstep.report.words.quantities import is_number
from lockstep.spec import FORMAT
from lockstep.spec.records import first_problem
from lockstep.store import UNUSABLE, Record
from lockstep.store.documents.run import Environment, Epoch, Metrics, Status, Timing


def why_unsound(error: LockstepError | ValidationError) -> str:
    """What is wrong with a file, in a few words."""
    if isinstance(error, LockstepError):
        return say(without(error.problems[0].message, UNUSABLE))
    return say(first_problem(error))


_HISTORY = TypeAdapter(tuple[Epoch, ...])
_P = TypeVar("_P")


@dataclasses.dataclass
class Facts:
    """What one run folder says. A part that cannot be read is None, and `gaps` says which file and why."""

    record: Record
    gaps: dict[str, str] = dataclasses.field(default_factory=dict)
    copy_of: str = ""  # the folder of the run that it is a copy of; see `compare.copies`

    def _read(self, file: str, read: Callable[[], _P]) -> _P | None:
        try:
            return read()
        except (LockstepError, ValidationError) as error:
            self.gaps[file] = why_unsound(error)
        return None

    @cached_property
    def status(self) -> Status:
        """The status; "unknown" where status.json cannot be read."""
        return self._read("status.json", lambda: Status.model_validate(self.record.status)) or Status()

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The resolved study of this run; empty where spec.toml cannot be read."""
        found = self._read("spec.toml", lambda: self.record.spec) or {}
        networks = found.get("networks")
        if found and not (isinstance(networks, dict) and networks):
            self.gaps["spec.toml"] = _("networks: there is no table of networks")
            return {}
        return found

    @cached_property
    def spec_text(self) -> str:
        return (self.record.folder / "spec.toml").read_text(encoding="utf-8") if self.spec else ""

    @cached_property
    def environment(self) -> Environment | None:
        """Machine, versions, dataset."""
        return self._read("environment.json", lambda: Environment.model_validate(self.record.environment))

    @cached_property
    def metrics(self) -> Metrics | None:
        """What the predictions are worth, and the network's table."""
        return self._read("metrics.json", lambda: Metrics.model_validate(self.record.metrics))

    @cached_property
    def timing(self) -> Timing | None:
        """Seconds per clock and epoch, peak memory: of a run that had its process to itself."""
        return None if self.is_of_many else self._timing

    @cached_property
    def is_of_many(self) -> bool:
        """Whether it was trained together with others: then neither time nor memory is its own."""
        return self._timing is not None and self._timing.together > 1

    @cached_property
    def _timing(self) -> Timing | None:
        return self._read("timing.json", lambda: Timing.model_validate(self.record.timing))

    @cached_property
    def history(self) -> tuple[Epoch, ...]:
        """One row per epoch."""
        return self._read("events.jsonl", lambda: _HISTORY.validate_python(self.record.history)) or ()

    @cached_property
    def samples(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(images (n, height, width, channels) uint8, labels (n,)) of the first test images."""
        return self._pair("samples", "images", lambda images: images.ndim == 4 and images.dtype == np.uint8)

    @cached_property
    def hardest(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(images (n, height, width, channels) uint8, their numbers (n,)) of the test images with the largest loss.

        None for a run of before they were kept, which is no gap.
        """
        if not (self.record.folder / "hardest.npz").exists():
            return None
        return self._pair(
            "hardest", "images", lambda images: images.ndim == 4 and images.dtype == np.uint8, labelled="indices"
        )

    def predictions(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(logits (n, classes), labels (n,)) of the test set; not kept, for they are large."""
        return self._pair("predictions", "logits", lambda logits: logits.ndim == 2 and logits.dtype.kind == "f")

    def _pair(
        self, name: str, key: str, fits: Callable[[np.ndarray], bool], labelled: str = "labels"
    ) -> tuple[np.ndarray, np.ndarray] | None:
        arrays = self._read(f"{name}.npz", lambda: self.record.arrays(name))
        if arrays is None:
            return None
        values, labels = arrays.get(key), arrays.get(labelled)
        if (
            values is None or labels is None or not fits(values) or labels.shape != values.shape[:1]
            or not values.size or labels.dtype.kind not in "iu" or labels.min() < 0
            or (key == "logits" and labels.max() >= values.shape[1])
        ):  # fmt: skip
            self.gaps[f"{name}.npz"] = _(
                "{values} and {labels} do not have the shapes that they should", values=key, labels=labelled
            )
            return None
        return values, labels

    # ------------------------------------------------------------------------------------------------- coordinates

    @property
    def folder(self) -> str:
        """<study>/<run id>: how the report calls this run."""
        return "/".join(self.record.folder.absolute().parts[-2:])

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return self.status.status == "finished"

    @cached_property
    def is_diverged(self) -> bool:
        """Whether it came to its end with numbers that are no longer finite: then its answers are nobody's."""
        test = self.metrics.test if self.is_finished and self.metrics else None
        return test is not None and "loss" in test.model_fields_set and not is_number(test.loss)

    @property
    def study(self) -> str:
        return str(self.spec.get("name") or self.record.folder.absolute().parent.name)

    @cached_property
    def network(self) -> str:
        return str(next(iter(self.spec.get("networks", [_("(unknown)")]))))

    @cached_property
    def backend(self) -> str:
        return self._first("backends", _("(unknown)"))

    @cached_property
    def dataset(self) -> str:
        return self._first("dataset", _("(unknown)"))

    @cached_property
    def seed(self) -> str:
        return self._first("seeds", "")

    @cached_property
    def dtype(self) -> str:
        return self._first("dtype", "")

    def _first(self, key: str, otherwise: str) -> str:
        value = self.spec.get(key, otherwise)
        return str((value or [otherwise])[0] if isinstance(value, list) else value)

    @property
    def class_names(self) -> list[str]:
        """The dataset's class names; numbers where environment.json has none."""
        names = self.environment.dataset.class_names if self.environment else ()
        n = len(self.metrics.test.confusion) if self.metrics else 0
        return [*names, *map(str, range(len(names), n))][: n or None]

    @cached_property
    def settings(self) -> dict[str, str]:
        """Everything else that may vary within a study, by dotted key."""
        found = _flat(self.spec.get("recipe") or {})
        found |= {key.removeprefix("recipe."): value for key, value in _flat(self.spec.get("grid") or {}).items()}
        found |= {key: str(self.spec[key]) for key in ("device", "train_size") if key in self.spec}
        if (earlier := self.spec.get("format", 1)) != FORMAT:  # other weights, which must not pass for the same
            found["format"] = str(earlier)
        return found


def _flat(table: Any, prefix: str = "") -> dict[str, str]:
    """{"optimizer": {"kind": "sgd"}} → {"optimizer.kind": "sgd"}; a list of one is its value."""
    if isinstance(table, Mapping):
        rows = (_flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in table.items())
        return {key: value for row in rows for key, value in row.items()}
    lone = isinstance(table, list) and len(table) == 1
    return {prefix: str(table[0] if lone else table)}
