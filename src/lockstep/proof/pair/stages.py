"""What the stages of training have in common: who is compared, what is told of a difference, what a number may be off.

A stage is a module that asks both sides for the same thing and answers with a `Told`. Its numbers are judged as tensors
are (see `alignment`): by what each side's own float32 is off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.exchange.models.training import Part
from lockstep.language import later
from lockstep.proof.pair import client, rewrites
from lockstep.proof.pair.party import Parties
from lockstep.store.documents.comparison import Verdict
from lockstep.store.documents.difference import Finding, Remedy, Spot, Stage

Parts = Sequence[Mapping[str, Part]]  # of both sides
Tell = Callable[[str], None]


@dataclasses.dataclass
class Told:
    """What a stage found, and how much of it was compared."""

    findings: list[Finding] = dataclasses.field(default_factory=list)
    stages: list[Stage] = dataclasses.field(default_factory=list)
    not_observed: list[str] = dataclasses.field(default_factory=list)

    def add(self, other: Told) -> None:
        """Put what another stage told behind this."""
        self.findings += other.findings
        self.stages += other.stages
        self.not_observed += other.not_observed

    def count(self, stage: str, equal: int, of: int, what: str) -> None:
        """Say how much of a stage was compared and is equal."""
        is_bad = any(each.stage == stage for each in self.findings)
        verdict: Verdict = "DIVERGED" if is_bad else "EQUAL" if 0 < equal == of else "INCONCLUSIVE"
        self.stages.append(Stage(stage=stage, verdict=verdict, equal=equal, of=of, what=what))


def finding(
    stage: str, spot: Spot, *, cause: str = "", meaning: str = "", values: tuple[Any, Any] = (None, None),
    off: float = np.inf, error: float = np.inf, lines: Sequence[Remedy | None] = (),
) -> Finding:  # fmt: skip
    """A difference as the document has it; without a cause it is one that nothing explains."""
    return Finding(
        stage=stage, cause=cause, meaning=meaning, a=values[0], b=values[1], places=(spot,), off=off, error=error,
        remedies=tuple(line for line in lines if line is not None),
    )  # fmt: skip


def spot_of(a: Part, b: Part) -> Spot:
    """Where a part lies in both files."""
    names = [part.function or part.name for part in (a, b)]
    return Spot(a=names[0], b=names[1], line_a=client.shown(a.where), line_b=client.shown(b.where))


def remedy(part: Part, argument: str, value: Any) -> Remedy | None:
    """The line that makes a part, with an argument put to a value."""
    callee = part.function.rpartition(".")[2] or part.name
    first = ("params",) if part.function.startswith("torch.optim.") else ()
    names = (*first, *part.arguments)
    return rewrites.argument(part.where.file, part.where.line, callee, argument, value, names).remedy()


def missing(parts: Parts, part: str, parties: Parties) -> str | None:
    """What to say where one of the files has no such part; None where both have it."""
    absent = [str(party.exact.asked) for own, party in zip(parts, parties, strict=True) if part not in own]
    if not absent:
        return None
    return later("{part}: there is none in {files} (name it with --{option})", part=part, files=", ".join(absent),
                 option=part.replace("_", "-"))  # fmt: skip


def off(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference of two arrays; infinite where their shapes differ or one alone is not finite."""
    if a.shape != b.shape:
        return np.inf
    with np.errstate(invalid="ignore"):
        difference = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return float(np.where(same, 0.0, np.where(np.isnan(difference), np.inf, difference)).max(initial=0.0))


def number(value: float) -> str:
    """A number as it is told: so many digits that two that differ look different."""
    return f"{value:.9g}"
