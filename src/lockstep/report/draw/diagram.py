"""A network drawn layer by layer: from the image at the top to the classes at the bottom.

An image or its maps are sheets, one behind the other, as wide and high as they are; features are a bar. What keeps the
shape, an activation, dropout or normalisation, stands on the arrow. A way past other layers, such as a shortcut, is a
line at the left. Sizes are drawn as square roots: 28 × 28 and 1 × 1, ten features and a thousand have room then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lockstep.language import _, n_
from lockstep.report.draw import canvas, lettering, plots
from lockstep.report.draw.plots import BLUE, GREEN, INK, ORANGE
from lockstep.report.words.quantities import listed, shape, whole
from lockstep.store.documents.run import Layer

COLOURS = {"conv2d": BLUE, "dense": GREEN, "max_pool2d": ORANGE, "avg_pool2d": ORANGE, "global_avg_pool": ORANGE}
PAST = (INK, BLUE, ORANGE, GREEN)  # colours of ways past shapes, which cross
NORMS = ("batch_norm", "layer_norm")
SHEETS = 5  # drawn at most
WIDTH, CENTRE, TEXT = 4.9, 0.95, 2.05  # inches: of the figure, of the shapes, where words begin
LANE = 0.16  # inches: between two ways past the shapes
ROOM = 0.62  # of the largest sheet's side
MAX_LAYERS = 60
ARROW = {"arrowstyle": "-|>", "color": INK, "linewidth": 0.7, "mutation_scale": 7}


class Block(NamedTuple):
    """What is drawn as a shape: its output shape, kind and words; `between` stands on the arrow before it.

    `names` are the rows whose output it shows, `follows` says whether it takes in what is drawn above it.
    """

    sizes: tuple[int, ...]
    kind: str
    words: str
    between: list[str]
    names: list[str]
    follows: bool = True


@canvas.settings()
def diagram(image: Sequence[int], layers: Sequence[Layer]) -> Figure:
    """The layers as shapes with their names, output shapes and parameters; ways past them are lines at their left."""
    blocks = _blocks(image, layers)
    tallest = max(math.sqrt(block.sizes[0]) for block in blocks if len(block.sizes) == 3) if len(image) == 3 else 1.0
    widest = max((math.sqrt(block.sizes[0]) for block in blocks if len(block.sizes) == 1), default=1.0)
    heights = [_height(block.sizes, tallest) for block in blocks]
    passes = [0.16 + 0.15 * len(block.between) for block in blocks]
    total = sum(heights) + sum(passes[1:]) + 0.2
    ways = _lanes(_ways(blocks, layers))
    edges = [CENTRE - _width(block.sizes, tallest, widest) / 2 - 0.06 for block in blocks]
    nearest = min((edges[place] for way in ways for place in way[:2]), default=CENTRE) - 0.08
    room_of_ways = max(LANE * max(lane for *_, lane in ways) - nearest + 0.08, 0.0) if ways else 0.0
    figure = Figure(figsize=(WIDTH + room_of_ways, total))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(-room_of_ways, WIDTH)
    axes.set_ylim(total, 0)
    axes.axis("off")
    top, middles = 0.08, []
    for place, (block, height, room) in enumerate(zip(blocks, heights, passes, strict=True)):
        if place:
            if block.follows:
                axes.annotate("", (CENTRE, top + room - 0.02), (CENTRE, top + 0.02), arrowprops=ARROW)
            for number, text in enumerate(block.between):
                axes.text(TEXT, top + 0.13 + 0.15 * number, text, va="center", fontsize=7.5, alpha=0.8)
            top += room
        _draw(axes, block.sizes, COLOURS.get(block.kind, plots.GREY), top, height, tallest, widest)
        axes.text(TEXT, top + height / 2, block.words, va="center", fontsize=8.5, linespacing=1.25)
        middles.append(top + height / 2)
        top += height
    for number, (start, end, lane) in enumerate(ways):  # from a shape to one further down, past those between them
        x, look = nearest - LANE * lane, {"color": PAST[number % len(PAST)], "linewidth": 1.0}
        above, below = middles[start] + 0.03, middles[end] - 0.03
        axes.plot([edges[start], x, x], [above, above, below], **look)  # type: ignore[arg-type]
        axes.annotate("", (edges[end], below), (x, below), arrowprops={**ARROW, **look})
    return figure


def _ways(blocks: Sequence[Block], layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """(from, to) of each way past what is drawn between two shapes."""
    shown = {name: place for place, block in enumerate(blocks) for name in block.names}
    found = []
    for before, row in zip(["input", *(row.name for row in layers)], layers, strict=False):
        if row.name in shown:
            found += [(shown[name], shown[row.name]) for name in row.inputs if name != before and name in shown]
    return sorted(set(found), key=lambda way: (way[1] - way[0], way))


def _lanes(ways: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Each way with the first lane that it has for itself; the short ones lie inside."""
    lanes: list[list[tuple[int, int]]] = []
    found = []
    for start, end in ways:
        free = (
            number for number, taken in enumerate(lanes) if all(end <= first or last <= start for first, last in taken)
        )
        lane = next(free, len(lanes))
        lanes[lane:] = lanes[lane:] or [[]]
        lanes[lane].append((start, end))
        found.append((start, end, lane))
    return found


