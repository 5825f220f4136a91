"""Datasets as folders of pictures: one folder per class, `train/<class>/…` and `test/<class>/…` or just `<class>/…`.

`halves` knows what else train and test are called. Where there is `val/` and no `test/`, it is the test set; where
there are all three, its pictures are training images, of which a recipe's `validation` holds a share out.

What is done to the pictures, all of it stated in the dataset's notes:

- grey if every file is grey by its own header, else three channels; palettes become colours; EXIF rotation is ignored;
- transparent parts are laid on black, the value that augmentation brings in at borders;
- where sizes differ, all are resized to the most common one (Pillow's bilinear filter, which averages when it shrinks);
- without `test/`, a fifth of each class is drawn for it; then each half is shuffled, since "the first 1,000 images"
  would otherwise be one class. Both are functions of the sorted file names, so they are the same everywhere.

More than 8 bits a channel, CMYK and animations are refused: any conversion would be a guess.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import math
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lockstep import reading
from lockstep.data.contents import MAX_CLASSES, Data, Facts, array_hash, times
from lockstep.data.halves import HALVES, part_of
from lockstep.errors import LockstepError, Problem, system
from lockstep.language import later as _
from lockstep.language import mark, recognised
from lockstep.language import reason as reason_of
from lockstep.randomness import permutation

if TYPE_CHECKING:  # Pillow is kept out of start-up
    from PIL import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MODES = {"1": 1, "L": 1, "LA": 1, "P": 3, "PA": 3, "RGB": 3, "RGBA": 3}  # Pillow's mode → channels
TEST_FRACTION = 0.2
MAX_FILE_BYTES = 2**26
MAX_PIXELS = 2**24  # of one picture: 4096×4096; decoding takes up to sixteen bytes for each
MAX_SCANS = 64  # of one JPEG: a progressive one has about ten, and each costs a pass over all its pixels
MAX_BYTES = 4 * 2**30
MAX_PROBLEMS = 20
_SPLIT, _TRAIN_ORDER, _TEST_ORDER = 0, 1, 2  # positions in the stream "split"
_T = TypeVar("_T")
# What is noted of a dataset; it is kept in English with an imported one.
IGNORED = mark("ignored: {names} (not pictures, or links out of the folder)")
IGNORED_MORE = mark("ignored: {names} and {more} more (not pictures, or links out of the folder)")
SHUFFLED = mark("the images are in a random order that is the same everywhere")
AS_GIVEN = mark("train and test as in the folder")
VALIDATED = mark("the test images are those of {name}: there is no folder of test images")
JOINED = mark("the pictures of {name} are training images too: a recipe's validation holds a share of those out")
DRAWN = mark("the test images are {share} of each class, drawn by Lockstep's own generator with seed 0")
RESIZED = mark(
    "{resized:,} of {n:,} images were resized to the most common size, {size} (height × width), by Pillow's bilinear "
    "filter, which averages when it shrinks; proportions are not kept"
)
LAID_ON_BLACK = mark("{n:,} images have transparent parts, which were laid on black")
NOTES = (IGNORED_MORE, IGNORED, SHUFFLED, AS_GIVEN, VALIDATED, JOINED, DRAWN, RESIZED, LAID_ON_BLACK)
# What Pillow says most often.
PILLOW = (
    mark("cannot identify image file"), mark("broken PNG file"), mark("Truncated File Read"),
    mark("image file is truncated ({n} bytes not processed)"), mark("image file is truncated"),
    mark("broken data stream when reading image file"),
    mark("unrecognized data stream contents when reading image file"),
)  # fmt: skip
_CONVERT = _("convert it to an 8-bit grey or RGB PNG, or remove it")


@dataclasses.dataclass
class _Listing:
    """The files of a folder, in the dataset's order, each with its class's number."""

    class_names: tuple[str, ...]
    train: list[tuple[Path, int]]
    test: list[tuple[Path, int]]
    notes: list[str]


@dataclasses.dataclass(frozen=True)
class _Picture:
    """What a file's header says; `size` is (width, height), as Pillow has it."""

    size: tuple[int, int]
    channels: int
    is_transparent: bool


