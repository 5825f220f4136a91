"""What `lockstep explain` lays out: causes of a divergence, and an error's code with its remedy."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from lockstep.language import _, say
from lockstep.screen.tables import unbroken
from lockstep.screen.words import escape, word


def print_causes(rows: Sequence[Mapping[str, str]], console: Console) -> None:
    """Causes one below the other, by the stage that shows them first.

    Not a table: names of options are long, and a name that is broken over two lines cannot be searched for or copied.
    """
    for stage in dict.fromkeys(row["stage"] for row in rows):
        heading = _("shows first in: {stage}", stage=_(stage))
        console.print(f"[bold]{escape(heading)}[/]\n", highlight=False)
        for row in (row for row in rows if row["stage"] == stage):
            console.print(f"[bold]{row['cause']}[/]", soft_wrap=True, highlight=False)
            known_from = _("known from: {what}", what=word(row["default_of"]))
            for text in (word(row["what"]), known_from, f"→ {word(row['mend'])}"):
                console.print(escape(unbroken(text, console.width)), soft_wrap=True, highlight=False)
            console.print()


def print_remedy(row: Mapping[str, Any], console: Console) -> None:
    """An error's code explained, as `remedies.explain` gives it."""
    facts = {"what": row["what"], "exit_code": row["exit_code"]}
    meaning = _("{what} (exit code {exit_code})", **facts)
    console.print(f"[bold]{row['code']}[/]: {escape(meaning)}", highlight=False)
    parts = {_("cause"): row["cause"], _("example"): row["example"], _("remedy"): row["remedy"]}
    indent = max(8, *map(len, parts))
    for name, text in parts.items():
        lines = textwrap.wrap(say(text), max(console.width - 12, 40), break_long_words=False, break_on_hyphens=False)
        for nth, line in enumerate(lines):
            console.print(f"  {'' if nth else name:<{indent}} {escape(line)}", soft_wrap=True, highlight=False)
