"""The one error class, its stable codes, and the words for a misspelt name.

It imports nothing else of Lockstep but the language.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable

from lockstep.language import Text, joined, later, reason, say

# The first digit after LS- is the exit code: 2 usage or configuration, 3 data, 4 a backend, 5 resources.
CODES = {
    "LS-200": later("the command line was not understood"),
    "LS-201": later("the study file cannot be read"),
    "LS-202": later("the study file is not valid TOML"),
    "LS-203": later("unknown key"),
    "LS-204": later("wrong type"),
    "LS-205": later("value outside the allowed range"),
    "LS-206": later("a layer does not fit its input"),
    "LS-207": later("two parts of a study contradict each other"),
    "LS-208": later("a required key is missing"),
    "LS-209": later("unknown name"),
    "LS-210": later("two runs that were not meant to be equal"),
    "LS-301": later("the dataset is not on this machine"),
    "LS-302": later("the download failed"),
    "LS-303": later("the data are not what they should be: the hash differs"),
    "LS-304": later("broken IDX file"),
    "LS-305": later("broken or oversized gzip file"),
    "LS-306": later("broken or unsuitable npz file"),
    "LS-307": later("unsuitable image folder"),
    "LS-308": later("unreadable image"),
    "LS-309": later("labels outside the classes"),
    "LS-310": later("dataset name not usable"),
    "LS-311": later("broken or unsuitable table"),
    "LS-401": later("the framework is not installed"),
    "LS-402": later("the worker process died"),
    "LS-403": later("the worker process failed"),
    "LS-404": later("the device is not there"),
    "LS-501": later("a folder cannot be written"),
    "LS-502": later("the disk is full"),
    "LS-503": later("not enough memory"),
    "LS-504": later("somebody else holds the lock"),
    "LS-505": later("a run folder is damaged or incomplete"),
    "LS-506": later("a run cannot go on: its spec or its data have changed"),
}


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong: what was asked and found, where, and what to do about it.

    Its texts are English, or of `language.later`; so is what is kept of it.
    """

    code: str
    message: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n    → {self.hint}" if self.hint else ""
        return f"{self.code} {place}{self.message}{advice}"

    @property
    def text(self) -> Text:
        """The same, to be said in any language."""
        place = (self.where, ": ") if self.where else ()
        advice = ("\n    → ", self.hint) if self.hint else ()
        return joined((self.code, " ", *place, self.message, *advice), "")


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

    @property
    def text(self) -> str:
        """All that it says, to be kept: a text that can be said in any language, where every message of it is one."""
        if not all(isinstance(problem.message, Text) for problem in self.problems):
            return str(self)
        return joined((problem.text for problem in self.problems), "\n")


# What the system says most often of a file or a connection.
SYSTEM = (
    later("No such file or directory"), later("Permission denied"), later("Is a directory"), later("Not a directory"),
    later("File exists"), later("File name too long"), later("No space left on device"), later("Disk quota exceeded"),
    later("Read-only file system"), later("Input/output error"), later("Cannot allocate memory"), later("Broken pipe"),
    later("Connection refused"), later("Connection reset by peer"), later("Name or service not known"),
    later("Temporary failure in name resolution"), later("Network is unreachable"), later("No route to host"),
)  # fmt: skip


def system(error: Exception) -> str:
    """What the system says of a file, or whatever else an exception says of itself."""
    said = getattr(error, "strerror", None)
    return later(said) if said in SYSTEM else said or reason(error)


# What is said of want of memory by others than Python: the loader of libraries, C++, PyTorch, TensorFlow, JAX.
WANT_OF_MEMORY = (
    "failed to map segment", "cannot allocate memory", "can't allocate memory", "std::bad_alloc", "bad allocation",
    "out of memory", "unable to allocate", "resource_exhausted", "oom when allocating",
)  # fmt: skip


def says_want_of_memory(text: str) -> bool:
    """Whether somebody's words of what went wrong say that memory ran out."""
    return any(words in text.lower() for words in WANT_OF_MEMORY)


def is_want_of_memory(error: BaseException) -> bool:
    """Whether it went wrong because memory ran out, also where a library says so in an error of its own."""
    while error:
        known = (
            isinstance(error, OSError | ImportError | RuntimeError | SystemError)
            or type(error).__module__ != "builtins"
        )
        if isinstance(error, MemoryError) or (known and says_want_of_memory(str(error))):
            return True
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return False


def without(message: str, lead: str) -> str:
    """The {why} of a message that is made as `lead`, "cannot be used: {why}"; any other message as it is."""
    if isinstance(message, Text) and message.forms == (lead,):
        return reason(ValueError(message.values["why"]))
    return message.removeprefix(lead.removesuffix("{why}"))


def title(code: str) -> str:
    """What a code means, in the language in use."""
    return say(CODES[code])


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that proposes the nearest known word, or lists all of them."""
    known = list(known)
    if near := nearest(word, known):
        return later('did you mean "{word}"?', word=near)
    return later("known: {words}", words=", ".join(sorted(known)))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was perhaps meant, or ""."""
    by_letters = {name.lower(): name for name in known}
    return next((by_letters[name] for name in difflib.get_close_matches(word.lower(), by_letters, n=1, cutoff=0.6)), "")
