"""A run as one readable file of a framework's own code, that imports no Lockstep and takes the same steps.

A script is its sections in this order: what it is, imports, settings, the generator, the data, the starting weights,
what is decided for every epoch, the network, the update, one step, the loop. `decisions` writes what all targets
share, in NumPy; a target's file what is its framework's, as a good user of it writes it. Targets are twins: the same
tables, by kind of the specification, and the same functions, in the same order. No framework is imported here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from lockstep.errors import LockstepError, did_you_mean
from lockstep.exchange.scripts import decisions
from lockstep.exchange.scripts.given import Given, Target
from lockstep.exchange.scripts.lines import blocks
from lockstep.language import later

# What `--script` takes → the backend that it needs.
TARGETS = {"torch": "torch", "numpy": "numpy", "keras": "tensorflow", "jax": "jax", "flax": "jax"}


def target(name: str) -> Target:
    """A target by its name; raises LockstepError (LS-209)."""
    if name not in TARGETS:
        hint = did_you_mean(name, TARGETS)
        raise LockstepError(
            "LS-209", later('no script is written for "{name}"', name=name), where="--script", hint=hint
        )
    found: Target = importlib.import_module(f"lockstep.exchange.scripts.{name}").TARGET
    return found


def refusals(given: Given, name: str) -> list[str]:
    """What a run says that no script says, each with its reason."""
    found = given.unsayable()
    if unknown := sorted({row.layer.kind for row in given.plan.rows} - target(name).layers.keys()):
        found.append(later("layers that this target has no code for: {kinds}", kinds=", ".join(unknown)))
    return found


def write(given: Given, name: str, file: str = "", data: str = "data.npz") -> str:
    """The text of the script that is to be called `file`, and reads the .npz `data` where there is no better source.

    Raises LockstepError (LS-209; LS-207 with everything that it cannot say).
    """
    framework = target(name)
    if refused := refusals(given, name):
        hint = later("leave it out of the recipe, or take another target")
        raise LockstepError("LS-207", later("a script cannot say {what}", what="; ".join(map(str, refused))), hint=hint)
    file = file or f"{given.run.network_name}_{name}.py"
    body = blocks(_sections(given, framework)).replace("$DATA", data)
    return f'{_head(given, framework, file, body)}\n\n{body}\n\nif __name__ == "__main__":\n    main()\n'.replace(
        "\n\n\n\n", "\n\n\n"
    )


def _sections(given: Given, framework: Target) -> Iterator[str]:
    """Everything between the settings and the end, in order."""
    yield from decisions.generator(given)
    yield from decisions.reading(given)
    yield from decisions.starting_weights(given, framework)
    yield from decisions.every_epoch(given)
    yield from framework.network(given)
    yield from framework.updating(given)
    yield from framework.stepping(given)
    yield from decisions.reported_loss(given)
    yield from decisions.training(given, framework)


def _head(given: Given, framework: Target, file: str, body: str) -> str:
    """What the script is, its imports, and its settings."""
    needs = {"digits": "scikit-learn's digits", "idx": given.run.dataset, "npz": given.run.dataset}[given.source]
    option = "" if given.source == "digits" else " --data FOLDER" if given.source == "idx" else " --data FILE.npz"
    text = f'"""The network {given.run.network_name} on {needs} in {framework.title}, '
    text += "step by step as a Lockstep run trained it.\n\n"
    text += f"    python {file}{option} [--out result.npz]\n\n"
    text += "Starting weights and the order of the images are functions of the seed and nothing else, so that\n"
    own = f" Comments say where {framework.title}'s own default is another." if framework.remark else ""
    text += f"every framework takes the same steps.{own}\n"
    text += '"""\n\n'
    standard = [f"import {module}" for module in ("argparse", "gzip", "math") if f"{module}." in body]
    standard += ["from pathlib import Path"] if "Path(" in body else []
    others = sorted(
        ["import numpy as np", *framework.imports(given)]
        + (["from sklearn.datasets import load_digits"] if given.source == "digits" else []),
        key=_by_module,
    )
    text += "\n".join(standard) + "\n\n" + "\n".join(others) + "\n\n"
    return text + _settings(given)


def _by_module(line: str) -> tuple[int, str]:
    """As ruff sorts imports: `import x` before `from x import y`."""
    return int(line.startswith("from ")), line.split()[1].lower()


def _settings(given: Given) -> str:
    recipe = given.recipe
    numbers = (given.run.seed, recipe.epochs, recipe.batch_size, recipe.optimizer.learning_rate)
    text = f"SEED, EPOCHS, BATCH_SIZE, LEARNING_RATE = {', '.join(map(repr, numbers))}\n"
    text += "WEIGHTS, ORDER, SPLIT, AUGMENTATION, DROPOUT = range(5)  # what random numbers are for\n"
    return text
