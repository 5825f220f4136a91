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
from typing import Protocol

import numpy as np

from lockstep.data.contents import times
from lockstep.errors import LockstepError, system
from lockstep.files import intake
from lockstep.language import later, reason

TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
WHOLE = ("uint8", "int8", "int16", "int32")  # of which images and labels are made
MAX_BYTES = 2 * 2**30
MAX_DIMENSIONS = 4
_CHUNK = 2**20
_AGAIN = later("get the file again; `lockstep data verify` names the damaged ones")


class _Stream(Protocol):
    def read(self, n_bytes: int, /) -> bytes:
        """At most so many bytes, none at the end."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an IDX file of whole numbers, plain or gzipped.

    Returns it in the declared type (uint8, int8, int16 or int32) and shape. Raises LockstepError: LS-304 (not IDX,
    another type, too short, too long), LS-305 (gzip damaged, cut off or longer than declared), LS-301 (cannot be read).
    """
    return read_hashed(path)[0]


def read_hashed(path: str | os.PathLike[str]) -> tuple[np.ndarray, str]:
    """`read_idx` and the SHA-256 of the decompressed file."""
    with _opened(path) as (stream, is_gzip):
        header, shape, dtype = _header(stream, path)
        n_bytes = math.prod(shape) * dtype.itemsize
        if is_gzip:
            _refuse_bomb(len(header) + n_bytes, path)
        content = _exactly(stream, len(header), n_bytes, is_gzip, path)
    digest = hashlib.sha256(header)
    digest.update(content)
    array = np.frombuffer(content, dtype=dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False), digest.hexdigest()


def read_header(path: str | os.PathLike[str]) -> tuple[tuple[int, ...], str]:
    """The shape and the type that an IDX file declares; the values are not read. Raises as `read_idx`."""
    with _opened(path) as (stream, _):
        _bytes, shape, dtype = _header(stream, path)
        return shape, dtype.newbyteorder("=").name


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[tuple[_Stream, bool]]:
    """The decompressed stream, and whether it was gzipped; errors of reading in our words."""
    if not os.path.isfile(path):  # a pipe would never end
        raise LockstepError("LS-301", later("there is no such file"), where=str(path), hint=later("check the path"))
    try:
        with intake.opened(path) as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not is_gzip:
                yield file, False
                return
            yield intake.Unpacked(file), True
    except EOFError:
        message = later("the gzip file is cut off: it ends before its own end mark")
        raise LockstepError("LS-305", message, where=str(path), hint=_AGAIN) from None
    except zlib.error as error:
        raise LockstepError(
            "LS-305", later("the gzip file is damaged: {error}", error=error), where=str(path), hint=_AGAIN
        ) from None
    except OSError as error:
        message = later("cannot be read: {why}", why=system(error))
        raise LockstepError(
            "LS-301", message, where=str(path), hint=later("check the path and its permissions")
        ) from None


def _header(stream: _Stream, path: str | os.PathLike[str]) -> tuple[bytes, tuple[int, ...], np.dtype]:
    """(the header's bytes, shape, dtype as it is stored: big-endian)."""
    magic = _header_bytes(stream, 4, 0, path)
    zeros, kind, n_dimensions = struct.unpack(">HBB", magic)
    if zeros or kind not in TYPES:
        message = later("this is not an IDX file: it begins with {start}, not with 00 00 08", start=magic.hex(" "))
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    if TYPES[kind] not in WHOLE:
        message = later(
            "the values are {type} (type 0x{kind:02x}); images are uint8 (0x08), labels whole numbers",
            type=TYPES[kind],
            kind=kind,
        )
        raise LockstepError("LS-304", message, where=str(path), hint=later("convert it, or store the arrays as .npz"))
    if not 1 <= n_dimensions <= MAX_DIMENSIONS:
        message = later(
            "{n_dimensions} dimensions are declared; labels have 1, images 3 or 4", n_dimensions=n_dimensions
        )
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    dimensions = _header_bytes(stream, 4 * n_dimensions, 4, path)
    shape = struct.unpack(f">{n_dimensions}I", dimensions)
    dtype = np.dtype(TYPES[kind]).newbyteorder(">")
    if math.prod(max(length, 1) for length in shape) * dtype.itemsize > MAX_BYTES:  # NumPy multiplies that way, too
        message = later(
            "{shape} values are declared; at most {most:,} bytes are read", shape=times(shape), most=MAX_BYTES
        )
        raise LockstepError("LS-304", message, where=str(path), hint=later("split the dataset into smaller ones"))
    return magic + dimensions, shape, dtype


def _header_bytes(stream: _Stream, n: int, before: int, path: str | os.PathLike[str]) -> bytes:
    content = b""
    while len(content) < n and (chunk := stream.read(n - len(content))):
        content += chunk
    if len(content) < n:
        message = later(
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
            message = later(
                "the gzip file holds more than the {n:,} bytes that its IDX header declares; reading stopped there", n=n
            )
            raise LockstepError("LS-305", message, where=str(path), hint=_AGAIN)
        message = later("the header declares {n:,} bytes of values, but more than {n:,} follow", n=n)
        raise LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
    return content


def _refuse_bomb(n: int, path: str | os.PathLike[str]) -> None:
    try:
        intake.refuse_bomb(n, os.path.getsize(path))
    except ValueError as error:
        raise LockstepError("LS-305", reason(error), where=str(path), hint=_AGAIN) from None


def _wrong_length(found: int, n: int, path: str | os.PathLike[str]) -> LockstepError:
    message = later("the header declares {n:,} bytes of values, but {found:,} follow", n=n, found=found)
    return LockstepError("LS-304", message, where=str(path), hint=_AGAIN)
