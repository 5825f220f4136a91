"""What trains a person's model besides the model: loss, optimizer, schedule, step, loader; found by name, plain data.

Each is optional and is asked for nothing but its name; how it is called is read from the names of what it takes. What
crosses the border stands here too, beside the contract of a side's `Training`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import linecache
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from lockstep.exchange.models import side
from lockstep.exchange.models.records import Change, Trace, Where, read_arrays, write_arrays
from lockstep.language import later

# part → what people call it, the first that a file has is taken
NAMES = {
    "loss": ("loss", "loss_fn", "criterion", "loss_function", "compute_loss"),
    "optimizer": ("optimizer", "make_optimizer", "build_optimizer", "get_optimizer", "configure_optimizers"),
    "schedule": ("schedule", "scheduler", "make_schedule", "make_scheduler", "build_scheduler", "lr_scheduler"),
    "train_step": ("train_step", "training_step"),
    "data": ("batches", "loader", "train_loader", "make_loader"),
}
# what a function takes → the names that people give it
TAKEN = {
    "model": ("model", "net", "network", "module"),
    "optimizer": ("optimizer", "optim", "opt", "optimiser"),
    "schedule": ("scheduler", "schedule", "lr_scheduler"),
    "loss": ("loss_fn", "criterion", "loss_function", "loss"),
    "batch": ("batch", "data"),
    "inputs": ("inputs", "x", "xb", "images", "features", "input"),
    "outputs": ("outputs", "logits", "predictions", "y_pred", "output", "prediction", "preds", "pred", "y_hat"),
    "labels": ("labels", "y", "yb", "targets", "target", "label", "y_true"),
    "parameters": ("parameters", "params", "weights", "variables"),
    "state": ("opt_state", "optimizer_state", "state"),
}
TAKES = {name: what for what, names in TAKEN.items() for name in names}


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a person's training: its name in their file, what it is of the framework's, and where it was made."""

    name: str
    function: str = ""  # "torch.optim.Adam"; the person's own function where nothing is known of it
    where: Where = Where()  # noqa: RUF009 - it is frozen
    arguments: dict[str, Any] = dataclasses.field(default_factory=dict)  # all of them, defaults among them
    error: str = ""  # why it cannot be used: nobody asked for it, and what has its name may be something else


@dataclasses.dataclass(frozen=True)
class Steps:
    """What was kept after each of some steps: all units, and what is said of the step."""

    values: tuple[dict[str, np.ndarray], ...]
    losses: tuple[float | None, ...] = ()
    rates: tuple[float | None, ...] = ()  # learning rates that the steps were taken with, where the framework says


@dataclasses.dataclass(frozen=True)
class Way:
    """How steps are taken: by the person's own `train_step`, or put together of their parts, and with what changed."""

    is_own: bool = False
    mode: str = "training"
    is_accumulated: bool = False  # gradients are never set to zero
    is_scheduled: bool = True  # a scheduler of the file's is advanced after each step
    clip_norm: float = 0.0  # of all gradients together; 0: none
    decay: float = 0.0  # λ of ½·λ·‖w‖² over all that is trained
    changes: tuple[Change, ...] = ()  # of the model's calls
    of_loss: tuple[Change, ...] = ()
    of_optimizer: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is asked."""
        own = {
            key: getattr(self, key)
            for key in ("is_own", "mode", "is_accumulated", "is_scheduled", "clip_norm", "decay")
        }
        lists = {key: [each.to_json() for each in getattr(self, key)] for key in ("changes", "of_loss")}
        return {**own, **lists, "of_optimizer": dict(self.of_optimizer)}


@dataclasses.dataclass(frozen=True)
class Drop:
    """One dropout of a pass in training mode, measured: the share of values that it dropped, what it did to others."""

    path: str
    where: Where
    n: int  # values that were not 0 before
    dropped: float
    scale: float  # the median of y/x among the values that are left; nan where none is


@dataclasses.dataclass(frozen=True)
class Batches:
    """The first batches of a loader, as it gives them: arrays, and the types that they had there."""

    arrays: tuple[tuple[np.ndarray, ...], ...]
    dtypes: tuple[tuple[str, ...], ...]
    n_all: int | None = None  # how many batches it says that it has


class Training(Protocol):
    """How a person's model is trained, in the process that has it; all starts from the units as they are, and ends so.

    Units and tensors are as in `side.Side`.
    """

    def parts(self, asked: Mapping[str, str]) -> dict[str, Part]:
        """What there is of `NAMES`; `asked` says the name of one. Raises UserError where that is not in the file."""

    def loss(self, outputs: np.ndarray, labels: np.ndarray, changes: Sequence[Change]) -> Trace:
        """The loss of these outputs as a pass: its calls, its value, the gradient by the first input."""

    def optimize(self, gradients: Sequence[Mapping[str, np.ndarray]], changed: Mapping[str, Any]) -> Steps:
        """One update for each of these gradients by units, by a new optimizer with some arguments changed.

        Kept is what has a gradient; the gradient of all else is 0.
        """

    def train(self, batches: Sequence[Sequence[np.ndarray]], way: Way) -> Steps:
        """One step on each batch of (inputs, labels); nothing is dropped."""

    def drops(self, batch: Sequence[np.ndarray]) -> list[Drop]:
        """What dropout does in a pass in training mode."""

    def batches(self, n: int) -> Batches:
        """The first batches of the person's loader."""


