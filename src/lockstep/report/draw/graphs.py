"""Two networks side by side: their calls as boxes in order, those that are the same on one line and joined.

Boxes are HTML, which wraps on a narrow screen and can be read aloud; only lines are drawn, as SVG that stretches with
them. Where there are many calls, what is the same folds, group by group; nothing here needs a script.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from lockstep.language import _, n_
from lockstep.report.words.quantities import shape, whole
from lockstep.store.documents.difference import Call, Difference, Graph

MOST_OPEN = 40  # rows up to which nothing folds
LEAST_FOLDED = 5
MOST_IN_A_FOLD = 24
DEPTH = 2  # of a layer's path that names a group: "layer1.0"


@dataclasses.dataclass(frozen=True)
class Row:
    """What stands side by side: places in the graph's lists, one of which may be missing."""

    a: int | None
    b: int | None
    is_joined: bool


def rows(graph: Graph) -> list[Row]:
    """All calls of both, those that are the same in one row as far as their order allows."""
    found: list[Row] = []
    done_a = done_b = 0
    for a, b in [*_in_order(graph.joined), (len(graph.a), len(graph.b))]:
        beside = itertools.zip_longest(range(done_a, a), range(done_b, b))
        found += [Row(one, other, False) for one, other in beside]
        if a < len(graph.a):
            found.append(Row(a, b, True))
        done_a, done_b = a + 1, b + 1
    return found


