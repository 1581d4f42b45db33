"""Tests over groups: each example its own group is the plain case; copies of an example add nothing."""

import numpy as np
import pytest

from limbeck.errors import DataError
from limbeck.evaluation.sign_flips import sign_flip_test
from limbeck.evaluation.statistics import mcnemar
from limbeck.evaluation.verdicts import judge


def errors(count=400, seed=0):
    random = np.random.default_rng(seed)
    return random.random(count) < 0.3, random.random(count) < 0.4


def test_groups_of_one_are_mcnemars_test():
    # Flipping signs of single examples is McNemar's exact test, drawn at random.
    a, b = errors(60, seed=3)
    exact = mcnemar(a, b).p_value
    assert sign_flip_test(a, b, np.arange(60), resamples=40_000) == pytest.approx(exact, abs=0.01)


def test_copies_of_examples_are_no_new_evidence():
    a, b = errors(60, seed=1)
    copies = [np.repeat(values, 25) for values in (a, b, np.arange(60))]
    assert sign_flip_test(*copies) == sign_flip_test(a, b, np.arange(60))
    # Taken as independent they would look like proof.
    assert mcnemar(*copies[:2]).p_value < mcnemar(a, b).p_value


def test_the_verdict_goes_by_groups():
    a, b = errors(60, seed=1)
    copies = [np.repeat(values, 25) for values in (a, b, np.arange(60))]
    assert judge(copies[0], copies[1]).helped
    verdict = judge(copies[0], copies[1], groups=copies[2])
    assert verdict.helped is None and "60 groups of examples" in verdict.sentence
    assert verdict.p_value == sign_flip_test(*copies)


def test_the_p_value_counts_the_observed_signs_themselves():
    """All of forty groups agree: none of 99 draws does, and one in a hundred is the least that can be said."""
    always, never = np.ones(40, bool), np.zeros(40, bool)
    assert sign_flip_test(always, never, np.arange(40), resamples=99) == 0.01
    assert sign_flip_test(never, always, np.arange(40), resamples=99) == 0.01


def test_numbers_of_groups_need_not_follow_each_other():
    a, b = errors(50)
    groups = np.arange(50) // 5
    assert sign_flip_test(a, b, 7 * groups) == sign_flip_test(a, b, groups)


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match="do not fit"):
        sign_flip_test([True, False], [True, False], [0])
