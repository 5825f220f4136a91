"""Datasets as CSV, a row an image: its label and its pixels, as Kaggle hands MNIST and its relatives out.

Such tables agree in little. There is a header or none, the label stands first or in a column that is called so, a
column of row numbers may have crept in, commas may be semicolons or tabs, the file may be gzipped. All of that is seen
in the first line. What a picture is, is not guessed: k² pixels are a grey k × k, 3·k² an RGB one, whose channels stand
either side by side or one behind the other; the arrangement in which neighbours differ less is the one, and is noted.

A table may hold any bytes. It is read piece by piece, and no longer than lines, values and unpacked bytes may be.
"""

from __future__ import annotations

import dataclasses
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from lockstep.data import holdout
from lockstep.data.contents import MAX_CLASSES, Data, Facts, array_hash, numbered_classes, problems_of_parts
from lockstep.data.halves import HALVES, part_in
from lockstep.errors import LockstepError, Problem, system
from lockstep.files import intake
from lockstep.language import later
from lockstep.language import reason as reason_of

SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
SEPARATORS = (",", ";", "\t")
LABELS = ("label", "labels", "class", "target", "category", "digit", "y")  # names of the label's column
NUMBERS = ("", "id", "index", "imageid", "image_id", "unnamed: 0")  # names of a column of row numbers
LEAST_PIXELS = 16  # a table of four measurements is no table of pictures
MAX_LINE = 2**22
MAX_BYTES = 2 * 2**30  # of all pixels of a table, and of the table itself once unpacked
_ROWS = 500  # that are parsed at once
# The notes on a dataset.
NO_LABELS = later("left out: {name}, which has no labels")
NO_PIXELS = later("left out: {name}, which has no pixels")
COLUMNS = later("left out: the columns {names}")
BEHIND = later("{n} pixels a row are read as {size} RGB, one channel behind the other")
BESIDE = later("{n} pixels a row are read as {size} RGB, the channels of a pixel side by side")

_AS_NPZ = later(
    "or make an .npz of it: np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…), images (n, height, width)"
)


class _Stream(Protocol):
    def read(self, n_bytes: int, /) -> bytes:
        """At most so many bytes, none at the end."""


class _Layout(NamedTuple):
    """What the first line says of all of them; `label` and `pixels` are columns from 0."""

    separator: str
    has_header: bool
    n_columns: int
    label: int | None
    pixels: tuple[int, ...]
    left_out: tuple[str, ...]


@dataclasses.dataclass
class _Rows:
    """The rows of a table: labels as they are written, pixels uint8 (n, pixels), or None where only labels are read."""

    path: Path
    labels: list[str]
    pixels: np.ndarray | None
    layout: _Layout


def is_table(path: Path) -> bool:
    """Whether a file has the name of a table."""
    return path.name.lower().endswith(SUFFIXES)


def in_folder(folder: Path) -> list[Path]:
    """The tables that lie in a folder."""
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except OSError:
        return []
    return [folder / name for name in names if is_table(folder / name) and os.path.isfile(folder / name)]


def read(path: Path) -> Data:
    """The dataset of a table, or of a folder that holds one to train on and perhaps one to test.

    Raises LockstepError: LS-311 (no such table, a line that does not fit), LS-301, LS-305 (gzip), LS-309 (labels).
    """
    tables, notes = _tables(path, with_pixels=True)
    class_names, labels = _classes(tables)
    images, arranged = _images([rows.pixels for rows in tables if rows.pixels is not None], path)
    chosen = _chosen(labels)
    if len(tables) == 1:
        notes.append(holdout.note(holdout.SHARE))
    arrays = {}
    for half, (place, rows) in zip(HALVES, chosen, strict=True):
        arrays[f"{half}_images"], arrays[f"{half}_labels"] = images[place][rows], labels[place][rows]
    shapes = {half: arrays[f"{half}_images"].shape for half in HALVES}
    _raise_where_unfit(path, shapes, {half: arrays[f"{half}_labels"] for half in HALVES}, class_names)
    left_out = dict.fromkeys(name for rows in tables for name in rows.layout.left_out)
    notes += [later(COLUMNS, names=", ".join(left_out))] if left_out else []
    return Data(
        name=_name(path),
        **arrays,
        class_names=class_names,
        hashes={name: array_hash(array) for name, array in arrays.items()},
        origin=str(path),
        notes=(*notes, *arranged),
    )


