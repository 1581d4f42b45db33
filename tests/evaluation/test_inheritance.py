import json

import numpy as np
import pytest

from limbeck.errors import DataError
from limbeck.evaluation.inheritance import inherited_mistakes
from limbeck.evaluation.statistics import mcnemar

CLASSES = ("a", "b", "c")


def drawn(generator, truth, accuracy):
    """Answers that are right at a rate, and wrong at random otherwise."""
    wrong = (truth + generator.integers(1, 3, len(truth))) % 3
    return np.where(generator.random(len(truth)) < accuracy, truth, wrong)


def test_shares_are_those_of_a_slow_count():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 3, 200)
    teacher = drawn(generator, truth, 0.8)
    students, baselines = ([drawn(generator, truth, 0.7) for _ in range(3)] for _ in range(2))
    found = inherited_mistakes(teacher, students, baselines, truth, CLASSES)
    mistakes = [n for n in range(200) if teacher[n] != truth[n]]
    assert found.mistakes == len(mistakes)
    for share, models in ((found.student, students), (found.baseline, baselines)):
        counted = sum(model[n] == teacher[n] for model in models for n in mistakes)
        assert share == pytest.approx(counted / 3 / len(mistakes))
    assert found.difference.estimate == pytest.approx(found.student - found.baseline)
    assert sum(row.mistakes for row in found.by_class) == found.mistakes
    assert sum(row.student for row in found.by_class) == pytest.approx(found.student * found.mistakes)
    assert [row.mistakes for row in found.by_class] == sorted((row.mistakes for row in found.by_class), reverse=True)
    json.dumps(found.to_dict())


@pytest.mark.parametrize("with_baseline", [True, False])
def test_mistakes_are_counted_by_class_and_by_named_group_as_a_slow_count_does(with_baseline):
    generator = np.random.default_rng(5)
    truth = generator.integers(0, 3, 400)
    regions = [("north", "south", "east", 4)[number] for number in generator.integers(0, 4, 400)]
    teacher = np.where(np.array([str(each) == "east" for each in regions]), truth, drawn(generator, truth, 0.7))
    students, baselines = ([drawn(generator, truth, 0.6) for _ in range(2)] for _ in range(2))
    baselines = baselines if with_baseline else []
    found = inherited_mistakes(teacher, students, baselines, truth, CLASSES, group_names=regions)
    parts = {"by_class": [CLASSES[each] for each in truth], "by_group": [str(each) for each in regions]}
    for kind, part in parts.items():
        rows = {row.name: row for row in getattr(found, kind)}
        assert set(rows) == {part[n] for n in range(400) if teacher[n] != truth[n]}
        for name, row in rows.items():
            here = [n for n in range(400) if part[n] == name]
            missed = [n for n in here if teacher[n] != truth[n]]
            assert (row.examples, row.mistakes) == (len(here), len(missed))
            repeats = [
                sum(model[n] == teacher[n] for model in models for n in missed) for models in (students, baselines)
            ]
            assert row.student == repeats[0] / 2 and row.baseline == (repeats[1] / 2 if with_baseline else None)
    assert found.groups == len(found.by_group) == 3, "the teacher makes no mistake in the east"
    assert inherited_mistakes(teacher, students, baselines, truth, CLASSES).by_group == ()
    json.dumps(found.to_dict())


def test_of_very_many_groups_those_with_most_mistakes_are_kept():
    truth, teacher = np.zeros(603, int), np.ones(603, int)
    names = [f"g{n}" for n in range(200) for _ in range(3)] + ["often"] * 3
    teacher[[n for n in range(600) if n % 3]] = 0
    found = inherited_mistakes(teacher, [teacher], [], truth, CLASSES, group_names=names)
    assert found.groups == 201 and len(found.by_group) == 100
    assert (found.by_group[0].name, found.by_group[0].mistakes) == ("often", 3)


def test_one_pair_is_tested_by_mcnemar():
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 3, 300)
    teacher, student, baseline = (drawn(generator, truth, 0.6) for _ in range(3))
    found = inherited_mistakes(teacher, [student], [baseline], truth, CLASSES)
    rows = teacher != truth
    assert found.p_value == mcnemar(student[rows] == teacher[rows], baseline[rows] == teacher[rows]).p_value


def test_equal_students_are_told_apart_about_as_rarely_as_promised():
    generator, false = np.random.default_rng(2), 0
    for _ in range(200):
        truth = generator.integers(0, 3, 300)
        teacher, student, baseline = (drawn(generator, truth, 0.7) for _ in range(3))
        found = inherited_mistakes(teacher, [student], [baseline], truth, CLASSES)
        false += "no difference can be shown" not in found.sentence
    assert false <= 18, "more than 5 % of 200 by far"


def test_a_copy_of_the_teacher_inherits_all():
    generator = np.random.default_rng(3)
    truth = generator.integers(0, 3, 300)
    teacher, baseline = drawn(generator, truth, 0.7), drawn(generator, truth, 0.7)
    found = inherited_mistakes(teacher, [teacher], [baseline], truth, CLASSES)
    assert found.student == 1
    assert found.sentence.endswith("more than labels alone explain.")
    opposite = inherited_mistakes(teacher, [baseline], [teacher], truth, CLASSES)
    assert opposite.sentence.endswith("fewer than labels alone.")
    assert opposite.difference.estimate == -found.difference.estimate


def test_without_a_baseline_nothing_is_compared():
    found = inherited_mistakes([1, 0], [[1, 0]], [], [0, 0], CLASSES)
    assert found.sentence == "Of the teacher's one mistake the student repeats 100 %."
    assert (found.baseline, found.difference, found.p_value) == (None, None, None)
    assert inherited_mistakes([0, 0], [[1, 0]], [], [0, 0], CLASSES) is None


def test_groups_widen_the_interval():
    generator = np.random.default_rng(4)
    groups = np.repeat(np.arange(30), 10)
    truth = np.zeros(300, int)
    teacher, student, baseline = (np.repeat(generator.integers(0, 2, 30), 10) for _ in range(3))
    alone = inherited_mistakes(teacher, [student], [baseline], truth, CLASSES).difference
    together = inherited_mistakes(teacher, [student], [baseline], truth, CLASSES, groups=groups).difference
    assert together.high - together.low > 2 * (alone.high - alone.low)


@pytest.mark.parametrize(
    "wrong", [{"teacher": [0]}, {"students": []}, {"baselines": [[0, 1], [0, 1]]}, {"group_names": ["a"]}]
)
def test_what_does_not_fit_is_refused(wrong):
    given = {"teacher": [1, 0], "students": [[1, 0]], "baselines": [[1, 1]], "labels": [0, 0], "classes": CLASSES}
    with pytest.raises(DataError, match="do not fit"):
        inherited_mistakes(**{**given, **wrong})
