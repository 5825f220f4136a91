"""Malformed input, good files damaged in ways drawn from a seed: `python -m support.damage FORMAT CASES FOLDER`.

One process reads all cases of a format and prints a JSON object: what was refused with which code, what was read, and
every failure, which is another error than LockstepError, more than SECONDS of the processor or more than BYTES of
memory. A case is drawn from the format's name and its number alone, so `python -m support.damage FORMAT CASES FOLDER
--only N` repeats number N.
"""

from __future__ import annotations

import argparse
import collections
import copy
import gzip
import hashlib
import io
import json
import os
import random
import re
import resource
import shutil
import struct
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SECONDS = 2.0
BYTES = 256 * 2**20
CEILING = 3 * 2**30  # of addresses beyond those at the start: protects the machine from what this looks for

Draw = random.Random
Read = Callable[[], Any]


class Target(NamedTuple):
    """A format at hand: `damage` puts a damaged file in its place, `read` reads as the product does, `raw` as if no
    reader of ours were there."""

    damage: Callable[[Draw], None]
    read: Callable[[int], Any]
    raw: Read


# ---------------------------------------------------------------------------------------------------- ways to damage

EXTREMES = (0, 1, -1, 2, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def cut(data: bytearray, draw: Draw) -> bytearray:
    return data[: draw.randrange(len(data) + 1)]


def flip(data: bytearray, draw: Draw) -> bytearray:
    for _ in range(draw.choice((1, 1, 1, 2, 8, 64))):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def overwrite(data: bytearray, draw: Draw) -> bytearray:
    at = draw.randrange(len(data))
    n = min(draw.choice((1, 2, 4, 8, 64)), len(data) - at)
    data[at : at + n] = draw.choice((bytes(n), b"\xff" * n, draw.randbytes(n)))
    return data


def grow(data: bytearray, draw: Draw) -> bytearray:
    """A number somewhere becomes an extreme one; headers are hit more often than what follows."""
    at = draw.randrange(min(len(data), draw.choice((16, 64, 512, len(data)))))
    n = draw.choice((1, 2, 4, 8))
    word = (draw.choice(EXTREMES) % 256**n).to_bytes(n, draw.choice(("little", "big")))
    data[at : at + n] = word
    return data


def insert(data: bytearray, draw: Draw) -> bytearray:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.randbytes(draw.choice((1, 2, 16, 300)))
    return data


def delete(data: bytearray, draw: Draw) -> bytearray:
    at = draw.randrange(len(data))
    del data[at : at + draw.choice((1, 2, 16, 300))]
    return data


def splice(data: bytearray, draw: Draw) -> bytearray:
    """A piece of it stands elsewhere, too."""
    start, at = draw.randrange(len(data)), draw.randrange(len(data) + 1)
    data[at:at] = data[start : start + draw.choice((4, 30, 500))]
    return data


def append(data: bytearray, draw: Draw) -> bytearray:
    return data + draw.choice((b"\0", draw.randbytes(40), bytes(data), b"\n" * 3))


def repeat(data: bytearray, draw: Draw) -> bytearray:
    return data * draw.choice((0, 2, 50))


WAYS = (cut, flip, flip, overwrite, grow, grow, insert, delete, splice, append, repeat)


def damaged(content: bytes, draw: Draw) -> bytes:
    """The content after one to four damages."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = draw.choice(WAYS)(data, draw) if data else data
    return bytes(data)


# In texts: what stands where a value stood.
WORDS = (
    "-1", "0", "1", "1e999", "-1e999", "nan", "inf", "NaN", "Infinity", "true", "null", '""', "[]", "{}", "[[]]", '"x"',
    "1000000000", "9" * 30, "9" * 5000, "0.5", '"../../etc/passwd"', '"\\u0000"', "[" * 300 + "]" * 300, "[" * 3000,
    "1979-05-27", '"' + "a" * 5000 + '"', "'", "\0", "é", '{"a" = 1}',
)  # fmt: skip
WORD = re.compile(r'"[^"\n]*"|[-+]?[0-9][0-9.e+-]*|[A-Za-z_]+')


def damaged_text(text: str, draw: Draw) -> str:
    """The text with words replaced, or lines left out, doubled or moved."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        lines, words = text.splitlines(keepends=True), list(WORD.finditer(text))
        way = draw.randrange(6)
        if way < 3 and words:
            word = draw.choice(words)
            other = draw.choice(WORDS) if way else draw.choice(words).group()
            text = text[: word.start()] + other + text[word.end() :]
        elif lines:
            line = draw.randrange(len(lines))
            moved = lines.pop(line) if draw.random() < 0.7 else lines[line]
            if way > 3:
                lines.insert(draw.randrange(len(lines) + 1), moved)
            text = "".join(lines)
    return text


VALUES = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 1e300, float("nan"), float("inf"), 2**31, 2**63, 2**64, 10**30, 10**15,
    10**16, "", "x", "nan", "../../etc/passwd", "/dev/zero", "a" * 5000, "\0", "\ud800", [], {}, [[]], [0], [-1],
    [1e300], [None], {"a": 1}, [[[[[[[[]]]]]]]], list(range(100)), ["x"] * 100,
)  # fmt: skip


