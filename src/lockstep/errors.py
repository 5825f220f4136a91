"""The one error class, its stable codes, and the words for a misspelt name.

This is the lowest floor of the tree: it imports nothing else of Lockstep.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

# The first digit after LS- is the exit code: 2 usage or configuration, 3 data, 4 a backend, 5 resources.
CODES = {
    "LS-200": "the command line was not understood",
    "LS-201": "the study file cannot be read",
    "LS-202": "the study file is not valid TOML",
    "LS-203": "unknown key",
    "LS-204": "wrong type",
    "LS-205": "value outside the allowed range",
    "LS-206": "a layer does not fit its input",
    "LS-207": "two parts of a study contradict each other",
    "LS-208": "a required key is missing",
    "LS-209": "unknown name",
    "LS-210": "two runs that were not meant to be equal",
    "LS-301": "the dataset is not on this machine",
    "LS-302": "the download failed",
    "LS-303": "the data are not what they should be: the hash differs",
    "LS-304": "broken IDX file",
    "LS-305": "broken or oversized gzip file",
    "LS-306": "broken or unsuitable npz file",
    "LS-307": "unsuitable image folder",
    "LS-308": "unreadable image",
    "LS-309": "labels outside the classes",
    "LS-310": "dataset name not usable",
    "LS-401": "the framework is not installed",
    "LS-402": "the worker process died",
    "LS-403": "the worker process failed",
    "LS-404": "the device is not there",
    "LS-501": "a folder cannot be written",
    "LS-502": "the disk is full",
    "LS-503": "not enough memory",
    "LS-504": "somebody else holds the lock",
    "LS-505": "a run folder is damaged or incomplete",
    "LS-506": "a run cannot go on: its spec or its data have changed",
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was asked and found, where, and what to do about it."""

    code: str
    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n    → {self.hint}" if self.hint else ""
        return f"{self.code} {place}{self.message}{advice}"


class LockstepError(Exception):
    """The only exception that Lockstep raises on purpose; it holds every problem found, not only the first.

    >>> raise LockstepError("LS-304", "it ends after 12 of 16 bytes", where="train-images.gz", hint="fetch it again")
    """

    def __init__(self, code: str, message: str, *, where: str = "", hint: str = "") -> None:
        self.problems: tuple[Problem, ...] = (Problem(code, message, where, hint),)
        super().__init__(str(self.problems[0]))

    @classmethod
    def several(cls, problems: Iterable[Problem]) -> LockstepError:
        """Gather problems (at least one) in one error."""
        problems = tuple(problems)
        first = problems[0]
        error = cls(first.code, first.message, where=first.where, hint=first.hint)
        error.problems = problems
        error.args = ("\n".join(str(problem) for problem in problems),)
        return error

    @property
    def code(self) -> str:
        """The stable code of the first problem."""
        return self.problems[0].code

    @property
    def exit_code(self) -> int:
        """The process's exit code: the first digit of the code's number."""
        return int(self.code[3])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that proposes the nearest known word, or lists all of them."""
    known = list(known)
    near = difflib.get_close_matches(word.lower(), known, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return "known: " + ", ".join(sorted(known))
