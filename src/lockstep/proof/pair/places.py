"""Where the first difference is: calls that nothing matches, whose inputs are matched, and which the output needs.

Inside of what is matched again later, one side may compute in one call and the other in two hundred: such calls do no
harm. Harmful is what reaches the output through unmatched calls alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from lockstep.exchange.models.records import Call, Trace
from lockstep.proof.pair.alignment import Tensor

MOST_BEHIND = 12  # calls behind the place whose outputs may be what an alternative has to give


@dataclasses.dataclass(frozen=True)
class Side:
    """One side of a place."""

    calls: tuple[Call, ...]  # that give the first unmatched tensor, the innermost first, then those around it
    targets: tuple[int, ...]  # tensors there and behind it that nothing matches


class Numbers:
    """A trace with what is known of its tensors: which are matched, and who makes them."""

    def __init__(self, trace: Trace, tensors: dict[int, Tensor], matched: Collection[int]) -> None:
        self.trace, self.tensors, self.matched = trace, tensors, set(matched) | set(trace.inputs)
        self.calls = {call.index: call for call in trace.calls}
        self.makers: dict[int, list[Call]] = {}
        for call in trace.calls:
            for number in call.outputs:
                if number not in call.inputs:
                    self.makers.setdefault(number, []).append(call)

    def depth(self, call: Call) -> int:
        """How many calls are around it."""
        n = 0
        while call.parent >= 0:
            call, n = self.calls[call.parent], n + 1
        return n

    def is_known(self, number: int) -> bool:
        """Whether a tensor is matched, or is none that a call has worked out: whole numbers, what was there before."""
        if number in self.matched or number not in self.tensors or number not in self.makers:
            return True
        # A recurrent layer gives all steps and the last one: where that is equal, so is the layer, whatever is taken.
        return any(other in self.matched for maker in self.makers[number] for other in maker.outputs)

    @property
    def is_equal(self) -> bool:
        """Whether all that the model gives is matched."""
        return all(number in self.matched or number not in self.tensors for number in self.trace.outputs)

    def harmful(self) -> list[Call]:
        """The innermost calls from which the output is reached through unmatched tensors alone, in their order."""
        found: dict[int, Call] = {}
        waiting = [number for number in self.trace.outputs if not self.is_known(number) or number not in self.matched]
        seen = set(waiting)
        while waiting:
            makers = self.makers.get(waiting.pop(), ())
            if not makers:
                continue
            maker = max(makers, key=self.depth)
            found[maker.index] = maker
            for number in maker.inputs:
                if number not in seen and not self.is_known(number):
                    seen.add(number)
                    waiting.append(number)
        return [found[index] for index in sorted(found)]

    def place(self) -> Side | None:
        """The first harmful call whose inputs are all known, with those around it that begin where it begins."""
        harmful = self.harmful()
        first = next((call for call in harmful if all(map(self.is_known, call.inputs))), None)
        if first is None:
            return None
        chain = [first]
        while chain[-1].parent >= 0:
            outer = self.calls[chain[-1].parent]
            if not all(map(self.is_known, outer.inputs)) or not outer.outputs:
                break
            chain.append(outer)
        behind = [call for call in harmful if call.index >= first.index][:MOST_BEHIND]
        targets = dict.fromkeys(
            number for call in (*chain, *behind) for number in call.outputs if number not in self.matched
        )
        return Side(tuple(chain), tuple(number for number in targets if number in self.tensors))
