"""The site of the documentation: it builds without a network, asks for nothing from outside and draws every formula."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from support import ROOT
from support.needs import need

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md")) + sorted(DOCS.glob("chapters/*/*.md"))
# What a browser fetches by itself, unlike a link that somebody follows.
FETCHED = re.compile(
    r'<(?:script|img|source|iframe)[^>]+src="(?:https?:)?//[^"]+"|<link[^>]+href="(?:https?:)?//[^"]+"'
)
FETCHED_BY_STYLE = re.compile(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']+")


def fetched(text, suffix):
    return (FETCHED if suffix == ".html" else FETCHED_BY_STYLE).findall(text)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    need(importlib.util.find_spec("sphinx") is not None, "Sphinx")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", DOCS, folder]
    # A proxy that nobody serves: whatever asks the network fails.
    done = subprocess.run(
        [*command, "-d", folder / "doctrees"], capture_output=True, text=True, timeout=600,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site_and_every_link_leads_somewhere(site):
    for path in PAGES:
        page = (site / path.relative_to(DOCS)).with_suffix(".html")
        assert page.is_file(), path
        for target in re.findall(r'(?:href|src)="([^"#:?]+)(?:[?#][^"]*)?"', page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{path}: {target}"


def test_nothing_is_fetched_from_outside(site):
    files = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 12
    assert [(path.name, found) for path in files if (found := fetched(path.read_text("utf-8"), path.suffix))] == []


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<script async src="https://cdn.example/katex.js"></script>', ".html"),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', ".html"),
        ('<img alt="x" src="https://a.example/x.png">', ".html"),
        ("@font-face { src: url(https://fonts.example/a.woff2) }", ".css"),
    ],
)
def test_what_would_be_fetched_is_seen(text, suffix):
    assert fetched(text, suffix)
    assert not fetched('<a href="https://a.example">A</a> <img src="../a.svg">', ".html")


def formulas_of(page):
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", page, flags=re.DOTALL)
    return re.findall(r"\$\$?[^$]+\$\$?", prose)


def test_every_formula_is_drawn(site):
    n = 0
    for path in DOCS.glob("chapters/*/*.md"):
        wanted = formulas_of(path.read_text("utf-8"))
        page = (site / path.relative_to(DOCS)).with_suffix(".html").read_text("utf-8")
        drawn = re.findall(r"<math.*?</math>", page, re.DOTALL)
        assert len(drawn) == len(wanted), path
        assert [formula for formula in drawn if "\\" in formula or "$" in formula] == []
        n += len(drawn)
    assert n > 300
