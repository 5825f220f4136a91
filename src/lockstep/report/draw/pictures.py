"""Pixels for a page: images with words below them, and many small maps side by side in one image.

Both stand in the page as images that wrap or shrink on a small screen, and are written as files of their own too.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from lockstep.report.draw import canvas, lettering, plots

GAP = 255  # the palette's index of what lies between maps: transparent
LEVELS = 255  # a map's values
ENLARGED = 480  # least width in pixels of a mosaic that is a file of its own
COLUMNS = 5  # of a sheet that is a file of its own


@dataclasses.dataclass(frozen=True)
class Tile:
    """One image (height, width, channels) uint8 and the lines below it; `alt` is what a screen reader says."""

    image: np.ndarray
    lines: tuple[str, ...]
    alt: str

    @cached_property
    def source(self) -> str:
        """The image as a data URI."""
        return plots.png(self.image)


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Images with words. `name` names the files, `label` describes the image."""

    name: str
    label: str
    tiles: list[Tile]

    @property
    def size(self) -> int:
        """Characters that its images take in a page."""
        return sum(len(tile.source) for tile in self.tiles)

    def files(self) -> tuple[bytes, bytes]:
        """(SVG, PNG)."""
        return plots.alone(plots.svg(self.figure(), self.label, self.name))

    @canvas.settings()
    def figure(self) -> Figure:
        """All tiles in rows of COLUMNS; sizes in inches."""
        pitch, side, line = 1.1, 0.78, 0.125
        rows = math.ceil(len(self.tiles) / COLUMNS)
        height = side + 0.12 + line * max((len(tile.lines) for tile in self.tiles), default=0)
        figure = Figure(figsize=(pitch * COLUMNS, max(height * rows, 0.1)))
        axes = figure.add_axes((0, 0, 1, 1))
        for place, tile in enumerate(self.tiles):
            top, left = (place // COLUMNS) * height, (place % COLUMNS) * pitch
            pixels = tile.image[..., 0] if tile.image.shape[-1] == 1 else tile.image
            box = (left, left + side, top + side, top)
            axes.imshow(pixels, extent=box, cmap="gray", vmin=0, vmax=255, interpolation="none")
            for number, text in enumerate(tile.lines):
                axes.text(left, top + side + 0.03 + line * number, lettering.short(text, 19), va="top", fontsize=6.5)
        axes.set_xlim(0, pitch * COLUMNS)
        axes.set_ylim(max(height * rows, 0.1), 0)
        axes.set_aspect("auto")
        axes.axis("off")
        return figure


@dataclasses.dataclass(frozen=True)
class Mosaic:
    """Maps (n, height, width) side by side. `name` names the files, `label` describes the image.

    Where a value is negative, blue is above zero and orange below; else black is zero and white the largest.
    """

    name: str
    label: str
    maps: np.ndarray

    @property
    def columns(self) -> int:
        """Maps in a row: eight, more of those that are few pixels wide, and no more than there are."""
        return min(len(self.maps), 16 if self.maps.shape[2] <= 4 else 8)

    @property
    def width(self) -> int:
        return self.columns * (self.maps.shape[2] + 1) - 1

    def _image(self) -> Image.Image:
        n, height, width = self.maps.shape
        rows = math.ceil(n / self.columns)
        sheet = np.full((rows * (height + 1), self.columns * (width + 1)), GAP, np.uint8)
        for place, values in enumerate(levels(self.maps)):
            top, left = (place // self.columns) * (height + 1), (place % self.columns) * (width + 1)
            sheet[top : top + height, left : left + width] = values
        image = Image.fromarray(sheet[:-1, :-1], mode="P")
        image.putpalette(SIGNED if (self.maps < 0).any() else GREYS)
        return image

    @property
    def png(self) -> bytes:
        """One pixel for each value."""
        return _png(self._image())

    @cached_property
    def source(self) -> str:
        """The same as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    def files(self) -> tuple[bytes, bytes]:
        """(SVG, PNG), enlarged."""
        image = self._image()
        times = max(1, math.ceil(ENLARGED / image.width))
        width, height = image.width * times, image.height * times
        said = html.escape(self.label, quote=True)
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" aria-label="{said}" '
            f'width="{width}" height="{height}"><image xlink:href="{self.source}" width="{width}" height="{height}" '
            'style="image-rendering: pixelated"/></svg>\n'
        )
        return svg.encode(), _png(image.resize((width, height), Image.Resampling.NEAREST))


def levels(maps: np.ndarray) -> np.ndarray:
    """Values → palette indices 0 to 254, on one scale for all maps; NaN and infinities count as zero."""
    values = np.nan_to_num(np.asarray(maps, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    largest = np.abs(values).max(initial=0.0) or 1.0
    signed = bool((values < 0).any())
    share = (values / largest + 1) / 2 if signed else values / largest
    return np.round(share * (LEVELS - 1)).astype(np.uint8)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True, transparency=GAP)
    return buffer.getvalue()


def _palette(stops: Sequence[str]) -> list[int]:
    """256 colours, (r, g, b) one after the other, evenly between the stops; the last one is the gap's."""
    places = np.linspace(0, len(stops) - 1, LEVELS)
    colours = np.array([to_rgb(stop) for stop in stops])
    channels = [np.interp(places, np.arange(len(stops)), colours[:, channel]) for channel in range(3)]
    found: list[int] = np.round(255 * np.stack(channels, axis=1)).astype(int).ravel().tolist()
    return [*found, 128, 128, 128]


GREYS = _palette(["#000000", "#ffffff"])
SIGNED = _palette([plots.VERMILLION, "#ffffff", plots.BLUE])
