"""The chapters' figures: what the NumPy backend computes, and what runs left behind, on white.

Words in a figure stay few and are formulas or names of studies, so that one figure serves both languages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from lockstep import spec
from lockstep.backends import numpy as reference
from lockstep.report.draw import canvas, plots
from lockstep.store.documents.run import Epoch

ACTIVATIONS = ("relu", "leaky_relu", "elu", "gelu", "sigmoid", "tanh", "softplus")


def save(figure: Figure, path: Path) -> None:
    """Write an SVG that stays the same while its numbers do."""
    style: dict[Any, Any] = {"svg.hashsalt": "lockstep", "svg.fonttype": "path"}
    with rc_context(style):
        figure.savefig(path, format="svg", facecolor="white", metadata={"Date": None})


def draw(folder: Path) -> None:
    """Every figure that needs no runs."""
    save(activations(), folder / "activations.svg")


@canvas.settings()
def activations() -> Figure:
    """Each activation function and its slope, as the NumPy backend computes them."""
    x = np.linspace(-4, 4, 161)
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True).ravel()
    for axis, kind in zip(axes, ACTIVATIONS, strict=False):
        row: Any = spec.LayerFacts(kind, spec.LAYERS[kind](), (1,), (1,), {}, 0, None)
        nothing: Any = None
        y, backward = reference.LAYERS[kind](row, x, nothing)
        axis.plot(x, y, color=plots.BLUE, linewidth=1.6)
        axis.plot(x, backward(np.ones_like(x), True), color=plots.VERMILLION, linewidth=1.2, linestyle=(0, (4, 1.6)))
        axis.set_title(kind)
        axis.set_ylim(-1.3, 3)
        axis.grid(color=plots.INK, alpha=0.13, linewidth=0.6)
    axes[7].axis("off")
    axes[7].plot([], [], color=plots.BLUE, linewidth=1.6, label="y")
    axes[7].plot([], [], color=plots.VERMILLION, linewidth=1.2, linestyle=(0, (4, 1.6)), label="dy/dx")
    axes[7].legend(loc="center")
    return figure


@canvas.settings()
def histories(records: list[Any]) -> Figure:
    """Accuracy and loss over the epochs: a colour for each network and backend, seeds as a band."""
    cells: dict[str, list[Any]] = {}
    for record in records:
        cells.setdefault(f"{record.network} · {record.backend}", []).append([Epoch(**row) for row in record.history])
    colours = [colour for colour, _ in plots.LOOKS] + [plots.INK]
    columns = 3 if len(cells) > 4 else 4
    figure = Figure(figsize=(7.2, 3.2 + 0.2 * -(-len(cells) // columns)), layout="constrained")
    panels = figure.subplots(1, 2)
    for axis, measure in zip(panels, ("accuracy", "loss"), strict=True):
        for colour, (name, runs) in zip(colours * 3, cells.items(), strict=False):
            for split, (_, dashes) in plots.SPLITS.items():
                key = f"{plots.of_split(split, cells)}_{measure}"
                rows = [[row.number(key) for row in run] for run in runs]
                if any(None in row or not row for row in rows):
                    continue
                n = min(map(len, rows))
                values = np.array([row[:n] for row in rows], float) * (100 if measure == "accuracy" else 1)
                epochs = np.arange(1, n + 1)
                label = name if split == "test" and measure == "accuracy" else None
                axis.plot(epochs, np.median(values, axis=0), color=colour, linestyle=dashes, linewidth=1.2, label=label)
                axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.14, linewidth=0)
        axis.set_title({"accuracy": "accuracy, %", "loss": "loss"}[measure])
        axis.grid(axis="y", color=plots.INK, alpha=0.13, linewidth=0.6)
    for split, (_, dashes) in plots.SPLITS.items():
        panels[1].plot([], [], color=plots.INK, linestyle=dashes, label=split)
    panels[1].legend(loc="upper right")
    handles, _ = panels[0].get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)
    return figure


@canvas.settings()
def kernels(record: Any) -> Figure:
    """The first layer's kernels and the feature maps that they make of the first test image."""
    from lockstep import store

    weights, _ = store.read_checkpoint(store.newest_checkpoint(record.folder))
    name, kernel = next(
        (key, weights[key])
        for key in sorted(weights, key=lambda key: int(key.partition("_")[0]))
        if key.endswith("conv2d/kernel")
    )
    image = record.arrays("samples")["images"][:1] / 255.0
    layer = spec.Conv2D(kernel.shape[3], list(kernel.shape[:2]))
    maps = _applied(layer, image, kernel, weights[name.replace("/kernel", "/bias")])
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots(2, kernel.shape[3] + 1)
    axes[0, 0].axis("off")
    axes[1, 0].imshow(image[0, :, :, 0], cmap="gray_r")
    limit = float(np.abs(kernel).max())
    for place in range(kernel.shape[3]):
        axes[0, place + 1].imshow(kernel[:, :, 0, place], cmap="PuOr", vmin=-limit, vmax=limit)
        axes[1, place + 1].imshow(np.maximum(maps[0, :, :, place], 0), cmap="gray_r")
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def _applied(layer: Any, images: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The output of one convolution."""
    from lockstep.backends.plan import Plan

    network = spec.Network([layer, "flatten"])
    nothing = np.zeros(images.shape[3])
    plan = Plan(network, images.shape[1:], spec.Recipe(), 0, nothing, nothing + 1, 1, "float64")
    model = reference.build(plan, {"0_conv2d/kernel": kernel, "0_conv2d/bias": bias})
    dy = np.zeros((len(images), *plan.rows[0].output_shape))
    return model.layer("0_conv2d", images, dy)[0]
