"""`lockstep schema`: the JSON Schema of a study, or of a document."""

from __future__ import annotations

from typing import Annotated

import typer

Document = Annotated[
    str, typer.Argument(help="study, or a document: proof, metrics, bench … (default: study).", metavar="DOCUMENT")
]


def schema(document: Document = "study") -> None:
    """Print the JSON Schema of a study's file, or of a JSON document, for editors and other programs."""
    import json

    from lockstep.check import schemas

    typer.echo(json.dumps(schemas.schema(document), indent=2, ensure_ascii=False))
