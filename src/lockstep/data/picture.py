"""One picture: what its header says, what keeps it from being read, and its pixels at the size that is wanted.

A picture is taken as a viewer shows it: turned as its Exif says, the first one where a camera has put more behind it
(MPO). It is decoded once, on black, together with how opaque it is: which ground lies below it is decided when all are
known (`grounds`). A JPEG that will be made much smaller is decoded at a half, a quarter or an eighth of its size, which
averages too and lets photographs of any camera be read in memory of a few pictures.

More than 8 bits a channel, CMYK and animations are refused: any conversion would be a guess.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lockstep.data.contents import times
from lockstep.errors import LockstepError, system
from lockstep.files import intake
from lockstep.language import later, recognised
from lockstep.language import reason as reason_of

if TYPE_CHECKING:  # Pillow is kept out of start-up
    from PIL import Image

SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm",
)  # fmt: skip
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MODES = {"1": 1, "L": 1, "LA": 1, "P": 3, "PA": 3, "RGB": 3, "RGBA": 3}  # Pillow's mode → channels
MAX_FILE_BYTES = 2**26
# Pixels that are read, so that decoding takes a quarter of a gibibyte at most.
MAX_PIXELS = 2**25  # 33.5 million
MAX_JPEG_PIXELS = 2**26  # of one that can be decoded at a part of its size without being held whole: any telephone's
MAX_TRANSPARENT_PIXELS = 2**24  # of what is decoded, coloured and laid on black, each time anew; so does WebP inside
MAX_SCANS = 64  # of one JPEG of SCANNED pixels: a progressive one has about ten, and each is a pass over all pixels
SCANNED = 2**24
CONVERT = later("convert it to an 8-bit grey or RGB PNG, or remove it")
SMALLER = later("make it smaller, or remove it")

# What people take for pictures, by its first bytes: (offset, bytes, name). A suffix may say something else.
_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
UNREAD_KINDS = (
    *((4, b"ftyp" + brand, "HEIC") for brand in _HEIF),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"%PDF", "PDF"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
    (0, b"version https://git-lfs", "Git LFS"),
)
UNREAD_SUFFIXES = (".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k")

# What Pillow says most often.
PILLOW = (
    later("cannot identify image file"), later("broken PNG file"), later("Truncated File Read"),
    later("image file is truncated ({n} bytes not processed)"), later("image file is truncated"),
    later("broken data stream when reading image file"),
    later("unrecognized data stream contents when reading image file"),
)  # fmt: skip

_ORIENTATION = 0x0112  # Exif's tag
_UPRIGHT = 1
_LYING = (5, 6, 7, 8)  # orientations that swap height and width


class Header(NamedTuple):
    """What a file says of its picture; `size` is (width, height) as a viewer shows it, as Pillow has it."""

    size: tuple[int, int]
    channels: int
    is_turned: bool
    has_more: bool


class Frame(NamedTuple):
    """The size that every picture gets, and whether its proportions are kept in it."""

    height: int
    width: int
    channels: int
    keep_proportions: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.height, self.width, self.channels

    def inside(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) that a picture of this size, (width, height), takes in the frame."""
        if not self.keep_proportions:
            return self.width, self.height
        scale = min(self.width / size[0], self.height / size[1])
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A picture on black, uint8 (height, width, channels); its opacity, uint8 (height, width), unless 255 all over."""

    on_black: np.ndarray
    opacity: np.ndarray | None


def header(path: Path) -> Header:
    """What the file's header says of its picture; raises LockstepError LS-308 where it cannot or may not be read."""
    _assert_size(path)
    with _opened(path, path) as image:
        reason, hint = _reason_to_refuse(image)
        if reason:
            raise LockstepError("LS-308", reason, where=str(path), hint=hint)
        orientation, by_pillow = orientation_of(image)
        width, height = image.size
        size = (height, width) if orientation in _LYING and not by_pillow else (width, height)
        has_more = image.format == "MPO" and getattr(image, "n_frames", 1) > 1
        return Header(size, MODES[image.mode], orientation != _UPRIGHT, has_more)


def pixels(path: Path, frame: Frame) -> Pixels:
    """The picture in its frame; raises LockstepError LS-308."""
    from PIL import Image

    content = io.BytesIO(_bytes(path))
    with _opened(path, content) as image:
        image.verify()  # a PNG's checksums, which decoding does not look at
    content.seek(0)
    with _opened(path, content) as image:
        _assert_scans(path, content.getvalue(), image.size)
        orientation, by_pillow = orientation_of(image)
        is_lying = orientation in _LYING and not by_pillow
        inside = frame.inside(image.size[::-1] if is_lying else image.size)
        stored = inside[::-1] if is_lying else inside
        image.draft(None, (2 * stored[0], 2 * stored[1]))  # of a JPEG; at least twice what is wanted
        picture: Image.Image = image
        if _is_transparent(image):
            picture = image if image.mode == "RGBA" else image.convert("RGBA")
            picture = picture.convert("RGBa")  # premultiplied: what lies on black
        elif image.mode not in ("L", "RGB"):
            picture = image.convert("L" if frame.channels == 1 else "RGB")
        if picture.size != stored:
            picture = picture.resize(stored, Image.Resampling.BILINEAR)
        if not by_pillow and orientation != _UPRIGHT:
            picture = picture.transpose(_TURNS[orientation])
        return _framed(picture, frame)


