"""Known differences, planted to be found: a table, and `python -m support.plants BACKEND FOLDER` to leave their traces.

For every cause of the catalogue there is a small case on which it makes a difference, and the place where it must be
found first. A backend is one process, which leaves one trace per row, and one per case without a plant: the twin.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends, data, store, study
from lockstep.proof import cases, tracer
from lockstep.proof.causes import CAUSES, differing
from lockstep.proof.findings import STAGES
from lockstep.proof.traces import Trace
from lockstep.spec import Network, Recipe, Run, Study
from lockstep.spec.toml import resolved_toml
from lockstep.training import inputs

SHAPE, CLASSES, BATCH, N, N_TEST = (11, 13, 3), 5, 7, 23, 6  # 23 images: three full batches of 7 and a short one of 2
EPOCHS, STEPS = 2, 8
THREADS = 2


@dataclass(frozen=True)
class Case:
    network: Network
    recipe: Recipe
    brightest: int = 255
    levels: int = 256  # of grey; with two, windows hold equal values
    dtype: str = ""  # the only one in which it is run


def net(*layers: Any) -> Network:
    return Network([*layers])


def recipe(optimizer: str, **options: Any) -> Recipe:
    return Recipe(optimizer, EPOCHS, BATCH, **options)


# An ε shows only where gradients are small: dark images make them, and small weights let an update be seen in float32.
DARK = net("flatten", "dense 5 initializer='normal 0.001'")
MOMENTUM = recipe("momentum 0.05", schedule="cosine", label_smoothing=0.1, l2=0.01)
CASES = {
    # No bias stands before the batch normalisation, which would take it out again.
    "image": Case(
        net("conv2d 4 3 3 same bias=false", "batch_norm", "avg_pool2d 2 padding=same", "flatten", "dense 5"),
        recipe("momentum 0.05", l2=0.01, augmentation={"flip": True}),
    ),
    "flat": Case(net("flatten", "dense 8", "leaky_relu", "gelu", "dropout 0.3", "dense 5"), MOMENTUM),
    "ties": Case(
        net("conv2d 4 1", "relu", "max_pool2d [2, 3]", "flatten", "dense 5"), recipe("nesterov 0.05"), levels=2
    ),
    "normal": Case(net("conv2d 4 3", "layer_norm", "flatten", "dense 5"), recipe("sgd 0.05"), brightest=9),
    "squared": Case(net("flatten", "dense 5"), recipe("sgd 0.1", loss="mean_squared_error", clip_norm=0.2)),
    # Logits so far apart that some probability is below 1e-7.
    "wide": Case(net("flatten", "dense 5 initializer='normal 4.0'"), recipe("sgd 0.01")),
    "adam": Case(DARK, recipe("adam 0.01", l2=0.1), brightest=3),
    "adamw": Case(net("flatten", "dense 5"), recipe("adamw 0.01 0.05"), brightest=3),
    "rmsprop": Case(DARK, recipe("rmsprop"), brightest=3),
    "joined": Case(
        net(
            "conv2d 4 3 2",
            "relu",
            {"residual": ["conv2d 4 3 padding=same"]},
            "relu",
            {"parallel": ["conv2d 3 1", "conv2d 3 [3, 2] padding=same"]},
            "flatten",
            "dense 5",
        ),
        recipe("sgd 0.05"),
    ),
    "double": Case(net("flatten", "dense 5"), recipe("sgd 0.1"), dtype="float64"),
}


@dataclass(frozen=True)
class Plant:
    """A cause on one of the cases, and where it must be found first: at which step, and in which layer or array."""

    case: str
    where: str
    step: int | None = 0  # None: before the first step, or after the last


CONV, DENSE = "0_conv2d/kernel", "1_dense/kernel"
PLANTS = {
    "init_torch": Plant("image", CONV, None),
    "init_keras": Plant("image", CONV, None),
    "init_flax": Plant("image", CONV, None),
    "weights_of_another_seed": Plant("image", CONV, None),
    "kernels_transposed": Plant("image", CONV, None),
    "order_not_shuffled": Plant("image", "order"),
    "last_batch_dropped": Plant("image", "order", 3),
    "augmentation_missing": Plant("image", "images"),
    "scaling_missing": Plant("image", "input"),
    "scaling_other": Plant("image", "input"),
    "same_padding_before": Plant("image", "0_conv2d"),
    "flatten_chw": Plant("image", "3_flatten"),
    "avg_pool_counts_padding": Plant("image", "2_avg_pool2d"),
    "leaky_slope_keras": Plant("flat", "2_leaky_relu"),
    "leaky_slope_tensorflow": Plant("flat", "2_leaky_relu"),
    "gelu_tanh": Plant("flat", "3_gelu"),
    "batch_norm_epsilon": Plant("image", "1_batch_norm"),
    "layer_norm_epsilon": Plant("normal", "1_layer_norm"),
    "layer_norm_epsilon_flax": Plant("normal", "1_layer_norm"),
    "layer_norm_whole_example": Plant("normal", "1_layer_norm"),
    "shortcut_missing": Plant("joined", "3_add"),
    "shortcut_twice": Plant("joined", "3_add"),
    "join_averaged": Plant("joined", "3_add"),
    "activation_before_join": Plant("joined", "3_add"),
    "branches_reversed": Plant("joined", "7_concat"),
    "concat_along_height": Plant("joined", "7_concat"),
    "concat_along_width": Plant("joined", "7_concat"),
    "training_in_inference_mode": Plant("image", "1_batch_norm"),
    "dropout_not_scaled": Plant("flat", "4_dropout"),
    "dropout_rate_kept": Plant("flat", "4_dropout"),
    "dropout_of_another_seed": Plant("flat", "4_dropout"),
    "products_tf32": Plant("flat", "1_dense"),
    "products_bfloat16": Plant("image", "0_conv2d"),
    "computed_in_float32": Plant("double", DENSE, None),
    "softmax_twice": Plant("flat", "loss"),
    "cross_entropy_clipped": Plant("wide", "loss"),
    "loss_summed": Plant("flat", "gradient of the logits"),
    "targets_broadcast": Plant("squared", "loss"),
    "label_smoothing_others": Plant("flat", "loss"),
    "max_pool_ties_shared": Plant("ties", "2_max_pool2d"),
    "l2_without_half": Plant("flat", "5_dense/kernel"),
    "decay_coupled": Plant("adamw", DENSE),
    "decay_decoupled": Plant("adam", DENSE),
    "decay_on_all": Plant("image", "1_batch_norm/scale"),
    "batch_norm_momentum_keras": Plant("image", "1_batch_norm/running_mean"),
    "batch_norm_momentum_swapped": Plant("image", "1_batch_norm/running_mean"),
    "batch_norm_variance_biased": Plant("image", "1_batch_norm/running_variance"),
    "clip_each": Plant("squared", DENSE),
    "adam_epsilon": Plant("adam", DENSE),
    "adam_epsilon_hat": Plant("adam", DENSE),
    "adam_of_keras": Plant("adam", DENSE),
    "adamw_decay_keras": Plant("adamw", DENSE),
    "adamw_decay_optax": Plant("adamw", DENSE),
    "adamw_decay_torch": Plant("adamw", DENSE),
    "rmsprop_epsilon": Plant("rmsprop", DENSE),
    "rmsprop_epsilon_inside": Plant("rmsprop", DENSE),
    "rmsprop_of_keras": Plant("rmsprop", DENSE),
    "rmsprop_decay": Plant("rmsprop", f"{DENSE}/mean_square"),
    "rmsprop_rate": Plant("rmsprop", DENSE),
    "momentum_velocity": Plant("flat", f"{DENSE}/momentum", 1),
    "momentum_is_nesterov": Plant("flat", DENSE),
    "nesterov_is_momentum": Plant("ties", CONV),
    "rate_late": Plant("flat", DENSE, 1),
    "last_batch_unweighted": Plant("flat", "epoch 1", 3),
    "prediction_in_training_mode": Plant("image", "1_batch_norm", None),
}
# (cause, backend) → why it cannot be planted there. None so far.
IMPOSSIBLE: dict[tuple[str, str], str] = {}
# What cannot be in float64: rounded factors are asked of float32 alone, and `double` is float64 already.
FLOAT32_ONLY = ("products_tf32", "products_bfloat16")


def images_of(case: Case) -> data.Data:
    """Random images and labels, the same everywhere."""
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (N + N_TEST, *SHAPE))
    images = images * case.levels // 256 * case.brightest // (case.levels - 1)
    labels = generator.integers(0, CLASSES, N + N_TEST)
    pixels = images.astype(np.uint8)
    names = tuple(map(str, range(CLASSES)))
    return data.Data("random", pixels[:N], labels[:N], pixels[N:], labels[N:], names, {}, "here")


def run_of(name: str, backend: str, dtype: str = "") -> Run:
    case = CASES[name]
    dtype = dtype or case.dtype or "float32"
    return Run("planted", name, case.network, case.recipe, "random", backend, 11, dtype, "cpu")


def run_with(causes: tuple[str, ...], run: Run) -> Run:
    """The run with these causes in it; every one makes a difference."""
    for cause in causes:
        other = differing(cause, run, SHAPE)
        if other is None:
            raise ValueError(f"{cause} makes no difference to {run.network_name}")
        run = other
    return run


# Pairs of which one takes from the other what it shows itself in.
HIDING = [
    {"momentum_velocity", "rate_late"},  # the first rate that is another one comes a step later
    {"training_in_inference_mode", "batch_norm_momentum_keras"},  # no statistics are taken
    {"training_in_inference_mode", "batch_norm_momentum_swapped"},
    {"training_in_inference_mode", "batch_norm_variance_biased"},
    {"training_in_inference_mode", "dropout_not_scaled"},  # nothing is dropped
    {"training_in_inference_mode", "dropout_rate_kept"},
    {"training_in_inference_mode", "dropout_of_another_seed"},
]


def _when(cause: str) -> tuple[int, int, int]:
    """When a cause shows itself first: in time, then in the order in which data flow through a step."""
    plant, stage = PLANTS[cause], CAUSES[cause].stage
    time = plant.step if plant.step is not None else -1 if stage == "starting weights" else STEPS
    digits = plant.where.partition("_")[0]
    layer = int(digits) if digits.isdigit() else -1
    return time, list(STAGES).index(stage), -layer if stage in ("backward", "gradients") else layer


def _pairs() -> list[tuple[str, str]]:
    """Fifty of the pairs that one case can show and that do not show first in one place; the first of a pair first."""
    fitting = [
        (first, second)
        for first, second in permutations(PLANTS, 2)
        if PLANTS[first].case == PLANTS[second].case and _when(first) < _when(second) and {first, second} not in HIDING
        if differing(second, run_with((first,), run_of(PLANTS[first].case, "numpy")), SHAPE)
    ]
    return [fitting[i * len(fitting) // 50] for i in range(50)]


PAIRS = _pairs()
FEW_PAIRS = PAIRS[7::20]  # these in every backend


def proof_case(name: str, dtype: str = "") -> cases.Case:
    """What the judge knows of a case."""
    run = run_of(name, "numpy", dtype)
    return cases.Case(run, inputs.Examples(images_of(CASES[name]), run), (run,))


def write_trace(folder: Path, name: str, backend: str, causes: tuple[str, ...] = (), dtype: str = "") -> Trace:
    """The trace of a case in one backend, with these causes in it."""
    run = run_with(causes, run_of(name, backend, dtype))
    folder.mkdir(parents=True)
    asked = study.one_run_study(Study(networks={name: run.network}), run)
    store.write_bytes(folder / "spec.toml", resolved_toml(asked).encode())
    examples = inputs.Examples(images_of(CASES[name]), run)
    tracer.take_steps(backends.load(backend), run, examples, folder, THREADS, lambda event: None, STEPS)
    return Trace(folder)


def traces_of(backend: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """What a backend leaves: name of a folder → (case, causes)."""
    plants = {name: (plant.case, (name,)) for name, plant in PLANTS.items() if (name, backend) not in IMPOSSIBLE}
    return {name: (name, ()) for name in CASES} | plants | {"+".join(p): (PLANTS[p[0]].case, p) for p in FEW_PAIRS}


def main(backend: str, folder: Path) -> None:
    errors = {}
    for place, (name, causes) in traces_of(backend).items():
        try:
            write_trace(folder / place, name, backend, causes)
        except Exception:
            errors[place] = traceback.format_exc()
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
