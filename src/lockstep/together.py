"""Which runs of a study are trained together, in one process, when that is asked for.

They are runs of one network that differ in their seed and in the numbers of their optimizer, its schedule, L2 and
clipping: what is done with each array is the same. Only NumPy has such a way, and only small networks of dense layers
gain from it.
"""

from __future__ import annotations

from collections.abc import Sequence

from lockstep import data
from lockstep.backends import numpy_together
from lockstep.language import later as _
from lockstep.records import changed
from lockstep.spec import Recipe, Run

MOST = 32  # in one process, each with its own weights, optimizer and, where images are held out, images


def crews(runs: Sequence[Run], threads: int) -> list[list[int]]:
    """The numbers of the runs, in lists: those of one list are trained together, those alone in one as ever."""
    found: list[list[int]] = []
    open_ones: dict[object, list[int]] = {}
    for index, run in enumerate(runs):
        crew = open_ones.get(key := _alike(run))
        if crew is None or len(crew) == MOST or why_not(run, threads):
            crew = open_ones[key] = []
            found.append(crew)
        crew.append(index)
    return found


def alone(runs: Sequence[Run], threads: int) -> list[str]:
    """Which networks are trained one by one although it was asked for otherwise, and why: a sentence each."""
    reasons = {(run.network_name, run.backend): why_not(run, threads) for run in runs}
    return [
        _("{network} in {backend} is trained run by run: {why}", network=network, backend=backend, why=why)
        for (network, backend), why in reasons.items()
        if why
    ]


def why_not(run: Run, threads: int) -> str:
    """Why a run is trained alone, as part of a sentence; nothing where it can be one of many."""
    if run.backend != "numpy":
        return _("only NumPy trains runs together")
    if threads == 1:
        return _("on one thread nothing is gained")
    return numpy_together.why_not(run.network, data.describe(run.dataset).image_shape, run.recipe, threads)


def _alike(run: Run) -> object:
    """What two runs must have in common."""
    plain = Recipe()
    free = changed(
        run.recipe, optimizer=plain.optimizer, schedule=plain.schedule, l2=plain.l2, clip_norm=plain.clip_norm,
        clip_scope=plain.clip_scope, epochs=plain.epochs, early_stopping=plain.early_stopping,
    )  # fmt: skip
    of_run = (run.network_name, run.network, run.dataset, run.backend, run.dtype, run.device, run.train_size)
    return (*of_run, free)
