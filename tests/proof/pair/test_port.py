"""The chapter on porting a model quotes what comparing examples/port really says, and its mended file is equal."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from lockstep.proof.pair import difference
from lockstep.store import prose
from support.needs import need_backend

ROOT = Path(__file__).parents[3]
PORT = ROOT / "examples" / "port"
CHAPTERS = sorted((ROOT / "docs" / "chapters").glob("*/port-a-model.md"))


def quoted(page: str) -> list[str]:
    (block,) = re.findall(r"<!-- diff: .*? -->\n```\n(.*?)```\n<!-- end -->", page, re.DOTALL)
    return block.splitlines()


def not_said(page: str, told: list[str]) -> list[str]:
    """The lines of a chapter's block that the comparison does not say."""
    return [line for line in quoted(page) if line not in told]


def test_the_chapters_say_what_the_comparison_says():
    need_backend("torch")
    need_backend("tensorflow")
    found = difference.compare(f"{PORT}/torch_net.py:Net", f"{PORT}/keras_net.py:build")
    told = [str(line) for line in prose.lines(found)]
    for path in CHAPTERS:
        page = path.read_text(encoding="utf-8")
        assert not_said(page, told) == [], path
        assert not_said(page.replace("epsilon is 1e-05 | 0.001", "epsilon is 1e-05 | 0.01"), told)
    n = sum(line.startswith("  ") and line[2:3].isdigit() for line in quoted(CHAPTERS[0].read_text(encoding="utf-8")))
    assert n == len(found.findings)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.parent.name)
def test_the_mended_file_leaves_only_what_keras_cannot_do_otherwise(path, tmp_path):
    if path.parent.name != "en":
        other = CHAPTERS[0].read_text(encoding="utf-8")
        assert code_of(path.read_text(encoding="utf-8")) == code_of(other)
        return
    need_backend("torch")
    need_backend("tensorflow")
    shutil.copy(PORT / "torch_net.py", tmp_path)
    head = "import keras\nfrom keras import layers\n\n\n"
    (tmp_path / "keras_net.py").write_text(head + code_of(path.read_text(encoding="utf-8")))
    found = difference.compare(f"{tmp_path}/torch_net.py:Net", f"{tmp_path}/keras_net.py:build")
    assert [finding.meaning for finding in found.findings] == ["variance"]


def code_of(page: str) -> str:
    return re.findall(r"```python\n(def build.*?)```", page, re.DOTALL)[0]
