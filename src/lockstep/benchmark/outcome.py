"""The file that a bench, or one of faults, leaves: known to be writable before hours of laps, kept when interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lockstep.benchmark import benches
from lockstep.store.documents.bench import Bench, Faults


class Outcome:
    """The record of a bench in its study's folder, and whether the bench was interrupted. Listens to its events."""

    def __init__(self, study_folder: Path, is_of_faults: bool = False) -> None:
        """Raises LockstepError where the record could not be written: before hours of laps."""
        self.path = study_folder / ("faults.json" if is_of_faults else "bench.json")
        self.code: int | None = None  # with which the command has to end that was interrupted
        benches.ready(self.path)

    def listening(self, tell: benches.Tell) -> benches.Tell:
        """Let `tell` hear every event, and note an interruption."""

        def hear(event: dict[str, Any]) -> None:
            if event["event"] == "interrupted":
                self.code = event["code"]
            tell(event)

        return hear

    def keep(self, found: Bench | Faults) -> Path:
        """Write the record and return where; raises as `benches.keep`."""
        return benches.keep(found, self.path, self.code is not None)
