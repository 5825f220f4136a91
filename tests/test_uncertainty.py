"""Intervals and tests: what SciPy says, what simulations say, and that a wrong formula would not get through."""

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from lockstep import randomness, uncertainty

FIRST = [0.981, 0.979, 0.984, 0.975, 0.9812]
SECOND = [0.975, 0.978, 0.979, 0.9761, 0.974]
LOPSIDED = np.array([0.1, 0.2, 0.15, 3.1, 0.4, 0.33, 0.27, 1.9, 0.05, 0.61, 0.3])

# ----------------------------------------------------------------------------------------------------------- oracles


def test_the_mean_interval_is_students():
    found = uncertainty.mean_interval(FIRST)
    wanted = stats.t.interval(0.95, len(FIRST) - 1, np.mean(FIRST), stats.sem(FIRST))
    assert (found.low, found.high) == pytest.approx(wanted, rel=1e-12)
    assert found.half == pytest.approx((wanted[1] - wanted[0]) / 2)
    assert found.n == 5


def test_the_paired_difference_is_scipys():
    found, wanted = uncertainty.paired_difference(FIRST, SECOND), stats.ttest_rel(FIRST, SECOND)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-9)


def test_welchs_difference_is_scipys():
    found, wanted = uncertainty.welch_difference(FIRST, SECOND[:3]), stats.ttest_ind(FIRST, SECOND[:3], equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()), rel=1e-9)
    assert (found.n, found.is_paired) == (3, False)


@pytest.mark.parametrize(("hits", "n"), [(0, 7), (7, 7), (9905, 10_000), (321, 360), (1, 2)])
def test_wilsons_interval_is_scipys(hits, n):
    wanted = stats.binomtest(hits, n).proportion_ci(method="wilson")
    found = uncertainty.wilson(hits, n)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (0, 5), (3, 11), (8, 8), (40, 21), (1, 0)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(b, c):
    first = np.array([True] * b + [False] * c + [True] * 31 + [False] * 3)
    second = np.array([False] * b + [True] * c + [True] * 31 + [False] * 3)
    found = uncertainty.mcnemar(first, second)
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p == pytest.approx(stats.binomtest(b, b + c).pvalue if b + c else 1.0, rel=1e-9)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_the_bootstrap_is_scipys_but_for_its_random_numbers(method):
    found = uncertainty.bootstrap_mean(LOPSIDED, method=method, n_resamples=20_000)
    wanted = stats.bootstrap((LOPSIDED,), np.mean, method=method, n_resamples=20_000, rng=5).confidence_interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.03)


def test_bca_is_not_percentile_where_values_are_lopsided():
    """The twin of the test above: it tells the two methods apart."""
    bca, percentile = (
        uncertainty.bootstrap_mean(LOPSIDED, method=m, n_resamples=20_000) for m in ("bca", "percentile")
    )
    assert bca.high - percentile.high > 0.1


def test_a_bootstrap_of_many_rows_is_that_of_each():
    table = np.stack([LOPSIDED, LOPSIDED[::-1] ** 2])
    alone = [uncertainty.bootstrap_mean(row) for row in table]
    assert [(row.low, row.high) for row in uncertainty.bootstrap_means(table)] == [
        (pytest.approx(row.low), pytest.approx(row.high)) for row in alone
    ]


def test_a_bootstrap_is_a_function_of_its_seed():
    one, again = uncertainty.bootstrap_mean(LOPSIDED, 1), uncertainty.bootstrap_mean(LOPSIDED, 1)
    assert one == again
    assert one != uncertainty.bootstrap_mean(LOPSIDED, 2)


def test_memory_does_not_grow_with_resamples(monkeypatch):
    whole = uncertainty.bootstrap_mean(LOPSIDED, n_resamples=4000)
    monkeypatch.setattr(uncertainty, "CHUNK", 11 * 700)
    parts = uncertainty.bootstrap_mean(LOPSIDED, n_resamples=4000)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.08)


