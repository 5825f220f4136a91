"""A folder's files, whole or not at all: written, read with suspicion, and named where they cannot be used."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.files import disk, intake
from lockstep.files.texts import restored, with_texts
from lockstep.language import later

FORMAT = 1
INTERRUPTED = "interrupted"  # the reason of a run that was ended from outside
UNUSABLE = later("cannot be used: {why}")
SAMPLES = 16  # test images, the first, that a run keeps to be looked at
TRACES = "traces"  # the folder in a study's that holds what its proofs rest on; they are no runs
ASIDE = "aside"  # and what `lockstep clean` moved out of the way
UNEXPLAINED = "unexplained"  # and what it packs of a divergence without a known cause


HINT = disk.HINT


def write_bytes(path: Path, content: bytes, sync_name: bool = True) -> None:
    """Write a file so that it is either whole or not there, and read it back; raises LockstepError (LS-501, LS-502).

    Without `sync_name` a later file of the same folder flushes this one's name too.
    """
    with disk.new_file(path, HINT, sync_name) as temporary, disk.writing(path, HINT):
        temporary.write_bytes(content)
    with disk.writing(path, HINT):
        if path.read_bytes() != content:
            raise LockstepError(
                "LS-501", later("what was read back is not what was written"), where=str(path), hint=HINT
            )


def write_json(path: Path, value: Any) -> None:
    """Write JSON (UTF-8, two spaces, keys in the order given); NaN and infinity become null.

    Texts keep their forms and values beside them (see `texts`). A document that says no format is of the first.
    """
    if isinstance(value, Mapping) and "format" not in value:
        value = {"format": FORMAT, **value}
    write_bytes(path, as_json(with_texts(finite(value))))


def as_json(value: Any) -> bytes:
    """A value as the bytes of a file of JSON."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="replace")


def finite(value: Any) -> Any:
    """The value with NumPy numbers as Python's and with None for every NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [finite(item) for item in value]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays as a compressed npz without pickle."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def append_event(path: Path, event: Mapping[str, Any]) -> None:
    """Add one line to events.jsonl; a line that a crash cut off is skipped by the reader."""
    with disk.writing(path, HINT), open(path, "a", encoding="utf-8", errors="replace") as file:
        file.write(as_line(event))


def as_line(event: Mapping[str, Any]) -> str:
    """An event as a line of events.jsonl."""
    return json.dumps(with_texts(finite(event)), ensure_ascii=False, allow_nan=False) + "\n"


def make_folder(path: Path) -> None:
    """Make a folder and its parents; raises LockstepError (LS-501, LS-502)."""
    with disk.writing(path, HINT):
        new = [place for place in (path, *path.parents) if not place.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for place in new:
            disk.sync_folder(place.parent)


def claim(study_folder: Path, run_id: str) -> Path:
    """Make a new run folder: `<run id>`, or `<run id>-2` … where earlier ones stand."""
    make_folder(study_folder)
    for attempt in range(1, 10_000):
        folder = study_folder / (run_id if attempt == 1 else f"{run_id}-{attempt}")
        with disk.writing(folder, HINT), contextlib.suppress(FileExistsError):
            folder.mkdir()
            disk.sync_folder(study_folder)
            return folder
    raise LockstepError(
        "LS-501", later("10,000 attempts of one run stand here"), where=str(study_folder), hint=later("clean it up")
    )


ATTRIBUTES = b"""# Hashes of runs hold for the bytes that were written: git is to leave their line ends alone.
* -text
"""


def make_study_folder(folder: Path) -> None:
    """Make the folder of a study's runs; the outermost that had to be made, runs/ or it, tells git to change nothing.

    Raises LockstepError (LS-501, LS-502).
    """
    new = next((place for place in (folder.parent, folder) if not place.exists()), None)
    make_folder(folder)
    if new is not None and not (folder.parent / ".gitattributes").exists():
        write_bytes(new / ".gitattributes", ATTRIBUTES)


# ------------------------------------------------------------------------------------------------------------ reading


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises LockstepError (LS-505)."""
    try:
        return restored(intake.json_object(path))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_as_written(path: Path) -> dict[str, Any]:
    """Read a JSON object with nothing put back of what makes its texts; raises LockstepError (LS-505)."""
    try:
        return intake.json_object(path)
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an npz, never pickle; raises LockstepError (LS-505)."""
    try:
        return intake.npz(path)
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen kinds on damaged files
        raise damaged(path, error) from error


def read_tensors(path: Path, known: Any) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file that a manifest lists as `known`; raises LockstepError (LS-505)."""
    try:
        return intake.tensors(intake.checked(path, known))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, why: object) -> LockstepError:
    """The error (LS-505) for a file of a run folder that cannot be used."""
    why = later("it is missing") if isinstance(why, FileNotFoundError) else why
    return LockstepError(
        "LS-505", later(UNUSABLE, why=why), where=str(path), hint=later("run it again; this file stays as it is")
    )


def read_events(path: Path) -> list[dict[str, Any]]:
    """The events of a run, without lines that a crash cut off."""
    try:
        lines = intake.json_text(path, errors="replace").splitlines()
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    events = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(restored(event))
    return events


def natural(path: Path) -> list[Any]:
    """A sort key by which run-2 comes before run-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]
