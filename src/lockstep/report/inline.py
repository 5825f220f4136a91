"""Runs inside a notebook: what a report says first, its table and its curves, as the value of a cell."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from typing import Any

from lockstep import store
from lockstep.language import _
from lockstep.report.draw import figures, plots
from lockstep.report.page import gather

MOST = 8  # figures


class Shown:
    """What `show` gives: in a notebook a table and figures, printed the sentences and the table."""

    def __init__(self, records: store.Records, page: dict[str, Any]) -> None:
        self.records = records
        self.sentences: list[str] = [
            page["answer"],
            *(sentence for sentence in page["conclusions"] if sentence not in page["answer"]),
        ]
        parts = ("overviews", "curves", "confusion")
        self.figures = [figure for part in parts for figure in figures.every(page[part])]

    def __repr__(self) -> str:
        return "\n".join([*self.sentences, "", repr(self.records)])

    def _repr_html_(self) -> str:
        said = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self.sentences)
        drawn = "".join(_image(figure) for figure in self.figures[:MOST])
        left = len(self.figures) - MOST
        told = html.escape(_("more figures in the report: {n}", n=left))
        more = f"<p>{told}</p>" if left > 0 else ""
        return f"{said}{self.records._repr_html_()}{drawn}{more}"


def _image(figure: Any) -> str:
    _drawing, picture = plots.alone(figure) if isinstance(figure, plots.Drawing) else figure.files()
    data = base64.b64encode(picture).decode("ascii")
    style = "width: 560px; max-width: 100%; background: white"
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(figure.label, quote=True)}" style="{style}">'


def show(records: store.Record | Iterable[store.Record]) -> Shown:
    """What these runs say, as a notebook shows it: the answer to their question, their table, curves and confusions.

    Raises LockstepError (LS-204) for what are no runs, (LS-505) where one of them is damaged.
    """
    found = store.Records(store.given(records))
    return Shown(found, gather(found))
