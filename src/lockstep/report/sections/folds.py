"""Tables as a page shows them: without what says nothing, and with what all rows say said once, in a sentence.

A table of pairs has a row for each, and often they all say that nothing can be said. Nothing is taken away: the rows
stand behind the sentence, in something that opens, and on paper they are open.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

from lockstep.language import n_
from lockstep.report.table import Table
from lockstep.report.words.quantities import MISSING, whole

LONG = 12  # rows above which a table folds
ALIKE = 3  # rows that say the same, from which on they are said together


@dataclasses.dataclass(frozen=True)
class Fold:
    """A table, what of it is said in a sentence, and the rows with something of their own, which stay in sight.

    `summary` names what the whole table folds behind; empty where it does not fold.
    """

    table: Table
    sentence: str = ""
    rest: Table | None = None
    summary: str = ""


def fold(table: Table, said: str = "", subject: str = "") -> Fold:
    """`said` is the title of the column that tells what can be said of a row, `subject` what the rows are of."""
    table = lean(table)
    titles = [title for title, _side in table.columns]
    texts = [row[titles.index(said)] for row in table.rows] if said in titles else []
    alike, n = Counter(texts).most_common(1)[0] if texts else ("", 0)
    if n < ALIKE and not (n > 1 and n == len(texts)):
        return Fold(table, summary=_all_rows(table) if len(table.rows) > LONG else "")
    told = {"subject": subject or said, "what": alike, "count": whole(n)}
    places = [place for place, text in enumerate(texts) if text != alike]
    if not places:
        text = n_("{subject}, all {count} rows: {what}.", "{subject}, all {count} rows: {what}.", n, **told)
        return Fold(table, text, None, _all_rows(table))
    text = n_(
        "{subject}, {count} of {all} rows: {what}.",
        "{subject}, {count} of {all} rows: {what}.",
        n,
        all=whole(len(texts)),
        **told,
    )
    return Fold(table, text, part(table, places), _all_rows(table))


def _all_rows(table: Table) -> str:
    n = len(table.rows)
    return n_("All {count} rows", "All {count} rows", n, count=whole(n))


def one_text(table: Table, said: str) -> str:
    """What every row of a table says in this column; empty where they differ."""
    titles = [title for title, _side in table.columns]
    texts = {row[titles.index(said)] for row in table.rows} if said in titles else set()
    return texts.pop() if len(texts) == 1 else ""


def lean(table: Table) -> Table:
    """The table without columns in which no row has anything."""
    empty = {
        place
        for place in range(1, len(table.columns))
        if all(row[place] in (MISSING, "") for row in [*table.rows, *table.foot])
    }
    return _columns(table, [place for place in range(len(table.columns)) if place not in empty])


def _columns(table: Table, kept: Sequence[int]) -> Table:
    where = {old: new for new, old in enumerate(kept)}
    return dataclasses.replace(
        table,
        columns=[table.columns[place] for place in kept],
        rows=[[row[place] for place in kept] for row in table.rows],
        foot=[[row[place] for place in kept] for row in table.foot],
        marks={(row, where[place]): mark for (row, place), mark in table.marks.items() if place in where},
    )


def part(table: Table, places: Sequence[int]) -> Table:
    """Some rows of a table, by their places, under the same caption."""
    where = {old: new for new, old in enumerate(places)}
    breaks = {
        new
        for old, new in where.items()
        if any(place in table.breaks for place in range(_before(old, places), old + 1))
    }
    return dataclasses.replace(
        table,
        rows=[table.rows[place] for place in places],
        breaks=breaks,
        notes={where[place]: text for place, text in table.notes.items() if place in where},
        marks={(where[row], column): mark for (row, column), mark in table.marks.items() if row in where},
    )


def _before(place: int, places: Sequence[int]) -> int:
    """The row behind the one that is shown above this one."""
    earlier = [other for other in places if other < place]
    return earlier[-1] + 1 if earlier else 0
