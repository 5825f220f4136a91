"""Files that mean harm, each by its name: refused with its code in its words, within 2 s and 256 MB."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import struct
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save

from lockstep import data, store, study
from lockstep.check import doctor
from lockstep.errors import LockstepError
from lockstep.machine.clocks import Clocks
from lockstep.proof.traces import Trace
from lockstep.study import resumption
from lockstep.training import checkpoints
from support import damage
from support.image_files import png
from support.small_datasets import idx, idx_folder
from support.small_datasets import images as pictures


def load(folder: Path) -> object:
    """What a user's study does with the thing called "data"."""
    place = folder / "data.npz" if (folder / "data.npz").exists() else folder / "data"
    data.describe(str(place))
    return data.load(str(place))


# ------------------------------------------------------------------------------------------------------- IDX and gzip


def idx_with(**contents):
    return lambda folder: idx_folder(folder, **contents)


def header(*shape, kind=8):
    return struct.pack(f">HBB{len(shape)}I", 0, kind, len(shape), *shape)


def zeros_in_gzip(start: bytes, n_mebibytes: int) -> bytes:
    """A gzip file of `start` and so many MiB of zeros, made from one compressed MiB; its checksum is never reached."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = squeeze.compress(start) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + head + block * n_mebibytes + b"\x03\0" + bytes(8)


def gzip_named(n_bytes: int) -> bytes:
    return b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"a" * n_bytes


def a_link(to: str) -> Callable[[Path], None]:
    def make(folder):
        idx_folder(folder)
        (folder / "data" / "train-images-idx3-ubyte").unlink()
        (folder / "data" / "train-images-idx3-ubyte").symlink_to(to)

    return make


def a_pipe(folder):
    idx_folder(folder)
    (folder / "data" / "train-images-idx3-ubyte").unlink()
    os.mkfifo(folder / "data" / "train-images-idx3-ubyte")


def sparse(path: Path, n_bytes: int, start: bytes = b"") -> None:
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(n_bytes)


def a_sparse_idx(folder):
    idx_folder(folder)
    sparse(folder / "data" / "train-images-idx3-ubyte", 2**40, header(6, 7, 9))


SMALL = np.arange(6 * 7 * 9, dtype=np.uint8).reshape(6, 7, 9)
IDX_BOMBS = {
    "gzip: 10 MB to 10 GB behind a small array": (
        idx_with(train_labels=zeros_in_gzip(header(6), 10_240)), "LS-305", "holds more than the 6 bytes"),
    "gzip: 10 MB to 10 GB, as large as it may be": (
        idx_with(train_labels=zeros_in_gzip(header(2_000_000_000), 10_240)), "LS-305", "at most 100 times as many"),
    "gzip: a header that declares a gibibyte in 40 bytes": (
        idx_with(train_labels=gzip.compress(header(2**30))), "LS-305", "1,073,741,832 bytes are to come"),
    "gzip in gzip": (
        idx_with(train_images=gzip.compress(gzip.compress(idx(SMALL)))), "LS-304", "begins with 1f 8b"),
    "gzip: a name of 50 MB": (idx_with(train_images=gzip_named(50_000_000)), "LS-305", "cut off"),
    "gzip: two hundred thousand empty members": (
        idx_with(train_images=gzip.compress(b"") * 200_000), "LS-305", "more than 1,000 members"),
    "gzip: header alone": (idx_with(train_images=b"\x1f\x8b\x08\0"), "LS-305", "cut off"),
    "gzip: rubbish behind its end": (
        idx_with(train_images=gzip.compress(idx(SMALL)) + b"rubbish!"), "LS-305", "damaged"),
    "IDX: dimensions of 2³¹−1": (
        idx_with(train_images=header(2**31 - 1, 2**31 - 1, 2**31 - 1) + bytes(99)), "LS-304",
        "2147483647×2147483647×2147483647 values are declared"),
    "IDX: no images of 2³²−1 a side": (
        idx_with(train_images=header(0, 2**32 - 1, 2**32 - 1, 2**32 - 1)), "LS-304", "values are declared"),
    "IDX: 255 dimensions": (idx_with(train_images=b"\0\0\x08\xff" + bytes(2000)), "LS-304", "255 dimensions"),
    "IDX: a gibibyte that is not there": (
        idx_with(train_labels=header(2**30) + bytes(100)), "LS-304", "but 100 follow"),
    "IDX: trailing bytes": (idx_with(train_images=idx(SMALL) + b"x"), "LS-304", "declares 378 bytes"),
    "IDX: a tebibyte of nothing behind the values": (a_sparse_idx, "LS-304", "but 1,099,511,627,760 follow"),
    "IDX: numbers of another type": (
        idx_with(train_images=header(6, 7, 9, kind=14) + bytes(3024)), "LS-304", "float64"),
    "IDX: a link to an endless device": (a_link("/dev/zero"), "LS-304", "train-images-idx3-ubyte is missing"),
    "IDX: a pipe": (a_pipe, "LS-304", "train-images-idx3-ubyte is missing"),
}  # fmt: skip


def label_255(folder):
    idx_folder(folder, train_labels=idx(np.array([0, 1, 0, 1, 0, 255], np.uint8)))


# --------------------------------------------------------------------------------------------------------- npz and npy

ARRAYS = {"x_train": SMALL, "y_train": np.arange(6) % 2, "x_test": SMALL[:4], "y_test": np.arange(4) % 2}


def npy(shape, body=b"", dtype="|u1") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_2_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue() + body


def archive(*more, method=zipfile.ZIP_STORED, **arrays) -> bytes:
    """An archive of the four good arrays, some replaced by bytes, and of `more` members, (name, bytes)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a name stands twice
        for name, array in {**ARRAYS, **arrays}.items():
            buffer = io.BytesIO()
            np.save(buffer, array) if isinstance(array, np.ndarray) else buffer.write(array)
            file.writestr(f"{name}.npy", buffer.getvalue())
        for name, content in more:
            file.writestr(name, content)
    return stream.getvalue()


