"""The first batches of both loaders: whatever their layout, which example is which, and what was done to it.

Examples are told apart by their own numbers: each is standardised and sorted, which no order of axes, no scale and no
shift changes. Then order, scale, layout, types and labels follow from the pairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from lockstep.errors import LockstepError
from lockstep.exchange.models.training import Batches
from lockstep.language import later
from lockstep.proof.pair import alignment, stages
from lockstep.proof.pair.party import Parties
from lockstep.proof.pair.stages import Parts, Told

STAGE = "data"
N_BATCHES = 3
CLOSE = 1e-4  # of standardised values: float32
ROUNDED = 2e-2  # where one side has whole numbers
MOST_LISTED = 6


@dataclasses.dataclass(frozen=True)
class Examples:
    """All examples of the first batches of a side, in their order."""

    inputs: np.ndarray
    labels: np.ndarray | None
    sizes: tuple[int, ...]  # of the batches
    dtypes: tuple[str, ...]
    n_all: int | None

    def close(self, other: Examples) -> float:
        """What two of the same standardised values may differ by."""
        return ROUNDED if "int" in self.dtypes[0] or "int" in other.dtypes[0] else CLOSE

    @property
    def known_by(self) -> np.ndarray:
        """(n, values) of each example, standardised and sorted."""
        flat = self.inputs.reshape(len(self.inputs), -1).astype(np.float64)
        spread = flat.std(axis=1, keepdims=True)
        return np.sort((flat - flat.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1), axis=1)


def compared(parties: Parties, parts: Parts) -> Told:
    """Both sides' first batches."""
    told = Told()
    if any("data" not in own for own in parts):
        told.not_observed.append(later("data loaders (name them with --data)"))
        return told
    try:
        one, two = (_examples(party.rough.batches(N_BATCHES)) for party in parties)
    except LockstepError as error:
        if error.code != "LS-403":
            raise
        told.not_observed.append(later("data loaders: {why}", why=str(error)))
        return told
    spot = stages.spot_of(*(own["data"] for own in parts))
    for cause, meaning, values in _differences(one, two):
        told.findings.append(stages.finding(STAGE, spot, cause=cause, meaning=meaning, values=values))
    n = min(len(one.inputs), len(two.inputs))
    told.count(STAGE, 0 if told.findings else n, n, later("examples of the first batches"))
    return told


def _examples(batches: Batches) -> Examples:
    """Raises LockstepError (LS-403) where there is none."""
    found = batches.arrays
    if not found or not found[0]:
        raise LockstepError(
            "LS-403", later("the loader gives no batch"), hint=later("give batches of (inputs, labels)")
        )
    width = min(len(each) for each in found)
    try:
        inputs = np.concatenate([each[0] for each in found])
        labels = np.concatenate([np.atleast_1d(each[1]) for each in found]) if width > 1 else None
    except ValueError:
        message = later(
            "its batches have different shapes: {shapes}", shapes=", ".join(str(each[0].shape) for each in found)
        )
        raise LockstepError("LS-403", message, hint=later("give batches of (inputs, labels)")) from None
    return Examples(inputs, labels, tuple(len(each[0]) for each in found), batches.dtypes[0], batches.n_all)


Row = tuple[str, str, tuple[object, object]]  # a cause, its meaning, both sides' values


def _differences(a: Examples, b: Examples) -> list[Row]:
    rows: list[Row] = []
    if a.sizes[0] != b.sizes[0]:
        rows.append((later("data: a batch has {a} | {b} examples", a=a.sizes[0], b=b.sizes[0]), "batch size",
                     (a.sizes[0], b.sizes[0])))  # fmt: skip
    elif a.n_all is not None and b.n_all is not None and a.n_all != b.n_all:
        rows.append((later("data: there are {a} | {b} batches (a short last one is left out?)", a=a.n_all, b=b.n_all),
                     "number of batches", (a.n_all, b.n_all)))  # fmt: skip
    if a.inputs[0].size != b.inputs[0].size:
        shapes = a.inputs.shape[1:], b.inputs.shape[1:]
        rows.append((later("data: an example has the shape {a} | {b}", a=shapes[0], b=shapes[1]), "shape", shapes))
        return rows
    if a.dtypes[0].rpartition(".")[2] != b.dtypes[0].rpartition(".")[2]:
        rows.append((later("data: inputs are {a} | {b}", a=a.dtypes[0], b=b.dtypes[0]), "dtype",
                     (a.dtypes[0], b.dtypes[0])))  # fmt: skip
    partner = _partners(a, b)
    known = [(i, j) for i, j in enumerate(partner) if j is not None]
    if not known:
        fewer = min(len(a.inputs), len(b.inputs))
        none_alike = later("data: none of the first {n} examples is the same in both", n=fewer)
        rows.append((none_alike, "examples", (None, None)))
        return rows
    if any(i != j for i, j in known) or len(known) < min(len(a.inputs), len(b.inputs)):
        shown = ", ".join("–" if j is None else str(j) for j in partner[:MOST_LISTED])
        words = {"n": len(known), "all": len(partner), "order": shown}
        rows.append((later("data: another order: {n} of the first {all} examples are in both, at {order} …", **words),
                     "order", (None, None)))  # fmt: skip
    return rows + _of_values(a, b, known) + _of_labels(a, b, known)


