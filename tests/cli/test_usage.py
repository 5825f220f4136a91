"""Errors of usage come from Typer, whose texts may change with its version: those of the installed one are listed here.

A text that a newer version says otherwise, or says in addition, fails by name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
import typer
from pydantic import Field, TypeAdapter, ValidationError

from lockstep.cli import usage
from lockstep.language import Text

RAISED = {
    "fail",
    "UsageError",
    "BadParameter",
    "MissingParameter",
    "NoSuchOption",
    "BadOptionUsage",
    "BadArgumentUsage",
}

# A text of the library's, {} for what it fills in → what a command of ours may say by it.
SAID = {
    "Got unexpected extra argument(s) ({})": ["Got unexpected extra argument(s) (b c)"],
    "Invalid value for {}: {}": ["Invalid value for '--rounds': Input should be greater than or equal to 1"],
    "Missing {}{}.": ["Missing argument 'STUDY'.", "Missing option '--out'."],
    "Missing command.": ["Missing command."],
    "No such command {}.": ["No such command 'frob'.", "No such command 'runs'. Did you mean 'run', 'resume'?"],
    "No such option: {}": ["No such option: --foo"],
    "(Possible options: {})": ["No such option: --ofline (Possible options: --offline)"],
    "Option {} requires {}": ["Option '--threads' requires an argument."],
    "Option {} does not take a value.": ["Option '--quick' does not take a value."],
}
# … → why no command of ours can say it.
NEVER = {
    "Invalid value: {}": "every value belongs to an option or an argument",
    "Missing {}{}. {}": "no kind of value of ours has more to say of one that is missing",
    "Missing parameter: {}": "the text of an exception that nobody prints",
    "Could not open file {}: {}": "no value of ours is opened by the library",
    "Argument {} takes {} values.": "no argument of ours takes a fixed number of values",
    "Value {} is not a valid {}.": "no value of ours has a class of its own",
    "Value must be an iterable.": "no default of ours is a list that is not one",
    **dict.fromkeys(("Error: {}", "Try '{} {}' for help.\n"), "of the library's own way to end, which is not ours"),
    "'{}': {}": "no value of ours has several parts",
    **dict.fromkeys(
        ("{} {} does not exist.", "{} {} is a file.", "{} {} is a directory.", "{} {} is not readable.",
         "{} {} is not writable."),
        "no path of ours is looked at by the library",
    ),
}  # fmt: skip
PIECES = {" {}", "{} {}", ". {}", "{}\n{}"}


def form(node: ast.AST) -> str | None:
    """A text of the source with {} for everything that is filled in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        text = form(node.func.value)
        return text and text.replace("{name!r}", "{}")
    return form(node.args[0]) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_" else None


def texts(tree: ast.AST, of_errors: bool) -> Iterator[str]:
    """What is said where an error of usage is raised; of the module of errors every text that is filled in."""
    for node in ast.walk(tree):
        if of_errors and isinstance(node, ast.JoinedStr):
            yield str(form(node))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in RAISED:
            yield from filter(None, map(form, node.args))


def of_the_installed_version() -> set[str]:
    found: set[str] = set()
    for path in sorted(Path(typer.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= set(texts(tree, path.parts[-2:] == ("_click", "exceptions.py")))
    return found - PIECES


def test_every_text_of_the_installed_version_is_known():
    found = of_the_installed_version()
    assert sorted(found - SAID.keys() - NEVER.keys()) == []
    assert sorted((SAID.keys() | NEVER.keys()) - found) == []


def test_a_text_that_is_new_is_seen():
    assert set(texts(ast.parse('ctx.fail(_("Wrong word {name!r}.").format(name=name))'), False)) == {"Wrong word {}."}
    assert set(texts(ast.parse('message = f"Wrong word {word}."'), True)) == {"Wrong word {}."}


SAMPLES = [sample for samples in SAID.values() for sample in samples]


@pytest.mark.parametrize("sample", SAMPLES)
def test_what_a_command_may_say_is_translated(sample):
    assert isinstance(usage.error(sample), Text)
    assert not isinstance(usage.error(f"Well: {sample}"), Text)


def of_numbers() -> list[str]:
    """What is said of a number that is none, or out of its range, by the library that Typer asks."""
    found = []
    for value in ("x", 1.5, 0, 9):
        with pytest.raises(ValidationError) as raised:
            TypeAdapter(Annotated[int, Field(ge=1, le=8)]).validate_python(value)
        found.append(raised.value.errors()[0]["msg"])
    return found


def test_what_is_said_of_numbers_is_translated_and_no_text_is_left_over():
    said = [usage.error(text) for text in [*SAMPLES, *of_numbers()]]
    assert {text.forms[0] for text in said if isinstance(text, Text)} == set(usage.ERRORS)
