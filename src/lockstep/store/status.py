"""How a run stands, and seals: a status and a checkpoint's manifest carry the SHA-256 of themselves."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lockstep.errors import LockstepError
from lockstep.files import untrusted
from lockstep.files.texts import restored, with_texts
from lockstep.language import later as _
from lockstep.store.documents.run import Status
from lockstep.store.folder import FORMAT, as_json, damaged, now, read_as_written, write_bytes

SEALED = 2  # the format of a status and of a checkpoint's manifest that carry their own SHA-256; those of 1 have none


def write_status(
    run: Path, status: str, code: str | None = None, reason: str | None = None, threads: int | None = None
) -> None:  # fmt: skip
    """Say how a run stands: "running", "finished" or "failed", with the error's code and reason.

    When it was started, and the threads that it was last asked to run with, stay as they were said before.
    """
    path = run / "status.json"
    before = Status()
    with contextlib.suppress(LockstepError, ValidationError):  # there is none yet, or it is damaged
        before = Status.model_validate(read_status(run))
    finished = None if status == "running" else now()
    stands = Status(
        format=SEALED, status=status, code=code, reason=reason, started=before.started or now(), finished=finished,
        threads=threads or before.threads,
    )  # fmt: skip
    value = with_texts(stands.document())
    write_bytes(path, as_json({**value, "seal": seal(value)}))


def read_status(run: Path) -> dict[str, Any]:
    """A run's status.json, every bit of it as it was written; raises LockstepError (LS-505)."""
    path = run / "status.json"
    status = read_as_written(path)
    if status.get("format") != FORMAT:
        check_seal(path, status)
    return restored(status)


def seal(value: Mapping[str, Any]) -> str:
    """The SHA-256 of a JSON object without its seal."""
    return hashlib.sha256(as_json({key: item for key, item in value.items() if key != "seal"})).hexdigest()


def check_seal(path: Path, value: Mapping[str, Any]) -> None:
    """Raise LockstepError (LS-505) where a JSON file is not what was sealed, down to its spaces."""
    if value.get("format") != SEALED:
        raise damaged(
            path,
            _(
                "it has format {format!r}, this version reads formats 1 and {sealed}",
                format=value.get("format"),
                sealed=SEALED,
            ),
        )
    try:
        as_written = value.get("seal") == seal(value) and _is_text(path, as_json(value))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from error
    if not as_written:
        raise damaged(path, _("it is not as it was written"))


def _is_text(path: Path, wanted: bytes) -> bool:
    """Whether a file holds this text, whatever its line ends."""
    found = path.read_bytes()
    return found == wanted or untrusted.line_ends_put_back(found) == wanted


def as_written(text: str) -> str:
    """A text with the line ends that it was written with."""
    return untrusted.line_ends_put_back(text.encode()).decode()
