"""Commands are thin: a file each, a row each, groups of options that build themselves, and few lines."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from lockstep.cli import commands, options

FOLDER = Path(commands.__file__).parent
LONGEST = 15
TABLES = (commands.COMMANDS, commands.OF_DATA)


def length(function: ast.FunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return body[-1].end_lineno - body[0].lineno + 1


def too_long(text: str, names: set[str]) -> list[str]:
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name in names]
    return [function.name for function in found if length(function) > LONGEST]


def names_of(module: str) -> set[str]:
    functions = [function for table in TABLES for function in table.values()]
    return {one.__name__ for one in functions if one.__module__ == f"lockstep.cli.commands.{module}"}


FILES = [path for path in sorted(FOLDER.glob("*.py")) if path.stem != "__init__"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_command_is_short_and_has_a_row(path):
    names = names_of(path.stem)
    assert names, f"{path.name} has no row in COMMANDS"
    assert too_long(path.read_text(encoding="utf-8"), names) == []


def test_a_long_command_is_seen():
    text = 'def run():\n    """Run."""\n' + "    work()\n" * (LONGEST + 1)
    assert too_long(text, {"run"}) == ["run"]
    assert too_long(text.replace("    work()\n", "", 1), {"run"}) == []


@dataclasses.dataclass(frozen=True)
class Size:
    """A group."""

    wide: Annotated[int, typer.Option(help="How wide.")] = 3
    names: Annotated[list[str], typer.Option("--name", help="A name.")] = dataclasses.field(default_factory=list)


def draw(
    place: Annotated[Path, typer.Argument()], size: Size, fast: Annotated[bool, typer.Option("--fast")] = False
) -> None:
    """Draw."""
    typer.echo(f"{place} {size.wide} {size.names} {fast}")


def drawn(*words: str) -> str:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(options.spread(draw))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_options_of_a_group_stand_where_the_group_does_and_build_it():
    assert [*inspect.signature(options.spread(draw)).parameters] == ["place", "wide", "names", "fast"]
    assert drawn("here", "--name", "a", "--wide", "5", "--name", "b", "--fast") == "here 5 ['a', 'b'] True\n"
    assert drawn("here") == "here 3 [] False\n"
    help_of = drawn("--help")
    assert help_of.index("--wide") < help_of.index("--name") < help_of.index("--fast")
