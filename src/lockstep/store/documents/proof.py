"""proof.json: verdicts, what they rest on, and every place where a backend is not what it should be.

Of format 1, in which a share was prose ("6 of 6"), documents are read too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from lockstep.store.documents.part import (
    Count,
    Grid,
    Index,
    Message,
    Messages,
    Number,
    Part,
    Series,
    Size,
    Words,
)
from lockstep.store.documents.run import Environment

FORMAT: Literal[2] = 2
FILE = "proof.json"

Verdict = Literal["IDENTICAL", "EQUAL", "INCONCLUSIVE", "DIVERGED", "ERROR"]


class Worst(Part):
    """The number of a stage that is furthest off."""

    stage: str = ""
    where: Message = ""
    step: int | None = None
    index: Index = ()
    size: Size | None = None
    tolerance: Size | None = None
    times_tolerance: Size | None = None
    problem: Message | None = None


class Stage(Part):
    """What was compared in one stage."""

    stage: str
    verdict: Verdict
    comparisons: Count = 0
    values: Count = 0
    worst: Worst | None = None


class Share(Part):
    """How many of how many."""

    judged: Count
    of: Count

    @model_validator(mode="before")
    @classmethod
    def _of_format_1(cls, value: Any) -> Any:
        found = re.fullmatch(r"(\d{1,15}) of (\d{1,15})", value) if isinstance(value, str) else None
        return {"judged": int(found[1]), "of": int(found[2])} if found else value


class Coverage(Part):
    """What was observed of one backend.

    `updates_within`: parameter → to within what part of its step its updates were judged, at best; None where the step
    is rounding alone. `in_float64` says whether the steps were taken in float64 too, because float32 is wide.
    """

    steps: Count | None = None
    updates_judged: Count | None = None
    late_steps: Count | None = None
    steps_with_layers_judged: Count | None = None
    epochs: Number | None = None
    layers: Share | None = None
    parameters: Share | None = None
    values: Count | None = None
    missing: Words = ()
    updates_within: Mapping[str, Size | None] = Field(default_factory=dict)
    in_float64: bool = False


class Data(Part):
    """The dataset of a certificate."""

    name: str = ""
    hashes: dict[str, str] = Field(default_factory=dict)


class Certificate(Part):
    """What was proven of one backend, with the digests by which a run is known to be the same."""

    verdict: Verdict
    backend: str
    versions: Mapping[str, str | None] = Field(default_factory=dict)
    dtype: str
    device: str | None = None
    threads: Count | None = None
    n_train: Count | None = None
    network: str
    recipe: str
    seed: int | None = None
    dataset: Data
    steps: Count | None = None
    values: Count | None = None
    worst: Worst | None = None
    missing: Words = ()


class Backend(Part):
    """One backend's verdict and what it rests on; `folder` where two run folders were compared."""

    backend: str
    verdict: Verdict
    reason: Message | None = None
    code: str | None = None
    versions: Mapping[str, str | None] = Field(default_factory=dict)
    judged_to: Count | None = None
    folder: str | None = None
    stages: tuple[Stage, ...] = ()
    coverage: Coverage = Coverage()
    trace: str | None = None
    certificate: Certificate | None = None


class Growth(Part):
    """How far each training is from the judge's: one number per step."""

    steps: Count
    loss: Series
    weights: Series
    undetermined: Words = ()


class Difference(Part):
    """A known difference, and how large it would have been in this proof, in tolerances; None is without bound."""

    cause: str
    what: str = ""
    stage: str = ""
    effect: Size | None = None
    is_seen: bool = False


class Suspicion(Part):
    """Why the judge himself is suspected, and of what."""

    stage: str = ""
    where: Message = ""
    step: int | None = None
    reason: Message = ""


class Network(Part):
    """One network, recipe, dataset and dtype, over its backends."""

    network: str
    dataset: str
    dtype: str
    seed: int | None = None
    grid: Grid = Field(default_factory=dict)
    n_train: Count | None = None
    batch_size: Count | None = None
    parameters: Count | None = None
    verdict: Verdict
    backends: tuple[Backend, ...]
    growth: Growth | None = None
    suspicion: Suspicion | None = None
    differences: tuple[Difference, ...] = ()
    blind: Words = ()


class Cause(Part):
    """What the catalogue says of a cause."""

    cause: str
    what: str = ""
    default_of: str = ""
    mend: str = ""


class Divergence(Part):
    """One place where a backend is not what it should be; `folder` where two run folders were compared."""

    network: str
    dataset: str = ""
    dtype: str = ""
    seed: int | None = None
    grid: Grid = Field(default_factory=dict)
    backend: str
    stage: str
    where: Message
    step: int | None = None
    steps: tuple[int | None, ...] = ()
    size: Size | None = None
    tolerance: Size | None = None
    times_tolerance: Size | None = None
    index: Index = ()
    found: Number | None = None
    wanted: Number | None = None
    problem: Message | None = None
    causes: Words = ()
    bundle: str | None = None
    explained: tuple[Cause, ...] = ()
    folder: str | None = None


class Cost(Part):
    """What a planted difference costs: the ends of two trainings."""

    network: str
    backend: str
    plants: Words = ()
    accuracy: Number | None = None
    planted_accuracy: Number | None = None
    loss: Number | None = None
    planted_loss: Number | None = None


class Observed(Part):
    """What was observed of everything that was asked."""

    networks: Count = 0
    traces_asked: Count = 0
    traces_judged: Count = 0
    values: Count = 0
    not_observed: Messages = ()


class Previous(Part):
    """The proof of before, which was kept because this one could not observe everything."""

    file: str
    verdict: Verdict
    proven: str | None = None


class Proof(Part):
    """proof.json, proof-planted.json, and the document of two run folders (`first` and `second`)."""

    format: Literal[1, 2]
    study: str = ""
    verdict: Verdict
    first: str | None = None
    second: str | None = None
    claim: Message = ""
    steps: Count = 0
    planted: Words = ()
    not_found: Words = ()
    first_different_bits: Message | None = None
    coverage: Observed = Observed()
    networks: tuple[Network, ...]
    divergences: tuple[Divergence, ...] = ()
    lockstep: str | None = None
    git_revision: str | None = None
    machine: Environment = Environment()
    threads: Count | None = None
    proven: str | None = None
    seconds: Number | None = None
    lockstep_sources: str | None = None
    previous: Previous | None = None
    cost: tuple[Cost, ...] = ()

    @property
    def is_comparison(self) -> bool:
        """Whether two run folders were compared, and no study was proven."""
        return self.second is not None

    @property
    def rows(self) -> list[Backend]:
        """Every backend of every network."""
        return [row for network in self.networks for row in network.backends]


def read_proof(folder: Path) -> Proof:
    """The proof that lies in a study's folder; raises LockstepError (LS-505)."""
    return Proof.read(folder / FILE)
