"""`lockstep demo`: two small networks in every framework that is here."""

from __future__ import annotations

from pathlib import Path

from lockstep.cli import interruption, runs
from lockstep.cli.options import AsJson, Choice, Proven, RunsFolder, Threads, Work
from lockstep.language import later
from lockstep.screen.output import tell


def demo(
    folder: RunsFolder = Path("runs"), threads: Threads = None, proof: Proven = True, as_json: AsJson = False
) -> None:  # fmt: skip
    """Train two small networks in every framework that is installed, prove them equal, and write the report."""
    from lockstep.spec.toml import own_study

    interruption.end_on_signals()
    work = Work(folder, threads, offline=True)
    asked = Choice(backends=_installed()).load(own_study("demo"))
    work.fetch(asked)
    records, rows = runs.do(asked, work)
    kept = runs.prove(asked, work, records, rows) if proof else None
    runs.report(asked, work, records, rows, as_json, kept)
    runs.end(rows, work.runs / asked.name, proof=kept)


def _installed() -> list[str]:
    """The backends whose frameworks are here; of the others it is said how to have them."""
    from lockstep import backends

    here = [name for name in backends.BACKENDS if backends.why_missing(name) is None]
    for name in backends.BACKENDS.keys() - here:
        extra = f"pip install 'lockstep-nn[{backends.BACKENDS[name][3]}]'"
        tell(later("{name} is not installed and left out; to have it: {command}", name=name, command=extra), err=True)
    return here