def damaged_tree(tree: Any, draw: Draw) -> Any:
    """JSON's values with some replaced, left out, moved or deeply nested."""
    tree = json.loads(json.dumps(tree))
    for _ in range(draw.choice((1, 1, 2, 4))):
        places = list(_places(tree))
        if not places:
            break
        holder, key = draw.choice(places)
        way = draw.randrange(8)
        if way < 4:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
        elif way == 4:
            del holder[key]
        elif way == 5:
            other, its_key = draw.choice(places)
            holder[key] = json.loads(json.dumps(other.get(its_key) if isinstance(other, dict) else other[its_key]))
        elif way == 6 and isinstance(holder[key], int | float):
            holder[key] = draw.choice((-holder[key], holder[key] * 10**9, holder[key] + 1, str(holder[key])))
        elif isinstance(holder, dict):
            holder[draw.choice(("x", "", "__metadata__", "../x", key + "x", "\ud800"))] = copy.deepcopy(holder[key])
    return tree


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from _places(value)


def as_json(tree: Any, draw: Draw) -> bytes:
    text = json.dumps(tree, indent=draw.choice((None, 2)), ensure_ascii=False)
    return damaged_text(text, draw).encode(errors="replace") if draw.random() < 0.3 else text.encode(errors="replace")


# ------------------------------------------------------------------------------------------------------- the formats

IMAGES = np.arange(6 * 7 * 9, dtype=np.uint8).reshape(6, 7, 9)
ARRAYS = {"x_train": IMAGES, "y_train": np.arange(6) % 2, "x_test": IMAGES[:4], "y_test": np.arange(4) % 2}


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def idx(folder: Path, is_gzip: bool = False) -> Target:
    """One of the four files of a dataset."""
    from lockstep import data
    from lockstep.data.quartet import FILES

    names = ["train_images", "train_labels", "test_images", "test_labels"]
    contents = {FILES[name]: _idx(array) for name, array in zip(names, ARRAYS.values(), strict=True)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    last: list[Path] = []

    def damage(draw: Draw) -> None:
        while last:
            path = last.pop()
            path.unlink()
            (folder / path.name.removesuffix(".gz")).write_bytes(contents[path.name.removesuffix(".gz")])
        name = draw.choice(list(contents))
        content = contents[name]
        if is_gzip:
            (folder / name).unlink()
            name += ".gz"
            inner = damaged(content, draw) if draw.random() < 0.4 else content
            content = gzip.compress(inner, mtime=0)
            content = content if inner is not contents[name[:-3]] and draw.random() < 0.5 else damaged(content, draw)
        else:
            content = damaged(content, draw)
        (folder / name).write_bytes(content)
        last.append(folder / name)

    def raw() -> None:
        stream = (gzip.open if is_gzip else open)(last[0], "rb")
        with stream:
            _, n = struct.unpack(">HxB", stream.read(4))
            shape = struct.unpack(f">{n}I", stream.read(4 * n))
            np.frombuffer(stream.read(), np.uint8).reshape(shape)

    return Target(damage, lambda _: (data.describe(str(folder)), data.load(str(folder))), raw)


def gzipped(folder: Path) -> Target:
    """The same, gzipped: the stream damaged, or what is in it."""
    return idx(folder, is_gzip=True)


def npz(folder: Path) -> Target:
    """The archive's bytes."""
    from lockstep import data

    path = folder / "own.npz"
    originals = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, class_names=np.array(["cat", "dog"]), **ARRAYS)
        originals.append(buffer.getvalue())

    def damage(draw: Draw) -> None:
        path.write_bytes(damaged(draw.choice(originals), draw))

    return Target(damage, lambda _: (data.describe(str(path)), data.load(str(path))), lambda: _np_load(path))


