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
class Stage:
    """What was compared in one stage, with the causes found before it put right: so many equal of so many."""

    stage: str
    verdict: str  # EQUAL, DIVERGED, INCONCLUSIVE
    equal: int
    of: int
    what: str = ""  # that is counted


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
    stages: tuple[Stage, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether no difference was found in all that was looked at."""
        return self.verdict == "EQUAL"

    def to_json(self) -> dict[str, Any]:
        """The document."""
        return {"format": FORMAT, "lockstep": version(), **dataclasses.asdict(self)}
