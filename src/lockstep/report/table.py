"""A table of texts, as the page lays it out."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Table:
    """A caption, columns as (title, "l" or "r"), rows of text.

    `breaks` are the rows with a rule above them, `notes` the lines that stand below a row, `marks` the cells (row,
    column) that a reader should not miss: "good", "warn" or "bad".
    """

    caption: str
    columns: list[tuple[str, str]]
    rows: list[list[str]]
    foot: list[list[str]] = dataclasses.field(default_factory=list)
    breaks: set[int] = dataclasses.field(default_factory=set)
    notes: dict[int, str] = dataclasses.field(default_factory=dict)
    marks: dict[tuple[int, int], str] = dataclasses.field(default_factory=dict)
