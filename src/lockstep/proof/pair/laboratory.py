"""Which alternatives make two calls give the same numbers: tried in the person's own framework.

One alternative of one side is tried first, then one of each side at a time: two arguments in which the calls differ are
told by the first side's call with the one exchanged and the second's with the other, and no call is made for a pair.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from lockstep.exchange.models.records import Call, Change, together
from lockstep.proof.pair import activations, alternatives, permutations, tolerances
from lockstep.proof.pair.alignment import off
from lockstep.proof.pair.alternatives import Alternative
from lockstep.proof.pair.client import Side as Asked
from lockstep.proof.pair.places import Numbers, Side

MOST_TRIED = 200  # calls made again for a side of a place
MOST_PAIRS = 120  # of two alternatives of one call
MOST_MOVED = 0.25  # of the different values that a call gave: an alternative that leaves fewer has wiped out the rest


@dataclasses.dataclass(frozen=True)
class Part:
    """An alternative of one side's call."""

    side: int  # 0 or 1: whose call was made otherwise
    call: Call
    alternative: Alternative
    partner: Call | None = None  # the other side's call, where that is not the one at the place
    flattener: Call | None = None  # the call that flattened the image that this one takes


@dataclasses.dataclass(frozen=True)
class Cause:
    """Alternatives, one or two, with which both sides give the same numbers."""

    parts: tuple[Part, ...]
    error: float  # how far apart they are then
    before: float  # and how far they were without
    share: float = 0.0  # of the largest value that is left, where a number is held in float32; else 0

    @property
    def meaning(self) -> str:
        """That of its first part."""
        return self.parts[0].alternative.meaning

    @property
    def rank(self) -> tuple[bool, int, int, int]:
        """The best cause first: exact, of few parts, with values that the partner has, of the second side."""
        ranks = sum(part.alternative.rank for part in self.parts)
        return self.share > 0, len(self.parts), ranks, -sum(part.side for part in self.parts)


@dataclasses.dataclass(frozen=True)
class Bench:
    """One side of a place, with who can be asked to do it again."""

    asked: Asked
    numbers: Numbers
    place: Side


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a call gave under an alternative, its values in order of size."""

    part: Part
    values: tuple[np.ndarray, ...]
    own: tuple[np.ndarray, ...]  # what the call gave as it was
    tolerance: float  # of that
    held: float  # the share of a value that may be left where numbers inside of the call are of float32


def causes(benches: tuple[Bench, Bench]) -> list[Cause]:
    """Every alternative, or pair of them, that gives the other side's numbers at a place; the best first."""
    tried = [list(_trials(side, benches)) for side in (0, 1)]
    found = [cause for side in (1, 0) for trial in tried[side] for cause in _of_target(trial, benches[1 - side])]
    found = found or list(_crossed(tried, benches)) or list(_paired(tried, benches))
    return sorted(found, key=lambda cause: cause.rank) or list(_functions(benches)) or list(_coarser(benches))


def is_tried(cause: Cause) -> bool:
    """Whether it was made again, and can be put right so; else it is known by its numbers alone."""
    return all(
        part.alternative.meaning != "precision"
        and (part.alternative.meaning != "function" or part.alternative.change.function)
        for part in cause.parts
    )


# ---------------------------------------------------------------------------------------------------------- one by one


def _trials(side: int, benches: tuple[Bench, Bench]) -> Iterator[Trial]:
    """Every alternative of the calls at a place, made."""
    mine, other = benches[side], benches[1 - side]
    n = 0
    for call in mine.place.calls:
        for alternative in _alternatives(call, mine, other):
            if n >= MOST_TRIED:
                return
            n += 1
            flattener = _flattener(call, mine) if alternative.meaning == "flatten" else None
            trial = _made(Part(side, call, alternative, flattener=flattener), mine)
            if trial is not None:
                yield trial


