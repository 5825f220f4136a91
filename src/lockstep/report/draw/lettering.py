"""Names as a figure's labels: short, on one line, and never two of them alike.

A figure in a page has the browser's fonts; a PNG has the one font that matplotlib brings, since the same runs must
give the same bytes on every machine. A name with signs that this font lacks (猫) would be the same empty box as any
other. So it carries its number, as does a name that would look like another once it is cut; in a PNG the number stands
alone, and a sentence below says why.
"""

from __future__ import annotations

import contextlib
import functools
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lockstep.report.draw import canvas  # noqa: F401  # first: it imports matplotlib, whatever the environment says of it

# isort: split
import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import Bbox

from lockstep.language import _, visible

SENTENCE_SIZE = 6.5  # points
_LINE, _SIGN = 0.11, 0.05  # inches that one line is high and one sign is wide at that size


def short(text: object, limit: int = 18) -> str:
    """A label for a figure: one line, control characters as escapes, at most `limit` characters."""
    shown = visible(str(text), keep="")
    line = "".join(" " if unicodedata.category(sign).startswith(("C", "Z")) else sign for sign in shown).strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def named(names: Sequence[object], limit: int = 18) -> list[str]:
    """A label for each of these names, with its number from 0 where signs or differences would be lost.

    >>> named(["cat", "猫", "犬"])
    ['cat', '1 猫', '2 犬']
    """
    labels = [short(name, limit) for name in names]
    alike = Counter(labels)
    return [
        short(f"{number} {label}", limit) if alike[label] > 1 or not label or lacking(label) else label
        for number, label in enumerate(labels)
    ]


def by_name(names: Iterable[str], limit: int = 18) -> dict[str, str]:
    """The labels of `named` for names each of which may come several times."""
    distinct = list(dict.fromkeys(names))
    return dict(zip(distinct, named(distinct, limit), strict=True))


def lacking(text: str) -> set[str]:
    """The signs of a text that the font of a PNG lacks."""
    return {sign for sign in text if not sign.isspace() and ord(sign) not in _signs()}


@functools.cache
def _signs() -> frozenset[int]:
    from matplotlib.font_manager import get_font

    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(get_font(str(path)).get_charmap())


# ------------------------------------------------------------------------------------------------------------ in a PNG


@contextlib.contextmanager
def drawable(figure: Figure) -> Iterator[dict[str, Any]]:
    """Replace texts with signs that the font lacks; yields the arguments by which `savefig` shows the sentence.

    Afterwards the figure has its own texts again.
    """
    with contextlib.ExitStack() as afterwards:
        changed = [_relabel(axis, afterwards) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
        changed += [_reword(text, afterwards) for text in figure.findobj(Text)]
        yield _with_sentence(figure, afterwards) if any(changed) else {}


def _relabel(axis: Any, afterwards: contextlib.ExitStack) -> bool:
    """Reword the labels of an axis' ticks, which are set anew whenever it is drawn."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return False
    before, labels = axis.get_major_formatter(), [text.get_text() for text in axis.get_ticklabels()]
    if not any(map(lacking, labels)):
        return False
    axis.set_ticklabels([_without(label) for label in labels])
    afterwards.callback(axis.set_major_formatter, before)
    return True


def _reword(text: Text, afterwards: contextlib.ExitStack) -> bool:
    before = text.get_text()
    if not lacking(before):
        return False
    text.set_text(_without(before))
    afterwards.callback(text.set_text, before)
    return True


def _without(text: str) -> str:
    gone = lacking(text)
    words = ["".join(sign for sign in word if sign not in gone) for word in text.split(" ")]
    return " ".join(word for word in words if word)


def _with_sentence(figure: Figure, afterwards: contextlib.ExitStack) -> dict[str, Any]:
    width, height = figure.get_size_inches()
    said = _("Where the font of this picture lacks the signs of a name, its number stands for it.")
    lines = textwrap.wrap(said, max(20, int(width / _SIGN)))
    room = _LINE * (len(lines) + 1)
    sentence = figure.text(
        0.04 / width, -0.03 / height, "\n".join(lines), fontsize=SENTENCE_SIZE, va="top", linespacing=1.15
    )
    afterwards.callback(sentence.remove)
    return {"bbox_inches": Bbox.from_extents(0, -room, width, height)}
