"""What a finished run's files were when they were written: manifest.json, and what no longer fits it."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Any

from lockstep.errors import LockstepError, without
from lockstep.files import disk, intake
from lockstep.language import later, reason
from lockstep.store.checkpoint import find_checkpoints
from lockstep.store.documents import traces
from lockstep.store.folder import FORMAT, HINT, UNUSABLE, damaged, read_json, write_json

HASHED = (
    "spec.toml",
    "environment.json",
    "events.jsonl",
    "steps.npz",
    "samples.npz",
    "hardest.npz",
    "predictions.npz",
    "metrics.json",
    "timing.json",
)


def write_manifest(run: Path) -> None:
    """Write manifest.json: the size and SHA-256 of every file of a run that is done, so that a later edit shows."""
    listed = {}
    for path in (run / name for name in HASHED):
        with disk.writing(path, HINT), open(path, "rb+") as file:
            os.fsync(file.fileno())  # events.jsonl grew line by line
        content = path.read_bytes()
        listed[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_json(run / "manifest.json", {"format": FORMAT, "files": listed})


def check_manifest(run: Path) -> None:
    """Raise LockstepError (LS-505) where a file of a finished run is not what manifest.json says."""
    for name, wrong in check_files(run).items():
        if wrong is not None:
            raise damaged(run / name, wrong)


def check_files(run: Path) -> dict[str, str | None]:
    """Every file of a finished run and what is wrong with it, None where nothing is; manifest.json is among them."""
    path = run / "manifest.json"
    try:
        manifest = read_json(path)
        listed = manifest.get("files")
        if manifest.get("format") not in (FORMAT, traces.FORMAT):
            raise damaged(
                path,
                later(
                    "it has format {format!r}, this version reads format {known}",
                    format=manifest.get("format"),
                    known=FORMAT,
                ),
            )
        if not isinstance(listed, dict) or not listed:
            raise damaged(path, later('"files" is missing'))
    except LockstepError as error:
        return {path.name: without(error.problems[0].message, UNUSABLE)}
    found: dict[str, str | None] = {path.name: None}
    for name, known in listed.items():
        name = Path(name).name  # never outside the folder
        try:
            intake.compare(run / name, known)
            found[name] = None
        except (OSError, ValueError) as error:
            found[name] = later("it is missing") if isinstance(error, FileNotFoundError) else reason(error)
            if Path(name).suffix in TEXTS and _is_but_for_line_ends(run / name, known):
                found[name] = None
    return found


TEXTS = (".toml", ".json", ".jsonl")  # the files of a run that git and editors take for texts


def _is_but_for_line_ends(path: Path, known: Any) -> bool:
    try:
        return intake.is_but_for_line_ends(path, known)
    except (OSError, ValueError):
        return False


def other_line_ends(run: Path) -> list[str]:
    """The texts of a run's folder whose line ends are no longer those that Lockstep writes; none where it is whole."""
    found = []
    for place in (run, *find_checkpoints(run)):
        listed: Any = {}
        with contextlib.suppress(LockstepError):
            listed = read_json(place / "manifest.json").get("files")
        for path in sorted(place.glob("*")):
            if path.suffix in TEXTS and path.is_file():
                with contextlib.suppress(OSError, ValueError):
                    content = intake.content(path, intake.LARGEST_JSON)
                    known = listed.get(path.name) if isinstance(listed, dict) else None
                    # What is no longer what was written for another reason, too, is told with the files.
                    is_that = intake.is_but_for_line_ends(path, known) if known else b"\r" in content
                    if content and content != intake.line_ends_put_back(content) and is_that:
                        found.append(path.relative_to(run).as_posix())
    return found


def holds_results(run: Path) -> bool:
    """Whether a run came to its end in this folder, whatever its status says or has lost."""
    return any((run / name).exists() for name in ("manifest.json", "metrics.json"))
