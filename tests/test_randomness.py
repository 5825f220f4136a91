"""Every random number is a pure function of (seed, purpose, position), pinned, and means what it says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep import data, randomness
from lockstep.spec import Augmentation
from support.digests import digest

SEEDS = st.integers(0, 2**63 - 1)


# ------------------------------------------------------------------------------------------------------------- golden

RAMP = (np.arange(3 * 11 * 13 * 2) * 7 % 251).astype(np.uint8).reshape(3, 11, 13, 2)
GOLDEN = {
    "bits": (lambda seed: randomness.bits(1000, seed, "weights", 3, 1), "83214000a6f8ae06"),
    "uniform": (lambda seed: randomness.uniform(1000, seed, "augmentation", 2), "a02963ce43b509de"),
    "normal": (lambda seed: np.round(randomness.normal(1000, seed, "weights"), 9), "e83890043fb24e0c"),
    "permutation": (lambda seed: randomness.permutation(1437, seed, "order", 4), "99766ee2cf2b58ff"),
    "batch order": (lambda seed: data.batch_order(60_000, seed, 0), "6171cba889d6972f"),
    "split": (lambda seed: np.concatenate(data.split(1437, 0.1, seed)), "0b59b71b5976ef59"),
    "dropout mask": (lambda seed: randomness.dropout_mask((7, 11, 13), 0.3, seed, 37, 2), "c7c336c3b1556e3e"),
    "augmentation": (
        lambda seed: data.augment(RAMP, Augmentation(shift=2, rotation=10.0, flip=True), seed, 3),
        "0097d5212231949f",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_random_numbers_are_the_same_on_every_machine_and_for_ever(name):
    make, wanted = GOLDEN[name]
    assert digest(make(20_260_101)) == wanted


@pytest.mark.parametrize("name", GOLDEN)
def test_another_seed_is_told_from_the_pinned_one(name):
    make, wanted = GOLDEN[name]
    assert digest(make(20_260_102)) != wanted


def test_the_purposes_keep_their_numbers():
    """An index is part of every stream's key: append only."""
    assert randomness.PURPOSES[:6] == ("weights", "order", "split", "augmentation", "dropout", "warm_up")


def test_the_bits_are_those_of_the_published_philox():
    """Philox4x64-10 with key (7, 1) at counter (1, 3, 0, 0), computed here from the paper's rounds.

    NumPy's generator adds one to the counter before it computes a block.
    """
    key, counter, mask = [7, 1], [1, 3, 0, 0], 2**64 - 1
    for _ in range(10):
        high = [a * b for a, b in ((0xD2E7470EE14C6C93, counter[0]), (0xCA5A826395121157, counter[2]))]
        counter = [
            (high[1] >> 64) ^ counter[1] ^ key[0], high[1] & mask, (high[0] >> 64) ^ counter[3] ^ key[1],
            high[0] & mask,
        ]  # fmt: skip
        key = [(key[0] + 0x9E3779B97F4A7C15) & mask, (key[1] + 0xBB67AE8584CAA73B) & mask]
    assert randomness.bits(4, 7, "order", 3).tolist() == counter


# ------------------------------------------------------------------------------------------------------- independence


def shared_words(*streams: np.ndarray) -> int:
    """How many 64-bit words occur in these streams more than once."""
    words = np.concatenate(streams)
    return len(words) - len(np.unique(words))


def test_purposes_seeds_and_positions_share_no_number():
    places = [
        (seed, purpose, *position)
        for seed in (0, 1, 2**63 - 1)
        for purpose in randomness.PURPOSES
        for position in ((), (1,), (0, 1), (0, 0, 1), (1, 1), (2**40, 3))
    ]
    assert len(places) == 18 * len(randomness.PURPOSES)
    assert shared_words(*(randomness.bits(2000, *place) for place in places)) == 0


def test_a_stream_that_is_used_twice_is_seen():
    first = randomness.bits(2000, 0, "weights", 1)
    assert shared_words(first, randomness.bits(2000, 0, "order", 1), randomness.bits(500, 0, "weights", 1)) == 500


@settings(max_examples=50, deadline=None)
@given(SEEDS, st.sampled_from(randomness.PURPOSES), st.lists(st.integers(0, 2**31), max_size=3), st.integers(0, 300))
def test_fewer_numbers_are_the_start_of_more(seed, purpose, position, n):
    few, many = (randomness.bits(count, seed, purpose, *position) for count in (n, 300))
    np.testing.assert_array_equal(few, many[:n], strict=True)