def _framed(picture: Image.Image, frame: Frame) -> Pixels:
    from PIL import Image

    opacity = None
    if picture.mode == "RGBa":
        values = np.asarray(picture, dtype=np.uint8)
        opacity = values[..., 3]
        picture = Image.fromarray(np.ascontiguousarray(values[..., :3]))
    height, width, channels = frame.shape
    values = np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    values = values.reshape(*values.shape[:2], channels)
    top, left = (height - values.shape[0]) // 2, (width - values.shape[1]) // 2
    if values.shape != frame.shape:
        room = np.empty(frame.shape, np.uint8)
        room[:] = 0 if opacity is not None else _edge(values)
        room[top : top + values.shape[0], left : left + values.shape[1]] = values
        if opacity is not None:
            sheet = np.zeros((height, width), np.uint8)
            sheet[top : top + values.shape[0], left : left + values.shape[1]] = opacity
            opacity = sheet
        values = room
    return Pixels(values, opacity if opacity is not None and opacity.min(initial=255) < 255 else None)


def _edge(values: np.ndarray) -> np.ndarray:
    """The median of a picture's outermost pixels, for each channel."""
    rows = [values[0], values[-1], values[:, 0], values[:, -1]]
    return np.median(np.concatenate(rows), axis=0).astype(np.uint8)


# ------------------------------------------------------------------------------------------------------------ opening


@contextlib.contextmanager
def _opened(path: Path, source: Path | io.BytesIO) -> Iterator[Image.Image]:
    """The picture, its header read; whatever is wrong with it, then or in the body, becomes LS-308."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=FORMATS) as image:
                yield image
    except (LockstepError, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
        if kind := unread_kind(path):
            message = later("it holds {kind}, which is not read", kind=kind)
            raise LockstepError("LS-308", message, where=str(path), hint=CONVERT) from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = re.sub(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>| ?'[^']*'$", "", reason)[:200]
        message = later("cannot be read: {why}", why=recognised(reason, PILLOW))
        raise LockstepError("LS-308", message, where=str(path), hint=CONVERT) from None


def unread_kind(path: Path) -> str:
    """What a file holds that people take for a picture and that is not read, by its first bytes; else nothing."""
    try:
        with intake.opened(path) as file:
            head = file.read(64)
    except (OSError, ValueError):
        return ""
    return next((kind for at, start, kind in UNREAD_KINDS if head[at:].startswith(start)), "")


def _reason_to_refuse(image: Image.Image) -> tuple[str, str]:
    """(what is wrong with a picture, what to do), both empty where nothing is wrong."""
    if image.mode not in MODES or any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        return later("{mode} with more than 8 bits or other colours than grey and RGB", mode=image.mode), CONVERT
    if math.prod(image.size) > (most := _most_pixels(image)):
        return later("{size} pixels; at most {most:,} are read", size=times(image.size), most=most), SMALLER
    if image.format == "MPO":  # a camera's: the first picture is the photograph, others are previews and depth
        return "", ""
    try:
        image.seek(1)  # the number of all frames would take a walk through the file
    except EOFError:
        return "", ""
    return later("an animation or a stack of pictures"), later(
        "save the one picture that is meant as a PNG, or remove it"
    )


def _most_pixels(image: Image.Image) -> int:
    if image.format in ("JPEG", "MPO") and not image.info.get("progressive"):
        return MAX_JPEG_PIXELS
    return MAX_TRANSPARENT_PIXELS if _is_transparent(image) or image.format == "WEBP" else MAX_PIXELS


def _is_transparent(image: Image.Image) -> bool:
    """Whether the file has room for transparency, used or not."""
    return "A" in image.mode or "transparency" in image.info


def _bytes(path: Path) -> bytes:
    try:
        return intake.content(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise LockstepError("LS-308", reason_of(error), where=str(path), hint=SMALLER) from None
    except OSError as error:
        message = later("cannot be read: {why}", why=system(error))
        raise LockstepError("LS-308", message, where=str(path), hint=later("check its permissions")) from None


def _assert_size(path: Path) -> None:
    """Refuse a file too large for formats that Pillow reads whole before it tells anything of them."""
    if (n := os.stat(path).st_size) > MAX_FILE_BYTES:
        message = later("it has {n:,} bytes; at most {limit:,} are read", n=n, limit=MAX_FILE_BYTES)
        raise LockstepError("LS-308", message, where=str(path), hint=SMALLER)


def _assert_scans(path: Path, content: bytes, size: tuple[int, int]) -> None:
    n = content.count(b"\xff\xda") if content.startswith(b"\xff\xd8") else 0
    if n * max(math.prod(size), SCANNED) > MAX_SCANS * SCANNED:
        raise LockstepError("LS-308", later("a JPEG of {n:,} scans", n=n), where=str(path), hint=CONVERT)


# ------------------------------------------------------------------------------------------------------------ turning

# Exif's orientation → how the stored pixels are turned: numbers of PIL.Image.Transpose, which is imported late.
_TURNS: dict[int, Any] = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}


def orientation_of(image: Image.Image) -> tuple[int, bool]:
    """Exif's orientation, 1 … 8, and whether Pillow turns the picture itself, as it does with a TIFF.

    `getexif` is not asked: it decodes a whole PNG to find out, and believes XMP, which no viewer does.
    """
    from PIL import Image

    if image.format == "TIFF":
        found: Any = getattr(image, "tag_v2", {}).get(_ORIENTATION)
        return (found, True) if found in range(1, 9) else (_UPRIGHT, True)
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        found = exif.get(_ORIENTATION)
    except Exception:  # damaged Exif raises a dozen kinds, and a viewer shows the picture without it
        found = None
    return (found, False) if found in _TURNS else (_UPRIGHT, False)
