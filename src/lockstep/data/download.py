"""Fetching datasets: each mirror in turn until one delivers the right bytes.

Whatever goes wrong with a mirror (no answer, an error page, a captive portal's "200 OK", too slow, too short, too long,
another content) counts the same: note it and try the next one. A file appears in the cache only when its decompressed
content has the hash of the table, under a lock, so that two processes make one valid file. A download that broke off
goes on where it stopped, at once or the next time (`fragment`).
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, NamedTuple

from lockstep.data.catalogue import DATASETS, Dataset, File
from lockstep.data.digits import source
from lockstep.data.files import content_hash, new_file, sole_writer, writing
from lockstep.data.fragment import Fragment, discard_all
from lockstep.data.places import cache, checked_name, find, imported
from lockstep.data.quartet import file_in
from lockstep.errors import LockstepError, system
from lockstep.language import joined, later, reason

Progress = Callable[[str, int, int], None]  # file, bytes so far, bytes in all (0 where the mirror does not say)

# Two mirrors that are as bad as can be are given up within 45 seconds.
ANSWER_SECONDS = 6.0  # for the connection, and for each wait for more bytes
HEAD_SECONDS = 8.0  # for all that comes before the content: the name's address, redirections, the header
SLOW_SECONDS, SLOW_BYTES = 8.0, 8 * 1024  # fewer bytes than this in that time: as good as dead
FILE_SECONDS = 1800.0
SLACK_BYTES = 65536  # a gzip file is at most its content and a little larger
CHUNK = 2**16
UNSATISFIABLE = 416  # HTTP's answer where the rest that was asked for begins behind the file's end
ATTEMPTS = 3  # at one mirror, as long as each adds to the file
LEAST_GAINED = 8 * 1024  # bytes: an attempt that adds fewer ends those at this mirror


class Attempt(NamedTuple):
    """What happened with one file at one mirror."""

    mirror: str
    file: str
    outcome: str


class _Failure(Exception):  # noqa: N818  # not an error of the program: the next mirror is tried
    """Why a mirror did not deliver."""


class _BrokenOff(_Failure):
    """The mirror delivered a part, and the download can go on from there."""

    def __init__(self, why: str, gained: int) -> None:
        super().__init__(why)
        self.gained = gained  # bytes


class _WrongContent(_Failure):
    """What the mirror delivered is not the file."""


def fetch(name: str, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """See to it that a dataset is on this machine; returns the folder (of an import: the file) that holds it.

    Damaged files in the cache are replaced. `progress(file, bytes so far, bytes in all)` is called while downloading.
    Raises LockstepError: LS-209 (unknown name), LS-301 (missing and `offline`), LS-302 (every mirror failed, with a
    table of what was tried), LS-501, LS-502 (cannot be written), LS-504 (another process holds the lock).
    """
    if checked_name(name) not in DATASETS:
        return imported()[name]
    entry = DATASETS[name]
    if not entry.mirrors:
        return source().parent
    folder, incomplete = find(name)
    own = cache() / name
    if folder is not None and folder != own:
        return folder
    if offline:
        if folder is None:
            raise missing(name, incomplete)
        return folder
    fetch_into(own, name, entry, progress)
    return own


def missing(name: str, incomplete: list[str]) -> LockstepError:
    """The error for a dataset that is not here and may not be downloaded, LS-301."""
    told = later("{title} is not on this machine, and downloading is switched off", title=DATASETS[name].title)
    return LockstepError(
        "LS-301",
        later("{told} ({what})", told=told, what=joined(incomplete, "; ")) if incomplete else told,
        where=name,
        hint=later(
            "run `lockstep data fetch {name}` where there is internet; {otherwise}",
            name=name,
            otherwise=_without_internet(name),
        ),
    )


def _without_internet(name: str) -> str:
    files = ", ".join(f"{file.name}.gz" for file in DATASETS[name].files) if name in DATASETS else "its files"
    return later(
        "or put {files} into a folder {name}/ and set LOCKSTEP_DATA to the folder above it; "
        "or import your own copy with `lockstep data import FOLDER NAME`",
        files=files,
        name=name,
    )


def fetch_into(folder: Path, name: str, entry: Dataset, progress: Progress | None = None) -> None:
    """Download the files that `folder` lacks, or has damaged; raises as `fetch`."""
    present = [file_in(folder, file.name) for file in entry.files]
    if all(path and _is_right(path, file) for path, file in zip(present, entry.files, strict=True)):
        return
    with sole_writer(folder):
        for file in entry.files:
            while (found := file_in(folder, file.name)) and not _is_right(found, file):
                with writing(found):
                    found.unlink()
            if found is None:
                _fetch_file(folder, name, file, entry.mirrors, progress)


def _is_right(path: Path, file: File) -> bool:
    try:
        return content_hash(path, file.n_bytes) == file.sha256
    except ValueError:
        return False


def _fetch_file(folder: Path, name: str, file: File, mirrors: tuple[str, ...], progress: Progress | None) -> None:
    attempts = []
    place = folder / f"{file.name}.gz"
    for mirror in mirrors:
        fragment = Fragment(place, f"{mirror}{file.name}.gz")
        try:
            _fetch_from(fragment, place, file, progress)
            discard_all(place)
            return
        except _Failure as failure:
            attempts.append(Attempt(mirror, f"{file.name}.gz", reason(failure)))
    raise _failed(name, attempts)


def _fetch_from(fragment: Fragment, place: Path, file: File, progress: Progress | None) -> None:
    """Put a file in its place from one mirror, going on where it broke off; raises _Failure."""
    for left in reversed(range(ATTEMPTS)):
        is_rest = fragment.can_go_on()
        try:
            _receive(fragment, file, progress)
            _assert_content(fragment.path, file)
            with new_file(place) as temporary, writing(place):
                fragment.path.replace(temporary)
            return
        except _BrokenOff as failure:
            if not left or failure.gained < LEAST_GAINED:
                raise
        except _WrongContent:
            fragment.discard()
            if not left or not is_rest:  # what is kept may have been the beginning of another file
                raise
        finally:
            fragment.leave()


def _failed(name: str, attempts: list[Attempt]) -> LockstepError:
    width = max(len(attempt.mirror) for attempt in attempts)
    rows = [joined((f"\n    {mirror:<{width}}  {file}  ", outcome), "") for mirror, file, outcome in attempts]
    table = joined(rows, "")
    message = later("no mirror delivered {file}; tried:{table}", file=attempts[0].file, table=table)
    return LockstepError(
        "LS-302", message, where=name, hint=later("try again later, {otherwise}", otherwise=_without_internet(name))
    )


# ------------------------------------------------------------------------------------------------------- one mirror


def _receive(fragment: Fragment, file: File, progress: Progress | None) -> None:
    """Append what a mirror sends to the part of the file that is here; raises _Failure."""
    with contextlib.closing(_chunks(fragment, file, progress)) as chunks:
        for chunk in chunks:
            with writing(fragment.path), open(fragment.path, "ab") as out:
                out.write(chunk)


def _chunks(fragment: Fragment, file: File, progress: Progress | None) -> Generator[bytes]:
    """What a mirror sends, as it comes; raises _Failure."""
    limit, n_here = file.n_bytes + SLACK_BYTES, 0
    try:
        with _answer(fragment.url, fragment.headers()) as response:
            length = response.length  # taken now: reading makes it smaller
            chunk = response.read1(CHUNK)
            if response.status != 206 and fragment.can_go_on():
                _assert_gzip(chunk)  # a page that asks to log in is no reason to begin anew
            with writing(fragment.path):
                begun = fragment.take_up(response.status, response.headers, length)
            if begun is None:
                raise _WrongContent(later("sent another part than the rest that was asked for"))
            pace, announced = _Pace(), begun.total
            if announced > limit:
                raise _WrongContent(
                    later(
                        "announces {announced:,} bytes; the file has at most {limit:,}",
                        announced=announced,
                        limit=limit,
                    )
                )
            while chunk:
                n_here += len(chunk)
                n_received = begun.start + n_here
                if n_received > limit:
                    raise _WrongContent(later("sent more than {limit:,} bytes", limit=limit))
                if n_received != announced:
                    pace.check(n_here)
                yield chunk
                if progress:
                    progress(f"{file.name}.gz", n_received, announced)
                chunk = response.read1(CHUNK)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if getattr(error, "code", None) == UNSATISFIABLE:
            raise _WrongContent(_reason(error)) from None
        raise (_BrokenOff(_reason(error), n_here) if n_here else _Failure(_reason(error))) from None
    if begun.start + n_here < announced:
        facts = {"n_received": begun.start + n_here, "announced": announced}
        raise _BrokenOff(later("sent {n_received:,} of {announced:,} bytes", **facts), n_here)


def _answer(url: str, more: dict[str, str]) -> http.client.HTTPResponse:
    """What a mirror answers to a request with `more` headers, its own header read.

    Raises _Failure, OSError, HTTPException, ValueError.

    It is asked in a thread that can be left alone: the search for a name's address cannot be interrupted, and a header
    that comes letter by letter satisfies every timeout of a socket.
    """
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen  # kept out of start-up

    request = Request(url, headers={"User-Agent": "lockstep", **more})  # noqa: S310  # the address comes from the table
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
    too_late = threading.Event()

    def ask() -> None:
        try:
            answers.put(urlopen(request, timeout=ANSWER_SECONDS))  # noqa: S310
        except Exception as error:
            if isinstance(error, HTTPError):  # it holds the connection
                error.close()
            answers.put(error)
        if too_late.is_set():
            _close(answers)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=HEAD_SECONDS)
    except queue.Empty:
        too_late.set()
        _close(answers)  # one that came in between
        raise _Failure(later("no answer for {seconds:g} seconds", seconds=HEAD_SECONDS)) from None
    if not isinstance(answer, Exception):
        return answer
    try:
        raise answer
    finally:
        del answer  # else this frame and the error hold each other, and the error its connection


def _close(answers: queue.SimpleQueue[Any]) -> None:
    """Close the connection of an answer that nobody waits for."""
    with contextlib.suppress(queue.Empty):
        if hasattr(answer := answers.get_nowait(), "close"):
            answer.close()


class _Pace:
    """Watches that bytes keep coming: one byte every nine seconds would satisfy a socket's timeout for ever."""

    def __init__(self) -> None:
        self.start = self.window_start = time.monotonic()
        self.window_bytes = 0

    def check(self, n_received: int) -> None:
        """Raises _Failure where less than SLOW_BYTES came in SLOW_SECONDS, or all takes longer than FILE_SECONDS."""
        now = time.monotonic()
        if now - self.start > FILE_SECONDS:
            raise _Failure(later("not complete after {seconds:.0f} seconds", seconds=FILE_SECONDS))
        if now - self.window_start > SLOW_SECONDS:
            if n_received - self.window_bytes < SLOW_BYTES:
                raise _Failure(
                    later(
                        "too slow: {n:,} bytes in {seconds:g} seconds",
                        n=n_received - self.window_bytes,
                        seconds=SLOW_SECONDS,
                    )
                )
            self.window_start, self.window_bytes = now, n_received