# ----------------------------------------------------------------------------------------------------- found by name


def found(module: ModuleType, asked: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """part → (name, what the file has under it); raises UserError where a name that was asked for is not there."""
    parts: dict[str, tuple[str, Any]] = {}
    for part, names in NAMES.items():
        if part in asked:
            parts[part] = (asked[part], side.named(module, asked[part]))
            continue
        name = next((name for name in names if getattr(module, name, None) is not None), None)
        if name is not None:
            parts[part] = (name, getattr(module, name))
    return parts


def needed(found: Mapping[str, tuple[str, Any]], part: str) -> tuple[str, Any]:
    """(name, value) of a part; raises UserError where the file has none."""
    if part not in found:
        names = " | ".join(NAMES[part][:2])
        raise side.UserError(later("there is no {part}", part=part), hint=later("{names} in the file", names=names))
    return found[part]


def described(
    found: Mapping[str, tuple[str, Any]], asked: Mapping[str, str], describe: Callable[[str, str], Mapping[str, Part]]
) -> dict[str, Part]:
    """All parts, as a side describes (part, name) of each; one that nobody asked for may fail, which is told."""
    told: dict[str, Part] = {}
    for part, (name, _value) in found.items():
        try:
            told |= describe(part, name)
        except Exception as error:
            if part in asked:
                raise
            told[part] = Part(name, error=f"{type(error).__name__}: {error}"[:300])
    return told


def in_order(made: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments in the order in which a class takes them: a line may give them by place."""
    names = [name for name in side.signature_of(type(made)) if name in arguments]
    return {name: arguments[name] for name in (*names, *(name for name in arguments if name not in names))}


def n_needed(function: Any) -> int:
    """How many arguments a function cannot do without."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(
        parameter.default is parameter.empty and parameter.kind in kinds
        for parameter in side.signature_of(function).values()
    )


def called(function: Callable[..., Any], offered: Mapping[str, Any], order: Sequence[str]) -> Any:
    """What a person's function gives for what is offered, by the names of its arguments; else in this order.

    Raises UserError where it needs something that is not offered.
    """
    taken: list[Any] = []
    left = [what for what in order if what in offered]
    for parameter in side.signature_of(function).values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.KEYWORD_ONLY):
            continue
        what = TAKES.get(parameter.name)
        if what not in offered:
            what = left[0] if left and parameter.default is parameter.empty else None
        if what is None and parameter.default is not parameter.empty:
            break
        if what is None:
            name = getattr(function, "__name__", str(function))
            known = ", ".join(names[0] for key, names in TAKEN.items() if key in offered)
            raise side.UserError(
                later("{name} needs {argument}", name=name, argument=parameter.name), where_of(function),
                later("it can have: {names}", names=known),
            )  # fmt: skip
        left = [each for each in left if each != what]
        taken.append(offered[what])
    return function(*taken)


def where_of(function: Any) -> Where:
    """The line of a function or class."""
    function = inspect.unwrap(getattr(function, "python_function", function))  # of one that a framework has wrapped
    try:
        lines, number = inspect.getsourcelines(function)
        return Where(str(inspect.getsourcefile(function)), number, lines[0].strip())
    except (OSError, TypeError):
        return Where()


