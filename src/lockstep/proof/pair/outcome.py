"""What is left of a comparison: its document, the page beside it, and the exit code of its verdict."""

from __future__ import annotations

from pathlib import Path

from lockstep import report, store
from lockstep.store.documents.difference import FILE, Difference

PAGE = "diff.html"


def write(found: Difference, folder: Path) -> Path:
    """Write diff.json and diff.html into a folder; returns the page's path. Raises LockstepError (LS-501, LS-502)."""
    store.make_folder(folder)
    store.write_json(folder / FILE, found.document())
    return report.write_difference(found, folder / PAGE)


def exit_code(found: Difference) -> int:
    """0 where the two are equal, 1 where they differ or nothing could be compared."""
    return 0 if found.equal else 1
