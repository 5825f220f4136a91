"""How a page of a proof calls a network among others, and a place in one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lockstep.language import _
from lockstep.report.words import forms
from lockstep.report.words.quantities import MISSING
from lockstep.store.documents.proof import Divergence, Network, Worst


def coordinates(rows: Sequence[Network | Divergence]) -> list[dict[str, str]]:
    """What sets networks apart beside their name: "dataset", "dtype" and keys of the grid, where they vary."""
    found = [
        {"dataset": row.dataset, "dtype": row.dtype} | {key: str(value) for key, value in row.grid.items()}
        for row in rows
    ]
    varying = [key for key in distinct(key for row in found for key in row) if len({row.get(key) for row in found}) > 1]
    return [{key: row.get(key, MISSING) for key in varying} for row in found]


def short(key: str) -> str:
    """ "recipe.batch_size" → "batch_size"."""
    return key.rpartition(".")[2]


def titled(name: str, coordinate: dict[str, str]) -> str:
    """ "mlp · float32 · batch_size 13": datasets and dtypes need no word before them."""
    told = (value if key in ("dataset", "dtype") else f"{short(key)} {value}" for key, value in coordinate.items())
    return " · ".join([name, *told])


def spot(place: Worst | Divergence) -> str:
    """ "updated weights, 1_dense/kernel, step 0"."""
    step = "" if place.step is None or place.step < 0 else _("step {n}", n=place.step)
    return ", ".join(filter(None, (forms.say(place.stage), forms.say(place.where), step)))


def distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
