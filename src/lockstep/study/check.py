"""A study, asked: read, narrowed, and known to be possible on its datasets before anything starts.

Every error of a file, of its settings and of what its networks and recipes ask of the data is told at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lockstep import arguments, backends, data
from lockstep.errors import LockstepError, Problem, did_you_mean
from lockstep.language import later, n_later
from lockstep.spec import LayerFacts, Network, Recipe, Study
from lockstep.spec.records import changed, with_example
from lockstep.spec.toml import STAND_IN, located, placing, read_study

QUICK_EPOCHS = 5


def load_study(
    path: str | os.PathLike[str], settings: Iterable[str] = (), chosen_backends: Sequence[str] = (),
    networks: Sequence[str] = (), quick: bool = False,
) -> Study:  # fmt: skip
    """The study of a file, with its names, shapes and combinations checked; every error at once.

    `settings` are `key=value`; `chosen_backends` and `networks`, where given, replace or narrow those of the file.
    `quick` makes a first look of it: scikit-learn's digits, one seed and few epochs, unless a setting says otherwise.
    """
    path, settings = located(path), list(settings)
    asked = {setting.partition("=")[0].strip() for setting in settings}

    def narrowed(study: Study, left_out: frozenset[str] = frozenset()) -> tuple[Study, list[Problem]]:
        study = _quick(study, asked) if quick else study
        return _narrowed(study, chosen_backends, networks, left_out)

    def also(study: Study, left_out: frozenset[str]) -> list[Problem]:
        study, problems = narrowed(study, left_out)
        return [*problems, *_problems(study, left_out)]

    study = read_study(path, settings, also)
    with placing(path, settings):
        return checked(*narrowed(study))


def _quick(study: Study, asked: set[str]) -> Study:
    """The study on digits with one seed and few epochs, under a name of its own; what was `asked` for stays."""
    fields: dict[str, Any] = {"name": f"{study.name[:58]}-quick"}
    if "dataset" not in asked:
        fields["dataset"] = ("digits",)
    if "seeds" not in asked:
        fields["seeds"] = study.seeds[:1]
    if "recipe.epochs" not in asked:
        fields["recipe"] = changed(study.recipe, epochs=min(study.recipe.epochs, QUICK_EPOCHS))
        fields["recipe_for"] = {
            name: {key: min(value, QUICK_EPOCHS) if key == "epochs" else value for key, value in keys.items()}
            for name, keys in study.recipe_for.items()
        }
    return changed(study, **fields)


def _narrowed(
    study: Study, chosen_backends: Sequence[str], networks: Sequence[str], left_out: frozenset[str]
) -> tuple[Study, list[Problem]]:
    """The study with only these backends and networks, and a problem for each that there is not."""
    problems = _unknown_backends(dict.fromkeys(chosen_backends, "--backends"), "--backends numpy,torch")
    if chosen_backends and not problems:
        study = changed(study, backends=tuple(dict.fromkeys(chosen_backends)))
    here = _networks_of(study, left_out)
    for name in networks:
        if name not in here:
            hint = did_you_mean(name, here)
            problems.append(Problem("LS-209", later('the study has no network "{name}"', name=name), "--network", hint))
    if networks and all(name in study.networks for name in networks):
        own = {name: keys for name, keys in study.recipe_for.items() if name in networks}
        study = changed(study, networks={name: study.networks[name] for name in networks}, recipe_for=own)
    return study, problems


def checked(study: Study, problems: Sequence[Problem] = ()) -> Study:
    """The study, known to be possible on its datasets; raises LockstepError with these problems and all it finds."""
    arguments.instance(study, Study, "study", later('make one with Study(…), or read one: load_study("study.toml")'))
    study = changed(study, dataset=tuple(map(_absolute, study.dataset)))
    problems = [*problems, *_problems(study)]
    if problems:
        raise LockstepError.several(problems)
    return study


def _not_in_utf8(study: Study) -> Iterator[Problem]:
    """Texts of the command line that are bytes of another encoding, which no file of a run could hold."""
    rename = later("rename that folder, or give the dataset a name: lockstep data import FOLDER NAME")
    for key, texts, hint in (
        ("dataset", study.dataset, rename),
        ("question", (study.question,), later("write it in UTF-8")),
    ):
        for text in texts:
            if any("\ud800" <= sign <= "\udfff" for sign in text):
                yield Problem("LS-205", later("{text} is not UTF-8", text=text), key, hint)


OF_RECIPES = frozenset(("recipe", "recipe_for", "grid", "train_size", "dtype"))  # what the check of a recipe looks at


def _problems(study: Study, left_out: frozenset[str] = frozenset()) -> list[Problem]:
    """All that makes a study impossible; what follows from what was left out of it is not told."""
    found = [] if "backends" in left_out else _unknown_backends(_keys("backends", study.backends), EXAMPLE)
    found += _recipes_for_nobody(study, left_out)
    impossible = [] if OF_RECIPES & left_out else _impossible_recipes(study)
    has_recipes = not (impossible or OF_RECIPES & left_out)
    for name, key in _keys("dataset", study.dataset).items() if "dataset" not in left_out else ():
        found += _problems_with_data(study, name, key, has_recipes, left_out)
    return [*found, *impossible, *_not_in_utf8(study)]


EXAMPLE = 'backends = ["numpy", "torch"]'


def _keys(key: str, values: Sequence[str]) -> dict[str, str]:
    """Value → the key of it: that of the list where it is alone."""
    return {value: key if len(values) == 1 else f"{key}[{place}]" for place, value in enumerate(values)}


def _unknown_backends(named: dict[str, str], shown: str) -> list[Problem]:
    """A problem for each name, given with where it stands, that is no backend's."""
    unknown = {name: where for name, where in named.items() if name not in backends.BACKENDS}
    return [
        Problem(
            "LS-209", later('there is no backend "{name}"', name=name), where,
            with_example(did_you_mean(name, backends.BACKENDS), shown),
        )
        for name, where in unknown.items()
    ]  # fmt: skip


