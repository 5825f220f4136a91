"""What `lockstep diff` found of two models of people's own: differences, their causes, the lines to write instead."""

from __future__ import annotations

import dataclasses
from typing import Any

from lockstep.version import version

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Remedy:
    """A line of a file and what to write there."""

    file: str
    line: int
    before: str
    after: str
    end: int = 0  # the last line of what stands there, where that is more than one


@dataclasses.dataclass(frozen=True)
class Spot:
    """Where a difference lies in both models."""

    a: str
    b: str
    line_a: str
    line_b: str


@dataclasses.dataclass
class Finding:
    """One difference: what each side does, where, how far it takes them apart, and what to write instead."""

    stage: str
    cause: str  # a sentence; "" where nothing that was tried explains it
    meaning: str
    a: Any
    b: Any
    places: list[Spot]
    off: float  # the largest difference that it makes at its first place
    error: float  # what is left of it when it is put right
    remedies: list[Remedy] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Closing:
    """What came out when the remedies were written into a copy of the second model's file."""

    verdict: str  # as of a Difference; ERROR where the copy could not be compared
    n_written: int
    left: tuple[str, ...] = ()  # causes that are there still; or why it could not be compared


@dataclasses.dataclass(frozen=True)
class Difference:
    """What `lockstep diff` found."""

    a: str
    b: str
    frameworks: tuple[str, str]
    verdict: str  # EQUAL, DIVERGED, INCONCLUSIVE
    findings: tuple[Finding, ...]
    pairs: tuple[tuple[str, str], ...]  # names of parameters, of the first and of the second
    left: tuple[tuple[str, ...], tuple[str, ...]]
    n_matched: int  # tensors of the first model that the second one has too, with all causes put right
    n_tensors: int
    worst: float  # of the outputs, in units of what they may be off, with all causes put right
    not_observed: tuple[str, ...]
    input_shape: tuple[int, ...]
    doubts: tuple[str, ...] = ()  # why equal outputs prove nothing here, where they do not
    carried: tuple[str, ...] = ()  # how weights were carried over, where that is no matter of their layout alone
    closing: Closing | None = None  # None where there was no remedy to write

    @property
    def equal(self) -> bool:
        """Whether no difference was found in all that was looked at."""
        return self.verdict == "EQUAL"

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {"format": FORMAT, "lockstep": version(), **dataclasses.asdict(self)}