def test_neighbouring_streams_do_not_correlate():
    values = np.stack([randomness.uniform(4000, 0, "dropout", step, layer) for step in range(6) for layer in range(3)])
    correlations = np.corrcoef(values) - np.eye(len(values))
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)
    planted = np.corrcoef(values[0], 0.9 * values[0] + 0.1 * values[1])[0, 1]
    assert planted > 5 / np.sqrt(4000)


def test_a_wrong_purpose_is_refused():
    with pytest.raises(ValueError, match="not in tuple"):
        randomness.bits(1, 0, "wieghts")


# ------------------------------------------------------------------------------------------------------ distributions


def test_uniform_numbers_are_uniform():
    values = randomness.uniform(100_000, 5, "weights")
    assert values.dtype == np.float64
    assert values.min() >= 0 and values.max() < 1  # noqa: PT018
    counts = np.histogram(values, 100, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 150, "χ² with 99 degrees of freedom lies below 150 in 99.9 % of cases"
    assert np.array_equal(values * 2.0**53, np.floor(values * 2.0**53)), "multiples of 2⁻⁵³"


@pytest.mark.parametrize("word", [0, 2**64 - 1])
def test_the_most_extreme_bits_give_finite_numbers(word, monkeypatch):
    monkeypatch.setattr(randomness, "bits", lambda n, *_: np.full(n, word, np.uint64))
    assert 0 <= randomness.uniform(1, 0, "weights")[0] < 1
    assert np.isfinite(randomness.normal(3, 0, "weights")).all()


def test_normal_numbers_are_normal():
    from scipy import stats

    values = randomness.normal(100_000, 5, "weights")
    assert values.shape == (100_000,)
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert stats.kstest(values * 1.02, "norm").pvalue < 0.001, "a spread wrong by 2 % would be seen"


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), SEEDS, st.integers(0, 100))
def test_a_permutation_holds_every_number_once(n, seed, epoch):
    found = randomness.permutation(n, seed, "order", epoch)
    assert found.dtype == np.int64
    assert sorted(found.tolist()) == list(range(n))


def test_every_permutation_is_equally_likely():
    seen = [tuple(randomness.permutation(4, seed, "order", epoch)) for seed in range(60) for epoch in range(40)]
    counts = [seen.count(order) for order in itertools.permutations(range(4))]
    assert sum((count - 100) ** 2 / 100 for count in counts) < 50, "χ² with 23 degrees of freedom"


def test_epochs_have_different_orders():
    orders = {tuple(data.batch_order(50, seed, epoch)) for seed in range(3) for epoch in range(20)}
    assert len(orders) == 60


# ------------------------------------------------------------------------------------------------------------- dropout


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 0.9, 0.999])
def test_dropout_drops_at_its_rate(rate):
    n = 400_000
    kept = randomness.dropout_mask((n,), rate, 3, 17, 1).mean()
    assert abs(kept - (1 - rate)) <= 4 * np.sqrt(rate * (1 - rate) / n) + 1 / 131072


def test_a_rate_that_is_off_by_one_percent_is_seen():
    n = 400_000
    kept = randomness.dropout_mask((n,), 0.505, 3, 17, 1).mean()
    assert abs(kept - 0.5) > 4 * np.sqrt(0.25 / n) + 1 / 131072


def test_dropout_of_nothing_keeps_everything():
    assert randomness.dropout_mask((1000, 7), 0.0, 0, 0, 0).all()


def test_values_are_dropped_independently_of_their_neighbours_rows_and_steps():
    masks = np.stack([randomness.dropout_mask((300, 101), 0.5, 1, step, 2) for step in range(4)]).astype(float) - 0.5
    pairs = {
        "neighbours": (masks[..., 1:] * masks[..., :-1]).mean() * 4,
        "rows": (masks[:, 1:] * masks[:, :-1]).mean() * 4,
        "steps": (masks[1:] * masks[:-1]).mean() * 4,
        "layers": (masks[0] * (randomness.dropout_mask((300, 101), 0.5, 1, 0, 3) - 0.5)).mean() * 4,
    }
    assert max(map(abs, pairs.values())) < 5 / np.sqrt(30_000), pairs


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([(), (3,), (5, 7, 2), (13,)]), SEEDS, st.integers(0, 10**6)
)
def test_a_short_batch_has_the_first_rows_of_a_full_ones_mask(short, more, shape, seed, step):
    full = randomness.dropout_mask((short + more, *shape), 0.4, seed, step, 3)
    part = randomness.dropout_mask((short, *shape), 0.4, seed, step, 3)
    assert part.dtype == bool
    np.testing.assert_array_equal(part, full[:short], strict=True)
