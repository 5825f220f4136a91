"""What frameworks do when nothing more is asked for, measured on the installed ones: `lockstep explain differences`.

A table of defaults that is copied from documentation is right until the next release. Here each framework runs its own
layer, loss or optimizer on a small input (DEFAULTS in the module of its name, in a process of its own) and hands back
raw numbers; `meanings` says what they mean.

    python -P -m lockstep.defaults.differences BACKEND FILE     runs one framework's DEFAULTS, writes what came out
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends
from lockstep.defaults.meanings import SUBJECTS, Given, meaning
from lockstep.errors import LockstepError
from lockstep.language import joined, later, recognised
from lockstep.machine import cores, processes, workers

FRAMEWORKS = tuple(name for name in backends.BACKENDS if name != "numpy")  # NumPy has no layers to have defaults
SECONDS = 300  # that a framework's process may take
UNWRITTEN = later("nobody has written how to measure it")
NOTHING = (  # why there is no such default here, as a framework's process says it
    UNWRITTEN,
    later("{package} is not installed"),
    later("JAX, Optax and Flax have no training loop of their own"),
    later("PyTorch has no training loop of its own"),
    later("Optax has no default: the learning rate must be given"),
    later("Optax's losses take logits"),
    later("optax.adam takes no weight_decay; optax.adamw does"),
    later("Flax freezes in the optimizer; statistics follow use_running_average alone"),
)

# ---------------------------------------------------------------------------------------------------------- measurement


def measure(names: Iterable[str] = FRAMEWORKS) -> dict[str, Any]:
    """What every framework's DEFAULTS gave: backend → {"missing": why} or {"versions", "subjects": {subject: rows}}.

    A row is {"ran", "version", "numbers" | "refused" | "missing"}; instead of rows stands why there is no such thing.
    All run at once, each in its own process and on the CPU. Raises LockstepError (LS-402, LS-403).
    """
    with tempfile.TemporaryDirectory(prefix="lockstep-") as folder, contextlib.ExitStack() as running:
        found: dict[str, Any] = {}
        begun: dict[str, workers.Worker] = {}
        for name in names:
            if reason := backends.why_missing(name):
                found[name] = {"missing": reason}
            else:
                begun[name] = running.enter_context(_begun(name, Path(folder)))
        for name, worker in begun.items():
            found[name] = _result(name, worker, Path(folder))
        return {name: found[name] for name in names}


def _begun(name: str, folder: Path) -> workers.Worker:
    environment = workers.environment(name, 1) | {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    everywhere = len(cores.usable_cores())
    with open(folder / f"{name}.log", "wb") as log:
        words = (name, folder / f"{name}.json")
        return workers.Worker("lockstep.defaults.differences", words, everywhere, environment, log, stdout=log)


def _result(name: str, worker: workers.Worker, folder: Path) -> dict[str, Any]:
    code = worker.exit_code(SECONDS)
    where, hint = later("backend {name}", name=name), later("see: lockstep doctor")
    if code is None:
        raise LockstepError(
            "LS-402", later("it was not done after {seconds} seconds", seconds=SECONDS), where=where, hint=hint
        )
    if code:
        message = later(
            "measuring its defaults ended with exit code {code}; it last said: {words}",
            code=code,
            words=" | ".join(workers.last_words(folder / f"{name}.log", 3)),
        )
        raise LockstepError("LS-403", message, where=where, hint=hint)
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def run(name: str) -> dict[str, Any]:
    """Run the DEFAULTS of one backend in this process: one value of what `measure` returns."""
    defaults = backends.imported(name, f"lockstep.defaults.{name}").DEFAULTS
    subjects: dict[str, Any] = {}
    for subject, row in SUBJECTS.items():
        entry = defaults.get(subject, UNWRITTEN)
        is_said = isinstance(entry, str)  # a reason instead of calls
        subjects[subject] = entry if is_said else [outcome_of(what, entry[what], row.given) for what in entry]
    return {"versions": backends.versions(name), "subjects": subjects}


def outcome_of(what: str, function: Callable[..., Any], given: Given) -> dict[str, Any]:
    """What a framework's function gave for these arguments: numbers, a refusal, or that its package is missing."""
    package = what.partition(".")[0]
    try:
        seen = function(**given)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return {"ran": what, "version": None, "missing": f"{package} is not installed"}
    found = {"ran": what, "version": f"{package} {sys.modules[package].__version__.partition('+')[0]}"}
    if isinstance(seen, str):
        return {**found, "refused": seen}
    return {**found, "numbers": {name: np.asarray(value).tolist() for name, value in seen.items()}}


# ------------------------------------------------------------------------------------------------------------ the table


