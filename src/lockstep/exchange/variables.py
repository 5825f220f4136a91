"""In which variable of a program each value of a network lies.

`x` is what the last row gave. What another row than the next one takes in is kept under a name of its own, and brought
back where it is needed; a network without branches has `x` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lockstep.spec import INPUT, LayerFacts


class Step(NamedTuple):
    """A row, what its inputs are called, and the statements that go before and after its own."""

    row: LayerFacts
    taken: tuple[str, ...]
    before: list[str]
    after: list[str]


def variable(name: str) -> str:
    """What a value is called that is kept: 3_relu → relu_3."""
    number, _, kind = name.partition("_")
    return "pixels" if name == INPUT else f"{kind}_{number}"


def steps(rows: Sequence[LayerFacts]) -> Iterator[Step]:
    """Every row in order."""
    before = [INPUT, *(row.name for row in rows)]
    kept = {name for row, last in zip(rows, before, strict=False) for name in row.inputs if name != last}
    for place, (row, last) in enumerate(zip(rows, before, strict=False)):
        taken = tuple("x" if name == last else variable(name) for name in row.inputs)
        bring = [f"x = {taken[0]}"] if len(taken) == 1 and taken[0] != "x" else []
        keep_pixels = ["pixels = x"] if place == 0 and INPUT in kept else []
        keep = [f"{variable(row.name)} = x"] if row.name in kept else []
        yield Step(row, taken, [*keep_pixels, *bring], keep)


def added(row: LayerFacts, relu: str = "relu({})") -> str:
    """The expression of a sum, of {x0}, {x1} …; `relu` is how a rectified input is written."""
    layer, n = row.layer, len(row.inputs)
    first = relu.format("{x0}") if layer.rectified else "{x0}"
    rest = " + ".join(f"{{x{place}}}" for place in range(1, n))
    if layer.others != 1:
        rest = f"{layer.others!r} * {rest if n == 2 else f'({rest})'}"
    return f"{first} + {rest}" if layer.first == 1 else f"{layer.first!r} * {first} + {rest}"


def concatenated(row: LayerFacts, form: str) -> str:
    """The expression of a concatenation along the channels; `form` is how a program writes that of a list, {}."""
    order = range(len(row.inputs))[:: -1 if row.layer.order == "reversed" else 1]
    return form.format(f"[{', '.join(f'{{x{place}}}' for place in order)}]")


def filled(expression: str, taken: Sequence[str]) -> str:
    """An expression of {x}, or of {x0}, {x1} …, with the names in their places."""
    if len(taken) == 1:
        return expression.replace("{x}", "x")
    for place, name in enumerate(taken):
        expression = expression.replace(f"{{x{place}}}", name)
    return expression


def is_sayable(row: LayerFacts) -> bool:
    """Whether a program would write a row so: not one that reads what lies along an axis as if along another."""
    return row.layer.kind != "concat" or row.layer.axis == "channels"
