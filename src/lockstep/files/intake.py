"""Files that anyone may have written: nothing that stands in them is believed before it is held against the file.

Only regular files are opened, since a pipe or a device never ends. No more is read than a limit, and what a header
declares must be there, and be no wonder of compression, before memory is taken for it. Whatever is wrong is a
ValueError with a short reason, or the system's OSError; who asked gives it a code, a place and a remedy.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import struct
import tomllib
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from lockstep.language import later

if TYPE_CHECKING:  # NumPy is kept out of start-up
    import numpy as np

LARGEST_SPEC = 1_000_000  # bytes of a study's TOML
LARGEST_JSON = 2**26
MOST_JSON_VALUES = 2**22  # each takes up to a hundred bytes of memory
LARGEST_ARRAYS = 4 * 2**30  # all arrays of one file together
MOST_STEPS_INTO_TABLES = 10**7  # about a second
LARGEST_HEADER = 2**22  # of a safetensors file: some 30,000 arrays
LARGEST_DIRECTORY = 2**20  # of an npz: some 10,000 arrays
FREE_BYTES = 2**26  # so much may come out of any compressed file
MOST_MEMBERS = 1000  # of a gzip file
RATIO = 100  # times the file, beyond FREE_BYTES: images shrink 5-fold, seldom 30-fold; a bomb 1,000-fold
CHANGED = later("its SHA-256 is not the manifest's: it was changed after it was written")
_CHUNK = 2**20
_GZIP = 16 + zlib.MAX_WBITS


def opened(path: str | os.PathLike[str]) -> IO[bytes]:
    """The file, open for reading and known to be a regular one; raises OSError, ValueError."""
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(number).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError(later("it is a folder") if stat.S_ISDIR(mode) else later("it is no regular file"))
        return open(number, "rb")  # the caller closes it
    except BaseException:
        os.close(number)
        raise


def size_of(file: IO[bytes]) -> int:
    """The size of an open file in bytes."""
    return os.fstat(file.fileno()).st_size


def content(path: Path, limit: int) -> bytes:
    """All bytes of a file of at most `limit`; raises OSError, ValueError."""
    with opened(path) as file:
        n_bytes = size_of(file)
        if n_bytes > limit:
            raise ValueError(later("it has {found:,} bytes; at most {limit:,} are read", found=n_bytes, limit=limit))
        found = file.read(n_bytes + 1)  # to ask for the limit would take that much memory at once
    if len(found) > n_bytes:
        raise ValueError(later("it grows while it is read"))
    return found


def text(path: Path, limit: int = LARGEST_SPEC) -> str:
    """A text in UTF-8; raises OSError, ValueError."""
    return content(path, limit).decode("utf-8")


def checked(path: Path, known: Any, limit: int = LARGEST_ARRAYS) -> bytes:
    """The bytes of a file that a manifest lists as `known`, {"bytes", "sha256"}; raises OSError, ValueError."""
    _compare_size(path, known, limit)
    found = content(path, limit)
    if hashlib.sha256(found).hexdigest() != known.get("sha256"):
        raise ValueError(CHANGED)
    return found


def line_ends_put_back(content: bytes) -> bytes:
    """A text with the line ends that Lockstep writes: git and editors turn them into others, and take the last away."""
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n") + b"\n"


def is_but_for_line_ends(path: Path, known: Any) -> bool:
    """Whether a text file would be what a manifest lists as `known` with its line ends put back; raises OSError,
    ValueError.
    """
    if not isinstance(known, dict):
        return False
    whole = line_ends_put_back(content(path, LARGEST_JSON))
    return len(whole) == known.get("bytes", len(whole)) and hashlib.sha256(whole).hexdigest() == known.get("sha256")


def compare(path: Path, known: Any, limit: int = LARGEST_ARRAYS) -> None:
    """Raise ValueError or OSError where a file is not what a manifest lists as `known`; it is read piece by piece."""
    _compare_size(path, known, limit)
    digest = hashlib.sha256()
    with opened(path) as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            digest.update(chunk)
    if digest.hexdigest() != known.get("sha256"):
        raise ValueError(CHANGED)


def _compare_size(path: Path, known: Any, limit: int) -> None:
    if not isinstance(known, dict):
        raise ValueError(later("the manifest does not list it"))
    with opened(path) as file:
        found = size_of(file)
    if known.get("bytes", found) != found:
        raise ValueError(
            later("it has {found:,} bytes, the manifest says {bytes}", found=found, bytes=_shown(known["bytes"]))
        )
    if found > limit:
        raise ValueError(later("it has {found:,} bytes; at most {limit:,} are read", found=found, limit=limit))


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and abs(value) < 10**18 else later("something else")


class Unpacked:
    """The content of a gzip file, piece by piece.

    Python's own reader takes the name in a header byte by byte, in Python, and as many members as there are: a name of
    a gigabyte, or a million members of nothing, would hold it up for minutes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.inflate, self.pending = file, zlib.decompressobj(_GZIP), b""
        self.n_members = 1

    def read(self, n_bytes: int) -> bytes:
        """At least one byte and at most so many, none at the end; raises EOFError where it is cut off, zlib.error."""
        while n_bytes > 0:  # to zlib zero means "without limit"
            if self.inflate.eof and not self._next_member():
                return b""
            found = self.inflate.decompress(self.pending, n_bytes)
            self.pending = self.inflate.unconsumed_tail
            if found:
                return found
            if not self.inflate.eof and not self.pending:
                self.pending = self.file.read(_CHUNK)
                if not self.pending:
                    raise EOFError
        return b""

    def _next_member(self) -> bool:
        """Begin the next member after one has ended; zeros between them are padding."""
        rest = self.inflate.unused_data.lstrip(b"\0")
        while not rest:
            if not (chunk := self.file.read(_CHUNK)):
                return False
            rest = chunk.lstrip(b"\0")
        self.n_members += 1
        if self.n_members > MOST_MEMBERS:
            raise zlib.error(f"it has more than {MOST_MEMBERS:,} members")
        self.inflate, self.pending = zlib.decompressobj(_GZIP), rest
        return True