def _partners(a: Examples, b: Examples) -> list[int | None]:
    """For each example of the first side its place among the second's."""
    one, two, close = a.known_by, b.known_by, a.close(b)
    found: list[int | None] = []
    for index, own in enumerate(one):
        off = np.abs(two - own).max(axis=1)
        same = np.flatnonzero(off <= close * np.abs(own).max(initial=1.0))
        found.append(None if not len(same) else index if index in same else int(off.argmin()))
    return found


def _of_values(a: Examples, b: Examples, known: Sequence[tuple[int, int]]) -> list[Row]:
    """Scale, shift and the order of axes."""
    i, j = known[0]
    one, two = a.inputs[i].astype(np.float64), b.inputs[j].astype(np.float64)
    scale = two.std() / one.std() if one.std() else 1.0
    shift = two.mean() - scale * one.mean()
    rows: list[Row] = []
    close = a.close(b)
    if abs(scale - 1) > close or abs(shift) > close * max(np.abs(two).max(), 1e-30):
        words = {"scale": f"{scale:.4g}", "shift": f"{shift:.4g}"}
        rows.append((later("data: inputs are scaled otherwise: b = {scale} · a + {shift}", **words), "scaling",
                     (None, (scale, shift))))  # fmt: skip
    tolerance = close * max(float(np.abs(two).max()), 1e-30)
    if alignment.order(scale * one + shift, two, 2 * tolerance) is None:
        flips = {
            later("upside down"): np.flip(two, 0),
            later("from right to left"): np.flip(two, 1 if two.ndim > 1 else 0),
        }
        flip = next((word for word, turned in flips.items()
                     if alignment.order(scale * one + shift, turned, 2 * tolerance) is not None), None)  # fmt: skip
        cause = (
            later("data: the image is turned {how}", how=flip)
            if flip
            else later("data: the same values stand elsewhere")
        )
        rows.append((cause, "layout", (None, None)))
    return rows


def _of_labels(a: Examples, b: Examples, known: Sequence[tuple[int, int]]) -> list[Row]:
    if a.labels is None or b.labels is None:
        return []
    one, two = _classes(a.labels), _classes(b.labels)
    kinds = [
        later("one-hot") if each.labels is not None and _is_one_hot(each.labels) else later("numbers")
        for each in (a, b)
    ]
    rows: list[Row] = []
    if kinds[0] != kinds[1]:
        cause = later("data: labels are {a} | {b}", a=kinds[0], b=kinds[1])
        rows.append((cause, "kind of labels", (kinds[0], kinds[1])))
    pairs = [(one[i], two[j]) for i, j in known if i < len(one) and j < len(two)]
    wrong = [pair for pair in pairs if not np.allclose(*pair, rtol=1e-5, atol=1e-6)]
    if wrong:
        steps = {float(np.ravel(y)[0] - np.ravel(x)[0]) for x, y in pairs if np.size(x) == np.size(y) == 1}
        if len(steps) == 1:
            cause = later("data: labels begin at another number: b = a + {step}", step=f"{steps.pop():g}")
        else:
            cause = later("data: {n} of {all} labels are others", n=len(wrong), all=len(pairs))
        rows.append((cause, "labels", (None, None)))
    return rows


def _is_one_hot(labels: np.ndarray) -> bool:
    return (
        labels.ndim > 1
        and labels.shape[-1] > 1
        and bool(((labels == 0) | (labels == 1)).all())
        and bool((labels.sum(-1) == 1).all())
    )


def _classes(labels: np.ndarray) -> np.ndarray:
    """Labels as numbers: one-hot ones by their place, a column without its axis."""
    if _is_one_hot(labels):
        return labels.argmax(-1)
    return labels[..., 0] if labels.ndim > 1 and labels.shape[-1] == 1 else labels
