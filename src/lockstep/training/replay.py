"""A finished run's network, computed once more in NumPy from the weights that it ended with.

A run folder holds the network, how a pixel enters it and what it learned, and NumPy needs nothing else. So what a layer
sees can be drawn, and what a run says of its predictions can be checked, on a machine without any framework.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.spec import Run, Shape

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Learned:
    """What a run ended with: its description, the weights and running statistics of its last checkpoint."""

    run: Run
    weights: Arrays
    state: Arrays


def image_shape(record: store.Record) -> Shape:
    """(height, width, channels) of the run's images, as environment.json has it; raises LockstepError (LS-505)."""
    dataset = record.environment.get("dataset")
    shape = dataset.get("shape") if isinstance(dataset, dict) else None
    if not isinstance(shape, list) or len(shape) != 3 or not all(type(size) is int and size > 0 for size in shape):
        raise store.damaged(record.folder / "environment.json", later("dataset.shape: three sizes are missing"))
    return tuple(shape)


def learned(record: store.Record) -> Learned:
    """What a finished run ended with; raises LockstepError (LS-505) where spec.toml or the checkpoint cannot be used.

    The names and shapes of the weights are those of the network, whatever the checkpoint's hashes say.
    """
    (run,) = store.read_asked(record.folder).runs()
    folder = store.newest_checkpoint(record.folder)
    if folder is None:
        raise store.damaged(record.folder, later("no checkpoint with its weights can be used"))
    weights, state = store.read_checkpoint(folder)
    shape = image_shape(record)
    wanted = run.network.parameter_shapes(shape)
    found = {name: value.shape for name, value in weights.items()}
    if found != wanted:
        names = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
        raise store.damaged(
            folder, later("its weights are not those of the network: {names}", names=", ".join(names[:4]))
        )
    return Learned(run, weights, state)


def pixel_scaling(record: store.Record, run: Run, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(mean, scale) of each channel, by which a pixel entered the network: (pixel − mean) · scale.

    Raises LockstepError (LS-505) where the run does not say it: those before 0.2 do not, of a scaling of their own.
    """
    if "scaling_missing" in run.recipe.mistakes:
        return np.zeros(channels), np.ones(channels)
    if run.recipe.scaling == "unit":
        return np.zeros(channels), np.full(channels, 1 / 255)
    known = record.environment.get("dataset", {})
    try:
        mean, scale = (np.array(known[key], dtype=float) for key in ("pixel_mean", "pixel_scale"))
    except (KeyError, TypeError, ValueError):
        raise store.damaged(
            record.folder / "environment.json", later("it does not say how pixels were scaled")
        ) from None
    if not (mean.shape == scale.shape == (channels,) and np.isfinite([mean, scale]).all()):
        raise store.damaged(record.folder / "environment.json", later("it does not say how pixels were scaled"))
    return mean, scale


def model(
    found: Learned, shape: Shape, mean: np.ndarray, scale: np.ndarray, dtype: str | None = None, threads: int = 1
) -> Any:
    """The NumPy backend's model of what was learned, for images of this shape.

    `dtype` is the run's own unless another is asked for.
    """
    from lockstep.backends import numpy as reference
    from lockstep.backends.mistakes import plan_of
    from lockstep.training import inputs

    run = found.run
    dtype = dtype or inputs.computed_dtype(run)
    plan = plan_of(run.network, shape, run.recipe, run.seed, mean, scale, 1, dtype, "cpu", threads)
    built = reference.build(plan, found.weights, as_trained=False)
    start = built.state()
    try:
        built.restore(found.weights, {**start, **{name: found.state[name] for name in plan.initial_statistics()}})
    except (KeyError, ValueError) as error:
        raise LockstepError(
            "LS-505", later("the running statistics cannot be used: {error}", error=error), hint=later("run it again")
        ) from error
    return built


def activations(record: store.Record, image: np.ndarray) -> tuple[Learned, Arrays]:
    """(what was learned, every layer's output for one image (height, width, channels) uint8, in inference mode).

    The outputs are (height, width, channels) or (features,), in the order of the layers, "input" first. Raises
    LockstepError (LS-505).
    """
    found = learned(record)
    shape = tuple(image.shape)
    built = model(found, shape, *pixel_scaling(record, found.run, shape[-1]))
    outputs = built.activations(image[None], False)
    return found, {name: value[0] for name, value in outputs.items()}
