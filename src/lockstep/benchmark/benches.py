"""The bench: how long training takes, measured so that a ranking means something.

    fresh process     each lap, so that nobody profits from another's warm caches, allocator or clock
    interleaved       every entry once per round, in an order drawn anew for each round: drift hits all alike
    the same          threads, affinity, dtype, images, batches, optimizer, number of epochs
    medians           over rounds, with a bootstrap interval and n; a ratio is taken round by round, then its median
    no ranking        of entries whose intervals overlap, nor of fewer than five rounds

An entry is a backend of ours (a run as `lockstep run` does it, without its first epoch) or one of the `baselines`. A
backend's row carries the certificate of the study's proof where that is of this network, recipe, dtype and version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import statistics as plain
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends, data, randomness, store, study, uncertainty
from lockstep.benchmark import baselines, roofline
from lockstep.errors import LockstepError
from lockstep.files import disk
from lockstep.language import later
from lockstep.machine import cores, description, sources, workers
from lockstep.spec import Run, Study
from lockstep.spec.records import changed, digest
from lockstep.spec.toml import resolved_toml
from lockstep.store.documents.bench import (
    FORMAT,
    Bench,
    Faults,
    Lap,
    Laps,
    LeftOut,
    Middle,
    Network,
    Noise,
    Products,
    Proven,
    Ratio,
    Row,
)
from lockstep.store.documents.proof import Certificate, read_proof
from lockstep.store.documents.run import Environment, Metrics, Timing
from lockstep.study import crews, places
from lockstep.study.places import local
from lockstep.version import version

ROUNDS = 5
EPOCHS = 3
MOST_ROUNDS = 1000
CLOCKS = ("import", "build", "compile", "train", "evaluate", "total")
BUSY = 0.5  # a load average above this, before anything starts, is somebody else's work
UNSTEADY = 0.1  # and a fixed piece of work whose times spread by more than this says the same
LONGEST = 3600  # seconds of one lap

Tell = Callable[[dict[str, Any]], None]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One way to train one network: a backend of ours or a baseline, with so many threads and maybe a fault."""

    run: Run
    name: str  # of the backend or of the baseline
    is_shipped: bool = False
    threads: int = 2
    fault: str = ""
    proof: Proven | None = None  # what the study's proof says of it
    n_together: int = 1  # seeds in one process; times are one seed's share

    @property
    def title(self) -> str:
        """How a table calls it."""
        name = baselines.SHIPPED[self.name][0] if self.is_shipped else backends.BACKENDS[self.name][0]
        return name if self.n_together == 1 else f"{name} × {self.n_together}"

    @property
    def key(self) -> str:
        """The entry's name among those of its bench."""
        parts = [self.run.network_name, self.run.dataset, self.run.dtype, "shipped" if self.is_shipped else "ours"]
        return "/".join([*parts, self.title, *([self.fault] if self.fault else []), str(self.threads)])


# ---------------------------------------------------------------------------------------------------------- the laps


def lap(entry: Entry) -> Lap:
    """Train once in a fresh process.

    Raises LockstepError (LS-402, LS-403) where the process dies or fails.
    """
    with _temporary() as temporary:
        runs = [changed(entry.run, seed=entry.run.seed + index) for index in range(entry.n_together)]
        folders = [Path(temporary) / str(index) for index in range(len(runs))]
        for run, folder in zip(runs, folders, strict=True):
            store.make_folder(folder)
            alone = study.one_run_study(Study(networks={run.network_name: run.network}), run)
            text = resolved_toml(changed(alone, train_size=run.train_size, device=run.device))
            store.write_bytes(folder / "spec.toml", text.encode())
        return _shipped(entry, folders[0]) if entry.is_shipped else _ours(entry, runs, folders)


@contextlib.contextmanager
def _temporary() -> Iterator[str]:
    """A folder for a lap; raises LockstepError (LS-501, LS-502) where the system's place for them cannot be written."""
    with (
        disk.writing(Path(tempfile.gettempdir()), later("set TMPDIR to a folder with room")),
        tempfile.TemporaryDirectory(prefix="lockstep-bench-") as folder,
    ):
        yield folder