def npz_of(content: Callable[[], bytes]):
    return lambda folder: (folder / "data.npz").write_bytes(content())


def four_gibibytes() -> bytes:
    """An array of nearly 4 GiB, which header and directory agree on, in 4 MB that really unpack to it."""
    n = 4000
    head = npy((n, 1024, 1024))
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = squeeze.compress(head) + squeeze.flush(zlib.Z_FULL_FLUSH)
    block = squeeze.compress(bytes(2**20)) + squeeze.flush(zlib.Z_FULL_FLUSH)
    packed = start + block * n + b"\x03\0"
    return _relabelled(archive(x_train=packed), "x_train.npy", len(packed), len(head) + n * 2**20, zipfile.ZIP_DEFLATED)


def _relabelled(content: bytes, name: str, packed: int, whole: int, method: int, flags: int = 0) -> bytes:
    """The archive with other numbers for one member, in its own header and in the directory alike."""
    data, at = bytearray(content), -1
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            start = at + (46 if shift else 30)
            if content[start : start + len(name)] == name.encode():
                struct.pack_into("<HH", data, at + 6 + shift, flags, method)
                struct.pack_into("<II", data, at + 18 + shift, packed, whole)
    return bytes(data)


def twenty_five_thousand_names() -> bytes:
    """A directory of 46 bytes and a name for each of 25,000 members that are all the same one."""
    row = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    rows = b"".join(row + f"{n:07}".encode() for n in range(25_000))
    return rows + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(rows), 0, 0)


def overlapping() -> bytes:
    """Two hundred names of one and the same compressed megabyte."""
    content = archive(("x.npy", os.urandom(10**6)))
    at = content.rfind(b"PK\x01\x02")
    end = content.rfind(b"PK\x05\x06")
    row = content[at:end]
    rows = b"".join(row[:46] + f"{n:05}".encode() + row[51:] for n in range(200))
    (n_rows, size) = struct.unpack_from("<H", content, end + 10)[0], struct.unpack_from("<L", content, end + 12)[0]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, n_rows + 200, n_rows + 200, size + len(rows),
                       struct.unpack_from("<L", content, end + 16)[0], 0)  # fmt: skip
    return content[:end] + rows + tail


