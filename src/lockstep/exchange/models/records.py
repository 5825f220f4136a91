"""What a side says of its model and of what it computed, as plain data: JSON and safetensors, no object of a framework.

A side is a person's model in a process of its own (`side`). It is asked in JSON, one line a question; arrays cross in
files of a folder that both know. What it answers comes from a stranger's code, so it is read with limits.

Numbers have two names. A *tensor* is what a call took or gave; its id is its place in a trace. A *unit* is something
that a model keeps: one kernel, bias, scale, mean … each, in the canonical layout of its role:

    kernel       dense (in, out); convolution (…window, in / groups, out); of gates (in, gates, units)
    recurrent    (units, gates, units), gates in the order i f g o of an LSTM, r z n of a GRU
    bias scale shift mean variance    (n,); of gates (gates, units)
    table        of an embedding (n, width)
    raw          whatever it is, where nobody knows the function that uses it
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST_CALLS = 200_000
CONSTRUCTOR = "constructor"
ROLES = ("kernel", "recurrent", "bias", "scale", "shift", "mean", "variance", "table", "raw")


@dataclasses.dataclass(frozen=True)
class Where:
    """A line of the user's: the innermost frame that lies in none of the framework's files."""

    file: str = ""
    line: int = 0
    text: str = ""

    def __str__(self) -> str:
        return f"{Path(self.file).name}:{self.line}" if self.file else "–"


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer that the user's code made: what it was made of, and where."""

    path: str  # as the model names it: "features.1"
    name: str  # of its class: "BatchNorm2d"
    where: Where
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)  # all of its constructor's, defaults among them


@dataclasses.dataclass(frozen=True)
class Unit:
    """One array that a model keeps, in the canonical layout of its role."""

    name: str  # "features.1.weight", of one of several in an array "attention.in_proj_weight/q"
    role: str
    shape: tuple[int, ...]
    is_trained: bool = True
    layer: str = ""  # the path of the layer that holds it
    is_turned_round: bool = False  # whether the layer holds its window the other way round, along each of its axes


@dataclasses.dataclass(frozen=True)
class Call:
    """A function that was called with tensors, at whatever depth: its arguments by name."""

    index: int
    function: str  # as the framework calls it: "torch.nn.functional.conv2d"
    kind: str  # what it is in every framework: "conv", "dense", "batch_norm", "relu" …; "" where nobody knows
    path: str  # of the layer at work
    where: Where
    tensors: dict[str, tuple[int, ...]]  # argument → ids
    units: dict[str, str]  # role → the unit's name
    arguments: dict[str, Any]  # all other arguments, defaults among them, as JSON has them
    outputs: tuple[int, ...]
    parent: int = -1  # the call that it is a part of, where that is one of a trace too
    names: tuple[str, ...] = ()  # of all arguments, in the order of the function's signature

    @property
    def inputs(self) -> tuple[int, ...]:
        """The ids of all tensors that it took."""
        return tuple(number for numbers in self.tensors.values() for number in numbers)


@dataclasses.dataclass(frozen=True)
class Trace:
    """All calls of one pass over a batch, with the numbers that they gave."""

    calls: tuple[Call, ...]
    tensors: dict[int, np.ndarray]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    gradients: dict[int, np.ndarray] = dataclasses.field(default_factory=dict)  # of the loss by tensors
    by_unit: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # and by units, in their layout
    state: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # statistics after it, by unit
    loss: float | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """What a side has loaded."""

    framework: str  # "torch", "keras", "nnx", "linen", "jax", "numpy"
    version: str
    units: tuple[Unit, ...]
    layers: tuple[Layer, ...]
    has: tuple[str, ...] = ()  # of "loss", "optimizer", "batch", "train_step"
    input_shape: tuple[int | None, ...] | None = None  # without the batch, where the model says it


