"""A side's process: `python -m lockstep.exchange.models.server FRAMEWORK FOLDER`; asked and answered in lines of JSON.

Arrays cross in files of the folder. What the person's code prints goes to the log; what it raises is answered as its
own error, with its own line. The process ends when nobody can ask any more. It may take so much memory and no more;
what the person's code forks answers nothing, and ends with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import is_want_of_memory
from lockstep.exchange.models import side, training
from lockstep.exchange.models.records import Change, Where, read_arrays, write_arrays, write_trace
from lockstep.files.texts import with_texts
from lockstep.language import later
from lockstep.machine import processes

# framework → the class that is its side
SIDES = {"torch": "Torch", "keras": "Keras", "jax": "Jax", "numpy": "NumPy"}


class Server:
    """Answers questions about one model, by their name."""

    def __init__(self, framework: str, folder: Path) -> None:
        module = importlib.import_module(f"lockstep.exchange.models.{framework}")
        self.side: side.Side = getattr(module, SIDES[framework])()
        trainer = importlib.import_module(f"lockstep.exchange.models.{framework}.training")
        self.training: training.Training = trainer.Training(self.side)
        self.folder = folder

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """What the verb of a question gives."""
        verb, arguments = question["do"], {key: value for key, value in question.items() if key != "do"}
        return getattr(self, f"do_{verb}")(**arguments) or {}

    def do_load(self, file: str, name: str, dtype: str) -> dict[str, Any]:
        """Build the model."""
        return dataclasses.asdict(self.side.load(Path(file), name, dtype))

    def do_describe(self) -> dict[str, Any]:
        """What is known of it now."""
        return dataclasses.asdict(self.side.description())

    def do_units(self, into: str) -> None:
        """Write all units into a file."""
        write_arrays(self.side.units(), self.folder / into)

    def do_put(self, file: str) -> None:
        """Set the units of a file."""
        self.side.put(read_arrays(self.folder / file))

    def do_trace(self, batch: str, mode: str, into: str, changes: list[dict[str, Any]], designed: bool) -> None:
        """Pass the batch of a file ("0", "1", …, and "designed" where gradients are asked for)."""
        arrays = read_arrays(self.folder / batch)
        weights = arrays.pop("designed", None) if designed else None
        self.side.results = {key: arrays.pop(key) for key in list(arrays) if not key.isdecimal()}  # for Change.result
        given = [arrays[key] for key in sorted(arrays, key=int)]
        trace = self.side.trace(given, mode, [change_of(each) for each in changes], weights)
        write_trace(trace, self.folder, into)

    def do_again(self, call: int, change: dict[str, Any], into: str) -> None:
        """Write what a call gives under a change: "0", "1", …"""
        outputs = self.side.again(call, change_of(change))
        write_arrays({str(index): value for index, value in enumerate(outputs)}, self.folder / into)

    def do_signature(self, call: int) -> dict[str, Any]:
        """Every argument of a call that is no tensor."""
        return {"arguments": self.side.signature(call)}

    # ------------------------------------------------------------------------------------------------ how it is trained

    def do_parts(self, asked: dict[str, str]) -> dict[str, Any]:
        """What there is beside the model."""
        return {"parts": {key: dataclasses.asdict(part) for key, part in self.training.parts(asked).items()}}

    def do_loss(self, given: str, into: str, changes: list[dict[str, Any]]) -> None:
        """The loss of the file's "outputs" and "labels"."""
        arrays = read_arrays(self.folder / given)
        trace = self.training.loss(arrays["outputs"], arrays["labels"], [change_of(each) for each in changes])
        write_trace(trace, self.folder, into)

    def do_optimize(self, given: str, n: int, into: str, changed: dict[str, Any]) -> dict[str, Any]:
        """Updates by the file's gradients, "step/unit"."""
        gradients: list[dict[str, np.ndarray]] = [{} for _ in range(n)]
        for key, value in read_arrays(self.folder / given).items():
            index, _slash, name = key.partition("/")
            gradients[int(index)][name] = value
        return training.write_steps(self.training.optimize(gradients, changed), self.folder, into)

    def do_train(self, given: str, n: int, into: str, way: dict[str, Any]) -> dict[str, Any]:
        """Steps on the file's batches, "inputs/index" and "labels/index"."""
        arrays = read_arrays(self.folder / given)
        batches = [[arrays[f"inputs/{index}"], arrays[f"labels/{index}"]] for index in range(n)]
        lists = {key: tuple(change_of(each) for each in way[key]) for key in ("changes", "of_loss")}
        return training.write_steps(self.training.train(batches, training.Way(**{**way, **lists})), self.folder, into)

    def do_drops(self, batch: str) -> dict[str, Any]:
        """What dropout does to a batch."""
        arrays = read_arrays(self.folder / batch)
        found = self.training.drops([arrays[key] for key in sorted(arrays, key=int)])
        return {"drops": [dataclasses.asdict(each) for each in found]}

    def do_batches(self, n: int, into: str) -> dict[str, Any]:
        """The first batches of the person's loader."""
        return training.write_batches(self.training.batches(n), self.folder, into)


