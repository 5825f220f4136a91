"""What a proof looks at: one network, recipe, dataset and dtype at a time, on as few images as its steps need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from lockstep import data
from lockstep.backends.plan import Plan
from lockstep.proof.causes import planted
from lockstep.proof.judge import Judge
from lockstep.spec import Recipe, Run, Study
from lockstep.spec.records import changed
from lockstep.training import inputs


@dataclass(frozen=True)
class Case:
    """One network, recipe, dataset and dtype: what should be run, and what each backend is given to run."""

    canonical: Run  # of no backend in particular
    examples: inputs.Examples
    runs: tuple[Run, ...]

    @cached_property
    def plan(self) -> Plan:
        """What is decided for the canonical meaning."""
        return inputs.make_plan(self.canonical, self._own, 1)

    @cached_property
    def _own(self) -> inputs.Examples:
        return self.examples_of(self.canonical)

    def examples_of(self, run: Run) -> inputs.Examples:
        """A run's images of this dataset."""
        return inputs.Examples(self.examples.data, run)

    @property
    def judge(self) -> Judge:
        """A judge of the canonical meaning, who stands at the start: each time another, for a judge trains its models.

        Those are built when they are first asked for.
        """
        return Judge(self.canonical, self.plan, self._own)

    def judge_of(self, run: Run) -> Judge:
        """A judge of another meaning on the same dataset."""
        examples = self.examples_of(run)
        return Judge(run, inputs.make_plan(run, examples, 1), examples)


def cases(
    asked: Study, steps: int, plants: Sequence[str] = (), is_wanted: Callable[[Run], bool] = lambda run: True
) -> Iterator[Case]:
    """Every case of a study, on the few images that the steps need; without the runs that nobody wants."""
    asked = changed(asked, seeds=asked.seeds[:1])
    runs = asked.runs()
    per_case = len(asked.backends)
    for start in range(0, len(runs), per_case):
        group = [run for run in runs[start : start + per_case] if is_wanted(run)]
        if not group:
            continue
        loaded = data.load(group[0].dataset, offline=True)
        kept = len(data.split(len(loaded.train_images), group[0].recipe.validation, group[0].seed)[0])
        size = proof_size(min(asked.train_size or kept, kept), group[0].recipe, steps)
        group = [changed(run, train_size=size) for run in group]
        examples = inputs.Examples(loaded, group[0])
        given = tuple(planted(plants, run, examples.shape, strict=False) for run in group)
        yield Case(changed(group[0], backend="numpy"), examples, given)


def proof_size(n: int, recipe: Recipe, steps: int) -> int:
    """How many of `n` training images a proof uses: two epochs of them are `steps` steps, each with a short last batch.

    Where all of them leave a batch of one, so do these: a variance over one example is a case of its own.
    """
    batch = recipe.batch_size
    short = 1 if n % batch == 1 and batch > 1 else batch // 3 + 1 if batch > 2 else 0
    return min(n, max((steps + 1) // 2 - bool(short), 1) * batch + short)