def facts(path: Path) -> Facts:
    """What the labels and the first line of a table say; raises as `read`, but for pixels that are none."""
    tables, _notes = _tables(path, with_pixels=False)
    class_names, labels = _classes(tables)
    chosen = dict(zip(HALVES, _chosen(labels), strict=True))
    own = {half: labels[place][rows] for half, (place, rows) in chosen.items()}
    sizes = [_shape(len(rows.layout.pixels), rows.path) for rows in tables]
    shapes = {half: (len(own[half]), *sizes[place]) for half, (place, _rows_of) in chosen.items()}
    _raise_where_unfit(path, shapes, own, class_names)
    n_train, n_test = (len(own[half]) for half in HALVES)
    return Facts(_name(path), sizes[0], class_names, n_train, n_test, later("found in {folder}", folder=path))


def _chosen(labels: Sequence[np.ndarray]) -> list[tuple[int, np.ndarray]]:
    """For train and test: the number of the table and which of its rows, bool (n,)."""
    if len(labels) == 2:
        return [(place, np.ones(len(own), dtype=bool)) for place, own in enumerate(labels)]
    is_test = _drawn(labels[0])
    return [(0, ~is_test), (0, is_test)]


def _name(path: Path) -> str:
    return path.name.partition(".")[0] if is_table(path) else path.name


def _raise_where_unfit(
    path: Path, shapes: Mapping[str, tuple[int, ...]], labels: Mapping[str, np.ndarray], class_names: tuple[str, ...]
) -> None:
    if problems := list(problems_of_parts(shapes, labels, class_names, "LS-311", str(path))):
        raise LockstepError.several(problems)


# ------------------------------------------------------------------------------------------------- which table is which


def _tables(path: Path, with_pixels: bool) -> tuple[list[_Rows], list[str]]:
    """The table to train on and, where there is one, that to test; and what was left out."""
    if is_table(path) and not path.is_dir():
        return [_rows(path, _layout_of(path), with_pixels)], []
    layouts: dict[Path, _Layout] = {}
    notes: list[str] = []
    found = in_folder(path)
    for table in found:
        try:
            layout = _layout_of(table)
        except _NoPixelsError:
            notes.append(later(NO_PIXELS, name=table.name))
            continue
        if layout.label is None and len(found) > 1:
            notes.append(later(NO_LABELS, name=table.name))
            continue
        layouts[table] = layout
    parts = {part: [table for table in layouts if part_in(table.name) == part] for part in (*HALVES, "validation")}
    test = parts["test"] or parts["validation"]
    train = parts["train"] or [table for table in layouts if table not in test]
    if len(train) != 1 or len(test) > 1:
        names = ", ".join(table.name for table in found)
        message = later("it is not clear which of these tables to train on: {names}", names=names)
        hint = later("leave one table there, or two with train and test in their names; or give the path of one")
        raise LockstepError("LS-311", message, where=str(path), hint=hint)
    return [_rows(table, layouts[table], with_pixels) for table in (*train, *test)], notes


class _NoPixelsError(LockstepError):
    """The error for a table of something else than pixels."""


def _layout_of(path: Path) -> _Layout:
    """What the first line says; raises LockstepError."""
    for _number, line in _lines(path):
        return _layout(line, path)
    raise LockstepError(
        "LS-311", later("the table is empty"), where=str(path), hint=later("give a table with a row per image")
    )


