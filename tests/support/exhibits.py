"""Networks of `backend_cases` as they would be exported: with random weights and statistics, on a case's own images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from lockstep import data
from lockstep.backends import numpy as reference
from lockstep.exchange.trained import Trained
from lockstep.proof import forms, script
from lockstep.spec import Run
from lockstep.spec.records import changed
from lockstep.training import inputs
from support import backend_cases
from support.backend_cases import CASES, Case

# Every layer with every option that changes what is predicted.
NAMES = [
    "chain-convolutions", "chain-max_pools", "chain-max_pools_with_gaps", "chain-avg_pools", "chain-global_avg_pool",
    "chain-dense", "chain-norm_and_dropout", "chain-layer_norms", "chain-activations", "option-chain_of_layers",
    "option-chain_of_pools", "option-avg_pool2d_same_lower", "option-max_pool2d_shared_overlapping",
    "option-layer_norm_example", "layer-everything", "chain-branches", "layer-concat",
]  # fmt: skip
# What a form may get wrong, each in a layer of its own: the record of a layer that is another than it should be.
PLANTED = Case(
    backend_cases.net(
        "conv2d 4 [3, 2] padding=same", "batch_norm", "relu", "max_pool2d [3, 2] 2 same", "flatten", "dense 5"
    ),
    backend_cases.MOMENTUM,
)
PLANTS = {
    "pad": ("0_conv2d", {"padding": "same_lower"}),
    "pad of a pooling": ("3_max_pool2d", {"padding": "same_lower"}),
    "order": ("4_flatten", {"order": "chw"}),
    "epsilon": ("1_batch_norm", {"epsilon": 1e-3}),
}
WEIGHT = "weight"
FACTS = {"description": "a case", "test_accuracy": "0.2000", "lockstep": "0", "classes": '["Ä", "б"]'}


def exhibit(name: str, scaling: str = "standard") -> forms.Exhibit:
    """A case on its own random images, 23 of them."""
    case = CASES.get(name, PLANTED)
    images, labels = backend_cases.images_of(dataclasses.replace(case, levels=256))
    loaded = data.Data("digits", images, labels, images, labels, tuple("abcde"), {}, "")
    run = Run(
        "study", "net", case.network, changed(case.recipe, scaling=scaling), "digits", "numpy", 3, "float32", "cpu"
    )
    asked = script.Subject(Path("run"), run, inputs.Examples(loaded, run))
    return of(asked, case)


def of(asked: script.Subject, case: Case) -> forms.Exhibit:
    """With weights near those of a start, and statistics that no start has."""
    given, rng = asked.given, np.random.default_rng(5)
    weights = {
        name: (value + 0.1 * rng.normal(size=value.shape)).astype("float32")
        for name, value in inputs.start(asked.run, case.shape).items()
    }
    statistics = {
        name: (value + 0.3 * rng.random(value.shape)).astype("float32")
        for name, value in given.plan.initial_statistics().items()
    }
    model = reference.build(given.plan, weights, as_trained=False)
    model.restore(weights, model.state() | statistics)
    images = asked.examples.test[0]
    return forms.Exhibit(asked, Trained(given, weights, statistics, FACTS), images, images, model.predict(images))


def planted(shown: forms.Exhibit, plant: str) -> Trained:
    """What is written in place of a run's network: of the plant's layer the options are others, or one weight is."""
    trained = shown.trained
    if plant == WEIGHT:
        kernel = trained.weights["5_dense/kernel"].copy()
        kernel[3, 2] *= 1.001
        return dataclasses.replace(trained, weights=trained.weights | {"5_dense/kernel": kernel})
    place, options = PLANTS[plant]
    plan = trained.given.plan
    layers = [changed(row.layer, **options) if row.name == place else row.layer for row in plan.rows]
    plan = dataclasses.replace(plan, network=changed(plan.network, layers=tuple(layers)))
    return dataclasses.replace(trained, given=dataclasses.replace(trained.given, plan=plan))
