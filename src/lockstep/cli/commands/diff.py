"""`lockstep diff`: what tells two models of people's own apart?"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.cli import interruption
from lockstep.cli.options import AsJson
from lockstep.language import later
from lockstep.screen.output import console, print_json, tell

if TYPE_CHECKING:
    import numpy as np

Model = Annotated[str, typer.Argument(help="A model: FILE.py:NAME of a class or function.", metavar="FILE:NAME")]
INTERRUPTED = later("interrupted; nothing was written")


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
        from lockstep import store
        from lockstep.errors import LockstepError

        if self.batch is None:
            return None
        if not self.batch.is_file():
            hint = later("look for a typing error")
            raise LockstepError("LS-200", later("there is no such file"), where=str(self.batch), hint=hint)
        return [*store.read_npz(self.batch).values()]

    def shape(self) -> tuple[int, ...] | None:
        from lockstep.errors import LockstepError

        if self.input is None:
            return None
        try:
            return tuple(int(size) for size in self.input.split(","))
        except ValueError:
            message = later('"{text}" is no shape', text=self.input)
            raise LockstepError("LS-205", message, where="--input", hint=later("sizes with commas: 3,32,32")) from None

    def pairs(self) -> list[tuple[str, str]]:
        from lockstep.errors import LockstepError

        for text in self.map:
            if not all(text.partition("=")):
                hint = later("the first model's name, =, the second's: layer3.conv.weight=conv2d_7/kernel")
                raise LockstepError("LS-205", later('"{text}" is no pair', text=text), where="--map", hint=hint)
        return [(text.partition("=")[0], text.partition("=")[2]) for text in self.map]


def diff(
    a: Model, b: Model, feed: Feed,
    show_mapping: Annotated[bool, typer.Option("--show-mapping", help="List which parameter is which.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Tell two models of your own apart: the places that differ, their causes, the lines to write. Runs both files."""
    from lockstep.proof.pair import difference
    from lockstep.screen import differences

    interruption.end_on_signals()
    given: dict[str, Any] = {"batch": feed.arrays(), "input_shape": feed.shape(), "given": feed.pairs()}
    with interruption.saying(INTERRUPTED):
        found = difference.compare(a, b, weights=feed.weights, **given, tell=lambda what: tell(what, err=True))
    if as_json:
        print_json(found.to_json())
    else:
        differences.print_difference(found, console(), show_mapping)
    raise typer.Exit(0 if found.equal else 1)