OBJECTS = np.array([{}, []], dtype=object)
NPZ_BOMBS = {
    "npy: asks for 32 GiB": (npz_of(lambda: archive(x_train=npy((2**25, 32, 32)))), "its header declares 34,359,738"),
    "npy: a shape beyond all numbers": (npz_of(lambda: archive(x_train=npy((10**30, 10**30)))), 'array "x_train"'),
    "npy: a negative shape": (npz_of(lambda: archive(x_train=npy((-1, 7, 9), bytes(63)))), "impossible"),
    "npy: a header of 4 GB": (
        npz_of(lambda: archive(x_train=b"\x93NUMPY\x02\0\xff\xff\xff\xff" + bytes(99))), 'array "x_train"'),
    "npy: a header that is a program": (
        npz_of(lambda: archive(x_train=b"\x93NUMPY\x01\0\x1e\0" + b"__import__('os').system('ls') ")), "x_train"),
    "npy: a header nested 4,000 deep": (
        npz_of(lambda: archive(x_train=b"\x93NUMPY\x01\0\x40\x1f" + b"[" * 4000 + b"]" * 4000)), "x_train"),
    "npy: one value of 2 GB": (npz_of(lambda: archive(x_train=npy((1,), dtype="|V2000000000"))), "its header declares"),
    "npy: Python objects": (npz_of(lambda: archive(x_train=OBJECTS)), "x_train holds Python objects"),
    "npy: class names of a billion letters": (
        npz_of(lambda: archive(class_names=npy((2,), dtype="<U1000000000"))), 'array "class_names"'),
    "npz: 4 GB in 4 MB": (npz_of(four_gibibytes), "at most 100 times as many are unpacked"),
    "npz: a path that leads out": (npz_of(lambda: archive(("../../x.npy", b"x"))), "a path that leads out of it"),
    "npz: an absolute path": (npz_of(lambda: archive(("/etc/x.npy", b"x"))), "a path that leads out of it"),
    "npz: a path for Windows": (npz_of(lambda: archive(("..\\x.npy", b"x"))), "a path that leads out of it"),
    "npz: a name twice": (npz_of(lambda: archive(("x_train.npy", npy((1,), b"x")))), '"x_train.npy" twice'),
    "npz in npz": (npz_of(lambda: archive(x_train=archive())), 'array "x_train"'),
    "npz: 25,000 names": (npz_of(twenty_five_thousand_names), "its directory takes 1,325,000 bytes"),
    "npz: names that share their content": (npz_of(overlapping), "bytes of content, but the file has"),
    "npz: encrypted": (
        npz_of(lambda: _relabelled(archive(), "x_train.npy", 506, 506, 0, flags=1)), "packed as NumPy packs nothing"),
    "npz: packed with LZMA": (npz_of(lambda: archive(method=zipfile.ZIP_LZMA)), "packed as NumPy packs nothing"),
    "npz: packed with bzip2": (npz_of(lambda: archive(method=zipfile.ZIP_BZIP2)), "packed as NumPy packs nothing"),
    "npz: stored, with two lengths": (
        npz_of(lambda: _relabelled(archive(), "x_train.npy", 506, 2**31, 0)), "has two lengths"),
    "npz: a tebibyte of nothing": (lambda folder: sparse(folder / "data.npz", 2**40), "a zip archive is missing"),
    "npz: fractions": (npz_of(lambda: archive(x_train=SMALL / 255)), "not whole numbers"),
}  # fmt: skip


def npz_label_255(folder):
    labels = np.array([0, 1, 0, 1, 0, 255])
    (folder / "data.npz").write_bytes(archive(y_train=labels, class_names=np.array(["cat", "dog"])))


# ------------------------------------------------------------------------------------------------------------ pictures


def picture(name: str, content: Callable[[], bytes]):
    def make(folder):
        pictures(folder)
        (folder / "data" / "cat" / name).write_bytes(content())

    return make