def read(folder: Path, fraction: float = TEST_FRACTION) -> Data:
    """The dataset of a folder of pictures; `fraction` of each class is the test set where the folder does not say.

    Raises LockstepError with up to 20 problems: LS-307 (the folder), LS-308 (a picture).
    """
    listing = _listed(folder, fraction)
    try:
        shape, notes = _common_shape(folder, listing)
    except LockstepError:
        collections.deque(_each(listing.train + listing.test, _inspect), maxlen=0)  # names what the headers hide, too
        raise
    train_images, test_images = _decoded(listing, shape)
    arrays = {
        "train_images": train_images,
        "train_labels": np.array([label for _, label in listing.train], dtype=np.int64),
        "test_images": test_images,
        "test_labels": np.array([label for _, label in listing.test], dtype=np.int64),
    }
    return Data(
        name=folder.name,
        **arrays,
        class_names=listing.class_names,
        hashes={name: array_hash(array) for name, array in arrays.items()},
        origin=str(folder),
        notes=(*listing.notes, *notes),
    )


def facts(folder: Path, fraction: float = TEST_FRACTION) -> Facts:
    """What the names and the headers of the pictures say; raises as `read`, except for damage behind a header."""
    listing = _listed(folder, fraction)
    shape = _common_shape(folder, listing)[0]
    n_train, n_test = len(listing.train), len(listing.test)
    return Facts(folder.name, shape, listing.class_names, n_train, n_test, _("found in {folder}", folder=folder))


def is_image_folder(folder: Path) -> bool:
    """Whether the folder has subfolders, which are the classes."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() and not entry.name.startswith(".") for entry in entries)
    except OSError:
        return False


def holds_classes(folder: Path) -> bool:
    """Whether the folder's subfolders hold pictures themselves, or are the parts of such a folder."""
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
        return any(_holds_pictures(path) or (part_of(path.name) and is_image_folder(path)) for path in inner)
    except OSError:
        return False


def _holds_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.lower().endswith(SUFFIXES) for entry in entries)


# ------------------------------------------------------------------------------------------------- classes and files


def _listed(folder: Path, fraction: float) -> _Listing:
    ignored: list[str] = []
    problems: list[Problem] = []
    try:
        top = {entry.name: entry for entry in _entries(folder, folder, ignored) if entry.is_dir()}
        if halves := _halves(folder, top):
            listing = _split_as_given(folder, halves, top, ignored, problems)
        else:
            listing = _split_by_fraction(folder, list(top.values()), fraction, ignored, problems)
    except OSError as error:
        message = _("cannot be read: {why}", why=system(error))
        raise LockstepError(
            "LS-307", message, where=str(error.filename or folder), hint=_("check permissions")
        ) from None
    if len(problems) > 1 and not (listing.train or listing.test):
        hint = _("make one subfolder per class with pictures in it; {names} are read", names=", ".join(SUFFIXES))
        raise LockstepError("LS-307", _("there is no class with enough pictures in it"), where=str(folder), hint=hint)
    problems = [*_problems_of_classes(folder, listing.class_names), *problems]
    if problems:
        raise LockstepError.several(problems[:MAX_PROBLEMS])
    if ignored:
        more, names = len(ignored) - 3, ", ".join(ignored[:3])
        listing.notes.append(_(IGNORED_MORE, names=names, more=more) if more > 0 else _(IGNORED, names=names))
    listing.notes.append(_(SHUFFLED))
    listing.train = _shuffled(listing.train, _TRAIN_ORDER)
    listing.test = _shuffled(listing.test, _TEST_ORDER)
    return listing


def _halves(folder: Path, top: dict[str, Path]) -> dict[str, Path]:
    """The folders of the parts, "train", "test" and perhaps "validation"; nothing where the folders are classes.

    Raises LockstepError (LS-307) where a part is there twice, or without its other half.
    """
    parts: dict[str, Path] = {}
    for name, path in top.items():
        if (part := part_of(name)) is None:
            continue
        if part in parts:
            message = _('"{one}" and "{other}" are names of the same part', one=parts[part].name, other=name)
            raise LockstepError("LS-307", message, where=str(folder), hint=_("move all of it into one folder"))
        parts[part] = path
    if "train" in parts and ("test" in parts or "validation" in parts):
        return parts
    for half, other in (("train", "test"), ("test", "train")):
        if half in parts and is_image_folder(parts[half]):
            hint = _('add "{other}", or move the classes up so that Lockstep draws the test images', other=other)
            message = _('there is a folder "{half}" but no "{other}"', half=parts[half].name, other=other)
            raise LockstepError("LS-307", message, where=str(folder), hint=hint)
    return {}


def _problems_of_classes(folder: Path, class_names: tuple[str, ...]) -> Iterator[Problem]:
    if len(class_names) < 2:
        message = _("no class: nothing to tell apart")
        if class_names:
            message = _('one class, "{name}": nothing to tell apart', name=class_names[0])
        yield Problem("LS-307", message, str(folder), _("make one subfolder per class, at least two"))
    elif len(class_names) > MAX_CLASSES:
        yield Problem(
            "LS-307",
            _("{n:,} classes", n=len(class_names)),
            str(folder),
            _("at most {most:,} are read", most=MAX_CLASSES),
        )


