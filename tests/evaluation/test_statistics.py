"""Statistics against scipy, exact fractions, slow definitions and repeated experiments."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from limbeck.errors import DataError
from limbeck.evaluation.statistics import Interval, clopper_pearson, holm, mcnemar, mean_interval


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


def slow_holm(p_values):
    """Step down through the ordered p-values; the adjusted one is the least level at which it is rejected."""
    adjusted = []
    for p in p_values:
        levels = []
        for q in sorted(set(p_values)):
            if q <= p:
                as_small_or_larger = sum(other >= q for other in p_values)
                levels.append(min(1.0, as_small_or_larger * q))
        adjusted.append(max(levels))
    return adjusted


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_its_definition(seed):
    p_values = np.random.default_rng(seed).beta(0.4, 2, 12).round(2)  # with ties
    found = holm(p_values)
    assert found == pytest.approx(slow_holm(list(p_values)))
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(found[order]) >= 0).all() and (found >= p_values).all() and found.max() <= 1
    assert holm(p_values[::-1]) == pytest.approx(found[::-1])


def test_holm_of_one_and_of_none():
    assert holm([0.03]) == pytest.approx([0.03])
    assert len(holm([])) == 0


def test_holm_keeps_the_familywise_error_where_bonferroni_does_and_finds_more():
    random, false, found = np.random.default_rng(1), 0, [0, 0]
    for _ in range(2000):
        p_values = np.concatenate([random.random(6), random.beta(0.05, 20, 4)])  # six true hypotheses, four false
        adjusted = holm(p_values)
        false += (adjusted[:6] < 0.05).any()
        found[0] += (adjusted[6:] < 0.05).sum()
        found[1] += (10 * p_values[6:] < 0.05).sum()
    assert false / 2000 <= 0.065
    assert found[0] > found[1]


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
        (lambda: holm([0.5, 1.5]), "p-values"),
        (lambda: holm([math.nan]), "p-values"),
        (lambda: mean_interval([1.0, 2.0], confidence=95), "confidence"),
        (lambda: mean_interval([]), "at least one value"),
        (lambda: mean_interval([1.0, math.nan]), "finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize(("count", "examples"), [(0, 1), (1, 1), (0, 10_000), (3, 700), (699, 700), (70, 100)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_clopper_pearson_is_scipy_s_exact_interval(count, examples, confidence):
    found = clopper_pearson(count, examples, confidence)
    expected = stats.binomtest(count, examples).proportion_ci(confidence, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    with pytest.raises(DataError, match="from 0 to the number of examples"):
        clopper_pearson(examples + 1, examples)
