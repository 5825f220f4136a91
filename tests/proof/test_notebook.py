"""A study as a notebook: executed before it is written, its chapter's text without dead links."""

from __future__ import annotations

import json

import pytest

from lockstep import LockstepError
from lockstep import study as studies
from lockstep.exchange import notebooks
from lockstep.language import speaking
from lockstep.proof import notebook
from support.needs import need

STUDY = """question = "Does it learn?"
name = "small"
dataset = "digits"
backends = ["numpy"]
train_size = 64
recipe = {epochs = 1}
networks.net = ["flatten", "dense 10"]
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for module in notebook.NEEDED:
        need(notebook.importlib.util.find_spec(module) is not None, module)
    (tmp_path / "small.toml").write_text(STUDY, encoding="utf-8")
    return tmp_path / "small.toml"


def test_a_notebook_is_executed_and_written_without_outputs(study):
    path = notebook.export(study)
    document = json.loads(path.read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in document["cells"] if cell["cell_type"] == "code")
    assert "lockstep.show(records)" in code
    assert any(text.startswith("%%writefile net_numpy.py\n") for text in code)
    with pytest.raises(LockstepError, match="there is such a file already"):
        notebook.export(study)


def test_a_cell_that_fails_is_told_and_nothing_is_written(study, monkeypatch):
    cells = notebooks.cells
    monkeypatch.setattr(
        notebooks, "cells", lambda given: [*list(cells(given))[:2], notebooks.Cell("code", "print(1 / 0)")]
    )
    with pytest.raises(LockstepError, match="ZeroDivisionError") as raised:
        notebook.export(study)
    assert raised.value.code == "LS-403"
    assert not list(study.parent.glob("*.ipynb"))


def test_an_error_of_a_command_within_a_cell_is_told_too(study, monkeypatch):
    monkeypatch.setattr(
        notebooks,
        "cells",
        lambda given: [notebooks.Cell("code", "import sys\n!{sys.executable} -m lockstep show no.toml")],
    )
    with pytest.raises(LockstepError, match="LS-201"):
        notebook.export(study)


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_chapter_s_text_stands_in_the_notebook_without_links_into_its_pages(language):
    with speaking(language):
        parts = list(notebooks.sections(notebook.chapter("lab-frameworks")))
    assert len(parts) > 4
    assert parts[0].startswith("## ")
    assert not any("](../" in part or "<!--" in part or "](lab-" in part for part in parts)


def test_what_is_missing_is_named(study, monkeypatch):
    monkeypatch.setattr(notebook.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LockstepError, match="nbclient and ipykernel not installed") as raised:
        notebook.export(study)
    assert raised.value.code == "LS-401"
    monkeypatch.undo()
    monkeypatch.setattr(notebook.backends, "why_missing", lambda name: "not there")
    with pytest.raises(LockstepError, match="none of the study's frameworks is installed: numpy"):
        notebook.contents(studies.load_study(study), study)
