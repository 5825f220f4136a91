"""The stages behind the passes of two models: how they are trained, each in a module of its own, in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TypeVar

from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.proof.pair import dropout, initializers, loaders, losses, mapping, optimizers, steps
from lockstep.proof.pair.party import Parties
from lockstep.proof.pair.stages import Parts, Tell, Told


@dataclasses.dataclass(frozen=True)
class Asked:
    """What somebody asks of the stages of training: names in both files, and how many steps."""

    names: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})  # part → its name, of both files
    steps: int = 0
    starts: bool = False  # whether the files' own starting weights are looked at
    seed: int = 0


NOTHING = Asked()


def asked(names: Mapping[str, str | None], steps: int = 0, starts: bool = False) -> Asked:
    """What somebody asks: part → its name in both files, or "A=B"; None where the usual names are to be looked for."""
    found: tuple[dict[str, str], dict[str, str]] = ({}, {})
    for part, text in names.items():
        if text is not None:
            one, _equals, other = text.partition("=")
            found[0][part], found[1][part] = one, other or one
    return Asked(found, steps, starts)


R = TypeVar("R")


def compared(
    parties: Parties,
    pairing: mapping.Pairing,
    asked: Asked,
    is_explained: bool,
    tell: Tell,
    known: Collection[str] = (),
) -> Told:
    """All stages of training; steps only where the models are equal, or have been put right.

    `known` are units of the second model whose statistics are known to differ for good.
    """
    told = Told()
    parts, seed = _parts(parties, asked, told), asked.seed
    tell(later("comparing: {stage}", stage=later("loss")))
    of_loss = _guarded(told, "loss", lambda: losses.compared(parties, parts, seed)) or losses.Result()
    tell(later("comparing: {stage}", stage=later("optimizer")))
    of_optimizer = _guarded(
        told, "optimizer", lambda: optimizers.compared(parties, pairing, parts, asked.steps, seed)
    ) or optimizers.Result(is_explained=False)
    if asked.steps and is_explained:
        tell(later("comparing: {stage}", stage=later("steps")))
        before = (of_loss, of_optimizer)
        _guarded(told, "steps", lambda: (
            steps.compared(parties, pairing, parts, asked.steps, seed, *before, known), None))  # fmt: skip
    elif asked.steps:
        told.not_observed.append(later("steps: the models' outputs differ, so their steps would too"))
    else:
        told.not_observed.append(later("training steps (ask for them with --steps 10)"))
    _guarded(told, "dropout", lambda: (dropout.compared(parties), None))
    _guarded(told, "data", lambda: (loaders.compared(parties, parts), None))
    if asked.starts:
        _guarded(told, "starting weights", lambda: (initializers.compared(parties), None))
    return told


def _guarded(told: Told, stage: str, compare: Callable[[], tuple[Told, R]]) -> R | None:
    """A stage's result; what a person's own code raises in it is told, and the other stages go on."""
    try:
        found, result = compare()
    except LockstepError as error:
        if error.code != "LS-403":
            raise
        told.not_observed.append(later("{stage}: {why}", stage=stage, why=str(error)))
        return None
    told.add(found)
    return result


def _parts(parties: Parties, asked: Asked, told: Told) -> Parts:
    """What both files have; where one names what is not there, its error names the others."""
    found = []
    for party, names in zip(parties, asked.names, strict=True):
        parts = party.exact.parts(names)
        party.rough.parts(names)
        for name, part in parts.items():
            if part.error:
                words = {"part": name, "name": part.name, "file": str(party.exact.asked.file), "why": part.error}
                told.not_observed.append(later("{part}: {name} of {file} is none: {why}", **words))
        found.append({name: part for name, part in parts.items() if not part.error})
    return found
