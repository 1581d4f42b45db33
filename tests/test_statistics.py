"""Statistics against scipy, exact fractions, a slow bootstrap and repeated experiments."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from limbeck.errors import DataError
from limbeck.statistics import (
    Interval,
    bootstrap_difference,
    mcnemar,
    mean_interval,
)


def pair(only_a, only_b, both=3, neither=50):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (0, 6), (5, 5), (10, 23), (81, 30), (700, 655)])
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    test = mcnemar(*pair(only_a, only_b))
    assert (test.only_a, test.only_b) == (only_a, only_b)
    count = only_a + only_b
    expected = stats.binomtest(only_a, count, 0.5).pvalue if count else 1.0
    assert test.p_value == pytest.approx(expected, rel=1e-9)
    tail = sum(math.comb(count, i) for i in range(min(only_a, only_b) + 1))
    assert test.p_value == pytest.approx(float(min(Fraction(1), Fraction(2 * tail, 2**count))), rel=1e-9)


def test_mcnemar_does_not_depend_on_the_order_of_the_models():
    a, b = pair(4, 17)
    assert mcnemar(a, b).p_value == mcnemar(b, a).p_value < 0.01


def test_bootstrap_agrees_with_drawing_the_examples_themselves():
    a, b = pair(30, 55, both=20, neither=300)
    fast = bootstrap_difference(a, b, resamples=40_000)
    generator = np.random.default_rng(1)
    difference = a.astype(int) - b.astype(int)
    slow = [difference[generator.integers(0, len(a), len(a))].mean() for _ in range(4000)]
    low, high = np.quantile(slow, [0.025, 0.975])
    assert fast.estimate == pytest.approx(-25 / 405)
    assert fast.low == pytest.approx(low, abs=0.004)
    assert fast.high == pytest.approx(high, abs=0.004)


def test_bootstrap_approaches_the_normal_interval():
    a, b = pair(300, 200, neither=9500)
    interval = bootstrap_difference(a, b, confidence=0.9, resamples=50_000)
    difference = a.astype(float) - b.astype(float)
    half = stats.norm.ppf(0.95) * difference.std() / math.sqrt(len(a))
    assert interval.low == pytest.approx(0.01 - half, abs=0.05 * half + 1e-3 * 0.3)
    assert interval.high == pytest.approx(0.01 + half, abs=0.05 * half + 1e-3 * 0.3)
    assert interval.confidence == 0.9
    assert interval.excludes_zero


def test_bootstrap_is_a_function_of_its_seed():
    a, b = pair(10, 30)
    assert bootstrap_difference(a, b, seed=3) == bootstrap_difference(a, b, seed=3)
    ends = {bootstrap_difference(a, b, seed=seed, resamples=50).low for seed in range(5)}
    assert len(ends) > 1


def test_bootstrap_of_equal_errors_is_a_point():
    a, _ = pair(0, 0)
    assert bootstrap_difference(a, a) == Interval(0.0, 0.0, 0.0, 0.95)


def test_bootstrap_covers_the_true_difference_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(400):
        draw = generator.random(800)
        a, b = draw < 0.10, (draw > 0.04) & (draw < 0.16)  # 10 % and 12 %, with errors in common
        interval = bootstrap_difference(a, b, resamples=600, seed=seed)
        hits += interval.low <= -0.02 <= interval.high
    assert 0.91 <= hits / 400 <= 0.98


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
def test_mean_interval_is_students(confidence):
    values = [0.31, 0.29, 0.35, 0.33]
    interval = mean_interval(values, confidence)
    low, high = stats.t.interval(confidence, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    assert interval.estimate == pytest.approx(0.32)


def test_of_one_value_nothing_is_known():
    interval = mean_interval([2.0])
    assert interval == Interval(2.0, -math.inf, math.inf, 0.95)
    assert not interval.excludes_zero
    assert interval.to_dict() == {"estimate": 2.0, "low": None, "high": None, "confidence": 0.95}


@pytest.mark.parametrize(
    ("low", "high", "excluded"),
    [(0.1, 0.2, True), (-0.2, -0.1, True), (-1, 1, False), (0, 1, False), (-1, 0, False)],
)
def test_an_interval_that_touches_zero_does_not_exclude_it(low, high, excluded):
    assert Interval(0.0, low, high, 0.95).excludes_zero is excluded


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mcnemar([True], [True, False]), "same examples"),
        (lambda: mcnemar([], []), "bool"),
        (lambda: mcnemar(np.zeros(0, bool), np.zeros(0, bool)), "at least one"),
        (lambda: mcnemar([1, 0], [0, 1]), "bool"),
        (lambda: bootstrap_difference([True], [False], resamples=0), "resamples"),
        (lambda: bootstrap_difference([True], [False], confidence=1.0), "confidence"),
        (lambda: mean_interval([1.0, 2.0], confidence=95), "confidence"),
        (lambda: mean_interval([]), "at least one value"),
        (lambda: mean_interval([1.0, math.nan]), "finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
