"""`lockstep diff`: what tells two models of people's own apart?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson
from lockstep.language import later as _
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    import numpy as np

Model = Annotated[str, typer.Argument(help="A model: FILE.py:NAME of a class or function.", metavar="FILE:NAME")]
INTERRUPTED = _("interrupted; nothing was written")


@dataclasses.dataclass(frozen=True)
class Feed:
    """What both models are given: their weights, and a batch."""

    weights: Annotated[
        str, typer.Option(help="drawn once for both, from-a (those of the first), or as-is.", metavar="WHICH")
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

    def arrays(self) -> list[np.ndarray] | None:
        """The batch of a file."""
        from lockstep import store
        from lockstep.errors import LockstepError

        if self.batch is None:
            return None
        if not self.batch.is_file():
            hint = _("look for a typing error")
            raise LockstepError("LS-200", _("there is no such file"), where=str(self.batch), hint=hint)
        return [*store.read_npz(self.batch).values()]

    def shape(self) -> tuple[int, ...] | None:
        """The shape that was typed."""
        from lockstep.errors import LockstepError

        if self.input is None:
            return None
        try:
            return tuple(int(size) for size in self.input.split(","))
        except ValueError:
            message = _('"{text}" is no shape', text=self.input)
            raise LockstepError("LS-205", message, where="--input", hint=_("sizes with commas: 3,32,32")) from None

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs that were typed."""
        from lockstep.errors import LockstepError

        for text in self.map:
            if not all(text.partition("=")):
                hint = _("the first model's name, =, the second's: layer3.conv.weight=conv2d_7/kernel")
                raise LockstepError("LS-205", _('"{text}" is no pair', text=text), where="--map", hint=hint)
        return [(text.partition("=")[0], text.partition("=")[2]) for text in self.map]


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

        names: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for part in ("loss", "optimizer", "data", "train_step"):
            text = getattr(self, part)
            if text is not None:
                one, _equals, other = text.partition("=")
                names[0][part], names[1][part] = one, other or one
        return training.Asked(names, self.steps, self.starts)


def diff(
    a: Model, b: Model, feed: Feed, trained: Trained,
    show_mapping: Annotated[bool, typer.Option("--show-mapping", help="List which parameter is which.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Tell two models of your own apart: the places that differ, their causes, the lines to write. Runs both files."""
    from lockstep.proof.pair import difference
    from lockstep.screen import differences

    interruption.end_on_signals()
    given: dict[str, Any] = {"batch": feed.arrays(), "input_shape": feed.shape(), "given": feed.pairs()}
    given["trained"] = trained.asked()
    with interruption.saying(INTERRUPTED):
        found = difference.compare(a, b, weights=feed.weights, **given, tell=lambda what: tell(what, err=True))
    if as_json:
        print_json(found.to_json())
    else:
        differences.print_difference(found, console(), show_mapping)
    raise typer.Exit(0 if found.equal else 1)
