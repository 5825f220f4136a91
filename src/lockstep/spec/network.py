"""What a network IS: layers in order, no numbers; and each layer in its place."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Generic, TypeVar

from pydantic import Field

from lockstep.errors import LockstepError
from lockstep.language import later, reason
from lockstep.spec.initializers import HeNormal, Initializer
from lockstep.spec.layers import Layer, Shape
from lockstep.spec.records import record, several

INPUT = "input"  # the name of what enters a network: its pixels
AnyLayer = TypeVar("AnyLayer")


@dataclasses.dataclass(frozen=True)
class LayerFacts(Generic[AnyLayer]):
    """One layer in its place: `name` is `"<index>_<kind>"`, shapes have no batch axis, fields are in pixels."""

    name: str
    layer: AnyLayer
    input_shape: Shape
    output_shape: Shape
    parameter_shapes: dict[str, Shape]
    multiply_adds: int
    receptive_field: tuple[int, int] | None
    inputs: tuple[str, ...] = (INPUT,)  # the values that it takes in: the pixels, or what a layer of this name puts out

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
        """Every layer in its place for images of `input_shape` (height, width, channels).

        Raises LockstepError (LS-206) that names the layer, its input and why it does not fit.
        """
        rows: list[LayerFacts] = []
        shape, field, jump, before = tuple(input_shape), (1, 1), (1, 1), INPUT
        for index, layer in enumerate(self.layers):
            name = f"{index}_{layer.kind}"
            try:
                output = layer.output_shape(shape)
            except ValueError as error:
                facts = {"index": index, "kind": layer.kind, "why": reason(error)}
                message = later("layer {index} ({kind}) does not fit: {why}", **facts)
                raise LockstepError("LS-206", message, where=f"layers[{index}]") from None
            if window := layer.window():
                kernel, stride = window
                field = (field[0] + (kernel[0] - 1) * jump[0], field[1] + (kernel[1] - 1) * jump[1])
                jump = (jump[0] * stride[0], jump[1] * stride[1])
            elif len(output) == 1:
                field = (input_shape[0], input_shape[1])
            seen = (min(field[0], input_shape[0]), min(field[1], input_shape[1]))
            parameters = layer.parameter_shapes(shape)
            products = layer.multiply_adds(shape)
            rows.append(LayerFacts(name, layer, shape, output, parameters, products, seen, (before,)))
            shape, before = output, name
        return rows

    def summary(self, input_shape: Shape) -> dict[str, Any]:
        """Parameters and multiply-adds of the whole, and layer by layer under "network", as JSON types."""
        rows = self.facts(input_shape)
        keys = ("name", "input_shape", "output_shape", "parameters", "multiply_adds", "receptive_field")
        return {
            "parameters": sum(row.parameters for row in rows),
            "multiply_adds": sum(row.multiply_adds for row in rows),
            "network": [{"kind": row.layer.kind, **{key: getattr(row, key) for key in keys}} for row in rows],
        }

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Canonical name `"<index>_<kind>/<parameter>"` → shape, in order."""
        return {
            f"{row.name}/{parameter}": shape
            for row in self.facts(input_shape)
            for parameter, shape in row.parameter_shapes.items()
        }
