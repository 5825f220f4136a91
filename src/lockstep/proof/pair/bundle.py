"""What nothing explains, packed so that one folder repeats it: for the models' authors, for a framework, or for us.

a/  b/          both files, and what they import from their own folders
batch.npz       as the first model takes it
weights.npz     "a/…" and "b/…": every parameter of both, as they were compared
calls-<n>.npz   what the two calls of difference n took and gave: "a/input/0", "b/output/0" …
calls.json      which calls these are: function, arguments, line
diff.json       what was found
versions.json   Python, NumPy, the frameworks, the machine
reproduce.py    compares both again
"""

from __future__ import annotations

import ast
import platform
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import store
from lockstep.exchange.models.records import Call, Trace
from lockstep.proof.pair.client import Named, imports
from lockstep.store.documents.difference import FILE, Difference, Finding
from lockstep.store.documents.part import but
from lockstep.version import version

NAME = "unexplained"
MOST_FILES = 200  # of a person's own that are copied with a model
SCRIPT = '''"""{a} | {b}: {n} unexplained; calls-<n>.npz holds what the calls took and gave.

python reproduce.py        needs lockstep-nn and both frameworks; or, in this folder:
{command}
"""

import os
from pathlib import Path

import lockstep

if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    print(lockstep.diff({first!r}, {second!r}, batch="batch.npz", weights="weights.npz"))
'''


def unexplained(found: Difference) -> list[tuple[int, Finding]]:
    """The findings without a cause that could be put right, by their number from 1."""
    return [(number, one) for number, one in enumerate(found.findings, 1) if one.error is None]


def write(
    folder: Path, found: Difference, asked: tuple[Named, Named], batch: Sequence[np.ndarray],
    units: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    guilty: Mapping[int, Sequence[tuple[Trace, Call]]],
) -> Difference:  # fmt: skip
    """Pack what is unexplained into `folder`/unexplained; returns what was found, with the place of the bundle.

    `units` are both models' parameters, `guilty` the two calls of a finding with their passes, by its number. An
    earlier bundle there is replaced. Where all is explained nothing is written. Raises LockstepError (LS-501, LS-502).
    """
    numbers = dict(unexplained(found))
    if not numbers:
        return found
    place = folder / NAME
    if (place / FILE).exists():
        shutil.rmtree(place, ignore_errors=True)
    store.make_folder(place)
    told = [but(one, bundle=str(place)) if number in numbers else one for number, one in enumerate(found.findings, 1)]
    found = but(found, findings=tuple(told))
    for letter, one in zip("ab", asked, strict=True):
        for path in _files(one.file):
            target = place / letter / path.relative_to(one.file.parent.resolve())
            store.make_folder(target.parent)
            store.write_bytes(target, path.read_bytes())
    store.write_npz(place / "batch.npz", **{str(index): value for index, value in enumerate(batch)})
    store.write_npz(place / "weights.npz", **both(units))
    calls: dict[str, Any] = {}
    for number, pair in guilty.items():
        if number in numbers:
            store.write_npz(place / f"calls-{number}.npz", **_arrays(pair))
            calls[str(number)] = {letter: _told(call) for letter, (_trace, call) in zip("ab", pair, strict=True)}
    store.write_json(place / "calls.json", {"format": store.FORMAT, "calls": calls})
    store.write_json(place / FILE, found.document())
    store.write_json(place / "versions.json", _versions(found))
    store.write_bytes(place / "reproduce.py", _script(found, asked, len(numbers)).encode())
    return found


def both(units: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Both models' parameters under one roof: "a/…", "b/…"."""
    return {f"{letter}/{name}": value for letter, own in zip("ab", units, strict=True) for name, value in own.items()}


def of_both(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Both models' parameters out of a weights.npz; raises LockstepError (LS-505)."""
    found = store.read_npz(path)
    parts = tuple({name[2:]: value for name, value in found.items() if name.startswith(f"{side}/")} for side in "ab")
    return parts[0], parts[1]


def _files(file: Path) -> Iterator[Path]:
    """A person's file, and every file of its own folder that it imports, or that those import."""
    folder = file.parent.resolve()
    waiting, seen = [folder / file.name], set[Path]()
    while waiting and len(seen) < MOST_FILES:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        yield path
        for name in _imported(path):
            package = folder / name
            waiting += [each for each in (folder / f"{name}.py", *sorted(package.rglob("*.py"))) if each.is_file()]


def _imported(path: Path) -> set[str]:
    try:
        return set(imports(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError, OSError):
        return set()


def _arrays(pair: Sequence[tuple[Trace, Call]]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for letter, (trace, call) in zip("ab", pair, strict=True):
        for what, numbers in (("input", call.inputs), ("output", call.outputs)):
            held = [trace.tensors[number] for number in numbers if number in trace.tensors]
            found |= {f"{letter}/{what}/{index}": value for index, value in enumerate(held)}
    return found


def _told(call: Call) -> dict[str, Any]:
    return {
        "function": call.function, "kind": call.kind, "layer": call.path, "line": str(call.where),
        "text": call.where.text, "arguments": call.arguments, "parameters": call.units,
    }  # fmt: skip


def _versions(found: Difference) -> dict[str, Any]:
    models = {model.framework: model.version for model in found.models}
    return {
        "lockstep": version(), "python": platform.python_version(), "numpy": np.__version__, **models,
        "platform": platform.platform(), "machine": platform.machine(),
    }  # fmt: skip


def _script(found: Difference, asked: tuple[Named, Named], n: int) -> str:
    first, second = (f"{letter}/{one.file.name}:{one.name}" for letter, one in zip("ab", asked, strict=True))
    words = ("lockstep", "diff", first, second, "--batch", "batch.npz", "--weights", "weights.npz")
    shown = {name: one.replace("\\", "/").replace('"', "'") for name, one in (("a", found.a), ("b", found.b))}
    return SCRIPT.format(**shown, n=n, command=shlex.join(words), first=first, second=second)
