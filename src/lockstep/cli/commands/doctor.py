"""`lockstep doctor`: are this machine and these files what they say?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.options import AsJson, RunsFolder
from lockstep.screen.output import console, print_json


def doctor(
    folders: Annotated[
        list[Path], typer.Argument(help="Check every file of these runs instead of the machine.", metavar="[RUNS…]")
    ] = [],  # noqa: B006
    runs: RunsFolder = Path("runs"), as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say what this machine has and lacks; with RUNS, which files of runs are damaged and what can still be used."""
    from lockstep.check.doctor import check
    from lockstep.screen.checks import print_machine

    if folders:
        return _check_runs(folders, as_json)
    found = check(runs)
    return print_json(found) if as_json else print_machine(found, console())


def _check_runs(folders: Sequence[Path], as_json: bool) -> None:
    """Exit code 5 where anything is damaged."""
    from lockstep.check.doctor import check_runs
    from lockstep.screen.checks import print_runs

    found = check_runs(folders)
    if as_json:
        print_json(found)
    else:
        print_runs(found, console())
    if any(row["state"] == "damaged" for row in found["runs"]):
        raise typer.Exit(5)
