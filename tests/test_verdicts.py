"""Verdicts on a student: what is shown, what is not, and the words for it."""

import json

import numpy as np
import pytest
from scipy import stats

from limbeck.errors import DataError
from limbeck.statistics import bootstrap_difference
from limbeck.verdicts import judge, judge_seeds


def pair(only_a, only_b, both=3, neither=50):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


def test_verdict_that_it_helped():
    student, baseline = pair(30, 81, both=87, neither=9802)
    verdict = judge(student, baseline)
    assert verdict.helped is True
    assert (verdict.student_errors, verdict.baseline_errors, verdict.examples) == (117, 168, 10_000)
    assert (verdict.only_student, verdict.only_baseline) == (30, 81)
    assert verdict.relative_reduction == pytest.approx(51 / 168)
    assert verdict.difference.estimate == pytest.approx(-0.0051)
    assert verdict.p_value == pytest.approx(stats.binomtest(30, 111).pvalue)
    assert str(verdict).startswith("Distillation helped: 117 test errors against 168 for the same network trained")
    assert "on labels alone, 30 % fewer (95 % interval of the difference: 0." in str(verdict)
    assert verdict.sentence.endswith("points fewer; McNemar p = 1e-6).")


def test_verdict_that_it_made_things_worse():
    student, baseline = pair(81, 30, both=87, neither=9802)
    verdict = judge(student, baseline)
    assert verdict.helped is False
    assert verdict.relative_reduction == pytest.approx(-51 / 117)
    assert verdict.sentence.startswith("Distillation did not help, it made things worse: 168 test errors against 117")
    assert "44 % more" in verdict.sentence
    assert "points more; McNemar" in verdict.sentence


def test_verdict_that_nothing_can_be_shown():
    verdict = judge(*pair(38, 45, both=80, neither=9837))
    assert verdict.helped is None
    assert verdict.sentence.startswith("No difference can be shown: 118 test errors against 125 for the same network")
    assert "points fewer to" in verdict.sentence
    assert "points more; McNemar p = 0.51)" in verdict.sentence
    assert "% fewer" not in verdict.sentence


def test_a_handful_of_errors_shows_nothing_although_the_bootstrap_alone_would_say_so():
    student, baseline = pair(0, 5, both=0, neither=995)
    assert bootstrap_difference(student, baseline).excludes_zero
    verdict = judge(student, baseline)
    assert verdict.p_value == pytest.approx(1 / 16)
    assert verdict.helped is None


def test_equal_models_are_rarely_told_apart():
    generator = np.random.default_rng(5)
    found = 0
    for seed in range(200):
        a, b = generator.random((2, 1000)) < 0.05
        found += judge(a, b, resamples=500, seed=seed).helped is not None
    assert found <= 0.08 * 200


def test_a_perfect_baseline_leaves_no_share_to_name():
    student, baseline = pair(20, 0, both=0)
    verdict = judge(student, baseline)
    assert verdict.relative_reduction is None
    assert verdict.helped is False
    assert "alone (95 %" in verdict.sentence
    perfect = judge(baseline, baseline)
    assert perfect.helped is None
    assert "0.00 points fewer to 0.00 points more" in perfect.sentence


def test_verdict_over_seeds():
    generator = np.random.default_rng(0)
    baselines = [generator.random(5000) < 0.03 for _ in range(4)]
    students = [errors & (generator.random(5000) < 0.7) for errors in baselines]
    verdict = judge_seeds(students, baselines)
    differences = [(a.sum() - b.sum()) / 5000 for a, b in zip(students, baselines, strict=True)]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(differences), scale=stats.sem(differences))
    assert verdict.difference.estimate == pytest.approx(np.mean(differences))
    assert (verdict.difference.low, verdict.difference.high) == (pytest.approx(low), pytest.approx(high))
    assert verdict.helped is True
    assert verdict.student_errors == tuple(int(a.sum()) for a in students)
    assert "on average over 4 seeds" in str(verdict)
    assert judge_seeds(baselines, students).helped is False


def test_seeds_that_disagree_show_nothing():
    test = np.arange(1000)
    verdict = judge_seeds([test < 20, test < 40, test < 25], [test < 30, test < 28, test < 31])
    assert verdict.helped is None
    assert "No difference can be shown" in verdict.sentence


def test_seeds_that_agree_to_the_last_error_have_no_known_spread():
    test = np.arange(1000)
    assert judge_seeds([test < 20, test < 22], [test < 30, test < 32]).helped is None


def test_verdicts_are_json():
    a, b = pair(10, 30)
    one, many = judge(a, b), judge_seeds([a, b], [b, b])
    for verdict in (one, many):
        plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert plain == verdict.to_dict()
        assert plain["sentence"] == verdict.sentence
        assert plain["difference"]["estimate"] == verdict.difference.estimate
    assert one.to_dict()["helped"] is True
    assert many.to_dict()["student_errors"] == [13, 33]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: judge_seeds([[True]], [[True]]), "use judge"),
        (lambda: judge_seeds([[True]] * 2, [[True]] * 3), "pair them by seed"),
        (lambda: judge_seeds([[True], [True, False]], [[True], [True, False]]), "one test set"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(DataError, match=message):
        call()