def test_the_medians_interval_lies_around_the_median():
    found = uncertainty.bootstrap_median(LOPSIDED)
    wanted = stats.bootstrap((LOPSIDED,), np.median, method="percentile", n_resamples=9999, rng=5).confidence_interval
    assert found.value == 0.3
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.06)
    assert uncertainty.bootstrap_median([1.0, 2.0, 4.0, 3.0]) == uncertainty.Interval(2.5, None, None, 4)


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5], [0.9, 0.8, 0.02], []])
def test_holms_correction_is_the_step_down_one(p_values):
    """Holm 1979 by its definition: the k-th smallest of m is compared with level / (m − k + 1), until one fails."""
    adjusted = uncertainty.holm(p_values)
    for level in np.linspace(0.0011, 0.9991, 211):
        order, seen = np.argsort(p_values, kind="stable"), set()
        for rank, place in enumerate(order):
            if p_values[place] > level / (len(p_values) - rank):
                break
            seen.add(place)
        assert {i for i, p in enumerate(adjusted) if p <= level} == seen


def test_holm_leaves_out_what_was_not_tested():
    assert uncertainty.holm([None, 0.03, None, 0.01]) == [None, 0.03, None, 0.02]


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (0.2, 199), (1.0, 10), (5.0, 3)])
def test_seeds_to_settle_are_those_of_the_tables(effect, seeds):
    """Cohen 1988 and G*Power: a two-sided paired t test at 5 % with 80 % power."""
    assert uncertainty.seeds_to_settle(effect * 0.3, 0.3) == seeds


def test_seeds_to_settle_have_the_power_that_they_promise():
    n = uncertainty.seeds_to_settle(0.6, 1.0)
    power = []
    for m in (n - 1, n):
        limit, shift = stats.t.ppf(0.975, m - 1), 0.6 * m**0.5
        power.append(1 - stats.nct.cdf(limit, m - 1, shift) + stats.nct.cdf(-limit, m - 1, shift))
    assert power[0] < 0.8 <= power[1]


@pytest.mark.parametrize(
    ("difference", "sd", "wanted"), [(0.0, 1.0, None), (0.01, 1.0, None), (1e9, 1.0, 2), (1, 0, 2), (math.nan, 1, None)]
)
def test_seeds_to_settle_have_their_limits(difference, sd, wanted):
    assert uncertainty.seeds_to_settle(difference, sd) == wanted


def test_kappa_is_scikit_learns():
    first = (randomness.uniform(307, 1, "bootstrap") * 7).astype(int) * 3
    second = np.where(randomness.uniform(307, 2, "bootstrap") < 0.7, first, 6)
    same, kappa = uncertainty.agreement(first, second)
    assert same == (first == second).mean()
    assert kappa == pytest.approx(cohen_kappa_score(first, second), rel=1e-12)
    assert uncertainty.agreement(np.ones(5), np.ones(5)) == (1.0, None)


# ------------------------------------------------------------------------------------------------------- simulations

TRIALS = 2000


def normals(n, position):
    return randomness.normal(TRIALS * n, 7, "bootstrap", position).reshape(TRIALS, n)


def covered(intervals, truth) -> float:
    return sum(found.low <= truth <= found.high for found in intervals) / TRIALS


def test_students_interval_covers_95_percent():
    assert covered(map(uncertainty.mean_interval, 3 + normals(5, 1)), 3) == pytest.approx(0.95, abs=0.015)


def test_a_normal_interval_would_be_caught():
    """The twin: ± 1.96 standard errors of five values cover 88 %, which the test above does not take."""
    rows = normals(5, 1)
    half = 1.96 * rows.std(axis=1, ddof=1) / math.sqrt(5)
    assert (np.abs(rows.mean(axis=1)) <= half).mean() < 0.95 - 0.015


def test_paired_and_welchs_intervals_cover_95_percent():
    x, y, shared = normals(5, 2), 3 * normals(5, 3), 5 * normals(5, 4)
    paired = (uncertainty.paired_difference(a, b) for a, b in zip(1 + x + shared, x * 0.5 + shared, strict=True))
    assert covered(paired, 1) == pytest.approx(0.95, abs=0.015)
    welch = (uncertainty.welch_difference(a, b) for a, b in zip(1 + x, y, strict=True))
    assert covered(welch, 1) == pytest.approx(0.95, abs=0.02)