def change_of(found: dict[str, Any]) -> Change:
    """A change from its JSON."""
    lists = {"pads": tuple(tuple(map(int, pair)) for pair in found.get("pads", ()))}
    return Change(**{**found, **lists, "order": tuple(found.get("order", ()))})


GPU = re.compile(r"\b(CUDA|GPUs?|NVIDIA|ROCm|MPS)\b|\bcuda\b")


def failure(error: BaseException, folders: tuple[str, ...]) -> dict[str, Any]:
    """An error of the person's, or of the framework that they asked, with the innermost line of theirs."""
    if isinstance(error, side.UserError):
        said = {"error": error.message, "hint": error.hint, "where": dataclasses.asdict(error.where)}
        return with_texts({**said, "code": error.code})
    where = Where()
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(folders):
            where = Where(frame.filename, frame.lineno or 0, frame.line or "")
    if isinstance(error, SyntaxError):
        where = Where(error.filename or "", error.lineno or 0, (error.text or "").strip())
    message = f"{type(error).__name__}: {error}"[:2000].rstrip(": ")
    code, hint = _kind(error, message)
    return with_texts({"error": message, "hint": hint, "where": dataclasses.asdict(where), "code": code})


def _kind(error: BaseException, message: str) -> tuple[str, str]:
    """The code of an error of somebody else's, and what to do."""
    if is_want_of_memory(error):
        return "LS-503", later("it may take as much memory as the machine has; try a smaller batch or model")
    if GPU.search(message):
        return "LS-404", later("both models are compared on the CPU: let the file build its model there")
    if isinstance(error, SystemExit):
        return "LS-403", later('the file ends the process: put that under if __name__ == "__main__":')
    return "LS-403", ""


def _limit(memory: int) -> None:
    """Let this process take no more memory than so many bytes, where the system can see to it."""
    with contextlib.suppress(ImportError, ValueError, OSError, AttributeError):
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


class Missing:
    """Answers every question with the reason why the framework is not there."""

    def __init__(self, framework: str, error: ImportError) -> None:
        self.framework, self.error = framework, error

    def answer(self, _question: dict[str, Any]) -> dict[str, Any]:
        """Raises it."""
        message = later("{name} cannot be imported: {why}", name=self.framework, why=str(self.error))
        hint = later("install it, or look at what lockstep doctor says")
        raise side.UserError(message, hint=hint, code="LS-401")


def _server(framework: str, folder: Path) -> Server | Missing:
    try:
        return Server(framework, folder)
    except ImportError as error:
        return Missing(framework, error)


def main(framework: str, folder: Path, memory: int) -> int:
    """Answer until nobody asks any more; the exit code."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever a person's code prints goes to the log
    processes.end_with_parent_by_the_system()
    processes.adopt_orphans()
    if hasattr(os, "register_at_fork"):  # Windows has no fork
        os.register_at_fork(after_in_child=answers.close)
    process = os.getpid()
    if memory:
        _limit(memory)
    server = _server(framework, folder)
    folders: tuple[str, ...] = (str(folder),)
    for line in sys.stdin:
        question = json.loads(line)
        if "file" in question and question["do"] == "load":
            folders = (*folders, str(Path(question["file"]).parent.resolve()))
        try:
            answer = {"event": "answer", **server.answer(question)}
        except BaseException as error:  # a person's file may raise KeyboardInterrupt too
            traceback.print_exc()
            answer = {"event": "failure", **failure(error, folders)}
        if os.getpid() != process:  # forked by the person's code, and come back from it
            os._exit(0)
        answers.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
