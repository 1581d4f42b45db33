"""As good as the teacher within a margin: the three outcomes, their words, and how often they are false."""

import json

import numpy as np
import pytest

from limbeck.errors import ConfigError, DataError
from limbeck.evaluation.non_inferiority import judge_margin
from limbeck.evaluation.paired_intervals import tango_interval


def pair(only_a, only_b, both=3, neither=50):
    a = np.repeat([True, False, True, False], [only_a, only_b, both, neither])
    b = np.repeat([False, True, True, False], [only_a, only_b, both, neither])
    return a, b


@pytest.mark.parametrize(
    ("counts", "margin", "outcome", "words"),
    [
        ((40, 45, 60, 9855), 0.5, "as good", "The student is as good as the teacher within 0.5 points: 100 test"),
        ((60, 30, 60, 9850), 0.5, "as good", "as good as the teacher within 0.5 points, though worse: "),
        ((60, 30, 60, 9850), 0.2, "worse", "The student is worse than the teacher: 120 test errors against 90 (90 %"),
        ((90, 20, 60, 9830), 0.3, "worse", "The student is worse than the teacher by more than 0.3 points: "),
        ((45, 40, 60, 855), 0.5, "cannot be said", "Whether the student is as good as the teacher within 0.5 points"),
        ((20, 60, 20, 900), 0.5, "as good", "40 test errors against 80 (90 % interval of the difference: 2.58 to"),
    ],
)  # fmt: skip
def test_outcomes(counts, margin, outcome, words):
    student, teacher = pair(*counts)
    verdict = judge_margin([student], [teacher], margin)
    assert verdict.outcome == outcome and words in str(verdict)
    interval = tango_interval(counts[0], counts[1], sum(counts), confidence=0.9)
    assert (verdict.difference.low, verdict.difference.high) == pytest.approx((interval.low, interval.high))
    assert (100 * interval.high < margin) is (outcome == "as good")
    plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert plain == verdict.to_dict() and plain["outcome"] == outcome


def test_seeds_are_crossed_with_examples():
    random = np.random.default_rng(0)
    teacher = random.random(2000) < 0.05
    students = [(teacher & (random.random(2000) < 0.9)) | (random.random(2000) < p) for p in (0.004, 0.02, 0.04)]
    verdict = judge_margin(students, [teacher] * 3, 1.0)
    # Trainings differ by far more than a fixed set of examples tells.
    assert verdict.outcome == "cannot be said" and "on average over 3 seeds" in str(verdict)
    assert judge_margin(students[:1], [teacher], 1.0).outcome == "as good"


def test_a_model_that_is_worse_by_the_margin_is_rarely_called_as_good():
    random, claims = np.random.default_rng(3), 0
    for _ in range(200):
        draw = random.random(1500)
        student, teacher = draw < 0.10, (draw > 0.03) & (draw < 0.11)  # 10 % and 8 %
        claims += judge_margin([student], [teacher], 2.0).outcome == "as good"
    assert claims / 200 <= 0.1


def test_classes_that_lost_are_named():
    labels = np.repeat([0, 1], 1000)
    teacher, student = np.zeros(2000, bool), np.zeros(2000, bool)
    teacher[:60], student[1000:1030] = True, True
    verdict = judge_margin([student], [teacher], 0.5, labels=labels, classes=("cat", "dog"))
    assert verdict.outcome == "as good" and verdict.harm is not None
    assert verdict.harm.sentence == 'One class lost: "dog" has 30 errors of 1,000 for the teacher\'s 0.'


def test_validation_is_said_to_be_validation():
    student, teacher = pair(4, 5)
    said = str(judge_margin([student], [teacher], 5.0, model="compressed network", reference="original",
                            judged_on="validation"))  # fmt: skip
    assert "compressed network" in said and "original" in said and "7 validation errors" in said
    assert "test" not in said and "Validation may also have chosen the epoch" in said


@pytest.mark.parametrize("margin", [0.0, -1.0, 100.0, float("nan"), float("inf")])
def test_what_is_not_a_margin(margin):
    with pytest.raises(ConfigError, match="margin must be above 0 and below 100"):
        judge_margin([[True]], [[False]], margin)


def test_other_numbers_of_seeds():
    with pytest.raises(DataError, match="of 1 and of 2 seeds"):
        judge_margin([[True]], [[True], [False]], 1.0)
