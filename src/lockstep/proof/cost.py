"""What a planted difference costs: each backend that has it is trained to the end, as it should be and with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lockstep import data, study
from lockstep.proof import procedure
from lockstep.proof.causes import planted
from lockstep.spec import Study
from lockstep.spec.records import changed
from lockstep.store.documents.part import but
from lockstep.store.documents.proof import Cost, Proof
from lockstep.store.documents.run import Metrics, Test


def add_cost(
    found: Proof, asked: Study, plants: Sequence[str], runs_folder: Path,
    tell: procedure.Tell = lambda run, event: None, threads: int | None = None,
) -> Proof:  # fmt: skip
    """A planted proof with what the plants cost (see `measure`), in its file too."""
    return procedure.write(but(found, cost=measure(asked, plants, runs_folder, tell, threads)), runs_folder)


def measure(
    asked: Study, plants: Sequence[str], runs_folder: Path, tell: procedure.Tell = lambda run, event: None,
    threads: int | None = None,
) -> tuple[Cost, ...]:  # fmt: skip
    """Train each planted backend to the end, as it should be and with its plants: what they cost.

    Of a run that failed the numbers are None. A run that the study has already is taken; all that is trained for this
    lies in a folder beside the study's, whose report would count it otherwise.
    """
    found = []
    for right, spoilt in pairs(asked, plants):
        (run,) = right.runs()
        if study.not_done(right, runs_folder):
            right = changed(right, name=spoilt.name)
        records = [study.run_study(each, runs_folder, tell, threads)[0] for each in (right, spoilt)]
        right_ends, planted_ends = (
            Metrics.in_folder(record.folder).test if record.is_finished else Test() for record in records
        )
        found.append(
            Cost(
                network=run.network_name, backend=run.backend, plants=tuple(plants),
                accuracy=right_ends.accuracy, planted_accuracy=planted_ends.accuracy,
                loss=right_ends.loss, planted_loss=planted_ends.loss,
            )
        )  # fmt: skip
    return tuple(found)


def pairs(asked: Study, plants: Sequence[str]) -> list[tuple[Study, Study]]:
    """Studies of one run each, as it should be and with its plants, where these make a difference."""
    found = []
    for backend in dict.fromkeys(plant.partition("@")[2] for plant in plants):
        for name, network in asked.networks.items():
            narrowed = changed(
                asked, networks={name: network}, backends=(backend,), seeds=asked.seeds[:1], dtype=asked.dtype[:1],
                dataset=asked.dataset[:1], grid={}, recipe=asked.recipes(name)[0],
                recipe_for={},
            )  # fmt: skip
            run = narrowed.runs()[0]
            other = planted(plants, run, data.describe(run.dataset).image_shape, strict=False)
            if other == run:
                continue
            spoilt = changed(
                narrowed, name=f"{asked.name[:56]}-planted", networks={name: other.network}, recipe=other.recipe
            )
            found.append((narrowed, spoilt))
    return found


def n_trainings(asked: Study, plants: Sequence[str]) -> int:
    """How many trainings `measure` asks for."""
    return 2 * len(pairs(asked, plants))
