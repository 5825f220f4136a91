"""What depth and kernel size do: pairs of networks that differ in one such thing and in nothing else that can be seen.

A further layer brings a width of its own and often a pooling layer, so "nothing else" cannot mean identical. It means
here: the widths of the shallower network are among the deeper one's, in order; kernels, paddings, strides, activations,
normalisation and dropout are the same; and pooling may differ only where the number of convolutions does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from lockstep.language import later
from lockstep.report.compare.cells import Cell

WITHOUT = ("conv2d", "dense", "flatten")  # kinds that are told by attributes of their own, or by nothing
POOLS = ("max_pool2d", "avg_pool2d", "global_avg_pool")
ATTRIBUTES = {
    "convolutions": later("Convolution layers"),
    "dense": later("Dense layers"),
    "kernel": later("Kernel size"),
}


@dataclasses.dataclass(frozen=True)
class Structure:
    """What a network is made of, as far as comparisons of depth and kernel size need it."""

    filters: tuple[int, ...]
    kernels: frozenset[tuple[int, ...]]  # the sizes in use
    units: tuple[int, ...]  # of dense layers, the last one included
    pools: tuple[str, ...]
    others: frozenset[str]  # kinds and options of everything else

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the hidden dense layers."""
        return self.units[:-1]

    @property
    def kernel(self) -> str:
        """ "3 × 3", or several."""
        return ", ".join("\u00a0×\u00a0".join(map(str, size)) for size in sorted(self.kernels)) or "—"


def structure(layers: Sequence[dict[str, Any]]) -> Structure | None:
    """The structure of a spec's layers; None where there is none to be read."""
    try:
        convolutions = [row for row in layers if row["kind"] == "conv2d"]
        dense = [row for row in layers if row["kind"] == "dense"]
        return Structure(
            tuple(int(row["filters"]) for row in convolutions),
            frozenset(_pair(row["kernel"]) for row in convolutions),
            tuple(int(row["units"]) for row in dense),
            tuple(_options(row) for row in layers if row["kind"] in POOLS),
            frozenset(
                [_options(row) for row in layers if row["kind"] not in (*WITHOUT, *POOLS)]
                + [_options(row, "filters", "kernel") for row in convolutions]
                + [_options(row, "units") for row in dense]
            ),
        )
    except (KeyError, TypeError, ValueError):
        return None


def _pair(size: Any) -> tuple[int, ...]:
    return tuple(map(int, size)) if isinstance(size, list | tuple) else (int(size), int(size))


def _options(row: dict[str, Any], *without: str) -> str:
    return str(sorted((key, str(value)) for key, value in row.items() if key not in without))


def only_difference(one: Structure, other: Structure) -> str | None:
    """The one attribute in which two networks differ, or None where it is none or more than one."""
    same_kernels = one.kernels == other.kernels
    differing = []
    if one.filters != other.filters:
        if len(one.filters) == len(other.filters) or not _is_part(one.filters, other.filters):
            return None
        differing.append("convolutions")
        same_kernels = same_kernels or not (one.kernels and other.kernels)  # without convolutions there is no size
    if one.units != other.units:
        if len(one.units) == len(other.units) or not _is_part(one.units, other.units):
            return None
        differing.append("dense")
    if not same_kernels:
        differing.append("kernel")
    if _without_convolutions(one, other) or (one.pools != other.pools and "convolutions" not in differing):
        return None
    return differing[0] if len(differing) == 1 else None


def _without_convolutions(one: Structure, other: Structure) -> bool:
    """Whether the rest differs; of a network without convolutions the options of convolutions are no difference."""
    left, right = one.others, other.others
    if not (one.filters and other.filters):
        left, right = (frozenset(text for text in side if "'conv2d'" not in text) for side in (left, right))
    return left != right


def _is_part(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the shorter of two sequences stands within the longer one, in order."""
    short, long = sorted((one, other), key=len)
    rest: Iterable[int] = iter(long)
    return all(value in rest for value in short)


@dataclasses.dataclass(frozen=True)
class Step:
    """Two cells that differ in one attribute, the one with less of it first."""

    attribute: str
    less: Cell
    more: Cell
    values: tuple[str, str]


def steps(cells: Sequence[Cell]) -> list[Step]:
    """Every pair of these cells that differs in one attribute alone, sorted by attribute and value."""
    known = [(cell, found) for cell in cells if (found := structure(cell.layers))]
    rows = []
    for place, (one, left) in enumerate(known):
        for other, right in known[place + 1 :]:
            if (attribute := only_difference(left, right)) and one.settings == other.settings:
                ends = sorted([(_value(left, attribute), 0), (_value(right, attribute), 1)])
                less, more = ((one, other)[which] for _, which in ends)
                shown = [_shown((left, right)[which], attribute) for _, which in ends]
                rows.append((list(ATTRIBUTES).index(attribute), [value for value, _ in ends], less, more, shown))
    rows.sort(key=lambda row: row[:2])
    return [Step(tuple(ATTRIBUTES)[n], less, more, (shown[0], shown[1])) for n, _, less, more, shown in rows]


def _value(found: Structure, attribute: str) -> tuple[Any, ...]:
    if attribute == "kernel":
        return tuple(sorted(found.kernels))
    return (len(found.filters if attribute == "convolutions" else found.units),)


def _shown(found: Structure, attribute: str) -> str:
    return found.kernel if attribute == "kernel" else str(_value(found, attribute)[0])
