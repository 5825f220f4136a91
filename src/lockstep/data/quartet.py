"""The four files of MNIST and its relatives: images and labels, to train and to test; found by what they hold.

The same four are called otherwise by everybody: EMNIST puts its name before them, QMNIST another ending behind, KMNIST
packs each as an .npz, a browser adds " (1)", torchvision keeps packed and unpacked ones side by side, two folders
below. So a file is known by its header, images by their dimensions, and the name has to say one thing alone: to train
or to test. Where not even that is said, the larger pair is the one to train on.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lockstep.data import idx
from lockstep.data.contents import Data, Facts, array_hash, image_shape, numbered_classes, problems_of_parts
from lockstep.data.halves import HALVES, NAMES, part_in, words
from lockstep.errors import LockstepError, Problem
from lockstep.files import intake
from lockstep.language import later

FILES = {  # as MNIST calls them
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
MOST_FILES = 1000  # of a folder that are looked at: a folder of pictures may hold a million
QMNIST_COLUMNS = 8  # of its labels: the class, then writer, place and so on
_OF_NO_SET = {*(name for names in NAMES.values() for name in names), "images", "image", "imgs", "labels", "label",
              "idx", "idx1", "idx2", "idx3", "ubyte", "byte", "int", "npz", "npy"}  # fmt: skip
# The notes on a dataset.
BY_SIZE = later("no name says which files are to train and which to test: the larger pair is trained on")
VALIDATED = later("the test images are those of {name}, since there are no others")
LEFT_OUT = later("left out: {name} (a recipe's validation holds out training images)")
FIRST_COLUMN = later("the labels are the first of {n} columns of {name}")
TURNED = later("EMNIST's files hold every picture with rows and columns swapped; they are read as they stand")


@dataclasses.dataclass(frozen=True)
class _Member:
    """A file that holds one array; `shape` and `dtype` are None where its header is damaged."""

    path: Path
    shape: tuple[int, ...] | None
    dtype: str | None

    @property
    def part(self) -> str | None:
        """ "train", "test", "validation", or None where the name does not say."""
        return part_in(self.path.name)

    @property
    def kind(self) -> str:
        """ "images" or "labels": as many dimensions as it has, else as its name says."""
        if self.shape is not None:
            return "labels" if len(self.shape) < 2 or _has_columns(self.shape) else "images"
        return "labels" if "label" in self.path.name.lower() else "images"

    @property
    def dataset(self) -> str:
        """The rest of its name: "emnist-letters", or nothing."""
        return "-".join(word for word in words(_plain(self.path.name)) if word not in _OF_NO_SET)


@dataclasses.dataclass(frozen=True)
class _Found:
    files: dict[str, _Member]
    notes: tuple[str, ...]


def file_in(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, gzipped or not, also as "train-images.idx3-ubyte"; None if missing.

    Capitals, and what browsers and file managers add to a second copy, make no difference.
    """
    dotted = name.replace("-idx", ".idx")
    for spelling in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        if os.path.isfile(folder / spelling):
            return folder / spelling
    alike = [path for path in _regular(folder) if _plain(path.name) == name]
    return min(alike, key=_preference, default=None)


def is_quartet(folder: Path) -> bool:
    """Whether any file in the folder may be one of the four: an IDX file, or one with such a name."""
    return next(_members(folder), None) is not None


def is_one(path: Path) -> bool:
    """Whether a file is one of the four."""
    return next(_members_among([path]), None) is not None


def read(folder: Path) -> Data:
    """The dataset of a folder that holds the four files; raises LockstepError (LS-304 … LS-306, LS-309)."""
    found = _found(folder)
    arrays, hashes = {}, {}
    for key, member in found.files.items():
        arrays[key], hashes[FILES[key]] = _read(member.path)
    data = assemble(folder.name, folder, arrays, hashes, None)
    return dataclasses.replace(data, notes=(*found.notes, *_notes(found.files)))


def facts(folder: Path) -> Facts:
    """What the headers and the labels of a folder say; raises as `read`."""
    files = _found(folder).files
    headers = {part: _header(files[f"{part}_images"].path) for part in HALVES}
    labels = {part: _first_column(_read(files[f"{part}_labels"].path)[0]) for part in HALVES}
    shapes = {part: header[0] for part, header in headers.items()}
    class_names = _checked(folder, shapes, {part: header[1] for part, header in headers.items()}, labels, None)
    n_train, n_test = (shapes[part][0] for part in HALVES)
    return Facts(
        folder.name,
        image_shape(shapes["train"]),
        class_names,
        n_train,
        n_test,
        later("found in {folder}", folder=folder),
    )


