"""What diff.json holds of two models of people's own: differences, causes, the lines to write instead.

Beside what differs stands what was looked at: the stages with their counts, and the calls of both models with those
that are the same, from which the page draws them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from lockstep.language import later
from lockstep.store.documents.part import Count, Index, Message, Messages, Part, Size, Sizes, Words

FORMAT: Literal[2] = 2

Verdict = Literal["EQUAL", "INCONCLUSIVE", "DIVERGED"]
PASSES = (later("forward"), later("forward in training"), later("statistics"), later("gradients"))
STAGES = (
    later("weights"), *PASSES, later("loss"), later("optimizer"), later("schedule"), later("steps"), later("dropout"),
    later("data"), later("starting weights"),
)  # fmt: skip


class Remedy(Part):
    """A line of a file and what to write there."""

    file: str
    line: Count
    before: str
    after: str
    end: Count = 0  # the last line of what stands there, where that is more than one


class Spot(Part):
    """Where a difference lies in both models; `call_a` and `call_b` are places in `Graph.a` and `Graph.b`."""

    a: str
    b: str
    line_a: str
    line_b: str
    call_a: Count | None = None
    call_b: Count | None = None


class Finding(Part):
    """One difference: what each side does, where, how far it takes them apart, and what to write instead."""

    stage: str
    cause: Message = ""  # a sentence; "" where nothing that was tried explains it
    meaning: str = ""
    a: Any = None
    b: Any = None
    places: tuple[Spot, ...]
    off: Size | None = None  # the largest difference that it makes at its first place; None: no number says it
    error: Size | None = None  # what is left of it when it is put right; None: it could not be put right
    remedies: tuple[Remedy, ...] = ()
    bundle: str | None = None  # the folder that repeats it alone

    @field_validator("off", "error", mode="before")
    @classmethod
    def _of_numbers(cls, value: Any) -> Any:
        """What is not finite says no size."""
        return None if value is None or not math.isfinite(value) else value


class Closing(Part):
    """What came out when the remedies were written into a copy of the second model's file."""

    verdict: Literal["EQUAL", "INCONCLUSIVE", "DIVERGED", "ERROR"]  # ERROR where the copy could not be compared
    n_written: Count
    left: Messages = ()  # causes that are there still; or why it could not be compared


class Stage(Part):
    """What was compared in one stage, with the causes found before it put right: so many equal of so many."""

    stage: str
    verdict: Verdict
    equal: Count
    of: Count
    what: Message = ""  # that is counted: tensors, parameters


class Model(Part):
    """One of the two models, and the file that it was made from."""

    framework: str
    version: str = ""
    digest: str = ""  # SHA-256 of the file
    parameters: Count | None = None
    input_shape: Sizes = ()  # of one example, as this model takes it


class Call(Part):
    """A call of a model: `inputs` are places of earlier ones in its list, -1 for the model's input."""

    kind: str  # what it is in every framework: "conv", "batch_norm" …; else the function's last name
    function: str  # as the framework calls it
    layer: str = ""  # the path of the layer at work
    line: str = ""
    shape: Sizes = ()
    inputs: Index = ()

    @property
    def title(self) -> str:
        """As a finding names it."""
        return self.layer or self.function


class Graph(Part):
    """The calls of both models in their order, and the places (in `a`, in `b`) that give the same numbers."""

    a: tuple[Call, ...] = ()
    b: tuple[Call, ...] = ()
    joined: tuple[tuple[Count, Count], ...] = ()


class Comparison(Part):
    """What `lockstep diff` found, as data; `difference.Difference` is the same with its words."""

    format: Literal[2]
    lockstep: str | None = None
    a: str
    b: str
    frameworks: tuple[str, str]
    verdict: Verdict
    findings: tuple[Finding, ...]
    pairs: tuple[tuple[str, str], ...]  # names of parameters, of the first and of the second
    left: tuple[Words, Words]
    n_matched: Count  # tensors of the first model that the second one has too, with all causes put right
    n_tensors: Count
    worst: Size | None  # of the outputs, in units of what they may be off, with all causes put right
    not_observed: Messages
    input_shape: Sizes
    n_examples: Count | None = None
    weights: str = ""
    seed: int | None = None
    stages: tuple[Stage, ...] = ()
    doubts: Messages = ()  # why equal outputs prove nothing here, where they do not
    carried: Messages = ()  # how weights were carried over, where that is no matter of their layout alone
    closing: Closing | None = None  # None where there was no remedy to write
    models: tuple[Model, ...] = ()
    graph: Graph = Field(default_factory=Graph)

    @model_validator(mode="before")
    @classmethod
    def _of_this_format(cls, value: Any) -> Any:
        """Say of an older document, or of another command's, what it is: nothing of it could be shown."""
        if isinstance(value, Mapping) and not {"findings", "frameworks"} <= value.keys():
            raise ValueError(later("it is no document of lockstep diff"))
        if isinstance(value, Mapping) and value.get("format") != FORMAT:
            raise ValueError(
                later("it is of format {found}, and {known} is read", found=value.get("format"), known=FORMAT)
            )
        return value

    @property
    def equal(self) -> bool:
        """Whether no difference was found in all that was looked at."""
        return self.verdict == "EQUAL"

    @property
    def mapping(self) -> dict[str, str]:
        """A parameter of the first model → that of the second which holds the same."""
        return dict(self.pairs)

    @property
    def coverage(self) -> dict[str, tuple[int, int]]:
        """Stage → how much was compared and found equal, of how much."""
        return {stage.stage: (stage.equal, stage.of) for stage in self.stages}
