"""`lockstep clean`: what is of no more use is moved aside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import print_json


def clean(
    folders: Annotated[
        list[Path], typer.Argument(help="Run folders, or folders that hold them (default: runs).", metavar="[RUNS…]")
    ] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Move it.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Move unfinished, superseded and damaged runs into a folder "aside"; nothing is deleted."""
    from lockstep.check import leftovers
    from lockstep.errors import LockstepError
    from lockstep.screen.checks import print_leftovers

    if dry_run and yes:
        raise LockstepError("LS-200", later("--dry-run and --yes are two answers"), hint=later("ask for one of them"))
    found = leftovers.clean_runs(folders or [Path(leftovers.RUNS)], is_dry=not yes)
    return print_json(found) if as_json else print_leftovers(found, yes)
