"""gradients.json: are each backend's gradients the slopes of its loss? derivatives.json: what one worker found."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from lockstep.store.documents.part import Count, Grid, Index, Message, Number, Part, Size
from lockstep.store.documents.proof import Verdict
from lockstep.store.documents.run import Environment

FORMAT: Literal[1] = 1
FILE = "gradients.json"


class Parameter(Part):
    """One parameter: how many of its gradients were compared, how many left out at kinks, and the worst of them.

    `seen`: the smallest relative error that would have been seen. A number that is not finite is None.
    """

    parameter: str
    gradients: Count
    left_out: Count = 0
    at: Index | None = None
    gradient: Number | None = None
    slope: Number | None = None
    off: Size | None = None
    room: Size | None = None
    seen: Size | None = None

    @property
    def times_tolerance(self) -> float:
        """How far the worst gradient is off, in tolerances; infinite where it is no number."""
        return math.inf if self.off is None or not self.room else self.off / self.room

    @property
    def is_wrong(self) -> bool:
        """Whether a gradient was compared that is no slope."""
        return self.gradients > 0 and (self.off is None or self.room is None or self.off > self.room)


class Derivatives(Part):
    """derivatives.json."""

    rows: tuple[Parameter, ...]


class Backend(Part):
    """One backend's verdict."""

    backend: str
    code: str | None = None
    reason: Message | None = None
    parameters: tuple[Parameter, ...] = ()
    verdict: Verdict

    @property
    def wrong(self) -> tuple[Parameter, ...]:
        """The parameters whose gradient is no slope."""
        return tuple(one for one in self.parameters if one.is_wrong)


class Network(Part):
    """One network, recipe and dataset, over its backends."""

    network: str
    dataset: str
    grid: Grid = Field(default_factory=dict)
    backends: tuple[Backend, ...]


class Gradients(Part):
    """gradients.json; `images` are compared on, `step` is the h of the central differences."""

    format: Literal[1]
    study: str
    verdict: Verdict
    networks: tuple[Network, ...]
    images: Count
    step: Number
    lockstep: str | None = None
    git_revision: str | None = None
    machine: Environment = Environment()
    threads: Count | None = None
    proven: str | None = None

    @property
    def rows(self) -> list[Backend]:
        """Every backend of every network."""
        return [row for network in self.networks for row in network.backends]
