"""A study as a notebook, written once its twin on scikit-learn's digits has been executed from end to end.

The twin is made by the same functions of the same study, as a first look: one seed, few epochs, small images. What it
puts out is thrown away.
"""

from __future__ import annotations

import importlib.util
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lockstep import backends
from lockstep import study as studies
from lockstep.data import load
from lockstep.errors import LockstepError
from lockstep.exchange import notebooks, scripts
from lockstep.exchange.notebooks import Contents
from lockstep.files import disk
from lockstep.language import _, joined, later, spoken
from lockstep.proof import script
from lockstep.spec import Study
from lockstep.spec.toml import resolved_toml
from lockstep.training import inputs

SECONDS = 1800  # that a cell may take
TARGETS = {"torch": "torch", "tensorflow": "keras", "jax": "jax", "numpy": "numpy"}  # backend → its script
NEEDED = ("nbformat", "nbclient", "ipykernel")
Tell = Callable[[str], None]


def export(path: Path, out: Path | None = None, force: bool = False, tell: Tell = lambda what: None) -> Path:
    """Write the study of a file as a notebook, in the language in use.

    Raises LockstepError: LS-401 (what executes it is not installed, or no framework of the study's), LS-200 (the file
    exists), LS-403 (a cell of the twin failed), and as `load_study` and `scripts.write`.
    """
    if absent := [module for module in NEEDED if importlib.util.find_spec(module) is None]:
        reason = later("{modules} not installed", modules=joined(absent, later(" and ")))
        raise LockstepError("LS-401", reason, where="--notebook", hint="pip install 'lockstep-nn[notebook]'")
    asked = studies.load_study(path)
    target = out or Path(f"{asked.name}.ipynb")
    script.assert_free(target, force)
    text = notebooks.as_text(list(notebooks.cells(contents(asked, path))))
    first = studies.load_study(path, quick=True)
    twin = list(notebooks.cells(contents(first, path)))
    with tempfile.TemporaryDirectory(prefix="lockstep-") as place:
        tell(later("{file}: executing it on digits, {n} cells", file=target.name, n=len(twin)))
        execute(notebooks.as_text(twin), Path(place), target.name)
    hint = later("choose another file: --out")
    with disk.new_file(target, hint) as part, disk.writing(target, hint):
        part.write_text(text, encoding="utf-8")
    return target


def contents(asked: Study, path: Path) -> Contents:
    """What the notebook of a study is made of: its first network's scripts for two frameworks that are here."""
    here = [name for name in asked.backends if backends.why_missing(name) is None]
    chosen = sorted(here, key=list(TARGETS).index)[:2]
    if not chosen:
        message = later("none of the study's frameworks is installed: {names}", names=", ".join(asked.backends))
        raise LockstepError("LS-401", message, where=str(path), hint="pip install 'lockstep-nn[torch]'")
    found, (first, *_others) = {}, asked.runs()
    loaded = load(first.dataset, offline=True)
    subject = script.Subject(Path(asked.name), first, inputs.Examples(loaded, first))
    for name in chosen:
        found[TARGETS[name]] = scripts.write(subject.given, TARGETS[name], f"{first.network_name}_{TARGETS[name]}.py")
    title = _(str(asked.question)) if asked.question else asked.name
    return Contents(
        title, resolved_toml(asked), 'lockstep.load_study("study.toml")', chapter(asked.name), tuple(here), found,
        first.network_name, first.dataset,
    )  # fmt: skip


def chapter(name: str) -> str:
    """The text of the chapter of a study of this name, in the language in use; "" where there is none."""
    place = Path(studies.__file__).parents[1] / "chapters" / spoken() / f"{name}.md"
    return place.read_text(encoding="utf-8") if place.is_file() else ""


def execute(text: str, place: Path, name: str) -> Any:
    """Run every cell in a folder; raises LockstepError (LS-403) with what the first one says that fails."""
    import nbclient
    import nbformat

    node = nbformat.reads(text, as_version=4)
    nbformat.validate(node)
    options: dict[str, Any] = {"timeout": SECONDS, "extra_arguments": ["--log-level=ERROR"]}
    client = nbclient.NotebookClient(node, resources={"metadata": {"path": str(place)}}, **options)
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        message = later("a cell fails: {what}", what=str(error).strip()[-600:])
        raise LockstepError("LS-403", message, where=name, hint=later("lockstep run says more")) from None
    if failed := told(node):
        message = later("a cell fails: {what}", what=" | ".join(failed[:3]))
        raise LockstepError("LS-403", message, where=name, hint=later("lockstep run says more"))
    return node


def told(node: Any) -> list[str]:
    """What commands within cells say of errors, and of scripts that are not equal: a cell does not fail by them."""
    outputs = (output for cell in node.cells for output in cell.get("outputs", ()))
    texts = (re.sub(r"\x1b\[[0-9;]*m", "", str(output.get("text", ""))) for output in outputs)  # without colours
    lines = (line.strip() for text in texts for line in text.splitlines())
    return [line for line in lines if re.search(r"\bLS-\d{3}\b|^DIVERGED", line)]
