"""What a tracker's program is given, and what it says: `python PROGRAM PLACE TARGET NAME`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Run = dict[str, Any]


def given(place: Path) -> list[tuple[Run, np.ndarray]]:
    """Every run, with its images."""
    rows = json.loads((place / "runs.json").read_text(encoding="utf-8"))
    with np.load(place / "images.npz", allow_pickle=False) as arrays:
        return [(row, arrays[str(n)]) for n, row in enumerate(rows)]


def epochs(run: Run) -> Iterator[tuple[int, float, dict[str, float]]]:
    """(epoch, time, what was measured) of each epoch; what was no number is left out."""
    for n, time in enumerate(run["times"]):
        yield n + 1, time, {name: values[n] for name, values in run["series"].items() if values[n] is not None}


def once(place: Path, is_there: Callable[[Run], bool], write: Callable[[Run, np.ndarray], None]) -> None:
    """Write every run that is not there, and say which."""
    done: dict[str, list[str]] = {"written": [], "unchanged": []}
    for run, images in given(place):
        known = is_there(run)
        if not known:
            write(run, images)
        done["unchanged" if known else "written"].append(run["name"])
    (place / "done.json").write_text(json.dumps(done), encoding="utf-8")


def assert_same(name: str, found: list[float], wanted: list[float], is_single: bool = False) -> None:
    """What was read back is what was written; `is_single`, where a tracker keeps float32."""
    rounded = [struct.unpack("f", struct.pack("f", value))[0] if is_single else value for value in wanted]
    if found != rounded:
        raise SystemExit(f"{name}: read back as {found}, written as {wanted}")


def measured(run: Run, name: str) -> list[float]:
    """A series, without what was no number."""
    return [value for value in run["series"][name] if value is not None]