@dataclasses.dataclass(frozen=True)
class Change:
    """Something else that a call, or every call of a layer, is made with: an alternative of the laboratory."""

    call: int = -1  # its index in the trace; -1: every call of the layer at `path`
    path: str = ""
    of: str = ""  # the function that it is a change of; no other call of this index or path is changed
    # … or CONSTRUCTOR: what the layer at `path` keeps of its constructor's arguments, whatever calls it makes with that
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)  # put over its own
    function: str = ""  # called instead, with the same tensors
    pads: tuple[tuple[int, int], ...] = ()  # of the window's axes, before the call, whose own padding is none then
    order: tuple[int, ...] = ()  # of the flat entries of each example of its first tensor
    result: str = ""  # the key of a tensor in the request's file: what it gives instead

    def to_json(self) -> dict[str, Any]:
        """Without what is not said."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value not in ("", -1, (), {}, None)}


def merged(changes: Iterable[Change], call: int, path: str, function: str) -> Change | None:
    """All changes that concern a call, as one; None where there is none."""
    return together(
        each
        for each in changes
        if (each.call == call or (each.call < 0 and each.path == path)) and each.of in ("", function)
    )


def together(changes: Iterable[Change]) -> Change | None:
    """Changes of one call or layer as one; the later says what both say. None where there are none."""
    found: Change | None = None
    for each in changes:
        if found is None:
            found = each
            continue
        said = {
            field.name: getattr(each, field.name)
            for field in dataclasses.fields(Change)
            if field.name != "arguments" and getattr(each, field.name)
        }
        found = dataclasses.replace(found, **said, arguments=found.arguments | each.arguments)
    return found


def by_call_and_path(changes: Sequence[Change]) -> tuple[dict[int, Change], dict[str, Change]]:
    """(index of a call → its changes as one, path of a layer → its changes as one)."""
    by_call = {
        n: together(each for each in changes if each.call == n) for n in {c.call for c in changes if c.call >= 0}
    }
    paths = {change.path for change in changes if change.call < 0}
    by_path = {path: together(each for each in changes if each.call < 0 and each.path == path) for path in paths}
    return (
        {key: value for key, value in by_call.items() if value is not None},
        {key: value for key, value in by_path.items() if value is not None},
    )


# --------------------------------------------------------------------------------------------------- to and from files


def write_trace(trace: Trace, folder: Path, name: str) -> None:
    """`name.json` and `name.safetensors` of a folder."""
    arrays = {f"tensor/{number}": value for number, value in trace.tensors.items()}
    arrays |= {f"gradient/{number}": value for number, value in trace.gradients.items()}
    arrays |= {f"unit/{key}": value for key, value in trace.by_unit.items()}
    arrays |= {f"state/{key}": value for key, value in trace.state.items()}
    write_arrays(arrays, folder / f"{name}.safetensors")
    document = {
        "calls": [dataclasses.asdict(call) for call in trace.calls],
        "inputs": trace.inputs, "outputs": trace.outputs, "loss": trace.loss,
    }  # fmt: skip
    (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")


def write_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """As safetensors; what has no element is left out."""
    from safetensors.numpy import save_file

    save_file({key: np.ascontiguousarray(value) for key, value in arrays.items() if value.size}, path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; raises ValueError or OSError."""
    from lockstep.files import intake

    return intake.tensors(path.read_bytes())


def read_trace(folder: Path, name: str) -> Trace:
    """What `write_trace` wrote; raises ValueError, TypeError, KeyError or OSError where it is none."""
    from lockstep.files import intake

    document = intake.json_object(folder / f"{name}.json")
    parts: dict[str, dict[str, np.ndarray]] = {"tensor": {}, "gradient": {}, "unit": {}, "state": {}}
    for key, value in read_arrays(folder / f"{name}.safetensors").items():
        part, _slash, rest = key.partition("/")
        parts[part][rest] = value
    calls = document["calls"]
    if not isinstance(calls, list) or len(calls) > MOST_CALLS:
        raise ValueError(f"{name}.json holds no list of at most {MOST_CALLS} calls")
    loss = document.get("loss")
    return Trace(
        tuple(_call(each) for each in calls),
        {int(key): value for key, value in parts["tensor"].items()},
        tuple(map(int, document["inputs"])), tuple(map(int, document["outputs"])),
        {int(key): value for key, value in parts["gradient"].items()}, parts["unit"], parts["state"],
        None if loss is None else float(loss),
    )  # fmt: skip


def _call(found: Mapping[str, Any]) -> Call:
    return Call(
        int(found["index"]), str(found["function"]), str(found["kind"]), str(found["path"]), where_of(found["where"]),
        {str(key): tuple(map(int, value)) for key, value in found["tensors"].items()},
        {str(key): str(value) for key, value in found["units"].items()}, dict(found["arguments"]),
        tuple(map(int, found["outputs"])), int(found.get("parent", -1)),
        tuple(map(str, found.get("names", ()))),
    )  # fmt: skip


def where_of(found: Mapping[str, Any]) -> Where:
    """A line from its JSON."""
    return Where(str(found.get("file", "")), int(found.get("line", 0)), str(found.get("text", "")))


def model_of(found: Mapping[str, Any]) -> Model:
    """A model from what its side answered; raises ValueError, TypeError or KeyError where it is none."""
    units = tuple(
        Unit(
            str(u["name"]),
            str(u["role"]),
            tuple(map(int, u["shape"])),
            bool(u["is_trained"]),
            str(u["layer"]),
            bool(u.get("is_turned_round")),
        )
        for u in found["units"]
    )
    layers = tuple(
        Layer(str(each["path"]), str(each["name"]), where_of(each["where"]), dict(each["arguments"]))
        for each in found["layers"]
    )
    shape = found.get("input_shape")
    return Model(
        str(found["framework"]), str(found["version"]), units, layers, tuple(map(str, found.get("has", ()))),
        None if shape is None else tuple(None if size is None else int(size) for size in shape),
    )  # fmt: skip


def roots(calls: tuple[Call, ...]) -> Iterator[Call]:
    """The calls that are part of no other."""
    return (call for call in calls if call.parent < 0)
