"""The table of docs/reliability.md: how many cases each battery last took, and how many of them went wrong."""

from __future__ import annotations

import itertools
import platform
import time
from pathlib import Path

from support import ROOT

PAGE = ROOT / "docs" / "reliability.md"
HEAD = "| battery | cases | went wrong | measured |\n|---|---|---|---|\n"


def note(battery: str, cases: int, misses: int, page: Path = PAGE) -> None:
    """Put a battery's row into the page, in the place of an earlier one."""
    before, found, rest = page.read_text(encoding="utf-8").partition(HEAD)
    assert found, f"{page} has no table of counts"
    lines = rest.splitlines(keepends=True)
    rows = [line for line in itertools.takewhile(lambda line: line.startswith("|"), lines)]
    after = lines[len(rows) :]
    rows = [line for line in rows if not line.startswith(f"| {battery} |")]
    when = f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}"
    rows.append(f"| {battery} | {cases:,} | {misses:,} | {when} |\n")
    page.write_text("".join([before, HEAD, *sorted(rows), *after]), encoding="utf-8")