def _ours(entry: Entry, runs: Sequence[Run], folders: Sequence[Path]) -> Lap:
    for folder in folders:
        store.write_status(folder, "running")
    task = places.TRAINING if len(runs) == 1 else places.TOGETHER
    records = local.HERE.do(places.Job(runs, folders, entry.threads, task))
    for status in (record.status for record in records):
        if status["status"] != "finished":
            raise LockstepError(
                status["code"] or "LS-403", status["reason"] or "", where=later("backend {name}", name=entry.name)
            )
    timings = [Timing.in_folder(folder) for folder in folders]
    timing, around = timings[0], Environment.in_folder(folders[0])
    evaluations = len(timing.epochs) * (1 + bool(entry.run.recipe.validation)) + 1
    return Lap(
        seconds={
            **timing.seconds,
            "evaluate": (timing.seconds["evaluate"] or 0.0) / evaluations,  # once, as the baselines do it
            "total": max(each.seconds["total"] or 0.0 for each in timings) / len(runs),
        },
        epochs=timing.epochs, images=around.dataset.n_train or 0,
        accuracy=Metrics.in_folder(folders[0]).test.accuracy or 0.0,
        peak_memory_bytes=max(each.peak_memory_bytes or 0 for each in timings) or None, threads=around.threads,
        versions=around.versions,
    )  # fmt: skip


def _shipped(entry: Entry, folder: Path) -> Lap:
    backend = baselines.SHIPPED[entry.name][3]
    # A tutorial knows nothing of our own threads: every library gets all that there are.
    environment = workers.environment("torch" if backend == "numpy" else backend, entry.threads)
    words, log = (entry.name, folder, entry.threads, entry.fault), folder / "log"
    with (
        open(log, "wb") as file,
        workers.Worker("lockstep.benchmark.baselines", words, entry.threads, environment, file, stdout=file) as worker,
    ):
        code = worker.exit_code(LONGEST)
    where = later("baseline {name}", name=entry.name)
    if code is None:
        message = later("it took longer than {seconds} s", seconds=LONGEST)
        raise LockstepError("LS-402", message, where=where, hint=later("ask for fewer epochs"))
    if code:
        said = " ".join(workers.last_words(log, 1))
        raise LockstepError(
            "LS-403", later("it ended with exit code {code}: {words}", code=code, words=said), where=where
        )
    return Lap.read(folder / baselines.FILE)


def interleaved(
    entries: Sequence[Entry], rounds: int, tell: Tell, beside: Callable[[], object] = lambda: None
) -> dict[str, list[Lap | None]]:
    """Entry key → its lap of each round, None where it failed; each round in an order of its own, after `beside`.

    An entry that fails is not run again. Who interrupts it gets the rounds that were whole, if there was one. `tell`
    hears {"event": "lap" | "failed", "entry", "round", …} and {"event": "interrupted", "rounds", "code"}.
    """
    laps: dict[str, list[Lap | None]] = {entry.key: [] for entry in entries}
    failed: set[str] = set()
    for number in range(rounds):
        try:
            beside()
            found = _round(entries, number, failed, tell)
        except (KeyboardInterrupt, SystemExit) as end:
            if not number:
                raise
            code = end.code if isinstance(end, SystemExit) else 128 + signal.SIGINT
            tell({"event": "interrupted", "rounds": number, "code": code})
            break
        for key, of_this in found.items():
            laps[key].append(of_this)
    return laps


def _round(entries: Sequence[Entry], number: int, failed: set[str], tell: Tell) -> dict[str, Lap | None]:
    """Entry key → its lap of this round; an entry that fails joins the `failed`."""
    laps: dict[str, Lap | None] = {}
    for place in randomness.permutation(len(entries), 0, "bench", number):
        entry, found = entries[place], None
        if entry.key not in failed:
            tell({"event": "start", "entry": entry, "round": number})
            try:
                found = lap(entry)
                tell({"event": "lap", "entry": entry, "round": number, "seconds": found.steady})
            except LockstepError as error:
                failed.add(entry.key)
                tell({"event": "failed", "entry": entry, "round": number, "reason": str(error)})
        laps[entry.key] = found
    return laps


def ready(place: Path) -> None:
    """See to it before hours of laps that their document can be written here; raises LockstepError if it cannot."""
    store.make_folder(place.parent)
    with disk.writing(place, store.HINT), tempfile.TemporaryFile(dir=place.parent) as file:
        file.write(bytes(2**16))