def assemble(
    name: str, folder: Path, arrays: dict[str, np.ndarray], hashes: dict[str, str], class_names: tuple[str, ...] | None
) -> Data:
    """Images and labels as read from the four files → Data; without class names they are numbered."""
    images = {part: arrays[f"{part}_images"] for part in HALVES}
    labels = {part: _first_column(arrays[f"{part}_labels"]) for part in HALVES}
    shapes = {part: array.shape for part, array in images.items()}
    dtypes = {part: array.dtype.name for part, array in images.items()}
    class_names = _checked(folder, shapes, dtypes, labels, class_names)
    return Data(
        name=name,
        train_images=images["train"].reshape(-1, *image_shape(shapes["train"])),
        train_labels=labels["train"].astype(np.int64),
        test_images=images["test"].reshape(-1, *image_shape(shapes["test"])),
        test_labels=labels["test"].astype(np.int64),
        class_names=class_names,
        hashes=hashes,
        origin=str(folder),
    )


# ----------------------------------------------------------------------------------------------- which file is which


def _found(folder: Path) -> _Found:
    """The four files, each by its key; raises LockstepError LS-304 where one is missing or cannot be told."""
    named = {key: file_in(folder, name) for key, name in FILES.items()}
    if all(named.values()):
        return _Found({key: _Member(path, None, None) for key, path in named.items() if path}, ())
    members = list(_members(folder))
    sets: dict[str, list[_Member]] = {}
    for member in members:
        sets.setdefault(member.dataset, []).append(member)
    chosen = {name: found for name, rows in sets.items() if (found := _of_one_set(rows))}
    if not chosen and _differ_by_kind(members) and (found := _of_one_set(members)):
        return found
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    if len(chosen) > 1:
        message = later("here are the files of {n} datasets: {names}", n=len(chosen), names=", ".join(sorted(chosen)))
        hint = later("put the four files of one of them into a folder of their own")
        raise LockstepError("LS-304", message, where=str(folder), hint=hint)
    if by_size := _by_size(members):
        return by_size
    raise LockstepError.several(_problems_of_missing(folder, members))


def _of_one_set(members: list[_Member]) -> _Found | None:
    """The four among the files of one dataset, if they are there."""
    roles: dict[str, list[_Member]] = {}
    for member in members:
        roles.setdefault(f"{member.part}_{member.kind}", []).append(member)
    files, notes = {}, []
    for kind in ("images", "labels"):
        validation = roles.get(f"validation_{kind}")
        if validation and f"test_{kind}" not in roles:
            roles[f"test_{kind}"] = validation
            notes += [later(VALIDATED, name=validation[0].path.name)] * (kind == "images")
        elif validation:
            notes += [later(LEFT_OUT, name=validation[0].path.name)]
    for key in FILES:
        alike = roles.get(key, [])
        if len({_plain(member.path.name) for member in alike}) != 1:  # none, or two that are not copies of each other
            return None
        files[key] = min(alike, key=lambda member: _preference(member.path))
    return _Found(files, tuple(notes))


def _differ_by_kind(members: list[_Member]) -> bool:
    """Whether all images have one name beside their part, and all labels: as digits_train and answers_train."""
    return all(len({member.dataset for member in members if member.kind == kind}) == 1 for kind in ("images", "labels"))


def _by_size(members: list[_Member]) -> _Found | None:
    """Two pairs of images and labels whose names say nothing: by how many there are."""
    pairs = {}
    for kind in ("images", "labels"):
        rows = [member for member in members if member.kind == kind and member.shape and not member.part]
        pairs[kind] = {member.shape[0]: member for member in rows if member.shape}
        if len(rows) != 2 or len(pairs[kind]) != 2:
            return None
    if pairs["images"].keys() != pairs["labels"].keys() or len(members) != 4:
        return None
    test, train = sorted(pairs["images"])
    sizes = {"train": train, "test": test}
    return _Found({key: pairs[key.partition("_")[2]][sizes[key.partition("_")[0]]] for key in FILES}, (later(BY_SIZE),))


