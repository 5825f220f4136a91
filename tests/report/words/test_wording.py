"""Words that go with numbers: one where two are the same once rounded, no correction of nothing, one minus sign."""

from __future__ import annotations

import re

import pytest

from lockstep import language, store
from lockstep.report import gather
from lockstep.report.sections import comparisons
from lockstep.report.words.answer import best_of_combinations, epoch_span
from lockstep.report.words.quantities import fixed, significant, span
from support.pages import page_of, words
from support.run_folders import fake_run


@pytest.mark.parametrize("speech", language.LANGUAGES)
def test_one_number_is_said_where_two_are_the_same_once_rounded(speech):
    with language.speaking(speech):
        for one, two in (
            (span("94.88", "94.88"), span("94.88", "94.89")),
            (best_of_combinations("94.88 %", "a", "94.88 %", "b"), best_of_combinations("1 %", "a", "94.88 %", "b")),
            (epoch_span("mlp", {"a": 0.4, "b": 0.4001}, "a", "b"), epoch_span("mlp", {"a": 0.3, "b": 0.4}, "a", "b")),
        ):
            assert len(re.findall(r"\d[\d.,]*", one)) == 1, one
            assert len(re.findall(r"\d[\d.,]*", two)) == 2, two


def test_backends_whose_means_are_equal_have_one(tmp_path):
    for backend in ("numpy", "torch"):
        for seed, accuracy in enumerate((0.9, 0.95)):
            fake_run(tmp_path, backend=backend, seed=seed, accuracy=accuracy)
    assert "; each backend’s mean over seeds is 92.4 %." in words(page_of(tmp_path))


@pytest.mark.parametrize("speech", language.LANGUAGES)
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_nothing_is_corrected_for_one_comparison_or_none(n, speech):
    with language.speaking(speech):
        said = comparisons.tests_caption(n)
    assert ("Holm" in said or "Холм" in said) == (n > 1)
    if speech == "ru" and n > 1:
        form = "сравнения" if n < 5 else "сравнений"
        assert f"с поправкой Холма на {n} {form} этой таблицы" in said.replace("\u00a0", " ")


def test_the_title_of_p_values_says_holm_where_there_are_several(tmp_path):
    """Two networks over two seeds are one comparison, and two where they are compared in two backends."""
    found = []
    for backend in ("numpy", "torch"):
        for network in ("mlp", "cnn"):
            for seed in (0, 1):
                accuracy = 0.85 + 0.02 * seed + 0.05 * (network == "cnn")
                fake_run(tmp_path, network, backend, seed, accuracy=accuracy)
        table = gather(store.find_runs(tmp_path))["comparisons"]["pairs"][0]["table"]
        found.append([title for title, _side in table.columns if re.match("p$|p,|McNemar", title)])
    assert found == [["p", "McNemar p"], ["p, Holm", "McNemar p, Holm"]]


@pytest.mark.parametrize("speech", language.LANGUAGES)
def test_a_page_has_one_minus_sign(speech):
    with language.speaking(speech):
        for said in (fixed(-0.53, 2), significant(-0.054), significant(-3.4e-5), fixed(-1234.5, 1)):
            assert "-" not in said
            assert said.startswith("−")
