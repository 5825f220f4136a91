"""Whether two models give the same things: as many outputs, each the other's, in whatever order they stand.

That every output is found somewhere in the other model is not enough: one may give what the other only passes through.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from lockstep.exchange.models.records import Trace
from lockstep.language import later as _

MOST_OUTPUTS = 6  # whose orders are all tried


def contradiction(traces: Sequence[Trace], matched: Mapping[int, Sequence[int]]) -> str:
    """In what the outputs differ, as a sentence; "" where each is the other's. `matched`: tensor of a → those of b."""
    one, other = (trace.outputs for trace in traces)
    shapes = ["; ".join(_shape(trace, number) for number in trace.outputs) for trace in traces]
    if len(one) != len(other):
        return _("the first gives {n} outputs, the second {m}: {a} | {b}", n=len(one), m=len(other), a=shapes[0],
                 b=shapes[1])  # fmt: skip
    if len(one) > MOST_OUTPUTS:
        orders: list[tuple[int, ...]] = [other]
    else:
        orders = [*itertools.permutations(other)]
    for order in orders:
        if all(_is_same(traces, a, b, matched) for a, b in zip(one, order, strict=True)):
            return ""
    return _("what the one gives the other only passes through: {a} | {b}", a=shapes[0], b=shapes[1])


def _is_same(traces: Sequence[Trace], a: int, b: int, matched: Mapping[int, Sequence[int]]) -> bool:
    """Whether two outputs are one; whole numbers are compared by whoever compares whole numbers."""
    values = [trace.tensors.get(number) for trace, number in zip(traces, (a, b), strict=True)]
    if any(value is None for value in values):
        return values[0] is values[1]
    kinds = [np.issubdtype(value.dtype, np.floating) for value in values if value is not None]
    return b in matched.get(a, ()) if kinds == [True, True] else kinds == [False, False]


def _shape(trace: Trace, number: int) -> str:
    value = trace.tensors.get(number)
    return "–" if value is None else f"{value.dtype.name} {value.shape}"
