"""Where datasets lie on this machine: LOCKSTEP_DATA, the system's folder, the user's cache and imports."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

from lockstep.data.catalogue import DATASETS, unknown_name
from lockstep.data.quartet import file_in
from lockstep.language import later

SYSTEM = Path("/usr/share/datasets")  # where Debian's dataset-* packages install


class Place(NamedTuple):
    """A folder in which datasets are looked for, and what it is for."""

    folder: Path
    purpose: str
    exists: bool


def _user_folder(kind: str) -> Path:
    """The user's cache or data folder; under the temporary one where the user has no home."""
    import platformdirs  # kept out of start-up

    find = {"cache": platformdirs.user_cache_dir, "data": platformdirs.user_data_dir}[kind]
    try:
        folder = Path(find("lockstep", appauthor=False))
    except RuntimeError:  # neither HOME nor the password file knows a home; older versions answer "~/…"
        folder = Path()
    if not folder.is_absolute():
        user = os.getuid() if hasattr(os, "getuid") else "user"
        folder = Path(tempfile.gettempdir()) / f"lockstep-{user}" / kind
    return folder / "datasets"


def cache() -> Path:
    """The folder that downloads go to, one subfolder per dataset."""
    return _user_folder("cache")


def imports() -> Path:
    """The folder that holds what the user imported, one npz per dataset."""
    return _user_folder("data")


def _roots() -> list[tuple[Path, str]]:
    chosen = os.environ.get("LOCKSTEP_DATA")
    own = (
        [(Path(os.path.abspath(os.path.expanduser(chosen))), later("LOCKSTEP_DATA: datasets that you keep"))]
        if chosen
        else []
    )
    return [
        *own,
        (SYSTEM, later("datasets installed by the operating system")),
        (cache(), later("cache: datasets downloaded")),
    ]


def path() -> list[Place]:
    """Every folder in which datasets are looked for, in the order of looking, and the one that imports go to."""
    rows = [*_roots(), (imports(), later("imports: datasets made from your own files"))]
    return [Place(folder, purpose, os.path.isdir(folder)) for folder, purpose in rows]


def find(name: str) -> tuple[Path | None, list[str]]:
    """The first folder that holds every file of a dataset of the table, and a sentence per folder that lacks some."""
    incomplete: list[str] = []
    for root, _purpose in _roots():
        for folder in (root / name, *(root / other for other in DATASETS[name].folders)):
            missing = [file.name for file in DATASETS[name].files if file_in(folder, file.name) is None]
            if not missing:
                return folder, incomplete
            if len(missing) < len(DATASETS[name].files):
                incomplete.append(later("{folder} lacks {files}", folder=folder, files=", ".join(missing)))
    return None, incomplete


def imported() -> dict[str, Path]:
    try:
        files = sorted(imports().glob("[!.]*.npz"))
    except OSError:
        return {}
    return {file.name.removesuffix(".npz"): file for file in files if os.path.isfile(file)}


def available() -> tuple[str, ...]:
    """Every name that `load` takes: the table's, then the imported ones."""
    return (*DATASETS, *(name for name in imported() if name not in DATASETS))


def checked_name(name: str) -> str:
    """The name if it is one of `available()`; raises LockstepError LS-209."""
    if name not in available():
        raise unknown_name(name, list(available()))
    return name
