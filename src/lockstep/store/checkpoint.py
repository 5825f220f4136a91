"""checkpoint-<n>/: weights and state after an epoch, whose manifest is written last and makes them count."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.files import disk
from lockstep.language import later
from lockstep.store.folder import (
    FORMAT,
    HINT,
    as_json,
    damaged,
    finite,
    make_folder,
    natural,
    read_as_written,
    read_tensors,
    write_bytes,
)
from lockstep.store.status import SEALED, check_seal, seal


def write_checkpoint(
    run: Path,
    epoch: int,
    weights: Mapping[str, Any],
    state: Mapping[str, Any],
    more: Mapping[str, Mapping[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write checkpoint-<epoch>; its manifest comes last and makes it count. Raises LockstepError (LS-501, LS-502).

    `more`: the name of a further file → its arrays. `facts` stand in the manifest, which carries its own SHA-256. What
    stood there under this name is replaced.
    """
    from safetensors.numpy import save

    folder = run / f"checkpoint-{epoch}"
    make_folder(folder)
    with disk.writing(folder, HINT):
        (folder / "manifest.json").unlink(missing_ok=True)
    manifest: dict[str, Any] = {"format": SEALED, "epoch": epoch, **finite(facts or {}), "files": {}}
    for name, arrays in {"weights": weights, "state": state, **(more or {})}.items():
        content = save(_contiguous(arrays))
        write_bytes(folder / f"{name}.safetensors", content, sync_name=False)
        listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        manifest["files"][f"{name}.safetensors"] = listed
    write_bytes(folder / "manifest.json", as_json({**manifest, "seal": seal(manifest)}))
    with disk.writing(folder, HINT):
        disk.sync_folder(run)
    return folder


def _contiguous(arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, order="C") for name, value in arrays.items()}


def read_checkpoint(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(weights, state) of a checkpoint whose manifest fits; raises LockstepError (LS-505)."""
    manifest = read_checkpoint_manifest(folder)
    return read_checkpoint_file(folder, "weights", manifest), read_checkpoint_file(folder, "state", manifest)


def read_checkpoint_manifest(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest.json, every bit of it as it was written; raises LockstepError (LS-505)."""
    path = folder / "manifest.json"
    manifest = read_as_written(path)
    listed = manifest.get("files")
    if not isinstance(listed, dict) or not listed:
        raise damaged(path, later('"files" is missing'))
    if manifest.get("format") == FORMAT and manifest.keys() == {"format", "epoch", "files"}:
        return manifest
    check_seal(path, manifest)
    if folder.name != f"checkpoint-{manifest.get('epoch')}":
        raise damaged(path, later("it is that of epoch {epoch}", epoch=manifest.get("epoch")))
    return manifest


def read_checkpoint_file(folder: Path, name: str, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of `<name>.safetensors`, whose SHA-256 is the manifest's; raises LockstepError (LS-505)."""
    return read_tensors(folder / f"{name}.safetensors", manifest["files"].get(f"{name}.safetensors"))


def find_checkpoints(run: Path) -> list[Path]:
    """Every checkpoint of a run, the newest first, whatever it is worth; what has another name is somebody else's."""
    found = [place for place in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", place.name)]
    return sorted(found, key=natural, reverse=True)


def newest_checkpoint(run: Path, warn: Callable[[str], None] = lambda message: None) -> Path | None:
    """The last complete checkpoint; an incomplete one is skipped and reported, never deleted."""
    for folder in find_checkpoints(run):
        try:
            read_checkpoint(folder)
            return folder
        except LockstepError as error:
            warn(str(error))
    return None
