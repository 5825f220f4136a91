"""Datasets as folders of pictures: one folder per class, `train/<class>/…` and `test/<class>/…` or just `<class>/…`.

What is done to the pictures, all of it stated in the dataset's notes:

- grey if every file is grey by its own header, else three channels; palettes become colours (`picture`);
- each is turned as its Exif says, as every viewer shows it, and the first of several that a camera saved (`picture`);
- transparent parts are laid on the ground that shows the ink (`grounds`);
- where sizes differ, all are resized to one (`sizes`), by Pillow's bilinear filter, which averages when it shrinks;
- without `test/`, a fifth of each class is drawn for it; then each half is shuffled, since "the first 1,000 images"
  would otherwise be one class. Both are functions of the sorted file names, so they are the same everywhere
  (`folders`).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from lockstep.data import folders, grounds, holdout, sizes
from lockstep.data.contents import Data, Facts, array_hash, n_of_one_value, times
from lockstep.data.folders import MAX_PROBLEMS, Files, Listing, holds_classes, is_image_folder, listed, natural
from lockstep.data.picture import Frame, Header, header, pixels
from lockstep.errors import LockstepError, Problem
from lockstep.language import later

__all__ = ["NOTES", "Wanted", "facts", "holds_classes", "is_image_folder", "read"]

MAX_BYTES = 4 * 2**30
_T = TypeVar("_T")
# The notes on a dataset.
TURNED = later("pictures that were turned as their Exif says, as viewers show them: {n:,}")
FIRST = later("files that hold further pictures behind the first (MPO), which was read: {n:,}")
NOTES = (TURNED, FIRST, *folders.NOTES, *sizes.NOTES, *grounds.NOTES)


class Wanted(NamedTuple):
    """What whoever imports a folder asks for: a size (height, width), and that proportions are kept."""

    size: sizes.Size | None = None
    keep_proportions: bool = False


AS_FOUND = Wanted()


def read(folder: Path, wanted: Wanted = AS_FOUND, fraction: float = holdout.SHARE) -> Data:
    """The dataset of a folder of pictures; `fraction` of each class is the test set where the folder does not say.

    Raises LockstepError with up to 20 problems: LS-307 (the folder), LS-308 (a picture).
    """
    listing = listed(folder, fraction)
    try:
        frame, notes = _frame(folder, listing, wanted)
    except LockstepError:
        collections.deque(_each(listing.train + listing.test, _inspect), maxlen=0)  # names what the headers hide, too
        raise
    images, opacities = _decoded(listing.train + listing.test, frame)
    notes += grounds.lay(images, opacities)
    _assert_something_is_seen(folder, images)
    n_train = len(listing.train)
    arrays = {
        "train_images": images[:n_train],
        "train_labels": np.array([label for _, label in listing.train], dtype=np.int64),
        "test_images": images[n_train:],
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


def facts(folder: Path, fraction: float = holdout.SHARE) -> Facts:
    """What the names and the headers of the pictures say; raises as `read`, except for damage behind a header."""
    listing = listed(folder, fraction)
    shape = _frame(folder, listing, AS_FOUND)[0].shape
    n_train, n_test = len(listing.train), len(listing.test)
    return Facts(folder.name, shape, listing.class_names, n_train, n_test, later("found in {folder}", folder=folder))


def _frame(folder: Path, listing: Listing, wanted: Wanted) -> tuple[Frame, list[str]]:
    """What every picture is brought to, and what has to be done to reach it."""
    headers = list(_each(listing.train + listing.test, header))
    found = [one.size for one in headers]
    (height, width), why = sizes.chosen(found, wanted.size)
    frame = Frame(height, width, max(one.channels for one in headers), wanted.keep_proportions)
    _assert_room(folder, len(headers), frame)
    return frame, [*_notes_of_headers(headers), *sizes.notes(found, frame, why)]


def _notes_of_headers(headers: list[Header]) -> Iterator[str]:
    if turned := sum(one.is_turned for one in headers):
        yield later(TURNED, n=turned)
    if several := sum(one.has_more for one in headers):
        yield later(FIRST, n=several)


def _decoded(files: Files, frame: Frame) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """All pictures on black, uint8 (n, height, width, channels), and how opaque those are that are not all over."""
    images, opacities = np.empty((len(files), *frame.shape), dtype=np.uint8), {}
    for number, found in enumerate(_each(files, lambda path: pixels(path, frame))):
        images[number] = found.on_black
        if found.opacity is not None:
            opacities[number] = found.opacity
    return images, opacities


def _each(files: Files, function: Callable[[Path], _T]) -> Iterator[_T]:
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
        raise LockstepError.several(sorted(problems, key=lambda problem: natural(problem.where)))


def _inspect(path: Path) -> None:
    header(path)
    pixels(path, Frame(1, 1, 3))


# ----------------------------------------------------------------------------------------------------------- problems


def _assert_room(folder: Path, n: int, frame: Frame) -> None:
    if (total := n * frame.height * frame.width * frame.channels) > MAX_BYTES:
        message = later(
            "{n_pictures:,} pictures of {shape} take {total:,} bytes; at most {most:,} are read",
            n_pictures=n,
            shape=times(frame.shape),
            total=total,
            most=MAX_BYTES,
        )
        hint = later("choose a smaller size: lockstep data import FOLDER NAME --size 64x64")
        raise LockstepError("LS-307", message, where=str(folder), hint=hint)


def _assert_something_is_seen(folder: Path, images: np.ndarray) -> None:
    if n_of_one_value(images) == len(images):
        message = later("nothing is seen in any of the {n:,} pictures: each has one single value", n=len(images))
        hint = later("look at one in a viewer, and save them anew on a ground of another colour than the drawing")
        raise LockstepError("LS-307", message, where=str(folder), hint=hint)
