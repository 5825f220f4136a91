"""What somebody typed, or gave in Python, of a batch, a shape and pairs of parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import arguments, store
from lockstep.errors import LockstepError
from lockstep.language import later

Batch = str | PathLike[str] | np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray]
Pairs = Mapping[str, str] | Iterable[str]


def arrays(batch: Batch | None) -> list[np.ndarray] | None:
    """The arrays of a batch, each with its examples along the first axis; None where nobody gives one.

    An .npz file's in their order, a mapping's likewise, several, or one alone. Raises LockstepError (LS-200 where there
    is no such file, LS-204 for what is no array, LS-205 where there is none or an example is missing, LS-306).
    """
    if batch is None:
        return None
    if isinstance(batch, str | PathLike):
        path = Path(batch)
        if not path.is_file():
            hint = later("look for a typing error")
            raise LockstepError("LS-200", later("there is no such file"), where=str(path), hint=hint)
        found: list[Any] = [*_read(path).values()]
        where = str(path)
    else:
        where = "batch"
        found = (
            [batch] if isinstance(batch, np.ndarray) else [*(batch.values() if isinstance(batch, Mapping) else batch)]
        )
        found = [_array(value) for value in found]
    return _checked(found, where)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        return store.read_npz(path)
    except LockstepError as error:
        if error.code != "LS-505":
            raise
        hint = later("np.savez({file!r}, x=x) writes one", file=path.name)
        raise LockstepError("LS-306", error.problems[0].message, where=str(path), hint=hint) from error


def _array(value: Any) -> np.ndarray:
    found = np.asarray(value)
    if found.dtype.kind not in "fiub":
        hint = later("np.asarray(x) of a tensor on the CPU")
        raise LockstepError("LS-204", later("an array of numbers is wanted here"), where="batch", hint=hint)
    return found


def _checked(found: list[np.ndarray], where: str) -> list[np.ndarray]:
    hint = later("arrays as the first model takes them, with the examples along the first axis")
    if not found or any(not value.ndim or not value.size for value in found):
        raise LockstepError("LS-205", later("there is no example in it"), where=where, hint=hint)
    wrong = next((value for value in found if value.dtype.kind not in "fiub"), None)
    if wrong is not None:
        message = later("it holds {dtype}, and no numbers", dtype=wrong.dtype)
        raise LockstepError("LS-205", message, where=where, hint=hint)
    return found


def shape(asked: str | Sequence[int] | None) -> tuple[int, ...] | None:
    """The shape of one example; raises LockstepError (LS-205)."""
    if asked is None:
        return None
    try:
        sizes = asked.split(",") if isinstance(asked, str) else [arguments.whole(size, "--input") for size in asked]
        found = tuple(int(size) for size in sizes)
    except ValueError:
        found = ()
    if not found or min(found) < 1:
        message = later('"{text}" is no shape', text=asked)
        raise LockstepError("LS-205", message, where="--input", hint=later("sizes with commas: 3,32,32"))
    return found


def pairs(asked: Pairs) -> list[tuple[str, str]]:
    """Pairs of names of parameters, of "A=B" or of a mapping; raises LockstepError (LS-205)."""
    if isinstance(asked, Mapping):
        return [(str(a), str(b)) for a, b in asked.items()]
    found = []
    for text in arguments.texts(asked, "map"):
        a, _sign, b = text.partition("=")
        if not a or not b:
            hint = later("the first model's name, =, the second's: layer3.conv.weight=conv2d_7/kernel")
            raise LockstepError("LS-205", later('"{text}" is no pair', text=text), where="--map", hint=hint)
        found.append((a, b))
    return found
