"""IDX, the format of MNIST: two zero bytes, a type, the number of dimensions, each of them (big-endian), the values.

A file says how long it should be, so nothing in it needs to be believed: the header is read first, then exactly as many
bytes as it declares and one more, which must not exist. Memory grows with what is really there, never with what a
header claims. Plain and gzipped files are told apart by their first bytes, whatever their names.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from lockstep import reading
from lockstep.data.contents import Data, Facts, image_shape, numbered_classes, problems_of_parts, times
from lockstep.errors import LockstepError, Problem, system
from lockstep.language import later as _
from lockstep.language import reason

FILES = {  # the four files of a dataset in this format, by what they hold
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
MAX_BYTES = 2 * 2**30
MAX_DIMENSIONS = 4
_CHUNK = 2**20
_AGAIN = _("get the file again; `lockstep data verify` names the damaged ones")


class _Stream(Protocol):
    def read(self, n_bytes: int, /) -> bytes:
        """At most so many bytes, none at the end."""


def file_in(folder: Path, name: str) -> Path | None:
    """The file of that name in a folder, gzipped or not, also as "train-images.idx3-ubyte"; None if missing."""
    dotted = name.replace("-idx", ".idx")
    for spelling in (name, f"{name}.gz", dotted, f"{dotted}.gz"):
        if os.path.isfile(folder / spelling):
            return folder / spelling
    return None


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an IDX file of unsigned bytes, plain or gzipped.

    Returns uint8 in the declared shape. Raises LockstepError: LS-304 (not IDX, another type, too short, too long),
    LS-305 (gzip damaged, cut off or longer than declared), LS-301 (cannot be read).
    """
    return read_hashed(path)[0]


def read_hashed(path: str | os.PathLike[str]) -> tuple[np.ndarray, str]:
    """`read_idx` and the SHA-256 of the decompressed file."""
    with _opened(path) as (stream, is_gzip):
        header, shape = _header(stream, path)
        if is_gzip:
            _refuse_bomb(len(header) + math.prod(shape), path)
        content = _exactly(stream, len(header), math.prod(shape), is_gzip, path)
    digest = hashlib.sha256(header)
    digest.update(content)
    return np.frombuffer(content, dtype=np.uint8).reshape(shape), digest.hexdigest()


