"""The proof that belongs to a study's runs: what of it still stands, and the proof anew of what does not.

`lockstep run` proves what it has trained, once. A verdict goes on standing as long as nothing has changed that it
depends on: network, recipe, data, dtype, device, the versions of everything, this processor, and Lockstep's own source
files. What has changed is proven again, and only that. It comes behind the trainings and never beside one: a proof on
the next core takes memory and cache from a training whose seconds are being measured.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.machine import description, sources
from lockstep.proof import procedure
from lockstep.report.facts import Facts
from lockstep.report.proofs import check_fit
from lockstep.spec import Run, Study
from lockstep.spec.records import digest
from lockstep.store.documents.part import but
from lockstep.store.documents.proof import Network, Proof, read_proof
from lockstep.version import version

MOST = 48  # traces that come with a study's runs: of a wide grid each network's first setting alone is proven
RIGHT = ("IDENTICAL", "EQUAL")


@dataclasses.dataclass(frozen=True)
class Kept:
    """A study's proof beside its runs; None where there is nothing to prove.

    `verdicts`: run folder → verdict, of the runs that it speaks of. `made` of them were proven now, which took
    `seconds`; `left_out` are runs of a wide grid that nobody has proven.
    """

    proof: Proof | None
    verdicts: dict[Path, str]
    made: int = 0
    seconds: float = 0.0
    left_out: int = 0


def keep(
    asked: Study, runs_folder: Path, records: Sequence[store.Record], threads: int | None = None,
    tell: procedure.Tell = lambda run, event: None, begin: Callable[[int], None] = lambda n: None,
) -> Kept:  # fmt: skip
    """Prove of a study's finished runs what is not proven yet; `records` are those of `asked.runs()`, in their order.

    `begin` hears how many traces are to be made, where there are some. Raises LockstepError as `procedure.prove`.
    """
    done = [(run, Facts(record)) for run, record in zip(asked.runs(), records, strict=True) if record.is_finished]
    before = _standing(runs_folder / asked.name)
    rest = _untouched(before, done) if before else ()
    covered = _verdicts(but(before, networks=rest), done) if before else {}
    waiting = [run for run, facts in done if facts.record.folder not in covered]
    if not waiting:
        return Kept(before, covered)
    wanted, left_out = chosen(waiting)
    if before and not wanted:
        return Kept(before, covered, left_out=left_out)
    begin(len(wanted))
    began = time.monotonic()
    proof = procedure.prove(
        asked, runs_folder, before.steps if before else procedure.STEPS, (), threads, tell,
        _part(before, rest, lambda run: key_of(run) in wanted),
    )  # fmt: skip
    proof = procedure.write(_without_traces(proof), runs_folder)
    return Kept(proof, _verdicts(proof, done), len(wanted), time.monotonic() - began, left_out)


def _standing(folder: Path) -> Proof | None:
    """The proof of before, if this very Lockstep made it on such a processor, of no fewer steps than are taken now."""
    try:
        found = read_proof(folder)
    except (LockstepError, RecursionError):
        return None
    now: tuple[Any, ...] = (
        version(), sources.git_revision(), sources.own_sources(), description.machine()["cpu"],
    )  # fmt: skip
    then = (found.lockstep, found.git_revision, found.lockstep_sources, found.machine.cpu)
    is_one = now == then and found.steps >= procedure.STEPS and not found.planted and not found.is_comparison
    return found if is_one else None


def _untouched(before: Proof, done: Sequence[tuple[Run, Facts]]) -> tuple[Network, ...]:
    """The parts of a proof that go on standing: all of whose runs, of those there are now, are still as proven."""
    covered = check_fit(before, [facts for _, facts in done]).covered
    stale = {_place(run) for run, facts in done if facts.record.folder not in covered}
    return tuple(
        part
        for part in before.networks
        if not any((part.network, part.dataset, part.dtype, str(dict(part.grid)), row.backend) in stale
                   for row in part.backends)
    )  # fmt: skip


def _place(run: Run) -> tuple[str, ...]:
    """Where a proof speaks of a run."""
    return (run.network_name, run.dataset, run.dtype, str(dict(run.grid)), run.backend)


def _verdicts(proof: Proof, done: Sequence[tuple[Run, Facts]]) -> dict[Path, str]:
    return check_fit(proof, [facts for _, facts in done]).covered


def _part(before: Proof | None, rest: tuple[Network, ...], is_wanted: Callable[[Run], bool]) -> procedure.Part:
    """What is proven now, beside the parts that stand, with the divergences that were found in them."""
    if before is None:
        return procedure.Part(is_wanted)
    places = {(part.network, part.dataset, part.dtype, str(dict(part.grid))) for part in rest}
    found = tuple(
        row for row in before.divergences if (row.network, row.dataset, row.dtype, str(dict(row.grid))) in places
    )
    return procedure.Part(is_wanted, rest, found, (before.seconds or 0.0) if rest else 0.0)


# ------------------------------------------------------------------------------------------------------ what is proven


def key_of(run: Run) -> Hashable:
    """What a proof asks for: the seed may be any."""
    return (run.network_name, digest(run.network), run.dataset, run.dtype, digest(run.recipe), run.backend)


def chosen(waiting: Sequence[Run]) -> tuple[set[Hashable], int]:
    """The keys of what is proven, and how many runs are left out: beyond MOST traces one setting of each network."""
    keys = {key_of(run): run for run in waiting}
    if len(keys) <= MOST:
        return set(keys), 0
    first: dict[Hashable, str] = {}
    for run in waiting:
        first.setdefault((run.network_name, digest(run.network), run.dataset, run.dtype), digest(run.recipe))
    wanted = {
        key
        for key, run in keys.items()
        if first[run.network_name, digest(run.network), run.dataset, run.dtype] == digest(run.recipe)
    }
    is_chosen = Counter(key_of(run) in wanted for run in waiting)
    return wanted, is_chosen[False]


def _without_traces(proof: Proof) -> Proof:
    """The proof without the traces that it rests on, where they are right: hundreds of megabytes nobody asked for."""

    def without(part: Network) -> Network:
        rows = []
        for row in part.backends:
            if row.trace and row.verdict in RIGHT:
                shutil.rmtree(row.trace, ignore_errors=True)
                row = but(row, trace=None)
            rows.append(row)
        return but(part, backends=tuple(rows))

    return but(proof, networks=tuple(without(part) for part in proof.networks))