def _split_as_given(
    folder: Path, parts: dict[str, Path], top: dict[str, Path], ignored: list[str], problems: list[Problem]
) -> _Listing:
    notes: list[str] = [_(AS_GIVEN)]
    if "validation" in parts:
        name = parts["validation"].name
        notes.append(_(JOINED, name=name) if "test" in parts else _(VALIDATED, name=name))
    sources = {half: [parts[half]] if half in parts else [] for half in HALVES}
    sources["train" if "test" in parts else "test"] += [parts["validation"]] if "validation" in parts else []
    classes = {
        half: [path for place in sources[half] for path in _entries(place, folder, ignored) if path.is_dir()]
        for half in HALVES
    }
    class_names = tuple(sorted({path.name for half in HALVES for path in classes[half]}, key=_natural))
    files: dict[str, list[tuple[Path, int]]] = {half: [] for half in HALVES}
    for label, name in enumerate(class_names):
        for half in HALVES:
            places = [path for path in classes[half] if path.name == name]
            found = [picture for path in places for picture in _pictures(path, folder, ignored)]
            files[half] += [(path, label) for path in found]
            if not found:
                hint = _("every class needs pictures in both train and test")
                message = _('the class "{name}" has no picture in {half}', name=name, half=sources[half][0].name)
                problems.append(Problem("LS-307", message, str(sources[half][0]), hint))
    ignored += [name for name, path in top.items() if path not in parts.values()]
    return _Listing(class_names, files["train"], files["test"], notes)


def _split_by_fraction(
    folder: Path, classes: list[Path], fraction: float, ignored: list[str], problems: list[Problem]
) -> _Listing:
    listing = _Listing(tuple(path.name for path in classes), [], [], [])
    for label, path in enumerate(classes):
        found = _pictures(path, folder, ignored)
        if len(found) < 2:
            hint = _(
                "each class needs at least two: one to train and one to test; {names} are read",
                names=", ".join(SUFFIXES),
            )
            message = _('the class "{name}" has no picture', name=path.name)
            message = _('the class "{name}" has one picture', name=path.name) if found else message
            problems.append(Problem("LS-307", message, str(path), hint))
            continue
        n_test = min(max(round(len(found) * fraction), 1), len(found) - 1)
        order = permutation(len(found), 0, "split", _SPLIT, label)
        listing.test += [(found[index], label) for index in sorted(order[:n_test])]
        listing.train += [(found[index], label) for index in sorted(order[n_test:])]
    listing.notes.append(_(DRAWN, share=f"{fraction:.0%}"))
    return listing


def _entries(folder: Path, root: Path, ignored: list[str]) -> list[Path]:
    """What lies in a folder, naturally sorted, without hidden entries and links that lead out of the root."""
    inside = Path(os.path.realpath(root))
    found = []
    for name in sorted(os.listdir(folder), key=_natural):
        path = folder / name
        if name.startswith("."):
            continue
        if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
            ignored.append(name)
        else:
            found.append(path)
    return found


def _pictures(folder: Path, root: Path, ignored: list[str]) -> list[Path]:
    """The pictures of one class; everything else is noted."""
    found = []
    for path in _entries(folder, root, ignored):
        if path.name.lower().endswith(SUFFIXES) and os.path.isfile(path):
            found.append(path)
        else:
            ignored.append(path.name)
    return found


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Sorts "2" before "10"; the same on every system."""
    words = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name))
    return [(int(word), "") if word.isascii() and word.isdigit() else (-1, word) for word in words], name


def _shuffled(files: list[tuple[Path, int]], position: int) -> list[tuple[Path, int]]:
    return [files[index] for index in permutation(len(files), 0, "split", position)]


# ---------------------------------------------------------------------------------------------------------- pictures


def _common_shape(folder: Path, listing: _Listing) -> tuple[tuple[int, int, int], list[str]]:
    """(height, width, channels) of the dataset, and what has to be done to reach it."""
    pictures = list(_each(listing.train + listing.test, _header))
    sizes = collections.Counter(picture.size for picture in pictures)
    width, height = max(sizes, key=lambda size: (sizes[size], -size[0] * size[1], size))
    channels = max(picture.channels for picture in pictures)
    shape = (height, width, channels)
    if (total := len(pictures) * height * width * channels) > MAX_BYTES:
        message = _(
            "{n_pictures:,} pictures of {shape} take {total:,} bytes; at most {most:,} are read",
            n_pictures=len(pictures),
            shape=times(shape),
            total=total,
            most=MAX_BYTES,
        )
        raise LockstepError("LS-307", message, where=str(folder), hint=_("make the pictures smaller"))
    notes: list[str] = []
    if len(sizes) > 1:
        resized = len(pictures) - sizes[width, height]
        notes.append(_(RESIZED, resized=resized, n=len(pictures), size=f"{height}×{width}"))
    if n_transparent := sum(picture.is_transparent for picture in pictures):
        notes.append(_(LAID_ON_BLACK, n=n_transparent))
    return shape, notes


def _each(files: list[tuple[Path, int]], function: Callable[[Path], _T]) -> Iterator[_T]:
    """The function's value for every file; all unreadable ones, up to 20, are gathered in one error."""
    problems: list[Problem] = []
    for path, _label in files:
        try:
            value = function(path)
        except LockstepError as error:
            problems += error.problems
            if len(problems) >= MAX_PROBLEMS:
                break
            continue
        if not problems:
            yield value
    if problems:
        raise LockstepError.several(sorted(problems, key=lambda problem: _natural(problem.where)))


