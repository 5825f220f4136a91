"""A side as it is seen from here: a process that is asked, with a time limit, and that answers with plain data."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models import records
from lockstep.exchange.models.records import Call, Change, Model, Trace, Where
from lockstep.language import later as _
from lockstep.machine import workers

SECONDS = 120  # that one answer may take
# A module that a file imports → the side that its models need. The first that is there decides.
FRAMEWORKS = {
    "keras": "keras", "tensorflow": "keras", "torch": "torch", "flax": "jax", "jax": "jax", "numpy": "numpy",
}  # fmt: skip
BACKEND_OF = {"keras": "tensorflow", "torch": "torch", "jax": "jax", "numpy": "numpy"}


@dataclasses.dataclass(frozen=True)
class Named:
    """What somebody typed: FILE:NAME."""

    file: Path
    name: str
    framework: str

    def __str__(self) -> str:
        return f"{self.file}:{self.name}"


def named(text: str) -> Named:
    """FILE:NAME, and the framework whose models that file makes; raises LockstepError (LS-200, LS-205)."""
    path, colon, name = text.rpartition(":")
    where = str(text)
    if not colon or not name:
        hint = _("name the class or function that gives the model: {example}", example=f"{text}:Net")
        raise LockstepError("LS-200", _("no name behind the file"), where=where, hint=hint)
    return Named(Path(path), name, framework_of(Path(path)))


def framework_of(file: Path) -> str:
    """The framework that a file of Python imports; raises LockstepError (LS-200, LS-205)."""
    if not file.is_file():
        raise LockstepError("LS-200", _("there is no such file"), where=str(file), hint=_("look for a typing error"))
    try:
        imported = set(_imports(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise LockstepError("LS-205", str(error), where=f"{file}:{line}", hint=_("python {file}", file=file)) from None
    framework = next((side for module, side in FRAMEWORKS.items() if module in imported), "")
    if not framework:
        known = ", ".join(dict.fromkeys(FRAMEWORKS))
        message = _("it imports none of {known}", known=known)
        raise LockstepError("LS-205", message, where=str(file), hint=_("name the file that builds the model"))
    return framework


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


class Side:
    """One model's process. As a context it is ended on the way out."""

    def __init__(self, asked: Named, folder: Path, title: str) -> None:
        self.asked, self.folder, self.title = asked, folder, title
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "side.log"
        self._numbers = itertools.count()
        self._file = open(self.log, "wb")  # noqa: SIM115  # closed with the process
        environment = workers.environment(BACKEND_OF[asked.framework], 1)
        environment |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
        self.worker = workers.Worker(
            "lockstep.exchange.models.server", (asked.framework, folder), 1, environment, self._file
        )

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exception: object) -> None:
        self.worker.__exit__(*exception)
        self._file.close()

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """What it answers; raises LockstepError (LS-402 where it hangs or dies, LS-403 for what the code raises)."""
        process = self.worker.process
        if process.stdin is None or process.stdout is None:
            raise TypeError("the process has no pipes")
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            is_late = not timer.is_alive()
            timer.cancel()
        if not line:
            process.wait()
            if is_late:
                message = _("it gave no answer within {seconds} s", seconds=SECONDS)
                raise LockstepError("LS-402", message, where=str(self.asked), hint=_("try it by itself first"))
            raise self.worker.death(self.log)
        answer = json.loads(line)
        if answer.get("event") == "failure":
            where = records.where_of(answer["where"])
            place = f"{where.file}:{where.line}" if where.file else str(self.asked)
            raise LockstepError("LS-403", str(answer["error"]), where=place, hint=str(answer["hint"]))
        return dict(answer)

    # ------------------------------------------------------------------------------------------------ what is asked

    def load(self, dtype: str) -> Model:
        """Build the model anew."""
        return records.model_of(self.ask("load", file=str(self.asked.file), name=self.asked.name, dtype=dtype))

    def description(self) -> Model:
        """What is known of it now."""
        return records.model_of(self.ask("describe"))

    def units(self) -> dict[str, np.ndarray]:
        """Every unit's array."""
        name = f"units-{next(self._numbers)}.safetensors"
        self.ask("units", into=name)
        return records.read_arrays(self.folder / name)

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """Set units."""
        name = f"put-{next(self._numbers)}.safetensors"
        records.write_arrays(values, self.folder / name)
        self.ask("put", file=name)

    def trace(
        self, batch: Sequence[np.ndarray], mode: str = "inference", changes: Sequence[Change] = (),
        designed: np.ndarray | None = None,
    ) -> Trace:  # fmt: skip
        """One pass over a batch."""
        number = next(self._numbers)
        arrays = {str(index): np.asarray(value) for index, value in enumerate(batch)}
        if designed is not None:
            arrays["designed"] = designed
        records.write_arrays(arrays, self.folder / f"batch-{number}.safetensors")
        self.ask(
            "trace", batch=f"batch-{number}.safetensors", mode=mode, into=f"trace-{number}",
            changes=[change.to_json() for change in changes], designed=designed is not None,
        )  # fmt: skip
        return records.read_trace(self.folder, f"trace-{number}")

    def again(self, call: Call, change: Change) -> list[np.ndarray] | None:
        """What a call gives under a change; None where it cannot be made so."""
        name = f"again-{next(self._numbers)}.safetensors"
        try:
            self.ask("again", call=call.index, change=change.to_json(), into=name)
        except LockstepError as error:
            if error.code == "LS-402":
                raise
            return None
        found = records.read_arrays(self.folder / name)
        (self.folder / name).unlink()
        return [found[key] for key in sorted(found, key=int)]

    def signature(self, call: Call) -> dict[str, Any]:
        """Every argument of a call that is no tensor."""
        return dict(self.ask("signature", call=call.index)["arguments"])


def shown(where: Where) -> str:
    """A line of somebody's for a table."""
    return f"{Path(where.file).name}:{where.line}" if where.file else "–"
