"""Rates by group: against the slow jackknife, and how often the interval holds the truth."""

import numpy as np
import pytest

from limbeck.errors import DataError
from limbeck.evaluation.group_rates import group_rate_difference, group_rate_interval


def test_one_system_is_the_jackknife_of_a_ratio():
    rng = np.random.default_rng(0)
    words, errors = rng.integers(50, 300, 9), rng.integers(0, 200, 9)
    whole = errors.sum() / words.sum()
    without = np.array([(errors.sum() - errors[g]) / (words.sum() - words[g]) for g in range(9)])
    variance = 8 / 9 * ((without - whole) ** 2).sum()
    found = group_rate_interval(errors[None], words)
    assert found.estimate == pytest.approx(whole)
    assert (found.high - whole) ** 2 == pytest.approx(2.306004135**2 * variance)  # t of 8 degrees of freedom
    assert found.high - found.estimate == pytest.approx(found.estimate - found.low)


@pytest.mark.parametrize(
    "seeds, of_seeds, of_groups", [(1, 0, 0.08), (2, 0.02, 0.05), (3, 0.03, 0.01), (3, 0.001, 0.05)]
)
@pytest.mark.parametrize("groups", [5, 12])
def test_the_interval_covers_what_it_says(seeds, of_seeds, of_groups, groups):
    """Trainings and groups are drawn anew each time; words of a group err together, and may be more than it has."""
    rng, repeats, held = np.random.default_rng(groups), 1500, 0
    for _ in range(repeats):
        words = rng.integers(60, 300, groups)
        rates = 0.5 + of_seeds * rng.normal(size=(seeds, 1)) + of_groups * rng.normal(size=(1, groups))
        rates = rates + 0.02 * rng.normal(size=(seeds, groups))
        found = group_rate_interval(rng.poisson(np.maximum(rates, 0) * words), words)
        held += found.low <= 0.5 <= found.high
    assert held / repeats > 0.93


def test_words_alone_would_promise_far_too_much():
    """Why the unit is the speaker: with words as units the interval would be a third as wide."""
    rng = np.random.default_rng(1)
    words = np.full(12, 130)
    errors = rng.binomial(words, np.clip(0.5 + 0.12 * rng.normal(size=12), 0, 1))
    found, rate = group_rate_interval(errors[None], words), errors.sum() / words.sum()
    assert found.high - found.low > 2 * 2 * 1.96 * (rate * (1 - rate) / words.sum()) ** 0.5


def test_differences_are_paired():
    """Two systems that err alike differ by little, however much the groups do."""
    errors, words = np.array([[10, 80, 40, 95, 20, 33, 77]]), np.full(7, 100)
    apart = group_rate_difference(errors, errors - 1, words)
    assert apart.estimate == pytest.approx(0.01) and apart.low > 0.005
    assert group_rate_interval(errors, words).high > 0.7
    several = group_rate_difference(np.concatenate([errors, errors + 2, errors]), errors - 1, words)
    assert (
        several.estimate == pytest.approx(0.01 + 0.02 / 3) and several.low < 0
    )  # the seeds differ, so it may be chance


def test_a_handful_of_groups_proves_nothing():
    errors = np.full((1, 40), 10)
    for groups, shown in ((5, False), (6, True)):
        other = errors - (np.arange(40) < groups) * 9
        found = group_rate_difference(errors, other, np.full(40, 10))
        assert found.estimate > 0 and found.excludes_zero == shown, groups


def test_no_errors_are_no_certainty():
    none = group_rate_interval([[0] * 12], [25] * 12)
    assert none.estimate == none.low == 0 and 1 / 300 < none.high < 3 / 300
    same = group_rate_difference([[9] * 12], [[9] * 12], [25] * 12)
    assert same.high == -same.low == none.high


def test_groups_without_words_count_their_errors_and_are_no_sample():
    with_none = group_rate_interval([[10, 20, 3]], [50, 50, 0])
    assert with_none.estimate == 0.33
    assert np.isinf(group_rate_interval([[10, 3]], [50, 0]).low)


@pytest.mark.parametrize(
    "errors, sizes",
    [([1, 2], [3, 4]), ([[1, 2]], [3]), ([[]], []), ([[1.0, np.nan]], [1, 2]), ([[1, 2]], [0, 0]), ([[1, 2]], [-1, 2])],
)
def test_what_fits_no_rate(errors, sizes):
    with pytest.raises(DataError, match="by seed and group|finite"):
        group_rate_interval(errors, sizes)
    with pytest.raises(DataError, match="by seed and group|finite"):
        group_rate_difference([[1, 2]], errors, sizes)


def test_systems_that_are_no_pairs():
    with pytest.raises(DataError, match="2 and 3 seeds"):
        group_rate_difference(np.ones((2, 4)), np.ones((3, 4)), np.ones(4))
    with pytest.raises(DataError, match="negative"):
        group_rate_interval([[1, -2]], [3, 4])