def _reason(error: Exception) -> str:
    code = getattr(error, "code", None)  # of urllib's HTTPError
    if code is not None:
        return f"HTTP {code} {getattr(error, 'reason', '')}".rstrip()
    cause = getattr(error, "reason", error)  # of its URLError
    if isinstance(cause, TimeoutError):
        return later("no answer for {seconds:g} seconds", seconds=ANSWER_SECONDS)
    return system(cause) or type(error).__name__ if isinstance(cause, Exception) else str(cause or type(error).__name__)


def _assert_content(path: Path, file: File) -> None:
    with open(path, "rb") as stream:
        _assert_gzip(stream.read(512))
    try:
        found = content_hash(path, file.n_bytes)
    except ValueError as error:
        raise _WrongContent(reason(error)) from None
    if found != file.sha256:
        raise _WrongContent(
            later("sent other content: SHA-256 {found}…, expected {sha256}…", found=found[:16], sha256=file.sha256[:16])
        )


def _assert_gzip(start: bytes) -> None:
    """Raise _Failure where a file that begins so is no gzip file."""
    if not start.startswith(b"\x1f\x8b"):
        page = b"<html" in start[:512].lower() or b"<!doctype" in start[:512].lower()
        raise _Failure(
            later("answered with a web page")
            if page
            else later("sent no gzip file: it begins with {start!r}", start=start[:8])
        )
