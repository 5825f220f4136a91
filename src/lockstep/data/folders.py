"""A folder of pictures before any is opened: its classes, the files of each, the two halves, and what was left out.

One subfolder is one class. Its name is shown in tables, figures and pages, so it becomes a text that all of them can
show: in Unicode's composed form, as macOS does not write it, so that "й" is one class however it was typed; bytes that
are no UTF-8 and control characters as escapes, so that no two classes look alike.

`halves` knows what else train and test are called. Where there is `val/` and no `test/`, it is the test set; where
there are all three, its pictures are training images, of which a recipe's `validation` holds a share out.

Systems and editors leave files of their own everywhere. They are left out, counted and named, as is whatever else is no
picture, lies elsewhere than in a class, or is a link out of the folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

from lockstep.data import holdout
from lockstep.data.contents import MAX_CLASSES
from lockstep.data.halves import HALVES, part_of
from lockstep.data.picture import SUFFIXES, UNREAD_SUFFIXES, unread_kind
from lockstep.errors import LockstepError, Problem, system
from lockstep.language import later, visible
from lockstep.randomness import permutation

MAX_PROBLEMS = 20
_TRAIN_ORDER, _TEST_ORDER = 1, 2  # positions in the stream "split", of which `holdout` has the first
_NAMED = 6  # of what was left out
LEFTOVERS = ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "lost+found")

# The notes on a dataset.
HIDDEN = later("left out as hidden, or as leftovers of systems and editors: {n:,} ({names})")
OTHERS = later("left out because they are no pictures: {n:,} ({names})")
LINKS = later("left out because they are links out of the folder: {n:,} ({names})")
ELSEWHERE = later("pictures left out because they do not lie directly in the folder of a class: {n:,} ({names})")
SHUFFLED = later("the images are in a random order that is the same everywhere")
AS_GIVEN = later("train and test as in the folder")
VALIDATED = later("the test images are those of {name}: there is no folder of test images")
JOINED = later("the pictures of {name} are training images too: a recipe's validation holds a share of those out")
ONE_CLASS = later("folders whose names differ only in how Unicode writes them are one class: {names}")
ESCAPED = later(
    "names of classes that are not UTF-8 or hold control characters have these as escapes: {names}; rename the folders"
)
MISNAMED = later("pictures that were read although their names say {kinds}, which they are not: {n:,}")
NOTES = (
    HIDDEN,
    OTHERS,
    LINKS,
    ELSEWHERE,
    SHUFFLED,
    AS_GIVEN,
    VALIDATED,
    JOINED,
    holdout.NOTE,
    ONE_CLASS,
    ESCAPED,
    MISNAMED,
)

Files = list[tuple[Path, int]]  # each picture with its class's number


@dataclasses.dataclass
class Listing:
    """The files of a folder, in the dataset's order, and what is noted of them."""

    class_names: tuple[str, ...]
    train: Files
    test: Files
    notes: list[str]


@dataclasses.dataclass
class _Found:
    """Everything in a folder that is no picture to be read, by the reason."""

    root: Path
    left_out: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # by HIDDEN, OTHERS, LINKS, ELSEWHERE
    unread: dict[str, list[Path]] = dataclasses.field(default_factory=dict)  # by what the files hold
    misnamed: list[str] = dataclasses.field(default_factory=list)  # the suffixes of what holds something else
    problems: list[Problem] = dataclasses.field(default_factory=list)

    def leave_out(self, why: str, *names: str) -> None:
        self.left_out.setdefault(why, []).extend(names)


def listed(folder: Path, fraction: float) -> Listing:
    """Every picture of the folder; `fraction` of each class is the test set where the folder does not say.

    Raises LockstepError LS-307 (the folder), LS-308 (pictures of a kind that is not read), up to 20 problems.
    """
    found = _Found(folder)
    try:
        top = _folders(folder, found)
        if parts := _parts(folder, top):
            for path in top:
                if path not in parts.values():
                    _leave_out_folder(path, found)
            listing = _split_as_given(parts, found)
        else:
            listing = _split_by_fraction(top, fraction, found)
    except OSError as error:
        message = later("cannot be read: {why}", why=system(error))
        raise LockstepError(
            "LS-307", message, where=str(error.filename or folder), hint=later("check permissions")
        ) from None
    _assert_usable(folder, listing, found)
    listing.notes = [*_left_out(found), *listing.notes, later(SHUFFLED)]
    listing.train = _shuffled(listing.train, _TRAIN_ORDER)
    listing.test = _shuffled(listing.test, _TEST_ORDER)
    return listing


def is_image_folder(folder: Path) -> bool:
    """Whether the folder has subfolders, which are the classes."""
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() and not _is_leftover(entry.name) for entry in entries)
    except OSError:
        return False


