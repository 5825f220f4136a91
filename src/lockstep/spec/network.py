"""What a network IS: layers in order, no numbers; and each layer in its place."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import Field

from lockstep.errors import LockstepError, Problem
from lockstep.language import later, reason
from lockstep.spec.branches import Layer
from lockstep.spec.initializers import HeNormal, Initializer
from lockstep.spec.layers import Shape
from lockstep.spec.records import BLOCKS, changed, record, several

INPUT = "input"  # the name of what enters a network: its pixels
MOST_ROWS = 2000  # that a network is laid out into
AnyLayer = TypeVar("AnyLayer")


@dataclasses.dataclass(frozen=True)
class LayerFacts(Generic[AnyLayer]):
    """One layer in its place: `name` is `"<index>_<kind>"`, shapes have no batch axis, fields are in pixels.

    A layer takes in one value; a row of `spec.JOINS` several, and then `input_shape` is that of the first.
    """

    name: str
    layer: AnyLayer
    input_shape: Shape
    output_shape: Shape
    parameter_shapes: dict[str, Shape]
    multiply_adds: int
    receptive_field: tuple[int, int] | None
    inputs: tuple[str, ...] = (INPUT,)  # the values that it takes in: the pixels, or what a layer of this name puts out
    input_shapes: tuple[Shape, ...] = ()  # of each of them; by default `input_shape` alone
    where: str = ""  # the key of its record: layers[2].shortcut[0]

    def __post_init__(self) -> None:
        """Fill in the shapes of the inputs."""
        if not self.input_shapes:
            object.__setattr__(self, "input_shapes", (self.input_shape,))

    @property
    def parameters(self) -> int:
        """How many numbers this layer learns."""
        return sum(math.prod(shape) for shape in self.parameter_shapes.values())


@record
class Network:
    """Layers in order, no numbers. `initializer` draws the kernels of layers that name none of their own."""

    layers: Annotated[tuple[Layer, ...], several(Layer, min_length=1), Field(min_length=1)]
    initializer: Initializer = HeNormal()

    def facts(self, input_shape: Shape) -> list[LayerFacts]:
        """Every layer in its place for images of `input_shape` (height, width, channels), branches one after another.

        Raises LockstepError (LS-206) that names each layer that does not fit, its input and why.
        """
        layout = _Layout(tuple(input_shape))
        layout.through(self.layers, layout.pixels, "layers")
        if layout.problems:
            raise LockstepError.several(layout.problems)
        return layout.rows

    def every_layer(self) -> Iterator[Any]:
        """Every layer that is written, those of branches and of what is repeated once; no block itself."""
        return _leaves(self.layers)

    def with_layers(self, change: Callable[[str, Any], Any]) -> Network:
        """The network with each layer, and each block's join, as `change` makes it of (`LayerFacts.where`, layer)."""
        return changed(self, layers=_each_changed(self.layers, "layers", change))

    def summary(self, input_shape: Shape) -> dict[str, Any]:
        """Parameters and multiply-adds of the whole, and layer by layer under "network", as JSON types."""
        rows = self.facts(input_shape)
        keys = ("name", "input_shape", "output_shape", "parameters", "multiply_adds", "receptive_field")
        before = INPUT
        network = []
        for row in rows:
            described = {"kind": row.layer.kind, **{key: getattr(row, key) for key in keys}}
            network.append(described if row.inputs == (before,) else described | {"inputs": row.inputs})
            before = row.name
        return {
            "parameters": sum(row.parameters for row in rows),
            "multiply_adds": sum(row.multiply_adds for row in rows),
            "network": network,
        }

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Canonical name `"<index>_<kind>/<parameter>"` → shape, in order."""
        return {
            f"{row.name}/{parameter}": shape
            for row in self.facts(input_shape)
            for parameter, shape in row.parameter_shapes.items()
        }


def _leaves(layers: Sequence[Any]) -> Iterator[Any]:
    for layer in layers:
        if layer.kind in BLOCKS:
            for _key, way in layer.ways:
                yield from _leaves(way)
        else:
            yield layer


def _each_changed(layers: Sequence[Any], where: str, change: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    found = []
    for index, layer in enumerate(layers):
        place = f"{where}[{index}]"
        if layer.kind not in BLOCKS:
            found.append(change(place, layer))
            continue
        ways = [_each_changed(way, f"{place}.{key}", change) for key, way in layer.ways]
        join = {"join": change(place, layer.join)} if hasattr(layer, "join") else {}
        found.append(changed(layer, **layer.with_ways(ways), **join))
    return tuple(found)


class _Value(NamedTuple):
    """A value on its way: which row put it out, and what one of its numbers has seen of the image."""

    name: str
    shape: Shape
    field: tuple[int, int]
    jump: tuple[int, int]  # pixels of the image between two neighbours


class _Layout:
    """Layers and blocks laid out into rows; of a branch in which a value does not fit, the rest is not looked at."""

    def __init__(self, input_shape: Shape) -> None:
        self.pixels = _Value(INPUT, input_shape, (1, 1), (1, 1))
        self.rows: list[LayerFacts] = []
        self.problems: list[Problem] = []

    def through(self, layers: Sequence[Any], value: _Value | None, where: str) -> _Value | None:
        for index, layer in enumerate(layers):
            value = self._one(layer, value, f"{where}[{index}]") if value else None
        return value

    def _one(self, layer: Any, value: _Value | None, where: str) -> _Value | None:
        if layer.kind == "repeat":
            for _ in range(layer.times):
                value = self.through(layer.layers, value, f"{where}.layers")
            return value
        if layer.kind in BLOCKS:
            ends = [self.through(way, value, f"{where}.{key}") for key, way in layer.ways]
            return self._joined(layer, [end for end in ends if end], len(ends), where)
        return self._row(layer, value, where) if value else None

    def _row(self, layer: Any, value: _Value, where: str) -> _Value | None:
        try:
            output = layer.output_shape(value.shape)
        except ValueError as error:
            self._refuse(layer, where, error)
            return None
        field, jump, image = value.field, value.jump, self.pixels.shape
        if window := layer.window():
            kernel, stride = window
            field = (field[0] + (kernel[0] - 1) * jump[0], field[1] + (kernel[1] - 1) * jump[1])
            jump = (jump[0] * stride[0], jump[1] * stride[1])
        elif len(output) == 1:
            field = (image[0], image[1])
        return self._put(layer, [value], output, field, jump, where)

    def _joined(self, block: Any, ends: list[_Value], n: int, where: str) -> _Value | None:
        """The row in which the ends of a block's branches meet: it has seen what any of them has."""
        if len(ends) < n:
            return None
        try:
            output = block.join.joined_shape(tuple(end.shape for end in ends))
        except ValueError as error:
            self._refuse(block, where, error, mended(block, ends))
            output = ends[0].shape  # what follows is looked at as if it had been mended
        field, jump = (
            (max(pair[0] for pair in pairs), max(pair[1] for pair in pairs))
            for pairs in ([end.field for end in ends], [end.jump for end in ends])
        )
        return self._put(block.join, ends, output, field, jump, where)

    def _put(
        self, layer: Any, taken: list[_Value], output: Shape, field: tuple[int, int], jump: tuple[int, int], where: str
    ) -> _Value | None:  # fmt: skip
        if len(self.rows) == MOST_ROWS:
            if not self.problems:
                message = later("it is laid out into more than {n:,} layers", n=MOST_ROWS)
                self.problems.append(Problem("LS-206", message, where, later("repeat fewer")))
            return None
        name, shape, image = f"{len(self.rows)}_{layer.kind}", taken[0].shape, self.pixels.shape
        seen = (min(field[0], image[0]), min(field[1], image[1]))
        parameters, products = layer.parameter_shapes(shape), layer.multiply_adds(shape)
        inputs, shapes = tuple(value.name for value in taken), tuple(value.shape for value in taken)
        row = LayerFacts(name, layer, shape, output, parameters, products, seen, inputs, shapes, where)
        self.rows.append(row)
        return _Value(name, output, field, jump)

    def _refuse(self, layer: Any, where: str, error: ValueError, hint: str = "") -> None:
        facts = {"index": where[len("layers[") : -1], "kind": layer.kind, "why": reason(error)}
        if facts["index"].isdecimal():
            message = later("layer {index} ({kind}) does not fit: {why}", **facts)
        else:
            message = later("{place} ({kind}) does not fit: {why}", place=where, kind=layer.kind, why=facts["why"])
        problem = Problem("LS-206", message, where, hint)
        if problem not in self.problems:  # of what is repeated
            self.problems.append(problem)


def mended(block: Any, ends: Sequence[_Value]) -> str:
    """How branches of other shapes are made to fit, as far as it follows from the shapes."""
    one, other = ends[0].shape, next(end.shape for end in ends if end.shape != ends[0].shape)
    if len(one) != len(other):
        return later("put flatten or global_avg_pool at the end of the one that gives an image")
    if len(one) == 1:
        return _projection(block, f"dense {one[0]} bias=false")
    strides = [-(-theirs // ours) for ours, theirs in zip(one[:2], other[:2], strict=True)]
    if any(-(-theirs // stride) != ours for ours, theirs, stride in zip(one[:2], other[:2], strides, strict=True)):
        return later("give the windows of both padding=same, and the same stride")
    if max(strides) == 1 and block.join.kind == "concat":
        return ""
    stride = f" {strides[0]}" if strides[0] == strides[1] else f" [{strides[0]}, {strides[1]}]"
    return _projection(block, f"conv2d {one[2]} 1{'' if max(strides) == 1 else stride} padding=same bias=false")


def _projection(block: Any, layer: str) -> str:
    if block.kind == "residual":
        return later('let the shortcut bring it there: shortcut = ["{layer}"]', layer=layer)
    return later('bring the other there: "{layer}" at its end', layer=layer)
