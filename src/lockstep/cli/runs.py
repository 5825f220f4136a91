"""What commands that do runs have alike: how these go on, their table, and how a command ends where one failed."""

from __future__ import annotations

import contextlib
import functools
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lockstep.cli import interruption
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell, tell_above

if TYPE_CHECKING:
    from lockstep.cli.options import Work
    from lockstep.proof.upkeep import Kept
    from lockstep.screen.runs import Watcher
    from lockstep.spec import Run, Study
    from lockstep.store import Records


@contextlib.contextmanager
def watching(n_runs: int, *folders: Path) -> Iterator[Watcher]:
    """Show how so many runs go on; where they are interrupted, say what is kept in these folders."""
    from lockstep.screen.runs import Watcher

    resume = later("to finish only the runs that were begun: {command}", command=f"lockstep resume {_quoted(folders)}")
    kept = later("interrupted; every epoch that was finished is saved")
    again = later("to go on: the same command again; finished runs are not repeated")
    with Watcher(n_runs, console(stderr=True)) as watcher, interruption.saying(kept, again, resume):
        yield watcher


def do(
    study: Study, work: Work, again: bool = False, together: bool = False, film: bool = False
) -> tuple[Records, list[dict[str, Any]]]:  # fmt: skip
    """Do a study's runs: their records, and the rows of their table."""
    from lockstep import store
    from lockstep.machine.cores import checked_threads
    from lockstep.study import not_done, run_study
    from lockstep.study.forecast import Expectation

    _tell_beforehand(study, work, again, together)
    to_do = study.runs() if again else not_done(study, work.runs)
    reused: set[Path] = set()
    with watching(len(study.runs()), work.runs / study.name) as watcher:
        say = functools.partial(tell_above, console=watcher.console)
        expectation = Expectation(to_do, work.runs, checked_threads(work.threads), say)

        def hear(run: Run, event: dict[str, Any]) -> None:
            if event["event"] == "end" and event["reused"]:
                reused.add(event["record"].folder)
            watcher.tell(run, event)
            expectation.hear(run, event)

        records = run_study(study, work.runs, hear, work.threads, again, together, is_filmed=film)
    for record in records if film else ():
        if record.folder in reused and not store.is_filmed(record.folder):
            tell(
                later("{name} was finished before, without a film; --again does it anew", name=record.folder.name),
                err=True,
            )
    ran = zip(study.runs(), records, strict=True)
    return records, [record.summary(run.grid, record.folder in reused) for run, record in ran]


def _tell_beforehand(study: Study, work: Work, again: bool, together: bool) -> None:
    """What has changed since it was run before, what is not trained together, and of what there is little."""
    from lockstep.machine.cores import checked_threads
    from lockstep.study import crews, few_images, resumption

    for sentence in [] if again else resumption.news(study, work.runs, work.threads):
        tell(later("changed since it was run before: {what}", what=sentence), err=True)
    for sentence in crews.alone(study.runs(), checked_threads(work.threads)) if together else []:
        tell(sentence, err=True)
    for sentence in few_images(study):
        tell(later("warning: {what}", what=sentence), err=True)


def prove(study: Study, work: Work, records: Records, rows: Sequence[dict[str, Any]]) -> Kept | None:
    """The proof of a study's runs, made of what is not proven yet, its page written; each row gets its verdict.

    None where it could not be made, which is said: the runs are done all the same.
    """
    from lockstep.errors import LockstepError
    from lockstep.proof import upkeep
    from lockstep.report import write_proof
    from lockstep.screen.errors import print_error
    from lockstep.screen.proofs import ProofWatcher

    def begin(n: int) -> None:
        tell(later("proving what has run: traces to make and judge: {n} (--no-proof leaves this out)", n=n), err=True)

    done = later("interrupted; the runs are done, their proof and report are not: the same command again makes them")
    try:
        with ProofWatcher(console(stderr=True)) as watcher, interruption.saying(done):
            kept = upkeep.keep(study, work.runs, records, work.threads, watcher.tell, begin)
            if kept.made and kept.proof:
                write_proof(kept.proof, work.runs / study.name / "proof.html")
    except LockstepError as error:
        tell(later("no proof could be made; the runs are done, and lockstep prove can be tried by itself:"), err=True)
        print_error(error, console(stderr=True))
        return None
    for row in rows:
        row["proof"] = kept.verdicts.get(Path(row["folder"]))
    return kept


def report(
    study: Study, work: Work, records: Records, rows: Sequence[dict[str, Any]], as_json: bool, kept: Kept | None
) -> None:  # fmt: skip
    """Print the table of a study's runs, write their report, and say its answer and the proof's."""
    from lockstep.report import gather, write
    from lockstep.screen.proofs import upkeep_said

    if not as_json:  # before the report, which may fail
        print_table(rows)
        if any((row["together"] or 1) > 1 for row in rows):
            tell(later("–: of runs that were trained together neither time nor memory is one's own"))
    page = gather(records)
    path = write(page, work.runs / study.name / "report.html", with_figures=True)
    if as_json:
        return print_json({"study": study.name, "runs": rows, "report": str(path), "proof": _document(kept)})
    if kept and kept.proof:
        for line in upkeep_said(kept.proof, kept.verdicts.values(), kept.made, kept.seconds, kept.left_out):
            tell(line)
    tell(" ".join(page["brief"]))
    tell(later("report: {path}", path=path))
    return _tell_of_others(path.parent, len(records))


def _document(kept: Kept | None) -> dict[str, Any] | None:
    """What --json says of a proof; None where there is none."""
    if kept is None or kept.proof is None:
        return None
    found = kept.proof
    return {
        "verdict": found.verdict, "steps": found.steps, "proven": found.proven, "made": kept.made,
        "seconds": round(kept.seconds, 3), "left_out": kept.left_out,
    }  # fmt: skip


def _tell_of_others(folder: Path, n: int) -> None:
    """Where more runs lie than a report shows, how to have them all in it."""
    from lockstep.store import find_runs

    if len(find_runs([folder])) > n:
        command = f"lockstep report {folder}"
        tell(later("It shows these {n} runs; all that lie there: {command}", n=n, command=command))


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """The table of runs, if there are any."""
    from lockstep.screen.runs import results_table

    if rows:
        console().print(results_table(rows))


def end(rows: Sequence[dict[str, Any]], *folders: Path, proof: Kept | None = None) -> None:
    """End the command with the exit code of the first run that failed, if one did, else with that of a divergence."""
    failed = [row for row in rows if row["status"] != "finished"]
    if failed:
        counts = {"failed": len(failed), "all": len(rows)}
        tell(later("{failed} of {all} runs failed; the reasons stand above and in status.json", **counts), err=True)
        command = f"lockstep resume {_quoted(folders)}"
        tell(later("to go on with them when that is mended: {command}", command=command), err=True)
        raise typer.Exit(int((failed[0]["code"] or "LS-403")[3]))
    if proof and "DIVERGED" in proof.verdicts.values():
        raise typer.Exit(1)


def _quoted(folders: Iterable[Path]) -> str:
    return " ".join(shlex.quote(str(folder)) for folder in folders)