def _inspect(path: Path) -> None:
    _header(path)
    _pixels(path, (1, 1, 3))


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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        reason = re.sub(r" ?<_io\.BytesIO object at 0x[0-9a-f]+>| ?'[^']*'$", "", reason)[:200]
        message = _("cannot be read: {why}", why=recognised(reason, PILLOW))
        raise LockstepError("LS-308", message, where=str(path), hint=_CONVERT) from None


def _header(path: Path) -> _Picture:
    _assert_size(path)
    with _opened(path, path) as image:
        reason = _reason_to_refuse(image)
        if reason:
            raise LockstepError("LS-308", reason, where=str(path), hint=_CONVERT)
        transparent = "A" in image.mode or "transparency" in image.info
        return _Picture(image.size, MODES[image.mode], transparent)


def _reason_to_refuse(image: Image.Image) -> str:
    if image.mode not in MODES or any(";16" in str(tile) for tile in getattr(image, "tile", ())):
        return _("{mode} with more than 8 bits or other colours than grey and RGB", mode=image.mode)
    if math.prod(image.size) > MAX_PIXELS:
        return _("{size} pixels; at most {most:,} are read", size=times(image.size), most=MAX_PIXELS)
    try:
        image.seek(1)  # the number of all frames would take a walk through the file
    except EOFError:
        return ""
    return _("an animation or a stack of pictures")


def _decoded(listing: _Listing, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    n_train, n_test = len(listing.train), len(listing.test)
    images = np.empty((n_train + n_test, *shape), dtype=np.uint8)
    for index, pixels in enumerate(_each(listing.train + listing.test, lambda path: _pixels(path, shape))):
        images[index] = pixels
    return images[:n_train], images[n_train:]


def _pixels(path: Path, shape: tuple[int, int, int]) -> np.ndarray:
    """One picture as uint8 (height, width, channels)."""
    from PIL import Image

    content = io.BytesIO(_bytes(path))
    with _opened(path, content) as image:
        image.verify()  # a PNG's checksums, which decoding does not look at
    content.seek(0)
    height, width, channels = shape
    with _opened(path, content) as image:
        picture: Image.Image = image
        if "A" in image.mode or "transparency" in image.info:
            coloured = image.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), coloured).convert("RGB")
        picture = picture.convert("L" if channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(picture, dtype=np.uint8).reshape(shape)


def _bytes(path: Path) -> bytes:
    try:
        content = reading.content(path, MAX_FILE_BYTES)
    except ValueError as error:
        raise LockstepError("LS-308", reason_of(error), where=str(path), hint=_CONVERT) from None
    except OSError as error:
        message = _("cannot be read: {why}", why=system(error))
        raise LockstepError("LS-308", message, where=str(path), hint=_("check its permissions")) from None
    if content.startswith(b"\xff\xd8") and (n := content.count(b"\xff\xda")) > MAX_SCANS:
        raise LockstepError("LS-308", _("a JPEG of {n:,} scans", n=n), where=str(path), hint=_CONVERT)
    return content


def _assert_size(path: Path) -> None:
    """Pillow reads some formats whole before it tells anything of them."""
    if (n := os.stat(path).st_size) > MAX_FILE_BYTES:
        message = _("it has {n:,} bytes; at most {limit:,} are read", n=n, limit=MAX_FILE_BYTES)
        raise LockstepError("LS-308", message, where=str(path), hint=_CONVERT)
