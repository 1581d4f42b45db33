"""Intervals of paired differences: published values, slow maximum likelihood, scipy's t, and repeated experiments."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from limbeck.errors import DataError
from limbeck.evaluation.paired_intervals import CrossedDifference, crossed_difference, tango_interval
from limbeck.evaluation.statistics import mcnemar


def pair(only_a, only_b, both=3, neither=50):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((1, 7, 21), -0.5172, -0.0260),
        ((40, 20, 160), 0.0309, 0.2181),
        ((0, 0, 1000), -0.00383, 0.00383),
        ((0, 0, 1), -0.79345, 0.79345),  # z^2 / (n + z^2)
        ((21, 0, 21), (21 - 1.959964**2) / (21 + 1.959964**2), 1.0),  # likeliest: b = (1 + d) / 2
        ((0, 1, 1), -1.0, -(1 - 1.959964**2) / (1 + 1.959964**2)),
    ],
)
def test_tango_has_the_published_values(counts, low, high):
    interval = tango_interval(*counts)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))
    assert interval.estimate == (counts[0] - counts[1]) / counts[2]


def score(b, c, n, delta):
    """The score statistic, with the other rate found by a search over the likelihood."""

    def minus_log_likelihood(q):
        p, rest = q + delta, 1 - 2 * q - delta
        terms = [(b, p), (c, q), (n - b - c, rest)]
        return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

    bounds = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


@pytest.mark.parametrize("counts", [(1, 7, 21), (40, 20, 160), (5, 0, 40), (3, 9, 12), (200, 260, 10_000), (2, 2, 9)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_tangos_limits_are_where_the_score_statistic_is_critical(counts, confidence):
    interval = tango_interval(*counts, confidence=confidence)
    critical = stats.norm.ppf((1 + confidence) / 2)
    for limit, sign in ((interval.low, 1), (interval.high, -1)):
        if abs(limit) < 1:
            assert score(*counts, limit) == pytest.approx(sign * critical, rel=1e-4)


@pytest.mark.parametrize(("b", "c"), [(9, 20), (5, 17), (30, 12), (1, 8)])
def test_tango_excludes_zero_exactly_where_mcnemars_statistic_is_critical(b, c):
    z = abs(b - c) / math.sqrt(b + c)
    tail = float(stats.norm.sf(z))
    assert tango_interval(b, c, 500, confidence=1 - 2 * tail * 1.001).excludes_zero
    assert not tango_interval(b, c, 500, confidence=1 - 2 * tail * 0.999).excludes_zero
    assert crossed_difference(*([errors] for errors in pair(b, c))).p_value == pytest.approx(2 * tail, rel=1e-6)


def test_tango_is_symmetric_and_grows_with_confidence():
    forth, back = tango_interval(3, 11, 90), tango_interval(11, 3, 90)
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert tango_interval(3, 11, 90, confidence=0.99).low < forth.low < tango_interval(3, 11, 90, confidence=0.9).low


def test_one_seed_of_single_examples_is_tango():
    a, b = pair(4, 13)
    found, tango = crossed_difference([a], [b]).interval(), tango_interval(4, 13, len(a))
    assert (found.low, found.high) == (pytest.approx(tango.low), pytest.approx(tango.high))


def slow_components(d):
    """Mean squares of the two-way table without replication, cell by cell."""
    seeds, examples = d.shape
    mean = d.mean()
    rows, columns = d.mean(1), d.mean(0)
    of_seeds = examples * sum((row - mean) ** 2 for row in rows) / (seeds - 1)
    of_examples = seeds * sum((column - mean) ** 2 for column in columns) / (examples - 1)
    rest = sum((d[s, e] - rows[s] - columns[e] + mean) ** 2 for s in range(seeds) for e in range(examples))
    return of_seeds, of_examples, rest / ((seeds - 1) * (examples - 1))


def draw(seed, seeds=4, examples=300):
    random = np.random.default_rng(seed)
    hard = random.random(examples) < 0.2
    return [random.random((seeds, examples)) < np.where(hard, p, 0.05) for p in (0.6, 0.8)]


def test_the_parts_of_the_variance_are_those_of_the_mean_squares():
    a, b = draw(0)
    d = a.astype(float) - b
    seeds, examples = d.shape
    of_seeds, of_examples, rest = slow_components(d)
    found = crossed_difference(a, b)
    assert found.estimate == pytest.approx(d.mean())
    assert found.seed_variance == pytest.approx(of_seeds / (seeds * examples))
    one_pair = (np.mean(d**2) - d.mean() ** 2) / examples
    # Tango divides by N where mean squares divide by N - 1.
    own = (of_examples - rest) / (seeds * examples) * (examples - 1) / examples
    assert found.example_share * one_pair == pytest.approx(own, rel=1e-9)


def test_without_a_part_of_examples_it_is_students_interval_over_seeds():
    # Every seed errs on examples of its own: what the examples add is what the seeds' spread holds already.
    a, b = np.zeros((3, 3000), bool), np.zeros((3, 3000), bool)
    for seed, count in enumerate((100, 140, 90)):
        a[seed, 1000 * seed : 1000 * seed + count] = True
        b[seed, 1000 * seed + 500 : 1000 * seed + 600] = True
    values = [(count - 100) / 3000 for count in (100, 140, 90)]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    found = crossed_difference(a, b).interval()
    assert (found.low, found.high) == (pytest.approx(low, rel=0.02), pytest.approx(high, rel=0.02))


def test_seeds_that_agree_on_every_example_are_one_pair():
    a, b = pair(12, 30, neither=600)
    one, many = crossed_difference([a], [b]).interval(), crossed_difference([a] * 5, [b] * 5).interval()
    assert (many.low, many.high) == (pytest.approx(one.low), pytest.approx(one.high))


@pytest.mark.parametrize("seeds", [1, 2, 3, 8])
def test_no_differences_leave_the_rule_of_three(seeds):
    errors = [np.arange(1000) < 40] * seeds
    found = crossed_difference(errors, errors)
    assert found.interval().high == pytest.approx(0.00383, abs=1e-5) and found.interval().low < -0.0038
    assert found.p_value == 1.0


@pytest.mark.parametrize("seeds", [1, 3])
def test_no_differences_in_groups_leave_the_rule_of_three_over_groups(seeds):
    errors = [np.arange(1000) < 40] * seeds
    found = crossed_difference(errors, errors, groups=np.arange(1000) // 20)
    t = stats.t.ppf(0.975, 49)
    assert found.interval().high == pytest.approx(t**2 / (50 + t**2), rel=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_interval_contains_and_p_value_say_the_same(seeds):
    a, b = draw(3, seeds)
    found = crossed_difference(a, b)
    interval = found.interval()
    for delta, inside in ((interval.low, True), (interval.high, True)):
        assert found.contains(delta + 1e-9 * (1 if delta == interval.low else -1)) is inside
        assert found.contains(delta - 1e-9 * (1 if delta == interval.low else -1)) is not inside
    p = found.p_value
    assert found.interval(1 - p * 1.001).excludes_zero and not found.interval(1 - p * 0.999).excludes_zero


def test_a_handful_of_examples_proves_nothing_whatever_the_seeds():
    a, b = np.zeros((8, 100), bool), np.zeros((8, 100), bool)
    b[:, :5] = True
    assert crossed_difference(a, b).p_value == pytest.approx(2**-4)
    assert mcnemar(a[0], b[0]).p_value == pytest.approx(2**-4)


def test_copies_of_examples_in_groups_are_no_new_evidence():
    a, b = draw(5, seeds=3, examples=80)
    often = [np.repeat(errors, 25, axis=1) for errors in (a, b)]
    groups = np.repeat(np.arange(80), 25)
    once = crossed_difference(a, b, groups=np.arange(80))
    copies = crossed_difference(*often, groups=groups)
    assert (copies.interval().low, copies.interval().high) == pytest.approx((once.interval().low, once.interval().high))
    # Taken as independent they would look like proof.
    assert crossed_difference(*often).p_value < once.p_value


def test_one_seed_in_groups_is_the_ratio_estimators_interval():
    random = np.random.default_rng(2)
    sizes = random.integers(20, 60, 30)
    groups = np.repeat(np.arange(30), sizes)
    a, b = random.random((2, len(groups))) < np.repeat(random.uniform(0.1, 0.5, 30), sizes)
    found = crossed_difference([a], [b], groups=7 * groups)  # numbers of groups need not follow each other
    totals = np.bincount(groups, a.astype(float) - b)
    ratio = totals.sum() / sizes.sum()
    left_out = [(totals.sum() - totals[g]) / (sizes.sum() - sizes[g]) for g in range(30)]
    error = math.sqrt(29 / 30 * sum((value - ratio) ** 2 for value in left_out))  # the jackknife itself
    half = stats.t.ppf(0.975, 29) * error
    interval = found.interval()
    assert found.estimate == pytest.approx(ratio)
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.02)  # the score's asymmetry is small here


def test_unequal_groups_and_seeds_against_cell_by_cell_sums():
    random = np.random.default_rng(8)
    sizes = random.integers(5, 40, 25)
    groups = np.repeat(np.arange(25), sizes)
    chances = (np.repeat(random.uniform(0.05, 0.6, 25), sizes) for _ in range(2))
    a, b = (random.random((3, len(groups))) < chance for chance in chances)
    found = crossed_difference(a, b, groups=groups)
    count = len(groups)
    d = np.array([np.bincount(groups, a[s].astype(float) - b[s]) for s in range(3)])
    ratio = d.sum() / (3 * count)
    r = d - ratio * sizes
    assert found.seed_variance == pytest.approx((r.sum(1) ** 2).sum() / (6 * count**2))
    whole, rest = 24 / 25 * ((r.mean(0) / (1 - sizes / count)) ** 2).sum(), 0.0
    for s in range(3):
        for g in range(25):
            rest += (r[s, g] - r[:, g].mean() - r[s].sum() * sizes[g] / count) ** 2
    one_pair = (sum(found.rates) - ratio**2) / count
    assert found.example_share * one_pair == pytest.approx((whole - rest / 6) / count**2)


def false_claims(seeds, examples, trials, *, hard=0.05):
    """Two procedures of equal error rate whose hard examples differ, as often as they are told apart."""
    random, claims = np.random.default_rng(seeds), 0
    for _ in range(trials):
        errors = []
        for _ in range(2):
            chance = np.where(random.random(examples) < hard, 0.9, 0.01)
            errors.append(random.random((seeds, examples)) < chance)
        found = crossed_difference(*errors)
        claims += not found.contains(0.0) and found.p_value < 0.05
    return claims / trials


@pytest.mark.parametrize("seeds", [3, 8])
def test_equal_procedures_that_err_on_different_examples_are_rarely_told_apart(seeds):
    assert false_claims(seeds, 1000, 400) <= 0.085  # three standard errors above 5 %; it was 0.30 and 0.66


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_where_trainings_dominate(seeds):
    random, hits, trials = np.random.default_rng(1), 0, 400
    for _ in range(trials):
        chance = 0.3 * (1 + np.clip(random.normal(0, 0.2, (2, seeds, 1)), -0.6, 0.6))
        a, b = random.random((2, seeds, 400)) < chance
        hits += crossed_difference(a, b).contains(0.0)
    assert 0.917 <= hits / trials <= 0.983


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tango_interval(3, 4, 6), "3 and 4 of 6"),
        (lambda: tango_interval(-1, 4, 6), "at least 0"),
        (lambda: tango_interval(0, 0, 0), "0 and 0 of 0"),
        (lambda: tango_interval(math.nan, 0, 5), "nan"),
        (lambda: tango_interval(1, 2, 5, confidence=1.0), "confidence"),
        (lambda: crossed_difference([[True]], []), "pair them by seed"),
        (lambda: crossed_difference([], []), "at least one seed"),
        (lambda: crossed_difference([[True], [True, False]], [[True], [True, False]]), "one test set"),
        (lambda: crossed_difference([[True, False]], [[True, False]], groups=[0]), "do not fit"),
        (lambda: crossed_difference([[True]], [[True]]).interval(95), "confidence"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_single_group_shows_nothing(seeds):
    random = np.random.default_rng(seeds)
    a, b = random.random((seeds, 40)) < 0.9, random.random((seeds, 40)) < 0.1
    found = crossed_difference(a, b, groups=np.zeros(40, int))
    assert (found.interval().low, found.interval().high) == (-1.0, 1.0)
    assert found.p_value == 1.0


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_the_half_width_is_cochrans_and_for_two_seeds_the_sum_of_squares(seeds):
    # So many discordant examples that the limits are symmetric, and the parts are known exactly.
    found = CrossedDifference(0.0, seeds, 10**8, 10**8, False, 10**7, (0.05, 0.05), 3e-9, 0.0, 1.0)
    own, z, t = 0.1 / 10**8, stats.norm.ppf(0.975), stats.t.ppf(0.975, seeds - 1)
    squares = t**2 * 3e-9 + z**2 * own
    cochran = ((t * 3e-9 + z * own) / (3e-9 + own)) ** 2 * (3e-9 + own)
    assert found.interval().high == pytest.approx(math.sqrt(squares if seeds == 2 else cochran), rel=1e-3)
