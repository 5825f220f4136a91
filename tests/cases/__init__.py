"""Public cases of two models that should have been the same, rebuilt small: `cd tests; python -m cases [NAME …]`.

One folder each: two files, whose heads name the source, and `right.json`, which says what is right: the verdict, and of
each difference its cause, by the name that the document has for it ("unexplained" where no name is asked for), and a
part of the line in both files. A case is *placed* where every difference of `right.json` has a finding at its lines,
*named* where that finding also has its cause, and *wrong* where any finding has a cause that the case does not have.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from lockstep.proof.pair import difference
from lockstep.store.documents.difference import Difference, Finding, Spot

FOLDER = Path(__file__).parent
BACKENDS = {"torch": "torch", "keras": "tensorflow", "flax": "jax", "numpy": "numpy"}  # by a word of a file's name
SAME = {"padding": "pads"}  # an argument of that name, and zeros that were put there by hand


@dataclasses.dataclass(frozen=True)
class Case:
    """A folder of two models."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def right(self) -> dict[str, Any]:
        return json.loads((self.folder / "right.json").read_text(encoding="utf-8"))

    @property
    def models(self) -> list[str]:
        return [str(self.folder / model) for model in self.right["models"]]

    @property
    def backends(self) -> set[str]:
        """The backends whose frameworks it needs."""
        words = {word for model in self.right["models"] for word in model.partition(".")[0].split("_")}
        return {backend for word, backend in BACKENDS.items() if word in words}

    @property
    def command(self) -> str:
        """As a person types it."""
        models = [f"tests/cases/{self.name}/{model}" for model in self.right["models"]]
        return " ".join(["lockstep diff", *models, *self.right["options"]])

    def found(self) -> Difference:
        """What the comparison says of it."""
        options = self.right["options"]
        given = dict(zip(options[::2], options[1::2], strict=True))
        shape = given.get("--input")
        return difference.compare(
            *self.models,
            weights=given.get("--weights", "drawn"),
            input_shape=None if shape is None else [int(size) for size in shape.split(",")],
        )

    def judged(self, found: Difference) -> Judged:
        """The comparison's answer beside what is right."""
        wanted = self.right["differences"]
        placed = [[finding for finding in found.findings if self._is_at(finding, each)] for each in wanted]
        names = {each["cause"] for each in wanted}
        named = [each["cause"] in map(name_of, there) for each, there in zip(wanted, placed, strict=True)]
        wrong = [name for name in map(name_of, found.findings) if name not in (*names, "unexplained")]
        is_told = self.right.get("carried", "") in " ".join(map(str, found.carried))
        is_placed = found.verdict == self.right["verdict"] and all(placed) and is_told
        return Judged(self, found, is_placed, is_placed and all(named), tuple(wrong))

    def _is_at(self, finding: Finding, wanted: dict[str, str]) -> bool:
        return any(
            all(any(part in self._line(side, spot) for part in parts(wanted[side])) for side in "ab")
            for spot in finding.places
        )

    def _line(self, side: str, spot: Spot) -> str:
        """The line of a person's file that a finding points at."""
        file, _colon, line = (spot.line_a if side == "a" else spot.line_b).rpartition(":")
        path = self.folder / file
        if not file or not path.is_file():
            return ""
        return path.read_text(encoding="utf-8").splitlines()[int(line) - 1]


def parts(wanted: str | list[str]) -> list[str]:
    """Parts of a line, of which one must be in it: where a border is put by hand, that line is as right."""
    return [wanted] if isinstance(wanted, str) else wanted


def name_of(finding: Finding) -> str:
    """The cause of a finding, by one name."""
    return SAME.get(finding.meaning, finding.meaning) or "unexplained"


@dataclasses.dataclass(frozen=True)
class Judged:
    """What came out of a case."""

    case: Case
    found: Difference
    is_placed: bool
    is_named: bool
    wrong: tuple[str, ...]  # causes that the case does not have

    def row(self) -> str:
        marks = ["placed" if self.is_placed else "–", "named" if self.is_named else "–", ", ".join(self.wrong) or "–"]
        causes = ", ".join(map(name_of, self.found.findings)) or "–"
        return " | ".join([self.case.name, self.case.right["source"], self.found.verdict, causes, *marks])


def cases(names: list[str] | None = None) -> list[Case]:
    """All of them, or those of these names."""
    folders = sorted(path.parent for path in FOLDER.glob("*/right.json"))
    return [Case(folder) for folder in folders if not names or folder.name in names]