def line_of(module: ModuleType, name: str) -> Where:
    """The line of a file that gives a name its value, or defines it; none where it is given elsewhere."""
    file = str(getattr(module, "__file__", ""))
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return Where()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [each.id for each in targets if isinstance(each, ast.Name)]
        if name in (*names, getattr(node, "name", None)):
            return Where(file, node.lineno, linecache.getline(file, node.lineno).strip())
    return Where()


def loss_in(given: Any) -> Any:
    """The loss in what a step gives back; None where there is none."""
    if isinstance(given, Mapping):
        return loss_in(next((given[key] for key in ("loss", "train_loss") if key in given), None))
    if isinstance(given, list | tuple):
        numbers = [each for each in given if getattr(each, "ndim", 1) == 0 or isinstance(each, float)]
        return numbers[0] if numbers else None
    return given


def pairs_in(batches: Any, n: int) -> Iterator[Any]:
    """The first batches of an iterable, or of a function that gives one."""
    given = batches() if callable(batches) and not hasattr(batches, "__iter__") else batches
    for index, batch in enumerate(given):
        if index == n:
            return
        yield batch


def arrays_of(batch: Any, array: Callable[[Any], np.ndarray]) -> tuple[tuple[np.ndarray, str], ...]:
    """(array, type) of all that a batch holds."""
    values = list(batch.values()) if isinstance(batch, Mapping) else list(batch) if _is_listed(batch) else [batch]
    return tuple((array(value), str(getattr(value, "dtype", type(value).__name__))) for value in values)


def _is_listed(batch: Any) -> bool:
    return isinstance(batch, list | tuple)


# --------------------------------------------------------------------------------------------------- to and from files


def write_steps(steps: Steps, folder: Path, name: str) -> dict[str, Any]:
    """Write the units, as "step/unit"; what is answered beside them."""
    arrays = {f"{index}/{key}": value for index, values in enumerate(steps.values) for key, value in values.items()}
    write_arrays(arrays, folder / name)
    return {"n": len(steps.values), "losses": steps.losses, "rates": steps.rates}


def read_steps(answer: Mapping[str, Any], path: Path) -> Steps:
    """What `write_steps` wrote; raises ValueError, TypeError, KeyError or OSError where it is none."""
    values: list[dict[str, np.ndarray]] = [{} for _ in range(int(answer["n"]))]
    for key, value in read_arrays(path).items():
        index, _slash, name = key.partition("/")
        values[int(index)][name] = value
    numbers = (tuple(None if x is None else float(x) for x in answer[key]) for key in ("losses", "rates"))
    return Steps(tuple(values), *numbers)


def write_batches(batches: Batches, folder: Path, name: str) -> dict[str, Any]:
    """Write the arrays, as "batch/place"; what is answered beside them."""
    arrays = {f"{n}/{place}": value for n, batch in enumerate(batches.arrays) for place, value in enumerate(batch)}
    write_arrays(arrays, folder / name)
    return {"dtypes": batches.dtypes, "n_all": batches.n_all}


def read_batches(answer: Mapping[str, Any], path: Path) -> Batches:
    """What `write_batches` wrote."""
    dtypes = tuple(tuple(map(str, each)) for each in answer["dtypes"])
    arrays = read_arrays(path)
    n_all = answer["n_all"]
    return Batches(
        tuple(tuple(arrays[f"{n}/{place}"] for place in range(len(each))) for n, each in enumerate(dtypes)), dtypes,
        None if n_all is None else int(n_all),
    )  # fmt: skip


def part_of(given: Mapping[str, Any]) -> Part:
    """A part from its JSON."""
    where = given["where"]
    line = Where(str(where["file"]), int(where["line"]), str(where["text"]))
    return Part(str(given["name"]), str(given["function"]), line, dict(given["arguments"]),
                str(given["error"]))  # fmt: skip


def drop_of(given: Mapping[str, Any]) -> Drop:
    """A measured dropout from its JSON."""
    where = given["where"]
    line = Where(str(where["file"]), int(where["line"]), str(where["text"]))
    return Drop(str(given["path"]), line, int(given["n"]), float(given["dropped"]), float(given["scale"]))