def npy(folder: Path) -> Target:
    """One array's bytes in an archive that is sound."""
    from lockstep import data

    path = folder / "own.npz"
    arrays = {}
    for name, array in {**ARRAYS, "class_names": np.array(["cat", "dog"])}.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        arrays[name] = buffer.getvalue()

    def damage(draw: Draw) -> None:
        chosen = draw.choice(list(arrays))
        with zipfile.ZipFile(path, "w", draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for name, content in arrays.items():
                if name == chosen:
                    head = damaged_text(content[10:128].decode("latin-1"), draw).encode("latin-1", "replace")
                    length = struct.pack("<H", len(head) % 65536)
                    textual = content[:8] + length + head + content[128:]
                    content = textual if draw.random() < 0.5 else damaged(content, draw)
                archive.writestr(f"{name}.npy", content)

    return Target(damage, lambda _: (data.describe(str(path)), data.load(str(path))), lambda: _np_load(path))


def _np_load(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _turned() -> bytes:
    """Exif of a photograph that was taken upright."""
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return exif.tobytes()


def pictures(folder: Path) -> Target:
    """One picture among sound ones; a PNG's checksums are mended half of the time, so that decoders see the damage."""
    from PIL import Image

    from lockstep import data

    originals: list[tuple[str, bytes]] = []
    noise = np.random.default_rng(0).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    for suffix, mode, options in (
        ("png", "L", {}), ("png", "RGB", {}), ("png", "P", {}), ("png", "LA", {}), ("png", "1", {}), ("jpg", "L", {}),
        ("jpg", "RGB", {}), ("jpg", "RGB", {"progressive": True}), ("jpg", "RGB", {"exif": _turned()}),
        ("png", "RGBA", {"exif": _turned()}), ("webp", "RGBA", {"exif": _turned()}), ("tif", "L", {"exif": _turned()}),
        ("mpo", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (4, 4))]}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        kind = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "mpo": "MPO"}[suffix]
        Image.fromarray(noise).convert(mode).save(buffer, kind, **options)
        originals.append((suffix, buffer.getvalue()))
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(2):
            Image.fromarray(noise[..., 0]).save(folder / name / f"{number}.png")
    path = folder / "cat" / "x.png"

    def damage(draw: Draw) -> None:
        suffix, content = draw.choice(originals)
        content = damaged(content, draw)
        path.write_bytes(_mended(content) if suffix == "png" and draw.random() < 0.5 else content)

    def raw() -> None:
        with Image.open(path) as image:
            np.asarray(image.convert("RGB"))

    return Target(damage, lambda _: (data.describe(str(folder)), data.load(str(folder))), raw)


def _mended(content: bytes) -> bytes:
    """A PNG with the right checksum behind every chunk that still has its length."""
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        (n,) = struct.unpack_from(">I", data, at)
        if at + 12 + n > len(data):
            break
        struct.pack_into(">I", data, at + 8 + n, zlib.crc32(data[at + 4 : at + 8 + n]))
        at += 12 + n
    return bytes(data)


STUDIES = (
    """
question = "Does it run?"
dataset = "digits"
backends = ["numpy", "torch"]
seeds = [0, 1]
[recipe]
epochs = 1
optimizer = "adam 0.001"
schedule = "cosine"
augmentation = {shift = 2, rotation = 5.0}
early_stopping = {monitor = "validation_loss", patience = 3}
validation = 0.1
[grid]
recipe.batch_size = [32, 64]
[networks]
cnn = ["conv2d 4 3 2 same", "batch_norm", "relu", "max_pool2d 2", "flatten", "dropout 0.2", "dense 10"]
[networks.mlp]
layers = [{kind = "flatten"}, {kind = "dense", units = 10}]
""",
)


