"""A run as a user of a framework writes it with all that is the framework's own: its generator, its loader, its fit.

Such a script draws other numbers than the run did, so its steps cannot be compared; what is promised is that it reaches
the run's accuracy. Comments stand where the framework's default had to be put right by hand.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from lockstep.errors import LockstepError, did_you_mean
from lockstep.exchange.scripts import decisions
from lockstep.exchange.scripts.given import Given
from lockstep.exchange.scripts.lines import blocks
from lockstep.language import later

TARGETS = {"torch": "torch", "keras": "tensorflow"}  # what `--script … --idiomatic` takes → the backend that it needs


class Idiom(NamedTuple):
    """What a framework's file gives: its imports, and its sections behind the data."""

    title: str
    imports: Callable[[Given], list[str]]
    sections: Callable[[Given], Iterator[str]]


class Count(NamedTuple):
    """What it took to write a script.

    `lines` of code, without comments and empty ones; `names`: different ones of other packages; `defaults` of the
    framework's that a comment says were put right by hand.
    """

    lines: int
    names: int
    defaults: int


def refusals(given: Given, name: str) -> list[str]:
    """What a run says that a framework does not say by its own means, each with its reason."""
    recipe, found = given.recipe, given.unsayable()
    if recipe.mistakes:
        found.append(later("mistakes on purpose: {names}", names=", ".join(recipe.mistakes)))
    if recipe.loss not in ("cross_entropy", "mean_squared_error"):
        found.append(later("loss = {kind}: it is there to be compared with, and no loss to train by", kind=recipe.loss))
    if given.dtype != "float32":
        found.append(later("float64: no framework's own"))
    if name == "keras" and not given.plan.walk.is_chain:
        found.append(later("branches: a Sequential of Keras has none"))
    pools = [row.layer for row in given.plan.rows if row.layer.kind in ("max_pool2d", "avg_pool2d")]
    if name == "keras" and any(pool.padding == "same_lower" for pool in pools):
        found.append(later("poolings with padding same_lower: Keras has no word for it"))
    if any(pool.kind == "max_pool2d" and pool.ties == "shared" for pool in pools):
        found.append(later("poolings whose equal maxima share the gradient: no framework's own"))
    return found


def write(given: Given, name: str, file: str = "", data: str = "data.npz") -> str:
    """The text of the script; raises LockstepError: LS-209, LS-207 with everything that it cannot say."""
    if name not in TARGETS:
        hint = did_you_mean(name, TARGETS)
        message = later('no idiomatic script is written for "{name}"', name=name)
        raise LockstepError("LS-209", message, where="--idiomatic", hint=hint)
    if refused := refusals(given, name):
        hint = later("leave --idiomatic out: the exact script says it")
        what = "; ".join(map(str, refused))
        raise LockstepError("LS-207", later("an idiomatic script cannot say {what}", what=what), hint=hint)
    idiom: Idiom = importlib.import_module(f"lockstep.exchange.scripts.idiomatic.{name}").IDIOM
    body = blocks([*_data(given), *idiom.sections(given)]).replace("$DATA", data)
    return f'{_head(given, idiom, file, body)}\n\n{body}\n\nif __name__ == "__main__":\n    main()\n'


def _data(given: Given) -> Iterator[str]:
    """How the images are read; scikit-learn's digits are parted as Lockstep parts them."""
    if given.source == "digits":
        yield decisions.BITS.replace(", seed=SEED", ", seed=0")
        yield decisions.PERMUTATION
    load, *_, prepare = decisions.reading(given)
    yield load.replace("permutation(len(own), SPLIT, digit, seed=0)", "permutation(len(own), 2, digit, seed=0)")
    yield prepare


def _head(given: Given, idiom: Idiom, file: str, body: str) -> str:
    needs = {"digits": "scikit-learn's digits", "idx": given.run.dataset, "npz": given.run.dataset}[given.source]
    option = "" if given.source == "digits" else " --data FOLDER" if given.source == "idx" else " --data FILE.npz"
    text = f'"""The network {given.run.network_name} on {needs} in {idiom.title}, by {idiom.title}\'s own means.\n\n'
    text += f"    python {file}{option} [--seed N]\n\n"
    text += "It draws other numbers than the Lockstep run that it was written from, and reaches the same accuracy.\n"
    text += f'Comments say where {idiom.title}\'s own default is another.\n"""\n\n'
    standard = [f"import {module}" for module in ("argparse", "gzip", "math") if f"{module}." in body]
    standard += ["from pathlib import Path"] if "Path(" in body else []
    others = ["import numpy as np", *idiom.imports(given)]
    others += ["from sklearn.datasets import load_digits"] if given.source == "digits" else []
    others.sort(key=lambda line: (line.startswith("from "), line.split()[1].lower()))
    recipe = given.recipe
    numbers = (given.run.seed, recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate)
    settings = f"SEED, EPOCHS, BATCH_SIZE, LEARNING_RATE = {', '.join(map(repr, numbers))}\n"
    return text + "\n".join(standard) + "\n\n" + "\n".join(others) + "\n\n" + settings


def count(text: str) -> Count:
    """What it took to write a script, idiomatic or exact."""
    tree = ast.parse(text)
    packages = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    names = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node).partition(".")[0] in packages
    }
    documented = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [
        line
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in documented
    ]
    remarks = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    return Count(len(lines), len(names), sum("'s own" in remark or "default" in remark for remark in remarks))