# ------------------------------------------------------------------------------------------------------------ a bench


def bench(
    asked: Study, runs_folder: Path, rounds: int = ROUNDS, epochs: int = EPOCHS, against: str = "",
    threads: int | None = None, tell: Tell = lambda event: None, n_together: int = 1,
) -> Bench:  # fmt: skip
    """Time every network of a study in every backend, and with `against="shipped"` the baselines beside them.

    With `n_together` above one also so many seeds trained together, where that can be (see `together`).

    The first seed, dataset, dtype and combination of the grid are taken, for `epochs` epochs; `runs_folder` may hold a
    proof of the study. Returns what `lockstep bench` writes into its bench.json (docs/bench.md). Raises
    LockstepError for what cannot be.
    """
    asked, threads = study.checked(asked), cores.checked_threads(threads)
    if not 1 <= rounds <= MOST_ROUNDS:
        raise LockstepError(
            "LS-205",
            later("{n} rounds were asked for", n=rounds),
            where="--rounds",
            hint=later("5 or more can be ranked"),
        )
    if epochs < 2:
        raise LockstepError(
            "LS-205", later("one epoch is all warm-up"), where="--epochs", hint=later("ask for 2 or more")
        )
    if against not in ("", "shipped"):
        raise LockstepError(
            "LS-209",
            later('"{name}" is nothing to compare with', name=against),
            where="--against",
            hint="--against shipped",
        )
    if not 1 <= n_together <= crews.MOST:
        hint = later("from 2 to {most}", most=crews.MOST)
        raise LockstepError("LS-205", later("{n} together were asked for", n=n_together), where="--together", hint=hint)
    entries, left_out = entries_of(asked, epochs, threads, against == "shipped", runs_folder / asked.name, n_together)
    noise = noise_now()
    tell({"event": "noise", **dict(noise)})
    began = time.perf_counter()
    flops = flops_of(entries)  # before the laps: what fails here costs none
    peaks: list[float | None] = []

    def take_peak() -> None:
        peaks.append(roofline.peak(threads, entries[0].run.dtype) if any(flops.values()) else None)

    laps = interleaved(entries, rounds, tell, take_peak)
    networks = [
        _network(name, [one for one in entries if one.run.network_name == name], laps, peaks, flops.get(name, 0))
        for name in asked.networks
    ]
    return Bench(
        format=FORMAT, study=asked.name, rounds=n_rounds(laps), epochs=epochs, threads=threads,
        networks=tuple(networks), left_out=tuple(left_out), noise=noise, machine=Environment(**description.machine()),
        seconds=time.perf_counter() - began, lockstep=version(), git_revision=sources.git_revision(),
        measured=store.now(),
    )  # fmt: skip


def has_times(found: Bench | Faults) -> bool:
    """Whether a bench, or one of faults, came to any time at all."""
    return bool(found.faults) if isinstance(found, Faults) else any(network.rows for network in found.networks)


def keep(found: Bench | Faults, place: Path, is_interrupted: bool) -> Path:
    """Write a bench, or one of faults, and return where; a few rounds do not replace a whole one.

    Raises LockstepError: LS-403 where nothing could be timed, LS-501 and LS-502.
    """
    if not has_times(found):
        message = later("nothing could be timed, so no record was written")
        raise LockstepError("LS-403", message, where=str(place), hint=later("the reasons stand above"))
    if is_interrupted and place.exists():
        place = place.with_stem(f"{place.stem}-interrupted")
    store.write_json(place, found.document())
    return place


def n_rounds(laps: Mapping[str, Sequence[Any]]) -> int:
    """How many rounds there were, which may be fewer than were asked for."""
    return max(map(len, laps.values()), default=0)


