"""`lockstep resume`: runs that were interrupted are finished."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli import interruption, runs
from lockstep.cli.options import AsJson, Offline, RunFolders
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.errors import Problem
    from lockstep.spec import Run
    from lockstep.store import Record
    from lockstep.study.resumption import Unfinished


def resume(
    folders: RunFolders,
    threads: Annotated[int | None, typer.Option(help="Threads (default: as many as before).", metavar="N")] = None,
    offline: Offline = False, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Finish every run that was interrupted, from the last epoch that was saved; then write the reports."""
    from lockstep.study import resumption

    interruption.end_on_signals()
    waiting, left, problems = resumption.unfinished(folders, threads)
    for sentence in left:
        tell(later("left as it is: {what}", what=sentence), err=True)
    records, rows, more = _go_on(waiting, folders, offline)
    problems += more
    if not as_json:
        runs.print_table(rows)
    reports = _write_reports(records, folders)
    _answer({"runs": rows, "left": left, "reports": reports}, problems, as_json)
    runs.end(rows, *folders)


def _go_on(
    waiting: Sequence[Unfinished], folders: Sequence[Path], offline: bool
) -> tuple[list[Record], list[dict[str, Any]], list[Problem]]:  # fmt: skip
    """Finish runs: their records, their rows of the table, and what is wrong with those that cannot go on now."""
    from lockstep.screen.downloads import Download
    from lockstep.study import resumption

    with Download(console(stderr=True)) as download:
        ready, lacking = resumption.with_data(waiting, offline, download.tell)
    rows: list[dict[str, Any]] = []
    with runs.watching(len(ready), *folders) as watcher:

        def hear(run: Run, event: dict[str, Any]) -> None:
            if event["event"] == "end":
                rows.append(event["record"].summary(run.grid, event["reused"]))
            watcher.tell(run, event)

        records, held = resumption.resume(ready, hear)
    return records, rows, [*lacking, *held]


def _write_reports(records: Iterable[Record], folders: Sequence[Path]) -> list[str]:
    """The reports of all studies of which a run has come to its end, now or since its report was written."""
    from lockstep.report import write_report
    from lockstep.store import find_runs
    from lockstep.study import resumption

    places = sorted({*(record.folder.parent for record in records), *resumption.unreported(folders)})
    return [str(write_report(find_runs([place]), place / "report.html", with_figures=True)) for place in places]


def _answer(document: dict[str, Any], problems: Sequence[Problem], as_json: bool) -> None:
    """Say what became of the runs; the command ends here with the problems of those that could not go on."""
    from lockstep.errors import LockstepError
    from lockstep.screen.errors import print_error

    if as_json:
        print_json(document | ({"errors": [vars(problem) for problem in problems]} if problems else {}))
    elif not document["runs"]:
        tell(later("no run is waiting") if not problems else later("no run that is waiting can go on now"))
    for path in document["reports"]:
        tell(later("report: {path}", path=path), err=as_json)
    if problems:
        error = LockstepError.several(problems)
        if not as_json:
            raise error
        print_error(error, console(stderr=True))
        raise typer.Exit(error.exit_code)
