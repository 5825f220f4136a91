"""What a branch IS: blocks of layers that part and join, or come several times; and how branches join.

A block stands where a layer may stand and holds layers and blocks of its own. It computes nothing itself: a network is
laid out into rows, each a layer in its place that says by name which values it takes in (`network.LayerFacts.inputs`);
where branches meet, a row of one of JOINS takes in several. Backends, the judge and the report see rows alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from lockstep.language import joined, later
from lockstep.spec.layers import PlainLayer, Shape
from lockstep.spec.records import (
    BLOCKS,
    Flag,
    NonNegative,
    Whole,
    completed,
    kind,
    kinds_of,
    lists_of,
    record,
    several,
    short_form,
)

MOST_TIMES = 1000  # that layers are repeated


class _Join:
    """A row that takes in several values; it has no parameters, no state and no window."""

    has_state: ClassVar[bool] = False

    def parameter_shapes(self, shape: Shape) -> dict[str, Shape]:
        """None."""
        return {}

    def multiply_adds(self, shape: Shape) -> int:
        """0: only products with parameters are counted."""
        return 0

    def window(self) -> None:
        """A join slides no window."""


@record
class Add(_Join):
    """x₁ + x₂ + …, number by number: x₁ is what a residual's layers give, x₂ its shortcut.

    y = first · x₁ + others · (x₂ + …), where a `rectified` x₁ is max(x₁, 0): what programs do that forget, double or
    scale a shortcut, or have the activation before the sum.
    """

    first: NonNegative = 1.0
    others: NonNegative = 1.0
    rectified: Flag = False
    kind: Literal["add"] = kind("add")

    def joined_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape of the sum; raises ValueError where the shapes differ."""
        if len(set(shapes)) > 1:
            raise ValueError(later("a sum needs equal shapes, and its branches give {shapes}", shapes=_said(shapes)))
        return shapes[0]


@record
class Concat(_Join):
    """x₁, x₂, … one behind the other along the channels, or along the features of flat values.

    `order` reversed puts the last first. `axis` height or width lays them out along that axis and reads the numbers as
    if they lay along the channels: what a program does that concatenates along another axis before it flattens.
    """

    order: Literal["given", "reversed"] = "given"
    axis: Literal["channels", "height", "width"] = "channels"
    kind: Literal["concat"] = kind("concat")

    def joined_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """The shape of all together; raises ValueError where they differ in more than their channels."""
        if len({shape[:-1] for shape in shapes}) > 1:
            raise ValueError(
                later(
                    "a concatenation needs equal heights and widths, and its branches give {shapes}",
                    shapes=_said(shapes),
                )
            )
        if self.axis != "channels" and (len(set(shapes)) > 1 or len(shapes[0]) != 3):
            raise ValueError(
                later(
                    "along the {axis} it joins images of one shape, and its branches give {shapes}",
                    axis=self.axis,
                    shapes=_said(shapes),
                )
            )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


def _said(shapes: tuple[Shape, ...]) -> str:
    return joined(("×".join(map(str, shape)) for shape in shapes), later(" and "))


_AnyJoin = Add | Concat
JOINS = kinds_of(_AnyJoin)
Join = Annotated[_AnyJoin, Field(discriminator="kind"), short_form(_AnyJoin)]


@record
class Residual:
    """Layers with a way around them: y = join(layers(x), shortcut(x)); an empty shortcut is x itself (He et al. 2016).

    In short `{residual = [layers], shortcut = [layers], join = "add"}`.
    """

    layers: Annotated[tuple[Layer, ...], several(Layer, min_length=1), Field(min_length=1)]
    shortcut: Annotated[tuple[Layer, ...], several(Layer)] = ()
    join: Join = Add()
    kind: Literal["residual"] = kind("residual")

    @property
    def ways(self) -> tuple[tuple[str, tuple[Layer, ...]], ...]:
        """(the key that holds them, layers) of each branch, in the order in which they are joined."""
        return ("layers", self.layers), ("shortcut", self.shortcut)

    def with_ways(self, ways: Sequence[Any]) -> dict[str, Any]:
        """The fields that hold other layers than `ways`."""
        return {"layers": ways[0], "shortcut": ways[1]}


@record
class Parallel:
    """Branches that take in the same and are joined (Szegedy et al. 2015): `{parallel = [[layers], [layers]]}`."""

    branches: Annotated[
        tuple[Annotated[tuple[Layer, ...], several(Layer, min_length=1), Field(min_length=1)], ...],
        lists_of(Layer, min_length=2),
        Field(min_length=2),
    ]
    join: Join = Concat()
    kind: Literal["parallel"] = kind("parallel")

    @property
    def ways(self) -> tuple[tuple[str, tuple[Layer, ...]], ...]:
        """(the key that holds them, layers) of each branch, in the order in which they are joined."""
        return tuple((f"branches[{index}]", branch) for index, branch in enumerate(self.branches))

    def with_ways(self, ways: Sequence[Any]) -> dict[str, Any]:
        """The fields that hold other layers than `ways`."""
        return {"branches": tuple(ways)}


@record
class Repeat:
    """Layers several times, one after the other, each time with parameters of their own.

    In short `{repeat = 3, layers = [layers]}`.
    """

    times: Annotated[Whole, Field(ge=1, le=MOST_TIMES)]
    layers: Annotated[tuple[Layer, ...], several(Layer, min_length=1), Field(min_length=1)]
    kind: Literal["repeat"] = kind("repeat")

    @property
    def ways(self) -> tuple[tuple[str, tuple[Layer, ...]], ...]:
        """(the key that holds them, layers): the one way through them."""
        return (("layers", self.layers),)

    def with_ways(self, ways: Sequence[Any]) -> dict[str, Any]:
        """The fields that hold other layers than `ways`."""
        return {"layers": ways[0]}


_AnyLayer = PlainLayer | Residual | Parallel | Repeat
BLOCKS.update(kinds_of(Residual | Parallel | Repeat))
Layer = Annotated[_AnyLayer, Field(discriminator="kind"), short_form(_AnyLayer)]
for _block in BLOCKS.values():
    completed(_block)