def toml(folder: Path) -> Target:
    """A study's file."""
    import tomllib

    from lockstep import study
    from lockstep.spec import Study
    from lockstep.spec.toml import resolved_toml

    path = folder / "study.toml"
    path.write_text(STUDIES[0])
    resolved = resolved_toml(study.load_study(path))
    originals = (*STUDIES, resolved)

    def damage(draw: Draw) -> None:
        text = draw.choice(originals)
        whole = damaged_text(text, draw) if draw.random() < 0.8 else damaged(text.encode(), draw)
        path.write_bytes(whole.encode(errors="replace") if isinstance(whole, str) else whole)

    def raw() -> None:
        Study(**tomllib.loads(path.read_text(encoding="utf-8")))

    return Target(damage, lambda _: study.load_study(path), raw)


# ------------------------------------------------------------------------------- what Lockstep itself leaves behind


def run_folder(folder: Path) -> Path:
    """A run, done here and now, with a checkpoint to go on from beside the one that it ended with."""
    from lockstep import store, study
    from lockstep.spec import Network, Recipe, Study
    from lockstep.training import checkpoints

    asked = Study(
        networks={"small": Network(["flatten", "dense 10"])}, dataset=("digits",), backends=("numpy",),
        recipe=Recipe(epochs=2, batch_size=30), train_size=60, name="s",
    )  # fmt: skip
    (record,) = study.run_study(asked, folder)
    assert record.is_finished, record.status
    place = record.folder
    weights, state = store.read_checkpoint(place / "checkpoint-2")
    steps = record.arrays("steps")
    progress = checkpoints.Progress(
        record.history[:1], np.stack([steps[name][:2] for name in checkpoints.STEPS]), 1, 0.5, (weights, state)
    )
    text = (place / "spec.toml").read_text()
    checkpoints.save(place, text, store.read_json(place / "environment.json"), progress, weights, state)
    return place


def seal(place: Path) -> None:
    """Make every hash of a checkpoint's manifest fit again, as somebody who means harm would."""
    from lockstep import store

    path = place / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, row in manifest["files"].items():
        content = (place / name).read_bytes()
        row.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    path.write_bytes(store.as_json({**manifest, "seal": store.seal(manifest)}))


def safetensors(folder: Path) -> Target:
    """A checkpoint's arrays under a manifest that vouches for them; half of the time the header alone."""
    from safetensors.numpy import load

    from lockstep import store
    from lockstep.training import checkpoints

    place = run_folder(folder) / "checkpoint-1"
    spec = (place.parent / "spec.toml").read_text()
    originals = {path.name: path.read_bytes() for path in place.glob("*.safetensors")}
    last: list[str] = []

    def damage(draw: Draw) -> None:
        while last:
            (place / last[-1]).write_bytes(originals[last.pop()])
        name = draw.choice(list(originals))
        content = originals[name]
        if draw.random() < 0.5:
            (n,) = struct.unpack_from("<Q", content)
            head = as_json(damaged_tree(json.loads(content[8 : 8 + n]), draw), draw)
            content = struct.pack("<Q", len(head)) + head + content[8 + n :]
        else:
            content = damaged(content, draw)
        (place / name).write_bytes(content)
        last.append(name)
        seal(place)

    def read(_: int) -> None:
        store.read_checkpoint(place)
        checkpoints.read(place, spec)

    return Target(damage, read, lambda: load((place / last[0]).read_bytes()))


