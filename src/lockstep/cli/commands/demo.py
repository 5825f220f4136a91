"""`lockstep demo`: two small networks in every framework that is here."""

from __future__ import annotations

from pathlib import Path

from lockstep.cli import interruption, runs
from lockstep.cli.options import AsJson, Choice, RunsFolder, Threads, Work
from lockstep.language import later
from lockstep.screen.output import tell


def demo(folder: RunsFolder = Path("runs"), threads: Threads = None, as_json: AsJson = False) -> None:
    """Train two small networks in every framework that is installed, and write the report: a first look."""
    from lockstep.spec.toml import own_study
    from lockstep.store import results

    interruption.end_on_signals()
    work = Work(folder, threads, offline=True)
    asked = Choice(backends=_installed()).load(own_study("demo"))
    work.fetch(asked)
    records, rows = runs.do(asked, work)
    runs.report(asked, work, records, rows, as_json, results.in_a_sentence(rows))
    runs.end(rows, work.runs / asked.name)


def _installed() -> list[str]:
    """The backends whose frameworks are here; of the others it is said how to have them."""
    from lockstep import backends

    here = [name for name in backends.BACKENDS if backends.why_missing(name) is None]
    for name in backends.BACKENDS.keys() - here:
        extra = f"pip install 'lockstep-nn[{backends.BACKENDS[name][3]}]'"
        tell(later("{name} is not installed and left out; to have it: {command}", name=name, command=extra), err=True)
    return here
