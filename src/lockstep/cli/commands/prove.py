"""`lockstep prove`: do backends take the same steps?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson, Choice, Work
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    from lockstep.spec import Study
    from lockstep.store.documents.proof import Proof

Targets = Annotated[
    list[Path], typer.Argument(help="A study's TOML file, or two run folders to compare.", metavar="STUDY|RUN RUN")
]
NOT_PROVEN = later("interrupted; no proof was written, and one of before stands")


@dataclasses.dataclass(frozen=True)
class Demand:
    """What is to be proven, and how."""

    dtype: Annotated[
        str | None, typer.Option("--dtype", help="float32 or float64, in place of the study's.", metavar="DTYPE")
    ] = None
    steps: Annotated[int, typer.Option(help="How many steps are taken and judged.", metavar="N")] = 10
    plant: Annotated[
        list[str],
        typer.Option("--plant", help="Switch a known difference on: adam_epsilon_hat@torch.", metavar="CAUSE@BACKEND"),
    ] = dataclasses.field(default_factory=list)
    cost: Annotated[bool, typer.Option(help="Train with and without a plant: what it costs.")] = True
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Instead: are gradients the slopes of the loss? In float64.")
    ] = False

    script: Annotated[
        Path | None,
        typer.Option("--script", help="Judge this script by the run: --script FILE.py RUN.", metavar="FILE"),
    ] = None

    format: Annotated[
        str | None, typer.Option("--format", help="Print it for a CI system: junit or sarif.", metavar="FORMAT")
    ] = None

    @property
    def settings(self) -> list[str]:
        """What is put over the study's file."""
        return [f"dtype={self.dtype}"] if self.dtype else []

    @property
    def plants(self) -> list[str]:
        return list(dict.fromkeys(self.plant))

    def check(self, targets: Sequence[Path], choice: Choice) -> None:
        """Refuse a dtype that there is not, several studies at once, and what does not go together."""
        from lockstep.errors import LockstepError
        from lockstep.screen import continuous
        from lockstep.spec import DTYPES

        if self.format is not None:
            continuous.check(self.format)
        if self.dtype is not None and self.dtype not in DTYPES:
            hint = later("one of {names}", names=", ".join(DTYPES))
            raise LockstepError(
                "LS-205", later('there is no dtype "{name}"', name=self.dtype), where="--dtype", hint=hint
            )
        if len(targets) > 1 and all(target.suffix == ".toml" for target in targets):
            first, then = (f"lockstep prove {target}" for target in targets[:2])
            message = later("prove takes one study at a time, not {n}", n=len(targets))
            hint = later("{first}, then {then}", first=first, then=then)
            raise LockstepError("LS-200", message, where="STUDY", hint=hint)
        if self.script is not None:
            return self._check_script(targets, choice)
        if self.gradients and (self.plant or self.dtype or self.format or self.steps != Demand.steps):
            message = later("--gradients takes no steps, is in float64, and of a plant the gradients are right too")
            raise LockstepError("LS-200", message, hint=later("leave --plant, --dtype and --steps out"))
        is_plain = choice == Choice() and self == Demand(cost=self.cost, format=self.format)
        if len(targets) > 2 or (len(targets) == 2 and not is_plain):
            hint = later("lockstep prove STUDY.toml, or lockstep prove RUN_A RUN_B")
            message = later("prove takes one study, or two run folders and no options of a study")
            raise LockstepError("LS-200", message, hint=hint)

    def _check_script(self, targets: Sequence[Path], choice: Choice) -> None:
        """A script is judged by one run, and nothing else can be asked of it."""
        from lockstep.errors import LockstepError

        if len(targets) != 1 or choice != Choice() or self != Demand(script=self.script, format=self.format):
            hint = later("lockstep prove --script FILE.py RUN")
            raise LockstepError("LS-200", later("--script takes one run folder and no other option"), hint=hint)
        return None


def prove(targets: Targets, choice: Choice, demand: Demand, work: Work, as_json: AsJson = False) -> None:
    """Prove that backends take the same steps, or name the first place that differs and its cause."""
    interruption.end_on_signals()
    demand.check(targets, choice)
    if demand.script is not None:
        return _judge(demand.script, targets[0], Said(as_json, demand.format, demand.script))
    said = Said(as_json, demand.format, targets[0])
    if len(targets) == 2:
        return _compare(targets[0], targets[1], said)
    asked = choice.load(targets[0], demand.settings)
    work.fetch(asked)
    return _check_gradients(asked, work, as_json) if demand.gradients else _prove(asked, demand, work, said)


class Said(NamedTuple):
    """How a proof is printed, and of what it is."""

    as_json: bool
    format: str | None
    file: Path


def _judge(file: Path, run: Path, said: Said) -> None:
    """Prove of a script that it does what a run says."""
    from lockstep.proof import pages, script

    with interruption.saying(NOT_PROVEN):
        document = script.prove(file, run, lambda what: tell(what, err=True))
    _answer(document, pages.write_comparison(document, run), said)


def _compare(first: Path, second: Path, said: Said) -> None:
    """Prove of two runs that they are the same."""
    from lockstep.proof import comparison, pages

    document = comparison.compare_runs(first, second)
    _answer(document, pages.write_comparison(document, second), said)


def _prove(asked: Study, demand: Demand, work: Work, said: Said) -> None:
    """Prove of a study's backends that they take the same steps, and what its plants cost."""
    from lockstep.proof import pages, procedure
    from lockstep.screen.proofs import ProofWatcher

    with ProofWatcher(console(stderr=True)) as watcher, interruption.saying(NOT_PROVEN):
        document = procedure.prove(asked, work.runs, demand.steps, demand.plants, work.threads, watcher.tell)
    if demand.plants and demand.cost:
        if not said.as_json:
            tell(later("training to the end, as it should be and as planted (--no-cost leaves this out)"), err=True)
        document = _add_cost(document, asked, demand.plants, work)
    _answer(document, pages.write(document, work.runs), said)


def _add_cost(document: Proof, asked: Study, plants: list[str], work: Work) -> Proof:
    from lockstep.proof.cost import add_cost, n_trainings
    from lockstep.screen.runs import Watcher

    with Watcher(n_trainings(asked, plants), console(stderr=True)) as watcher:
        return add_cost(document, asked, plants, work.runs, watcher.tell, work.threads)


def _answer(document: Proof, page: Path, said: Said) -> None:
    """Say what was proven, and end the command with the exit code of its verdict."""
    from lockstep.proof.procedure import exit_code
    from lockstep.screen import continuous, proofs

    if said.format is not None:
        typer.echo(continuous.written(document, said.format, said.file.as_posix()), nl=False)
    elif said.as_json:
        print_json(document.document())
    else:
        proofs.print_proof(document, console())
        for row in document.cost:
            typer.echo(proofs.cost(row))
        tell(later("page: {path}", path=page))
    raise typer.Exit(exit_code(document))


def _check_gradients(asked: Study, work: Work, as_json: bool) -> None:
    """Ask of each backend whether its gradients are the slopes of its loss."""
    from lockstep.proof import gradients
    from lockstep.screen import proofs

    with proofs.ProofWatcher(console(stderr=True)) as watcher, interruption.saying(NOT_PROVEN):
        document = gradients.check_gradients(asked, work.runs, work.threads, watcher.tell)
    if as_json:
        print_json(document.document())
    else:
        proofs.print_gradients(document, console())
    raise typer.Exit(gradients.exit_code(document))
