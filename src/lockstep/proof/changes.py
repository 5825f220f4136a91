"""How a run is changed to have a known difference: a function of the run and its images' shape, for each kind."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from lockstep.backends.plan import window_padding
from lockstep.spec import LayerFacts, Recipe, Run, Shape
from lockstep.spec.records import changed

Change = Callable[[Run, Shape], Run]  # the same run where the difference makes none


def recipe(**fields: Any) -> Change:
    """Put these fields of the recipe in the place of what stands there."""
    return lambda run, shape: changed(run, recipe=changed(run.recipe, **fields))


def where(condition: Callable[[Recipe], Any], fields: Callable[[Recipe], dict[str, Any]]) -> Change:
    """Change the recipe where the condition holds, by fields that follow from it."""
    return lambda run, shape: (
        changed(run, recipe=changed(run.recipe, **fields(run.recipe))) if condition(run.recipe) else run
    )


def mistake(name: str, condition: Callable[[Run], Any] = lambda run: True) -> Change:
    """Make one of `spec.MISTAKES`, where the condition holds."""

    def make(run: Run, shape: Shape) -> Run:
        if not condition(run) or name in run.recipe.mistakes:
            return run
        return changed(run, recipe=changed(run.recipe, mistakes=(*run.recipe.mistakes, name)))

    return make


def optimizer(*kinds: str, **fields: Any) -> Change:
    """Change the optimizer, where it is one of these."""
    return where(lambda r: r.optimizer.kind in kinds, lambda r: {"optimizer": changed(r.optimizer, **fields)})


def layers(kind: str, condition: Callable[[LayerFacts], Any] = lambda row: True, **fields: Any) -> Change:
    """Change every layer of a kind whose place fulfils the condition."""

    def make(run: Run, shape: Shape) -> Run:
        return _with_layers(
            run,
            {
                row.where: changed(row.layer, **fields)
                for row in run.network.facts(shape)
                if row.layer.kind == kind and condition(row)
            },
        )

    return make


def layers_before(kind: str, following: str, condition: Callable[[LayerFacts], Any], **fields: Any) -> Change:
    """Change every layer of a kind in such a place, if one of the kind `following`, and nothing else, takes it in."""

    def make(run: Run, shape: Shape) -> Run:
        rows = run.network.facts(shape)
        takers = {row.name: [other.layer.kind for other in rows if row.name in other.inputs] for row in rows}
        return layers(kind, lambda row: takers[row.name] == [following] and condition(row), **fields)(run, shape)

    return make


def alike(row: LayerFacts) -> bool:
    """Whether a join takes in images of one shape, which is not that of one pixel."""
    return len(row.input_shape) == 3 and len(set(row.input_shapes)) == 1 and max(row.input_shape[:2]) > 1


def initializers(kernel: str, bias: str) -> Change:
    """Draw every kernel and bias as another framework does."""

    def make(run: Run, shape: Shape) -> Run:
        return _with_every(
            run,
            lambda layer: (
                changed(layer, initializer=kernel, bias_initializer=bias) if hasattr(layer, "initializer") else layer
            ),
        )

    return make


def _with_layers(run: Run, found: Mapping[str, Any]) -> Run:
    """The run with the layers and joins at these keys (`LayerFacts.where`) replaced."""
    return changed(run, network=run.network.with_layers(lambda where, layer: found.get(where, layer)))


def _with_every(run: Run, change: Callable[[Any], Any]) -> Run:
    return changed(run, network=run.network.with_layers(lambda where, layer: change(layer)))


def padded_lower(run: Run, shape: Shape) -> Run:
    """`same` with the odd zero before, in every layer where there is an odd one."""

    found = {}
    for row in run.network.facts(shape):
        if getattr(row.layer, "padding", "") == "same":
            layer = changed(row.layer, padding="same_lower")
            if window_padding(dataclasses.replace(row, layer=layer)) != window_padding(row):
                found[row.where] = layer
    return _with_layers(run, found)


def _smoothed_over_the_others(r: Recipe, classes: int) -> float:
    """1 − s for the label and s/(K−1) for each other class is the canonical smoothing by s·K/(K−1)."""
    return r.label_smoothing * classes / (classes - 1)


def label_smoothing(run: Run, shape: Shape) -> Run:
    (classes,) = run.network.facts(shape)[-1].output_shape
    smoothing = _smoothed_over_the_others(run.recipe, classes)
    possible = 0 < smoothing < 1
    return changed(run, recipe=changed(run.recipe, label_smoothing=smoothing)) if possible else run


def momentum_swapped(run: Run, shape: Shape) -> Run:
    """1 − m for each batch normalisation's m."""
    return _with_every(
        run,
        lambda layer: (
            changed(layer, momentum=1 - layer.momentum) if layer.kind == "batch_norm" and layer.momentum < 1 else layer
        ),
    )


def coupled(r: Recipe) -> dict[str, Any]:
    o: Any = r.optimizer  # an AdamW
    adam = {
        "kind": "adam",
        **{key: getattr(o, key) for key in ("learning_rate", "beta1", "beta2", "epsilon", "epsilon_mode")},
    }
    return {"optimizer": adam, "l2": r.l2 + o.weight_decay}


def decoupled(r: Recipe) -> dict[str, Any]:
    o = r.optimizer
    kept = {key: getattr(o, key) for key in ("learning_rate", "beta1", "beta2", "epsilon", "epsilon_mode")}
    return {"optimizer": {"kind": "adamw", "weight_decay": r.l2, **kept}, "l2": 0.0}


def swapped(kind: str, other: str) -> Change:
    """One kind of momentum in place of the other."""
    return where(
        lambda r: r.optimizer.kind == kind,
        lambda r: {
            "optimizer": {
                "kind": other,
                **{key: getattr(r.optimizer, key) for key in ("learning_rate", "momentum", "form")},
            }
        },
    )


def has(*kinds: str) -> Callable[[Run], bool]:
    return lambda run: any(layer.kind in kinds for layer in run.network.every_layer())


DROPS = lambda run: any(layer.kind == "dropout" and layer.rate for layer in run.network.every_layer())  # noqa: E731
ADAMS = ("adam", "adamw")
