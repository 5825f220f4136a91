"""The cases of `backend_cases` as scripts: `python -m support.scripted TARGET FOLDER` keeps what their steps give.

A script's own functions are called on the case's images, in float64; the NumPy backend says what should come out.
"""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path

import numpy as np

from lockstep import data
from lockstep.backends import numpy as reference
from lockstep.backends.weights import initial_weights
from lockstep.exchange import scripts
from lockstep.exchange.scripts.given import Given
from lockstep.spec import JOINS, Run
from support import backend_cases
from support.backend_cases import CASES, Case

SEED = 11  # conformance's
# What no script says, with the word of the reason: refused, and tested as such.
REFUSED = {
    "option-prediction_in_training_mode": "prediction_in_training_mode",
    "rounded-tf32": "products",
    "rounded-bfloat16": "products",
    "option-joins": "along another axis",
}
BRANCHED = [
    name for name, case in CASES.items() if {row.layer.kind for row in case.network.facts(case.shape)} & {*JOINS}
]


def given_of(case: Case) -> Given:
    run = Run("study", "net", case.network, case.recipe, "digits", "numpy", SEED, case.dtype, "cpu")
    return Given(run, backend_cases.plan_of(case), "run", "digits", case.n, 0)


def taken(text: str, case: Case, place: Path) -> dict[str, np.ndarray]:
    """The losses, the values and the predictions of a script on a case's images."""
    place.write_text(text, encoding="utf-8")
    names = runpy.run_path(str(place))
    images, labels = backend_cases.images_of(case)
    model, losses = names["train"](images, labels, None)
    logits = names["predict"](model, names["prepare"](images))
    return {"losses": np.array(losses), "logits": np.asarray(logits), **names["values"](model)}


def wanted(case: Case) -> dict[str, np.ndarray]:
    """The same of the NumPy backend."""
    images, labels = backend_cases.images_of(case)
    plan = backend_cases.plan_of(case, threads=1)
    weights = initial_weights(case.network, case.shape, SEED, plan.dtype)
    model = reference.build(plan, weights, as_trained=False)
    model.place(images, labels)
    orders = [data.epoch_order(case.n, case.recipe, SEED, epoch) for epoch in range(case.recipe.epochs)]
    losses = np.concatenate([model.train_epoch(order)[0] for order in orders])
    statistics = {name: value for name, value in model.state().items() if "/running_" in name}
    return {"losses": losses, "logits": model.predict(images), **model.weights(), **statistics}


def differences(found: dict[str, np.ndarray], right: dict[str, np.ndarray], dtype: str) -> list[str]:
    """Every array that is missing or further off than rounding after so few steps."""
    room, said = {"float64": 1e-8, "float32": 2e-3}[dtype], []
    for name, value in right.items():
        if name not in found or found[name].shape != value.shape:
            said.append(f"{name}: {'missing' if name not in found else found[name].shape}")
        elif not (off := np.abs(found[name] - value).max()) <= room * max(1.0, float(np.abs(value).max())):
            said.append(f"{name}: off by {off:.1e}")
    return said


def main(target: str, folder: Path, names: list[str]) -> None:
    every = [name for name in CASES if name not in REFUSED]
    for name in sorted(names or every, key=lambda name: CASES[name].dtype):  # Keras keeps a dtype for all that follows
        try:
            found = taken(scripts.write(given_of(CASES[name]), target), CASES[name], folder / f"{name}.py")
            np.savez(folder / f"{name}.npz", **found)
        except Exception:
            (folder / f"{name}.txt").write_text(traceback.format_exc(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
