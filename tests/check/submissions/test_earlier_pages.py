"""Pages of the version before go on being held against their runs; the script of one of today's must be ours."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lockstep import store
from lockstep.check import submissions
from lockstep.check.submissions import markup
from lockstep.report import write_report
from support import EARLIER

PAGES = Path(__file__).parent / "earlier"


@pytest.fixture
def handed_in(tmp_path) -> Path:
    return Path(shutil.copytree(EARLIER / "finished", tmp_path / "finished"))


@pytest.mark.parametrize("language", ["en", "ru"])
def test_a_page_of_the_version_before_fits_its_runs(handed_in, language):
    for ending in ("html", "json"):
        shutil.copy(PAGES / f"report-{language}.{ending}", handed_in / f"report.{ending}")
    row = submissions.verify(handed_in)
    assert (row["problems"], row["report"]) == ([], "identical")


def test_a_number_that_was_changed_in_such_a_page_is_found(handed_in):
    text = (PAGES / "report-en.html").read_text(encoding="utf-8")
    assert "16.7 %" in text
    (handed_in / "report.html").write_text(text.replace("16.7 %", "96.7 %"), encoding="utf-8")
    row = submissions.verify(handed_in)
    assert row["report"] == "differs"
    assert row["problems"]


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[Path, str]:
    """A page of today of the same run, and its text."""
    folder = Path(shutil.copytree(EARLIER / "finished", tmp_path_factory.mktemp("today") / "finished"))
    path = write_report(store.find_runs([folder]), folder / "report.html")
    return folder, path.read_text(encoding="utf-8")


def test_a_page_of_today_is_identical(page):
    assert submissions.verify(page[0])["report"] == "identical"


FORGED = {
    "a digit in the script": ('rootMargin: "400px"', 'rootMargin: "401px"'),
    "a decimal of the script": ("+ 0.01", "+ 0.02"),
    "a further script": ("</main>", "<script>document.title = 1</script></main>"),
    "a policy that lets anything run": ("script-src 'sha256-", "script-src 'unsafe-inline' 'sha256-"),
    "a word that the script says": ('"next": "Next"', '"next": "Nxt"'),
    "a bar": ("--high: ", "--high: 1"),
    "a probability under an image": ('data-values=".', 'data-values="9.'),
    "the name of a line": ('data-series="numpy|test"', 'data-series="jax|test"'),
    "the ends of an axis": ('data-axes="', 'data-axes="1'),
}


@pytest.mark.parametrize("forged", FORGED)
def test_what_was_changed_in_a_page_of_today_is_found(page, forged):
    text = page[1]
    other = text.replace(*FORGED[forged], 1)
    assert other != text
    assert markup.other_scripts(other, text) or markup.added(other, text)
    assert not markup.other_scripts(text, text)
    assert not markup.added(text, text)


def test_a_page_with_another_script_does_not_fit(page):
    folder, text = page
    path = folder / "report.html"
    path.write_text(text.replace(*FORGED["a decimal of the script"]), encoding="utf-8")
    row = submissions.verify(folder)
    path.write_text(text, encoding="utf-8")
    assert row["report"] == "differs"
    assert "its script, or what it lets run, is not the one that Lockstep writes" in "".join(row["problems"])


def test_scripts_are_compared_to_the_last_sign():
    one = "<meta http-equiv='x'><script>let a = 0.5</script>"
    assert not markup.other_scripts(one, one)
    assert markup.other_scripts(one, one.replace("0.5", "0.4"))
    assert markup.other_scripts(one, one.replace("'x'", "'y'"))
