"""Tables on terminals of any width: no name is broken, and what is too wide becomes rows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lockstep.proof import verdicts
from lockstep.proof.causes import CAUSES
from lockstep.screen import explanations, tables


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_name_is_broken_however_narrow_the_terminal(width):
    """Every word of every cause stands whole on one line."""
    rows = [{**dict(row), "stage": CAUSES[row.cause].stage} for row in verdicts.explained(CAUSES)]
    said = io.StringIO()
    explanations.print_causes(rows, Console(width=width, file=said))
    lines = said.getvalue().splitlines()
    words = {word for line in lines for word in line.split()}
    for row in rows:
        assert row["cause"] in lines
        missing = set(f"{row['what']} {row['default_of']} {row['mend']}".split()) - words
        assert not missing, missing
    assert all(len(line) <= width for line in lines if all(len(word) <= width - 6 for word in line.split()))


@pytest.mark.parametrize("width", [60, 200])
def test_a_table_that_is_too_narrow_becomes_rows(width):
    said = io.StringIO()
    console = Console(width=width, file=said)
    name = "tensorflow.data.Dataset.from_tensor_slices"
    tables.print_lined("T", ["subject", "PyTorch", "JAX"], [["a batch", f"{name}: kept", "kept\ntwice"]], console)
    assert name in said.getvalue()
    assert ("┃" in said.getvalue()) == (width == 200)
