"""A side as it is seen from here: a process that is asked, with a time limit, and that answers with plain data."""

from __future__ import annotations

import ast
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models import records, training
from lockstep.exchange.models.records import Call, Change, Model, Trace, Where
from lockstep.files.texts import restored
from lockstep.language import later
from lockstep.machine import memory, processes, workers

SECONDS = 120  # that one answer may take
SECONDS_OF_A_LOG = 2  # that the rest of it may take once the process has ended
CODES = ("LS-205", "LS-209", "LS-401", "LS-403", "LS-404", "LS-503")  # that a side answers
MOST_OF_A_LOG = 2**20  # bytes that are kept of what a person's code prints, at its beginning, and as many at its end
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
        hint = later("name the class or function that gives the model: {example}", example=f"{text}:Net")
        raise LockstepError("LS-200", later("no name behind the file"), where=where, hint=hint)
    return Named(Path(path), name, framework_of(Path(path)))


def framework_of(file: Path) -> str:
    """The framework that a file of Python imports; raises LockstepError (LS-200, LS-205)."""
    if not file.is_file():
        raise LockstepError(
            "LS-200", later("there is no such file"), where=str(file), hint=later("look for a typing error")
        )
    try:
        imported = set(imports(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise LockstepError(
            "LS-205", str(error), where=f"{file}:{line}", hint=later("python {file}", file=file)
        ) from None
    framework = next((side for module, side in FRAMEWORKS.items() if module in imported), "")
    if not framework:
        known = ", ".join(dict.fromkeys(FRAMEWORKS))
        message = later("it imports none of {known}", known=known)
        raise LockstepError("LS-205", message, where=str(file), hint=later("name the file that builds the model"))
    return framework


def imports(tree: ast.Module) -> Iterator[str]:
    """The topmost names of all modules that a source imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def most_memory() -> int:
    """The bytes that one side may take: what the machine, or the container around us, has; 0 where nobody knows."""
    found = [memory.memory_bytes() or 0]
    with contextlib.suppress(OSError, ValueError):
        found.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(filter(None, found), default=0)


class Log(threading.Thread):
    """Takes what a process prints, however much that is, and keeps its beginning and its end in a file."""

    def __init__(self, source: IO[Any], path: Path) -> None:
        super().__init__(name="lockstep-log", daemon=True)
        # A number of its own: whoever closes the process's pipe need not wait for a reader.
        self.number, self.path = os.dup(source.fileno()), path
        self.start()

    def run(self) -> None:
        """Until nobody can print any more."""
        with contextlib.suppress(OSError, ValueError), open(self.path, "wb", buffering=0) as file:
            n_kept, n_left_out, end = 0, 0, collections.deque[bytes]()
            while chunk := os.read(self.number, 2**16):
                if n_kept < MOST_OF_A_LOG:
                    n_kept += file.write(chunk)
                    continue
                end.append(chunk)
                if len(end) > MOST_OF_A_LOG // 2**16:
                    n_left_out += len(end.popleft())
            if n_left_out:
                file.write(f"\n… {n_left_out} bytes are left out here …\n".encode())
            file.write(b"".join(end))
        os.close(self.number)


class Side:
    """One model's process. As a context it is ended on the way out."""

    def __init__(self, asked: Named, folder: Path, title: str) -> None:
        self.asked, self.folder, self.title = asked, folder, title
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "side.log"
        self._numbers = itertools.count()
        environment = workers.environment(BACKEND_OF[asked.framework], 1)
        environment |= {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
        # A session of its own: what the person's code starts can be ended with it.
        self.worker = workers.Worker(
            "lockstep.exchange.models.server", (asked.framework, folder, most_memory()), 1, environment,
            subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        stream = self.worker.process.stderr
        if stream is None:
            raise TypeError("the process has no pipes")
        self._printed = Log(stream, self.log)

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()
        self._printed.join(SECONDS_OF_A_LOG)
        self.worker.__exit__(*exception)

    def _end(self) -> None:
        """End the process, and whatever it has started, in its own session or in another."""
        started = processes.descendants(self.worker.process.pid)
        with contextlib.suppress(OSError, AttributeError):
            os.killpg(self.worker.process.pid, signal.SIGKILL)
        self.worker.stop()
        for pid in started:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

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
            self._end()
            self._printed.join(SECONDS_OF_A_LOG)
            if is_late:
                message = later("it gave no answer within {seconds} s", seconds=SECONDS)
                raise LockstepError("LS-402", message, where=str(self.asked), hint=later("try it by itself first"))
            raise self.worker.death(self.log)
        answer = restored(json.loads(line))
        if answer.get("event") == "failure":
            where = records.where_of(answer["where"])
            place = f"{where.file}:{where.line}" if where.file else str(self.asked)
            code = answer["code"] if answer["code"] in CODES else "LS-403"
            raise LockstepError(code, answer["error"], where=place, hint=answer["hint"])
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
        designed: np.ndarray | None = None, results: Mapping[str, np.ndarray] | None = None,
    ) -> Trace:  # fmt: skip
        """One pass over a batch; `results` are what calls give instead, by the key in a change."""
        number = next(self._numbers)
        arrays = {str(index): np.asarray(value) for index, value in enumerate(batch)} | dict(results or {})
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

    # ------------------------------------------------------------------------------------------------ how it is trained

    def parts(self, asked: Mapping[str, str]) -> dict[str, training.Part]:
        """What the person's file has beside the model."""
        return {key: training.part_of(part) for key, part in self.ask("parts", asked=dict(asked))["parts"].items()}

    def loss(self, outputs: np.ndarray, labels: np.ndarray, changes: Sequence[Change] = ()) -> Trace:
        """The person's loss of these outputs."""
        number = next(self._numbers)
        records.write_arrays({"outputs": outputs, "labels": labels}, self.folder / f"loss-{number}.safetensors")
        self.ask("loss", given=f"loss-{number}.safetensors", into=f"loss-of-{number}",
                 changes=[change.to_json() for change in changes])  # fmt: skip
        return records.read_trace(self.folder, f"loss-of-{number}")

    def optimize(
        self, gradients: Sequence[Mapping[str, np.ndarray]], changed: Mapping[str, Any] | None = None
    ) -> training.Steps:
        """Updates by these gradients of units."""
        arrays = {f"{n}/{key}": value for n, of_step in enumerate(gradients) for key, value in of_step.items()}
        return self._steps("optimize", arrays, len(gradients), changed=dict(changed or {}))

    def train(self, batches: Sequence[tuple[np.ndarray, np.ndarray]], way: training.Way) -> training.Steps:
        """Steps on these batches."""
        arrays = {f"inputs/{n}": x for n, (x, _y) in enumerate(batches)}
        arrays |= {f"labels/{n}": y for n, (_x, y) in enumerate(batches)}
        return self._steps("train", arrays, len(batches), way=way.to_json())

    def _steps(self, verb: str, arrays: Mapping[str, np.ndarray], n: int, **how: Any) -> training.Steps:
        number = next(self._numbers)
        given, into = f"{verb}-{number}.safetensors", f"{verb}-of-{number}.safetensors"
        records.write_arrays(arrays, self.folder / given)
        answer = self.ask(verb, given=given, n=n, into=into, **how)
        found = training.read_steps(answer, self.folder / into)
        for name in (given, into):
            (self.folder / name).unlink()
        return found

    def drops(self, batch: Sequence[np.ndarray]) -> list[training.Drop]:
        """What dropout does in a pass in training mode."""
        name = f"drops-{next(self._numbers)}.safetensors"
        records.write_arrays({str(n): np.asarray(value) for n, value in enumerate(batch)}, self.folder / name)
        return [training.drop_of(each) for each in self.ask("drops", batch=name)["drops"]]

    def batches(self, n: int) -> training.Batches:
        """The first batches of the person's loader."""
        name = f"batches-{next(self._numbers)}.safetensors"
        answer = self.ask("batches", n=n, into=name)
        return training.read_batches(answer, self.folder / name)


def shown(where: Where) -> str:
    """A line of somebody's for a table."""
    return f"{Path(where.file).name}:{where.line}" if where.file else "–"
