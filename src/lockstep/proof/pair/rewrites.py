"""The line to write instead: a call in a person's source made otherwise, by its syntax tree.

An edit is of one call that stands at a line: it can be made in a text that other edits were made in before, so several
remedies of one line end in one line that holds them all.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from lockstep.store.documents.difference import Remedy


@dataclasses.dataclass(frozen=True)
class Edit:
    """A call of a person's, found by its line and name, and what stands there instead."""

    file: str
    line: int
    callee: str  # the last part of the called name
    what: str  # two edits of one call that say the same are one
    change: Callable[[ast.Call, ast.Module], ast.expr | None]

    def made(self, source: str) -> tuple[str, Remedy] | None:
        """The text with this edit made, and the remedy; None where the call is not to be found for sure."""
        try:
            tree = ast.parse(source)
        except (ValueError, SyntaxError):
            return None
        found = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and node.lineno <= self.line <= (node.end_lineno or node.lineno)
            and name_of(node).lower() == self.callee.lower()
        ]  # fmt: skip
        innermost = [node for node in found if node.lineno == self.line] if len(found) > 1 else found
        if len(innermost) != 1:
            return None
        (node,) = innermost
        first, last = node.lineno, node.end_lineno or node.lineno
        new = self.change(node, tree)
        if new is None:
            return None
        lines = source.splitlines(keepends=True)
        head = lines[first - 1].encode()[: node.col_offset].decode()
        tail = lines[last - 1].encode()[node.end_col_offset or 0 :].decode()
        text = head + ast.unparse(new) + tail
        before = " ".join(line.strip() for line in lines[first - 1 : last])
        remedy = Remedy(file=self.file, line=first, before=before, after=text.strip(), end=last)
        return "".join([*lines[: first - 1], text, *lines[last:]]), remedy

    def remedy(self) -> Remedy | None:
        """What stands in the file, and what to write instead."""
        try:
            found = self.made(Path(self.file).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found[1] if found else None


def name_of(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return ast.unparse(node.func).rpartition(".")[2]


def edited(source: str, edits: Iterable[Edit]) -> tuple[str, int]:
    """A text with all edits made in it that can be made, the last line's first, and how many were made."""
    n = 0
    for edit in sorted({(each.line, each.callee, each.what): each for each in edits}.values(), key=lambda e: -e.line):
        found = edit.made(source)
        if found is not None:
            source, n = found[0], n + 1
    return source, n


def written(remedy: Remedy, into: Path) -> None:
    """Write a remedy into a copy of its file."""
    lines = into.read_text(encoding="utf-8").splitlines(keepends=True)
    old = lines[remedy.line - 1]
    lead = old[: len(old) - len(old.lstrip())]
    lines[remedy.line - 1 : max(remedy.end, remedy.line)] = [lead + remedy.after + ("\n" if old.endswith("\n") else "")]
    into.write_text("".join(lines), encoding="utf-8")


# ------------------------------------------------------------------------------------------------- another argument


def argument(file: str, line: int, callee: str, name: str, value: Any, names: Sequence[str] = ()) -> Edit:
    """The call with an argument put to a value; `names` are those of its arguments in order."""

    def change(node: ast.Call, _tree: ast.Module) -> ast.expr | None:
        return with_argument(node, name, value, names)

    return Edit(file, line, callee, f"{name}={value!r}", change)


def keyword(file: str, line: int, name: str, value: Any) -> Edit | None:
    """The one call of a line that is given this by name, with another value: a layer that is called by its own name."""
    try:
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return None
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.lineno <= line <= (node.end_lineno or node.lineno)
        and any(each.arg == name for each in node.keywords)
    ]  # fmt: skip
    return argument(file, found[0].lineno, name_of(found[0]), name, value) if len(found) == 1 else None


def without(file: str, line: int, name: str) -> Edit | None:
    """The one call of a line that is given this by name, without it."""
    edit = keyword(file, line, name, None)
    if edit is None:
        return None

    def change(node: ast.Call, _tree: ast.Module) -> ast.expr | None:
        return ast.Call(node.func, node.args, [each for each in node.keywords if each.arg != name])

    return dataclasses.replace(edit, what=f"no {name}", change=change)


def rewritten(file: str, line: int, callee: str, name: str, value: Any, names: Sequence[str] = ()) -> Remedy | None:
    """The line with the argument of this call put to a value; None where the call is not to be found there."""
    return argument(file, line, callee, name, value, names).remedy()


def with_argument(node: ast.Call, name: str, value: Any, names: Sequence[str] = ()) -> ast.Call | None:
    """A call with an argument put to a value."""
    arguments, keywords = [*node.args], [each for each in node.keywords if each.arg != name]
    place = names.index(name) if name in names else len(arguments)
    if any(isinstance(each, ast.Starred) for each in arguments):
        return None
    if place < len(arguments):
        arguments[place] = _constant(value)
    else:
        keywords.append(ast.keyword(name, _constant(value)))
    return ast.Call(node.func, arguments, keywords)


def _constant(value: Any) -> ast.expr:
    return ast.Tuple([_constant(each) for each in value], ast.Load()) if isinstance(value, list | tuple) else (
        ast.Constant(value)
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- what is no argument

Pads = Sequence[tuple[int, int]]


def padded(
    framework: str, file: str, line: int, callee: str, pads: Pads, kind: str, is_layer: bool, names: Sequence[str]
) -> Edit:  # fmt: skip
    """The call with this border: by its own argument where that can say it, else by a layer before it."""

    def change(node: ast.Call, tree: ast.Module) -> ast.expr | None:
        if framework == "torch":
            return _padded_torch(node, pads, kind, is_layer, names)
        if framework == "keras":
            return _padded_keras(node, tree, pads, kind, names)
        return with_argument(node, "padding", [list(pair) for pair in pads], names)

    return Edit(file, line, callee, f"pads {pads}", change)


def _padded_torch(node: ast.Call, pads: Pads, kind: str, is_layer: bool, names: Sequence[str]) -> ast.expr | None:
    n = len(pads)
    if all(before == behind for before, behind in pads):
        amounts = [before for before, _behind in pads]
        return with_argument(node, "padding", amounts[0] if len(set(amounts)) == 1 else amounts, names)
    around = ", ".join(str(side) for pair in reversed(pads) for side in pair)
    inner = with_argument(node, "padding", 0, names)
    if inner is None:
        return None
    prefix = prefix_of(node)
    fill = 'float("-inf")' if "max_pool" in kind else ""
    if is_layer:
        border = f"{prefix}ConstantPad{n}d(({around}), {fill})" if fill else f"{prefix}ZeroPad{n}d(({around}))"
        return expression(f"{prefix}Sequential({border}, {ast.unparse(inner)})")
    if not inner.args:
        return None
    first = ast.unparse(inner.args[0])
    inner.args[0] = expression(f"{prefix}pad({first}, ({around})" + (f", value={fill})" if fill else ")"))
    return inner


def _padded_keras(node: ast.Call, tree: ast.Module, pads: Pads, kind: str, names: Sequence[str]) -> ast.expr | None:
    inner = with_argument(node, "padding", "valid", names)
    keras = _keras(node, tree)
    if inner is None or not any(map(any, pads)):
        return inner
    if not keras or (kind != "conv" and "pool" not in kind):
        return None
    prefix, n = prefix_of(node), len(pads)
    amounts = ast.unparse(_constant(pads if n > 1 else pads[0]))
    border = f"{prefix}ZeroPadding{n}D({amounts})"
    if "max_pool" in kind:
        around = ast.unparse(_constant([(0, 0), *pads, (0, 0)]))
        border = f'{prefix}Lambda(lambda x: {keras}ops.pad(x, {around}, constant_values=float("-inf")))'
    return expression(f"{keras}Sequential([{border}, {ast.unparse(inner)}])")


def cropped(framework: str, file: str, line: int, callee: str, cut: Pads, call: Any, names: Sequence[str]) -> Edit:
    """A transposed convolution that cuts off so much of what it gives."""
    lows, highs = [-first for first, _last in cut], [-last for _first, last in cut]

    def change(node: ast.Call, tree: ast.Module) -> ast.expr | None:
        if framework == "torch":
            rest = [low - high for low, high in zip(lows, highs, strict=True)]
            if min(lows) < 0 or min(rest) < 0:
                return None
            inner = with_argument(node, "padding", _one(lows), names)
            return None if inner is None else with_argument(inner, "output_padding", _one(rest), names)
        if framework == "keras":
            inner, keras = with_argument(node, "padding", "valid", names), _keras(node, tree)
            if inner is None or not keras or min(*lows, *highs) < 0:
                return None
            amounts = ast.unparse(_constant([*zip(lows, highs, strict=True)] if len(cut) > 1 else (lows[0], highs[0])))
            border = f"{prefix_of(node)}Cropping{len(cut)}D({amounts})"
            return expression(f"{keras}Sequential([{ast.unparse(inner)}, {border}])")
        size = call.arguments.get("kernel_size")
        if not isinstance(size, list) or len(size) != len(cut):
            return None
        around = [[n - 1 - low, n - 1 - high] for n, low, high in zip(size, lows, highs, strict=True)]
        return with_argument(node, "padding", around, names)

    return Edit(file, line, callee, f"crop {cut}", change)


def _one(values: Sequence[int]) -> int | list[int]:
    return values[0] if len(set(values)) == 1 else [*values]


def flattened(framework: str, file: str, line: int, callee: str, axes: Sequence[int]) -> Edit:
    """A flattening with the axes of its image in another order before it; `axes` are those of one example."""
    turned = ", ".join(str(axis + 1) for axis in axes)

    def change(node: ast.Call, tree: ast.Module) -> ast.expr | None:
        if callee == "Flatten":
            keras = _keras(node, tree)
            if framework != "keras" or not keras:
                return None
            return expression(f"{keras}Sequential([{prefix_of(node)}Permute(({turned})), {ast.unparse(node)}])")
        name = {"view": "reshape"}.get(name_of(node), name_of(node))
        turn = "permute" if framework == "torch" else "transpose"
        method = isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in names_of(tree)
        if method and isinstance(node.func, ast.Attribute):
            value = expression(f"{ast.unparse(node.func.value)}.{turn}(0, {turned})")
            return ast.Call(ast.Attribute(value, name, ast.Load()), node.args, node.keywords)
        if not node.args:
            return None
        first = f"{prefix_of(node)}{turn}({ast.unparse(node.args[0])}, (0, {turned}))"
        return ast.Call(node.func, [expression(first), *node.args[1:]], node.keywords)

    return Edit(file, line, callee, f"axes {turned}", change)


def prefix_of(node: ast.Call) -> str:
    """What stands before the last part of a called name: "nn." of nn.Conv2d."""
    return "".join(ast.unparse(node.func).rpartition(".")[:2])


def _keras(node: ast.Call, tree: ast.Module) -> str:
    """How a file says Keras's own prefix: "keras.", "tf.keras."; "" where it does not."""
    prefix = prefix_of(node)
    if prefix.endswith("keras.layers."):
        return prefix.removesuffix("layers.")
    return "keras." if "keras" in names_of(tree) else "tf.keras." if "tf" in names_of(tree) else ""


def names_of(tree: ast.Module) -> set[str]:
    """The names that a file gives to modules, with what it reaches through them."""
    names = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return names | {f"{name}.{part}" for name in names for part in ("nn", "ops", "numpy", "functional", "layers")}


def expression(text: str) -> ast.expr:
    """A text as a tree."""
    return ast.parse(text, mode="eval").body
