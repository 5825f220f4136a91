"""`lockstep diff`: what tells two models of people's own apart?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import print_json, tell

if TYPE_CHECKING:
    from lockstep.store.documents.difference import Difference

Model = Annotated[str, typer.Argument(help="A model: FILE.py:NAME of a class or function.", metavar="FILE:NAME")]
INTERRUPTED = later("interrupted; nothing was written")


@dataclasses.dataclass(frozen=True)
class Feed:
    """What both models are given: their weights, and a batch."""

    weights: Annotated[
        str,
        typer.Option(
            help="drawn once for both, from-a (those of the first), as-is, or a bundle's .npz.", metavar="WHICH"
        ),
    ] = "drawn"
    batch: Annotated[Path | None, typer.Option(help="A batch as the first model takes it: .npz.", metavar="FILE")] = (
        None
    )
    input: Annotated[
        str | None,
        typer.Option(help="One example's shape, as the first model takes it: 3,32,32.", metavar="SHAPE"),
    ] = None
    map: Annotated[
        list[str], typer.Option(help="Pair two parameters by name: A=B (again for more).", metavar="A=B")
    ] = dataclasses.field(default_factory=list)
    seed: Annotated[int, typer.Option(help="Of the weights and the batch that are drawn.", min=0, metavar="N")] = 0

    def asked(self) -> dict[str, Any]:
        """What `difference.compare` takes of it."""
        from lockstep.proof.pair import feed

        return {
            "weights": self.weights, "batch": feed.arrays(self.batch), "input_shape": feed.shape(self.input),
            "given": feed.pairs(self.map), "seed": self.seed,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Answer:
    """Where the answer goes beside the terminal."""

    out: Annotated[
        Path | None, typer.Option(help="Write diff.json and the page diff.html into a folder.", metavar="FOLDER")
    ] = None
    bundle: Annotated[
        bool, typer.Option("--bundle", help="Pack what nothing explains, to be repeated alone (into --out, or diff/).")
    ] = False
    show_mapping: Annotated[bool, typer.Option("--show-mapping", help="List which parameter is which.")] = False

    @property
    def folder(self) -> Path | None:
        """Where files are written, where somebody asks for any."""
        return Path("diff") if self.bundle and self.out is None else self.out

    def show(self, found: Difference, page: Path | None) -> None:
        """Print what was found, and where its page is."""
        from lockstep.store import prose

        for line in prose.lines(found, self.show_mapping):
            tell(line)
        if page is not None:
            tell(later("page: {path}", path=page))


@dataclasses.dataclass(frozen=True)
class Trained:
    """How both models are trained: by what their files have under the usual names, or under these."""

    loss: Annotated[
        str | None, typer.Option(help="Name of the loss in both files, or A=B.", metavar="NAME", show_default="loss")
    ] = None
    optimizer: Annotated[
        str | None,
        typer.Option(help="Name of what gives the optimizer, or A=B.", metavar="NAME", show_default="optimizer"),
    ] = None
    data: Annotated[str | None, typer.Option(help="Name of the loader in both files, or A=B.", metavar="NAME")] = None
    train_step: Annotated[
        str | None,
        typer.Option(help="Name of the training step, or A=B.", metavar="NAME", show_default="train_step"),
    ] = None
    steps: Annotated[int, typer.Option(help="Take so many training steps in both.", metavar="N", min=0, max=10_000)] = 0
    starts: Annotated[
        bool, typer.Option("--starts", help="Compare how the files draw their own starting weights, too.")
    ] = False

    def asked(self) -> Any:
        """What is asked, a name for each file."""
        from lockstep.proof.pair import training

        names = {part: getattr(self, part) for part in ("loss", "optimizer", "data", "train_step")}
        return training.asked(names, self.steps, self.starts)


def diff(a: Model, b: Model, feed: Feed, trained: Trained, answer: Answer, as_json: AsJson = False) -> None:
    """Tell two models of your own apart: the places that differ, their causes, the lines to write. Runs both files."""
    from lockstep.proof.pair import difference, outcome

    interruption.end_on_signals()
    asked = feed.asked() | {"trained": trained.asked(), "bundles": answer.folder if answer.bundle else None}
    with interruption.saying(INTERRUPTED):
        found = difference.compare(a, b, **asked, tell=lambda what: tell(what, err=True))
        page = outcome.write(found, answer.folder) if answer.folder is not None else None
    if as_json:
        print_json(found.document())
    else:
        answer.show(found, page)
    raise typer.Exit(outcome.exit_code(found))
