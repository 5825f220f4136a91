"""What people read can be read in another language: sentences from catalogs, numbers as that language writes them."""

from __future__ import annotations

import os
import runpy
import shutil
from datetime import datetime
from gettext import GNUTranslations
from pathlib import Path

import pytest
from babel import Locale
from babel.dates import format_datetime
from hypothesis import given
from hypothesis import strategies as st

from lockstep import language
from lockstep.language import _, n_
from support import ROOT, catalogs


def test_english_is_what_the_code_says():
    assert _("report: {path}", path="a.html") == "report: a.html"
    assert [n_("{n} run", "{n} runs", n) for n in (1, 2)] == ["1 run", "2 runs"]
    assert language.number("1,234.5") == "1,234.5"


def test_russian_has_its_sentences_its_three_plurals_and_its_comma():
    with language.speaking("ru"):
        assert _("report: {path}", path="a.html") == "отчёт: a.html"
        assert [n_("{n} run", "{n} runs", n) for n in (1, 3, 5, 11, 21)] == [
            "1 запуск", "3 запуска", "5 запусков", "11 запусков", "21 запуск"
        ]  # fmt: skip
        assert language.number("1,234.5") == "1\u00a0234,5"
        assert _("nobody translated {this}", this="it") == "nobody translated it"
    assert language.spoken() == "en"


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="no language 'tlh'"):
        language.use("tlh")


HOSTILE = "c\x1b[31mat\x07\x9b2J\u202etac\udc8a\r"
SHOWN = "c\\x1b[31mat\\x07\\x9b2J\\u202etac\\x8a\\x0d"


def test_control_characters_are_shown_as_escapes_wherever_a_text_is_said():
    kept = language.later("no file {name}", name=HOSTILE)
    assert kept == f"no file {HOSTILE}", "what is kept for programs stays as it is"
    assert language.say(kept) == f"no file {SHOWN}"
    assert language.say(HOSTILE) == SHOWN
    assert _("no file {name}", name=HOSTILE) == f"no file {SHOWN}"
    with language.speaking("ru"):
        assert SHOWN in language.say(language.later("report: {path}", path=HOSTILE))
    assert language.visible("два\n\tслова: 猫") == "два\n\tслова: 猫"
    assert language.visible("a\nb", keep="") == "a\\x0ab"


# ---------------------------------------------------------------------------------------- what Babel says of a language

OTHERS = language.LANGUAGES[1:]


@pytest.mark.parametrize("code", OTHERS)
def test_signs_are_those_of_the_tables_of_locales(code):
    signs, locale = language.SIGNS[code], Locale.parse(code)
    assert (signs.group, signs.decimal) == tuple(locale.number_symbols["latn"][key] for key in ("group", "decimal"))
    assert list(signs.months) == [locale.months["format"]["wide"][month] for month in range(1, 13)]


ZONES = st.sampled_from(["", "Z", "+00:00", "+05:30", "-05:00"])


@pytest.mark.parametrize("code", OTHERS)
@given(when=st.datetimes(datetime(1000, 1, 1)), zone=ZONES)
def test_a_moment_is_written_as_babel_writes_it(code, when, zone):
    text = when.isoformat() + zone
    with language.speaking(code):
        assert language.moment(text) == format_datetime(datetime.fromisoformat(text), "long", locale=code)
        assert language.moment("yesterday") == "yesterday"


# ------------------------------------------------------------------------------------------------- compiled catalogs

SETUP = runpy.run_path(str(ROOT / "setup.py"))
LOCALE = SETUP["LOCALE"]


def texts(catalog: Path) -> dict[str, str]:
    """What a compiled catalog holds but for its head, which names the version of Babel."""
    with catalog.open("rb") as file:
        return {key: text for key, text in GNUTranslations(file)._catalog.items() if key}  # type: ignore[attr-defined]


def stale(locale: Path, tmp_path: Path) -> list[str]:
    """The languages whose compiled catalog is not what their .po files say."""
    fresh = tmp_path / "fresh"
    shutil.copytree(locale, fresh, ignore=shutil.ignore_patterns("*.mo"))
    pairs = [(path, locale / path.relative_to(fresh)) for path in SETUP["compile_catalogs"](fresh)]
    return [new.parent.name for new, old in pairs if texts(new) != texts(old)]


def test_compiled_catalogs_say_what_their_sources_say(tmp_path):
    assert {path.name for path in LOCALE.iterdir()} == set(OTHERS)
    assert stale(LOCALE, tmp_path) == []


def test_a_catalog_that_was_not_compiled_anew_is_named_and_then_compiled(tmp_path):
    locale = tmp_path / "locale"
    shutil.copytree(LOCALE, locale)
    po = locale / "ru" / "messages.po"
    po.write_text(po.read_text(encoding="utf-8").replace('msgstr "добавьте его"', 'msgstr "прибавьте его"'), "utf-8")
    assert stale(locale, tmp_path) == ["ru"]
    compiled = po.with_name("lockstep.mo")
    os.utime(compiled, (0, 0))
    assert SETUP["compile_catalogs"](locale) == [compiled]
    assert SETUP["compile_catalogs"](locale) == []
    shutil.rmtree(tmp_path / "fresh")
    assert stale(locale, tmp_path) == []


def test_a_text_with_a_plural_is_in_the_compiled_catalog_with_all_its_forms():
    found = catalogs.held("ru")
    assert [found["{n} run", form] for form in range(3)] == ["{n} запуск", "{n} запуска", "{n} запусков"]