def test_taking_pairs_for_strangers_would_be_caught():
    """The twin: Welch's interval of pairs that share most of their spread covers nearly always."""
    x, y, shared = normals(5, 2), normals(5, 3), 5 * normals(5, 4)
    assert covered(map(uncertainty.welch_difference, 1 + x + shared, y + shared), 1) > 0.99


def test_wilsons_interval_covers_95_percent_of_high_accuracies():
    hits = (randomness.uniform(TRIALS * 360, 7, "bootstrap", 5).reshape(TRIALS, 360) < 0.97).sum(axis=1)
    assert covered((uncertainty.wilson(k, 360) for k in hits), 0.97) == pytest.approx(0.95, abs=0.02)
    half = 1.96 * np.sqrt(hits / 360 * (1 - hits / 360) / 360)  # the twin: Wald's interval
    assert (np.abs(hits / 360 - 0.97) <= half).mean() < 0.95 - 0.02


def test_the_bootstrap_covers_about_95_percent():
    rows = (randomness.uniform(400 * 211, 7, "bootstrap", 6).reshape(400, 211) < 0.9).astype(float)
    for method in ("bca", "percentile"):
        found = uncertainty.bootstrap_means(rows, method=method, n_resamples=1000)
        assert sum(row.low <= 0.9 <= row.high for row in found) / 400 == pytest.approx(0.95, abs=0.03)


def test_mcnemars_false_positives_stay_below_five_percent():
    """Two classifiers that are equally good, right on the same images most of the time."""
    shared = randomness.uniform(TRIALS * 300, 7, "bootstrap", 7).reshape(TRIALS, 300) < 0.85
    sides = [randomness.uniform(TRIALS * 300, 7, "bootstrap", n).reshape(TRIALS, 300) < 0.95 for n in (8, 9)]
    p = np.array([uncertainty.mcnemar(*pair).p for pair in zip(shared & sides[0], shared & sides[1], strict=True)])
    assert 0.01 < (p <= 0.05).mean() <= 0.05
    one_sided = p / 2  # the twin: a one-sided p taken for two-sided
    assert (one_sided <= 0.05).mean() > 0.05


def test_many_comparisons_without_holm_see_what_is_not_there():
    p = np.array([uncertainty.paired_difference(row, np.zeros(4)).p for row in normals(4, 10)]).reshape(-1, 10)
    assert np.mean([min(uncertainty.holm(row)) <= 0.05 for row in p.tolist()]) <= 0.08  # 200 families: 5 % ± 3
    assert (p.min(axis=1) <= 0.05).mean() > 0.3


# ----------------------------------------------------------------------------------------------------------- borders


def test_one_value_has_no_interval():
    assert uncertainty.mean_interval([0.9]) == uncertainty.Interval(0.9, None, None, 1)
    assert uncertainty.paired_difference([0.9], [0.8]).p is None
    assert uncertainty.welch_difference([0.9], [0.8, 0.7]).p is None
    assert uncertainty.mean_interval([0.9]).half is None


def test_equal_pairs_have_no_difference():
    found = uncertainty.paired_difference(FIRST, FIRST)
    assert (found.value, found.p, found.low) == (0.0, 1.0, None)


def test_differences_that_are_all_alike_have_no_interval():
    """0.9 − 0.89 and 0.8 − 0.79 differ by rounding alone, of which no p of 10⁻¹⁵ may be made."""
    found = uncertainty.paired_difference([0.9, 0.8, 0.7], [0.89, 0.79, 0.69])
    assert (found.p, found.low, found.sd) == (None, None, 0.0)
    assert found.value == pytest.approx(0.01)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [[1.0]], [math.inf]])
def test_what_is_no_list_of_numbers_is_an_error(values):
    with pytest.raises(ValueError, match="finite"):
        uncertainty.mean_interval(values)


def test_other_wrong_arguments_are_errors():
    with pytest.raises(ValueError, match="no pairs"):
        uncertainty.paired_difference([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="not to the same images"):
        uncertainty.mcnemar(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="not to the same images"):
        uncertainty.agreement(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="no share"):
        uncertainty.wilson(3, 2)
    with pytest.raises(ValueError, match="no method"):
        uncertainty.bootstrap_mean([1.0, 2.0], method="basic")
    with pytest.raises(ValueError, match="finite"):
        uncertainty.bootstrap_means(np.array([[math.nan]]))
