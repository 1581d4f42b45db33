"""How many examples a claim needs: the published constant, its inverse, and experiments of that size."""

import numpy as np
import pytest

from limbeck.errors import DataError
from limbeck.evaluation.paired_intervals import tango_interval
from limbeck.evaluation.sample_size import examples_needed, smallest_difference, smallest_margin


def test_the_constant_is_eight_and_a_half():
    # (1.645 + 1.282)^2: one-sided 5 %, power 90 %.
    assert examples_needed(0.01, discordant=0.05) == pytest.approx(8.564 * 0.05 / 0.01**2, rel=1e-3)
    assert examples_needed(0.01, discordant=0.05, alpha=0.025, power=0.8) == pytest.approx(7.849 * 500, rel=1e-3)


@pytest.mark.parametrize("examples", [200, 1000, 10_000])
def test_the_smallest_margin_needs_as_many_examples_as_there_are(examples):
    margin = smallest_margin(examples, discordant=0.08)
    assert examples_needed(margin * (1 + 1e-9), discordant=0.08) == examples
    # A difference is claimed in either direction, so the critical value is larger.
    assert smallest_difference(examples, discordant=0.08) / margin == pytest.approx((1.96 + 1.2816) / 2.9264, rel=1e-3)


def experiments(truth, count, discordant=0.1, trials=300):
    random = np.random.default_rng(0)
    rates = [(discordant + truth) / 2, (discordant - truth) / 2, 1 - discordant]
    return random.multinomial(count, rates, trials)


def test_experiments_of_that_size_make_the_claim_nine_times_in_ten():
    margin = 0.03
    count = examples_needed(margin, discordant=0.1)
    equal = [tango_interval(b, c, count, confidence=0.9).high < margin for b, c, _ in experiments(0.0, count)]
    worse = [tango_interval(b, c, count, confidence=0.9).high < margin for b, c, _ in experiments(margin, count)]
    assert 0.84 <= np.mean(equal) <= 0.95
    assert np.mean(worse) <= 0.09


def test_the_smallest_difference_is_found_nine_times_in_ten():
    apart = smallest_difference(2000, discordant=0.1)
    found = [tango_interval(b, c, 2000).excludes_zero for b, c, _ in experiments(apart, 2000)]
    assert 0.84 <= np.mean(found) <= 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: examples_needed(0.0), "margin"),
        (lambda: examples_needed(0.5, discordant=0.0), "discordant"),
        (lambda: examples_needed(0.5, alpha=0.9, power=0.8), "alpha and power"),
        (lambda: smallest_margin(0), "at least one example"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