def entries_of(
    asked: Study, epochs: int, threads: int, with_shipped: bool, folder: Path, n_together: int = 1
) -> tuple[list[Entry], list[LeftOut]]:
    """(what is timed, what is not and why); `folder` may hold the study's proof."""
    entries, left_out = [], []
    first = changed(asked, seeds=asked.seeds[:1], dtype=asked.dtype[:1], dataset=asked.dataset[:1])
    for name in asked.networks:
        runs = [run for run in first.runs() if run.network_name == name]
        runs = list({run.backend: run for run in runs if run.recipe == runs[0].recipe}.values())  # each once
        found = [
            (Entry(shortened(run, epochs), run.backend, threads=threads, proof=certificate(folder, run)),
             backends.why_missing(run.backend))
            for run in runs
        ]  # fmt: skip
        for run in runs if n_together > 1 else ():
            entry = Entry(shortened(run, epochs), run.backend, threads=threads, n_together=n_together)
            found.append((entry, crews.why_not(entry.run, threads) or backends.why_missing(run.backend)))
        for baseline in baselines.SHIPPED if with_shipped else ():
            entry = Entry(shortened(runs[0], epochs), baseline, True, threads)
            found.append((entry, baselines.why_not(baseline, entry.run) or baselines.why_missing(baseline)))
        entries += [entry for entry, reason in found if not reason]
        left_out += [
            LeftOut(network=name, entry=entry.title, is_shipped=entry.is_shipped, reason=reason)
            for entry, reason in found
            if reason
        ]
    if not entries:
        raise LockstepError("LS-401", later("nothing can be timed: no backend of this study is installed"))
    return entries, left_out


def flops_of(entries: Sequence[Entry]) -> dict[str, int]:
    """Network → floating-point operations of training one image; none on a GPU, whose rate is not taken."""
    runs = {entry.run.network_name: entry.run for entry in entries if entry.run.device == "cpu"}
    shapes = {name: data.describe(name).image_shape for name in {run.dataset for run in runs.values()}}
    return {name: roofline.training_flops(run.network, shapes[run.dataset]) for name, run in runs.items()}


def shortened(run: Run, epochs: int) -> Run:
    """The run with so many epochs, all of which are trained."""
    recipe = changed(run.recipe, epochs=epochs, early_stopping=None, validation=0.0)
    return changed(run, recipe=recipe)


def _network(
    name: str,
    entries: Sequence[Entry],
    laps: Laps,
    peaks: Sequence[float | None],
    flops: int,
) -> Network:
    """Rows, ranking and ratios of one network."""
    rows = [row for entry in entries if (row := _row(entry, laps[entry.key]))]
    failed = [entry.title for entry in entries if not any(laps[entry.key])]
    run = entries[0].run if entries else None
    return Network(
        network=name, dataset=run.dataset if run else None, dtype=run.dtype if run else None,
        batch_size=run.recipe.batch_size if run else None, rows=tuple(rows), failed=tuple(failed),
        ranking=ranking([row for row in rows if not row.is_shipped and row.together == 1]),
        ratios=tuple(_ratios(entries, laps)), products=_products(rows, entries, laps, peaks, flops),
    )  # fmt: skip


def _row(entry: Entry, laps: Sequence[Lap | None]) -> Row | None:
    done = [lap for lap in laps if lap]
    if not done:
        return None
    clocks = {clock: [taken for lap in done if (taken := lap.seconds.get(clock)) is not None] for clock in CLOCKS}
    if entry.is_shipped:  # a tutorial compiles inside its first epoch
        clocks["compile"] = [max(lap.epochs[0] - lap.steady, 0.0) for lap in done]
        clocks["train"] = [sum(lap.epochs) for lap in done]
    epochs = [lap.steady for lap in done]
    return Row(
        entry=entry.title, name=entry.name, is_shipped=entry.is_shipped, n=len(done), epoch=interval(epochs),
        images_per_second=interval([lap.images / lap.steady for lap in done]), images=done[0].images,
        seconds={clock: interval(values) for clock, values in clocks.items() if values},
        peak_memory_bytes=plain.median(lap.peak_memory_bytes or 0 for lap in done),
        accuracy=plain.median(lap.accuracy for lap in done), versions=done[0].versions,
        threads=done[0].threads, proof=entry.proof, laps=tuple(epochs), together=entry.n_together,
    )  # fmt: skip


def interval(values: Sequence[float]) -> Middle:
    """Their median; no interval below five values."""
    found = uncertainty.bootstrap_median(values)
    return Middle(median=found.value, low=found.low, high=found.high, n=found.n)


