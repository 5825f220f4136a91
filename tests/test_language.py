"""What people read can be read in another language: sentences from catalogs, numbers as that language writes them."""

from __future__ import annotations

import pytest

from lockstep import language
from lockstep.language import _, n_


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
