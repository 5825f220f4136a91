"""What `lockstep bench` measured for a study: times that may be ranked, with everything that they rest on.

bench.json lies beside the study's runs. A time without its machine, threads, versions, repetitions and interval is not
printed, and entries whose intervals overlap are not ranked.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.report.facts import Count, Part, Threads, why_unsound
from lockstep.report.numbers import MISSING, column, fixed, listed, percent
from lockstep.report.table import Table

FORMAT = 1
ENOUGH = 5  # rounds below which nothing is ranked
MEBIBYTE = 2**20
CLOCKS = ("import", "build", "compile", "evaluate")


class Middle(Part):
    """A median with its bootstrap interval; none below five values."""

    median: float
    low: float | None = None
    high: float | None = None
    n: Count = 0


class Verdict(Part):
    """What a proof says of what was timed."""

    verdict: str
    steps: Count = 0


class Row(Part):
    """One entry of one network."""

    entry: str
    is_shipped: bool = False
    n: Count
    epoch: Middle
    images_per_second: Middle
    seconds: dict[str, Middle] = Field(default_factory=dict)
    peak_memory_bytes: float | None = None
    accuracy: float | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    threads: Threads = Threads()
    proof: Verdict | None = None


class Ratio(Part):
    """How many times as long one takes per image as another."""

    entry: str
    is_shipped: bool = False
    over: str
    median: float
    low: float | None = None
    high: float | None = None
    n: Count = 0


class Network(Part):
    """What was timed of one network."""

    network: str
    dataset: str | None = None
    dtype: str | None = None
    batch_size: Count | None = None
    rows: tuple[Row, ...] = ()
    ranking: tuple[tuple[str, ...], ...] = ()
    ratios: tuple[Ratio, ...] = ()


class LeftOut(Part):
    """What was not timed, and why."""

    network: str
    entry: str
    is_shipped: bool = False
    reason: str


class Noise(Part):
    """How quiet the machine was."""

    load: float | None = None
    spread: float | None = None
    warnings: tuple[str, ...] = ()


class Machine(Part):
    """What it was measured on."""

    cpu: str | None = None
    cores: Count | None = None
    platform: str | None = None


class Bench(Part):
    """bench.json."""

    format: int = Field(ge=FORMAT, le=FORMAT)
    study: str = ""
    rounds: Count
    epochs: Count
    threads: Count
    networks: tuple[Network, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    noise: Noise = Noise()
    machine: Machine = Machine()
    lockstep: str | None = None
    measured: str | None = None


def read(folder: Path) -> tuple[Bench | None, str]:
    """(the bench of a study's folder, why it cannot be used); (None, "") where there is none."""
    if not (folder / "bench.json").exists():
        return None, ""
    try:
        return Bench.model_validate(store.read_json(folder / "bench.json")), ""
    except (LockstepError, ValidationError) as error:
        return None, f"{folder.name}/bench.json: {why_unsound(error)}."


def tell(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Every study's bench as plain data; a study without one has no entry."""
    found = []
    for folder in folders:
        bench, gap = read(folder)
        if bench:
            found.append(_tell(bench))
        elif gap:
            found.append({"study": folder.name, "gap": gap, "fairness": [], "networks": [], "left_out": []})
    return found


def _tell(bench: Bench) -> dict[str, Any]:
    return {
        "study": bench.study,
        "gap": "",
        "fairness": _fairness(bench),
        "networks": [_network(network, bench.rounds) for network in bench.networks if network.rows],
        "left_out": [f"{_named(row)}, {row.network}: {row.reason}" for row in bench.left_out],
    }


def _fairness(bench: Bench) -> list[str]:
    """What these times rest on, a sentence each."""
    machine, noise = bench.machine, bench.noise
    rows = [row for network in bench.networks for row in network.rows]
    versions = {name: number for row in rows for name, number in row.versions.items()}
    obtained = [str(n) for n in sorted({row.threads.obtained for row in rows if row.threads.obtained})]
    lines = [
        f"{bench.rounds} rounds (n), each with every entry once in a fresh process, in a new order. The interval is "
        "the bootstrap’s, of the median; there is none below five.",
        f"{bench.epochs} epochs each, of which the first warms up and is not counted; data in memory before.",
        f"{bench.threads} threads asked for" + (f", {listed(obtained)} obtained." if obtained else "."),
        f"Machine: {machine.cpu or MISSING}, {machine.cores or MISSING} cores, {machine.platform or MISSING}.",
        "Before it began: load average "
        + f"{fixed(noise.load, 2)}, and a fixed piece of work spread by {percent(noise.spread, 1)} %.",
        "Versions: " + (", ".join(f"{name} {number}" for name, number in sorted(versions.items())) or MISSING) + ".",
    ]
    if bench.lockstep or bench.measured:
        lines.append(f"Measured by Lockstep {bench.lockstep or MISSING}, {bench.measured or MISSING}.")
    return lines + [f"Warning: {text}." for text in noise.warnings]


def _network(network: Network, rounds: int) -> dict[str, Any]:
    rows = sorted(network.rows, key=lambda row: row.epoch.median)
    places = column([value for row in rows for value in (row.epoch.median, row.epoch.low, row.epoch.high)])
    clocks = {
        clock: column([row.seconds[clock].median if clock in row.seconds else None for row in rows]) for clock in CLOCKS
    }
    body = [
        [
            _named(row), places[3 * n], _interval(places[3 * n + 1], places[3 * n + 2]), str(row.n),
            fixed(row.images_per_second.median, 0), *(clocks[clock][n] for clock in CLOCKS),
            fixed(row.peak_memory_bytes / MEBIBYTE if row.peak_memory_bytes else None, 0), percent(row.accuracy, 2),
            _proven(row),
        ]
        for n, row in enumerate(rows)
    ]  # fmt: skip
    titles = ("Epoch (s)", "95 % interval", "n", "Images/s", *(f"{clock.capitalize()} (s)" for clock in CLOCKS))
    columns = [("", "l"), *((title, "r") for title in (*titles, "Peak memory (MiB)", "Accuracy (%)")), ("Proof", "l")]
    about = [f"batch {network.batch_size}" if network.batch_size else "", network.dtype or ""]
    caption = (
        f"{network.network} on {network.dataset or MISSING} ({', '.join(filter(None, about))}): medians over rounds"
    )
    return {
        "title": network.network,
        "table": Table(caption, columns, body),
        "ranking": f"{network.network}: {ranked([list(names) for names in network.ranking], rounds)}.",
        "ratios": _ratios(network),
    }


def _ratios(network: Network) -> Table | None:
    rows = [
        [_named(row), row.over, fixed(row.median, 2), _interval(fixed(row.low, 2), fixed(row.high, 2)), str(row.n)]
        for row in network.ratios
    ]
    columns = [("Of", "l"), ("Over", "l"), ("Times as long", "r"), ("95 % interval", "r"), ("n", "r")]
    caption = f"{network.network}: how many times as long per image, round by round, the median"
    return Table(caption, columns, rows) if rows else None


def _named(row: Row | Ratio | LeftOut) -> str:
    return f"{row.entry}{' (as shipped)' if row.is_shipped else ''}"


def _interval(low: str, high: str) -> str:
    return MISSING if MISSING in (low, high) else f"{low} to {high}"


def _proven(row: Row) -> str:
    if row.proof:
        return f"{row.proof.verdict}, {row.proof.steps} steps"
    return MISSING if row.is_shipped else "not proven"


def ranked(groups: Sequence[Sequence[str]], rounds: int) -> str:
    """A ranking in words: entries from the fastest to the slowest; those of one group cannot be told apart."""
    if not groups:
        return "nothing to rank"
    if rounds < ENOUGH:
        return "cannot be ranked: fewer than five rounds give no interval"
    if len(groups) == 1 and len(groups[0]) > 1:
        return "cannot be ranked: the intervals overlap"
    return "fastest first: " + " < ".join(
        names[0] if len(names) == 1 else f"[{', '.join(names)}: cannot be ranked among themselves]" for names in groups
    )
