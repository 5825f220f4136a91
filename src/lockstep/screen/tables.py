"""Tables of texts, and what stands in their place where a terminal is too narrow for one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from lockstep.language import say
from lockstep.screen.words import escape

WIDE = 120


def plain_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(*map(say, columns), title=say(title), title_justify="left")
    for row in rows:
        table.add_row(*(escape(say(cell)) for cell in row))
    return table


def print_lined(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], console: Console) -> None:
    """A table whose cells have several lines; row below row where it would be too narrow for its words."""
    title, columns = say(title), [*map(say, columns)]
    rows = [[*map(say, row)] for row in rows]
    if console.width >= WIDE:
        table = plain_table(title, columns, rows)
        table.show_lines = True
        for column in table.columns:
            column.overflow = "fold"
        return console.print(table)
    indent = max(map(len, columns[1:])) + 6
    for row in rows:
        console.print(f"[bold]{escape(str(row[0]))}[/]", soft_wrap=True, highlight=False)
        for name, cell in zip(columns[1:], row[1:], strict=True):
            for nth, line in enumerate(str(cell).splitlines()):
                first = f"    {'' if nth else name}".ljust(indent)
                text = unbroken(line, console.width, first, " " * indent)
                console.print(escape(text), soft_wrap=True, highlight=False)
        console.print()
    return None


def unbroken(text: str, width: int, indent: str = "    ", further: str = "    ") -> str:
    """Lines of at most this width, unless a single word is longer: no word is broken."""
    return textwrap.fill(
        text, width, initial_indent=indent, subsequent_indent=further, break_long_words=False, break_on_hyphens=False
    )
