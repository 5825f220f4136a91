"""The causes of what a judge found wrong: differences of the catalogue, tried by reproduction and never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations

from lockstep.proof import causes
from lockstep.proof.findings import UPDATE, Finding
from lockstep.proof.judge import Judge
from lockstep.proof.traces import Trace
from lockstep.spec import Run, Shape

MOST_TRIED_TOGETHER = 12


class Finder:
    """Names the causes of what a judge found wrong in one trace, by reproduction."""

    def __init__(
        self, trace: Trace, run: Run, shape: Shape, judge_of: Callable[[Run], Judge], findings: Iterable[Finding] = (),
        canonical: Judge | None = None,
    ) -> None:  # fmt: skip
        """`run` is what should have been run; `judge_of` makes the judge of another meaning; `findings` are all that
        the judge of `run`, `canonical`, found, right and wrong.
        """
        self.trace, self.run, self.shape, self._judge_of = trace, run, shape, judge_of
        self._canonical = canonical
        self._judges: dict[tuple[str, ...], Judge | None] = {}
        self._named: list[tuple[str, ...]] = []
        self._wrong: set[tuple[str, str, int | None]] = set()
        self._right: dict[tuple[str, str], list[int | None]] = {}
        for finding in findings:
            if finding.agrees:
                self._right.setdefault(finding.place, []).append(finding.step)
            else:
                self._wrong.add((*finding.place, finding.step))
        self._without_pair: set[str] = set()
        self._fits: dict[tuple[tuple[str, ...], int | None, str], bool] = {}

    def causes(self, wrong: list[Finding]) -> list[tuple[str, ...]]:
        """The causes of one place's findings, tried on the first, a middle and the last of them.

        Every single one that fits; else what was named for an earlier place; else pairs; else none. A cause must give
        the backend's numbers where they are wrong, and leave right what is right: at the other places of those steps,
        and at this place in other steps.
        """
        if not all(finding.can_be_explained for finding in wrong) or wrong[0].stage in ("training", "whole epoch"):
            return []  # infinities are reproduced by nothing, and what is of all steps together by no step
        at = sorted(wrong, key=lambda finding: -1 if finding.step is None else finding.step)
        at = [at[index] for index in sorted({0, len(at) // 2, len(at) - 1})]
        tried = self._candidates(at[0])
        singles: list[tuple[str, ...]] = [(name,) for name in tried if self._explains((name,), at)]
        found = singles or [names for names in self._named if self._explains(names, at, is_named=True)]
        if not found and at[0].stage not in self._without_pair:  # pairs are tried on a stage once
            found = [names for names in self._pairs(at, tried) if self._explains(names, at)]
            self._without_pair |= set() if found else {at[0].stage}
        self._named += [names for names in found if names not in self._named]
        return found

    def _explains(self, names: tuple[str, ...], at: list[Finding], is_named: bool = False) -> bool:
        """Whether these differences give the backend's numbers in every one of these findings.

        And by another answer than before: one that gives the same and only allows more explains nothing (pixels of
        0 … 255 make every gradient 255 times less certain). What was named for an earlier place may do that too:
        rounded factors, once seen, do make gradients less certain.
        """
        judge = self._judge(names)
        if judge is None:
            return False
        for finding in at:
            again = judge.again(self.trace, finding.place, [finding.step])
            moves = is_named or finding.problem or any(other.answer != finding.answer for other in again)
            if not again or not moves or not all(other.agrees and not other.is_beyond for other in again):
                return False
        return self._leaves_right(names, judge, at)

    def _leaves_right(self, names: tuple[str, ...], judge: Judge, at: list[Finding]) -> bool:
        """Whether what agrees without these differences agrees with them, too, beside the findings that they explain.

        Tried on the first step that is wrong, and on the first and last in which the place is right.
        """
        place, step = at[0].place, at[0].step
        if (names, step, place[0]) not in self._fits:
            self._fits[names, step, place[0]] = all(
                other.agrees or (*other.place, other.step) in self._wrong
                for other in judge.beside(self.trace, place[0], step)
            )
        if not self._fits[names, step, place[0]]:
            return False
        steps = self._right.get(place, [])
        others = {number for number in (*steps[:1], *steps[-1:]) if number is not None}
        return all(other.agrees for other in judge.again(self.trace, place, others))

    def _candidates(self, finding: Finding) -> list[str]:
        """The causes that may explain a place: of an update, not those that show before it where nothing is wrong.

        What changes a layer's output changes the update too, but it would have been seen there first.
        """
        if finding.stage not in UPDATE:
            return [*causes.CAUSES]
        stages = {*UPDATE, "gradients", *(stage for stage, _where, _step in self._wrong)}
        return [name for name, cause in causes.CAUSES.items() if cause.stage in stages]

    def _pairs(self, at: Sequence[Finding], tried: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Pairs of those causes that move the judge's answer at this place: the first of these findings, or another.

        One of a pair may show itself in later steps alone, as a batch that is dropped does behind another order.
        """
        moving = dict.fromkeys(name for finding in at for name in tried if self._moves(name, finding))
        return combinations([*moving][:MOST_TRIED_TOGETHER], 2)

    def _moves(self, name: str, finding: Finding) -> bool:
        """Whether a cause makes the judge answer otherwise at this finding."""
        judge = self._judge((name,))
        again = judge.again(self.trace, finding.place, [finding.step]) if judge else []
        return any((other.answer, other.problem) != (finding.answer, finding.problem) for other in again)

    def _judge(self, names: tuple[str, ...]) -> Judge | None:
        """The judge of the run with these differences; None where one of them changes nothing or cannot be."""
        if names not in self._judges:
            run: Run | None = self.run
            for name in names:
                run = causes.differing(name, run, self.shape) if run else None
            judge = self._judges[names] = self._judge_of(run) if run else None
            if judge and self._canonical and all(causes.CAUSES[name].stage in UPDATE for name in names):
                judge.share_passes(self._canonical)  # what comes before an update is the same
        return self._judges[names]
