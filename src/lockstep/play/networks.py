"""One run as a page can play it: its layers as plain tables, its numbers in one row, and the judge that holds it.

What the page computes is this network over these numbers in float64, so that is what the judge is built of, too: the
NumPy backend in float64. A run that the page would not compute as it was computed is refused with the reason.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import numpy as np

from lockstep import store
from lockstep.backends.plan import window_padding
from lockstep.errors import LockstepError
from lockstep.language import later
from lockstep.play.arrays import packed
from lockstep.spec import LayerFacts, Run, Shape
from lockstep.training import replay

# Layers that the page computes → the fields of their records that decide how.
KINDS: dict[str, tuple[str, ...]] = {
    "conv2d": (), "max_pool2d": ("ties",), "avg_pool2d": ("count_padding",), "global_avg_pool": (),
    "flatten": ("order",), "dense": (), "batch_norm": ("epsilon",), "layer_norm": ("epsilon", "over"), "dropout": (),
    "relu": (), "leaky_relu": ("slope",), "elu": ("alpha",), "tanh": (), "sigmoid": (), "softplus": (),
    "gelu": ("form",), "add": ("first", "others", "rectified"), "concat": ("order", "axis"),
}  # fmt: skip
LONGEST = 50_000_000  # multiply-adds of one picture, above which a page answers too late to play with


@dataclasses.dataclass(frozen=True, eq=False)
class Played:
    """A finished run, what it learned and how a pixel enters it."""

    record: store.Record
    found: replay.Learned
    shape: Shape
    mean: np.ndarray
    scale: np.ndarray

    @property
    def run(self) -> Run:
        return self.found.run

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.record.folder.name

    @cached_property
    def rows(self) -> list[LayerFacts]:
        return self.run.network.facts(self.shape)

    @cached_property
    def judge(self) -> Any:
        """The NumPy backend's model in float64."""
        return replay.model(self.found, self.shape, self.mean, self.scale, dtype="float64", threads=1)

    @property
    def parameters(self) -> dict[str, np.ndarray]:
        """All numbers of a forward pass in the order of the page: weights, then running statistics."""
        statistics = (f"{row.name}/running_{what}" for row in self.rows if row.layer.has_state
                      for what in ("mean", "variance"))  # fmt: skip
        weights = {name: self.found.weights[name] for name in self.run.network.parameter_shapes(self.shape)}
        return {**weights, **{name: self.found.state[name] for name in statistics}}

    @property
    def gives_probabilities(self) -> bool:
        """Whether a softmax belongs behind its outputs."""
        return self.run.recipe.loss != "mean_squared_error"

    def document(self) -> dict[str, Any]:
        """The run as the page has it; texts are those of the run itself."""
        return {
            "name": self.name, "network": next(iter(self.record.spec["networks"])), "backend": self.run.backend,
            "seed": self.run.seed, "dtype": self.run.dtype, "accuracy": self.record.test_accuracy,
            "shape": list(self.shape), "mean": self.mean.tolist(), "scale": self.scale.tolist(),
            "probabilities": self.gives_probabilities, "layers": [layer(row) for row in self.rows],
            "parameters": [[name, list(value.shape)] for name, value in self.parameters.items()],
            "numbers": packed(row_of(self.parameters)),
        }  # fmt: skip


def row_of(parameters: dict[str, np.ndarray], dtype: str = "") -> np.ndarray:
    """All numbers one after the other, in float64 where a run has them so, else in float32."""
    wide = any(value.dtype == np.float64 for value in parameters.values())
    return np.concatenate([value.ravel() for value in parameters.values()]).astype(
        dtype or ("float64" if wide else "float32")
    )


def layer(row: LayerFacts) -> dict[str, Any]:
    """A layer in its place as a plain table."""
    made: dict[str, Any] = {"name": row.name, "kind": row.layer.kind, "from": list(row.inputs)}
    made |= {"input": list(row.input_shape), "output": list(row.output_shape)}
    made["inputs"] = [list(shape) for shape in row.input_shapes]
    if window := row.layer.window():
        made |= {
            "window": list(window[0]),
            "stride": list(window[1]),
            "padding": [list(p) for p in window_padding(row)],
        }
    return made | {field: getattr(row.layer, field) for field in KINDS[row.layer.kind]}


def played(record: store.Record) -> Played:
    """A run that the page can play.

    Raises LockstepError: LS-505 where it is not finished, damaged, or lacks its weights; LS-206 for a layer, and LS-207
    for a recipe, that the page does not compute.
    """
    where = str(record.folder)
    if not record.is_finished:
        hint = later("finish it first: lockstep resume {folder}", folder=record.folder)
        raise LockstepError("LS-505", later("the run is not finished"), where=where, hint=hint)
    found = replay.learned(record)
    shape = replay.image_shape(record)
    rows = found.run.network.facts(shape)
    hint = later("choose other runs with --runs; the report shows this one's layers too")
    for row in rows:
        if row.layer.kind not in KINDS:
            raise LockstepError(
                "LS-206", later("the page does not compute the layer {name}", name=row.name), where=where, hint=hint
            )
    if (products := sum(row.multiply_adds for row in rows)) > LONGEST:
        message = later(
            "one picture takes {n:,} multiply-adds, and a page that answers while you draw has room for {most:,}",
            n=products, most=LONGEST,
        )  # fmt: skip
        raise LockstepError("LS-207", message, where=where, hint=hint)
    made = Played(record, found, shape, *replay.pixel_scaling(record, found.run, shape[-1]))
    plan = made.judge.plan
    if plan.in_prediction or plan.fraction_bits is not None:
        message = later("it predicts in another way than layer by layer in full precision, which the page does not do")
        raise LockstepError("LS-207", message, where=where, hint=hint)
    if not all(np.isfinite(value).all() for value in made.parameters.values()):
        raise LockstepError("LS-505", later("its weights are not finite: training diverged"), where=where, hint=hint)
    return made