def _problems_of_missing(folder: Path, members: list[_Member]) -> list[Problem]:
    keys = [f"{member.part}_{member.kind}" for member in members]
    here = ", ".join(sorted(member.path.name for member in members)[:8])
    hint = later("all four files belong together, each as it is or with .gz; here are: {names}", names=here)
    first = min((member.dataset for member in members), default="")
    missing = [f"{first}-{name}".lstrip("-") for key, name in FILES.items() if key not in keys]
    if missing:
        return [Problem("LS-304", later("{file} is missing", file=name), str(folder), hint) for name in missing]
    hint = later("leave two files of images and two of labels there, with train and test in their names")
    message = later("it is not clear which of these files belong together: {names}", names=here)
    return [Problem("LS-304", message, str(folder), hint)]


def _members(folder: Path) -> Iterator[_Member]:
    """Every file of the folder that holds one array, and every file whose name says so."""
    return _members_among(_regular(folder))


def _members_among(paths: Iterable[Path]) -> Iterator[_Member]:
    for path in paths:
        try:
            yield _Member(path, *_header(path))
        except LockstepError:
            if _plain(path.name) in FILES.values():
                yield _Member(path, None, None)


def _regular(folder: Path) -> Iterable[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for _, entry in zip(range(MOST_FILES), entries, strict=False) if entry.is_file()]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def _plain(name: str) -> str:
    """A file's name without what packing, capitals and second copies add to it.

    >>> _plain("Train-Images.idx3-ubyte (1).gz")
    'train-images-idx3-ubyte'
    """
    name = re.sub(r"\s*\(\d+\)|\s*[-–]\s*copy\b", "", name.lower())
    return re.sub(r"\.(gz|gzip)$", "", name).replace(".idx", "-idx").strip()


def _preference(path: Path) -> tuple[int, str]:
    """Of copies the unpacked one, and the shortest name."""
    return path.name.lower().endswith("gz") + 2 * len(path.name), path.name


# --------------------------------------------------------------------------------------------------- one file's array


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _header(path: Path) -> tuple[tuple[int, ...], str]:
    """(shape, dtype) of the one array in a file; raises LockstepError."""
    if not _is_npz(path):
        return idx.read_header(path)
    try:
        with intake.opened(path) as file, intake.open_npz(file) as archive:
            (info,) = archive.infolist()
            found = intake.member(archive, info)
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser each raise a dozen kinds on hostile bytes
        raise LockstepError("LS-306", later("it holds no single array"), where=str(path)) from error
    if found.dtype.kind not in "iu":
        raise LockstepError("LS-306", later("it holds no whole numbers"), where=str(path))
    return found.shape, found.dtype.name


def _read(path: Path) -> tuple[np.ndarray, str]:
    """The array in a file, and its hash; raises LockstepError."""
    if not _is_npz(path):
        return idx.read_hashed(path)
    _header(path)
    try:
        (array,) = intake.npz(path).values()
    except MemoryError:
        raise
    except Exception as error:  # as in _header
        message = later("the file is damaged: {error}", error=str(error)[:200])
        raise LockstepError("LS-306", message, where=str(path), hint=later("get the file again")) from None
    return array, array_hash(array)


def _has_columns(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 and shape[1] == QMNIST_COLUMNS


def _first_column(labels: np.ndarray) -> np.ndarray:
    return labels[:, 0] if _has_columns(labels.shape) else labels


def _notes(files: dict[str, _Member]) -> Iterator[str]:
    for part in HALVES:
        labels = files[f"{part}_labels"].path
        if _has_columns(_header(labels)[0]):
            yield later(FIRST_COLUMN, n=QMNIST_COLUMNS, name=labels.name)
    if "emnist" in words(files["train_images"].path.name):
        yield later(TURNED)


def _checked(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    dtypes: dict[str, str],
    labels: dict[str, np.ndarray],
    class_names: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """The class names, if images and labels make a dataset."""
    problems = [
        Problem(
            "LS-304",
            later("the {part} images are {type}; pictures are uint8, 0 … 255", part=part, type=dtype),
            str(folder),
            later("convert them, or store the arrays as .npz"),
        )
        for part, dtype in dtypes.items()
        if dtype != "uint8"
    ]
    class_names = class_names or numbered_classes(*labels.values())
    problems += [
        Problem(
            "LS-304",
            later("the {part} labels have the shape {shape}", part=part, shape=array.shape),
            str(folder),
            later("labels are a plain list"),
        )
        for part, array in labels.items()
        if array.ndim != 1
    ]
    problems += problems_of_parts(shapes, labels, class_names, "LS-304", str(folder))
    if problems:
        raise LockstepError.several(problems)
    return class_names
