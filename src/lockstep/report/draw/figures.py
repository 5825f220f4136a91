"""Every figure of a page as files beside it, SVG and PNG, for the reader's own documents."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lockstep import store
from lockstep.errors import LockstepError
from lockstep.files import disk
from lockstep.report.draw import plots
from lockstep.report.draw.pictures import Mosaic, Sheet
from lockstep.store.documents.figures import FILE, FORMAT, Figures


def folder_of(page: Path) -> Path:
    """report.html → report-figures."""
    return page.with_name(f"{page.stem}-figures")


def write(page: Mapping[str, Any], path: Path) -> Path:
    """Write every figure of a page's plain data into the folder beside the page; returns the folder.

    figures.json says what each shows. Figures of an earlier page that this one has not are removed. Raises
    LockstepError (LS-501, LS-502).
    """
    folder = folder_of(path)
    store.make_folder(folder)
    disk.remove_strays(folder)
    found = {figure.name: figure for figure in every(page)}
    for name in _earlier(folder) - found.keys():
        for ending in ("svg", "png"):
            with contextlib.suppress(OSError):
                (folder / f"{name}.{ending}").unlink()
    for name, figure in found.items():
        drawing, image = plots.alone(figure) if isinstance(figure, plots.Drawing) else figure.files()
        store.write_bytes(folder / f"{name}.svg", drawing, sync_name=False)
        store.write_bytes(folder / f"{name}.png", image, sync_name=False)
    contents = Figures(format=FORMAT, figures={name: figure.label for name, figure in found.items()})
    store.write_json(folder / FILE, contents.document())
    return folder


def every(part: Any) -> Iterator[plots.Drawing | Sheet | Mosaic]:
    """Every figure in plain data, in order."""
    if isinstance(part, plots.Drawing | Sheet | Mosaic):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from every(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from every(value)


def _earlier(folder: Path) -> set[str]:
    """The names of figures that an earlier page wrote here; nothing else is ever removed."""
    try:
        names = Figures.read(folder / FILE).figures
    except LockstepError:
        return set()
    return {name for name in names if Path(name).name == name}
