"""Datasets as one .npz file: four arrays, named as Keras names them or as Lockstep does.

Such a file is a zip archive from a stranger. Nothing is unpickled, and what the archive's directory and each array's
header declare is checked before any memory is taken.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lockstep.data.contents import ARRAYS, Data, Facts, array_hash, image_shape, numbered_classes, problems_of_parts
from lockstep.errors import LockstepError, Problem
from lockstep.files import intake, texts
from lockstep.language import Text, joined, later, reason

SPELLINGS = {  # the keys that an array may have
    "train_images": ("train_images", "x_train"),
    "train_labels": ("train_labels", "y_train"),
    "test_images": ("test_images", "x_test"),
    "test_labels": ("test_labels", "y_test"),
}
TEXTS = ("class_names", "notes", "note_forms", "origin", "hashes")  # what an imported dataset also holds; all optional
MAX_TEXT_BYTES = 2**24
_SAVE_AGAIN = later(
    "save it again with np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…), arrays of whole numbers"
)


class _Header(NamedTuple):
    key: str
    shape: tuple[int, ...]
    dtype: np.dtype
    n_bytes: int


def read(path: Path) -> Data:
    """The dataset of an .npz file.

    Images are whole numbers 0 … 255, (n, height, width) or (n, height, width, channels); labels whole numbers, (n,) or
    (n, 1); `class_names`, a list of texts, is optional. Raises LockstepError: LS-306 (broken or unsuitable), LS-303
    (an imported dataset has changed), LS-309 (labels outside the classes).
    """
    headers, arrays, class_names = _arrays(path)
    hashes = {name: array_hash(array) for name, array in arrays.items()}
    _compare_hashes(path, hashes, stored_hashes(path))
    origin = _texts(path, headers, "origin")
    return Data(
        name=path.stem,
        **arrays,
        class_names=class_names,
        hashes=hashes,
        origin=f"{path} (imported from {origin[0]})" if origin else str(path),
        notes=_notes(path, headers),
    )


def _notes(path: Path, headers: dict[str, _Header]) -> tuple[str, ...]:
    """The notes on an imported dataset, which can be said in any language where their forms were kept beside them."""
    notes, forms = _texts(path, headers, "notes"), _texts(path, headers, "note_forms")
    with contextlib.suppress(ValueError, RecursionError):  # what is no JSON: the notes stay English
        if forms:
            return tuple(texts.restored({"notes": list(notes), texts.KEY: json.loads(forms[0])})["notes"])
    return notes


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The four arrays of an .npz file as `Data` holds them, not compared with any hash; raises as `read`."""
    return _arrays(path)[1]


def _arrays(path: Path) -> tuple[dict[str, _Header], dict[str, np.ndarray], tuple[str, ...]]:
    headers = _headers(path)
    arrays = {name: _load(path, headers[name]) for name in ARRAYS}
    labels = {part: arrays[f"{part}_labels"].reshape(-1) for part in ("train", "test")}
    class_names = _checked(path, headers, labels)
    outside = [
        Problem(
            "LS-306",
            later("{key} has values outside 0 … 255", key=headers[name].key),
            str(path),
            later("scale them to 0 … 255"),
        )
        for name in ("train_images", "test_images")
        if arrays[name].dtype != np.uint8 and (arrays[name].min() < 0 or arrays[name].max() > 255)
    ]
    if outside:
        raise LockstepError.several(outside)
    for part in ("train", "test"):
        images = arrays[f"{part}_images"]
        arrays[f"{part}_images"] = np.ascontiguousarray(images.reshape(-1, *image_shape(images.shape)), dtype=np.uint8)
        arrays[f"{part}_labels"] = labels[part].astype(np.int64)
    return headers, arrays, class_names


def facts(path: Path) -> Facts:
    """What the headers and the labels of an .npz file say; raises as `read`."""
    headers = _headers(path)
    labels = {part: _load(path, headers[f"{part}_labels"]).reshape(-1) for part in ("train", "test")}
    class_names = _checked(path, headers, labels)
    n_train, n_test = (headers[f"{part}_images"].shape[0] for part in ("train", "test"))
    shape = image_shape(headers["train_images"].shape)
    return Facts(path.stem, shape, class_names, n_train, n_test, later("found in {folder}", folder=path))


def write(path: Path, data: Data) -> None:
    """Store a dataset as one .npz file that `read` takes; `path` is written in place."""
    described = {
        "class_names": np.array(data.class_names),
        "notes": np.array(data.notes, dtype=np.str_),
        "note_forms": np.array([json.dumps(texts.with_texts({"notes": data.notes}).get(texts.KEY, {}))]),
        "origin": np.array([data.origin]),
        "hashes": np.array([f"{name} {array_hash(array)}" for name, array in data.arrays().items()]),
    }
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **data.arrays(), **described)


