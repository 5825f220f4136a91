"""What a study IS: a question, asked as a grid of runs; and what one run of it is."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, TypeAdapter, ValidationError

from lockstep.errors import LockstepError, Problem
from lockstep.language import later, reason
from lockstep.spec import naming
from lockstep.spec.branches import Layer
from lockstep.spec.network import Network
from lockstep.spec.recipe import Recipe
from lockstep.spec.records import (
    MOST_PROBLEMS,
    Count,
    Text,
    Whole,
    problems_of,
    record,
    set_key,
    several,
    to_table,
)

Dtype = Literal["float32", "float64"]
DTYPES: tuple[str, ...] = get_args(Dtype)
# What a study's `format` says: by which number of a layer its starting weights are drawn, and which images `train_size`
# keeps. A run's spec.toml always has it; those of before it have format 1.
FORMATS = {
    1: later("starting weights by a layer's number among all layers; the first train_size images"),
    2: later("starting weights by a layer's number among those with a kernel; of each class its share of train_size"),
}
FORMAT = max(FORMATS)
MOST_COMBINATIONS = 10_000  # of a grid
Device = Literal["cpu", "cuda"]
DEVICES: tuple[str, ...] = get_args(Device)
_Name = Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    seen = set()
    for value in values:
        if repr(value) in seen:
            raise ValueError(later("{value!r} is given twice", value=value))
        seen.add(repr(value))
    return values


def _as_network(value: Any) -> Any:
    return {"layers": value} if isinstance(value, list | tuple) else value


def _same_layers(value: Any) -> Any:
    """A network that is the name of another has that one's layers, to be trained by another recipe."""
    if not isinstance(value, dict):
        return value
    return {
        name: value[other] if isinstance(other, str) and other != name and other in value else other
        for name, other in value.items()
    }


def _flat_keys(value: Any) -> Any:
    """[grid] `optimizer.learning_rate = [...]` means the dotted key, although TOML reads a table in a table."""
    if not isinstance(value, dict):
        return value
    flat: dict[str, Any] = {}
    for key, item in value.items():
        inner = _flat_keys(item) if isinstance(item, dict) and "kind" not in item else None
        flat |= {key: item} if inner is None else {f"{key}.{name}": values for name, values in inner.items()}
    return flat


def _items(values: Any) -> Any:
    return Annotated[tuple[values, ...], several(values, min_length=1), Field(min_length=1), AfterValidator(_once)]


@record
class Run:
    """One network × recipe × dataset × backend × seed × dtype: a study with every choice made."""

    study: str
    network_name: str
    network: Network
    recipe: Recipe
    dataset: str
    backend: str
    seed: int
    dtype: str
    device: str
    train_size: int | None = None
    grid: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    format: int = FORMAT


if TYPE_CHECKING:
    _Names = tuple[str, ...]
    _Seeds = tuple[int, ...]
    _Dtypes = tuple[str, ...]
    _Format = int
    _Networks = Mapping[str, Network]
    _Grid = Mapping[str, tuple[Any, ...]]
    _RecipeFor = Mapping[str, Mapping[str, Any]]
else:
    _Names = _items(Text)
    _Seeds = _items(Annotated[Whole, Field(ge=0, lt=2**63)])
    _Dtypes = _items(Dtype)
    _Format = Literal[tuple(FORMATS)]
    _Layers = Annotated[tuple[Layer, ...], Field(min_length=1)]
    _Network = Annotated[Network, BeforeValidator(_as_network, json_schema_input_type=_Layers | Network)]
    _Networks = Annotated[
        dict[_Name, _Network],
        BeforeValidator(_same_layers, json_schema_input_type=dict[_Name, str | _Network]),
        Field(min_length=1, max_length=1000),
    ]
    _RecipeFor = dict[_Name, Annotated[dict[str, Any], BeforeValidator(_flat_keys)]]
    _Grid = Annotated[dict[str, _items(Any)], BeforeValidator(_flat_keys)]


