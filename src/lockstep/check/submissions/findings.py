"""What was found in a submission: problems by their kind, what could not be checked, and notes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lockstep import store
from lockstep.errors import LockstepError, without
from lockstep.language import joined, later, n_later

FITS, PARTLY = later("fits"), later("fits as far as checked")
WRONG, NOTHING = later("does not fit"), later("nothing to check")
REPORTS = (later("differs"), later("fits"), later("identical"), later("missing"))  # what a report is, the worst first
EXIT_CODES = {FITS: 0, PARTLY: 3, WRONG: 1, NOTHING: 1}

# Kind → what is wrong, in a few words; in the order in which they are told.
KINDS = {
    "unreadable": later("runs that cannot be read"),
    "copies": later("the same run twice"),
    "training": later("losses that seed, recipe and data do not give"),
    "weights": later("predictions or evaluations that the weights do not give"),
    "metrics": later("metrics that the predictions do not give"),
    "data": later("data that are not the dataset's"),
    "twice": later("files that contradict each other"),
    "files": later("files changed after they were written"),
    "page": later("a page that its runs do not give"),
}


# What reading raises where a sealed file holds a text for a number, a list for a table, or nothing.
NOT_OURS = (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError)


def told(error: BaseException) -> str:
    """An exception in a few words."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 120 else f"{text[:117]}…"


class Problem(NamedTuple):
    """One thing that is wrong: its kind, the run or page, and a sentence."""

    kind: str
    where: str
    text: str
    briefly: str = ""  # said instead of the words for its kind


@dataclasses.dataclass
class Findings:
    """What was found wrong in one submission, what could not be checked, and notes, which are no problem."""

    problems: list[Problem] = dataclasses.field(default_factory=list)
    unchecked: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def add(self, kind: str, where: str, problem: object, briefly: str = "") -> None:
        self.problems.append(Problem(kind, where, joined((where, problem), ": "), briefly))

    def look(self, kind: str, where: str, check: Callable[[], Iterator[str]]) -> bool:
        """Note each problem that a check yields, and a check that could not go on; whether there was no problem."""
        before = len(self.problems)
        try:
            for problem in check():
                self.add(kind, where, problem)
        except LockstepError as error:
            first = error.problems[0]
            name = Path(first.where).name if first.where else ""
            said = without(first.message, store.UNUSABLE)
            self.add("unreadable", where, joined((name, said), ": ") if name else said)
        except NOT_OURS as error:
            self.add("unreadable", where, later("it holds what Lockstep does not write: {error}", error=told(error)))
        return len(self.problems) == before

    def verdict(self, n_finished: int) -> str:
        """The verdict on a submission with so many finished runs."""
        return WRONG if self.problems else PARTLY if self.unchecked else FITS if n_finished else NOTHING

    def summary(self) -> str:
        """All problems in one sentence: a single one as it is, several as kinds with the number of their places.

        Where all are of one run, it is named once.
        """
        if len(self.problems) < 2:
            return self.problems[0].text if self.problems else ""
        groups: dict[str, set[str]] = {}
        for kind, words in KINDS.items():
            for problem in self.problems:
                if problem.kind == kind:
                    groups.setdefault(problem.briefly or later(words), set()).add(problem.where)
        runs = {problem.where for problem in self.problems if problem.kind != "page"}
        said: list[str] = [
            words if len(runs) == 1 and places == runs else joined((words, " (", _places(places), ")"), "")
            for words, places in groups.items()
        ]
        return joined((*runs, joined(said, "; ")), ": ") if len(runs) == 1 else joined(said, "; ")


def _places(places: set[str]) -> str:
    return next(iter(places)) if len(places) == 1 else n_later("{n} run", "{n} runs", len(places))


def exit_code(rows: Sequence[Mapping[str, Any]]) -> int:
    """0 where everything fits, 1 where something does not, 3 where a dataset was missing for the check."""
    codes = {EXIT_CODES[row["verdict"]] for row in rows}
    return 1 if 1 in codes else 3 if 3 in codes else 0