def stored_hashes(path: Path) -> dict[str, str]:
    """The hashes that an imported dataset was stored with, by array; empty for an .npz from elsewhere."""
    rows = [row.split(" ") for row in _texts(path, _headers(path), "hashes")]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _compare_hashes(path: Path, found: dict[str, str], expected: dict[str, str]) -> None:
    problems = [
        Problem(
            "LS-303",
            later(
                "SHA-256 of {name} should be {expected}, but is {found}",
                name=name,
                expected=expected[name],
                found=found[name],
            ),
            str(path),
            later("the file has changed since it was imported; delete it and import it again"),
        )
        for name in ARRAYS
        if expected.get(name, found[name]) != found[name]
    ]
    if problems:
        raise LockstepError.several(problems)


# ------------------------------------------------------------------------------------------------------- the archive


def _headers(path: Path) -> dict[str, _Header]:
    """The header of every array that is read, checked against the archive's directory and the limits."""
    if not os.path.isfile(path):
        raise LockstepError("LS-301", later("there is no such file"), where=str(path), hint=later("check the path"))
    headers = _parsed(path)
    problems = list(_problems_of_headers(path, headers))
    if problems:
        raise LockstepError.several(problems)
    return headers


def _parsed(path: Path) -> dict[str, _Header]:
    headers, key = {}, ""
    try:
        with intake.opened(path) as file, intake.open_npz(file) as archive:
            members = {name[:-4]: info for info in archive.infolist() if (name := info.filename).endswith(".npy")}
            for name, key in _keys(members):
                headers[name] = _Header(key, *intake.member(archive, members[key]))
    except MemoryError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header parser each raise a dozen kinds on hostile bytes
        message = _first_line(error)
        message = later('array "{key}": {error}', key=key, error=message) if key else message
        raise LockstepError("LS-306", message, where=str(path), hint=_SAVE_AGAIN) from None
    return headers


def _first_line(error: BaseException) -> str:
    if isinstance(told := reason(error), Text):
        return told
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _keys(members: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name, spellings in {**SPELLINGS, **{text: (text,) for text in TEXTS}}.items():
        for key in spellings:
            if key in members:
                yield name, key
                break


def _problems_of_headers(path: Path, headers: dict[str, _Header]) -> Iterator[Problem]:
    for name, spellings in SPELLINGS.items():
        if name not in headers:
            yield Problem(
                "LS-306",
                later("there is no array {names}", names=joined(spellings, later(" or "))),
                str(path),
                _SAVE_AGAIN,
            )
    for name, header in headers.items():
        yield from _problems_of_header(path, name, header)


def _problems_of_header(path: Path, name: str, header: _Header) -> Iterator[Problem]:
    key, shape, dtype, n_bytes = header
    kind = dtype.kind
    if name in TEXTS:
        if kind != "U" or len(shape) != 1 or n_bytes > MAX_TEXT_BYTES:
            yield Problem(
                "LS-306",
                later("{key} is {dtype} {shape}", key=key, dtype=dtype, shape=shape),
                str(path),
                later("{key} is a plain list of texts", key=key),
            )
    elif kind == "O":
        hint = later("give all images one size; objects would have to be unpickled, which can run any program")
        yield Problem("LS-306", later("{key} holds Python objects", key=key), str(path), hint)
    elif kind not in "iu":
        remedy = _remedy_of_kind(header, name.endswith("images"))
        yield Problem("LS-306", later("{key} is {dtype}, not whole numbers", key=key, dtype=dtype), str(path), remedy)
    elif name.endswith("labels") and not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        hint = later("one number per image: for one-hot rows use y.argmax(axis=1)")
        yield Problem("LS-306", later("{key} has the shape {shape}", key=key, shape=shape), str(path), hint)


def _remedy_of_kind(header: _Header, is_image: bool) -> str:
    """What makes whole numbers of an array of another kind."""
    if is_image:
        return later("use (255 * x).round().astype('uint8') for values in [0, 1]")
    if header.dtype.kind in "SU":
        return later(
            "number the classes: names = np.unique(np.concatenate([y_train, y_test])); y_train, y_test = "
            "np.searchsorted(names, y_train), np.searchsorted(names, y_test); and keep class_names=names.astype(str)"
        )
    if len(header.shape) == 2 and header.shape[1] > 1:
        return later("one number per image: for one-hot rows use y.argmax(axis=1)")
    return later("use y.astype('int64')")


def _load(path: Path, header: _Header) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[f"{header.key}.npy"]
    except MemoryError:
        raise
    except Exception as error:  # as in _parsed
        message = later('array "{key}": {error}', key=header.key, error=_first_line(error))
        raise LockstepError("LS-306", message, where=str(path), hint=_SAVE_AGAIN) from None


def _texts(path: Path, headers: dict[str, _Header], name: str) -> tuple[str, ...]:
    return tuple(str(text) for text in _load(path, headers[name])) if name in headers else ()


def _checked(path: Path, headers: dict[str, _Header], labels: dict[str, np.ndarray]) -> tuple[str, ...]:
    """The class names, if the arrays make a dataset."""
    class_names = _texts(path, headers, "class_names") or numbered_classes(*labels.values())
    shapes = {part: headers[f"{part}_images"].shape for part in ("train", "test")}
    problems = list(problems_of_parts(shapes, labels, class_names, "LS-306", str(path)))
    if problems:
        raise LockstepError.several(problems)
    return class_names