def _in_order(joined: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest part of these pairs that ascends on both sides."""
    tails: list[int] = []
    ends: list[int] = []
    before: list[int] = []
    pairs = sorted(joined)
    for index, (_a, b) in enumerate(pairs):
        place = bisect.bisect_left(tails, b)
        before.append(ends[place - 1] if place else -1)
        tails[place : place + 1] = [b]
        ends[place : place + 1] = [index]
    found, index = [], ends[-1] if ends else -1
    while index >= 0:
        found.append(pairs[index])
        index = before[index]
    return found[::-1]


# ----------------------------------------------------------------------------------------------------------- the page's


def picture(found: Difference) -> list[dict[str, Any]]:
    """The blocks of the picture, from top to bottom: open ones, and ones that fold."""
    marks = _marks(found)
    everything = rows(found.graph)
    first = found.findings[0].places[0] if found.findings else None
    drawn = Picture(found.graph, marks, everything, (first.call_a, first.call_b) if first else (None, None))
    return [drawn.block(start, stop, summary) for start, stop, summary in _blocks(found.graph, everything, marks)]


Marks = tuple[dict[int, list[int]], dict[int, list[int]]]  # of each side: place → numbers of findings


def _marks(found: Difference) -> Marks:
    """Which findings lie at which calls."""
    marks: Marks = ({}, {})
    for number, finding in enumerate(found.findings, 1):
        for spot in finding.places:
            for of_side, place in zip(marks, (spot.call_a, spot.call_b), strict=True):
                if place is not None and number not in of_side.setdefault(place, []):
                    of_side[place].append(number)
    return marks


def _blocks(graph: Graph, everything: Sequence[Row], marks: Marks) -> Iterator[tuple[int, int, str]]:
    """(first row, row behind the last, summary); without a summary the block is open."""
    if len(everything) <= MOST_OPEN:
        yield 0, len(everything), ""
        return
    names = _groups(graph, everything)
    is_marked = [row.a in marks[0] or row.b in marks[1] for row in everything]
    folds = [[False, start, stop] for start, stop in _runs([*zip(names, is_marked, strict=True)])]
    for fold in folds:
        fold[0] = not is_marked[fold[1]] and fold[2] - fold[1] >= LEAST_FOLDED
    for is_folded, of_kind in itertools.groupby(folds, key=lambda fold: fold[0]):
        several = list(of_kind)
        if not is_folded:
            yield several[0][1], several[-1][2], ""
            continue
        for _is, start, stop in several:
            yield start, stop, _summary(names[start], graph, everything[start:stop])


def _runs(keys: Sequence[Any]) -> Iterator[tuple[int, int]]:
    """Where stretches of one key begin and end, none of them too long."""
    place = 0
    for _key, same in itertools.groupby(keys):
        n = len(list(same))
        for start in range(place, place + n, MOST_IN_A_FOLD):
            yield start, min(start + MOST_IN_A_FOLD, place + n)
        place += n


def _groups(graph: Graph, everything: Sequence[Row]) -> list[str]:
    """A name for each row: the layer around it, by the side whose layers have paths; else that of the row above."""
    names, name = [], ""
    for row in everything:
        call = graph.a[row.a] if row.a is not None else graph.b[row.b] if row.b is not None else None
        parts = call.layer.replace("/", ".").split(".") if call is not None and call.layer else []
        if ".".join(parts) != name:  # else it is a function that the group's own layer calls
            name = ".".join(parts[:-1][:DEPTH]) or name
        names.append(name)
    return names


def _summary(name: str, graph: Graph, folded: Sequence[Row]) -> str:
    n = len(folded)
    ends = [next(call for call in _calls(row, graph)) for row in (folded[0], folded[-1])]
    name = name or f"{ends[0].kind} … {ends[1].kind}"
    if all(row.is_joined for row in folded):
        return n_("{name}: {n} call, the same in both", "{name}: {n} calls, the same in both", n, name=name)
    return n_("{name}: {n} line, with no difference that reaches the output",
              "{name}: {n} lines, with no difference that reaches the output", n, name=name)  # fmt: skip


def _calls(row: Row, graph: Graph) -> Iterator[Call]:
    if row.a is not None:
        yield graph.a[row.a]
    if row.b is not None:
        yield graph.b[row.b]


class Picture:
    """What is known of all rows when one block of them is drawn."""

    def __init__(
        self, graph: Graph, marks: Marks, everything: Sequence[Row], first: tuple[int | None, int | None]
    ) -> None:
        self.first = first  # the calls at the first difference
        self.graph, self.marks, self.rows = graph, marks, everything
        self.joined = (dict(graph.joined), {b: a for a, b in graph.joined})
        self.row_of = (
            {row.a: number for number, row in enumerate(everything) if row.a is not None},
            {row.b: number for number, row in enumerate(everything) if row.b is not None},
        )

    def block(self, start: int, stop: int, summary: str) -> dict[str, Any]:
        """One block as plain data: boxes with their row (from 1), and the lines' paths in rows and hundredths."""
        boxes = [
            self._box(side, place, row, start)
            for row in range(start, stop)
            for side, place in enumerate((self.rows[row].a, self.rows[row].b))
            if place is not None
        ]
        return {
            "summary": summary, "n": stop - start, "boxes": boxes, "wires": [*self._wires(start, stop)],
            "arcs": [[*self._arcs(side, start, stop)] for side in (0, 1)],
        }  # fmt: skip

    def _box(self, side: int, place: int, row: int, start: int) -> dict[str, Any]:
        call = (self.graph.a, self.graph.b)[side][place]
        marks = self.marks[side].get(place, [])
        is_joined = place in self.joined[side]
        kinds = [
            "differs" if marks else "same" if is_joined else "alone",
            *(["first"] if place == self.first[side] else []),
        ]
        kinds += ["follows"] if row > start and place - 1 in call.inputs else []
        sizes = shape(call.shape[1:]) if len(call.shape) > 1 else ""
        more = [self._far(side, number, start) for number in call.inputs if number != place - 1]
        words = [*filter(None, (call.line.replace("–", ""), sizes)), *filter(None, more)]
        if not is_joined and not marks:
            words.append(_("no partner"))
        return {
            "row": row - start + 1, "side": "ab"[side], "kinds": " ".join(kinds), "marks": marks, "kind": call.kind,
            "title": call.title, "words": " · ".join(words),
        }  # fmt: skip

    def _far(self, side: int, number: int, start: int) -> str:
        """Words for an input that no arc can show, because its call lies in a block above."""
        if number < 0 or self.row_of[side][number] >= start:
            return ""
        return _("takes {name} too", name=(self.graph.a, self.graph.b)[side][number].title)

    def _wires(self, start: int, stop: int) -> Iterator[dict[str, str]]:
        """The lines between the same calls of both, and between those at which a difference lies."""
        pairs = dict.fromkeys(self.graph.joined, "same")
        for row in self.rows[start:stop]:
            if row.a is not None and row.b is not None and self.marks[0].get(row.a) and self.marks[1].get(row.b):
                pairs[row.a, row.b] = "differs"
        for (a, b), kind in pairs.items():
            tops = self.row_of[0][a], self.row_of[1][b]
            if all(start <= top < stop for top in tops):
                one, other = (top - start + 0.5 for top in tops)
                yield {"kind": kind, "path": f"M0 {one:g} C50 {one:g} 50 {other:g} 100 {other:g}"}

    def _arcs(self, side: int, start: int, stop: int) -> Iterator[str]:
        """Lines beside the boxes, from a call to a later one that takes what it gives: the next one has none."""
        calls = (self.graph.a, self.graph.b)[side]
        for row in range(start, stop):
            place = (self.rows[row].a, self.rows[row].b)[side]
            for number in () if place is None else calls[place].inputs:
                top = self.row_of[side].get(number, -1)
                if top < start or number == (place or 0) - 1:
                    continue
                inner, outer = (100, max(5, 70 - 9 * (row - top))) if side == 0 else (0, min(95, 30 + 9 * (row - top)))
                one, other = top - start + 0.6, row - start + 0.4
                yield f"M{inner} {one:g} C{outer} {one:g} {outer} {other:g} {inner} {other:g}"


def said(found: Difference) -> str:
    """The picture in a sentence, for whoever cannot see it."""
    counts = {"a": whole(len(found.graph.a)), "b": whole(len(found.graph.b)), "n": whole(len(found.graph.joined))}
    return _("{a} calls of the first model and {b} of the second; {n} of them give the same numbers.", **counts)
