"""Which alternative makes one side's call give the other side's numbers: tried in the person's own framework."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from lockstep.exchange.models.records import Call, Change
from lockstep.proof.pair import alternatives
from lockstep.proof.pair.alignment import LEAST, off
from lockstep.proof.pair.alternatives import Alternative
from lockstep.proof.pair.client import Side as Asked
from lockstep.proof.pair.places import Numbers, Side

MOST_TRIED = 200  # calls made again for a place
WINDOWS = ("conv", "max_pool", "avg_pool", "pool")
FLOAT32 = 2.0**-23  # the share of a value by which one rounded number of a formula moves it, at most
FAR = 2.0**-6  # of what a difference makes: what is left of it when its cause is put right is far less
ROOM = 64.0  # of a tensor's room: an alternative rounds on its own way


@dataclasses.dataclass(frozen=True)
class Cause:
    """An alternative of one side's call that gives the other side's tensor."""

    side: int  # 0 or 1: whose call was made otherwise
    call: Call
    alternative: Alternative
    error: float  # how far it is from the other side's numbers
    before: float  # and how far that side was without it
    target: int  # the other side's tensor
    share: float = 0.0  # of the largest value that is left, where a number is held in float32; else 0


@dataclasses.dataclass(frozen=True)
class Bench:
    """One side of a place, with who can be asked to do it again."""

    asked: Asked
    numbers: Numbers
    place: Side


def causes(benches: tuple[Bench, Bench]) -> list[Cause]:
    """Every single alternative, of either side, that gives the other side's numbers at a place; the best first."""
    found = sorted((cause for side in (1, 0) for cause in _of_side(side, benches)), key=lambda cause: cause.share > 0)
    return found or list(_functions(benches))


def _of_side(side: int, benches: tuple[Bench, Bench]) -> Iterator[Cause]:
    mine, other = benches[side], benches[1 - side]
    targets = {number: other.numbers.tensors[number] for number in other.place.targets}
    tried = 0
    for call in mine.place.calls:
        own = next((mine.numbers.tensors[n] for n in call.outputs if n in mine.numbers.tensors), None)
        if own is None:
            continue
        for alternative in _alternatives(call, mine, other):
            if tried >= MOST_TRIED:
                return
            tried += 1
            outputs = mine.asked.again(call, alternative.change)
            if not outputs:
                continue
            for number, target in targets.items():
                room = ROOM * max(target.room, own.room, LEAST * float(np.abs(target.value).max(initial=0.0)))
                error, before = off(outputs[0], target.value), off(own.value, target.value)
                largest = float(np.abs(target.value).max(initial=0.0))
                # TensorFlow keeps some arguments in float32 whatever the model is: what is left may be their rounding.
                held = FLOAT32 * largest
                if error <= room < before or (error <= held < before * FAR):
                    share = 0.0 if error <= room else error / largest
                    yield Cause(side, call, alternative, error, before, number, share)
                    break


def _alternatives(call: Call, mine: Bench, other: Bench) -> Iterator[Alternative]:
    partners = [*other.place.calls, *other.numbers.harmful()[:3]]
    yield from alternatives.of_arguments(call, mine.asked.signature(call), partners)
    shape = _shape(mine, call)
    if call.kind.startswith(WINDOWS) and len(shape) > 2:
        image = shape[2:] if mine.asked.asked.framework == "torch" else shape[1:-1]
        kernel = _window(call, mine, len(image))
        if kernel:
            yield from alternatives.of_padding(call, image, kernel)
    if len(shape) == 2 and (image := _flattened(call, mine)):
        yield from alternatives.of_flattening(call, image)


def _shape(bench: Bench, call: Call) -> tuple[int, ...]:
    first = next((number for number in call.inputs if number in bench.numbers.trace.tensors), None)
    return () if first is None else bench.numbers.trace.tensors[first].shape


def _window(call: Call, bench: Bench, n: int) -> list[int]:
    for name in ("kernel_size", "pool_size", "window_shape"):
        value = call.arguments.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return [value] * n
        if isinstance(value, list) and len(value) == n:
            return [int(size) for size in value]
    if "kernel" in call.units:
        shape = bench.asked.units()[call.units["kernel"]].shape
        return [int(size) for size in shape[:n]]
    return []


def _flattened(call: Call, bench: Bench) -> tuple[int, ...]:
    """The image that was flattened into this call's input, without the batch."""
    numbers, waiting = bench.numbers, [*call.inputs]
    for _step in range(8):
        if not waiting:
            return ()
        number = waiting.pop(0)
        value = numbers.trace.tensors.get(number)
        if value is not None and value.ndim > 2:
            return tuple(value.shape[1:])
        for maker in numbers.makers.get(number, ()):
            waiting += [
                n
                for n in maker.inputs
                if math.prod(numbers.trace.tensors[n].shape) == (value.size if value is not None else 0)
            ]
    return ()


def _functions(benches: tuple[Bench, Bench]) -> Iterator[Cause]:
    """Where both sides apply a function of single numbers to one matched tensor: which, by name."""
    for side in (1, 0):
        mine, other = benches[side], benches[1 - side]
        for call in mine.place.calls:
            if len(call.inputs) != 1 or not call.outputs or call.outputs[0] not in mine.numbers.tensors:
                continue
            x, own = mine.numbers.trace.tensors[call.inputs[0]], mine.numbers.tensors[call.outputs[0]]
            for number in other.place.targets:
                target = other.numbers.tensors[number]
                room = ROOM * max(target.room, own.room, LEAST * float(np.abs(target.value).max(initial=0.0)))
                here = alternatives.applied(x, own.value, room)
                there = alternatives.applied(x, target.value, room)
                if there and here != there:
                    before = off(own.value, target.value)
                    change = Change(call=call.index)
                    words = (" or ".join(here) or call.function, " or ".join(there))
                    yield Cause(side, call, Alternative(change, "function", "", *words), 0.0, before, number)
                    return
