"""What an error says to the person who reads it."""

from __future__ import annotations

from rich.console import Console

from lockstep.errors import LockstepError
from lockstep.language import say
from lockstep.screen.words import escape


def print_error(error: LockstepError, console: Console) -> None:
    """Every problem, for the person who reads it."""
    for problem in error.problems:
        place, message = (
            f" [bold]{escape(say(problem.where), keep='')}[/]" if problem.where else "",
            escape(say(problem.message)),
        )
        console.print(f"[bold red]{problem.code}[/]{place}: {message}", soft_wrap=True, highlight=False)
        if problem.hint:
            console.print(f"    → {escape(say(problem.hint))}", soft_wrap=True, highlight=False)
