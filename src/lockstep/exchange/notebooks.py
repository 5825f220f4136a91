"""A study as a notebook: text, the study, native code of two frameworks, runs, comparison, proof, conclusion.

Cells are plain pairs (kind, text) here; `document` makes the file's content of them, outputs stripped, as nbformat 4
describes it. The chapters' text is that of the package; links and pictures of its pages lead nowhere from a notebook.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from lockstep.language import _

TITLES = {"torch": "PyTorch", "keras": "Keras", "jax": "JAX", "numpy": "NumPy"}
PACKAGES = {"torch": "torch", "tensorflow": "tensorflow", "jax": "jax optax", "numpy": ""}
INSTALL = """# {what}
import importlib.util
import subprocess
import sys

wanted = {wanted}
missing = [package for module, package in wanted.items() if importlib.util.find_spec(module) is None]
if missing:
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *missing], check=True)

import importlib.metadata

import lockstep

print("Python", sys.version.split()[0], "lockstep", lockstep.__version__)
for package in ("numpy", "torch", "tensorflow", "tensorflow-cpu", "keras", "jax"):
    try:
        print(package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        pass"""


class Cell(NamedTuple):
    """A cell: "markdown" or "code", and its text."""

    kind: str
    text: str


class Contents(NamedTuple):
    """What a notebook is made of.

    `study` is the text of the study's file, `load` the call that reads it; `chapter` the text of its chapter, or "";
    `scripts`: target → the script of one network, `data` what stands behind each when it is run; `network` and
    `dataset` are those of the scripts.
    """

    title: str
    study: str
    load: str
    chapter: str
    backends: tuple[str, ...]
    scripts: Mapping[str, str]
    network: str
    dataset: str


def cells(given: Contents) -> Iterator[Cell]:
    """The notebook from top to bottom, in the language in use."""
    yield Cell("markdown", f"# {given.title}")
    wanted = {"lockstep": "lockstep-nn"} | {
        module: module for name in given.backends for module in PACKAGES[name].split()
    }
    if given.dataset == "digits":
        wanted["sklearn"] = "scikit-learn"
    yield Cell("code", INSTALL.format(what=_("what is missing is installed, versions are printed"), wanted=wanted))
    for part in sections(given.chapter):
        yield Cell("markdown", part)
    yield Cell("markdown", _headed(_("The study"), _("All that is trained, in one file.")))
    yield Cell("code", f"%%writefile study.toml\n{given.study.strip()}")
    yield Cell("code", f"study = {given.load}\n!{{sys.executable}} -m lockstep show study.toml")
    names = ", ".join(TITLES[name] for name in given.scripts)
    said = _("Each file needs no Lockstep and takes the same steps.")
    yield Cell("markdown", _headed(_("The same network in {names}", names=names), said))
    for target, text in given.scripts.items():
        yield Cell("markdown", f"### {TITLES[target]}")
        yield Cell("code", f"%%writefile {given.network}_{target}.py\n{text.strip()}")
    yield Cell("markdown", _headed(_("Training")))
    yield Cell("code", "records = lockstep.run_study(study)\nrecords")
    yield Cell("markdown", _headed(_("Comparison")))
    yield Cell("code", "lockstep.show(records)")
    said = _("The backends are proven, and the two files judged by a run.")
    yield Cell("markdown", _headed(_("Is it the same network?"), said))
    yield Cell("code", 'proof = lockstep.prove(study)\nprint(proof["verdict"], "·", proof["claim"])')
    judged = f"(run,) = [record.folder for record in records if record.network == {given.network!r}][:1]\n"
    judged += "\n".join(
        f"!{{sys.executable}} -m lockstep prove --script {given.network}_{target}.py {{run}}"
        for target in given.scripts
    )
    yield Cell("code", judged)
    yield Cell("markdown", _headed(_("Conclusion")))
    yield Cell("code", 'for sentence in lockstep.compare(records)["conclusions"]:\n    print("-", sentence)')


def _headed(title: str, text: str = "") -> str:
    return f"## {title}\n\n{text}".strip()


def sections(chapter: str) -> Iterator[str]:
    """A chapter's parts, each a cell, without what only its page has."""
    text = re.sub(r"<!--.*?-->\n?", "", chapter, flags=re.DOTALL)
    text = re.sub(r"^!\[.*?\]\(.*?\)\n?", "", text, flags=re.MULTILINE)
    text = re.sub(r"(?<!!)\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)
    text = re.sub(r"^# (.*)$", r"## \1", text, count=1, flags=re.MULTILINE)
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    yield from (part.strip() for part in parts if part.strip())


def document(found: list[Cell]) -> dict[str, Any]:
    """The content of the file, which is the same whenever it is made of the same cells."""
    rows: list[dict[str, Any]] = []
    for number, cell in enumerate(found):
        name = hashlib.sha256(f"{number} {cell.text}".encode()).hexdigest()[:8]
        row: dict[str, Any] = {"cell_type": cell.kind, "id": name, "metadata": {}, "source": _lines(cell.text)}
        rows.append(row | ({"execution_count": None, "outputs": []} if cell.kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": rows, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def as_text(found: list[Cell]) -> str:
    """The file's text."""
    return json.dumps(document(found), indent=1, ensure_ascii=False) + "\n"


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)
