"""What every backend must compute alike: a table, and `python -m support.backend_cases BACKEND FOLDER` to do it.

Each case is computed in float64 by its backend in a process of its own and compared with the NumPy backend by
`test_conformance.py`; on a GPU with LOCKSTEP_DEVICE=cuda, where the framework is built for one. All sizes of a case
differ and are coprime, so that no wrong transpose fits.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lockstep import backends, spec
from lockstep.backends import mistakes
from lockstep.backends import numpy as reference
from lockstep.backends.contract import Backend, Model
from lockstep.backends.plan import Plan
from lockstep.backends.weights import initial_weights
from lockstep.spec import Augmentation, Network, Recipe

SHAPE, CLASSES, BATCH, N = (11, 13, 3), 5, 7, 23  # 23 images: three full batches of 7 and a short one of 2
FULL = 2 * BATCH  # without a short batch, which is a program of its own in JAX
EPOCHS = 2
HEAD = ["flatten", "dense 5"]


@dataclass(frozen=True)
class Case:
    network: Network
    recipe: Recipe
    dtype: str = "float64"
    scaling: tuple[float, float] = (0.0, 1 / 255)
    shape: tuple[int, int, int] = SHAPE
    levels: int = 256  # of grey; with two, windows hold equal values; with one, every image is black
    alone: bool = False  # whether each layer is also run by itself

    @property
    def n(self) -> int:
        """How many images: with a short batch by every recipe and where their number is in what is computed.

        Of black images too: two batches of them leave two classes with one logit, and rounding decides between them.
        """
        kinds = {layer.kind for layer in self.network.every_layer()}
        return N if self.network is SMALL or self.levels == 1 or kinds & {"batch_norm", "dropout"} else FULL


def net(*layers: Any) -> Network:
    return Network([*layers], initializer="glorot_uniform")


# A bias right before a batch normalisation has gradient 0, of which every backend computes another rounding error; Adam
# divides by its size. So no bias stands there under Adam, and the layers' cases are trained with momentum.
EVERYTHING = net(
    "conv2d 4 [3, 2] padding=same bias_initializer=torch_default", "leaky_relu", "batch_norm", "max_pool2d [2, 3]",
    "dropout 0.3", "conv2d 6 [2, 3] bias=false", "elu", "avg_pool2d 2 1", "flatten", "dense 17 bias=false",
    "batch_norm 0.2",
    "tanh", "dropout 0.4", "dense 13 initializer=he_normal", "gelu", "dense 5",
)  # fmt: skip

# One row per thing: every layer with every option that changes what it computes …
LAYER_CASES = {
    "conv2d": net("conv2d 4 [3, 2]", *HEAD),
    "conv2d_stride": net("conv2d 4 [3, 2] [2, 3]", *HEAD),
    "conv2d_same": net("conv2d 4 [3, 2] padding=same", *HEAD),
    "conv2d_same_unequal": net("conv2d 4 [5, 3] padding=same", *HEAD),  # two pixels above and below, one beside
    "conv2d_same_stride": net("conv2d 4 [4, 3] [3, 2] padding=same", *HEAD),
    "conv2d_pointwise": net("conv2d 4 1", *HEAD),
    "conv2d_wide": net("conv2d 19 3", "conv2d 6 [2, 3] padding=same", *HEAD),
    "conv2d_whole_image": net("conv2d 4 [11, 13]", *HEAD),
    "conv2d_no_bias": net("conv2d 4 3 bias=false", *HEAD),
    "max_pool2d": net("conv2d 4 1", "max_pool2d [2, 3]", *HEAD),
    "max_pool2d_overlapping": net("conv2d 4 1", "max_pool2d 3 [1, 2]", *HEAD),
    "max_pool2d_same": net("conv2d 4 1", "max_pool2d [3, 4] [2, 3] same", *HEAD),
    "max_pool2d_gaps": net("conv2d 4 1", "max_pool2d 2 [3, 4]", *HEAD),
    "avg_pool2d": net("conv2d 4 1", "avg_pool2d [2, 3]", *HEAD),
    "avg_pool2d_overlapping": net("conv2d 4 1", "avg_pool2d 3 [1, 2]", *HEAD),
    "avg_pool2d_same": net("conv2d 4 1", "avg_pool2d [3, 4] [2, 3] same", *HEAD),
    "global_avg_pool": net("conv2d 4 3", "global_avg_pool", "dense 5"),
    "flatten": net(*HEAD),
    "flatten_twice": net("flatten", "flatten", "dense 5"),
    "dense": net("flatten", "dense 17", "dense 5"),
    "dense_no_bias": net("flatten", "dense 17 bias=false", "dense 5"),
    "batch_norm": net("conv2d 4 3", "batch_norm", *HEAD),
    "batch_norm_options": net("flatten", "dense 17", "batch_norm 0.3 0.01", "dense 5"),
    "layer_norm": net("conv2d 4 3", "layer_norm", *HEAD),
    "layer_norm_flat": net("flatten", "dense 17", "layer_norm 0.01", "dense 5"),
    "dropout": net("conv2d 4 3", "dropout 0.3", "flatten", "dense 17", "dropout", "dense 5"),
    "relu": net("conv2d 4 3", "relu", "max_pool2d", *HEAD),
    "leaky_relu": net("conv2d 4 3", "leaky_relu 0.2", *HEAD),
    "elu": net("conv2d 4 3", "elu 1.3", *HEAD),
    "tanh": net("conv2d 4 3", "tanh", *HEAD),
    "sigmoid": net("conv2d 4 3", "sigmoid", *HEAD),
    "softplus": net("conv2d 4 3", "softplus", *HEAD),
    "gelu": net("conv2d 4 3", "gelu", *HEAD),
    "add": net("conv2d 4 1", {"residual": ["conv2d 4 [3, 2] padding=same", "tanh"]}, *HEAD),
    "concat": net({"parallel": ["conv2d 4 [3, 2] padding=same", ["conv2d 4 1", "tanh"]]}, *HEAD),
    "everything": EVERYTHING,
}
# The same rows in chains: a framework compiles one program for several of them, and what a layer computes and sends
# back is still compared by its name. NumPy, which compiles nothing, is asked each row by itself too.
CHAINS = {
    "convolutions": net(
        "conv2d 4 [3, 2]", "conv2d 4 [3, 2] padding=same", "conv2d 4 [5, 3] padding=same", "conv2d 4 1",
        "conv2d 4 3 bias=false", "conv2d 19 3", "conv2d 6 [2, 3] padding=same", "conv2d 4 [4, 3] [3, 2] padding=same",
        *HEAD,
    ),
    "max_pools": net("conv2d 4 1", "relu", "max_pool2d 3 [1, 2]", "max_pool2d [2, 3]", "max_pool2d", *HEAD),
    "max_pools_with_gaps": net("conv2d 4 1", "max_pool2d [3, 4] [2, 3] same", "max_pool2d 2 [3, 4]", *HEAD),
    "avg_pools": net("conv2d 4 1", "avg_pool2d 3 [1, 2]", "avg_pool2d [3, 4] [2, 3] same", *HEAD),
    "global_avg_pool": net("conv2d 4 1", "avg_pool2d [2, 3]", "conv2d 4 3", "global_avg_pool", "dense 5"),
    "dense": net("flatten", "flatten", "dense 17 bias=false", "batch_norm 0.3 0.01", "dense 17", "dense 5"),
    "norm_and_dropout": net(
        "conv2d 4 3 bias=false", "batch_norm", "dropout 0.3", "flatten", "dense 17", "dropout", "dense 5"
    ),
    "layer_norms": net("conv2d 4 3", "layer_norm", "flatten", "dense 17", "layer_norm 0.01", "dense 5"),
    "activations": net(
        "conv2d 4 3", "leaky_relu 0.2", "elu 1.3", "gelu", "conv2d 4 1", "tanh", "conv2d 4 1", "softplus", "conv2d 4 1",
        "sigmoid", "conv2d 4 1", "relu", "max_pool2d", *HEAD,
    ),
    "branches": net(
        "conv2d 4 3 2", {"residual": ["conv2d 4 3 padding=same bias=false", "batch_norm", "relu"]}, "relu",
        {"residual": ["conv2d 6 [3, 2] 2 padding=same", "tanh"], "shortcut": "conv2d 6 1 2 padding=same"},
        {"repeat": 2, "layers": [{"residual": ["conv2d 3 3 padding=same", "elu"], "join": "concat"}]},
        {"parallel": ["max_pool2d 2 1 same", "avg_pool2d 2 1 same", "conv2d 12 1"], "join": "add"},
        {"parallel": [["flatten", "dense 7"], "global_avg_pool"]}, "dropout 0.3", "dense 5",
    ),
    # Zero stays zero: on black images, of which it is asked alone, each layer lies on its kink.
    "kinks": net("conv2d 4 3", "relu", "leaky_relu 0.2", "elu 1.3", "gelu", "max_pool2d [2, 3]", "max_pool2d", *HEAD),
}  # fmt: skip
# … every optimizer, on a small network with both kinds of parameters …
SMALL = net("conv2d 4 [3, 2] [2, 3]", "tanh", "flatten", "dense 5")
OPTIMIZER_OPTIONS = {"momentum": " 0.01 0.8", "nesterov": " 0.01 0.8", "adamw": " 0.001 0.3", "rmsprop": " 0.001 0.8"}
RECIPE_CASES = {
    f"{optimizer}_cross_entropy": Recipe(optimizer + OPTIMIZER_OPTIONS.get(optimizer, ""), EPOCHS, BATCH)
    for optimizer in spec.OPTIMIZERS
} | {
    # … the other loss, of which an optimizer sees nothing but gradients …
    "sgd_mean_squared_error": Recipe("sgd 0.1", EPOCHS, BATCH, "mean_squared_error"),
    # … every schedule (under momentum, which shows a rate that comes a step late), and everything that changes a step.
    **{f"schedule_{kind}": Recipe("momentum 0.05", 3, BATCH, schedule=kind) for kind in spec.SCHEDULES},
    "schedule_step": Recipe("momentum 0.05", 3, BATCH, schedule="step 1 0.3"),
    "label_smoothing": Recipe("sgd 0.1", EPOCHS, BATCH, label_smoothing=0.2),
    "label_smoothing_mean_squared_error": Recipe("sgd 0.1", EPOCHS, BATCH, "mean_squared_error", label_smoothing=0.2),
    "l2": Recipe("sgd 0.1", EPOCHS, BATCH, l2=0.3),
    "clip_norm": Recipe("sgd 0.1", EPOCHS, BATCH, clip_norm=0.5),
    "clip_norm_not_reached": Recipe("sgd 0.1", EPOCHS, BATCH, clip_norm=1e6),
    "l2_and_clip_norm": Recipe("adam", EPOCHS, BATCH, l2=0.3, clip_norm=0.5),
    "no_beta": Recipe("adam 0.001 0.0 0.0", EPOCHS, BATCH),
}
# … every option that gives the same words another meaning …
MOMENTUM = Recipe("momentum 0.05", EPOCHS, BATCH)
NORMAL = net("conv2d 4 3 bias=false", "batch_norm", "dropout 0.3", "flatten", "dense 17", "dropout", "dense 5")


def recipe(optimizer: str = "momentum 0.05", *mistakes: str, **options: object) -> Recipe:
    return Recipe(optimizer, EPOCHS, BATCH, mistakes=mistakes, **options)


OPTION_CHAINS = {
    "chain_of_layers": Case(
        net(
            "conv2d 4 [4, 3] [3, 2] padding=same_lower", "avg_pool2d [3, 4] [2, 3] same count_padding=true",
            "gelu tanh", "flatten chw", "dense 5",
        ),
        MOMENTUM, alone=True,
    ),
    "chain_of_pools": Case(
        net("conv2d 4 1", "max_pool2d [3, 4] [2, 3] same_lower", "avg_pool2d [3, 4] [2, 3] same_lower", *HEAD), MOMENTUM
    ),
}  # fmt: skip
OPTION_CASES = {
    **OPTION_CHAINS,
    "conv2d_same_lower": Case(net("conv2d 4 [4, 3] [3, 2] padding=same_lower", *HEAD), MOMENTUM, alone=True),
    "max_pool2d_same_lower": Case(net("conv2d 4 1", "max_pool2d [3, 4] [2, 3] same_lower", *HEAD), MOMENTUM),
    "avg_pool2d_same_lower": Case(net("conv2d 4 1", "avg_pool2d [3, 4] [2, 3] same_lower", *HEAD), MOMENTUM),
    "avg_pool2d_count_padding": Case(
        net("conv2d 4 1", "avg_pool2d [3, 4] [2, 3] same count_padding=true", *HEAD), MOMENTUM, alone=True
    ),
    "max_pool2d_shared": Case(net("conv2d 4 1", "relu", "max_pool2d [2, 3] ties=shared", *HEAD), MOMENTUM, levels=2),
    "max_pool2d_shared_overlapping": Case(
        net("conv2d 4 1", "max_pool2d [3, 4] [2, 3] same ties=shared", *HEAD), MOMENTUM, levels=2, alone=True
    ),
    "max_pool2d_shared_black": Case(net("conv2d 4 1", "max_pool2d ties=shared", *HEAD), MOMENTUM, levels=1),
    "flatten_chw": Case(net("conv2d 4 3", "flatten chw", "dense 5"), MOMENTUM, alone=True),
    "batch_norm_biased": Case(net("conv2d 4 3", "batch_norm running_variance=biased", *HEAD), MOMENTUM),
    "layer_norm_example": Case(net("conv2d 4 3", "layer_norm over=example", *HEAD), MOMENTUM, alone=True),
    "gelu_tanh": Case(net("conv2d 4 3", "gelu tanh", *HEAD), MOMENTUM, alone=True),
    "joins": Case(
        net(
            "conv2d 4 1",
            {"residual": ["conv2d 4 3 padding=same"], "join": "add 0.5 2.0 rectified=true"},
            {"parallel": ["conv2d 3 1", "tanh"], "join": "concat reversed"},
            {"parallel": ["conv2d 2 1", "conv2d 2 [2, 3] padding=same"], "join": "concat axis=height"},
            {"parallel": ["conv2d 2 1", "conv2d 2 [2, 3] padding=same"], "join": "concat axis=width"},
            *HEAD,
        ),
        MOMENTUM,
        alone=True,
    ),
    "adam_hat": Case(SMALL, recipe("adam epsilon=0.001 epsilon_mode=hat")),
    "adamw_hat": Case(SMALL, recipe("adamw 0.001 0.3 epsilon=0.001 epsilon_mode=hat")),
    "rmsprop_inside": Case(SMALL, recipe("rmsprop 0.001 0.8 0.001 inside")),
    "momentum_velocity": Case(SMALL, recipe("momentum 0.05 0.8 velocity", schedule="cosine")),
    "nesterov_velocity": Case(SMALL, recipe("nesterov 0.05 0.8 velocity", schedule="cosine")),
    "clipped": Case(SMALL, recipe(loss="cross_entropy_clipped", label_smoothing=0.1)),
    "clipped_and_cut": Case(  # logits so far apart that probabilities are cut on both sides
        net("conv2d 4 [3, 2] [2, 3]", "tanh", "flatten", "dense 5 initializer='normal 4.0'"),
        recipe("sgd 0.01", loss="cross_entropy_clipped"),
    ),
    "softmax_twice": Case(SMALL, recipe(loss="cross_entropy_softmax_twice", label_smoothing=0.1)),
    "sum": Case(SMALL, recipe("sgd 0.01", l2=0.3, loss_reduction="sum")),
    "sum_mean_squared_error": Case(SMALL, recipe("sgd 0.01", loss="mean_squared_error", loss_reduction="sum")),
    "clip_each": Case(SMALL, recipe("sgd 0.1", clip_norm=0.2, clip_scope="tensor")),
    # … and every mistake.
    "training_in_inference_mode": Case(NORMAL, recipe("momentum 0.05", "training_in_inference_mode"), alone=True),
    "prediction_in_training_mode": Case(NORMAL, recipe("momentum 0.05", "prediction_in_training_mode")),
    "targets_broadcast": Case(
        SMALL, recipe("sgd 0.1", "targets_broadcast", loss="mean_squared_error", label_smoothing=0.1)
    ),
    "decay_on_all": Case(
        net("conv2d 4 3 bias=false", "batch_norm", *HEAD), recipe("adamw 0.001 0.3", "decay_on_all", l2=0.1)
    ),
    "rate_late": Case(SMALL, recipe("momentum 0.05", "rate_late", schedule="cosine")),
    "dropout_mistaken": Case(NORMAL, recipe("momentum 0.05", "dropout_not_scaled", "dropout_of_another_seed")),
    "dropout_rate_kept": Case(NORMAL, recipe("momentum 0.05", "dropout_rate_kept")),
}
# Rounded factors: where a value lies between two of few bits, its last bit decides, so only layers alone are compared.
ROUNDED = {
    products: Case(
        net(
            "conv2d 4 [3, 2] padding=same", "tanh", "conv2d 6 [5, 3] [2, 1] padding=same", "flatten", "dense 17",
            "dense 5",
        ),
        recipe(products=products), "float32", alone=True,
    )
    for products in ("tf32", "bfloat16")
}  # fmt: skip
TIED = ("max_pool2d", "max_pool2d_overlapping", "max_pool2d_same", "relu")
KINKED = ("relu", "leaky_relu", "elu", "gelu", "max_pool2d")
CASES = {
    **{f"layer-{name}": Case(network, Recipe("momentum 0.05", EPOCHS, BATCH)) for name, network in LAYER_CASES.items()},
    **{
        f"chain-{name}": Case(network, Recipe("momentum 0.05", EPOCHS, BATCH))
        for name, network in CHAINS.items()
        if name != "kinks"
    },
    **{f"recipe-{name}": Case(SMALL, recipe) for name, recipe in RECIPE_CASES.items()},
    **{
        f"ties-{name}": Case({**LAYER_CASES, **CHAINS}[name], Recipe("momentum 0.05", EPOCHS, BATCH), levels=2)
        for name in (*TIED, "max_pools", "max_pools_with_gaps")
    },
    # Black images and zero biases put every activation exactly on its kink.
    **{
        f"black-{kind}": Case({**LAYER_CASES, **CHAINS}[kind], Recipe("momentum 0.05", EPOCHS, BATCH), levels=1)
        for kind in (*KINKED, "kinks")
    },
    # Without a convolution TensorFlow compiles the whole epoch, and NumPy trains in one thread.
    **{
        f"flat-{optimizer}": Case(
            net("flatten", "dense 9", "tanh", "dropout 0.3", "dense 5"),
            Recipe(
                optimizer + OPTIMIZER_OPTIONS.get(optimizer, ""),
                EPOCHS,
                BATCH,
                l2=0.01,
                clip_norm=0.5,
                label_smoothing=0.1,
                schedule="cosine",
            ),
        )
        for optimizer in spec.OPTIMIZERS
    },
    **{f"option-{name}": case for name, case in OPTION_CASES.items()},
    **{f"rounded-{name}": case for name, case in ROUNDED.items()},
    "scaled": Case(SMALL, Recipe("sgd 0.1", EPOCHS, BATCH), scaling=(101.0, 1 / 73)),
    "one_full_batch": Case(SMALL, Recipe("adam", EPOCHS, N)),
    "larger_than_all": Case(SMALL, Recipe("adam", EPOCHS, N + 6)),
    "float32": Case(EVERYTHING, Recipe("adam", EPOCHS, BATCH, l2=0.01, label_smoothing=0.1), "float32"),
}
# Rows of which frameworks are asked in chains alone → how the names of these begin.
IN_CHAINS = {
    **dict.fromkeys(
        (f"layer-{name}" for name in LAYER_CASES if name not in ("conv2d_whole_image", "everything")), "chain-"
    ),
    **dict.fromkeys(
        (
            "option-conv2d_same_lower", "option-max_pool2d_same_lower", "option-avg_pool2d_same_lower",
            "option-avg_pool2d_count_padding", "option-flatten_chw", "option-gelu_tanh",
        ),
        "option-chain_",
    ),
    **dict.fromkeys((f"ties-{name}" for name in TIED), "ties-max_pools"),
    **dict.fromkeys((f"black-{name}" for name in KINKED), "black-kinks"),
}  # fmt: skip
assert not Augmentation()  # augmentation happens before a backend sees an image, so no case has any


def asked_of(backend: str) -> list[str]:
    """The names of the cases that a backend computes."""
    return [name for name in CASES if backend == "numpy" or name not in IN_CHAINS]


def images_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, *shape) uint8 and labels (n,): random, the same everywhere."""
    generator = np.random.default_rng(3)
    images = generator.integers(0, 256, (case.n, *case.shape), dtype=np.uint8)
    if case.levels == 2:
        images = (images > 127).astype(np.uint8) * np.uint8(255)
    elif case.levels == 1:
        images = np.zeros_like(images)
    return images, generator.integers(0, CLASSES, case.n)


