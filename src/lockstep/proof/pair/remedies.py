"""The line to write instead: a call in a person's source with another argument, by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lockstep.store.documents.difference import Remedy


def rewritten(file: str, line: int, callee: str, argument: str, value: Any, names: Sequence[str] = ()) -> Remedy | None:
    """The line with the argument of this call put to a value; None where the call is not to be found there.

    `callee` is the last part of the function's or class's name, `names` those of its arguments in order.
    """
    try:
        source = Path(file).read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError):
        return None
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or node.lineno)
        and ast.unparse(node.func).rpartition(".")[2].lower() == callee.lower()
    ]  # fmt: skip
    if len(found) != 1 or found[0].lineno != found[0].end_lineno:
        return None
    (node,) = found
    given: ast.expr = ast.Constant(value) if not isinstance(value, list) else _tuple(value)
    arguments, keywords = [*node.args], [keyword for keyword in node.keywords if keyword.arg != argument]
    place = names.index(argument) if argument in names else len(arguments)
    if any(isinstance(each, ast.Starred) for each in arguments):
        return None
    if place < len(arguments):
        arguments[place] = given
    else:
        keywords.append(ast.keyword(argument, given))
    new = ast.Call(node.func, arguments, keywords)
    text = source.splitlines()[node.lineno - 1]
    encoded = text.encode()
    head, tail = encoded[: node.col_offset].decode(), encoded[node.end_col_offset or 0 :].decode()
    after = (head + ast.unparse(new) + tail).strip()
    return Remedy(file=file, line=node.lineno, before=text.strip(), after=after)


def _tuple(values: list[Any]) -> ast.expr:
    return ast.Tuple([ast.Constant(value) for value in values], ast.Load())


def written(remedy: Remedy, into: Path) -> None:
    """Write a remedy into a copy of its file."""
    lines = into.read_text(encoding="utf-8").splitlines(keepends=True)
    old = lines[remedy.line - 1]
    lead = old[: len(old) - len(old.lstrip())]
    lines[remedy.line - 1] = lead + remedy.after + ("\n" if old.endswith("\n") else "")
    into.write_text("".join(lines), encoding="utf-8")
