"""film/: what a run had learned after each epoch, in half precision, for a page that shows the epochs one by one.

Kept only where the folder is there, which `run --film` makes: so a run that is resumed goes on with its film, and no
other run pays for one. Half precision is a quarter of what a checkpoint takes; nothing is ever trained from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lockstep.files import intake
from lockstep.store.folder import damaged, make_folder, natural, write_bytes

FOLDER = "film"
STATISTICS = ("running_mean", "running_variance")


def begin_film(run: Path) -> None:
    """From now on keep a frame of this run after each epoch; raises LockstepError (LS-501, LS-502)."""
    make_folder(run / FOLDER)


def is_filmed(run: Path) -> bool:
    return (run / FOLDER).is_dir()


def keep_frame(run: Path, epoch: int, weights: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]) -> None:
    """Keep weights and running statistics after an epoch, where the run is filmed; raises LockstepError as `begin`."""
    if not is_filmed(run):
        return
    from safetensors.numpy import save

    statistics = {name: value for name, value in state.items() if name.rpartition("/")[2] in STATISTICS}
    with np.errstate(over="ignore"):  # what half precision cannot hold becomes infinite, and its frame is not shown
        halves = {name: np.ascontiguousarray(value, np.float16) for name, value in {**weights, **statistics}.items()}
    write_bytes(run / FOLDER / f"epoch-{epoch}.safetensors", save(halves))


def find_frames(run: Path) -> dict[int, Path]:
    """Epoch → its frame's file, in order."""
    found = [path for path in (run / FOLDER).glob("epoch-*") if re.fullmatch(r"epoch-[0-9]+\.safetensors", path.name)]
    return {int(path.stem.removeprefix("epoch-")): path for path in sorted(found, key=natural)}


def read_frame(path: Path) -> dict[str, np.ndarray]:
    """The numbers of a frame, by their names; raises LockstepError (LS-505) where it is damaged."""
    try:
        return intake.tensors(intake.content(path, intake.LARGEST_ARRAYS))
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