def png_of(width, height, depth=8, colour=0, more=b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    whole = png(head, zlib.compress(bytes(1000)))
    return whole[:33] + more + whole[33:]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def zeros(n_bytes: int) -> bytes:
    return zlib.compress(bytes(n_bytes), 9)


def saved(kind: str, mode: str, size=(9, 7), **options) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans() -> bytes:
    """A progressive JPEG of 4,000 by 4,000 points whose last scan stands there five thousand times."""
    content = saved("JPEG", "L", (4000, 4000), progressive=True)
    last = content.rfind(b"\xff\xda")
    return content[:last] + content[last:-2] * 5000 + content[-2:]


def many_directories() -> bytes:
    """A TIFF with a sound picture, and a hundred thousand more directories behind its first."""
    content = bytearray(saved("TIFF", "L"))
    (first,) = struct.unpack_from("<I", content, 4)
    (n,) = struct.unpack_from("<H", content, first)
    row = bytes(content[first : first + 2 + 12 * n])
    struct.pack_into("<I", content, first + 2 + 12 * n, len(content))
    for _ in range(100_000):
        content += row + struct.pack("<I", len(content) + len(row) + 4)
    return bytes(content[:-4]) + bytes(4)


FRAMES = {"save_all": True, "append_images": [Image.new("L", (9, 7), 5)], "duration": 9}
PICTURE_BOMBS = {
    "PNG: 65535²": (picture("x.png", lambda: png_of(65535, 65535)), "exceeds limit"),
    "PNG: 2³¹−1 a side": (picture("x.png", lambda: png_of(2**31 - 1, 2**31 - 1)), "exceeds limit"),
    "PNG: 8193×4096": (picture("x.png", lambda: png_of(8193, 4096)), "8193×4096 pixels; at most 33,554,432"),
    "PNG: cut off": (picture("x.png", lambda: saved("PNG", "L")[:-20]), "cannot be read"),
    "PNG: 16 bits": (picture("x.png", lambda: saved("PNG", "I;16")), "more than 8 bits"),
    "PNG: animated": (picture("x.png", lambda: saved("PNG", "L", **FRAMES)), "an animation or a stack of pictures"),
    "PNG: a text of 64 MB": (
        picture("x.png", lambda: png_of(9, 7, more=chunk(b"zTXt", b"a\0\0" + zeros(2**26)))), "too large"),
    "PNG: a text of 60 MB in 100 pieces": (
        picture("x.png", lambda: png_of(9, 7, more=chunk(b"zTXt", b"a\0\0" + zeros(2**20 - 9)) * 100)), "memory"),
    "PNG: a chunk of 2 GB": (
        picture("x.png", lambda: png_of(9, 7)[:33] + struct.pack(">I4s", 2**31 - 1, b"IDAT")), "cannot be read"),
    "JPEG: CMYK": (picture("x.jpg", lambda: saved("JPEG", "CMYK")), "CMYK"),
    "JPEG: 65535² in 600 bytes": (
        picture("x.jpg", lambda: saved("JPEG", "L").replace(b"\0\x07\0\x09", b"\xff\xff\xff\xff")), "exceeds limit"),
    "JPEG: five thousand scans": (picture("x.jpg", many_scans), "a JPEG of 5,"),
    "GIF: animated": (picture("x.gif", lambda: saved("GIF", "L", **FRAMES)), "an animation or a stack of pictures"),
    "GIF: 65535²": (picture("x.gif", lambda: b"GIF89a\xff\xff\xff\xff" + saved("GIF", "L")[10:]), "exceeds limit"),
    "TIFF: a hundred thousand directories": (picture("x.tif", many_directories), "an animation or a stack of pictures"),
    "TIFF: CMYK": (picture("x.tif", lambda: saved("TIFF", "CMYK")), "CMYK"),
    "PPM: 65535² of nothing": (picture("x.ppm", lambda: b"P6 65535 65535 255\n"), "exceeds limit"),
    "a picture that is a tebibyte of nothing": (
        lambda folder: (pictures(folder), sparse(folder / "data" / "cat" / "x.png", 2**40, png_of(9, 7)))[0],
        "at most 67,108,864 are read"),
    "a program that is called a picture": (picture("x.png", lambda: b"#!/bin/sh\nrm -rf /\n"), "cannot be read"),
    "EPS, which would be run": (
        picture("x.png", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 7\n"), "cannot"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- TOML

STUDY = """
dataset = "digits"
recipe.epochs = 1
recipe.optimizer = {kind = "sgd", learning_rate = 0.1}
networks.a = ["flatten", "dense 10"]
"""


def a_study(text: Callable[[], str] | str):
    def make(folder):
        (folder / "s.toml").write_text(text if isinstance(text, str) else text(), encoding="utf-8")

    return make


def read_study(folder: Path) -> object:
    return study.load_study(folder / "s.toml")


TOML_BOMBS = {
    "TOML: nested 10,000 deep": (a_study("a = " + "[" * 10_000 + "]" * 10_000), "LS-202", "nested too deeply"),
    "TOML: tables 10,000 deep": (a_study("a = " + "{a = " * 10_000 + "1" + "}" * 10_000), "LS-202", "nested too"),
    "TOML: a key of 200,000 parts above 50,000 others": (
        lambda folder: a_study("[a" + ".a" * 200_000 + "]\n" + "".join(f"k{n} = 1\n" for n in range(50_000)))(folder),
        "LS-202", "nested too deeply"),
    "TOML: 100 MB": (lambda folder: sparse(folder / "s.toml", 10**8, STUDY.encode()), "LS-201", "larger than"),
    "TOML: the same key twice": (a_study(STUDY + "recipe.epochs = 2"), "LS-202", "Cannot overwrite"),
    "TOML: a rate that is NaN": (a_study(STUDY.replace("= 0.1", "= nan")), "LS-204", "nan is not a finite number"),
    "TOML: a rate without end": (a_study(STUDY.replace("= 0.1", "= inf")), "LS-204", "inf is not a finite number"),
    "TOML: a rate of 10³⁰⁰⁰": (a_study(STUDY.replace("= 0.1", "= 1e3000")), "LS-204", "inf is not a finite number"),
    "TOML: 10⁹ units": (a_study(STUDY.replace("dense 10", "dense 1000000000")), "LS-205", "at most 1000000"),
    "TOML: 10⁹ epochs": (a_study(STUDY.replace("epochs = 1", "epochs = 1000000000")), "LS-205", "at most 100000"),
    "TOML: 10²⁰ recipes": (
        a_study(STUDY + "[grid]\n" + "".join(f'"recipe.{key}" = {list(range(1, 101))}\n' for key in
                ("epochs", "batch_size", "validation", "l2", "label_smoothing"))), "LS-205", "are more than"),
    "TOML: a number of 5,000 digits": (a_study(f"train_size = {'9' * 5000}"), "LS-202", "digits"),
    "TOML: 20,000 keys that nobody knows": (
        lambda folder: a_study(STUDY + "".join(f"k{n} = 1\n" for n in range(20_000)))(folder), "LS-203",
        "19,900 more of such"),
    "TOML: no text": (lambda folder: (folder / "s.toml").write_bytes(b"\xff\xfe\0"), "LS-202", "not UTF-8"),
    "TOML: an endless device": (lambda folder: (folder / "s.toml").symlink_to("/dev/zero"), "LS-201", "larger than"),
}  # fmt: skip


# ---------------------------------------------------------------------- what others' runs, checkpoints and traces hold


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run with a checkpoint to go on from, beside the trace of a proof."""
    place = damage.run_folder(tmp_path_factory.mktemp("bombs"))
    damage.trace_in(place.parent / "traces" / "one", place)
    return place


def tensors(head: bytes | dict, body: bytes = b"", n_header: int | None = None) -> bytes:
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(head) if n_header is None else n_header) + head + body


def array(*shape, start=0, dtype="U8", end=None) -> dict:
    end = start + int(np.prod(shape)) if end is None else end
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def sealed_as(content: Callable[[], bytes]):
    """A checkpoint's weights, under a manifest that vouches for them."""

    def make(place):
        (place / "checkpoint-1" / "weights.safetensors").write_bytes(content())
        damage.seal(place / "checkpoint-1")

    return make


def a_sparse_checkpoint(place):
    point = place / "checkpoint-1"
    (point / "weights.safetensors").unlink()
    sparse(point / "weights.safetensors", 2**40)
    manifest = json.loads((point / "manifest.json").read_text())
    manifest["files"]["weights.safetensors"] = {"bytes": 2**40, "sha256": "0" * 64}
    (point / "manifest.json").write_bytes(store.as_json({**manifest, "seal": store.seal(manifest)}))


def a_linked_checkpoint(place):
    (place / "checkpoint-1" / "weights.safetensors").unlink()
    (place / "checkpoint-1" / "weights.safetensors").symlink_to("/dev/zero")


def resealed(change: Callable[[dict], object]):
    def make(place):
        path = place / "checkpoint-1" / "manifest.json"
        manifest = json.loads(path.read_text())
        change(manifest)
        path.write_bytes(store.as_json({**manifest, "seal": store.seal(manifest)}))

    return make


def read_point(place: Path) -> object:
    return checkpoints.read(place / "checkpoint-1", (place / "spec.toml").read_text())


def replaced(name: str, content: Callable[[], bytes]):
    return lambda place: (place / name).write_bytes(content())


def edited(name: str, change: Callable[[dict], object]):
    def make(place):
        document = json.loads((place / name).read_text())
        change(document)
        (place / name).write_text(json.dumps(document))

    return make


def piped(name: str):
    def make(place):
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return make


def record(name: str) -> Callable[[Path], object]:
    return lambda place: getattr(store.Record(place), name)


def trace(place: Path) -> object:
    return damage.walk_through(Trace(place.parent / "traces" / "one"))


def check(place: Path) -> object:
    return store.check_manifest(place)


HUGE = 2**62
LONG = 2**22 + 1
RUN_BOMBS = {
    "safetensors: a header of 100 MB": (
        sealed_as(lambda: tensors(b'{"a' + b" " * 10**8 + b'": 1}')), read_point, "its header takes 100,000,0"),
    "safetensors: a header of 2⁶³": (
        sealed_as(lambda: tensors(b"{}", n_header=2**63)), read_point, "a header of 9,223,372,036,854,775,808"),
    "safetensors: overlapping arrays": (
        sealed_as(lambda: tensors({"a": array(2), "b": array(2, start=1)}, b"abc")), read_point, "invalid offset"),
    "safetensors: a name twice": (
        sealed_as(lambda: tensors(b'{"a": %s, "a": %s}' % ((json.dumps(array(1)).encode(),) * 2), b"a")), read_point,
        'names "a" twice'),
    "safetensors: a gap": (
        sealed_as(lambda: tensors({"a": array(1), "b": array(1, start=2)}, b"abc")), read_point, "invalid offset"),
    "safetensors: trailing bytes": (
        sealed_as(lambda: tensors({"a": array(1)}, b"abc")), read_point, "not fully covered"),
    "safetensors: an array of 2⁶²": (
        sealed_as(lambda: tensors({"a": array(HUGE, end=1)}, b"a")), read_point, "it is no safetensors file"),
    "safetensors: no values of 2⁶² by 2": (
        sealed_as(lambda: tensors({"a": array(0, HUGE, 2)})), read_point, "too big"),
    "safetensors: a type that NumPy lacks": (
        sealed_as(lambda: tensors({"a": array(1, dtype="BF16", end=2)}, b"ab")), read_point, "type BF16"),
    "safetensors: a header nested 100,000 deep": (
        sealed_as(lambda: tensors(b"[" * 100_000)), read_point, "nested too deeply"),
    "safetensors: three bytes": (sealed_as(lambda: b"abc"), read_point, "too few"),
    "safetensors: a tebibyte of nothing, declared": (a_sparse_checkpoint, read_point, "at most 4,294,967,296 are read"),
    "safetensors: an endless device": (a_linked_checkpoint, read_point, "no regular file"),
    "checkpoint: another's weights, sealed": (
        resealed(lambda m: m["files"].pop("weights.safetensors")), read_point, "the manifest does not list it"),
    "checkpoint: a history that is none": (resealed(lambda m: m.update(history=7)), read_point, "cannot be used"),
    "checkpoint: no spec": (resealed(lambda m: m.pop("spec")), read_point, "cannot be used"),
    "checkpoint: seconds that are texts": (
        resealed(lambda m: m.update(seconds={"total": "x"})), read_point, "cannot be used"),
    "status: 1 GiB of nothing": (
        lambda place: sparse(place / "status.json", 2**30), record("status"), "at most 67,108,864 are read"),
    "status: nested 100,000 deep": (replaced("status.json", lambda: b'{"a":' * 100_000), record("status"), "recursion"),
    "status: ten million empty objects": (
        replaced("status.json", lambda: b'{"a": [' + b"{}," * 10**7 + b"{}]}"), record("status"), "4,194,304 values"),
    "status: a pipe": (piped("status.json"), record("status"), "no regular file"),
    "status: a folder": (lambda place: ((place / "status.json").unlink(), (place / "status.json").mkdir()),
                         record("status"), "it is a folder"),
    "metrics: a number of 5,000 digits": (
        replaced("metrics.json", lambda: b'{"epochs": ' + b"9" * 5000 + b"}"), record("metrics"), "digits"),
    "events: an endless device": (
        lambda place: ((place / "events.jsonl").unlink(), (place / "events.jsonl").symlink_to("/dev/zero")),
        record("history"), "no regular file"),
    "events: ten million empty objects": (
        replaced("events.jsonl", lambda: b"{}\n" * 10**7), record("history"), "4,194,304 values"),
    "spec: 100 MB": (lambda place: sparse(place / "spec.toml", 10**8), record("spec"), "at most 1,000,000 are read"),
    "spec: a key of 200,000 parts above others": (
        replaced("spec.toml", lambda: b"[a" + b".a" * 200_000 + b"]\n" + b"k=1\n" * 50_000), record("spec"), "nested"),
    "spec: a pipe": (piped("spec.toml"), record("spec"), "no regular file"),
    "predictions: 4 GB in 4 MB": (
        replaced("predictions.npz", four_gibibytes), lambda place: store.Record(place).arrays("predictions"),
        "at most 100 times as many"),
    "predictions: Python objects": (
        replaced("predictions.npz", lambda: archive(x_train=OBJECTS)),
        lambda place: store.Record(place).arrays("predictions"), "allow_pickle"),
    "manifest: a path that leads out": (
        edited("manifest.json", lambda m: m["files"].update({"../../../etc/passwd": {"sha256": "0"}})), check,
        "passwd: cannot be used: it is missing"),
    "manifest: a tebibyte, declared": (
        edited("manifest.json", lambda m: m["files"]["metrics.json"].update(bytes=2**40)), check,
        "the manifest says 1,099,511,627,776"),
    "manifest: files that are none": (edited("manifest.json", lambda m: m.update(files=[1])), check, '"files"'),
    "trace: 10¹⁸ steps": (
        edited("../traces/one/manifest.json", lambda m: m.update(steps=10**18)), trace, "not taken"),
    "trace: a step that was never taken": (
        edited("../traces/one/manifest.json", lambda m: m.update(kept=[0, 1, 10**18])), trace, "out of range"),
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------- the battery

BOMBS = {
    **{name: (make, load, code, words) for name, (make, code, words) in IDX_BOMBS.items()},
    **{name: (make, load, "LS-306", words) for name, (make, words) in NPZ_BOMBS.items()},
    **{name: (make, load, "LS-308", words) for name, (make, words) in PICTURE_BOMBS.items()},
    **{name: (make, read_study, code, words) for name, (make, code, words) in TOML_BOMBS.items()},
    "npz: label 255": (npz_label_255, load, "LS-309", "number 5 is 255"),
    "IDX: label 255": (
        lambda folder: (label_255(folder), a_study(STUDY.replace("digits", str(folder / "data")))(folder)), read_study,
        "LS-206", "data has 256 classes"),
}  # fmt: skip


def refused(make, read, place, code, words):
    make(place)
    outcome, said, seconds, n_bytes = damage.watched(lambda: read(place))
    assert outcome == code, f"{outcome}: {said}"
    assert words in said, said
    assert seconds < damage.SECONDS
    assert n_bytes < damage.BYTES


def test_there_are_enough_of_them():
    assert len(BOMBS) + len(RUN_BOMBS) >= 40


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_its_words(name, tmp_path):
    make, read, code, words = BOMBS[name]
    refused(make, read, tmp_path, code, words)


@pytest.fixture
def place(run_folder):
    """The run folder, put back afterwards."""
    root = run_folder.parent
    kept = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.stat().st_size < 10**7}
    yield run_folder
    for path in [path for path in root.rglob("*") if path not in kept and not path.is_dir()]:
        path.unlink()
    for path in kept:  # a finished run keeps one checkpoint, and whoever looks for what can go on sees to that
        path.parent.mkdir(exist_ok=True)
    for path, content in kept.items():
        if path.is_dir():
            path.rmdir()
        if path.is_symlink() or not path.is_file():
            path.unlink(missing_ok=True)
        path.write_bytes(content)


@pytest.mark.parametrize("name", RUN_BOMBS)
def test_a_run_folder_that_means_harm_is_refused_in_its_words(name, place):
    make, read, words = RUN_BOMBS[name]
    refused(make, read, place, "LS-505", words)


def test_a_checkpoint_of_another_network_is_not_put_into_the_model(place):
    """Every hash fits and the spec is this run's; the arrays are not."""
    environment = store.read_json(place / "environment.json")
    weights, state = store.read_checkpoint(place / "checkpoint-1")
    for path in (place / "checkpoint-2").iterdir():
        path.unlink()
    restored: list[object] = []
    model = types.SimpleNamespace(
        weights=lambda: weights, state=lambda: state, wait=lambda: None, restore=lambda *arrays: restored.append(arrays)
    )
    checkpoints.Keeper(place, environment).resume(model, Clocks())
    assert len(restored) == 1
    first = "1_dense/kernel"
    network = re.escape(str(weights[first].shape))
    sealed_as(lambda: save({**weights, first: np.zeros((3, 5), np.float32)}))(place)
    with pytest.raises(LockstepError, match=rf"{first} is \(3, 5\), the network's {network}") as raised:
        checkpoints.Keeper(place, environment).resume(model, Clocks())
    assert raised.value.code == "LS-505"
    assert len(restored) == 1


def test_a_pipe_in_place_of_the_lock_holds_nobody_up(place):
    os.mkfifo(place / "lock")
    doctor.check_runs([place])
    resumption.unfinished([place])


def test_a_link_out_of_a_folder_of_pictures_is_not_followed(tmp_path):
    pictures(tmp_path)
    secret = tmp_path / "secret.png"
    Image.new("L", (9, 7), 251).save(secret)
    (tmp_path / "data" / "cat" / "x.png").symlink_to(secret)
    (tmp_path / "data" / "dog" / "y.png").symlink_to("../../secret.png")
    loaded = data.load(str(tmp_path / "data"))
    assert 251 not in loaded.train_images
    assert 251 not in loaded.test_images
    assert any("links out of the folder" in note for note in loaded.notes)


# -------------------------------------------------------------------------------------------- twins: without the checks


@pytest.mark.parametrize(
    ("name", "check", "instead"),
    [
        (
            "gzip: a header that declares a gibibyte in 40 bytes",
            "lockstep.files.intake.refuse_bomb",
            lambda *_: None,
        ),
        ("npz: a path that leads out", "lockstep.files.intake._check_member", lambda *_: None),
        ("npz: 25,000 names", "lockstep.files.intake.LARGEST_DIRECTORY", 2**40),
        ("PNG: 8193×4096", "lockstep.data.picture.MAX_PIXELS", 2**40),
        ("TOML: 100 MB", "lockstep.files.intake.LARGEST_SPEC", 2**40),
    ],
)
def test_without_its_check_a_bomb_is_not_refused_in_its_words(name, check, instead, tmp_path, monkeypatch):
    make, read, code, words = BOMBS[name]
    monkeypatch.setattr(check, instead)
    with pytest.raises(AssertionError):
        refused(make, read, tmp_path, code, words)


def test_without_its_check_an_array_twice_in_safetensors_goes_unnoticed(place, monkeypatch):
    make, read, words = RUN_BOMBS["safetensors: a name twice"]
    monkeypatch.setattr("lockstep.files.intake.with_unique_keys", dict)
    with pytest.raises(AssertionError):
        refused(make, read, place, "LS-505", words)


def test_the_bombs_are_what_they_are_called():
    """Ten gigabytes really are in there, and a name really stands twice."""
    content = zeros_in_gzip(header(6), 10_240)
    assert 9e6 < len(content) < 12e6
    inflate, n = zlib.decompressobj(31), 0
    for start in range(0, 2**14, 2**10):
        n += len(inflate.decompress(content[start : start + 2**10]))
    assert n > 12 * 2**20
    assert hashlib.sha256(archive()).hexdigest() == hashlib.sha256(archive()).hexdigest()
    with zipfile.ZipFile(io.BytesIO(archive(("x_train.npy", b"x")))) as file:
        assert file.namelist().count("x_train.npy") == 2