def run_folders(folder: Path) -> Target:
    """A file of a run, under a manifest that vouches for it half of the time; read by doctor, report and resume."""
    from lockstep import store
    from lockstep.check import doctor
    from lockstep.report import write_report
    from lockstep.spec.toml import read_study
    from lockstep.study import identity, resumption

    place = run_folder(folder)
    originals = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    wanted = read_study(place / "spec.toml")
    names = sorted(originals.keys() - {"manifest.json", "worker.log", "lock"})
    last: list[str] = []

    def damage(draw: Draw) -> None:
        (place / "manifest.json").write_bytes(originals["manifest.json"])
        while last:
            (place / last[-1]).write_bytes(originals[last.pop()])
        name = draw.choice(names)
        content = originals[name]
        if name.endswith(".json") and draw.random() < 0.7:
            content = as_json(damaged_tree(json.loads(content), draw), draw)
        elif name.endswith(".jsonl") and draw.random() < 0.7:
            rows = damaged_tree([json.loads(line) for line in content.splitlines()], draw)
            content = b"\n".join(as_json(row, draw).replace(b"\n", b" ") for row in rows)
        elif name.endswith(".toml") and draw.random() < 0.7:
            content = damaged_text(content.decode(), draw).encode(errors="replace")
        elif name.endswith(".npz") and draw.random() < 0.5:
            content = _other_arrays(content, draw)
        else:
            content = damaged(content, draw)
        (place / name).write_bytes(content)
        last.append(name)
        if draw.random() < 0.5:
            store.write_manifest(place)

    def read(number: int) -> None:
        records = store.find_runs([folder])
        doctor.check_runs([folder])
        resumption.unfinished([folder])
        resumption.news(wanted, folder)
        identity.finished(place.parent, place.name, wanted.runs()[0], 2)
        identity.unfinished(place.parent, place.name, wanted.runs()[0], 2)
        if number % 25 == 0:
            write_report(records, folder / "report.html")
        store.check_manifest(place)

    def raw() -> None:
        content = (place / last[0]).read_bytes()
        kind = last[0].rpartition(".")[2]
        if kind == "npz":
            _np_load(place / last[0])
        elif kind == "toml":
            import tomllib

            tomllib.loads(content.decode())
        else:
            [json.loads(text) for text in (content.splitlines() if kind == "jsonl" else [content])]

    return Target(damage, read, raw)


