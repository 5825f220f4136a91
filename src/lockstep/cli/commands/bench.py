"""`lockstep bench`: times that may be ranked."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson, Choice, StudyFile, Work
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.benchmark.outcome import Outcome
    from lockstep.spec import Study
    from lockstep.store.documents.bench import Bench, Faults


@dataclasses.dataclass(frozen=True)
class Laps:
    """What is timed, and how often."""

    against: Annotated[
        str, typer.Option(help="shipped: the frameworks' own tutorials beside ours.", metavar="WHOM")
    ] = ""
    rounds: Annotated[
        int, typer.Option(help="How often each is timed, in a fresh process and another order.", metavar="N")
    ] = 5
    epochs: Annotated[int, typer.Option(help="Epochs of each; the first warms up.", metavar="N")] = 3
    together: Annotated[int, typer.Option(help="Also N seeds trained together in one process.", metavar="N")] = 1
    faults: Annotated[bool, typer.Option("--faults", help="What classic mistakes of comparisons cost here.")] = False

    def check(self) -> None:
        """Refuse what does not go together."""
        from lockstep.errors import LockstepError

        if self.faults and (self.against or self.together > 1):
            message = later("--faults commits mistakes of our own, and takes neither --against nor --together")
            raise LockstepError("LS-200", message, hint=later("ask for one of them"))

    def take(self, study: Study, work: Work) -> tuple[Bench | Faults, Outcome]:
        """Time a study: the record of the bench, or of the mistakes put into one, and where it is kept."""
        from lockstep.benchmark import benches, mistakes
        from lockstep.benchmark.outcome import Outcome
        from lockstep.screen.times import BenchWatcher

        outcome = Outcome(work.runs / study.name, self.faults)
        with BenchWatcher(self.rounds, console(stderr=True)) as watcher:
            hear = outcome.listening(watcher.tell)
            if self.faults:
                document: Bench | Faults = mistakes.measure(
                    study, work.runs, self.rounds, self.epochs, work.threads, hear
                )
            else:
                shape = self.rounds, self.epochs, self.against, work.threads
                document = benches.bench(study, work.runs, *shape, hear, self.together)
        return document, outcome


def bench(study: StudyFile, choice: Choice, laps: Laps, work: Work, as_json: AsJson = False) -> None:
    """Time a study's networks, interleaved in fresh processes, and rank what can be ranked."""
    laps.check()
    interruption.end_on_signals()
    asked = choice.load(study)
    work.fetch(asked)
    document, outcome = laps.take(asked, work)
    try:
        place = outcome.keep(document)
    finally:  # it is shown where it cannot be written too
        _show(document, as_json)
    if not as_json:
        tell(later("records: {path}", path=place))
    if outcome.code is not None:
        raise typer.Exit(outcome.code)


def _show(document: Bench | Faults, as_json: bool) -> None:
    from lockstep.screen import times
    from lockstep.store.documents.bench import Faults

    if as_json:
        print_json(document.document())
    elif isinstance(document, Faults):
        times.print_faults(document, console())
    else:
        times.print_bench(document, console())
