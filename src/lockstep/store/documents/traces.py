"""manifest.json of a trace: what was looked at of which steps, and the hashes of the files that hold it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lockstep.language import later
from lockstep.store.documents.part import Count, Number, Part, Sizes

FORMAT: Literal[2] = 2
FILE = "manifest.json"


class Listed(Part):
    """A file as a manifest lists it."""

    bytes: Count
    sha256: str


class Manifest(Part):
    """manifest.json; `late` are the last steps of the schedule, which are kept and observed too.

    `reported_losses` holds one number an epoch, None for one that is not finite.
    """

    format: Literal[2]
    steps: int = Field(ge=1)
    kept: Sizes
    observed: Sizes
    late: Sizes
    dtype: str = Field(pattern="^float(32|64)$")
    input_shape: Sizes
    mean: tuple[Number, ...]
    scale: tuple[Number, ...]
    n_train: int = Field(ge=1)
    steps_per_epoch: int = Field(ge=1)
    reported_losses: tuple[Number | None, ...]
    files: dict[str, Listed]
    described_by: dict[str, str]

    @model_validator(mode="after")
    def _of_steps_that_were_taken(self) -> Manifest:
        kept, observed, late = set(self.kept), set(self.observed), set(self.late)
        is_late = all(step >= self.steps for step in late) and late <= kept
        if not (observed <= kept and is_late and max(kept - late, default=-1) < self.steps):
            raise ValueError(later('"kept" holds steps that were not taken, or "observed" some that were not kept'))
        return self