def _other_arrays(content: bytes, draw: Draw) -> bytes:
    """Arrays of other shapes and types under the same names."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = draw.choice(list(arrays))
    array = arrays[name]
    arrays[name] = draw.choice(
        (array[:0], array[:1], array.astype(np.float16), array.astype("U3"), array[..., None], array.ravel(), -array,
         np.array(7), np.zeros((1, 0)), array.astype(complex), array > 1, np.full_like(array, 255),
         np.full(array.shape, np.nan))
    )  # fmt: skip
    if draw.random() < 0.2:
        del arrays[name]
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def manifests(folder: Path) -> Target:
    """The manifest of a run, of a checkpoint (sealed anew most of the time) or of a trace."""
    from lockstep import store
    from lockstep.check import doctor
    from lockstep.errors import LockstepError
    from lockstep.proof.traces import Trace
    from lockstep.training import checkpoints

    place = run_folder(folder)
    spec = (place / "spec.toml").read_text()
    trace = trace_in(folder / "traces" / "one", place)
    paths = [place / "manifest.json", place / "checkpoint-1" / "manifest.json", trace / "manifest.json"]
    originals = {path: path.read_bytes() for path in paths}
    last: list[Path] = []

    def damage(draw: Draw) -> None:
        for path, content in originals.items():
            path.write_bytes(content)
        path = draw.choice(paths)
        last[:] = [path]
        tree = json.loads(originals[path])
        if draw.random() < 0.2:
            path.write_bytes(damaged(originals[path], draw))
        elif path.parent.name != "checkpoint-1":
            path.write_bytes(as_json(damaged_tree(tree, draw), draw))
        else:
            tree = damaged_tree({key: value for key, value in tree.items() if key != "seal"}, draw)
            try:
                path.write_bytes(store.as_json({**tree, "seal": store.seal(tree)}))
            except ValueError:  # NaN, which such a file cannot hold
                path.write_bytes(json.dumps(tree).encode(errors="replace"))

    def read(_: int) -> None:
        problems = []
        for look in (
            lambda: store.check_manifest(place),
            lambda: doctor.check_runs([folder]),
            lambda: checkpoints.newest(place, spec),
            lambda: checkpoints.read(place / "checkpoint-1", spec),
            lambda: walk_through(Trace(trace)),
        ):
            try:
                look()
            except LockstepError as error:
                problems.append(error)
        if problems:
            raise problems[0]

    return Target(damage, read, lambda: _trusting(json.loads(last[0].read_bytes())))


def _trusting(manifest: dict[str, Any]) -> None:
    """What a reader would do who believes a manifest."""
    assert all(row["bytes"] > 0 and bytes.fromhex(row["sha256"]) for row in manifest["files"].values())
    for key in ("steps", "epoch"):
        assert manifest.get(key, 1) > 0


def walk_through(trace: Any) -> None:
    """Everything of a trace that is read before it is judged."""
    assert trace.run
    assert trace.environment is not None
    for _ in trace.each_step():
        pass
    trace.state(trace.steps)
    trace.arrays("end")


def trace_in(folder: Path, run: Path) -> Path:
    from lockstep.spec.toml import read_study
    from lockstep.study import places
    from lockstep.study.places import local

    folder.mkdir(parents=True)
    shutil.copy(run / "spec.toml", folder)
    (asked,) = read_study(run / "spec.toml").runs()
    (folder / "status.json").write_text('{"format": 1, "status": "running"}')
    local.HERE.do(places.Job([asked], [folder], 1, places.Task("lockstep.proof.tracer", (2,))))
    return folder


FORMATS: dict[str, Callable[[Path], Target]] = {
    "idx": idx, "gzip": gzipped, "npz": npz, "npy": npy, "pictures": pictures, "toml": toml,
    "safetensors": safetensors, "run_folders": run_folders, "manifests": manifests,
}  # fmt: skip


# --------------------------------------------------------------------------------------------------------- the battery


def watched(read: Read) -> tuple[str, str, float, int]:
    """(outcome, what was said, seconds of the processor, bytes) of one reading; the outcome is "read", a code, or
    "failed"."""
    from lockstep.errors import LockstepError
    from lockstep.machine import memory

    memory.forget_peak_memory()
    before, start = memory.peak_memory_bytes() or 0, time.process_time()
    try:
        read()
        outcome, said = "read", ""
    except LockstepError as error:
        outcome, said = error.code, str(error)
        if error.code == "LS-503":  # the ceiling was reached
            outcome = "failed"
    except BaseException:
        outcome, said = "failed", traceback.format_exc(limit=-4)
    seconds, grown = time.process_time() - start, (memory.peak_memory_bytes() or 0) - before
    if outcome != "failed" and seconds > SECONDS:
        outcome, said = "failed", f"{seconds:.2f} seconds of the processor; {said}"
    if outcome != "failed" and grown > BYTES:
        outcome, said = "failed", f"{grown:,} bytes of memory; {said}"
    return outcome, said, seconds, grown


N_RAW = 60  # cases that are also read as if no reader of ours were there, to see that they would do harm


def battery(name: str, cases: int, folder: Path, only: int | None = None) -> dict[str, Any]:
    """Every case of a format, one after the other in this process; see the head of this file.

    "raw_failures" counts those of the first N_RAW cases that bring down a reader which believes what it reads.
    """
    target = FORMATS[name](folder)
    set_ceiling()
    outcomes: collections.Counter[str] = collections.Counter()
    failures: list[dict[str, Any]] = []
    worst, raw_failures = {"seconds": 0.0, "bytes": 0}, 0
    target.damage(Draw(name))
    watched(lambda: target.read(0))  # imports what is imported late
    with open(folder / "number", "wb", buffering=0) as progress:
        for number in range(cases) if only is None else [only]:
            progress.seek(0)
            progress.write(f"{number:<12}".encode())
            target.damage(Draw(f"{name} {number}"))
            outcome, said, seconds, grown = watched(lambda number=number: target.read(number))
            outcomes[outcome] += 1
            worst = {"seconds": max(worst["seconds"], seconds), "bytes": max(worst["bytes"], grown)}
            if outcome == "failed":
                failures.append({"case": number, "said": said})
            raw_failures += number < N_RAW and watched(target.raw)[0] == "failed"
    return {
        "format": name, "cases": cases if only is None else 1, "outcomes": dict(outcomes), "worst": worst,
        "failures": failures, "raw_failures": raw_failures,
    }  # fmt: skip


def set_ceiling() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now + CEILING, resource.RLIM_INFINITY))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("format", choices=FORMATS)
    parser.add_argument("cases", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", type=int)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    print(json.dumps(battery(asked.format, asked.cases, asked.folder, asked.only)))


if __name__ == "__main__":
    main()