def _made(part: Part, bench: Bench, change: Change | None = None) -> Trial | None:
    """A call under an alternative; None where it cannot be made so, or where little is left of what it told apart."""
    own = [bench.numbers.tensors[number] for number in part.call.outputs if number in bench.numbers.tensors]
    outputs = bench.asked.again(part.call, change or part.alternative.change) if own else None
    if not outputs:
        return None
    least = max(2.0, MOST_MOVED * min(len(np.unique(tensor.value)) for tensor in own))
    values = [np.sort(value.ravel()) for value in outputs if value.dtype.kind == "f" and value.size]
    telling = tuple(value for value in values if len(np.unique(value)) >= least or value.size < least)
    ordered, tolerance = tuple(tensor.ordered for tensor in own), max(tensor.tolerance for tensor in own)
    return Trial(part, telling, ordered, tolerance, _held(part.call)) if telling else None


def _held(call: Call) -> float:
    return tolerances.FLOAT32 * (8 if call.arguments.get("computed_in") == "float32" else 1)


def _of_target(trial: Trial, other: Bench) -> Iterator[Cause]:
    """The cause that a trial is, where it gave a tensor of the other side's; of its first such tensor."""
    for value, number in itertools.product(trial.values, other.place.targets):
        target = other.numbers.tensors[number]
        if value.size != target.value.size:
            continue
        held = max(trial.held, *(_held(call) for call in other.place.calls))
        tolerance, before = max(trial.tolerance, target.tolerance), _before(trial, target.ordered)
        cause = _judged((trial.part,), value, target.ordered, tolerance, before, held)
        if cause is not None:
            yield cause
            return


def _before(trial: Trial, target: np.ndarray) -> float:
    """How far the other side's numbers are from those that this one gave unchanged; of another size: the largest."""
    apart = [off(own, target) for own in trial.own if own.size == target.size]
    return min(apart, default=float(np.abs(target).max(initial=0.0)))


