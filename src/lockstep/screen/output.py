"""What commands say: on stdout what was asked for, on stderr all else, in the language in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from lockstep import language
from lockstep.language import say

if TYPE_CHECKING:
    from rich.console import Console


def tell(text: object, err: bool = False) -> None:
    typer.echo(say(text), err=err)


def tell_above(text: object, console: Console) -> None:
    """A line that stays above a bar that may be drawn."""
    console.print(say(text), markup=False, highlight=False, soft_wrap=True)


def console(stderr: bool = False) -> Console:
    """Where tables and bars go."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    # A table that is piped into a file keeps its columns: nothing to fit it into.
    return Console(stderr=stderr, width=None if stream.isatty() else 140)


def print_json(document: dict[str, Any]) -> None:
    """The one document of --json, which says its format: the first, where it has had one only."""
    import json

    from lockstep.store import FORMAT, finite

    text = json.dumps(finite({"format": FORMAT} | document), indent=2, ensure_ascii=False)
    typer.echo(language.CONTROLS.sub(lambda sign: "\n" if sign[0] == "\n" else f"\\u{ord(sign[0]):04x}", text))