def plan_of(case: Case, dtype: str = "", threads: int = 2, device: str = "cpu") -> Plan:
    channels = np.arange(case.shape[2])  # each with a mean and a scale of its own, where pixels have a mean
    mean, scale = case.scaling[0] + 17.0 * channels * bool(case.scaling[0]), case.scaling[1] / (1 + 0.2 * channels)
    steps = -(-case.n // case.recipe.batch_size)
    dtype = dtype or case.dtype
    return mistakes.plan_of(case.network, case.shape, case.recipe, 11, mean, scale, steps, dtype, device, threads)


@contextlib.contextmanager
def shared_out() -> Iterator[None]:
    """Inside, a model of NumPy's shares convolutions out between threads, however small they are."""
    few, reference.FEW_OF_CONVOLUTIONS = reference.FEW_OF_CONVOLUTIONS, 0
    try:
        yield
    finally:
        reference.FEW_OF_CONVOLUTIONS = few


def compute(backend: str, case: Case, dtype: str = "", threads: int = 2, device: str = "cpu") -> dict[str, np.ndarray]:
    """Every verb of the contract: "stage|name" → array."""
    images, labels = images_of(case)
    plan = plan_of(case, dtype, threads, device)
    weights = initial_weights(case.network, case.shape, plan.seed, plan.dtype)
    with shared_out():
        model = backends.load(backend).build(plan, weights)
    found: dict[str, dict[str, np.ndarray]] = {}
    model.place(images, labels)
    found["start"] = model.weights() | model.state()
    found["inference"] = model.activations(images[:BATCH], False)
    found["training"] = model.activations(images[:BATCH], True)
    loss, found["gradient"], found["sent back"], found["seen"] = model.gradients(images[:BATCH], labels[:BATCH])
    found["loss"] = {"first batch": np.array(loss)}
    if case.alone:
        found["alone"] = alone(model)
    found["untouched"] = model.weights() | model.state()
    losses = []
    for epoch in range(case.recipe.epochs):
        losses.append(model.train_epoch(np.random.default_rng(epoch).permutation(case.n)))
        model.wait()
        found[f"after epoch {epoch}"] = model.weights() | model.state()
    found["steps"] = {"loss and correct": np.concatenate(losses, axis=1)}
    found["predictions"] = {"logits": model.predict(images)}
    kept = model.weights(), model.state()
    found["again"] = again(model, case)
    model.restore(*kept)
    found["restored"] = model.weights() | model.state()
    found["and again"] = again(model, case)
    return {f"{stage}|{name}": value for stage, values in found.items() for name, value in values.items()}


def again(model: Model, case: Case) -> dict[str, np.ndarray]:
    """The weights after one more epoch; where it has a short batch, after one more of that, by itself.

    Of both sizes JAX has the program already.
    """
    if short := case.n % BATCH:
        images, labels = images_of(case)
        losses = model.step(images[:short], labels[:short])
    else:
        losses = model.train_epoch(np.arange(case.n))[0]
    return {"loss": np.array(losses), **model.weights()}


def alone(model: Model) -> dict[str, np.ndarray]:
    """Every layer by itself, on a random input and a random gradient of its output."""
    found, generator = {}, np.random.default_rng(5)
    for row in model.plan.rows:
        *taken, dy = (
            generator.integers(-99, 99, (BATCH, *shape)).astype(model.plan.dtype) / 77
            for shape in (*row.input_shapes, row.output_shape)
        )
        for x in taken:
            x.reshape(-1)[::5] *= 40  # up to ±51: where exponentials end, and formulas for small numbers fail
        y, sent, gradients = model.layer(row.name, tuple(taken) if len(taken) > 1 else taken[0], dy)
        for place, dx in enumerate(sent if isinstance(sent, tuple) else (sent,)):
            found[f"{row.name} dx" + (f" {place}" if place else "")] = dx
        found |= {f"{row.name} y": y, **{f"{name} gradient": g for name, g in gradients.items()}}
    return found


def rows_of(backend: Backend) -> dict[str, list[str]]:
    """Every table of a backend and the kinds that it has a row for."""
    return {"LAYERS": [*backend.LAYERS], "LOSSES": [*backend.LOSSES], "OPTIMIZERS": [*backend.OPTIMIZERS]}


def main(backend: str, folder: Path) -> None:
    errors = {}
    np.savez(folder / "tables.npz", allow_pickle=False, **rows_of(backends.load(backend)))
    device = "cpu" if backend == "numpy" else os.environ.get("LOCKSTEP_DEVICE", "cpu")
    for name in asked_of(backend):
        try:
            np.savez(folder / f"{name}.npz", allow_pickle=False, **compute(backend, CASES[name], device=device))
        except Exception:
            errors[name] = traceback.format_exc()
    (folder / "errors.json").write_text(json.dumps(errors))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
