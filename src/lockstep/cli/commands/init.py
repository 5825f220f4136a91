"""`lockstep init`: a study to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from lockstep.language import later
from lockstep.screen.output import tell


def init(
    name: Annotated[Path, typer.Argument(help="What to call it; .toml is added.", metavar="NAME")],
    kind: Annotated[str, typer.Option(help="What to begin with: mlp, cnn, lenet or lab.", metavar="KIND")] = "mlp",
) -> None:
    """Write a study to begin with, every key explained in it, and its schema for editors."""
    from lockstep.study import templates

    path = templates.new_study(name, kind)
    schema = path.with_name(templates.SCHEMA_FILE)
    tell(
        later(
            "{path}: a study to begin with; {schema} lets editors check and complete it", path=path, schema=schema.name
        )
    )
    tell(later("next: lockstep run {path}", path=shlex.quote(str(path))))