@record
class Study:
    """A question, asked as a grid of runs: networks × datasets × dtypes × grid × seeds × backends.

    `grid` maps a key of the recipe, such as `"optimizer.learning_rate"`, to the values to try. `recipe_for` maps a
    network's name to keys of the recipe that are otherwise for this network alone. `train_size` keeps only so
    many training images, of each class its share. A lone value stands for a list of one. Without a `name` it has that
    of the script that makes it. `format`: see FORMATS; an earlier one repeats runs of an earlier version.
    """

    networks: _Networks
    dataset: _Names = ("digits",)
    backends: _Names = ("numpy", "torch", "tensorflow", "jax")
    seeds: _Seeds = (0,)
    dtype: _Dtypes = ("float32",)
    device: Device = "cpu"
    recipe: Recipe = Recipe()
    grid: _Grid = dataclasses.field(default_factory=dict)
    recipe_for: _RecipeFor = dataclasses.field(default_factory=dict)
    train_size: Count | None = None
    question: Text = ""
    format: _Format = FORMAT
    name: _Name = dataclasses.field(default_factory=naming.of_script)

    def recipes(self, network: str = "") -> list[Recipe]:
        """The recipe of every combination of the grid, for a network of this name or for any without its own.

        Raises LockstepError where one cannot be, or too many.
        """
        n = math.prod(len(values) for values in self.grid.values())
        if n > MOST_COMBINATIONS:
            message = later("{n:,} recipes are more than {most:,}", n=n, most=MOST_COMBINATIONS)
            raise LockstepError("LS-205", message, where="grid", hint=later("fewer values, or several studies"))
        recipe = _with(self.recipe, self.recipe_for.get(network, {}), f"recipe_for.{network}")
        made, problems = [], dict[Problem, None]()
        for chosen in _combinations(self.grid):
            try:
                made.append(_with(recipe, chosen, "grid"))
            except LockstepError as error:
                problems |= dict.fromkeys(error.problems)
            if len(problems) >= MOST_PROBLEMS:
                break
        if problems:
            raise LockstepError.several(problems)
        return made

    def runs(self) -> list[Run]:
        """Every run of the grid; backends vary fastest, so that the same training stands side by side."""
        grid = list(_combinations(self.grid))
        return [
            Run(
                self.name,
                name,
                network,
                recipe,
                dataset,
                backend,
                seed,
                dtype,
                self.device,
                self.train_size,
                chosen,
                self.format,
            )
            for dataset in self.dataset
            for name, network in self.networks.items()
            for chosen, recipe in zip(grid, self.recipes(name), strict=True)
            for dtype in self.dtype
            for seed in self.seeds
            for backend in self.backends
        ]


def _combinations(grid: Mapping[str, tuple[Any, ...]]) -> Iterator[dict[str, Any]]:
    if not grid:
        yield {}
        return
    (key, values), *rest = grid.items()
    for value in values:
        for others in _combinations(dict(rest)):
            yield {key: value, **others}


_RECIPE = TypeAdapter(Recipe)


def _with(recipe: Recipe, chosen: Mapping[str, Any], where: str) -> Recipe:
    """The recipe with some keys (dotted, relative to it) replaced; raises LockstepError like any recipe."""
    if not chosen:
        return recipe
    table = to_table(recipe)
    for key, value in sorted(chosen.items(), key=lambda item: item[0].count(".")):  # a part after its whole
        try:
            set_key(table, key.removeprefix("recipe."), value)
        except KeyError as error:
            message = later('"{part}" is not a table, so this key does not exist', part=error.args[0])
            raise LockstepError(
                "LS-203", message, where=f"{where}.{key}", hint=later("name a key of the recipe")
            ) from None
        except ValueError as error:  # a short form on the way is wrong in itself
            raise LockstepError("LS-205", reason(error), where=f"{where}.{key}") from None
    try:
        return _RECIPE.validate_python(table)
    except ValidationError as error:
        raise LockstepError.several(problems_of(error, Recipe, where=f"{where}.")) from None