def read_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The shape that an IDX file declares; the values are not read. Raises as `read_idx`."""
    with _opened(path) as (stream, _):
        return _header(stream, path)[1]


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[_Stream, bool]]:
    """The decompressed stream, and whether it was gzipped; errors of reading in our words."""
    if not os.path.isfile(path):  # a pipe would never end
        raise LockstepError("LS-301", _("there is no such file"), where=str(path), hint=_("check the path"))
    try:
        with reading.opened(path) as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not is_gzip:
                yield file, False
                return
            yield reading.Unpacked(file), True
    except EOFError:
        message = _("the gzip file is cut off: it ends before its own end mark")
        raise LockstepError("LS-305", message, where=str(path), hint=_AGAIN) from None
    except zlib.error as error:
        raise LockstepError(
            "LS-305", _("the gzip file is damaged: {error}", error=error), where=str(path), hint=_AGAIN
        ) from None
    except OSError as error:
        message = _("cannot be read: {why}", why=system(error))
        raise LockstepError("LS-301", message, where=str(path), hint=_("check the path and its permissions")) from None


def _header(stream: _Stream, path: str | os.PathLike[str]) -> tuple[bytes, tuple[int, ...]]:
    magic = _header_bytes(stream, 4, 0, path)
    zeros, kind, n_dimensions = struct.unpack(">HBB", magic)
    if zeros or kind not in TYPES:
        message = _("this is not an IDX file: it begins with {start}, not with 00 00 08", start=magic.hex(" "))
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    if TYPES[kind] != "uint8":
        message = _(
            "the values are {type} (type 0x{kind:02x}); images and labels are uint8 (0x08)",
            type=TYPES[kind],
            kind=kind,
        )
        raise LockstepError("LS-304", message, where=str(path), hint=_("convert it, or store the arrays as .npz"))
    if not 1 <= n_dimensions <= MAX_DIMENSIONS:
        message = _("{n_dimensions} dimensions are declared; labels have 1, images 3 or 4", n_dimensions=n_dimensions)
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    dimensions = _header_bytes(stream, 4 * n_dimensions, 4, path)
    shape = struct.unpack(f">{n_dimensions}I", dimensions)
    if math.prod(max(length, 1) for length in shape) > MAX_BYTES:  # NumPy multiplies that way, too
        message = _("{shape} values are declared; at most {most:,} bytes are read", shape=times(shape), most=MAX_BYTES)
        raise LockstepError("LS-304", message, where=str(path), hint=_("split the dataset into smaller ones"))
    return magic + dimensions, shape


def _header_bytes(stream: _Stream, n: int, before: int, path: str | os.PathLike[str]) -> bytes:
    content = b""
    while len(content) < n and (chunk := stream.read(n - len(content))):
        content += chunk
    if len(content) < n:
        message = _(
            "the file ends after {n} bytes, inside its header of at least {least}",
            n=before + len(content),
            least=before + n,
        )
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    return content


def _exactly(stream: _Stream, n_header: int, n: int, is_gzip: bool, path: str | os.PathLike[str]) -> bytearray:
    """The n bytes behind the header, and not one more; the next read lets gzip compare its checksum."""
    if not is_gzip:
        found = os.path.getsize(path) - n_header
        if found != n:
            raise _wrong_length(found, n, path)
    content = bytearray()
    while len(content) < n and (chunk := stream.read(min(_CHUNK, n - len(content)))):
        content += chunk
    if len(content) < n:
        raise _wrong_length(len(content), n, path)
    if stream.read(1):
        if is_gzip:
            message = _(
                "the gzip file holds more than the {n:,} bytes that its IDX header declares; reading stopped there", n=n
            )
            raise LockstepError("LS-305", message, where=str(path), hint=_AGAIN)
        message = _("the header declares {n:,} bytes of values, but more than {n:,} follow", n=n)
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    return content


def _refuse_bomb(n: int, path: str | os.PathLike[str]) -> None:
    try:
        reading.refuse_bomb(n, os.path.getsize(path))
    except ValueError as error:
        raise LockstepError("LS-305", reason(error), where=str(path), hint=_AGAIN) from None


def _wrong_length(found: int, n: int, path: str | os.PathLike[str]) -> LockstepError:
    message = _("the header declares {n:,} bytes of values, but {found:,} follow", n=n, found=found)
    return LockstepError("LS-304", message, where=str(path), hint=_AGAIN)


# ------------------------------------------------------------------------------------- a folder of four of them


def is_idx_folder(folder: Path) -> bool:
    """Whether any of the four files lies in the folder."""
    return any(file_in(folder, name) for name in FILES.values())


def read(folder: Path) -> Data:
    """The dataset of a folder that holds the four files; raises LockstepError (LS-304, LS-305, LS-309)."""
    read_files = {name: read_hashed(file) for name, file in _files(folder).items()}
    arrays = {name: array for name, (array, _) in read_files.items()}
    hashes = {FILES[name]: digest for name, (_, digest) in read_files.items()}
    return assemble(folder.name, folder, arrays, hashes, None)


def facts(folder: Path) -> Facts:
    """What the headers and the labels of a folder say; raises as `read`."""
    files = _files(folder)
    shapes = {part: read_shape(files[f"{part}_images"]) for part in ("train", "test")}
    labels = {part: read_idx(files[f"{part}_labels"]) for part in ("train", "test")}
    class_names = _checked(folder, shapes, labels, None)
    n_train, n_test = (shapes[part][0] for part in ("train", "test"))
    return Facts(
        folder.name, image_shape(shapes["train"]), class_names, n_train, n_test, _("found in {folder}", folder=folder)
    )


def assemble(
    name: str, folder: Path, arrays: dict[str, np.ndarray], hashes: dict[str, str], class_names: tuple[str, ...] | None
) -> Data:
    """Images and labels as read from the four files → Data; without class names they are numbered."""
    shapes = {part: arrays[f"{part}_images"].shape for part in ("train", "test")}
    labels = {part: arrays[f"{part}_labels"] for part in ("train", "test")}
    class_names = _checked(folder, shapes, labels, class_names)
    return Data(
        name=name,
        train_images=arrays["train_images"].reshape(-1, *image_shape(shapes["train"])),
        train_labels=labels["train"].astype(np.int64),
        test_images=arrays["test_images"].reshape(-1, *image_shape(shapes["test"])),
        test_labels=labels["test"].astype(np.int64),
        class_names=class_names,
        hashes=hashes,
        origin=str(folder),
    )


def _files(folder: Path) -> dict[str, Path]:
    found = {key: file_in(folder, name) for key, name in FILES.items()}
    hint = _("all four files belong together, each as it is or with .gz")
    missing = [
        Problem("LS-304", _("{file} is missing", file=FILES[key]), str(folder), hint)
        for key in found
        if found[key] is None
    ]
    if missing:
        raise LockstepError.several(missing)
    return {key: file for key, file in found.items() if file is not None}


def _checked(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    labels: dict[str, np.ndarray],
    class_names: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """The class names, if images and labels make a dataset."""
    class_names = class_names or numbered_classes(*labels.values())
    problems = [
        Problem(
            "LS-304",
            _("the {part} labels have the shape {shape}", part=part, shape=array.shape),
            str(folder),
            _("labels are a plain list"),
        )
        for part, array in labels.items()
        if array.ndim != 1
    ]
    problems += problems_of_parts(shapes, labels, class_names, "LS-304", str(folder))
    if problems:
        raise LockstepError.several(problems)
    return class_names
