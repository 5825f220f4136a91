"""What is compared, stage by stage, and what comparing two arrays finds."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.language import later

# In the order in which data flow through a run: the first that differs is the divergence, the rest may follow from it.
STAGES: dict[str, str] = {
    later("data"): "the images, labels and order of each batch",
    later("starting weights"): "the weights that training starts from",
    later("forward"): "each layer's output for the input that it got",
    later("loss"): "the loss of the logits, and what it sends back",
    later("backward"): "what each layer sends back for what was sent to it",
    later("gradients"): "each parameter's gradient, with L2",
    later("statistics"): "running mean and variance after a step",
    later("optimizer slots"): "the optimizer's memory after a step",
    later("updated weights"): "the weights after a step",
    later("training"): "the weights after each step from the start; float64 only",
    later("whole epoch"): "losses and weights of an epoch taken in one call, against its steps taken one by one",
    later("reported loss"): "the training loss of an epoch as it is reported",
    later("predictions"): "each layer's output and the logits in inference mode",
}
UPDATE = ("optimizer slots", "updated weights")
RANGE = "range"  # no stage: the place of a finding that says where the recipe's numbers cease to be numbers

AND, TO = " + ", " → "  # a place that is of several rows, and of what they send back to one value: a + b → c


def rows_of(where: str) -> list[str]:
    """The names of the rows that a place is of, if it is one of rows: that of one, or of one's parameter, or of all."""
    return where.partition("/")[0].partition(TO)[0].split(AND)


@dataclass(frozen=True)
class Finding:
    """One array of a trace against the judge's.

    `size` is the worst |difference| and `tolerance` that of this place (`index`); `units` is the worst ratio
    of the two. `whole` marks a comparison through the whole network: it is no reason to suspect its own stage while
    anything before it is off. `problem` says what makes a comparison impossible: a shape, a dtype, NaN. `answer` is a
    checksum of what the judge wanted: another meaning with the same one says nothing else here. `within` is, of an
    update, what part of it may be missing unseen, by its norm: at 1 nothing of it was judged; None where the update is
    rounding alone. `is_beyond` marks where the recipe itself leaves the range of its numbers.
    """

    stage: str
    where: str
    step: int | None
    units: float = 0.0
    size: float = 0.0
    tolerance: float = 0.0
    index: tuple[int, ...] = ()
    found: float = 0.0
    wanted: float = 0.0
    n: int = 0
    whole: bool = False
    problem: str = ""
    answer: int = 0
    within: float | None = None
    is_beyond: bool = False

    @property
    def can_be_explained(self) -> bool:
        """Whether another meaning may explain it: a finite difference, or another shape or dtype."""
        return math.isfinite(self.size) and math.isfinite(self.tolerance)

    @property
    def agrees(self) -> bool:
        """Whether the array is what it should be, within rounding."""
        return self.units <= 1.0 and not self.problem

    @property
    def place(self) -> tuple[str, str]:
        """(stage, where): what a cause must explain at every step."""
        return self.stage, self.where


def compare(
    stage: str, where: str, step: int | None, found: Any, wanted: Any, tolerance: Any = 0.0, dtype: str = "",
    whole: bool = False,
) -> Finding:  # fmt: skip
    """Names are compared by the caller; here shapes, dtypes, then values, all of them."""
    if found is None:
        return Finding(stage, where, step, whole=whole, problem=later("it is missing"))
    found, wanted = np.asarray(found), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape:
        note = later("its shape is {found} and not {wanted}", found=found.shape, wanted=wanted.shape)
        return Finding(stage, where, step, whole=whole, problem=note)
    if dtype and found.dtype != dtype:
        note = later("its dtype is {found} and not {wanted}", found=found.dtype, wanted=dtype)
        return Finding(stage, where, step, whole=whole, problem=note)
    values = found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(values - wanted)
    tolerance = np.broadcast_to(tolerance, off.shape)
    # Where the judge's number or its tolerance is not finite, nothing can be said of the backend's.
    can_be_judged = np.isfinite(wanted) & np.isfinite(tolerance)
    strange = ~np.isfinite(values) & can_be_judged
    if strange.any():
        index = tuple(map(int, np.argwhere(strange)[0])) if values.ndim else ()
        note = later("it holds {value} at {place}", value=values[index], place=list(index))
        size = math.inf  # no meaning reproduces it
        return Finding(stage, where, step, size=size, index=index, n=values.size, whole=whole, problem=note)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((off == 0) | ~can_be_judged, 0.0, off / tolerance)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    index = tuple(map(int, np.unravel_index(int(ratio.argmax()), ratio.shape))) if ratio.size and ratio.ndim else ()
    if not ratio.size:
        return Finding(stage, where, step, whole=whole)
    if not can_be_judged.any():
        return Finding(stage, where, step, n=0, whole=whole, is_beyond=True)
    return Finding(
        stage, where, step, float(ratio[index]), float(off[index]), float(tolerance[index]), index,
        float(values[index]), float(wanted[index]), int(can_be_judged.sum()), whole,
        answer=zlib.crc32(wanted.tobytes()), is_beyond=not can_be_judged.all(),
    )  # fmt: skip


def present(stage: str, where: str, step: int | None, found: Any, shape: tuple[int, ...], dtype: str) -> Finding:
    """Whether an array is there, of this shape and dtype and finite: for what cannot be judged further."""
    is_whole = found is not None and found.shape == shape
    return compare(stage, where, step, found, np.nan_to_num(found) if is_whole else np.zeros(shape), 0.0, dtype)