def _blocks(image: Sequence[int], layers: Sequence[Layer]) -> list[Block]:
    """The image, each layer that changes shape, and each with which a branch begins or several meet."""
    found = [Block(tuple(image), "", _("image\n{size}", size=shape(image)), [], ["input"])]
    waiting: list[tuple[str, str]] = []  # (name, what the next arrow says of it)
    for before, row in zip(["input", *(row.name for row in layers)], layers[:MAX_LAYERS], strict=False):
        kind = row.name.partition("_")[2]
        is_on_the_way = not row.inputs or row.inputs == (before,)
        if is_on_the_way and ((not row.parameters and tuple(row.output_shape) == found[-1].sizes) or kind in NORMS):
            more = f", {_parameters(row.parameters)}" if row.parameters else ""
            waiting.append((row.name, lettering.short(row.name + more, 44)))
            continue
        words = f"{lettering.short(row.name, 34)}\n{shape(row.output_shape)}"
        words += f" · {_parameters(row.parameters)}" if row.parameters else ""
        if any(name in row.inputs for name, _words in waiting[:-1]) or (not is_on_the_way and before not in row.inputs):
            found[-1], waiting = _closed(found[-1], waiting), []
        found[-1].names.extend(name for name, _words in waiting)
        between = [text for _name, text in waiting]
        follows = is_on_the_way or before in row.inputs
        found.append(Block(tuple(row.output_shape), kind, words, between, [row.name], follows))
        waiting = []
    found[-1] = _closed(found[-1], waiting)
    return found


def _closed(block: Block, waiting: Sequence[tuple[str, str]]) -> Block:
    """A shape with what follows it, from which no arrow goes on."""
    if not waiting:
        return block
    text = ", ".join(words for _name, words in waiting)
    return block._replace(words=f"{block.words}\n{text}", names=[*block.names, *(name for name, _ in waiting)])


def _parameters(n: int) -> str:
    return n_("{count} parameters", "{count} parameters", n, count=whole(n))


def _height(sizes: Sequence[int], tallest: float) -> float:
    if len(sizes) != 3:
        return 0.34
    return max(0.34, ROOM * math.sqrt(sizes[0]) / tallest + 0.04 * (_sheets(sizes[2]) - 1))


def _width(sizes: Sequence[int], tallest: float, widest: float) -> float:
    """How wide a shape is, in inches."""
    if len(sizes) != 3:
        return max(0.1, 1.6 * math.sqrt(sizes[0]) / widest) if sizes else 0.1
    return max(0.06, ROOM * math.sqrt(sizes[1]) / tallest) + 0.04 * (_sheets(sizes[2]) - 1)


def _sheets(channels: int) -> int:
    return min(SHEETS, max(1, math.ceil(math.log2(channels + 1))))


def _draw(
    axes: plots.Axes, sizes: Sequence[int], colour: str, top: float, height: float, tallest: float, widest: float
) -> None:  # fmt: skip
    """A stack of sheets, or a bar of features."""
    look = {"edgecolor": INK, "facecolor": (colour, 0.4), "linewidth": 0.6}
    width = _width(sizes, tallest, widest)
    if len(sizes) != 3:
        axes.add_patch(Rectangle((CENTRE - width / 2, top + height / 2 - 0.06), width, 0.12, **look))  # type: ignore[arg-type]
        return
    high, wide = (max(0.06, ROOM * math.sqrt(size) / tallest) for size in sizes[:2])
    n = _sheets(sizes[2])
    down = (height - (high + 0.04 * (n - 1))) / 2
    for number in range(n):
        corner = (CENTRE - width / 2 + 0.04 * number, top + down + 0.04 * number)
        axes.add_patch(Rectangle(corner, wide, high, **look))  # type: ignore[arg-type]


def said(name: str, image: Sequence[int], layers: Sequence[Layer]) -> str:
    """What a screen reader says: the shapes, one after the other."""
    chain = [_said(row) for row in layers[:MAX_LAYERS]]
    return _("{name}, layer by layer: image {size}, {layers}.", name=name, size=shape(image), layers=", ".join(chain))


def _said(row: Layer) -> str:
    words = f"{row.name} {shape(row.output_shape)}"
    return _("{layer} of {inputs}", layer=words, inputs=listed(row.inputs)) if row.inputs else words
