"""How far trainings in float64 part from NumPy's: `python -m support.agreement steps | epoch [NETWORK …]`.

Every network of `studies/` by its own recipe, and two with every kind of layer by every optimizer, or those of them
that are named, one JSON line each. `steps`: a hundred steps each; `epoch`: a whole epoch of the dataset.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lockstep import backends, data, load_study, run_study, spec, store
from lockstep.proof import growth
from lockstep.spec import Network, Study
from lockstep.spec.records import changed
from support import STUDY_FILES

STEPS = 100
LIMITS = {"steps": 1e-11, "epoch": 1e-8}
# By rates of 0.01 these double every difference each few steps: NumPy on three threads is then 1e-9 from NumPy on one.
RATES = {"adam": 0.001, "adamw": 0.001, "rmsprop": 0.001}
EVERY_LAYER = Network(
    ["conv2d 6 3 padding=same", "leaky_relu", "max_pool2d", "conv2d 8 [3, 2] bias=false", "batch_norm", "elu",
     "avg_pool2d 2 1", "conv2d 10 3 2", "gelu", "dropout 0.1", "flatten", "dense 40", "softplus", "dense 30", "tanh",
     "dense 20", "sigmoid", "dense 20", "relu", "dense 10"],
    "glorot_uniform",
)  # fmt: skip
EVERY_IMAGE = changed(
    EVERY_LAYER, layers=(*EVERY_LAYER.layers[:10], *Network(["global_avg_pool", "dense 10"]).layers)
)  # what takes the place of flatten


def undetermined(network: Network) -> set[str]:
    """Biases right before a batch normalisation, which takes them out again: rounding alone moves them."""
    rows = network.facts((28, 28, 1))
    return {f"{row.name}/bias" for row, after in itertools.pairwise(rows) if after.layer.kind == "batch_norm"}


def weights_of(record: store.Record) -> dict[str, Any]:
    """The weights that a run ended with."""
    checkpoint = store.newest_checkpoint(record.folder)
    assert checkpoint is not None, record.folder
    return store.read_checkpoint(checkpoint)[0]


def weights_apart(record: store.Record, judge: store.Record, network: Network) -> float:
    """How far the last weights of two runs are from each other, relative to the network's largest."""
    found, wanted = weights_of(record), weights_of(judge)
    assert found.keys() == wanted.keys()
    return growth.relative(found, wanted, sorted(wanted.keys() - undetermined(network)))


def studies(kind: str, names: list[str]) -> Iterator[Study]:
    """A study of one network and recipe each, in float64, over every backend."""
    seen: dict[tuple[Network, Any], str] = {}
    for path in STUDY_FILES:
        asked = load_study(path, ["dtype=float64", "seeds=0", "grid={}"], list(backends.BACKENDS))
        for name, network in asked.networks.items():
            recipe = asked.recipes(name)[0]
            if (names and name not in names) or (network, recipe) in seen:
                continue
            seen[network, recipe] = name
            yield short(
                changed(asked, networks={name: network}, recipe=recipe, recipe_for={}, dataset=asked.dataset[:1]), kind
            )
    mnist = load_study(STUDY_FILES[0], ["dtype=float64", "seeds=0", "dataset=mnist"], list(backends.BACKENDS))
    for name, network in (("every-layer", EVERY_LAYER), ("every-image-layer", EVERY_IMAGE)):
        for optimizer in spec.OPTIMIZERS:
            if names and not {name, f"{name}-{optimizer}"} & {*names}:
                continue
            recipe = spec.Recipe(f"{optimizer} {RATES.get(optimizer, 0.01)}", batch_size=64)
            yield short(changed(mnist, name=f"{name}-{optimizer}", networks={name: network}, recipe=recipe), kind)


def short(asked: Study, kind: str) -> Study:
    """Without early stopping or validation: so many steps, in as many epochs as they need, or one whole epoch."""
    recipe, n = asked.recipe, data.describe(asked.dataset[0]).n_train
    size = min(STEPS * recipe.batch_size, n) if kind == "steps" else n
    epochs = math.ceil(STEPS * recipe.batch_size / size) if kind == "steps" else 1
    return changed(asked, recipe=changed(recipe, epochs=epochs, early_stopping=None, validation=0.0), train_size=size)


def on_one_thread(asked: Study, folder: Path) -> store.Record:
    """NumPy on one thread, which adds up in another order than on two: how far they part is the network's own doing."""
    return run_study(changed(asked, backends=("numpy",)), folder / "alone", threads=1)[0]


def main(kind: str, names: list[str]) -> None:
    """Train, compare and print; the exit code tells whether all are within the limit or nearer than NumPy to itself."""
    within = True
    for asked in studies(kind, names):
        with tempfile.TemporaryDirectory() as folder:
            records = run_study(asked, Path(folder))
            ((name, network),) = asked.networks.items()
            row: dict[str, Any] = {"network": name, "optimizer": asked.recipe.optimizer.kind}
            for record in records:
                if not record.is_finished:
                    sys.exit(f"{record.folder.name}: {record.status['reason']}")
                row["steps"] = len(record.arrays("steps")["loss"])
                row[record.backend] = weights_apart(record, records[0], network)
            own = row["numpy on one thread"] = weights_apart(on_one_thread(asked, Path(folder)), records[0], network)
            row["within"] = all(row[record.backend] <= max(LIMITS[kind], own) for record in records)
            within = within and row["within"]
            print(json.dumps(row), flush=True)
    sys.exit(not within)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
