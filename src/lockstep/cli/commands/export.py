"""`lockstep export`: a run as a file of a framework's own, proven before it is written."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.proof.script import Exported

RunFolder = Annotated[Path, typer.Argument(help="A finished run's folder.", metavar="RUN")]
Script = Annotated[
    str | None,
    typer.Option("--script", help="One file of a framework's own: torch, numpy, keras or jax.", metavar="TARGET"),
]
Out = Annotated[Path | None, typer.Option("--out", help="The file (default: NETWORK_TARGET.py).", metavar="FILE")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]


def export(
    run: RunFolder, script: Script = None, out: Out = None, force: Force = False, as_json: AsJson = False
) -> None:  # fmt: skip
    """Write a run as a script that needs no Lockstep; it is run and judged first, and not written unless equal."""
    from lockstep.proof import script as scripted

    interruption.end_on_signals()
    with interruption.saying(later("interrupted; nothing was written")):
        found = scripted.export(run, _target(run, script), out, force, lambda what: tell(what, err=True))
    _answer(found, as_json)


def _target(run: Path, script: str | None) -> str:
    """What it is written for."""
    from lockstep.errors import LockstepError
    from lockstep.exchange import scripts

    if script is not None:
        return script
    hint = f"lockstep export {shlex.quote(str(run))} --script torch"
    message = later("export wants to know as what: --script {names}", names=" | ".join(scripts.TARGETS))
    raise LockstepError("LS-200", message, hint=hint)


def _answer(found: Exported, as_json: bool) -> None:
    """Say what was written, or why nothing was, and end the command with the exit code of its proof."""
    from lockstep.proof import procedure
    from lockstep.screen import proofs

    if as_json:
        print_json({"script": None if found.path is None else str(found.path), "proof": found.proof.document()})
    elif found.path is None:
        proofs.print_proof(found.proof, console())
        tell(later("not written: the script would not take the run's steps"), err=True)
    else:
        tell(proofs.claimed(found.proof))
        tell(later("written: {path}", path=found.path))
        if found.data:
            tell(later("written: {path}, the images and labels that it reads", path=found.data))
    raise typer.Exit(procedure.exit_code(found.proof))