def _layout(line: str, path: Path) -> _Layout:
    separator = max(SEPARATORS, key=line.count)
    cells = [_bare(cell) for cell in line.split(separator)]
    columns = list(range(len(cells)))
    texts = [column for column in columns if not _is_whole(cells[column])]
    has_header = len(texts) > len(cells) / 2 or any(cells[column].lower() in LABELS for column in texts)
    named = [column for column in columns if has_header and cells[column].lower() in LABELS]
    numbers = [column for column in columns if has_header and cells[column].lower() in NUMBERS]
    rest = [column for column in columns if column not in numbers]
    own = named if has_header else [column for column in texts if column in (0, columns[-1])]  # a name among numbers
    first = None if _side(len(rest)) else rest[0] if rest else None  # unless all columns make a picture
    label = own[0] if len(own) == 1 else first
    pixels = tuple(column for column in rest if column != label)
    if len(pixels) < LEAST_PIXELS:
        message = later("a row has {n} numbers beside the label: that is no picture", n=len(pixels))
        raise _NoPixelsError(
            "LS-311", message, where=str(path), hint=later("a row is a label and the pixels of one image")
        )
    _shape(len(pixels), path)
    left_out = tuple(cells[column] or "–" for column in numbers)
    return _Layout(separator, has_header, len(cells), label, pixels, left_out)


