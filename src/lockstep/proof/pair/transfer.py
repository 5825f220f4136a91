"""The same weights in both models: their parameters in pairs, and the numbers that both get."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lockstep.errors import LockstepError, did_you_mean
from lockstep.language import later
from lockstep.proof.pair import bundle, mapping, parameters
from lockstep.proof.pair.party import Parties, Party, as_float32

WEIGHTS = ("drawn", "from-a", "as-is")


def paired(parties: Parties, given: Iterable[tuple[str, str]]) -> mapping.Pairing:
    """The units' pairs; a pass over the batch says what each unit is, on the rough sides too."""
    traces = []
    for party in parties:
        traces.append(party.exact.trace(party.batch, "inference", party.changes_in("inference")))
        party.rough.trace([as_float32(value) for value in party.batch], "inference", party.changes_in("inference"))
        party.model = party.exact.description()
    for pair in (given := [*given]):
        for name, party in zip(pair, parties, strict=True):
            known = [unit.name for unit in party.model.units]
            if name not in known:
                message = later('"{name}" is no parameter of {model}', name=name, model=str(party.exact.asked))
                raise LockstepError("LS-209", message, where="--map", hint=did_you_mean(name, known))
    found = mapping.paired(parties[0].model, traces[0], parties[1].model, traces[1], given)
    if not found.pairs and found.left_a and found.left_b:
        raise _strangers(parties)
    return found


def _strangers(parties: Parties) -> LockstepError:
    """The error for two models that share no parameter, with the two that are most alike."""
    a, b = min(
        itertools.product(*(party.model.units for party in parties)),
        key=lambda pair: (
            len(pair[0].shape) != len(pair[1].shape),
            abs(np.log((np.prod(pair[0].shape) + 1) / (np.prod(pair[1].shape) + 1))),
        ),
    )
    alike = {"a": f"{a.name} {a.shape}", "b": f"{b.name} {b.shape}"}
    message = later("the two share no parameter; most alike are {a} | {b}", **alike)
    where = " | ".join(str(party.exact.asked) for party in parties)
    hint = later("name two models of one network, or pair parameters by hand: --map A=B")
    return LockstepError("LS-210", message, where=where, hint=hint)


def load(parties: Parties, pairing: mapping.Pairing, weights: str, seed: int) -> None:
    """Give both models the same units, in both precisions."""
    a, b = parties
    if weights not in WEIGHTS:
        for party, values in zip(parties, bundle.of_both(Path(weights)), strict=True):
            _put(party, values, weights)
        return
    if weights == "as-is":
        for party in parties:  # float32 beside float64 must hold the same numbers
            values = {name: _exact(value) for name, value in party.exact.units().items()}
            party.exact.put(values)
            party.rough.put(values)
        return
    values = mapping.drawn(a.model, seed) if weights == "drawn" else {k: _exact(v) for k, v in a.exact.units().items()}
    there = mapping.carried(values, pairing)
    there |= parameters.neutral(b.model, pairing.left_b)
    values |= parameters.neutral(a.model, pairing.left_a)
    for side in (a.exact, a.rough):
        side.put(values)
    for side in (b.exact, b.rough):
        side.put(there)


def _put(party: Party, values: dict[str, np.ndarray], where: str) -> None:
    """Give a model the parameters of a bundle; raises LockstepError (LS-206) where they are another's."""
    known = {name: value.shape for name, value in party.exact.units().items()}
    wrong = [name for name, shape in known.items() if name not in values or values[name].shape != shape]
    if wrong:
        message = later("it holds no {names} of {model}", names=", ".join(wrong[:3]), model=str(party.exact.asked))
        hint = later("take the weights.npz of a bundle of these two files")
        raise LockstepError("LS-206", message, where=where, hint=hint)
    for side in (party.exact, party.rough):
        side.put({name: values[name].astype(np.float64) for name in known})


def _exact(value: np.ndarray) -> np.ndarray:
    return value.astype(np.float32).astype(np.float64)
