"""Every command: a file each, and here the table of them.

A command parses, calls one function and prints. Slow imports stand in the command that needs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from lockstep.cli.commands import (
    bench,
    clean,
    data,
    demo,
    diff,
    doctor,
    explain,
    export,
    init,
    play,
    prove,
    report,
    resume,
    run,
    schema,
    show,
    verify,
)
from lockstep.cli.options import spread

HELP = "Train the same neural network in NumPy, PyTorch, TensorFlow and JAX, and compare what is left."
EPILOG = (
    "Exit codes: 0 fine · 1 a proof diverged, a submission does not fit · 2 usage or configuration · 3 data · "
    "4 a backend is missing or failed · 5 resources · 130/143 interrupted."
)
COMMANDS: dict[str, Callable[..., None]] = {  # in the order of the help
    "demo": demo.demo, "init": init.init, "run": run.run, "resume": resume.resume, "prove": prove.prove,
    "diff": diff.diff, "bench": bench.bench, "explain": explain.explain, "show": show.show, "report": report.report,
    "play": play.play, "export": export.export, "verify": verify.verify, "doctor": doctor.doctor, "clean": clean.clean,
    "schema": schema.schema,
}  # fmt: skip
OF_DATA: dict[str, Callable[..., None]] = {
    "list": data.list_all, "fetch": data.fetch, "verify": data.verify, "import": data.import_folder, "path": data.path,
}  # fmt: skip
PLAIN = {"add_completion": False, "no_args_is_help": True, "rich_markup_mode": None, "pretty_exceptions_enable": False}

app = typer.Typer(help=HELP, epilog=EPILOG, **PLAIN)  # type: ignore[arg-type]  # one dictionary for both apps
data_app = typer.Typer(help="Datasets: which there are, where they lie, your own.", **PLAIN)  # type: ignore[arg-type]
app.add_typer(data_app, name="data")
for table, place in ((COMMANDS, app), (OF_DATA, data_app)):
    for name, function in table.items():
        place.command(name)(spread(function))


def _version(asked: bool) -> None:
    if asked:
        from lockstep.version import version

        typer.echo(f"lockstep {version()}")
        raise typer.Exit


@app.callback()
def _everywhere(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (anywhere in a command).")] = False,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            help="What to speak: en or ru (anywhere in a command; else what LOCKSTEP_LANGUAGE says).",
            metavar="LANGUAGE",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command; --debug and --language are taken out by `main` before."""
