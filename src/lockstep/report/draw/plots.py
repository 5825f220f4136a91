"""Run records → matplotlib figures and SVG for a page. One function per plot; plain data in, no framework.

Three constraints shape this file. Lockstep's lines lie on top of each other by design, so a backend is told apart by
its colour and by markers that never hide each other. A figure stands in a page that may be light or dark, so everything
that is not data is drawn in INK, which `svg` turns into `currentColor`. The same data must give the same bytes, so
identifiers are salted and nothing is dated. pyplot, whose state is global, is never imported, and the settings of
whoever runs this (a matplotlibrc, MPLBACKEND, plt.rcParams, a style) are neither asked nor changed: see `canvas`.
"""

from __future__ import annotations

import base64
import html
import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.report.draw import canvas  # first: it imports matplotlib, whatever the environment says of it

# isort: split
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator, ScalarFormatter
from PIL import Image

from lockstep.language import _, later, minus, number
from lockstep.report.draw import lettering
from lockstep.spec import Study
from lockstep.store.documents.run import Epoch

KNOWN: tuple[str, ...] = Study.backends  # the default: every backend that Lockstep has


class Drawing(str):
    """A figure as an inline `<svg>`; it knows the figure that it was drawn from, for a file beside the page."""

    figure: Figure
    name: str
    label: str


INK = canvas.INK

# Okabe & Ito 2008: told apart with every kind of colour vision. The first four fall to the four backends.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"
YELLOW, GREY = "#f0e442", "#8a8a8a"
_NAMED = {BLUE: "blue", VERMILLION: "vermillion", GREEN: "green"}  # a dark page may lighten these: --blue …
LOOKS = ((BLUE, "o"), (VERMILLION, "s"), (GREEN, "^"), (PURPLE, "D"), (ORANGE, "v"), (SKY, "P"), (GREY, "X"))

SPLITS: dict[str, tuple[str, Any]] = {
    "train": (later("training"), (0, (4, 1.6))),
    "validation": (later("validation"), (0, (1, 1.3))),
    "test": (later("test"), "solid"),
}
BEST = "v"  # the marker of a best epoch
CLOCKS = {"import": GREY, "build": GREEN, "compile": YELLOW, "train": SKY, "evaluate": ORANGE}
CLOCK_NAMES = {
    "import": later("import"),
    "build": later("build"),
    "compile": later("compile"),
    "train": later("train"),
    "evaluate": later("evaluate"),
}
MEASURES = {"loss": (later("Loss"), 1.0), "accuracy": (later("Accuracy (%)"), 100.0)}
DIFFERENCES = {
    "loss": later("Loss, relative difference"),
    "weights": later("Weights, largest relative difference"),
}

ON_PAPER = "#1b1d20"  # what INK becomes in a file of its own
DOTS = 180  # per inch of a PNG
MAX_POINTS = 200  # per line: more cannot be seen, and a page has a size
LARGEST = 1e100  # what a diverged network's loss may be drawn at; beyond it no axis can be computed
MAX_CELL_TEXT = 16  # classes up to which each cell of a confusion matrix carries its count

# ------------------------------------------------------------------------------------------------------------ looks


def backend_order(backends: Iterable[str]) -> list[str]:
    """Backends in the order of `Study`'s default, then the others by name."""
    return sorted(set(backends), key=lambda name: (KNOWN.index(name) if name in KNOWN else len(KNOWN), name))


