"""diff.json: what `lockstep diff` found, which says itself: at a prompt, in a notebook, in an assertion's message."""

from __future__ import annotations

from pathlib import Path

from lockstep.store import prose
from lockstep.store.documents.comparison import (
    FORMAT,
    PASSES,
    Call,
    Closing,
    Comparison,
    Finding,
    Graph,
    Model,
    Remedy,
    Spot,
    Stage,
)

__all__ = [
    "FILE",
    "FORMAT",
    "PASSES",
    "Call",
    "Closing",
    "Comparison",
    "Difference",
    "Finding",
    "Graph",
    "Model",
    "Remedy",
    "Spot",
    "Stage",
    "read_difference",
]

FILE = "diff.json"


class Difference(Comparison):
    """What `lockstep diff` found. Printed it reads as on the terminal, in a notebook as a table."""

    def __str__(self) -> str:
        return prose.as_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return prose.as_html(self)


def read_difference(path: Path) -> Difference:
    """The document of a file, or of a folder's diff.json; raises LockstepError (LS-505)."""
    return Difference.read(path / FILE if path.is_dir() else path)