def refuse_bomb(n_bytes: int, packed_bytes: int) -> None:
    """Raise ValueError where so many bytes out of so few are no data but a trap."""
    if n_bytes > max(FREE_BYTES, RATIO * packed_bytes):
        text = later(
            "{n:,} bytes are to come out of {packed:,}; at most {ratio} times as many are unpacked",
            n=n_bytes,
            packed=packed_bytes,
            ratio=RATIO,
        )
        raise ValueError(text)


# --------------------------------------------------------------------------------------------------------------- JSON


def json_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises OSError, ValueError, RecursionError."""
    value = json.loads(json_text(path))
    if not isinstance(value, dict):
        raise ValueError(later("not a JSON object"))
    return value


def json_text(path: Path, errors: str = "strict") -> str:
    """The text of a file of JSON that is not too large to be parsed; raises OSError, ValueError."""
    found = content(path, LARGEST_JSON)
    if sum(map(found.count, (b",", b"{", b"["))) > MOST_JSON_VALUES:
        raise ValueError(later("it holds more than {most:,} values", most=MOST_JSON_VALUES))
    return found.decode("utf-8", errors)


# --------------------------------------------------------------------------------------------------------------- TOML


def toml(text: str) -> dict[str, Any]:
    """The table in a TOML text; raises ValueError (tomllib's where it is no TOML) and RecursionError."""
    if len(text) > LARGEST_SPEC:
        raise ValueError(later("it has more than {most:,} characters", most=LARGEST_SPEC))
    lines = text.splitlines()
    # tomllib walks the whole dotted key of a table again for every key below it.
    if max((line.count(".") for line in lines), default=0) * len(lines) > MOST_STEPS_INTO_TABLES:
        raise RecursionError(later("nested too deeply"))
    return tomllib.loads(text.removeprefix("\ufeff"))  # the mark that Windows' editors put before UTF-8


# ---------------------------------------------------------------------------------------------------------------- npz


class Member(NamedTuple):
    """An array of an npz, as its header declares it: nothing of it is in memory yet."""

    shape: tuple[int, ...]
    dtype: np.dtype
    n_bytes: int


def open_npz(file: IO[bytes]) -> zipfile.ZipFile:
    """The archive, with what its directory declares checked; raises ValueError, zipfile's errors, OSError.

    It must be one that NumPy writes: every array once, stored or deflated, and not larger than what is there can hold.
    """
    if (n_bytes := _directory_bytes(file)) > LARGEST_DIRECTORY:
        raise ValueError(
            later(
                "its directory takes {n_bytes:,} bytes; at most {most:,} are read",
                n_bytes=n_bytes,
                most=LARGEST_DIRECTORY,
            )
        )
    archive = zipfile.ZipFile(file)
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if twice := sorted({name for name in names if names.count(name) > 1} if len(names) < 1000 else _twice(names)):
        raise ValueError(later('it holds "{name}" twice', name=twice[0][:60]))
    for info in infos:
        _check_member(info)
    packed, whole = sum(info.compress_size for info in infos), size_of(file)
    if packed > whole:
        raise ValueError(
            later(
                "its directory declares {packed:,} bytes of content, but the file has {whole:,}",
                packed=packed,
                whole=whole,
            )
        )
    n_bytes = sum(info.file_size for info in infos)
    if n_bytes > LARGEST_ARRAYS:
        raise ValueError(
            later(
                "the arrays take {n_bytes:,} bytes; at most {most:,} are read",
                n_bytes=n_bytes,
                most=LARGEST_ARRAYS,
            )
        )
    refuse_bomb(n_bytes, whole)
    return archive


def _twice(names: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {name for name in names if name in seen or seen.add(name)}  # type: ignore[func-returns-value]


def _directory_bytes(file: IO[bytes]) -> int:
    """How long the archive's directory is by its end record, the larger where there is one for 64 bits too."""
    file.seek(-min(size_of(file), 2**16 + 98), os.SEEK_END)
    tail = file.read()
    file.seek(0)
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise ValueError(later("it is no npz file: the end of a zip archive is missing"))
    found = struct.unpack_from("<I", tail, end + 12)[0]
    if end >= 76 and tail[end - 20 : end - 16] == b"PK\x06\x07" and tail[end - 76 : end - 72] == b"PK\x06\x06":
        found = max(found, struct.unpack_from("<Q", tail, end - 36)[0]) if found != 2**32 - 1 else found
    return int(found)


def _check_member(info: zipfile.ZipInfo) -> None:
    name = info.filename
    if name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or ":" in name[:3]:
        raise ValueError(later('it holds "{name}", a path that leads out of it', name=name[:60]))
    if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(later('"{name}" is packed as NumPy packs nothing', name=name[:60]))
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        raise ValueError(
            later(
                '"{name}" has two lengths, {compress_size:,} and {file_size:,} bytes',
                name=name[:60],
                compress_size=info.compress_size,
                file_size=info.file_size,
            )
        )


def member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    """What the header of an array declares, which the archive must confirm; raises ValueError, zipfile's errors."""
    import numpy as np

    with archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(later("version {version} of the .npy format is not read", version=version))
        shape, _order, dtype = readers[version](stream)
        if any(length < 0 for length in shape):
            raise ValueError(later("the shape {shape} is impossible", shape=shape))
        n_bytes = stream.tell() + math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and n_bytes != info.file_size:
        raise ValueError(
            later(
                "its header declares {n_bytes:,} bytes, the archive {file_size:,}",
                n_bytes=n_bytes,
                file_size=info.file_size,
            )
        )
    return Member(shape, dtype, n_bytes)


def npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an npz, without pickle; raises OSError, ValueError and whatever zipfile, zlib and NumPy raise."""
    import numpy as np

    with opened(path) as file, open_npz(file) as archive:
        for info in archive.infolist():
            member(archive, info)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


# -------------------------------------------------------------------------------------------------------- safetensors


def tensors(packed: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file's bytes; raises ValueError.

    The library checks offsets and shapes; before it is asked, a header is refused that is long or names an array twice.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(packed) < 8:
        raise ValueError(later("it has {n} bytes, too few for a safetensors file", n=len(packed)))
    (n_header,) = struct.unpack_from("<Q", packed)
    if n_header > len(packed) - 8:
        raise ValueError(
            later("it declares a header of {n_header:,} bytes, but {n:,} follow", n_header=n_header, n=len(packed) - 8)
        )
    if n_header > LARGEST_HEADER:
        raise ValueError(
            later(
                "its header takes {n_header:,} bytes; at most {most:,} are read",
                n_header=n_header,
                most=LARGEST_HEADER,
            )
        )
    try:
        header = json.loads(packed[8 : 8 + n_header].decode("utf-8"), object_pairs_hook=with_unique_keys)
    except RecursionError:
        raise ValueError(later("its header is nested too deeply")) from None
    if not isinstance(header, dict):
        raise ValueError(later("its header is no JSON object"))
    try:
        return dict(load(packed))
    except KeyError as error:
        raise ValueError(
            later("it holds numbers of type {type}, which NumPy does not have", type=error.args[0])
        ) from error
    except (SafetensorError, TypeError, OverflowError) as error:
        raise ValueError(later("it is no safetensors file: {error}", error=error)) from error


def with_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; one that names a key twice, of which Python keeps the last, is refused."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(
            later('its header names "{name}" twice', name=next(iter(_twice(name for name, _value in pairs)))[:60])
        )
    return found
