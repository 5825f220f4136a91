"""What a trained network sees: the kernels of its first layer with weights, and what each layer makes of one image.

Computed in NumPy from the weights of the run's last checkpoint, whatever backend trained them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep import replay
from lockstep.errors import LockstepError
from lockstep.metrics import log_softmax
from lockstep.replay import Arrays, Learned
from lockstep.report.facts import Facts, why_unsound
from lockstep.report.groups import Group
from lockstep.report.numbers import count, fixed, points, shape
from lockstep.report.pictures import Mosaic, Tile
from lockstep.report.table import Table
from lockstep.spec import LayerFacts

MAX_KERNELS = 32  # of the first layer
MAX_MAPS = 32  # of one layer
MAX_LAYERS = 8
MAX_GROUPS = 8  # networks whose pictures a page has room for
LONGEST = 50_000_000  # multiply-adds of one image, above which a page does not compute them


def see(groups: Sequence[Group], image: int) -> dict[str, Any]:
    """The section as plain data, for test image number `image` (from 0) of those that the runs kept.

    One entry per network and setting, of its first finished run; what has no room is named in "left_out".
    """
    shown = [found for found in groups if found.firsts()]
    return {
        "networks": [_network(found, n, image) for n, found in enumerate(shown[:MAX_GROUPS])],
        "left_out": [found.title for found in shown[MAX_GROUPS:]],
    }


def _network(members: Group, number: int, image: int) -> dict[str, Any]:
    run = members.firsts()[0]
    found: dict[str, Any] = {"title": members.title, "gap": "", "kernels": None, "maps": [], "twin": None}
    samples = run.samples
    if samples is None:
        return found | {"gap": f"Not shown: {run.folder}: samples.npz: {run.gaps.get('samples.npz', 'it is missing')}."}
    if ((run.metrics and run.metrics.multiply_adds) or 0) > LONGEST:
        return found | {"gap": "Not shown: one image takes too many multiply-adds for a page."}
    place = min(image, len(samples[0]) - 1)
    try:
        learned, outputs = replay.activations(run.record, samples[0][place])
    except LockstepError as error:
        return found | {"gap": f"Not shown: {run.folder}: {why_unsound(error)}."}
    rows = learned.run.network.facts(tuple(samples[0].shape[1:]))
    maps = _maps(rows, outputs, number)
    return found | {
        "kernels": _kernels(rows, learned, number),
        "maps": [mosaic for mosaic, _ in maps],
        "twin": _twin([row for _, row in maps]) if maps else None,
        "image": _image(run, samples, place, outputs[rows[-1].name], learned),
        "backend": run.backend,
        "seed": run.seed,
    }


def _image(
    run: Facts, samples: tuple[np.ndarray, np.ndarray], place: int, logits: np.ndarray, learned: Learned
) -> dict[str, Any]:
    """The image itself and what the network says of it."""
    names, label = run.class_names, int(samples[1][place])
    true, said = (_named(names, index) for index in (label, int(logits.argmax())))
    text = f"Test image {place + 1}, {true}. The network’s answer: {said}"
    if learned.run.recipe.loss != "mean_squared_error" and np.isfinite(logits).all():
        text += f", with a probability of {points(float(np.exp(log_softmax(logits).max())), 1)}"
    return {"tile": Tile(samples[0][place], (), f"Test image {place + 1}: {true}"), "text": f"{text}."}


def _named(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else f"class {index}"


def _kernels(rows: Sequence[LayerFacts], learned: Learned, number: int) -> dict[str, Any] | None:
    """The kernels of the first layer that has any, as images."""
    first = next((row for row in rows if "kernel" in row.parameter_shapes), None)
    if first is None:
        return None
    kernel = learned.weights[f"{first.name}/kernel"].astype(np.float64)
    if kernel.ndim == 2:
        image = _as_image(rows, first, kernel)
        if image is None:
            return None
        kernel = image
    channels, n = kernel.shape[2], kernel.shape[3]
    maps = np.moveaxis(kernel.mean(axis=2), -1, 0)[:MAX_KERNELS]
    what = "kernels" if first.layer.kind == "conv2d" else "units’ weights"
    text = f"{first.name}: {_of(len(maps), n, what)}, {shape(kernel.shape[:2])} each"
    text += f", the mean over {channels} channels" if channels > 1 else ""
    text += "; blue above zero, orange below, white is zero."
    body = [
        [str(place + 1), *(fixed(value, 4) for value in (one.min(), one.max(), one.mean(), np.sqrt((one**2).sum())))]
        for place, one in enumerate(maps)
    ]
    columns = [(title, "r") for title in ("Kernel", "Smallest", "Largest", "Mean", "Norm")]
    twin = Table(f"Weights of {first.name}, kernel by kernel", columns, body)
    return {"mosaic": Mosaic(f"kernels{number}", text, maps), "text": text, "twin": twin}


def _of(shown: int, n: int, what: str) -> str:
    return f"the first {shown} of {n:,} {what}" if shown < n else f"all {n} {what}"


def _as_image(rows: Sequence[LayerFacts], first: LayerFacts, kernel: np.ndarray) -> np.ndarray | None:
    """A dense layer's kernel (in, out) as (height, width, channels, out), where its input is a flattened image."""
    before = [row for row in rows if row.layer.kind == "flatten" and row.output_shape == first.input_shape]
    if not before or len(before[0].input_shape) != 3:
        return None
    height, width, channels = before[0].input_shape
    if getattr(before[0].layer, "order", "hwc") == "chw":
        return np.moveaxis(kernel.reshape(channels, height, width, -1), 0, 2)
    return kernel.reshape(height, width, channels, -1)


def _maps(rows: Sequence[LayerFacts], outputs: Arrays, number: int) -> list[tuple[Mosaic, list[str]]]:
    """The feature maps of each layer that makes an image, after the activation that follows, and a row of numbers."""
    found: list[tuple[Mosaic, list[str]]] = []
    names: list[str] = []
    for place, row in enumerate(rows):
        names.append(row.name)
        keeps = ("conv2d", "max_pool2d", "avg_pool2d", "flatten", "dense", "global_avg_pool")
        if place + 1 < len(rows) and rows[place + 1].layer.kind not in keeps:
            continue  # an activation, normalisation or dropout follows
        title, names = " + ".join(names), []
        values = outputs[row.name]
        if values.ndim != 3 or len(found) == MAX_LAYERS:
            continue
        maps = np.moveaxis(values.astype(np.float64), -1, 0)
        text = f"{title}: {_of(min(len(maps), MAX_MAPS), len(maps), 'maps')}, {shape(values.shape[:2])} each."
        dead = int((maps.max(axis=(1, 2)) <= 0).sum())
        zeros = float((maps == 0).mean())
        cells = [title, str(len(maps)), fixed(maps.min(), 3), fixed(maps.max(), 3), fixed(maps.mean(), 3)]
        name = f"maps{number}-{len(found)}"
        found.append((Mosaic(name, text, maps[:MAX_MAPS]), [*cells, points(zeros, 1), str(dead)]))
    return found


def _twin(rows: list[list[str]]) -> Table:
    columns = [("Layer", "l"), *((title, "r") for title in ("Maps", "Smallest", "Largest", "Mean", "Zeros"))]
    return Table(
        f"What {count(len(rows), 'layer')} made of this image",
        [*columns, ("Maps without a value above zero", "r")],
        rows,
    )
