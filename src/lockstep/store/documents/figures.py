"""figures.json: which figures of a page lie beside it as files, and a sentence on what each shows."""

from __future__ import annotations

from pydantic import Field

from lockstep.store.documents.part import Part

FORMAT = 1
FILE = "figures.json"


class Figures(Part):
    """figures.json: name of a figure → its sentence."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    figures: dict[str, str]
