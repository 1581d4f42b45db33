"""Classes that lost although the mean gained: a planted loss, McNemar class by class, and false alarms."""

import json

import numpy as np
import pytest
from scipy import stats

from limbeck.errors import DataError
from limbeck.evaluation.class_harm import harm_by_class
from limbeck.evaluation.verdicts import judge, judge_seeds

CLASSES = ("cat", "dog", "eel")


def planted(seeds=1):
    """Three classes of 400: the student halves the errors on two, and doubles them on the eels."""
    random = np.random.default_rng(4)
    labels = np.repeat([0, 1, 2], 400)
    before = np.array([0.3, 0.3, 0.1])[labels]
    after = np.array([0.15, 0.15, 0.25])[labels]
    return random.random((seeds, 1200)) < after, random.random((seeds, 1200)) < before, labels


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_class_that_lost_is_named_though_the_mean_gained(seeds):
    student, baseline, labels = planted(seeds)
    found = harm_by_class(student, baseline, labels, CLASSES)
    assert [change.name for change in found.lost] == ["eel"]
    assert {change.name for change in found.gained} == {"cat", "dog"}
    assert found.lost[0].errors == pytest.approx(student[:, 800:].sum(1).mean())
    assert found.sentence.startswith('One class lost: "eel" has ') and "of 400 for the baseline's" in found.sentence
    if seeds == 1:
        verdict = judge(student[0], baseline[0], labels=labels, classes=CLASSES)
    else:
        verdict = judge_seeds(list(student), list(baseline), labels=labels, classes=CLASSES)
    assert verdict.helped is True and str(verdict).splitlines()[1] == found.sentence
    plain = json.loads(json.dumps(verdict.to_dict(), allow_nan=False))
    assert plain == verdict.to_dict() and plain["harm"]["lost"][0]["name"] == "eel"


def test_p_values_are_mcnemars_adjusted_by_holm():
    student, baseline, labels = planted()
    found = harm_by_class(student, baseline, labels, CLASSES)
    raw = {}
    for k, name in enumerate(CLASSES):
        a, b = student[0][labels == k], baseline[0][labels == k]
        raw[name] = stats.binomtest(int((a & ~b).sum()), int((a != b).sum())).pvalue
    ordered = sorted(raw, key=lambda name: raw[name])
    adjusted = {ordered[0]: 3 * raw[ordered[0]]}
    adjusted[ordered[1]] = max(adjusted[ordered[0]], 2 * raw[ordered[1]])
    adjusted[ordered[2]] = max(adjusted[ordered[1]], raw[ordered[2]])
    for change in (*found.lost, *found.gained):
        assert change.p_value == pytest.approx(adjusted[change.name])


def test_classes_without_examples_are_not_counted():
    student, baseline, labels = planted()
    more = harm_by_class(student, baseline, labels, (*CLASSES, "fox", "gnu"))
    assert more.classes == 3 and more.lost == harm_by_class(student, baseline, labels, CLASSES).lost


def test_many_classes_that_lost_are_told_in_short():
    labels = np.repeat(np.arange(14), 100)
    student = np.tile(np.arange(100) < 30, 14)
    found = harm_by_class([student], [np.zeros(1400, bool)], labels, [f"c{k}" for k in range(14)])
    assert found.sentence.startswith("14 classes lost: ") and found.sentence.endswith(", and 4 more.")


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_models_raise_few_false_alarms(seeds):
    random, alarms, labels = np.random.default_rng(7), 0, np.arange(800) % 10
    for _ in range(60):
        errors = []
        for _ in range(2):
            chance = np.where(random.random(800) < 0.3, 0.8, 0.05)
            errors.append(random.random((seeds, 800)) < chance)
        found = harm_by_class(*errors, labels, tuple("abcdefghij"))
        alarms += bool(found.lost or found.gained)
    assert alarms / 60 <= 0.12


def test_seeds_that_agree_by_chance_on_few_errors_are_no_evidence():
    """Two trainings with errors of their own on each class: their numbers are often equal, and show nothing."""
    random, alarms, labels = np.random.default_rng(8), 0, np.arange(1000) % 10
    for _ in range(60):
        student, baseline = random.random((2, 2, 1000)) < 0.05
        found = harm_by_class(student, baseline, labels, tuple("abcdefghij"))
        alarms += bool(found.lost or found.gained)
    assert alarms / 60 <= 0.1  # 0.19 with the p-value of the interval itself


def test_examples_in_groups_are_counted_as_groups():
    student, baseline, labels = planted()
    groups = np.repeat(np.arange(30), 40)  # eels are ten groups
    found = harm_by_class(student, baseline, labels, CLASSES, groups=groups)
    alone = harm_by_class(student, baseline, labels, CLASSES)
    assert found.lost[0].p_value > alone.lost[0].p_value


def test_shapes_that_do_not_fit():
    with pytest.raises(DataError, match="do not fit"):
        harm_by_class([[True, False]], [[True, False]], [0], CLASSES)
    with pytest.raises(DataError, match="do not fit 3 classes"):
        harm_by_class([[True, False]], [[True, False]], [0, 3], CLASSES)