def table(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What `measure` gave, with its meaning: {"versions", "rows": [{"subject", "what", "canonical", …, "causes"}]}.

    Under each framework's name a row holds a list of {"ran", "version", "state", "meaning", "measured"}. `state` is
    "measured", "refused" (the meaning is what it said), "none" (why there is no such thing) or "missing".
    """
    versions = dict(sorted(row["version"].split(" ") for row in _rows(measured) if row["version"]))
    return {
        "versions": versions,
        "rows": [
            {
                "subject": subject, "what": row.what, "canonical": row.canonical,
                **{name: list(_meanings(subject, found)) for name, found in measured.items()},
                "causes": list(row.causes),
            }
            for subject, row in SUBJECTS.items()
        ],
    }  # fmt: skip


def _rows(measured: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for found in measured.values():
        for entry in found.get("subjects", {}).values():
            yield from () if isinstance(entry, str) else entry


def _meanings(subject: str, found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    nothing = {"ran": None, "version": None, "measured": None}
    if "missing" in found:
        yield nothing | {"state": "missing", "meaning": found["missing"]}
        return
    entry = found["subjects"][subject]
    if isinstance(entry, str):
        yield nothing | {"state": "none", "meaning": recognised(entry, NOTHING)}
        return
    for row in entry:
        same = nothing | {"ran": row["ran"], "version": row["version"]}
        if "numbers" not in row:
            state = "refused" if "refused" in row else "missing"
            yield same | {"state": state, "meaning": recognised(row[state], NOTHING)}
            continue
        seen = {name: np.asarray(value) for name, value in row["numbers"].items()}
        summary = {name: _summary(value) for name, value in seen.items()}
        yield same | {"state": "measured", "meaning": meaning(subject, seen), "measured": summary}


def _summary(values: np.ndarray) -> Any:
    """The numbers, or what is worth saying of many."""
    if values.size <= 24:
        return values.tolist()
    ends = {"smallest": float(values.min()), "largest": float(values.max())}
    return {"shape": list(values.shape), "mean": float(values.mean()), "deviation": float(values.std()), **ends}


SAID = {
    "measured": later("{meaning}"), "refused": later("refused: {meaning}"), "none": later("– {meaning}"),
    "missing": later("not measured: {meaning}"),
}  # fmt: skip


def sentence(found: Mapping[str, Any]) -> str:
    """One thing that a framework does, in words."""
    return later(SAID[found["state"]], meaning=found["meaning"])


def measured_with(document: Mapping[str, Any]) -> str:
    """The packages that ran, with their versions."""
    return ", ".join(f"{name} {version}" for name, version in document["versions"].items())


def cells(document: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) for a terminal: what was run is said where there are several."""
    columns, names = _columns(document)
    rows = []
    for row in document["rows"]:
        said = [joined((_line(found, len(row[name]) > 1) for found in row[name]), "\n") for name in names]
        rows.append([row["what"], row["canonical"] or "–", *said])
    return columns, rows


def _line(found: Mapping[str, Any], is_one_of_several: bool) -> str:
    return joined((found["ran"], sentence(found)), ": ") if is_one_of_several else sentence(found)


def _columns(document: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    names = [name for name in FRAMEWORKS if name in document["rows"][0]]
    return [later("subject"), later("canonical"), *(backends.BACKENDS[name][0] for name in names)], names


HEAD = """# What frameworks do when nothing more is asked for

<!-- Written by `lockstep explain differences --markdown`. Do not edit it: run that again. -->

Each row is a default that a user gets without asking. Every framework ran its own layer, loss or optimizer on a small
input, on the CPU, and its numbers were worked out again in NumPy under each meaning that is known; the one that gives
the same numbers within rounding is stated, and "none of the known meanings" where none does. Nothing here is copied
from documentation. The canonical meaning is Lockstep's own. The last column names the causes of `lockstep explain
causes` that the row is behind: `lockstep prove` finds them in a run.

Measured with {versions}.

"""


def markdown(document: Mapping[str, Any]) -> str:
    columns, names = _columns(document)
    lines = [[*columns, "causes"], ["---"] * (len(columns) + 1)]
    for row in document["rows"]:
        said = ["<br>".join(map(_cell, row[name])) for name in names]
        causes = ", ".join(f"`{name}`" for name in row["causes"]) or "–"
        lines.append([row["what"], row["canonical"] or "–", *said, causes])
    return HEAD.format(versions=measured_with(document)) + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(found: Mapping[str, Any]) -> str:
    text = sentence(found).replace("|", "\\|")
    return f"{text} (`{found['ran']}`)" if found["ran"] else text


if __name__ == "__main__":
    processes.end_with_parent()
    Path(sys.argv[2]).write_text(json.dumps(run(sys.argv[1])), encoding="utf-8")
