"""The one size that all pictures of a dataset get, since a network takes one.

The size that most pictures have; where none has a majority (crops, drawings), the median height and the median width,
so that a rare size, however small, decides nothing; or the size that was asked for. What it costs is said: how many are
resized, and how many lose more than half of their pixels.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator, Sequence

from lockstep.data.contents import times
from lockstep.data.picture import Frame
from lockstep.errors import LockstepError
from lockstep.language import later

LARGEST_SIDE = 4096
Size = tuple[int, int]  # (height, width), as Lockstep has it; (width, height) where Pillow is near

TO_COMMON = later("pictures resized to the most common size, {size} (height × width): {resized:,} of {n:,}")
TO_MEDIAN = later(
    "pictures resized to {size} (height × width), the median height and width, since no size has a majority: "
    "{resized:,} of {n:,}"
)
TO_ASKED = later("pictures resized to {size} (height × width), which was asked for: {resized:,} of {n:,}")
STRETCHED = later("resizing is Pillow's bilinear filter, which averages when it shrinks; proportions are not kept")
FITTED = later(
    "resizing is Pillow's bilinear filter, which averages when it shrinks; proportions are kept, and what is left over "
    "beside a picture has the median of its edge"
)
LOST = later("pictures that lose more than half of their pixels: {lost:,} of {n:,}")
NOTES = (TO_COMMON, TO_MEDIAN, TO_ASKED, STRETCHED, FITTED, LOST)


def parsed(text: str) -> Size:
    """(height, width) of "28x20", or of "28" for both; raises LockstepError LS-205."""
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*(?:[xX×*]\s*([0-9]{1,6})\s*)?", text)
    if not found:
        raise _unusable(text)
    return checked((int(found[1]), int(found[2] or found[1])))


def checked(size: int | Sequence[int]) -> Size:
    """(height, width) of a size, or of one side for both; raises LockstepError LS-205."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        raise _unusable(size)
    return sides[0], sides[1]


def _unusable(size: object) -> LockstepError:
    hint = later("height and width, 1 … {most}: 28x20, or 28 for both", most=LARGEST_SIDE)
    return LockstepError("LS-205", later('"{size}" is no size of a picture', size=size), where="--size", hint=hint)


def chosen(sizes: Sequence[Size], asked: Size | None) -> tuple[Size, str]:
    """(height, width) for pictures of these sizes, (width, height) each, and which note says where it comes from."""
    if asked:
        return asked, TO_ASKED
    counts = collections.Counter(sizes)
    (width, height), n = counts.most_common(1)[0]
    if 2 * n > len(sizes):
        return (height, width), TO_COMMON
    widths, heights = zip(*sizes, strict=True)
    return (_median(heights), _median(widths)), TO_MEDIAN


def _median(sides: Sequence[int]) -> int:
    """The median; of two in the middle the larger one, which loses less."""
    return sorted(sides)[len(sides) // 2]


def notes(sizes: Sequence[Size], frame: Frame, why: str) -> Iterator[str]:
    """Notes on what the frame does to pictures of these sizes, (width, height) each; none where all fit."""
    resized = sum(size != (frame.width, frame.height) for size in sizes)
    if not resized:
        return
    yield later(why, resized=resized, n=len(sizes), size=times((frame.height, frame.width)))
    yield later(FITTED if frame.keep_proportions else STRETCHED)
    lost = sum(2 * _area(frame.inside(size)) < _area(size) for size in sizes)
    if 2 * lost > len(sizes):
        yield later(LOST, lost=lost, n=len(sizes))


def _area(size: Size) -> int:
    return size[0] * size[1]