def ranking(rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    """Entries from fastest to slowest; those that stand together cannot be ranked: their intervals overlap.

    All of them stand together where there is no interval, below five rounds.
    """
    found: list[list[str]] = []
    reach = -np.inf
    for row in sorted(rows, key=lambda row: row.epoch.median):
        low, high = row.epoch.low, row.epoch.high
        if found and (low is None or low <= reach):
            found[-1].append(row.entry)
        else:
            found.append([row.entry])
        reach = max(reach, np.inf if high is None else high)
    return tuple(map(tuple, found))


def _ratios(entries: Sequence[Entry], laps: Laps) -> Iterator[Ratio]:
    """How many times as long one takes per image as another, from rounds in which both ran.

    Of two of our backends the slower over the faster; a baseline over our own of its framework, and over NumPy; seeds
    that are trained together, by their share, over one alone.
    """
    ours = [entry for entry in entries if not entry.is_shipped and entry.n_together == 1]
    for entry in entries:
        for other in ours:
            values = ratio(laps[entry.key], laps[other.key])
            if entry.is_shipped:
                wanted = other.name in (baselines.SHIPPED[entry.name][3], "numpy")
            elif entry.n_together > 1:
                wanted = other.name == entry.name
            else:
                wanted = entry != other and bool(values) and plain.median(values) >= 1
            if values and wanted:
                yield Ratio(entry=entry.title, is_shipped=entry.is_shipped, over=other.title, **dict(interval(values)))


def _products(
    rows: Sequence[Row], entries: Sequence[Entry], laps: Laps,
    peaks: Sequence[float | None], flops: int,
) -> Products | None:  # fmt: skip
    """How many times as long the fastest of our backends takes as its products would at the rate of a large one."""
    ours = [row for row in rows if not row.is_shipped and row.together == 1]
    if not ours or not flops:
        return None
    fastest = min(ours, key=lambda row: row.epoch.median)
    entry = next(one for one in entries if one.title == fastest.entry)
    rounds = [(lap, rate) for lap, rate in zip(laps[entry.key], peaks, strict=False) if lap and rate]
    if not rounds:
        return None
    return Products(
        flops=flops, peak=interval([rate for _lap, rate in rounds]),
        seconds=interval([flops * lap.images / rate for lap, rate in rounds]), entry=entry.title,
        **dict(interval([lap.steady / (flops * lap.images / rate) for lap, rate in rounds])),
    )  # fmt: skip


def ratio(first: Sequence[Lap | None], second: Sequence[Lap | None]) -> list[float]:
    """Seconds per image of the one over those of the other, round by round."""
    return [
        (one.steady / one.images) / (other.steady / other.images)
        for one, other in zip(first, second, strict=True)
        if one and other
    ]


def certificate(folder: Path, run: Run) -> Proven | None:
    """What the study's proof says of this network and recipe in this backend and version, if anything."""
    try:
        rows = read_proof(folder).rows
    except LockstepError:
        return None  # no proof, or one that cannot be read: the row says "not proven"
    for row in rows:
        one = row.certificate
        if one and row.backend == run.backend and _is_of(one, run):
            return Proven(verdict=row.verdict, steps=one.steps or 0, values=one.values or 0)
    return None


def _is_of(one: Certificate, run: Run) -> bool:
    same = one.network == digest(run.network) and one.recipe == digest(run.recipe) and one.dtype == run.dtype
    return same and one.versions == backends.versions(run.backend)


# -------------------------------------------------------------------------------------------------------------- noise


def noise_now() -> Noise:
    """How quiet the machine is before anything is timed.

    `spread` is how far the times of one fixed piece of work (a matrix product on one thread, about 10 ms, 21 times) lie
    apart: (90th percentile − median) / median.
    """
    matrix = np.random.default_rng(0).random((400, 400), np.float32)
    times = []
    for _round in range(22):
        start = time.perf_counter()
        for _time in range(6):
            matrix @ matrix
        times.append(time.perf_counter() - start)
    times = times[1:]  # the first one wakes the threads
    spread = float(np.quantile(times, 0.9) / np.median(times) - 1)
    load = description.machine()["load"]
    warnings: list[str] = []
    if load and load[0] > BUSY:
        warnings.append(
            later("the machine is busy: its load average is {load:.1f} before anything starts", load=load[0])
        )
    if spread > UNSTEADY:
        warnings.append(
            later("times are unsteady: a fixed piece of work takes up to {n:.2f} times its median", n=1 + spread)
        )
    if warnings:
        warnings.append(later("intervals will be wide, and what others do falls on whoever is being timed"))
    return Noise(load=load[0] if load else None, spread=spread, warnings=tuple(warnings))
