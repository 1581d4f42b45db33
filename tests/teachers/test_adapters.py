"""Teachers that are neither modules nor teachers: estimators, functions, and what is refused with its cure."""

import functools

import numpy as np
import pytest
import torch
from torch import nn

import limbeck
from limbeck.errors import DataError, MismatchError
from limbeck.protocols import Batch
from limbeck.teachers.adapters import EstimatorTeacher, adapted

X = torch.randn(120, 8, generator=torch.Generator().manual_seed(0))
Y = (X @ torch.randn(8, 4, generator=torch.Generator().manual_seed(1))).argmax(1)
SHORT = {"epochs": 2, "precision": "float32", "baseline": False}
PARTS = ((X[:80], Y[:80]), (X[80:], Y[80:]))


class Fixed:
    """An estimator whose columns stand in the order of its classes."""

    def __init__(self, classes, table):
        self.classes_, self.table = np.asarray(classes), np.asarray(table)

    def predict_proba(self, rows):
        assert rows.ndim == 2
        return np.tile(self.table, (len(rows), 1))


def answers(teacher, temperature=1.0):
    return teacher.log_probs(Batch(torch.arange(2), 0, torch.zeros(2, 2, 3), None), temperature).exp()[0].tolist()


def test_columns_are_put_in_the_data_s_order():
    table = [0.5, 0.3, 0.2]
    assert answers(EstimatorTeacher(Fixed([2, 0, 1], table))) == pytest.approx([0.3, 0.2, 0.5])
    named = EstimatorTeacher(Fixed(["b", "c", "a"], table), ["a", "b", "c"])
    assert answers(named) == pytest.approx([0.2, 0.5, 0.3]) and named.classes == ("a", "b", "c")
    # Labels are numbers from 0, whatever the classes are called; digits that are names go by name.
    assert answers(EstimatorTeacher(Fixed([2, 0, 1], table), ["x", "y", "z"])) == pytest.approx([0.3, 0.2, 0.5])
    assert answers(EstimatorTeacher(Fixed([7, 3, 5], table), ["3", "5", "7"])) == pytest.approx([0.3, 0.2, 0.5])
    soft = np.asarray(table) ** 0.5
    assert answers(EstimatorTeacher(Fixed([0, 1, 2], table)), 2.0) == pytest.approx(list(soft / soft.sum()), abs=1e-6)


def test_classes_that_are_missing_or_others_are_refused():
    for classes, names in (([0, 1, 3], None), ([0, 1], ["a", "b", "c"]), (["a", "x"], ["a", "b"])):
        with pytest.raises(MismatchError, match="the estimator has the classes.*fit it on examples of every class"):
            EstimatorTeacher(Fixed(classes, np.ones(len(classes))), names)
    for table in ([0.5, 0.2], [np.nan, 1.0], [-0.5, 1.5]):
        with pytest.raises(DataError, match="predict_proba of Fixed must give a distribution"):
            answers(EstimatorTeacher(Fixed([0, 1], table)))
    several = Fixed([0, 1], [0.5, 0.5])
    several.classes_ = [np.arange(2), np.arange(2)]
    several.predict_proba = lambda rows: [np.full((len(rows), 2), 0.5)] * 2
    with pytest.raises(DataError, match="gave a list of 2: where several labels may hold at a time give labels of 0"):
        answers(EstimatorTeacher(several))


def test_a_forest_teaches_as_its_probabilities_stored_do():
    ensemble = pytest.importorskip("sklearn.ensemble")
    forest = ensemble.RandomForestClassifier(5, random_state=0).fit(X.numpy(), Y.numpy() % 4)
    run = limbeck.distill(forest, nn.Linear(8, 4), *PARTS, **SHORT)
    expected = (forest.predict(X[80:].numpy()) != Y[80:].numpy()).sum()
    assert run.metrics["teacher"]["test_errors"] == expected
    with pytest.raises(limbeck.LimbeckError, match="logits"):
        limbeck.distill(forest, nn.Linear(8, 4), *PARTS, method="logits", **SHORT)
    missing = ensemble.RandomForestClassifier(5).fit(X[Y != 3].numpy(), Y[Y != 3].numpy())
    with pytest.raises(MismatchError, match="has the classes 0, 1, 2"):
        limbeck.distill(missing, nn.Linear(8, 4), *PARTS, **SHORT)


def test_a_function_teaches_as_the_module_in_it_does():
    net, student = nn.Linear(8, 4), nn.Linear(8, 4)
    runs = [limbeck.distill(teacher, student, *PARTS, **SHORT) for teacher in (net, lambda x: (net(x), "more"))]
    assert torch.equal(runs[0].student.weight, runs[1].student.weight)
    numpy = functools.partial(lambda weight, x: x.numpy() @ weight, net.weight.detach().numpy().T)
    limbeck.distill(numpy, student, *PARTS, **SHORT)
    with pytest.raises(MismatchError, match="outputs 8 classes"):
        limbeck.distill(lambda x: x, student, *PARTS, **SHORT)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ([nn.Linear(8, 4)] * 2, r"a list of 2: give limbeck\.Ensemble"),
        (np.ones((80, 4)), "is an array.*SoftTargets.from_array"),
        (torch.ones(80, 4), "is an array.*SoftTargets.from_array"),
        ("runs/teacher", r"is the path runs/teacher: give limbeck\.load"),
        (nn.Linear, "is the class Linear: give an instance"),
        (None, "a NoneType was given"),
        (type("Svm", (), {"predict": None})(), "a Svm with predict and without predict_proba"),
    ],
)
def test_what_cannot_teach_is_refused_with_its_cure(teacher, message):
    with pytest.raises(DataError, match=message):
        limbeck.distill(teacher, nn.Linear(8, 4), *PARTS, **SHORT)
    with pytest.raises(DataError, match=message):
        adapted(teacher)


def test_false_and_true_are_the_classes_0_and_1():
    sure, truth = Fixed([True, False], [0.75, 0.25]), torch.arange(120) % 2
    run = limbeck.distill(sure, "mlp", (X[:80], truth[:80] == 1), (X[80:], truth[80:] == 1), **SHORT)
    assert run.metrics["teacher"]["accuracy"] == pytest.approx(0.5)
    teacher = adapted(sure, ("0", "1"))
    said = teacher.log_probs(Batch(torch.arange(80), 0, X[:80], None), 1.0).exp()
    assert torch.allclose(said, torch.tensor([0.25, 0.75]).expand(80, 2))
    with pytest.raises(MismatchError, match="the estimator has the classes True, False"):
        adapted(sure, ("no", "yes"))
