"""Which runs of a study are trained together, in one process, when that is asked for.

They are runs of one network that differ in their seed and in the numbers of their optimizer, its schedule, L2 and
clipping: what is done with each array is the same. Only NumPy has such a way, and only small networks of dense layers
gain from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from lockstep import data
from lockstep.language import later
from lockstep.spec import Recipe, Run
from lockstep.spec.records import changed

MOST = 32  # in one process, each with its own weights and optimizer
IMAGE_BYTES = 2**31  # of the images that they have for themselves, those of all together


def crews(runs: Sequence[Run], threads: int) -> list[list[int]]:
    """The numbers of the runs, in lists: those of one list are trained together, those alone in one as ever."""
    found: list[list[int]] = []
    open_ones: dict[object, list[int]] = {}
    for index, run in enumerate(runs):
        crew = open_ones.get(key := _alike(run))
        # Two settings may come to one recipe: that run is done once, and taken as it is the second time.
        is_there = any((run.seed, run.recipe) == (runs[other].seed, runs[other].recipe) for other in crew or ())
        if crew is None or is_there or len(crew) == _most(run) or why_not(run, threads):
            crew = open_ones[key] = []
            found.append(crew)
        crew.append(index)
    return found


def _most(run: Run) -> int:
    """How many runs like this one are trained together, by what they hold in memory."""
    if not (run.recipe.validation or run.recipe.augmentation or run.train_size):
        return MOST  # they share the images
    facts = data.describe(run.dataset)
    each = facts.n_train * math.prod(facts.image_shape) * (1 + bool(run.recipe.augmentation))
    return max(min(MOST, IMAGE_BYTES // each), 1)


def alone(runs: Sequence[Run], threads: int) -> list[str]:
    """Which runs are trained one by one although it was asked for otherwise, and why: a sentence each."""
    single = later("there is no other of its kind")
    reasons = Counter(
        (runs[crew[0]].network_name, runs[crew[0]].backend, why_not(runs[crew[0]], threads) or single)
        for crew in crews(runs, threads)
        if len(crew) == 1
    )
    all_of = Counter((run.network_name, run.backend) for run in runs)
    return [
        later(
            "{network} in {backend}: trained by itself, {n} of {all}: {why}",
            network=network,
            backend=backend,
            n=n,
            all=all_of[network, backend],
            why=why,
        )
        for (network, backend, why), n in reasons.items()
    ]


def why_not(run: Run, threads: int) -> str:
    """Why a run is trained alone, as part of a sentence; nothing where it can be one of many."""
    if run.backend != "numpy":
        return later("only NumPy trains runs together")
    from lockstep.backends.numpy import stack  # no study without NumPy needs it

    return stack.why_not(run.network, data.describe(run.dataset).image_shape, run.recipe, threads)


def _alike(run: Run) -> object:
    """What two runs must have in common."""
    plain = Recipe()
    free = changed(
        run.recipe, optimizer=plain.optimizer, schedule=plain.schedule, l2=plain.l2, clip_norm=plain.clip_norm,
        clip_scope=plain.clip_scope, epochs=plain.epochs, early_stopping=plain.early_stopping,
    )  # fmt: skip
    of_run = (run.network_name, run.network, run.dataset, run.backend, run.dtype, run.device)
    return (*of_run, run.train_size, run.format, free)
