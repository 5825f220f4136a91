"""How a document's parts work: frozen, checked when they are built and when they are read back.

Numbers may be NumPy's, and one that JSON does not have, NaN or infinity, is None. A text keeps its form and its values
(`lockstep.language.Text`). What a file holds beside a part's fields is nobody's concern: a later version's document can
be read. What was not said when a part was built is not written either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    WrapValidator,
    field_validator,
)

from lockstep.language import Text
from lockstep.spec.records import first_problem
from lockstep.store.folder import damaged, finite, read_json

Count = Annotated[int, Field(ge=0, le=10**15)]
Sizes = tuple[Count, ...]
Number = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # None, where it may be, stands for infinity or NaN
Series = Mapping[str, tuple[Size | None, ...]]
Index = tuple[int, ...]
Words = tuple[str, ...]
Grid = dict[str, Any]  # key of a study's grid → whatever TOML can hold
Message = Annotated[
    str,
    WrapValidator(lambda text, check: text if isinstance(text, Text) else check(text)),
    PlainSerializer(lambda text: text),
]
Messages = tuple[Message, ...]

_P = TypeVar("_P", bound="Part")


def _plain(value: Any) -> Any:
    """A value, or several, as JSON has them: no number of NumPy's, no NaN, no half of a character in a file's name."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value if isinstance(value, Text) or value.isascii() else value.encode(errors="replace").decode()
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return value


class Part(BaseModel):
    """A part of a document; `FILE` is the name of the whole one, where a folder holds one of its kind."""

    FILE: ClassVar[str] = ""
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _json_has_it(cls, value: Any) -> Any:
        return _plain(value)

    def document(self) -> dict[str, Any]:
        """The part as plain data, as it is written."""
        found: dict[str, Any] = finite(self.model_dump(exclude_unset=True))
        return found

    @classmethod
    def in_folder(cls: type[_P], folder: Path) -> _P:
        """The document of this kind that a folder holds; raises LockstepError (LS-505)."""
        return cls.read(folder / cls.FILE)

    @classmethod
    def read(cls: type[_P], path: Path) -> _P:
        """The part that a file holds; raises LockstepError (LS-505)."""
        return cls.made_of(path, read_json(path))

    @classmethod
    def made_of(cls: type[_P], path: Path, value: Any) -> _P:
        """The part that was read from a file; raises LockstepError (LS-505)."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise damaged(path, first_problem(error)) from error


def but(part: _P, **fields: Any) -> _P:
    """The part with some fields replaced or added."""
    return part.model_copy(update=fields)
