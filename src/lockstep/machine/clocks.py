"""The stopwatch: seconds by name, of this process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clocks:
    """Seconds by name; a name that is measured again adds up."""

    def __init__(self) -> None:
        """Start the clock of the whole."""
        self.start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add what the block takes to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def add(self, name: str, seconds: float) -> None:
        """Add what somebody else has measured."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def total(self) -> float:
        """Seconds since this was made."""
        return time.perf_counter() - self.start
