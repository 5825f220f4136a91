"""`lockstep clean`: what is of no more use is moved aside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lockstep.cli.commands.options import AsJson
from lockstep.language import _ as said
from lockstep.language import later as _
from lockstep.language import mark, say
from lockstep.screen.output import console, print_json, tell

WHYS = (mark("unfinished"), mark("superseded"), mark("damaged"))


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
    from lockstep.screen import terminal

    if dry_run and yes:
        raise LockstepError("LS-200", _("--dry-run and --yes are two answers"), hint=_("ask for one of them"))
    found = leftovers.clean_runs(folders or [Path(leftovers.RUNS)], is_dry=not yes)
    if as_json:
        return print_json(found)
    if found["runs"]:
        rows = [_cells(row, yes) for row in found["runs"]]
        columns = (_("run"), _("why"), _("about"), "MiB", *([_("moved to")] if yes else []))
        console().print(terminal.plain_table(_("Of no more use"), columns, rows))
    facts = {"n": len(found["runs"]), "kept": found["kept"], "mib": found["bytes"] / 2**20}
    if yes:
        facts["n"] = sum(row["to"] is not None for row in found["runs"])
        tell(_("{n} runs moved, {mib:,.1f} MiB; {kept} stay", **facts))
    else:
        tell(_("{n} runs would be moved, {mib:,.1f} MiB; {kept} stay", **facts))
    for folder in sorted({str(Path(row["run"]).parent) for row in found["runs"]}) if yes else ():
        tell(_("its report may still show them; anew: lockstep report {folder}", folder=folder))
    if found["runs"] and not yes:
        tell(_("to do it: the same command with --yes"))
    return None


def _cells(row: dict[str, Any], is_done: bool) -> tuple[str, ...]:
    cells = (row["run"], said(row["why"]), say(row["about"]), f"{row['bytes'] / 2**20:,.1f}")
    return (*cells, row["to"] or say(_("in use now"))) if is_done else cells