def _judged(
    parts: tuple[Part, ...], one: np.ndarray, other: np.ndarray, tolerance: float, before: float, held: float
) -> Cause | None:
    """The cause that these parts are, where two arrays in order of size agree."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(one - other)
    error = float(np.where(np.isnan(apart), math.inf, apart).max(initial=0.0))
    largest = float(np.abs(other[np.isfinite(other)]).max(initial=0.0))
    tolerance = tolerances.ALTERNATIVE * max(tolerance, tolerances.LEAST * largest)
    if error <= tolerance:
        return Cause(parts, error, before)
    # TensorFlow keeps some arguments in float32 whatever the model is: what is left may be their rounding.
    if error <= held * largest and error < before * tolerances.FAR:
        return Cause(parts, error, before, error / largest)
    return None


# ------------------------------------------------------------------------------------------------------------- in pairs


def _crossed(tried: Sequence[Sequence[Trial]], benches: tuple[Bench, Bench]) -> Iterator[Cause]:
    """One alternative of each side, of other meanings, with which both give the same."""
    for one, other in itertools.product(*tried):
        if alternatives.is_same_meaning(one.part.alternative.meaning, other.part.alternative.meaning):
            continue
        for a, b in itertools.product(one.values, other.values):
            if a.size != b.size or not _is_near(a, b):
                continue
            before = _apart(benches)
            tolerance, held = max(one.tolerance, other.tolerance), max(one.held, other.held)
            cause = _judged((other.part, one.part), a, b, tolerance, before, held)
            if cause is not None:
                yield cause
                break


def _is_near(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the ends and the middle of two ordered arrays are alike; most pairs differ there."""
    largest = max(float(np.abs(a).max(initial=0.0)), 1e-300)
    return all(abs(a[place] - b[place]) <= tolerances.FLOAT32 * largest for place in (0, -1, a.size // 2))


def _apart(benches: tuple[Bench, Bench]) -> float:
    """How far apart the two sides are at a place; of other sizes, the largest number."""
    first = [bench.numbers.tensors[bench.place.targets[0]].value for bench in benches if bench.place.targets]
    if len(first) < 2:
        return math.inf
    apart = off(*first)
    return apart if math.isfinite(apart) else float(np.abs(first[0]).max(initial=0.0))


def _paired(tried: Sequence[Sequence[Trial]], benches: tuple[Bench, Bench]) -> Iterator[Cause]:
    """Two alternatives of one call, of other meanings: those first whose values the partner has."""
    for side in (1, 0):
        ranked = sorted(tried[side], key=lambda trial: trial.part.alternative.rank)
        pairs = sorted(
            itertools.combinations(ranked, 2),
            key=lambda pair: sum(trial.part.alternative.rank for trial in pair),
        )
        n = 0
        for one, other in pairs:
            a, b = one.part, other.part
            if a.call is not b.call or alternatives.is_same_meaning(a.alternative.meaning, b.alternative.meaning):
                continue
            if (n := n + 1) > MOST_PAIRS:
                break
            trial = _made(a, benches[side], together([a.alternative.change, b.alternative.change]))
            for cause in _of_target(trial, benches[1 - side]) if trial is not None else ():
                yield dataclasses.replace(cause, parts=(a, b))
                return


# -------------------------------------------------------------------------------------------------- what could be tried


def _alternatives(call: Call, mine: Bench, other: Bench) -> Iterator[Alternative]:
    partners = [*other.place.calls, *other.numbers.harmful()[:3]]
    yield from _orders(call, mine, other)
    yield from alternatives.of_arguments(call, mine.asked.signature(call), partners)
    shape = _shape(mine, call)
    if len(shape) > 2 and (window := _window(call, mine, len(shape) - 2)):
        image = _image(mine, shape)
        if call.kind in alternatives.WINDOWS:
            pads = [_pads_of(partner, other) for partner in partners if partner.kind in alternatives.WINDOWS]
            yield from alternatives.of_padding(call, image, window, [each for each in pads if each is not None])
        elif call.kind == "conv_transpose":
            sizes = [_image(other, other.numbers.tensors[n].value.shape) for n in other.place.targets]
            yield from alternatives.of_cropping(call, image, window, sizes)


def _image(bench: Bench, shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of a window, of a tensor of this shape."""
    return tuple(shape[2:] if bench.asked.asked.framework == "torch" else shape[1:-1])


def _pads_of(call: Call, bench: Bench) -> tuple[tuple[int, int], ...] | None:
    """The zeros that a partner's own argument puts around its image."""
    shape = _shape(bench, call)
    window = _window(call, bench, len(shape) - 2) if len(shape) > 2 else []
    return alternatives.own_pads(call, _image(bench, shape), window) if window else None


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
        return [int(size) for size in shape[:n]] if len(shape) == n + 2 else []
    return []


# ------------------------------------------------------------------------------------------------ orders of an input


def _orders(call: Call, mine: Bench, other: Bench) -> Iterator[Alternative]:
    """The call's first tensor with its entries where the partner's has them."""
    first = next((number for number in call.inputs if number in mine.numbers.tensors), None)
    if first is None:
        return
    own = mine.numbers.tensors[first]
    seen: set[bytes] = set()
    for number in dict.fromkeys(n for partner in other.place.calls for n in partner.inputs):
        there = other.numbers.tensors.get(number)
        if there is None or there.value.size != own.value.size:
            continue
        tolerance = max(there.tolerance, own.tolerance)
        laid = [
            (value, permutations.of_examples(value, own.value, tolerance))
            for value in _laid(there.value, own.value.shape)
        ]
        if any(order is not None and bool((order == np.arange(len(order))).all()) for _value, order in laid):
            continue  # it is in its place
        for value, order in laid:
            if order is None or order.tobytes() in seen:
                continue
            seen.add(order.tobytes())
            images = _flattened(call, mine), _flattened_of(number, other)
            yield alternatives.of_order(call, order, value.shape[1:], *images)


def _laid(value: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """A partner's tensor with its axes in the usual orders, where it has a shape then."""
    if len(shape) == 2 or value.ndim == 2:
        yield value.reshape(shape) if math.prod(value.shape[1:]) == math.prod(shape[1:]) else value
        return
    ways = [value, np.moveaxis(value, 1, -1), np.moveaxis(value, -1, 1)] if value.ndim > 2 else [value]
    yield from (way for way in ways if way.shape == shape)


def _flattener(call: Call, bench: Bench) -> Call | None:
    """The call that flattened the image which a call takes."""
    numbers, waiting = bench.numbers, [*call.inputs][:1]
    for _step in range(8):
        makers = numbers.makers.get(waiting[0], []) if waiting else []
        named = next((maker for maker in makers if maker.kind == "flatten"), None)
        if named is not None or not makers:
            return named
        waiting = [*makers[0].inputs][:1]
    return None


def _flattened(call: Call, bench: Bench) -> tuple[int, ...]:
    """The image that was flattened into this call's input, without the batch."""
    first = next((number for number in call.inputs if number in bench.numbers.trace.tensors), None)
    return () if first is None else _flattened_of(first, bench)


def _flattened_of(number: int, bench: Bench) -> tuple[int, ...]:
    """The image that was flattened into a tensor, without the batch."""
    numbers, waiting = bench.numbers, [number]
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


# ------------------------------------------------------------------------------------------ functions of single numbers


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
                tolerance = tolerances.ALTERNATIVE * max(
                    target.tolerance, own.tolerance, tolerances.LEAST * float(np.abs(target.value).max(initial=0.0))
                )
                here = alternatives.applied(x, own.value, tolerance)
                there = alternatives.applied(x, target.value, tolerance)
                if here and there and here != there:  # both are of one number, and known
                    said = activations.code(there[0], mine.asked.asked.framework)
                    change = Change(call=call.index)
                    if said is not None:
                        change = dataclasses.replace(change, function=said.full, arguments=said.arguments)
                    part = Part(side, call, Alternative(change, "function", "", here, there))
                    trial = _made(part, mine) if said is not None else None
                    found = list(_of_target(trial, other)) if trial is not None else []
                    plain = dataclasses.replace(part.alternative, change=Change(call=call.index))
                    known = Cause((dataclasses.replace(part, alternative=plain),), 0.0, off(own.value, target.value))
                    yield found[0] if found else known
                    return


# ---------------------------------------------------------------------------------------------- numbers of few digits

SHORT = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # a type → what its rounding moves a number by, at most
MOST_ROUNDED = 64  # roundings of such a type that one call may make


def _coarser(benches: tuple[Bench, Bench]) -> Iterator[Cause]:
    """Where one side's numbers all fit a shorter type, and are the other's but for its rounding."""
    for side in (1, 0):
        mine, other = benches[side], benches[1 - side]
        for here, there in itertools.product(mine.place.targets, other.place.targets):
            own, target = mine.numbers.tensors[here], other.numbers.tensors[there]
            apart, largest = off(own.value, target.value), float(np.abs(target.value).max(initial=0.0))
            for name, share in SHORT.items():
                is_rounded = fits(own.value, name) and not fits(target.value, name)
                if is_rounded and 0 < apart <= MOST_ROUNDED * share * largest:
                    call = mine.place.calls[0]
                    told = Alternative(Change(call=call.index), "precision", "dtype", name, "float64")
                    yield Cause((Part(side, call, told),), math.inf, apart)
                    return


def fits(value: np.ndarray, name: str) -> bool:
    """Whether every number of an array is one of a shorter type."""
    if value.dtype.kind != "f" or not np.isfinite(value).all():
        return False
    with np.errstate(over="ignore"):
        if name == "float16":
            return bool((value.astype(np.float16).astype(value.dtype) == value).all())
        short = value.astype(np.float32)
    bits = short.view(np.uint32)
    return bool((short.astype(value.dtype) == value).all() and ((bits & 0xFFFF) == 0).all())
