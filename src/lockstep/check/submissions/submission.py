"""What somebody handed in: a folder, or a zip of one, and the runs and pages in it, however deep they lie.

A zip is unpacked into a temporary folder, which goes when it has been looked at. What its directory declares is held
against the file before anything is written, and nothing is written outside that folder.
"""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.files import intake
from lockstep.language import later

DEEP = 8  # folders below a submission in which runs and pages are looked for
MOST_FILES = 100_000  # of a zip
LARGEST = 8 * 2**30  # bytes of all of them
ZIPS = 20  # looked into in a folder that holds nothing else


@dataclass(frozen=True)
class Submission:
    """One hand-in: its `name`, as it was given, and the `folder` in which it lies, unpacked where it was a zip."""

    name: Path
    folder: Path
    is_zip: bool = False

    @property
    def owner(self) -> Path:
        """Whose it is: anna.zip lies beside the folder anna into which it was unpacked."""
        name = self.name.absolute()
        return name.with_suffix("") if self.is_zip and name.suffix.lower() == ".zip" else name

    def records(self) -> list[store.Record]:
        """Its runs; raises LockstepError (LS-505) where there is none, LS-200 where there is no such folder."""
        return store.find_runs([self.folder], DEEP)

    def pages(self) -> list[Path]:
        """Every HTML file beside or above its runs."""
        found: list[Path] = []
        for folder in store.folders_below(self.folder, DEEP):
            found += folder.glob("*.html")
        return sorted(found)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Submission]:
    """A submission to look at; raises LockstepError (LS-505) for a file that is no zip, or one that is a trap."""
    zips = [path] if path.is_file() else [] if _has_runs(path) else _zips(path)
    with contextlib.ExitStack() as stack:
        if zips:
            with _told(path):
                place = stack.enter_context(_unpacked(zips))
        yield Submission(path, place if zips else path, bool(zips))


def _has_runs(folder: Path) -> bool:
    with contextlib.suppress(LockstepError):
        return bool(store.find_runs([folder], DEEP))
    return False


def _zips(folder: Path) -> list[Path]:
    """The zips in a folder that holds no run: nobody unpacked what was uploaded."""
    if not folder.is_dir():
        return []
    found = [path for place in store.folders_below(folder, DEEP) for path in place.glob("*.zip")]
    return [path for path in sorted(found) if path.is_file() and zipfile.is_zipfile(path)][:ZIPS]


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """The error for a damaged archive."""
    hint = later("unpack it with a program of yours, and give the folder")
    try:
        if path.is_file() and not zipfile.is_zipfile(path):
            message = later("it is no zip archive: give a folder that holds runs, or a zip of one")
            raise LockstepError("LS-505", message, where=str(path), hint=hint)
        yield
    except (ValueError, OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        message = later("it is a zip archive that cannot be unpacked: {why}", why=error)
        raise LockstepError("LS-505", message, where=str(path), hint=hint) from error


@contextlib.contextmanager
def _unpacked(paths: list[Path]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lockstep-verify-") as temporary:
        for number, path in enumerate(paths):
            place = Path(temporary).resolve() / (path.stem if len(paths) == 1 else f"{number + 1}-{path.stem}")
            _unpack(path, place)
        yield Path(temporary).resolve()


def _unpack(path: Path, place: Path) -> None:
    """Write every file of a zip below `place`; raises ValueError for one that leads out of it or is too large."""
    with intake.opened(path) as file:
        archive = zipfile.ZipFile(file)
        members = [info for info in archive.infolist() if not info.is_dir()]
        n_bytes = sum(info.file_size for info in members)
        if len(members) > MOST_FILES or n_bytes > LARGEST:
            raise ValueError(later("it holds {n:,} files of {n_bytes:,} bytes", n=len(members), n_bytes=n_bytes))
        intake.refuse_bomb(n_bytes, intake.size_of(file))
        for info in members:
            parts = [part for part in info.filename.replace("\\", "/").split("/") if part not in ("", ".")]
            if not parts or ".." in parts or ":" in info.filename[:3] or info.filename.startswith(("/", "\\")):
                raise ValueError(later('it holds "{name}", a path that leads out of it', name=info.filename[:60]))
            if info.external_attr >> 28 == 0o12:  # a link: what it leads to is nobody's
                continue
            target = place.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            left = info.file_size
            with archive.open(info) as source, open(target, "wb") as copy:
                while chunk := source.read(min(2**20, left + 1)):
                    left -= len(chunk)
                    if left < 0:
                        raise ValueError(later('"{name}" is longer than it says', name=info.filename[:60]))
                    copy.write(chunk)
