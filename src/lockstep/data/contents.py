"""What a dataset IS once it is read, `Data`; what is known without reading it, `Facts`; what must hold for both.

Every reader (IDX, npz, image folders, the digits) ends here, so that one place decides what a usable dataset is:
as many labels as images, both halves of one shape, at least two classes, no label outside them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping

import numpy as np

from lockstep.errors import Problem
from lockstep.language import later

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")
MAX_CHANNELS = 4
BLANK = later("images in which nothing is seen, since each has one single value: {n:,} of {all:,}")
EQUAL_CHANNELS = later(
    "the {channels} channels of every image are equal, as of grey pictures that were stored in colour: one channel "
    "would say as much"
)
SHOWN = 10  # names of classes in a note
# The notes on one class and on several.
NO_IMAGE = (later("class {names} has no image"), later("classes {names} have no image"))
NO_TRAINING_IMAGE = (later("class {names} has no training image"), later("classes {names} have no training image"))
NO_TEST_IMAGE = (later("class {names} has no test image"), later("classes {names} have no test image"))
NOTES = (BLANK, EQUAL_CHANNELS, *NO_IMAGE, *NO_TRAINING_IMAGE, *NO_TEST_IMAGE)
MAX_CLASSES = 10_000  # beyond it labels are not classes but a mistake, such as one identifier per image


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A dataset in memory.

    `train_images`, `test_images`: uint8 (n, height, width, channels); `train_labels`, `test_labels`: int64 (n,), each
    an index into `class_names`. `hashes`: SHA-256 of every file's decompressed content where the dataset came as known
    files, else of the four arrays (see `array_hash`). `origin`: where it was read; `notes`: what was done to it on
    the way (resized, split, channels added).
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    hashes: Mapping[str, str]
    origin: str
    notes: tuple[str, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.train_images.shape
        return height, width, channels

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    def n_test_in_training(self) -> int:
        """How many test images are training images too, pixel by pixel, whatever their labels say."""
        places: dict[int, list[int]] = {}
        for place, image in enumerate(self.train_images):
            places.setdefault(hash(image.tobytes()), []).append(place)
        return sum(
            any(np.array_equal(image, self.train_images[place]) for place in places.get(hash(image.tobytes()), ()))
            for image in self.test_images
        )

    def noted(self) -> Data:
        """The same dataset, with notes on classes without images and on images in which nothing is to be seen."""
        images = (self.train_images, self.test_images)
        found = [*self.absent()]
        if n := sum(map(n_of_one_value, images)):
            found.append(later(BLANK, n=n, all=sum(map(len, images))))
        if all(map(_has_equal_channels, images)):
            found.append(later(EQUAL_CHANNELS, channels=self.image_shape[2]))
        new = [note for note in found if note not in self.notes]  # an imported dataset has them already
        return dataclasses.replace(self, notes=(*self.notes, *new)) if new else self

    def absent(self) -> Iterator[str]:
        """Which classes have no image, none to train on, or none to test with: a note each."""
        train, test = (
            np.bincount(labels, minlength=self.n_classes) > 0 for labels in (self.train_labels, self.test_labels)
        )
        for missing, (one, many) in (
            (~train & ~test, NO_IMAGE),
            (~train & test, NO_TRAINING_IMAGE),
            (train & ~test, NO_TEST_IMAGE),
        ):
            names = [name for name, is_missing in zip(self.class_names, missing, strict=True) if is_missing]
            more = [f"… ({len(names)})"] if len(names) > SHOWN else []
            if names:
                yield later(one if len(names) == 1 else many, names=", ".join(names[:SHOWN] + more))

    def arrays(self) -> dict[str, np.ndarray]:
        """The four arrays by name, in the order of `ARRAYS`."""
        return {name: getattr(self, name) for name in ARRAYS}


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a dataset without decoding its images.

    `image_shape`: (height, width, channels); `state`: "embedded", "found in …", "cached in …", "imported in …" or
    "not on this machine".
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    n_train: int
    n_test: int
    state: str

    @property
    def n_classes(self) -> int:
        return len(self.class_names)


def array_hash(array: np.ndarray) -> str:
    """SHA-256 of one line of text, the dtype and shape (`|u1 60000,28,28,1`), and the bytes in row-major order."""
    digest = hashlib.sha256(f"{array.dtype.str} {','.join(map(str, array.shape))}\n".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def n_of_one_value(images: np.ndarray) -> int:
    """How many images (n, height, width, channels) have the same value everywhere."""
    flat = images.reshape(len(images), -1)
    doubtful = flat[flat[:, 0] == flat[:, flat.shape[1] // 2]]  # few, as a rule, and quickly found
    return int((doubtful == doubtful[:, :1]).all(axis=1).sum())


def _has_equal_channels(images: np.ndarray) -> bool:
    """Whether images of at least three channels have the same values in all of them."""
    if images.shape[3] < 3 or not (images[:1, ..., :1] == images[:1]).all():
        return False
    return all(np.array_equal(images[..., 0], images[..., channel]) for channel in range(1, images.shape[3]))


def numbered_classes(*labels: np.ndarray) -> tuple[str, ...]:
    """Names for classes without names: "0", "1", … up to the largest label."""
    largest = max((int(array.max()) for array in labels if array.size), default=-1)
    return tuple(str(number) for number in range(min(largest + 1, MAX_CLASSES)))


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(n, h, w) or (n, h, w, c) → (h, w, c)."""
    return shape[1], shape[2], shape[3] if len(shape) == 4 else 1