def _recipes_for_nobody(study: Study, left_out: frozenset[str]) -> list[Problem]:
    here = _networks_of(study, left_out)
    unknown = [name for name in study.recipe_for if name not in here]
    message = later("the study has no network of this name")
    return [Problem("LS-209", message, f"recipe_for.{name}", did_you_mean(name, here)) for name in unknown]


def _networks_of(study: Study, left_out: frozenset[str]) -> list[str]:
    """The names of its networks, those among them that are wrong in themselves."""
    wrong = [key.removeprefix("networks.") for key in left_out if key.startswith("networks.")]
    return [name for name in dict.fromkeys([*study.networks, *wrong]) if name != STAND_IN]


def _impossible_recipes(study: Study) -> list[Problem]:
    """What is wrong with a recipe that the grid, or what is for one network, makes."""
    found: dict[Problem, None] = {}
    for name in study.networks:
        try:
            study.recipes(name)
        except LockstepError as error:
            found |= dict.fromkeys(error.problems)
    return list(found)


def _absolute(dataset: str) -> str:
    """A dataset given by its path keeps its meaning when the run folder is read elsewhere."""
    is_path = os.sep in dataset or dataset.startswith(".") or dataset.endswith(".npz")
    return os.path.abspath(os.path.expanduser(dataset)) if is_path else dataset


def _problems_with_data(
    study: Study, dataset: str, key: str, has_recipes: bool, left_out: frozenset[str]
) -> list[Problem]:
    """What makes the study's networks, and the recipes where it has some, impossible on the dataset at this key."""
    try:
        facts = data.describe(dataset)
    except LockstepError as error:
        return [
            Problem(one.code, one.message, key if one.where == "dataset" else one.where, one.hint)
            for one in error.problems
        ]
    problems = list(
        dict.fromkeys(
            problem
            for name in study.networks
            for recipe in (study.recipes(name) if has_recipes else ())
            for problem in _problems_with_recipe(recipe, name, study, facts)
        )
    )
    ending = later('end with "dense {n}"', n=facts.n_classes)
    for name, network in study.networks.items():
        if f"networks.{name}" in left_out:  # one that stands in
            continue
        try:
            output = network.facts(facts.image_shape)[-1].output_shape
        except LockstepError as error:
            hint = later(
                "the images of {dataset} are {shape}; see: lockstep show", dataset=dataset, shape=facts.image_shape
            )
            problems += [
                Problem(one.code, one.message, f"networks.{name}.{one.where}", one.hint or hint)
                for one in error.problems
            ]
            continue
        if output != (facts.n_classes,):
            what = {"output": output, "dataset": dataset, "n": facts.n_classes}
            message = later("the last layer puts out {output}, but {dataset} has {n} classes", **what)
            problems.append(Problem("LS-206", message, f"networks.{name}", ending))
        elif not network.parameter_shapes(facts.image_shape):
            message = later("it has no parameters, so there is nothing to train")
            problems.append(Problem("LS-206", message, f"networks.{name}", ending))
    return problems


