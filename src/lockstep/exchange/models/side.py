"""What every framework's side offers, and what all of them do alike: a person's file imported, a line of it found.

The file is code and is run, as `python file.py` would run it. Its folder is put on the path and nothing else.
"""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Protocol

import numpy as np

from lockstep.errors import did_you_mean
from lockstep.exchange.models.records import Change, Model, Trace, Where
from lockstep.language import later


class Side(Protocol):
    """A person's model, in the process that has its framework. Shapes and layouts are the framework's own."""

    results: Mapping[str, np.ndarray]  # what calls give instead, by the key in `Change.result`

    def load(self, file: Path, name: str, dtype: str) -> Model:
        """Import the file and build what is named, "float32" or "float64"; a second time builds it anew."""

    def description(self) -> Model:
        """What is known of the model now: once a batch was traced, what each unit is."""

    def units(self) -> dict[str, np.ndarray]:
        """Every unit of the model, by name, in the canonical layout of its role; known once a batch was traced."""

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """Set these units."""

    def trace(self, batch: Sequence[np.ndarray], mode: str, changes: Sequence[Change], designed: np.ndarray | None) -> Trace:  # fmt: skip # noqa: E501
        """One pass over a batch, "inference" or "training" (with no value dropped), its calls made with these changes.

        `designed`, in the shape of the output, weighs it: gradients are those of the weighed sum.
        """

    def again(self, call: int, change: Change) -> list[np.ndarray]:
        """The outputs of a call of the last trace, made again on copies of what it took, under a change."""

    def signature(self, call: int) -> dict[str, Any]:
        """Every argument of a call that is no tensor: name → value, defaults among them."""


class UserError(Exception):
    """Something that the person's own code raised, or that it lacks: what, where, what to do."""

    def __init__(self, message: str, where: Where | None = None, hint: str = "", code: str = "LS-403") -> None:
        super().__init__(message)
        self.message, self.where, self.hint, self.code = message, where or Where(), hint, code


# ----------------------------------------------------------------------------------------------------- a person's file


def imported(file: Path, number: int) -> ModuleType:
    """The module of a file, imported under a name of its own; what it raises is raised."""
    folder = str(file.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A second time, or where a package has its name (numpy.py), it is imported under another.
    is_taken = number or file.stem in sys.modules or file.stem in sys.stdlib_module_names
    name = f"{file.stem}__lockstep_{number}" if is_taken else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UserError(later("{file} is no Python file", file=file))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def named(module: ModuleType, name: str) -> Any:
    """What a file calls by this name ("Net", "nets.small"); raises UserError with the names that are there."""
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            here = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            message = later('"{name}" is not in {file}', name=name, file=module.__file__)
            raise UserError(message, hint=did_you_mean(name, here), code="LS-209")
        found = getattr(found, part)
    return found


def made(factory: Callable[..., Any]) -> Any:
    """What a class or function without arguments gives; raises UserError where it needs some."""
    needed = [
        parameter.name
        for parameter in signature_of(factory).values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    if needed:
        name = str(getattr(factory, "__name__", factory))
        hint = later("write a function without arguments that returns the model, and name that")
        raise UserError(
            later("{name} needs {arguments}", name=name, arguments=", ".join(needed)), hint=hint, code="LS-205"
        )
    return factory()


def signature_of(function: Any) -> dict[str, inspect.Parameter]:
    """The parameters of a function by name; none where nobody knows them."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return {}


# ------------------------------------------------------------------------------------------------- a call's arguments


def items_of(value: Any, kinds: Any) -> Iterator[Any]:
    """What is of these kinds in a value, at whatever depth of lists and dictionaries."""
    if isinstance(value, kinds):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from items_of(item, kinds)
    elif isinstance(value, dict):
        for item in value.values():
            yield from items_of(item, kinds)


def arguments_of(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], known: Any = None
) -> dict[str, Any]:
    """Every argument by name, defaults among them; by number where nobody knows the names.

    `known` is a function with the same parameters, for one that does not tell its own.
    """
    for each in (function, known):
        try:
            bound = told(each).bind(*args, **kwargs)
        except (TypeError, ValueError):
            continue
        bound.apply_defaults()
        return flat(bound)
    return {**{f"argument {index}" if index else "input": value for index, value in enumerate(args)}, **kwargs}


def told(function: Any) -> inspect.Signature:
    """A function's own; raises ValueError for one that hands on whatever it gets, as those with two forms do."""
    found = inspect.signature(function)
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in found.parameters.values()):
        raise ValueError(f"{function} names no arguments")
    return found


def flat(bound: inspect.BoundArguments) -> dict[str, Any]:
    """Arguments by name, those of `**kwargs` among them."""
    found: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


# ---------------------------------------------------------------------------------------------------- a person's lines

OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
STANDARD = sysconfig.get_paths()["stdlib"] + os.sep


class Lines:
    """Finds the innermost line of the person's among the frames of a call."""

    def __init__(self, packages: Iterable[ModuleType]) -> None:
        """`packages` are the framework's: no line of theirs is the person's."""
        folders = {os.path.dirname(os.path.abspath(str(package.__file__))) + os.sep for package in packages}
        self.others = (*folders, OURS)

    def here(self, frame: FrameType | None = None) -> Where:
        """The innermost frame outside of the framework, of Lockstep and of the standard library."""
        frame = frame or sys._getframe(1)
        while frame is not None:
            if not self.is_others(frame.f_code.co_filename):
                return self.of([(frame.f_code.co_filename, frame.f_lineno)])
            frame = frame.f_back
        return Where()

    def is_others(self, file: str) -> bool:
        """Whether a file is the framework's, Lockstep's or the standard library's."""
        is_standard = file.startswith(STANDARD) and "site-packages" not in file
        return file.startswith(self.others) or is_standard or file.startswith("<")

    def of(self, frames: Iterable[tuple[str, int]]) -> Where:
        """The first of these (file, line) that is the person's."""
        for file, line in frames:
            if not self.is_others(file):
                return Where(file, line, linecache.getline(file, line).strip())
        return Where()


# -------------------------------------------------------------------------------------------------------------- values


def plain(value: Any) -> Any:
    """An argument as JSON has it, or its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    name = getattr(value, "__name__", None)
    return str(name) if name else str(value)[:200]
