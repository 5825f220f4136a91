"""From what a user typed, a name or a path, to a dataset: `load`, or `describe` where its facts are enough."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lockstep.data import digits, idx, images, imports, npz, pixel_table, quartet, scripts, sizes
from lockstep.data.catalogue import DATASETS, unknown_name
from lockstep.data.contents import ARRAYS, Data, Facts, array_hash
from lockstep.data.download import Progress, fetch, missing
from lockstep.data.files import content_hash
from lockstep.data.formats import format_at
from lockstep.data.places import available, cache, find, imported
from lockstep.errors import LockstepError, Problem
from lockstep.language import later, reason


class Row(NamedTuple):
    """One file (of an import: one array) compared with what it should be; `state`: "right", "wrong" or "missing"."""

    file: str
    state: str
    expected: str
    found: str


def load(name_or_path: str, *, offline: bool = False, progress: Progress | None = None) -> Data:
    """Read a dataset: a name of `available()`, a folder of IDX files or of pictures by class, an .npz or a .csv file.

    A path contains a separator, starts with "." or ends with .npz or .csv. A missing dataset of the table is
    downloaded unless `offline`; `progress(file, bytes so far, bytes in all)` is called meanwhile. Every known hash is
    compared.

    Raises LockstepError: LS-209 (unknown name), LS-301 (not here), LS-302 (download failed), LS-303 (another content),
    LS-304 … LS-309 (damaged or unsuitable), LS-503 (too large for the memory).
    """
    try:
        found = _loaded(name_or_path, offline, progress)
    except MemoryError:
        hint = later("use fewer or smaller images, or a machine with more memory")
        raise LockstepError(
            "LS-503", later("the dataset does not fit into memory"), where=name_or_path, hint=hint
        ) from None
    return found.noted()


def _loaded(name_or_path: str, offline: bool, progress: Progress | None) -> Data:
    if _is_path(name_or_path):
        path = _path(name_or_path)
        return format_at(path).read()
    if name_or_path in DATASETS:
        return _load_known(name_or_path, offline, progress)
    if name_or_path in (files := imported()):
        return dataclasses.replace(npz.read(files[name_or_path]), name=name_or_path)
    raise unknown_name(name_or_path, list(available()))


def describe(name_or_path: str) -> Facts:
    """What is known of a dataset without decoding its images and without a download; raises as `load`.

    The facts of a dataset of the table are known even where it is missing.
    """
    if _is_path(name_or_path):
        path = _path(name_or_path)
        return format_at(path).facts()
    if name_or_path in DATASETS:
        entry = DATASETS[name_or_path]
        state = _state(name_or_path)
        return Facts(name_or_path, entry.image_shape, entry.class_names, entry.n_train, entry.n_test, state)
    if name_or_path in (files := imported()):
        path = files[name_or_path]
        return dataclasses.replace(
            npz.facts(path), name=name_or_path, state=later("imported in {folder}", folder=path.parent)
        )
    raise unknown_name(name_or_path, list(available()))


def import_folder(
    source: str | os.PathLike[str],
    name: str,
    *,
    size: int | Sequence[int] | str | None = None,
    keep_proportions: bool = False,
) -> Path:
    """Read a dataset from any source that `load` takes and keep it under a name of your own; returns the new file.

    Of a folder of pictures `size`, (height, width), "28x20" or one side for both, is what all pictures are brought to;
    with `keep_proportions` they are fitted into it, not stretched. Raises LockstepError: LS-205 (no size, or a source
    that is no folder of pictures), LS-310 (the name is taken or unusable), LS-501, LS-502 (cannot be stored), else as
    `load`.
    """
    given = os.fspath(source)
    source_name = given if given in available() or _is_path(given) else os.path.join(".", given)
    if size is None and not keep_proportions:
        return imports.store(lambda: load(source_name), name)
    height_and_width = sizes.parsed(size) if isinstance(size, str) else None if size is None else sizes.checked(size)
    wanted = images.Wanted(height_and_width, keep_proportions)
    return imports.store(lambda: _pictures(source_name, wanted), name)


def _pictures(source: str, wanted: images.Wanted) -> Data:
    """A folder of pictures, brought to the size that is wanted; raises LockstepError, LS-205 for any other source."""
    path = _path(source) if _is_path(source) else None
    found = format_at(path) if path else None
    if found is None or found.reader is not images:
        message = later("a size can be chosen for a folder of pictures alone")
        hint = later("leave --size and --keep-proportions away: images of other sources have one size already")
        raise LockstepError("LS-205", message, where=source, hint=hint)
    return images.read(found.at, wanted).noted()


def verify(name: str) -> list[Row]:
    """Compare every file of a dataset (every array of an imported one) with its hash; raises LS-209, and LS-306."""
    if name in (files := imported()) and name not in DATASETS:
        return _verify_import(files[name])
    if name not in DATASETS:
        raise unknown_name(name, list(available()))
    folder = find(name)[0] or cache() / name
    rows = []
    for file in DATASETS[name].files:
        path = quartet.file_in(folder, file.name) if DATASETS[name].mirrors else digits.source()
        if path is None:
            rows.append(Row(str(folder / file.name), later("missing"), file.sha256, ""))
            continue
        try:
            found = content_hash(path, file.n_bytes)
        except ValueError as error:
            found = reason(error)
        rows.append(Row(str(path), later("right") if found == file.sha256 else later("wrong"), file.sha256, found))
    return rows


def _verify_import(path: Path) -> list[Row]:
    expected = npz.stored_hashes(path)
    arrays = npz.read_arrays(path)
    rows = []
    for name in ARRAYS:
        found = array_hash(arrays[name])
        state = later("right") if expected.get(name) == found else later("wrong")
        rows.append(Row(f"{path}: {name}", state, expected.get(name, ""), found))
    return rows


def _is_path(text: str) -> bool:
    is_file = text.lower().endswith((".npz", *pixel_table.SUFFIXES, *scripts.REFUSED))
    return os.sep in text or "/" in text or text.startswith((".", "~")) or is_file


def _path(text: str) -> Path:
    path = os.path.abspath(os.path.expanduser(text))
    if not os.path.exists(path):
        hint = later("check the path; a dataset's name, without any /, is one of {names}", names=", ".join(available()))
        raise LockstepError("LS-301", later("there is no such file or folder"), where=path, hint=hint)
    return Path(path)


def _state(name: str) -> str:
    if not DATASETS[name].mirrors:
        return later("embedded")
    folder = find(name)[0]
    if folder is None:
        return later("not on this machine")
    return (
        later("cached in {folder}", folder=folder)
        if folder.parent == cache()
        else later("found in {folder}", folder=folder)
    )


def _load_known(name: str, offline: bool, progress: Progress | None) -> Data:
    if not DATASETS[name].mirrors:
        return digits.read(name, DATASETS[name])
    folder, incomplete = find(name)
    if folder is None and offline:
        raise missing(name, incomplete)
    return _read_known(name, folder or fetch(name, progress=progress))


def _read_known(name: str, folder: Path) -> Data:
    """The four files of a dataset of the table, each compared with its hash; all problems at once."""
    arrays, hashes, problems = {}, {}, []
    keys = {file_name: key for key, file_name in quartet.FILES.items()}
    for file in DATASETS[name].files:
        path = quartet.file_in(folder, file.name) or folder / file.name
        hint = later("delete it and run `lockstep data fetch {name}`", name=name)
        try:
            arrays[keys[file.name]], hashes[file.name] = idx.read_hashed(path)
        except LockstepError as error:
            problems += [dataclasses.replace(problem, hint=hint) for problem in error.problems]
            continue
        if hashes[file.name] != file.sha256:
            message = later(
                "SHA-256 of the decompressed file should be {sha256}, but is {found}",
                sha256=file.sha256,
                found=hashes[file.name],
            )
            problems.append(Problem("LS-303", message, str(path), hint))
    if problems:
        raise LockstepError.several(problems)
    return quartet.assemble(name, folder, arrays, hashes, DATASETS[name].class_names)