def looks(backends: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Backend → (colour, marker): the same in every report for the backends that `Study` knows."""
    others = [name for name in backend_order(backends) if name not in KNOWN]
    return {name: LOOKS[place % len(LOOKS)] for place, name in enumerate([*KNOWN, *others])}


def many_looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name → (colour, marker) for more names than there are colours: each round of colours has other markers."""
    n = len(LOOKS)
    return {name: (LOOKS[i % n][0], LOOKS[(i + i // n) % n][1]) for i, name in enumerate(names)}


def _figure(width: float, height: float, left: float, bottom: float, right: float, top: float) -> tuple[Figure, Axes]:
    """A figure with one axes; all sizes and margins in inches."""
    figure = Figure(figsize=(width, height))
    place = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes = figure.add_axes(place)
    axes.xaxis.set_major_formatter(_Ticks())
    axes.yaxis.set_major_formatter(_Ticks())
    return figure, axes


class _Ticks(ScalarFormatter):
    """Ticks with numbers as the language in use writes them."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return number(str(super().__call__(x, pos)))


def _grid(axes: Axes, axis: str) -> None:
    axes.grid(axis=axis, color=INK, alpha=0.13, linewidth=0.6)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ plots

History = Sequence[Epoch]


@canvas.settings()
def curves(
    histories: Mapping[str, Sequence[History]], measure: str, best: Mapping[str, Iterable[int]] | None = None
) -> Figure:
    """Loss or accuracy over epochs: backend → the histories of its runs (one per seed).

    Several runs of a backend become their median with a band from the lowest to the highest. A value that is missing
    (None, NaN) leaves a gap in its line. `best` holds the best epochs of each backend's runs, marked at the top. What
    lies between the first backend's training and test line at the end is marked at the right, where all runs have
    evaluated training images as they have test images.
    """
    label, scale = MEASURES[measure]
    names, more = backend_order(histories), 0.2 * ((len(histories) - 1) // 4)  # further rows of names
    beyond = 0.055 * (len(_("gap\n{size}").partition("\n")[0]) - len("gap"))  # of the bracket's word
    top = 0.24 + 0.07 * max(len(names) - 3, 0)  # triangles stand one above the other
    figure, axes = _figure(4.9, 3.6 + more, left=0.62, bottom=0.96 + more, right=0.5 + beyond, top=top)
    style, drawn = looks(histories), []
    for place, backend in enumerate(names):
        for split, (_name, dashes) in SPLITS.items():
            epochs, values = _table(histories[backend], f"{of_split(split, histories)}_{measure}")
            if values.count():
                _line(axes, epochs, values * scale, style[backend], dashes, place, len(histories), f"{backend}|{split}")
                drawn.append(split)
    _finish(axes, label, measure)
    lines = [Line2D([], [], color=INK, linestyle=SPLITS[s][1], label=_(SPLITS[s][0])) for s in SPLITS if s in drawn]
    if _mark_best(axes, {name: sorted(set((best or {}).get(name, ()))) for name in names}, style):
        lines.append(Line2D([], [], color=INK, marker=BEST, markersize=4, linestyle="none", label=_("best epoch")))
    if names and is_like_with_like(histories):
        train, test = (
            _table(histories[names[0]], f"{split}_{measure}")[1] * scale for split in ("train_inference", "test")
        )
        _mark_gap(axes, train, test, is_higher_better=measure == "accuracy")
    _legends(figure, style, names, lines)
    return figure


@canvas.settings()
def overview(histories: Mapping[str, Sequence[History]], measure: str) -> Figure:
    """Test loss or accuracy of many networks over epochs, one line each: name → the histories of its runs.

    Training is the thin broken line of the same colour. Bands as those of `curves`.
    """
    label, scale = MEASURES[measure]
    more = 0.2 * ((len(histories) - 1) // 2)
    figure, axes = _figure(4.9, 3.6 + more, left=0.62, bottom=0.96 + more, right=0.12, top=0.12)
    style = many_looks(histories)
    for place, name in enumerate(histories):
        epochs, values = _table(histories[name], f"{of_split('train', histories)}_{measure}")
        if values.count():
            middle = np.ma.filled(np.ma.median(values, axis=0), np.nan) * scale
            axes.plot(
                epochs, middle, color=style[name][0], linestyle=SPLITS["train"][1], linewidth=0.8, alpha=0.75,
                gid=f"{SERIES}{name}|train",
            )  # fmt: skip
        epochs, values = _table(histories[name], f"test_{measure}")
        if values.count():
            _line(axes, epochs, values * scale, style[name], "solid", place, len(histories), f"{name}|test")
    _finish(axes, label, measure)
    lines = [
        Line2D([], [], color=INK, linestyle=SPLITS[split][1], linewidth=width, label=_(SPLITS[split][0]))
        for split, width in (("test", 1.2), ("train", 0.8))
    ]
    _legends(figure, style, list(histories), lines, 2, 34)
    return figure


def is_like_with_like(histories: Mapping[str, Sequence[History]]) -> bool:
    """Whether every run has evaluated training images in inference mode, as it has test images."""
    ends = [run[-1] for runs in histories.values() for run in runs if run]
    return bool(ends) and all(row.train_inference_accuracy is not None for row in ends)


def of_split(split: str, histories: Mapping[str, Sequence[History]]) -> str:
    """What a history calls the values of a split: those of training in inference mode, if every run has them."""
    return "train_inference" if split == "train" and is_like_with_like(histories) else split


def _finish(axes: Axes, label: str, measure: str) -> None:
    axes.set_xlabel(_("Epoch"))
    axes.set_ylabel(_(label))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.margins(x=0.03)
    _grid(axes, "y")
    _fit_scale(axes, measure)


def _mark_best(axes: Axes, best: Mapping[str, Sequence[int]], style: Mapping[str, tuple[str, str]]) -> bool:
    """A triangle above the axes for each best epoch, one above the other where backends share it."""
    taken: dict[int, int] = {}
    for name, epochs in best.items():
        for epoch in epochs:
            height = 1.02 + 0.028 * taken.get(epoch, 0)
            taken[epoch] = taken.get(epoch, 0) + 1
            axes.plot(
                [epoch], [height], marker=BEST, markersize=4, color=style[name][0], linestyle="none", clip_on=False,
                transform=axes.get_xaxis_transform(), gid="best",
            )  # fmt: skip
    return bool(taken)


def _mark_gap(
    axes: Axes, train: np.ma.MaskedArray[Any, Any], test: np.ma.MaskedArray[Any, Any], is_higher_better: bool
) -> None:  # fmt: skip
    """A bracket right of the axes between the last training and test values, with by how much the test is worse."""
    ends = [np.ma.median(values, axis=0)[-1] if values.size else np.ma.masked for values in (train, test)]
    if any(end is np.ma.masked or not np.isfinite(end) for end in ends):
        return
    one, other = map(float, ends)
    size, right = one - other if is_higher_better else other - one, axes.get_yaxis_transform()
    axes.plot([1.025, 1.045, 1.045, 1.025], [one, one, other, other], color=INK, linewidth=0.8, transform=right,
              clip_on=False, gid="gap")  # fmt: skip
    middle = math.sqrt(one * other) if axes.get_yscale() == "log" else (one + other) / 2
    said = f"{size:.2f}" if abs(size) < 10 else f"{size:.1f}" if abs(size) < 1000 else f"{size:.0e}"
    text = _("gap\n{size}", size=minus(number(said)))
    axes.text(1.06, middle, text, transform=right, va="center", fontsize=7.5, linespacing=1.1)


def _table(runs: Sequence[History], key: str) -> tuple[np.ndarray, np.ma.MaskedArray[Any, Any]]:
    """Epochs (e,) and values (runs, e), masked where a run has none."""
    found = [{row.epoch: row.number(key) for row in run} for run in runs]
    epochs = sorted(set().union(*found))
    stride = max(1, math.ceil(len(epochs) / MAX_POINTS))
    epochs = [epoch for place, epoch in enumerate(epochs) if place % stride == 0 or place == len(epochs) - 1]
    rows = [[math.nan if (value := run.get(epoch)) is None else value for epoch in epochs] for run in found]
    values = np.array(rows, dtype=float).reshape(len(found), len(epochs))
    return np.array(epochs), np.ma.masked_invalid(np.where(np.abs(values) > LARGEST, np.nan, values))


def _line(
    axes: Axes, epochs: np.ndarray, values: Any, look: tuple[str, str], dashes: Any, place: int, of: int, name: str
) -> None:
    """One line. Where lines are equal the last one hides the others, but not their markers.

    Markers are hollow and stand at other epochs for each backend, or, where epochs are few, one around the other.
    """
    colour, marker = look
    start, step, size = _markers(len(epochs), place, of)
    axes.plot(
        epochs, np.ma.filled(np.ma.median(values, axis=0), np.nan), color=colour, linestyle=dashes, linewidth=1.2,
        marker=marker, markersize=size, markerfacecolor="none", markeredgewidth=1.2, markevery=(start, step),
        gid=SERIES + name,
    )  # fmt: skip
    if len(values) > 1:
        axes.fill_between(
            epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.14, linewidth=0,
            gid=f"{SERIES}{name}|band",
        )  # fmt: skip


def _markers(n: int, place: int, of: int) -> tuple[int, int, float]:
    """(first, stride, size) of the markers on the line that is number `place` of so many, each with n points."""
    step = 1 if n < 2 * of else max(of, n // 4)
    return (0, 1, 4.5 + 1.7 * (of - 1 - place)) if step == 1 else (place * step // of, step, 5.5)


def _fit_scale(axes: Axes, measure: str) -> None:
    """A logarithmic axis where losses span more than two orders of magnitude; room for a lone epoch."""
    found = [line.get_ydata() for line in axes.lines]
    values = np.ma.masked_invalid(np.ma.concatenate(found)).compressed() if found else np.array([])
    if measure == "loss" and values.size and values.min() > 1 / LARGEST and values.max() > 100 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: minus(number(f"{value:g}"))))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, place: ""))
    if all(len(line.get_xdata()) == 1 for line in axes.lines):  # type: ignore[arg-type]
        axes.set_xlim(0.5, 1.5)


def _legends(
    figure: Figure, style: Mapping[str, tuple[str, str]], names: list[str], others: list[Line2D], columns: int = 4,
    longest: int = 18,
) -> None:  # fmt: skip
    """A legend below the axes: the lines' names on the first rows, everything else on the last."""
    known = [
        Line2D([], [], color=style[name][0], marker=style[name][1], markerfacecolor="none", label=label)
        for name, label in zip(names, lettering.named(names, longest), strict=True)
    ]
    for handles, ncols, inches in ((known, columns, 0.24), (others, 4, 0.0)):
        figure.legend(
            handles=handles, ncols=ncols, loc="lower center", bbox_to_anchor=(0.54, inches / figure.get_figheight()),
            columnspacing=1.6 if ncols < 4 else 1.2, handlelength=2.6,
        )  # fmt: skip


Differences = Sequence[float | None]  # one number per step, None where nothing was observed


@canvas.settings()
def growth(lines: Mapping[str, Differences], alone: tuple[str, Differences] | None, measure: str) -> Figure:
    """How far each backend is from the judge, step by step, on a logarithmic axis: backend → relative difference.

    `alone` is the name and the line of what rounding alone does: grey, below the others. Zero, which no logarithm
    reaches, lies on the axis' floor, whose label is 0. A step that was not observed leaves a gap.
    """
    more = 0.2 * ((len(lines) - 1) // 4)
    figure, axes = _figure(4.9, 3.4 + more, left=0.62, bottom=0.96 + more, right=0.12, top=0.12)
    style, names = looks(lines), backend_order(lines)
    values = {name: np.array([math.nan if v is None else v for v in lines[name]], dtype=float) for name in names}
    grey = np.array([math.nan if v is None else v for v in alone[1]], dtype=float) if alone else np.array([])
    floor = _decades(axes, np.concatenate([grey, *values.values()]))
    if alone:
        axes.plot(*_raised(grey, floor), color=GREY, linewidth=3.2, alpha=0.55, solid_capstyle="round")
    for place, name in enumerate(names):
        steps, heights = _raised(values[name], floor)
        colour, marker = style[name]
        start, stride, size = _markers(len(steps), place, len(names))
        axes.plot(
            steps, heights, color=colour, linewidth=1.2, marker=marker, markersize=size, markerfacecolor="none",
            markeredgewidth=1.2, markevery=sorted({*range(start, len(steps), stride), *_lone(heights)}),
        )  # fmt: skip
    axes.set_xlabel(_("Step"))
    axes.set_ylabel(_(DIFFERENCES[measure]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.margins(x=0.03)
    _grid(axes, "y")
    label = lettering.short(alone[0], 64) if alone else ""
    other = [Line2D([], [], color=GREY, linewidth=3.2, alpha=0.55, label=label)] if alone else []
    _legends(figure, style, names, other)
    return figure


def _decades(axes: Axes, values: np.ndarray) -> float:
    """A logarithmic y axis in whole decades around the values; the floor, at which zero lies."""
    seen = values[(values > 1 / LARGEST) & (values <= LARGEST)]
    low, high = (math.log10(seen.min()), math.log10(seen.max())) if seen.size else (-16.0, -16.0)
    has_zero = bool((values <= 1 / LARGEST).any())
    bottom, top = math.floor(low) - has_zero, max(math.ceil(high), math.floor(low) + 1)
    powers = range(bottom, top + 1, math.ceil((top - bottom) / 8))
    signs = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    labels = ["0" if has_zero and n == bottom else f"10{str(n).translate(signs)}" for n in powers]
    axes.set_yscale("log")
    axes.set_yticks([10.0**n for n in powers], labels)
    axes.yaxis.set_minor_locator(NullLocator())
    room = 10 ** (0.04 * (top - bottom))  # for markers
    axes.set_ylim(10.0**bottom / room, 10.0**top * room)
    return 10.0**bottom


def _raised(values: np.ndarray, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """(steps, heights) to be drawn: zeros at the floor, thinned where nobody could see all of them."""
    stride = max(1, math.ceil(len(values) / MAX_POINTS))
    steps = np.array([n for n in range(len(values)) if n % stride == 0 or n == len(values) - 1], dtype=int)
    values = values[steps]
    return steps, np.where(values > LARGEST, np.nan, np.maximum(values, floor))


def _lone(heights: np.ndarray) -> list[int]:
    """The points without a neighbour, which no line shows."""
    seen = np.concatenate([[False], np.isfinite(heights), [False]])
    return np.flatnonzero(seen[1:-1] & ~seen[:-2] & ~seen[2:]).tolist()


@canvas.settings()
def confusion(
    counts: np.ndarray, class_names: Sequence[str], most_errors: int | None = None, in_percent: bool = False
) -> Figure:
    """Counts (classes, classes), rows: labels, columns: predictions; or `in_percent` of the row.

    Hits are tinted blue by their share of the row, errors vermillion by their count; `most_errors` is the count of the
    strongest tint, so that several matrices can share one scale.
    """
    counts = np.asarray(counts)
    n = len(counts)
    names = lettering.named(class_names, 12)
    longest = max(map(len, names), default=1)
    margin = 0.42 + 0.062 * longest
    side = 2.4
    under = margin if longest > 2 else 0.5
    figure, axes = _figure(side + margin + 0.08, side + under + 0.08, left=margin, bottom=under, right=0.08, top=0.08)
    axes.imshow(_tints(counts, most_errors), interpolation="none", aspect="auto")
    if n <= MAX_CELL_TEXT:
        for row, column in zip(*np.nonzero(counts), strict=True):
            said = (
                number(f"{100 * counts[row, column] / counts[row].sum():.1f}")
                if in_percent
                else f"{counts[row, column]}"
            )
            size = (7.2 if n <= 10 else 5.2) - (1.0 if in_percent else 0.0)
            axes.text(column, row, said, ha="center", va="center", fontsize=size)
    ticks = range(n) if n <= 40 else range(0, n, math.ceil(n / 20))
    size = 8 if n <= 20 else 5
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if longest > 2 else 0, fontsize=size)
    axes.set_yticks(ticks, [names[i] for i in ticks], fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel(_("Predicted"))
    axes.set_ylabel(_("True"))
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_alpha(0.4)
    return figure


def _tints(counts: np.ndarray, most_errors: int | None) -> np.ndarray:
    """Counts → RGBA (classes, classes, 4); transparent where nothing is, so that a dark page shines through."""
    hits = np.eye(len(counts), dtype=bool)
    errors = np.where(hits, 0, counts)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    tints = np.where(hits[..., None], to_rgba(BLUE), to_rgba(VERMILLION))
    strongest = max(most_errors or 0, errors.max(initial=0), 1)
    tints[..., 3] = np.where(hits, 0.32 * share, np.where(errors > 0, 0.1 + 0.6 * errors / strongest, 0))
    return np.asarray(tints)


@canvas.settings()
def clocks(rows: Sequence[tuple[str, Mapping[str, float | None]]]) -> Figure:
    """One stacked bar per run: (label, clock → seconds); a clock without a value takes no room."""
    labels = lettering.by_name((name for name, _ in rows), 44)
    names = [labels[name] for name, _ in rows]
    left = 0.2 + 0.068 * max(map(len, names), default=1)
    figure, axes = _figure(left + 4.6, 0.95 + 0.25 * len(rows), left=left, bottom=0.5, right=0.75, top=0.42)
    places, start = np.arange(len(rows)), np.zeros(len(rows))
    for clock, colour in CLOCKS.items():
        seconds = np.array([values.get(clock) or 0.0 for _, values in rows])
        axes.barh(places, seconds, left=start, height=0.66, color=colour, label=_(CLOCK_NAMES[clock]))
        start = start + seconds
    for place, total in zip(places, start, strict=True):
        axes.annotate(
            _("{n} s", n=number(f"{total:.3g}")),
            (total, place),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(places, names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(_("Seconds"))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    _grid(axes, "x")
    figure.legend(loc="upper left", ncols=len(CLOCKS), handlelength=1.1, handleheight=1.0, columnspacing=1.3)
    return figure


@canvas.settings()
def class_balance(class_names: Sequence[str], counts: Sequence[int]) -> Figure:
    """One bar per class with its number of training examples."""
    names = lettering.named(class_names)
    left = 0.25 + 0.07 * max(map(len, names), default=1)
    figure, axes = _figure(left + 3.6, 0.12 + 0.21 * len(names), left=left, bottom=0.06, right=0.6, top=0.06)
    places = np.arange(len(names))
    axes.barh(places, counts, height=0.68, color=BLUE, alpha=0.75)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(number(f"{count:,}"), (count, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(places, names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    return figure


# -------------------------------------------------------------------------------------------------- into a page


def svg(figure: Figure, label: str, prefix: str) -> Drawing:
    """A figure as an inline `<svg>` for a page: text stays text, INK is the page's colour, nothing is fetched.

    `label` is what a screen reader says; `prefix` keeps identifiers apart from those of the page's other figures.
    """
    buffer = io.StringIO()
    with canvas.settings(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the browser has fonts of its own
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    drawing = buffer.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", drawing, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', drawing))
    drawing = re.sub(r"<[^>]+>", lambda tag: _slim(tag[0], used, prefix), drawing)
    drawing = re.sub(r"<defs>\s*</defs>|<g>\s*</g>", "", drawing)
    drawing = re.sub(r">\s*\n\s*<", "><", drawing[drawing.index(">") + 1 :].strip())
    width, height = figure.get_size_inches() * 72
    said = html.escape(label, quote=True)
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width / 0.75:g}"'
    found = Drawing(f'<svg class="plot" role="img" aria-label="{said}" {size}{_axes(figure)}>{drawing}\n')
    found.figure, found.name, found.label = figure, prefix, label
    return found


def alone(drawing: Drawing) -> tuple[bytes, bytes]:
    """A drawing as files of their own, (SVG, PNG), dark on white: for a page of text, and for programs of any age."""
    text = re.sub(r"var\(--\w+, (#\w+)\)", r"\1", drawing).replace("currentColor", ON_PAPER)
    text = text.replace(' href="', ' xlink:href="').replace('class="plot" role="img" aria-label', "aria-label", 1)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    text = text.replace("<svg ", f'<svg {names} style="background: #fff; font-family: sans-serif" ', 1)
    buffer = io.BytesIO()
    with canvas.settings(), lettering.drawable(drawing.figure) as room:
        drawing.figure.savefig(buffer, format="png", dpi=DOTS, facecolor="white", metadata={"Software": None}, **room)
    return text.encode(), buffer.getvalue()


SERIES = "series:"  # how the name of a drawn line begins, by which a page's script finds it


def _axes(figure: Figure) -> str:
    """An attribute from which a page's script works out what lies under the pointer; nothing where no line has a name.

    Left, top, width and height in the drawing, then the ends of both axes, and whether each is logarithmic.
    """
    for axes in figure.axes:
        if any(str(line.get_gid() or "").startswith(SERIES) for line in axes.lines):
            (x0, y0), (x1, y1) = axes.get_position().get_points()
            width, height = figure.get_size_inches() * 72
            box = (x0 * width, (1 - y1) * height, (x1 - x0) * width, (y1 - y0) * height)
            ends = (*axes.get_xlim(), *axes.get_ylim())
            logs = (int(axes.get_xscale() == "log"), int(axes.get_yscale() == "log"))
            return f' data-axes="{" ".join(f"{float(value):.8g}" for value in (*box, *ends, *logs))}"'
    return ""


def without_series(text: str) -> str:
    """A page without what its script knows lines by."""
    return re.sub(r' data-(?:series|axes)="[^"]*"', "", text)


def _slim(tag: str, used: set[str], prefix: str) -> str:
    """One tag without the attributes that a page has no use for; text between tags is never touched."""
    tag = re.sub(rf' id="{SERIES}([^"]*)"', r' data-series="\1"', tag)
    tag = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", tag)
    tag = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{prefix}-", tag.replace("xlink:href", "href"))
    tag = re.sub(r'font-family: [^;"]*; ?| transform="rotate\(-?0 [^"]*"', "", tag)
    tag = re.sub(r' (d|x|y|transform)="([^"]*)"', lambda found: f' {found[1]}="{_rounded(found[2])}"', tag)
    tag = re.sub("|".join(_NAMED), lambda found: f"var(--{_NAMED[found[0]]}, {found[0]})", tag)
    return tag.replace(INK, "currentColor")


def _rounded(numbers: str) -> str:
    numbers = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), numbers)
    return " ".join(numbers.split())


def png(image: np.ndarray) -> str:
    """An image (height, width, channels: 1, 3 or 4) uint8 as a PNG data URI."""
    pixels = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