def holds_classes(folder: Path) -> bool:
    """Whether the folder's subfolders hold pictures themselves, or are the parts of such a folder."""
    try:
        with os.scandir(folder) as entries:
            inner = [Path(entry.path) for entry in entries if entry.is_dir() and not _is_leftover(entry.name)]
        return any(_holds_pictures(path) or (part_of(path.name) and is_image_folder(path)) for path in inner)
    except OSError:
        return False


def _holds_pictures(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(_is_named_a_picture(entry.name) and not _is_leftover(entry.name) for entry in entries)


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts "2" before "10"; the same on every system."""
    words = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name))
    return [(int(word), "") if word.isascii() and word.isdigit() else (-1, word) for word in words], name


# ------------------------------------------------------------------------------------------------------------ classes


def class_name(folder_name: str) -> str:
    """What a class is called whose folder has this name.

    >>> class_name("и\u0306") == "й", class_name("a\x1b[1m"), class_name("\udc8a")
    (True, 'a\\x1b[1m', '\\x8a')
    """
    text = os.fsencode(folder_name).decode("utf-8", "backslashreplace")
    return visible(unicodedata.normalize("NFC", text), keep="")


def _by_class(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Class → its folders, in order: more than one where their names are one name in two forms of Unicode."""
    classes: dict[str, list[Path]] = {}
    for path in folders:
        classes.setdefault(class_name(path.name), []).append(path)
    return classes


def _notes_of_names(classes: dict[str, list[Path]]) -> Iterator[str]:
    merged = [name for name, folders in classes.items() if len({path.name for path in folders}) > 1]
    escaped = [
        name
        for name, folders in classes.items()
        if any(unicodedata.normalize("NFC", path.name) != name for path in folders)
    ]
    if merged:
        yield later(ONE_CLASS, names=_some(merged))
    if escaped:
        yield later(ESCAPED, names=_some(escaped))


def _split_as_given(parts: dict[str, Path], found: _Found) -> Listing:
    notes = [later(AS_GIVEN)]
    if "validation" in parts:
        name = visible(parts["validation"].name, keep="")
        notes.append(later(JOINED, name=name) if "test" in parts else later(VALIDATED, name=name))
    sources = {half: [parts[half]] if half in parts else [] for half in HALVES}
    sources["train" if "test" in parts else "test"] += [parts["validation"]] if "validation" in parts else []
    folders = {half: _by_class(path for place in sources[half] for path in _folders(place, found)) for half in HALVES}
    class_names = tuple(sorted({name for classes in folders.values() for name in classes}, key=natural))
    files: dict[str, Files] = {half: [] for half in HALVES}
    for label, name in enumerate(class_names):
        for half, classes in folders.items():
            pictures = [picture for path in classes.get(name, ()) for picture in _pictures(path, found)]
            files[half] += [(path, label) for path in pictures]
            if not pictures:
                hint = later("every class needs pictures in both train and test")
                message = later('the class "{name}" has no picture in {half}', name=name, half=sources[half][0].name)
                found.problems.append(Problem("LS-307", message, str(sources[half][0]), hint))
    together = {name: [path for classes in folders.values() for path in classes.get(name, ())] for name in class_names}
    return Listing(class_names, files["train"], files["test"], [*notes, *_notes_of_names(together)])


def _split_by_fraction(folders: list[Path], fraction: float, found: _Found) -> Listing:
    classes = _by_class(folders)
    listing = Listing(tuple(classes), [], [], [holdout.note(fraction), *_notes_of_names(classes)])
    for label, (name, paths) in enumerate(classes.items()):
        pictures = [picture for path in paths for picture in _pictures(path, found)]
        if len(pictures) < 2:
            hint = later(
                "each class needs at least two: one to train and one to test; {names} are read",
                names=", ".join(SUFFIXES),
            )
            message = later('the class "{name}" has no picture', name=name)
            message = later('the class "{name}" has one picture', name=name) if pictures else message
            found.problems.append(Problem("LS-307", message, str(paths[0]), hint))
            continue
        to_test, to_train = holdout.draw(len(pictures), label, fraction)
        listing.test += [(pictures[index], label) for index in to_test]
        listing.train += [(pictures[index], label) for index in to_train]
    return listing


def _shuffled(files: Files, position: int) -> Files:
    return [files[index] for index in permutation(len(files), 0, "split", position)]


# -------------------------------------------------------------------------------------------------------------- files


def _entries(folder: Path, found: _Found) -> list[Path]:
    """What lies in a folder, naturally sorted, without leftovers and links that lead out of the root."""
    inside = Path(os.path.realpath(found.root))
    entries = []
    for name in sorted(os.listdir(folder), key=natural):
        path = folder / name
        if _is_leftover(name):
            found.leave_out(HIDDEN, name)
        elif path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(inside):
            found.leave_out(LINKS, name)
        else:
            entries.append(path)
    return entries


def _folders(folder: Path, found: _Found) -> list[Path]:
    """The folders in a folder; a file beside them is noted."""
    folders = []
    for path in _entries(folder, found):
        if path.is_dir():
            folders.append(path)
        else:
            found.leave_out(ELSEWHERE if _is_named_a_picture(path.name) else OTHERS, path.name)
    return folders


def _pictures(folder: Path, found: _Found) -> list[Path]:
    """The pictures of one class; everything else is noted."""
    pictures = []
    for path in _entries(folder, found):
        if path.is_dir():
            _leave_out_folder(path, found)
        elif not (_is_named_a_picture(path.name) and os.path.isfile(path)):
            found.leave_out(OTHERS, path.name)
        elif not path.name.lower().endswith(UNREAD_SUFFIXES):
            pictures.append(path)
        elif kind := unread_kind(path):
            found.unread.setdefault(kind, []).append(path)
        else:
            found.misnamed.append(path.suffix.lower())
            pictures.append(path)
    return pictures


def _leave_out_folder(folder: Path, found: _Found) -> None:
    """Note a folder that belongs to no class: the pictures below it, or that there are none."""
    below = (name for _place, _folders, names in os.walk(folder) for name in names if not _is_leftover(name))
    n = sum(map(_is_named_a_picture, below))
    if n:
        found.leave_out(ELSEWHERE, *[f"{folder.name}{os.sep}"] * n)
    else:
        found.leave_out(OTHERS, folder.name)


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFTOVERS


def _is_named_a_picture(name: str) -> bool:
    return name.lower().endswith((*SUFFIXES, *UNREAD_SUFFIXES))


def _some(names: Iterable[str]) -> str:
    """The first few of these names, each once."""
    names = list(dict.fromkeys(visible(name, keep="") for name in names))
    return ", ".join([*names[:_NAMED], *(["…"] if len(names) > _NAMED else [])])


def _left_out(found: _Found) -> Iterator[str]:
    for why in (ELSEWHERE, OTHERS, LINKS, HIDDEN):
        if names := found.left_out.get(why):
            yield later(why, n=len(names), names=_some(names))
    if found.misnamed:
        yield later(MISNAMED, kinds=_some(sorted(found.misnamed)), n=len(found.misnamed))


# ----------------------------------------------------------------------------------------------------------- problems


def _parts(folder: Path, top: list[Path]) -> dict[str, Path]:
    """The folders of the parts, "train", "test" and perhaps "validation"; nothing where the folders are classes.

    Raises LockstepError (LS-307) where a part is there twice, or without its other half.
    """
    parts: dict[str, Path] = {}
    for path in top:
        if (part := part_of(path.name)) is None:
            continue
        if part in parts:
            message = later('"{one}" and "{other}" are names of the same part', one=parts[part].name, other=path.name)
            raise LockstepError("LS-307", message, where=str(folder), hint=later("move all of it into one folder"))
        parts[part] = path
    if "train" in parts and ("test" in parts or "validation" in parts):
        return parts
    for half, other in (("train", "test"), ("test", "train")):
        if half in parts and is_image_folder(parts[half]):
            hint = later('add "{other}", or move the classes up so that Lockstep draws the test images', other=other)
            message = later('there is a folder "{half}" but no "{other}"', half=parts[half].name, other=other)
            raise LockstepError("LS-307", message, where=str(folder), hint=hint)
    return {}


def _assert_usable(folder: Path, listing: Listing, found: _Found) -> None:
    unread = list(_problems_of_kinds(folder, found.unread))
    if unread:  # a class with these alone is not reported as empty, too
        raise LockstepError.several(unread)
    if len(found.problems) > 1 and not (listing.train or listing.test):
        hint = later("make one subfolder per class with pictures in it; {names} are read", names=", ".join(SUFFIXES))
        raise LockstepError(
            "LS-307", later("there is no class with enough pictures in it"), where=str(folder), hint=hint
        )
    problems = [*_problems_of_classes(folder, listing.class_names), *found.problems]
    if problems:
        raise LockstepError.several(problems[:MAX_PROBLEMS])


def _problems_of_kinds(folder: Path, unread: dict[str, list[Path]]) -> Iterator[Problem]:
    for kind, paths in unread.items():
        names = _some(str(path.relative_to(folder)) for path in paths)
        hint = later("save them as JPEG or PNG, or take them out of the folder")
        message = later("pictures in the format {kind}, which is not read: {n:,} ({names})", kind=kind, n=len(paths),
                        names=names)  # fmt: skip
        yield Problem("LS-308", message, str(folder), hint)


def _problems_of_classes(folder: Path, class_names: tuple[str, ...]) -> Iterator[Problem]:
    if len(class_names) < 2:
        message = later("no class: nothing to tell apart")
        if class_names:
            message = later('one class, "{name}": nothing to tell apart', name=class_names[0])
        yield Problem("LS-307", message, str(folder), later("make one subfolder per class, at least two"))
    elif len(class_names) > MAX_CLASSES:
        yield Problem(
            "LS-307",
            later("{n:,} classes", n=len(class_names)),
            str(folder),
            later("at most {most:,} are read", most=MAX_CLASSES),
        )
