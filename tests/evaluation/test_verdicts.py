"""Verdicts on a student: what is shown, what is not, and the words for it."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from limbeck.errors import DataError
from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.paired_intervals import crossed_difference, tango_interval
from limbeck.evaluation.verdicts import judge, judge_many, judge_seeds


def pair(only_a, only_b, both=3, neither=50):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


def test_verdict_that_it_helped():
    student, baseline = pair(30, 81, both=87, neither=9802)
    verdict = judge(student, baseline)
    assert verdict.helped is True
    assert (verdict.student_errors, verdict.baseline_errors, verdict.examples) == ((117,), (168,), 10_000)
    assert (verdict.only_student, verdict.only_baseline) == (30, 81)
    assert verdict.relative_reduction == pytest.approx(51 / 168)
    assert verdict.difference.estimate == pytest.approx(-0.0051)
    assert verdict.p_value == pytest.approx(stats.binomtest(30, 111).pvalue)
    assert str(verdict).startswith("Distillation helped: 117 test errors against 168 for the same network trained")
    assert "on labels alone, 30 % fewer (95 % interval of the difference: 0." in str(verdict)
    assert "points fewer; McNemar p = 1e-6). This is about these two networks alone" in verdict.sentence
    tango = tango_interval(30, 81, 10_000)
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx((tango.low, tango.high))


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


def test_a_handful_of_errors_shows_nothing_although_the_interval_alone_would_say_so():
    student, baseline = pair(0, 5, both=0, neither=995)
    assert tango_interval(0, 5, 1000).excludes_zero
    verdict = judge(student, baseline)
    assert verdict.p_value == pytest.approx(1 / 16)
    assert verdict.helped is None
    assert "The interval excludes 0, but a difference counts as shown only if the p-value is below 0.05" in str(verdict)
    assert "The interval excludes 0" not in str(judge(*pair(38, 45, both=80, neither=9837)))


def test_equal_models_are_rarely_told_apart():
    generator = np.random.default_rng(5)
    found = 0
    for _ in range(200):
        a, b = generator.random((2, 1000)) < 0.05
        found += judge(a, b).helped is not None
    assert found <= 0.08 * 200


def test_a_perfect_baseline_leaves_no_share_to_name():
    student, baseline = pair(20, 0, both=0)
    verdict = judge(student, baseline)
    assert verdict.relative_reduction is None
    assert verdict.helped is False
    assert "alone (95 %" in verdict.sentence
    perfect = judge(baseline, baseline)
    assert perfect.helped is None
    assert "5.20 points fewer to 5.20 points more" in perfect.sentence  # of 70 examples: not of zero width


def test_verdict_over_seeds():
    generator = np.random.default_rng(0)
    baselines = [generator.random(5000) < 0.03 for _ in range(4)]
    students = [errors & (generator.random(5000) < 0.7) for errors in baselines]
    verdict = judge_seeds(students, baselines)
    differences = [(a.sum() - b.sum()) / 5000 for a, b in zip(students, baselines, strict=True)]
    assert verdict.difference.estimate == pytest.approx(np.mean(differences))
    assert verdict.difference == crossed_difference(students, baselines).interval()
    assert verdict.only_baseline == sum(int((b & ~a).sum()) for a, b in zip(students, baselines, strict=True))
    assert verdict.helped is True and "This is about any such trainings and examples." in verdict.sentence
    assert verdict.student_errors == tuple(int(a.sum()) for a in students)
    assert "on average over 4 seeds" in str(verdict)
    assert judge_seeds(baselines, students).helped is False


def test_seeds_from_one_start_claim_nothing_about_other_starts():
    test = np.arange(1000)
    given = [test < 20, test < 22, test < 19], [test < 30, test < 28, test < 31]
    one, any_such = judge_seeds(*given, one_start=True), judge_seeds(*given)
    assert "from these same initial weights" in one.sentence and "any such trainings" not in one.sentence
    assert "any such trainings" in any_such.sentence and one.difference == any_such.difference


def test_seeds_that_disagree_show_nothing():
    test = np.arange(1000)
    verdict = judge_seeds([test < 20, test < 40, test < 25], [test < 30, test < 28, test < 31])
    assert verdict.helped is None
    assert "No difference can be shown" in verdict.sentence


def test_a_few_errors_on_the_same_examples_show_nothing_over_seeds():
    test = np.arange(100)
    verdict = judge_seeds([test < 7, test < 7, test < 6], [test < 10] * 3)
    assert verdict.helped is None and verdict.sentence.startswith("No difference can be shown: 6.7 test errors")
    alone = judge(test < 7, test < 10)
    assert alone.helped is None


def test_groups_count_with_seeds_too():
    place = np.arange(60)
    a, b = [place < 12] * 3, [(place >= 4) & (place < 24)] * 3  # 4 against 12 discordant
    often = [[np.repeat(row, 25) for row in errors] for errors in (a, b)]
    groups = np.repeat(np.arange(60), 25)
    assert judge_seeds(*often).helped is True  # copies taken for new examples
    verdict = judge_seeds(*often, groups=groups)
    assert verdict.helped is None and "groups of examples" in verdict.sentence


def test_several_students_are_adjusted_for_their_number():
    baseline = np.arange(2000) < 60
    students = {f"s{n}": [np.arange(2000) < 60 - n] for n in (8, 7, 3)}
    found = judge_many(students, [baseline], judged_on="validation")
    assert [round(v.p_value, 5) for v in found.values()] == [0.02344, 0.03125, 0.25]
    assert [v.helped for v in found.values()] == [True, True, None]
    assert "p = 0.023, adjusted for 3 students" in found["s8"].sentence and "validation errors" in found["s8"].sentence
    # Alone the second would have half the p-value.
    assert judge(students["s7"][0], baseline).p_value == pytest.approx(2**-6)
    over = judge_many({"a": [baseline] * 2, "b": [np.arange(2000) < 30] * 2}, [baseline] * 2)
    assert [v.helped for v in over.values()] == [None, True]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_verdict_on_validation_says_so(seeds):
    a, b = pair(10, 30)
    verdict = (
        judge(a, b, judged_on="validation") if seeds == 1 else judge_seeds([a] * 3, [b] * 3, judged_on="validation")
    )
    assert "13 validation errors" in verdict.sentence and "test" not in verdict.sentence
    assert "Validation may also have chosen the epoch" in verdict.sentence
    assert verdict.to_dict()["judged_on"] == "validation"


def test_verdicts_are_json():
    a, b = pair(10, 30)
    one, many = judge(a, b), judge_seeds([a, b], [b, b])
    for verdict in (one, many):
        plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
        assert plain == verdict.to_dict()
        assert plain["sentence"] == verdict.sentence
        assert plain["difference"]["estimate"] == verdict.difference.estimate
    assert one.to_dict()["helped"] is True and one.to_dict()["student_errors"] == [13]
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


def test_many_students_over_seeds_are_compared_by_the_cautious_p_value():
    """Seeds that agree to the last error by chance would pass any adjustment."""
    test = np.arange(1000)
    students, baselines = [test < 20, abs(test - 20) < 10], [test < 2, abs(test - 500) < 1]
    found = crossed_difference(students, baselines)
    assert found.p_value < 0.001 < found.cautious_p_value
    (verdict,) = judge_many({"one": students}, baselines).values()
    assert verdict.p_value == pytest.approx(found.cautious_p_value)
    two = judge_many({"one": students, "same": baselines}, baselines)
    assert two["one"].p_value == pytest.approx(min(1.0, 2 * found.cautious_p_value)) and two["same"].helped is None


def test_tensors_are_judged_as_arrays_are():
    chance = np.random.default_rng(4)
    student, baseline = chance.random((2, 3, 400)) < [[[0.1]], [[0.2]]]
    labels, groups = chance.integers(0, 2, 400), np.arange(400) // 4
    kept = {"labels": labels, "classes": ("a", "b"), "groups": groups}
    given = {**kept, "labels": torch.from_numpy(labels), "groups": torch.from_numpy(groups)}
    first, second = torch.from_numpy(student), torch.from_numpy(baseline)
    assert judge(first[0], second[0], **given) == judge(student[0], baseline[0], **kept)
    assert judge(first[0], baseline[0]) == judge(student[0], baseline[0])
    assert judge_seeds(first, list(second), **given) == judge_seeds(student, baseline, **kept)
    assert judge_many({"a": first}, second) == judge_many({"a": student}, baseline)
    assert judge_margin(first, second, 0.5, **given) == judge_margin(student, baseline, 0.5, **kept)
