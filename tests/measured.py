"""The table of docs/reliability.md: how many cases each battery last took, and how many of them went wrong."""

from __future__ import annotations

import platform
import time
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
HEAD = "| battery | cases | went wrong | measured |\n|---|---|---|---|\n"


def note(battery: str, cases: int, misses: int, page: Path = PAGE) -> None:
    """Put a battery's row into the page, in the place of an earlier one."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(HEAD)
    assert rest, f"{page} has no table of counts"
    table, _, after = rest.partition("\n\n")
    rows = [line for line in table.splitlines() if not line.startswith(f"| {battery} |")]
    when = f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}"
    rows.append(f"| {battery} | {cases:,} | {misses:,} | {when} |")
    page.write_text(f"{before}{HEAD}{chr(10).join(sorted(rows))}\n\n{after.lstrip(chr(10))}", encoding="utf-8")