def _bare(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _side(n: int) -> tuple[int, int] | None:
    """(height and width, channels) of a picture of so many values."""
    for channels in (1, 3):
        side = math.isqrt(n // channels)
        if n >= LEAST_PIXELS and side * side * channels == n:
            return side, channels
    return None


def _shape(n: int, path: Path) -> tuple[int, int, int]:
    if (found := _side(n)) is None:
        message = later("a row has {n:,} pixels, which make no square, neither grey nor RGB", n=n)
        hint = later("give k·k or 3·k·k pixels a row behind one label, {otherwise}", otherwise=_AS_NPZ)
        raise LockstepError("LS-311", message, where=str(path), hint=hint)
    side, channels = found
    return side, side, channels


# --------------------------------------------------------------------------------------------------------------- rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """(line number from 1, its text) of every line that is not blank; raises LockstepError (LS-301, LS-305, LS-311)."""
    again = later("get the file again")
    try:
        with intake.opened(path) as file:
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield from _split(intake.Unpacked(file) if is_gzip else file, intake.size_of(file), is_gzip, path)
    except EOFError:
        message = later("the gzip file is cut off: it ends before its own end mark")
        raise LockstepError("LS-305", message, where=str(path), hint=again) from None
    except zlib.error as error:
        message = later("the gzip file is damaged: {error}", error=error)
        raise LockstepError("LS-305", message, where=str(path), hint=again) from None
    except OSError as error:
        message = later("cannot be read: {why}", why=system(error))
        raise LockstepError(
            "LS-301", message, where=str(path), hint=later("check the path and its permissions")
        ) from None


def _split(stream: _Stream, n_packed: int, is_gzip: bool, path: Path) -> Iterator[tuple[int, str]]:
    rest, number, n_bytes = b"", 0, 0
    while True:
        chunk = stream.read(2**20)
        n_bytes += len(chunk)
        if is_gzip:
            try:
                intake.refuse_bomb(n_bytes, n_packed)
            except ValueError as error:
                raise LockstepError(
                    "LS-305", reason_of(error), where=str(path), hint=later("get the file again")
                ) from None
        if n_bytes > MAX_BYTES:
            message = later("it has more than {most:,} bytes", most=MAX_BYTES)
            raise LockstepError(
                "LS-311", message, where=str(path), hint=later("split it, {otherwise}", otherwise=_AS_NPZ)
            )
        *lines, rest = (rest + chunk).split(b"\n") if chunk else (rest, b"")
        for line in lines:
            number += 1
            if text := _text(line, number, path):
                yield number, text
        if not chunk:
            return
        if len(rest) > MAX_LINE:
            message = later("line {line} has more than {most:,} bytes", line=number + 1, most=MAX_LINE)
            raise LockstepError("LS-311", message, where=str(path), hint=later("end each row with a line break"))


def _text(line: bytes, number: int, path: Path) -> str:
    line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
    if b"\0" in line or (number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")):
        hint = later("save it as CSV in UTF-8")
        raise LockstepError("LS-311", later("this is no text in UTF-8"), where=str(path), hint=hint)
    return line.decode("utf-8", errors="replace").strip("\r")


def _rows(path: Path, layout: _Layout, with_pixels: bool) -> _Rows:
    """All rows of a table; raises LockstepError with the first line that does not fit."""
    if layout.label is None:
        message = later("a row has {n:,} pixels and no label", n=len(layout.pixels))
        hint = later('give the table with a column "label" (of Kaggle\'s two that is train.csv)')
        raise LockstepError("LS-311", message, where=str(path), hint=hint)
    labels: list[str] = []
    parts: list[np.ndarray] = []
    pending: list[tuple[int, str]] = []
    for number, line in _body(path, layout):
        label, pixels = _taken_apart(line, layout, number, path)
        labels.append(label)
        if with_pixels:
            pending.append((number, pixels))
        if len(pending) == _ROWS:
            parts.append(_parsed(pending, layout, path))
            pending = []
        if len(labels) * len(layout.pixels) > MAX_BYTES:
            message = later("its pixels take more than {most:,} bytes", most=MAX_BYTES)
            raise LockstepError(
                "LS-311", message, where=str(path), hint=later("split it, {otherwise}", otherwise=_AS_NPZ)
            )
    parts += [_parsed(pending, layout, path)] if pending else []
    if not labels:
        raise LockstepError(
            "LS-311", later("the table has no row"), where=str(path), hint=later("give a row per image")
        )
    return _Rows(path, labels, np.concatenate(parts) if parts else None, layout)


def _body(path: Path, layout: _Layout) -> Iterator[tuple[int, str]]:
    lines = _lines(path)
    if layout.has_header:
        next(lines)
    return lines


def _taken_apart(line: str, layout: _Layout, number: int, path: Path) -> tuple[str, str]:
    """(label, the pixels still in one text) of a line."""
    separator = layout.separator
    if line.count(separator) != layout.n_columns - 1:
        facts = {"line": number, "n": line.count(separator) + 1, "wanted": layout.n_columns}
        message = later("line {line} has {n:,} columns, the first one {wanted:,}", **facts)
        raise LockstepError(
            "LS-311", message, where=str(path), hint=later("give every image one row of the same length")
        )
    if layout.label == 0 and len(layout.pixels) == layout.n_columns - 1:  # the arrangement of most tables
        label, _comma, pixels = line.partition(separator)
        return _bare(label), pixels
    cells = line.split(separator)
    return _bare(cells[layout.label or 0]), separator.join(cells[column] for column in layout.pixels)


def _parsed(lines: Sequence[tuple[int, str]], layout: _Layout, path: Path) -> np.ndarray:
    """Pixels in text → uint8 (n, pixels)."""
    try:
        texts = [text for _number, text in lines]
        values = np.loadtxt(texts, delimiter=layout.separator, dtype=np.float64, comments=None, quotechar='"', ndmin=2)
    except ValueError:
        raise _first_fault(lines, layout, path) from None
    if values.shape != (len(lines), len(layout.pixels)):
        raise _first_fault(lines, layout, path)
    whole = np.isfinite(values) & (values >= 0) & (values <= 255)
    whole &= values == np.where(whole, values, 0).astype(np.uint8)
    if not whole.all():
        row, column = np.argwhere(~whole)[0]
        value = values[row, column]
        fractions = bool((values >= 0).all() and (values <= 1).all())
        hint = (
            later("multiply pixels in [0, 1] by 255 and round them")
            if fractions
            else later("give whole numbers 0 … 255")
        )
        facts = {"line": lines[row][0], "column": int(layout.pixels[column]) + 1, "value": f"{value:g}"}
        message = later("line {line}, column {column}: {value} is no pixel, a whole number 0 … 255", **facts)
        raise LockstepError("LS-311", message, where=str(path), hint=hint)
    return values.astype(np.uint8)


def _first_fault(lines: Sequence[tuple[int, str]], layout: _Layout, path: Path) -> LockstepError:
    for number, text in lines:
        for column, cell in zip(layout.pixels, text.split(layout.separator), strict=False):
            if not _is_number(_bare(cell)) or "_" in cell:
                facts = {"line": number, "column": column + 1, "cell": _bare(cell)[:20]}
                message = later('line {line}, column {column}: "{cell}" is no number', **facts)
                return LockstepError("LS-311", message, where=str(path), hint=later("give whole numbers 0 … 255"))
    message = later("lines {first} to {last} cannot be read as numbers", first=lines[0][0], last=lines[-1][0])
    return LockstepError("LS-311", message, where=str(path), hint=later("give whole numbers 0 … 255"))


# ------------------------------------------------------------------------------------------------ classes and pictures


def _classes(tables: Sequence[_Rows]) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names and each table's labels, int64 (n,): whole numbers from 0, or texts in alphabetical order."""
    written = [label for rows in tables for label in rows.labels]
    if all(map(_is_number, written)):
        try:
            numbers = [np.array([_whole(label) for label in rows.labels], np.int64) for rows in tables]
        except (ValueError, OverflowError):
            wrong = next(label for label in written if not _is_whole(label))
            message = later('"{label}" is no label: labels are whole numbers from 0, or names', label=wrong[:40])
            raise LockstepError(
                "LS-309", message, where=str(tables[0].path), hint=later("number the classes from 0")
            ) from None
        return numbered_classes(*numbers), numbers
    names = sorted(set(written))
    if len(names) > MAX_CLASSES:
        problem = Problem("LS-309", later("{n:,} classes", n=len(names)), str(tables[0].path),
                          later("at most {most:,} are read", most=MAX_CLASSES))  # fmt: skip
        raise LockstepError.several([problem])
    places = {name: place for place, name in enumerate(names)}
    return tuple(names), [np.array([places[label] for label in rows.labels], np.int64) for rows in tables]


def _whole(text: str) -> int:
    """ "7" or "7.0" → 7; raises ValueError, OverflowError."""
    value = float(text)
    if int(value) != value or abs(value) >= 2**53:
        raise ValueError(text)
    return int(value)


def _is_whole(text: str) -> bool:
    try:
        _whole(text)
    except (ValueError, OverflowError):
        return False
    return True


def _drawn(labels: np.ndarray) -> np.ndarray:
    """Which rows of a table without a test set are its test set: bool (n,)."""
    is_test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        where = np.flatnonzero(labels == label)
        to_test, _to_train = holdout.draw(len(where), max(int(label), 0))
        is_test[where[to_test]] = True
    return is_test


def _images(tables: Sequence[np.ndarray], path: Path) -> tuple[list[np.ndarray], list[str]]:
    """Rows of pixels → images (n, height, width, channels), all arranged alike; and how, where there was a choice."""
    shapes = [_shape(pixels.shape[1], path) for pixels in tables]
    side, _width, channels = shapes[0]
    if channels == 1:
        return [pixels.reshape(-1, *shape) for pixels, shape in zip(tables, shapes, strict=True)], []
    beside = tables[0].reshape(-1, side, side, channels)
    behind = tables[0].reshape(-1, channels, side, side).transpose(0, 2, 3, 1)
    is_beside = _roughness(beside) < _roughness(behind)
    found = [
        np.ascontiguousarray(
            pixels.reshape(-1, shape[0], shape[1], shape[2])
            if is_beside
            else pixels.reshape(-1, shape[2], shape[0], shape[1]).transpose(0, 2, 3, 1)
        )
        for pixels, shape in zip(tables, shapes, strict=True)
    ]
    return found, [later(BESIDE if is_beside else BEHIND, n=tables[0].shape[1], size=f"{side}×{side}")]


def _roughness(images: np.ndarray) -> float:
    """How much neighbours of one channel differ, on average, in the first images."""
    some = images[:1000].astype(np.int16)
    return float(np.abs(np.diff(some, axis=1)).mean() + np.abs(np.diff(some, axis=2)).mean())
