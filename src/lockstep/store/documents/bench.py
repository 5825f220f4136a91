"""bench.json: times that may be ranked, with everything that they rest on; faults.json: what mistakes make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from pydantic import Field

from lockstep.store.documents.part import Count, Message, Messages, Number, Part
from lockstep.store.documents.run import Environment, Threads

FORMAT = 1
FILE = "bench.json"


class Lap(Part):
    """One training in a fresh process, of a backend or of a baseline, which leaves it as shipped.json.

    `seconds` by clock, `epochs` the seconds of each; `images` are those of one epoch.
    """

    seconds: dict[str, float | None]
    epochs: tuple[float, ...] = Field(min_length=1)
    images: Count
    accuracy: Number
    peak_memory_bytes: Count | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    threads: Threads = Threads()

    @property
    def steady(self) -> float:
        """Seconds of one epoch after the first, in which caches fill and lazy things happen: their median."""
        return median(self.epochs[1:] or self.epochs)


Laps = Mapping[str, Sequence[Lap | None]]  # an entry's key → its lap of each round, None where it failed


class Middle(Part):
    """A median with its bootstrap interval; none below five values."""

    median: Number
    low: Number | None = None
    high: Number | None = None
    n: Count = 0


class Proven(Part):
    """What a proof says of what was timed."""

    verdict: str
    steps: Count = 0
    values: Count = 0


class Row(Part):
    """One entry of one network; `laps` are its seconds an epoch, round by round."""

    entry: str
    name: str = ""
    is_shipped: bool = False
    n: Count
    epoch: Middle
    images_per_second: Middle
    images: Count = 0
    seconds: dict[str, Middle] = Field(default_factory=dict)
    peak_memory_bytes: Number | None = None
    accuracy: Number | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    threads: Threads = Threads()
    proof: Proven | None = None
    laps: tuple[Number, ...] = ()
    together: Count = 1


class Ratio(Middle):
    """How many times as long one takes per image as another."""

    entry: str
    is_shipped: bool = False
    over: str


class Products(Middle):
    """How many times as long the fastest backend takes as its matrix products would at the rate of a large one."""

    flops: Count = 0
    peak: Middle
    seconds: Middle
    entry: str


class Network(Part):
    """What was timed of one network."""

    network: str
    dataset: str | None = None
    dtype: str | None = None
    batch_size: Count | None = None
    rows: tuple[Row, ...] = ()
    failed: tuple[str, ...] = ()
    ranking: tuple[tuple[str, ...], ...] = ()
    ratios: tuple[Ratio, ...] = ()
    products: Products | None = None


class LeftOut(Part):
    """What was not timed, and why."""

    network: str
    entry: str
    is_shipped: bool = False
    reason: Message


class Noise(Part):
    """How quiet the machine was."""

    load: Number | None = None
    spread: Number | None = None
    warnings: Messages = ()


class Measured(Part):
    """What a document of times says of itself."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    study: str = ""
    rounds: Count
    epochs: Count
    threads: Count
    noise: Noise = Noise()
    machine: Environment = Environment()
    seconds: Number | None = None
    lockstep: str | None = None
    git_revision: str | None = None
    measured: str | None = None


class Bench(Measured):
    """bench.json."""

    networks: tuple[Network, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


class Fault(Middle):
    """What one mistake would report of an entry, as a multiple of what is so; `worst` of all its laps."""

    fault: str
    what: Message
    network: str
    entry: str
    is_shipped: bool = False
    worst: Number


class Faults(Measured):
    """faults.json."""

    faults: tuple[Fault, ...] = ()


def read_bench(folder: Path) -> Bench:
    """The bench that lies in a study's folder; raises LockstepError (LS-505)."""
    return Bench.read(folder / FILE)