def problems_of_parts(
    shapes: Mapping[str, tuple[int, ...]],
    labels: Mapping[str, np.ndarray],
    class_names: tuple[str, ...],
    code: str,
    where: str,
) -> Iterator[Problem]:
    """Everything that keeps these parts from being a dataset.

    `shapes` are the images' by "train" and "test", as stored; `labels` likewise; `code` is the reader's own error code.
    """
    for part in ("train", "test"):
        shape, part_labels = shapes[part], labels[part]
        yield from _problems_of_shape(shape, part, code, where)
        if part_labels.ndim == 1 and shape and shape[0] != len(part_labels):
            yield Problem(
                code,
                later(
                    "{n_images:,} {part} images, but {n_labels:,} {part} labels",
                    n_images=shape[0],
                    part=part,
                    n_labels=len(part_labels),
                ),
                where,
                later("take images and labels from the same release of the dataset"),
            )
        yield from _problems_of_labels(part_labels, len(class_names), part, where)
    if shapes["train"][1:] != shapes["test"][1:]:
        yield Problem(
            code,
            later(
                "the train images are {train}, the test images {test}",
                train=times(shapes["train"][1:]),
                test=times(shapes["test"][1:]),
            ),
            where,
            later("bring both to one size"),
        )
    if len(class_names) < 2:
        yield Problem(
            "LS-309",
            later("{n} class: nothing to tell apart", n=len(class_names)),
            where,
            later("give at least two classes"),
        )


def _problems_of_shape(shape: tuple[int, ...], part: str, code: str, where: str) -> Iterator[Problem]:
    if len(shape) not in (3, 4):
        hint = later(
            "store images as (n, height, width) or (n, height, width, channels), for example x.reshape(-1, 28, 28)"
        )
        yield Problem(code, later("the {part} images have the shape {shape}", part=part, shape=shape), where, hint)
    elif 0 in shape:
        yield Problem(
            code,
            later("there are no {part} images: their shape is {shape}", part=part, shape=shape),
            where,
            later("give at least one image"),
        )
    elif len(shape) == 4 and shape[3] > MAX_CHANNELS:
        swapped = (
            later("use x.transpose(0, 2, 3, 1)")
            if shape[1] <= MAX_CHANNELS
            else later("give at most {n} channels", n=MAX_CHANNELS)
        )
        message = later(
            "the {part} images have {n} channels: their shape is {shape}, and channels come last",
            part=part,
            n=shape[3],
            shape=shape,
        )
        yield Problem(code, message, where, swapped)


def _problems_of_labels(labels: np.ndarray, n_classes: int, part: str, where: str) -> Iterator[Problem]:
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if labels.ndim == 1 and outside.size:
        first = int(outside[0])
        yield Problem(
            "LS-309",
            later(
                "{n:,} {part} labels lie outside 0 … {last}: number {first} is {label}",
                n=outside.size,
                part=part,
                last=n_classes - 1,
                first=first,
                label=labels[first],
            ),
            where,
            later("number the classes from 0"),
        )


def times(shape: tuple[int, ...]) -> str:
    """(28, 28, 1) → "28×28×1"."""
    return "×".join(map(str, shape))
