"""What a trained network sees: the kernels of its first layer with weights, and what each layer makes of one image.

Computed in NumPy from the weights of the run's last checkpoint, whatever backend trained them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lockstep.errors import LockstepError
from lockstep.language import _
from lockstep.report.compare.groups import Group
from lockstep.report.draw.pictures import Mosaic, Tile
from lockstep.report.facts import Facts, why_unsound
from lockstep.report.table import Table
from lockstep.report.words.quantities import count, fixed, points, shape, whole
from lockstep.spec import LayerFacts
from lockstep.training import replay
from lockstep.training.metrics import log_softmax
from lockstep.training.replay import Arrays, Learned

MAX_KERNELS = 32  # of the first layer
MAX_MAPS = 32  # of one layer
MAX_LAYERS = 8
MAX_GROUPS = 8  # networks whose pictures a page has room for
LONGEST = 50_000_000  # multiply-adds of one image, above which a page does not compute them


def section(groups: Sequence[Group], image: int) -> dict[str, Any]:
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
        why = run.gaps.get("samples.npz") or _("it is missing")
        return found | {"gap": _("Not shown: {why}.", why=f"{run.folder}: samples.npz: {why}")}
    if ((run.metrics and run.metrics.multiply_adds) or 0) > LONGEST:
        return found | {"gap": _("Not shown: one image takes too many multiply-adds for a page.")}
    place = min(image, len(samples[0]) - 1)
    try:
        learned, outputs = replay.activations(run.record, samples[0][place])
    except LockstepError as error:
        return found | {"gap": _("Not shown: {why}.", why=f"{run.folder}: {why_unsound(error)}")}
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
    told = {"n": place, "true": true, "answer": said}
    if learned.run.recipe.loss != "mean_squared_error" and np.isfinite(logits).all():
        text = _(
            "Test image {n}, {true}. The network’s answer: {answer}, with a probability of {share}.",
            share=points(float(np.exp(log_softmax(logits).max())), 1),
            **told,
        )
    else:
        text = _("Test image {n}, {true}. The network’s answer: {answer}.", **told)
    return {"tile": Tile(samples[0][place], (), _("Test image {n}: {true}", n=place, true=true)), "text": text}


def _named(names: Sequence[str], index: int) -> str:
    return names[index] if 0 <= index < len(names) else _("class {n}", n=index)


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
    if first.layer.kind == "conv2d":
        what = _of(len(maps), n, _("the first {shown} of {all} kernels"), _("all {all} kernels"))
    else:
        what = _of(len(maps), n, _("the first {shown} of {all} units’ weights"), _("all {all} units’ weights"))
    text = _(
        "{layer}: {what}, {size} each{mean}; blue above zero, orange below, white is zero.",
        layer=first.name,
        what=what,
        size=shape(kernel.shape[:2]),
        mean=_(", the mean over {n} channels", n=channels) if channels > 1 else "",
    )
    body = [
        [str(place + 1), *(fixed(value, 4) for value in (one.min(), one.max(), one.mean(), np.sqrt((one**2).sum())))]
        for place, one in enumerate(maps)
    ]
    columns = [(title, "r") for title in (_("Kernel"), _("Smallest"), _("Largest"), _("Mean"), _("Norm"))]
    twin = Table(_("Weights of {layer}, kernel by kernel", layer=first.name), columns, body)
    return {"mosaic": Mosaic(f"kernels{number}", text, maps), "text": text, "twin": twin}


def _of(shown: int, n: int, some: str, every: str) -> str:
    """One of two texts with its numbers: that of the first few, or that of all."""
    return (some if shown < n else every).format(shown=shown, all=whole(n) if shown < n else n)


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
        what = _of(min(len(maps), MAX_MAPS), len(maps), _("the first {shown} of {all} maps"), _("all {all} maps"))
        text = _("{layer}: {what}, {size} each.", layer=title, what=what, size=shape(values.shape[:2]))
        dead = int((maps.max(axis=(1, 2)) <= 0).sum())
        zeros = float((maps == 0).mean())
        cells = [title, str(len(maps)), fixed(maps.min(), 3), fixed(maps.max(), 3), fixed(maps.mean(), 3)]
        name = f"maps{number}-{len(found)}"
        found.append((Mosaic(name, text, maps[:MAX_MAPS]), [*cells, points(zeros, 1), str(dead)]))
    return found


def _twin(rows: list[list[str]]) -> Table:
    columns = [
        (_("Layer"), "l"),
        *((title, "r") for title in (_("Maps"), _("Smallest"), _("Largest"), _("Mean"), _("Zeros"))),
    ]
    return Table(
        count(len(rows), "What {count} layer made of this image", "What {count} layers made of this image"),
        [*columns, (_("Maps without a value above zero"), "r")],
        rows,
    )