def _problems_with_recipe(recipe: Recipe, name: str, study: Study, facts: data.Facts) -> list[Problem]:
    """What this recipe of a network, one of those that grid and `recipe_for` make, asks for that cannot be."""
    problems = []
    if recipe.early_stopping and not recipe.validation:
        monitor = recipe.early_stopping.monitor
        message = later("early stopping looks at {monitor}, but no images are held out", monitor=monitor)
        problems.append(Problem("LS-207", message, "recipe.early_stopping", later("set recipe.validation = 0.1")))
    if recipe.products != "full" and "float64" in study.dtype:
        message = later(
            "products of {products} are sums of float32, but float64 is asked for", products=recipe.products
        )
        problems.append(Problem("LS-207", message, "recipe.products", later('set dtype = "float32"')))
    if "targets_broadcast" in recipe.mistakes and recipe.loss != "mean_squared_error":
        text = later(
            'the loss is {loss}, and only a squared error can make the mistake "targets_broadcast"', loss=recipe.loss
        )
        problems.append(Problem("LS-207", text, "recipe.mistakes", later('set recipe.loss = "mean_squared_error"')))
    held_out = len(data.split(facts.n_train, recipe.validation, 0)[1])
    n = min(study.train_size or facts.n_train, facts.n_train - held_out)
    if (n % recipe.batch_size or min(recipe.batch_size, n)) == 1:  # the last batch holds one image
        rows = _facts(study.networks[name], facts)
        if any(row.layer.kind == "batch_norm" and len(row.input_shape) == 1 for row in rows):
            sizes = {"n": n, "batch_size": recipe.batch_size}
            message = later("{n} training images in batches of {batch_size} leave one alone, with no variance", **sizes)
            hint = later("choose another recipe.batch_size, or leave batch_norm out of the dense part")
            problems.append(Problem("LS-207", message, f"networks.{name}", hint))
    return problems


def _facts(network: Network, facts: data.Facts) -> list[LayerFacts]:
    """The network's layers in place, or none where they do not fit (which is a problem of its own)."""
    with contextlib.suppress(LockstepError):
        return network.facts(facts.image_shape)
    return []


def few_images(study: Study) -> list[str]:
    """What a share of the images comes to, where it is hardly any: a sentence with the number for each case."""
    found = []
    for dataset in study.dataset:
        facts = data.describe(dataset)
        for name in study.networks:
            for recipe in study.recipes(name):
                kept, held_out = data.split(facts.n_train, recipe.validation, 0)
                n = min(study.train_size or facts.n_train, len(kept))
                if n < facts.n_classes:
                    found.append(
                        n_later(
                            "{n} image of {dataset} is trained on, for {classes} classes (validation = {share})",
                            "{n} images of {dataset} are trained on, for {classes} classes (validation = {share})",
                            n,
                            dataset=dataset,
                            classes=facts.n_classes,
                            share=recipe.validation,
                        )
                    )
                if recipe.early_stopping and 0 < len(held_out) < data.LEAST_WATCHED:
                    found.append(
                        n_later(
                            "early stopping watches {n} image of {dataset} (validation = {share}), so chance decides",
                            "early stopping watches {n} images of {dataset} (validation = {share}), so chance decides",
                            len(held_out),
                            dataset=dataset,
                            share=recipe.validation,
                        )
                    )
    return list(dict.fromkeys(found))


def fetch_data(study: Study, offline: bool, tell: Callable[[str, int, int], None] = lambda *_: None) -> None:
    """Download what is not on this machine, once, before any worker needs it.

    `tell` hears (file, bytes so far, bytes in all or 0). Raises LockstepError (LS-301, LS-302).
    """
    for name in study.dataset:
        if data.describe(name).state == "not on this machine":
            data.fetch(name, offline=offline, progress=tell)
