"""A network drawn layer by layer: from the image at the top to the classes at the bottom.

An image or its maps are sheets, one behind the other, as wide and high as they are; features are a bar. What keeps the
shape, an activation, dropout or normalisation, stands on the arrow. Sizes are drawn as square roots: 28 × 28 and
1 × 1, ten features and a thousand have room then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lockstep.language import _, n_
from lockstep.report.draw import canvas, lettering, plots
from lockstep.report.draw.plots import BLUE, GREEN, INK, ORANGE
from lockstep.report.words.numbers import shape, whole
from lockstep.store.documents.run import Layer

COLOURS = {"conv2d": BLUE, "dense": GREEN, "max_pool2d": ORANGE, "avg_pool2d": ORANGE, "global_avg_pool": ORANGE}
NORMS = ("batch_norm", "layer_norm")
SHEETS = 5  # drawn at most
WIDTH, CENTRE, TEXT = 4.9, 0.95, 2.05  # inches: of the figure, of the shapes, where words begin
ROOM = 0.62  # of the largest sheet's side
MAX_LAYERS = 60
ARROW = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.7, "mutation_scale": 7}


@canvas.settings()
def diagram(image: Sequence[int], layers: Sequence[Layer]) -> Figure:
    """The layers as shapes with their names, output shapes and parameters."""
    blocks = _blocks(image, layers)
    tallest = max(math.sqrt(block[0][0]) for block in blocks if len(block[0]) == 3) if len(image) == 3 else 1.0
    widest = max((math.sqrt(block[0][0]) for block in blocks if len(block[0]) == 1), default=1.0)
    heights = [_height(sizes, tallest) for sizes, *_ in blocks]
    passes = [0.16 + 0.15 * len(between) for *_, between in blocks]
    total = sum(heights) + sum(passes[1:]) + 0.2
    figure = Figure(figsize=(WIDTH, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, WIDTH)
    axes.set_ylim(total, 0)
    axes.axis("off")
    top = 0.08
    for place, ((sizes, kind, words, between), height, room) in enumerate(zip(blocks, heights, passes, strict=True)):
        if place:
            axes.annotate("", (CENTRE, top + room - 0.02), (CENTRE, top + 0.02), arrowprops=ARROW)
            for number, text in enumerate(between):
                axes.text(TEXT, top + 0.13 + 0.15 * number, text, va="center", fontsize=7.5, alpha=0.8)
            top += room
        _draw(axes, sizes, COLOURS.get(kind, plots.GREY), top, height, tallest, widest)
        axes.text(TEXT, top + height / 2, words, va="center", fontsize=8.5, linespacing=1.25)
        top += height
    return figure


def _blocks(
    image: Sequence[int], layers: Sequence[Layer]
) -> list[tuple[tuple[int, ...], str, str, list[str]]]:  # fmt: skip
    """(output shape, kind, words, what the arrow before it says) of the image and each layer that changes shape."""
    words = _("image\n{size}", size=shape(image))
    found: list[tuple[tuple[int, ...], str, str, list[str]]] = [(tuple(image), "", words, [])]
    waiting: list[str] = []
    for row in layers[:MAX_LAYERS]:
        kind = row.name.partition("_")[2]
        if (not row.parameters and tuple(row.output_shape) == found[-1][0]) or kind in NORMS:
            more = f", {_parameters(row.parameters)}" if row.parameters else ""
            waiting.append(lettering.short(row.name + more, 44))
            continue
        words = f"{lettering.short(row.name, 34)}\n{shape(row.output_shape)}"
        words += f" · {_parameters(row.parameters)}" if row.parameters else ""
        found.append((tuple(row.output_shape), kind, words, waiting))
        waiting = []
    if waiting:
        found[-1] = (*found[-1][:2], found[-1][2] + "\n" + ", ".join(waiting), found[-1][3])
    return found


def _parameters(n: int) -> str:
    return n_("{count} parameters", "{count} parameters", n, count=whole(n))


def _height(sizes: Sequence[int], tallest: float) -> float:
    if len(sizes) != 3:
        return 0.34
    return max(0.34, ROOM * math.sqrt(sizes[0]) / tallest + 0.04 * (_sheets(sizes[2]) - 1))


def _sheets(channels: int) -> int:
    return min(SHEETS, max(1, math.ceil(math.log2(channels + 1))))


def _draw(
    axes: plots.Axes, sizes: Sequence[int], colour: str, top: float, height: float, tallest: float, widest: float
) -> None:  # fmt: skip
    """A stack of sheets, or a bar of features."""
    look = {"edgecolor": INK, "facecolor": (colour, 0.4), "linewidth": 0.6}
    if len(sizes) != 3:
        width = max(0.1, 1.6 * math.sqrt(sizes[0]) / widest) if sizes else 0.1
        axes.add_patch(Rectangle((CENTRE - width / 2, top + height / 2 - 0.06), width, 0.12, **look))  # type: ignore[arg-type]
        return
    high, wide = (max(0.06, ROOM * math.sqrt(size) / tallest) for size in sizes[:2])
    n = _sheets(sizes[2])
    across = wide + 0.04 * (n - 1)
    down = (height - (high + 0.04 * (n - 1))) / 2
    for number in range(n):
        corner = (CENTRE - across / 2 + 0.04 * number, top + down + 0.04 * number)
        axes.add_patch(Rectangle(corner, wide, high, **look))  # type: ignore[arg-type]


def said(name: str, image: Sequence[int], layers: Sequence[Layer]) -> str:
    """What a screen reader says: the shapes, one after the other."""
    chain = [f"{row.name} {shape(row.output_shape)}" for row in layers[:MAX_LAYERS]]
    return _("{name}, layer by layer: image {size}, {layers}.", name=name, size=shape(image), layers=", ".join(chain))
