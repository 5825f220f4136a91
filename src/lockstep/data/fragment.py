"""What there is of a file whose download broke off, and how the mirror is asked for the rest.

A mirror names the state of a file by an ETag or by the time of its last change. With `If-Range` it sends the rest only
where the file is still the same one, else the whole from its beginning (RFC 9110, 13.1.5 and 14.2). Without such a name
nothing is kept: the rest of another file would not fit. What is put together is checked like every download.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from email.message import Message
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """Where an answer begins in the file: the bytes already here, and those of the whole file (0 where unknown)."""

    start: int
    total: int


class Fragment:
    """The beginning of a file from one address, in a file beside the place where the whole goes."""

    def __init__(self, place: Path, url: str) -> None:
        name = f".{place.name}.{hashlib.sha256(url.encode()).hexdigest()[:8]}.partial"
        self.path, self.about, self.url = place.with_name(name), place.with_name(f"{name}.json"), url

    def headers(self) -> dict[str, str]:
        """The request headers that ask for the rest; none where the download has to begin anew."""
        known, n = self._known(), self._n_bytes()
        return {"Range": f"bytes={n}-", "If-Range": known} if known and n else {}

    def take_up(self, status: int, headers: Message, length: int | None) -> Answer | None:
        """Get ready for an answer's content, to be added to the file; None where the answer does not fit what is here.

        `length` is that of the content. Raises OSError.
        """
        n = self._n_bytes()
        if status == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range") or "")
            same = _name_of(headers) in ("", self._known())
            if not found or int(found[1]) != n or not same:
                return None
            return Answer(n, int(found[2]) if found[2] != "*" else n + (length or 0))
        self.discard()
        self.path.touch()
        name = _name_of(headers)
        if name and headers.get("Accept-Ranges") != "none":
            self.about.write_text(json.dumps({"url": self.url, "name": name}), encoding="utf-8")
        return Answer(0, length or 0)

    def can_go_on(self) -> bool:
        """Whether the mirror can be asked for the rest."""
        return bool(self.headers())

    def leave(self) -> None:
        """Keep the beginning of the file if the mirror can be asked for the rest, and remove it otherwise."""
        if not self.can_go_on():
            self.discard()

    def discard(self) -> None:
        """Forget what is here, so that the download begins anew."""
        for path in (self.path, self.about):
            with contextlib.suppress(OSError):
                path.unlink()

    def _n_bytes(self) -> int:
        with contextlib.suppress(OSError):
            return self.path.stat().st_size
        return 0

    def _known(self) -> str:
        """The file's state as the mirror named it; "" where it named none, or the part here is another file's."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            about = json.loads(self.about.read_text(encoding="utf-8"))
            name = about.get("name")
            return name if about.get("url") == self.url and isinstance(name, str) and name.isprintable() else ""
        return ""


def _name_of(headers: Message) -> str:
    """The strong ETag of an answer, or the time of the last change; a weak one names no bytes."""
    tag = headers.get("ETag") or ""
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified") or ""


def discard_all(place: Path) -> None:
    """Remove whatever was begun of a file, from any address."""
    for path in place.parent.glob(f".{place.name}.*.partial*"):
        with contextlib.suppress(OSError):
            path.unlink()
