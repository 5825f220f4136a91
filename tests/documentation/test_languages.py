"""The chapters say the same in English and in Russian: as many headings, the same topics, formulas and code."""

from __future__ import annotations

import re

import pytest

from support import ROOT

CHAPTERS = ROOT / "docs" / "chapters"
ENGLISH = sorted((CHAPTERS / "en").glob("*.md"))


def read(path):
    return path.read_text(encoding="utf-8")


def shape_of(page):
    """What must be the same in both languages: levels of headings, topics, formulas, code, marks, tables, pictures."""
    code = re.findall(r"```.*?```", page, re.DOTALL)
    prose = re.sub(r"```.*?```", "", page, flags=re.DOTALL)
    written = re.sub(r"<!-- results.*?end -->", "", prose, flags=re.DOTALL)
    return {
        "headings": [len(level) for level in re.findall(r"^(#+) ", prose, re.MULTILINE)],
        "formulas": re.findall(r"\$\$?[^$]+\$\$?", prose.replace(r"\mathrm{или}", r"\mathrm{or}")),
        "code": code,
        "commands": re.findall(r"^    (\S.*)$", prose, re.MULTILINE),
        "marks": re.findall(r"<!-- (?:source|lines|results): .*? -->", prose),
        "words in code": sorted(set(re.findall(r"`([^`\n]+)`", written))),
        "pictures": re.findall(r"\]\((\S+\.svg)\)", prose),
        "rows": len(re.findall(r"^\|", prose, re.MULTILINE)),
    }  # fmt: skip


def names_of(page):
    return [set(names.split()) for names in re.findall(r"<!-- topic: (.+?) -->", page)]


def test_both_languages_have_the_same_chapters():
    assert [path.name for path in ENGLISH] == sorted(path.name for path in (CHAPTERS / "ru").glob("*.md"))
    studies = {path.stem for path in (ROOT / "studies").glob("*.toml")}
    assert {path.stem for path in ENGLISH} <= studies | {"port-a-model"}, (
        "a chapter belongs to a study, or to a command"
    )


@pytest.mark.parametrize("path", ENGLISH, ids=lambda path: path.stem)
def test_both_languages_say_the_same(path):
    english, russian = read(path), read(CHAPTERS / "ru" / path.name)
    mine, other = shape_of(english), shape_of(russian)
    for what in mine:
        assert mine[what] == other[what], what
    assert len(re.findall("[а-яё]", russian)) > 10 * len(re.findall("[а-яё]", english))
    for here, there in zip(names_of(english), names_of(russian), strict=True):
        assert here <= there


def test_a_formula_or_heading_that_one_language_lacks_is_found():
    page = read(CHAPTERS / "en/lab-from-scratch.md")
    assert shape_of(page) != shape_of(page.replace("$dw = x^\\top", "$dw = x", 1))
    assert shape_of(page) != shape_of(page.replace("\n## ", "\n### ", 1))
    assert shape_of(page) != shape_of(page.replace("[-0.95 ,", "[-0.59 ,", 1))
