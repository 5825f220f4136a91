"""`lockstep schema`: the JSON Schema of a study."""

from __future__ import annotations

import typer


def schema() -> None:
    """Print the JSON Schema of a study's file, for editors and other programs; short forms included."""
    from lockstep.study import templates

    typer.echo(templates.as_json(), nl=False)
