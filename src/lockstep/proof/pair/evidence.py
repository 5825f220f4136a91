"""What an equal verdict rests on: numbers that could have differed. Without them nothing is concluded.

Whole numbers agree although what they were made of does not (the larger of ten logits is one of ten), and so do zeros
behind a dead relu, constants, and outputs that hang on neither the input nor the weights. Where a model gives whole
numbers alone, the tensors that they were made of are judged in their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from lockstep.exchange.models.records import Call, Trace
from lockstep.language import later
from lockstep.proof.pair.alignment import Tensor, is_equal


def has_digits(value: np.ndarray) -> bool:
    """Whether an array holds real numbers, of which one at least is finite."""
    return bool(np.issubdtype(value.dtype, np.floating) and np.isfinite(value).any())


def behind(trace: Trace) -> tuple[int, ...]:
    """The nearest real tensors of which outputs were made that are whole numbers; real outputs stand for themselves."""
    makers: dict[int, Call] = {}
    for call in trace.calls:
        for number in call.outputs:
            if number not in call.inputs:
                makers.setdefault(number, call)
    found: dict[int, None] = {}
    waiting, seen = [*trace.outputs], set(trace.outputs)
    while waiting:
        number = waiting.pop(0)
        if number in trace.inputs:
            continue
        value = trace.tensors.get(number)
        if value is not None and np.issubdtype(value.dtype, np.floating):
            found[number] = None
        elif number in makers:
            new = [each for each in makers[number].inputs if each not in seen]
            seen.update(new)
            waiting += new
    return tuple(found)


def judged(traces: Sequence[Trace], matched: Sequence[Collection[int]]) -> list[Trace]:
    """The traces with what their outputs were made of as outputs too, where these are whole numbers alone.

    Where both are all matched that is enough, and where one side has gone on with what keeps every order: a softmax
    before the largest is taken.
    """
    sources = [behind(trace) for trace in traces]
    is_whole = [not any(number in source for number in trace.outputs)
                for trace, source in zip(traces, sources, strict=True)]  # fmt: skip
    is_known = [bool(source) and set(source) <= set(known) for source, known in zip(sources, matched, strict=True)]
    if not all(is_whole) or all(is_known) or (any(is_known) and _is_in_order(traces, sources)):
        return [*traces]
    return [
        dataclasses.replace(trace, outputs=tuple(dict.fromkeys((*trace.outputs, *source))))
        for trace, source in zip(traces, sources, strict=True)
    ]


def _is_in_order(traces: Sequence[Trace], sources: Sequence[Sequence[int]]) -> bool:
    """Whether what both sides' outputs were made of has its numbers in the same order of size along some axis."""
    if len(sources[0]) != len(sources[1]):
        return False
    for numbers in zip(*sources, strict=True):
        a, b = (trace.tensors[number] for trace, number in zip(traces, numbers, strict=True))
        if a.shape != b.shape or not any(
            np.array_equal(np.argsort(a, axis), np.argsort(b, axis)) for axis in range(1, a.ndim)
        ):
            return False
    return True


# ------------------------------------------------------------------------------------------------------------- doubts


def doubts(
    trace: Trace,
    tensors: Mapping[int, Tensor],
    gradients: Mapping[str, np.ndarray],
    trained: Sequence[str],
    again: Callable[[str], Trace],
) -> list[object]:
    """Why equal outputs prove nothing here; none where they do.

    `gradients`: of the trained units, where there are any. `again` makes the pass with other numbers in the place of
    its "batch" or its "weights".
    """
    numbers = [number for number in behind(trace) if number in tensors]
    if not numbers:
        return [later("the outputs are whole numbers, and nothing with digits was seen behind them")]
    values = [tensors[number] for number in numbers]
    if not any(has_digits(each.value) for each in values):
        return [later("no number of the outputs is finite")]
    if all(_is_constant(each) for each in values if each.value.size > 1) and any(
        each.value.size > 1 for each in values
    ):
        return [later("the outputs are one number throughout")]
    found: list[object] = []
    if all(_is_alike(each) for each in values) and _is_same(again("batch"), numbers, tensors):
        found.append(later("the outputs are the same for another batch"))
    if (
        trained
        and not any(np.any(value) for value in gradients.values())
        and _is_same(again("weights"), numbers, tensors)
    ):
        found.append(later("the outputs are the same with other weights"))
    return found


def _is_constant(tensor: Tensor) -> bool:
    finite = tensor.value[np.isfinite(tensor.value)]
    return bool(finite.size == 0 or float(finite.max() - finite.min()) <= tensor.tolerance)


def _is_alike(tensor: Tensor) -> bool:
    """Whether all examples are alike, or there is one alone: only such an output may hang on no input."""
    value = tensor.value
    return (
        value.ndim == 0 or len(value) < 2 or is_equal(value, np.broadcast_to(value[:1], value.shape), tensor.tolerance)
    )


def _is_same(other: Trace, numbers: Sequence[int], tensors: Mapping[int, Tensor]) -> bool:
    found = behind(other)
    return len(found) >= len(numbers) and all(
        other.tensors[there].shape == tensors[number].value.shape
        and is_equal(tensors[number].value, other.tensors[there], tensors[number].tolerance)
        for number, there in zip(numbers, found, strict=False)
    )


def shuffled(batch: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A batch of the same numbers in another order: as likely to be taken as the first, and another one."""
    numbers = np.random.default_rng(2)
    return [numbers.permutation(value.ravel()).reshape(value.shape) for value in batch]


def unmoved(gradients: Mapping[str, np.ndarray], trained: Sequence[str]) -> list[str]:
    """The trained units that no output hangs on here."""
    return [name for name in trained if name in gradients and not np.any(gradients[name])]
